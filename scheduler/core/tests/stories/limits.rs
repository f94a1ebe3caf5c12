//! Time limits of jobs: they count from the first slots, workers are warned, and a new leader keeps them.

use std::time::Duration;

use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{JobId, JobSpec, Term, WorkerId};
use phalanx_scheduler_core::{Core, Effect, Now};

use crate::story::{Story, kernel_job};

const SECOND: u64 = 1_000_000_000;

fn limited(millis: u64) -> JobSpec {
    JobSpec {
        time_limit_millis: Some(millis),
        ..kernel_job(100)
    }
}

fn started(story: &Story) -> usize {
    let records = story.records();
    let starts = records
        .iter()
        .filter(|record| matches!(record, Record::JobStarted { .. }));
    starts.count()
}

/// How often a worker was told to save what it has of a job.
fn warnings(story: &Story, to: WorkerId, of: JobId) -> usize {
    let call = |effect: &&Effect| {
        matches!(effect, Effect::Send { worker, message: ToWorker::CheckpointNow { job } }
            if *worker == to && *job == of)
    };
    story.effects.iter().filter(call).count()
}

fn out_of_time(millis: u64) -> Option<Outcome> {
    Some(Outcome::TimeLimit { millis })
}

/// A leader that has read the records of one before it, `millis` after 1970.
fn successor(before: &Story, millis: u64) -> Story {
    let mut core = Core::new(Term(2));
    let records = before.records();
    records
        .iter()
        .for_each(|record| assert!(core.replay(Term(1), record)));
    let now = Now {
        elapsed: Duration::ZERO,
        unix_millis: millis,
    };
    let mut effects = Vec::new();
    core.start(now, &mut effects);
    core.check();
    let mut story = Story::with(core);
    story.start(effects);
    story
}

#[test]
fn a_job_that_takes_too_long_is_warned_of_and_then_ended() {
    let mut story = Story::new();
    let (w1, other) = (story.worker(2), story.worker(1));
    let job = story.submit(limited(100_000));
    assert_eq!(started(&story), 1);
    story.pass(Duration::from_secs(89));
    assert_eq!(warnings(&story, w1, job), 0);
    story.pass(Duration::from_secs(2));
    assert_eq!((warnings(&story, w1, job), warnings(&story, other, job)), (1, 1));
    assert_eq!(story.outcome(job), None);
    story.pass(Duration::from_secs(10));
    assert_eq!(story.outcome(job), out_of_time(100_000));
    assert_eq!((warnings(&story, w1, job), story.held(w1)), (1, 0));
    let close = ToWorker::Close { job };
    assert!(story.effects.contains(&Effect::Send {
        worker: w1,
        message: close
    }));
}

#[test]
fn a_long_limit_warns_half_a_minute_before() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(limited(3_600_000));
    story.pass(Duration::from_secs(3_569));
    assert_eq!(warnings(&story, w1, job), 0);
    story.pass(Duration::from_secs(2));
    assert_eq!(warnings(&story, w1, job), 1);
}

#[test]
fn time_counts_from_the_first_slots_and_only_once() {
    let mut story = Story::new();
    let job = story.submit(limited(10_000));
    story.pass(Duration::from_secs(60));
    assert_eq!((started(&story), story.outcome(job)), (0, None));
    let w1 = story.worker(2);
    story.pass(Duration::from_secs(6));
    story.lose(w1);
    story.worker(1);
    assert_eq!((started(&story), story.outcome(job)), (1, None));
    story.pass(Duration::from_secs(5));
    assert_eq!(
        story.outcome(job),
        out_of_time(10_000),
        "the loss of a worker gains no time"
    );
}

#[test]
fn a_job_without_a_limit_has_no_start_on_record_and_wants_no_alarm() {
    let mut story = Story::new();
    story.worker(2);
    story.submit(kernel_job(100));
    story.pass(Duration::from_secs(1));
    assert_eq!((started(&story), story.core.next_deadline()), (0, None));
}

#[test]
fn a_job_that_ends_in_time_leaves_no_alarm() {
    let mut story = Story::new();
    story.worker(2);
    let job = story.submit(limited(10_000));
    story.run_to_the_end(job, 1000);
    story.pass(Duration::from_secs(1));
    assert_eq!(story.core.next_deadline(), None);
    story.pass(Duration::from_secs(20));
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_new_leader_grants_what_is_left_of_the_time_and_no_more() {
    let mut story = Story::new();
    story.worker(2);
    let job = story.submit(limited(60_000));
    let mut after = successor(&story, 50_000);
    after.pass(Duration::from_secs(9));
    assert_eq!(after.outcome(job), None);
    after.pass(Duration::from_secs(2));
    assert_eq!(after.outcome(job), out_of_time(60_000));
    let mut late = successor(&story, 500_000);
    late.pass(Duration::from_millis(10));
    assert_eq!(
        late.outcome(job),
        out_of_time(60_000),
        "nobody led when it was up"
    );
}

#[test]
fn a_job_that_is_run_again_after_its_time_was_up_has_its_whole_time() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(limited(10_000));
    story.pass(Duration::from_secs(11));
    assert_eq!(story.outcome(job), out_of_time(10_000));
    story.retry_as("ada", false, job);
    story.pass(Duration::from_secs(5));
    assert_eq!((started(&story), story.outcome(job)), (2, None));
    let mut after = successor(&story, story.micros / 1000);
    after.pass(Duration::from_secs(3));
    assert_eq!(after.outcome(job), None, "its second start counts");
    story.finish(w1, job, SECOND);
    story.pass(Duration::from_secs(6));
    assert_eq!(story.outcome(job), out_of_time(10_000));
}

#[test]
fn the_longest_limit_there_is_does_no_harm() {
    let mut story = Story::new();
    story.worker(2);
    let job = story.submit(limited(u64::MAX));
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}
