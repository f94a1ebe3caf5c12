//! Jobs that are not to go on yet: held ones, and those whose time has not come.

use std::time::Duration;

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, Term};
use phalanx_scheduler_core::Core;

use crate::story::{Story, kernel_job};

const SECOND: u64 = 1_000_000_000;

fn held(tasks: u64) -> JobSpec {
    JobSpec {
        held: true,
        ..kernel_job(tasks)
    }
}

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

#[test]
fn a_job_that_is_held_gets_nothing_until_it_is_released() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(held(4));
    story.wait(100);
    assert_eq!((story.slots(w1, job), story.held(w1)), (0, 0));
    assert_eq!(
        (verdict(&story, job), story.view(job).held),
        (Verdict::Held, true)
    );
    let asked = story.hold_as("ada", false, job, false);
    assert_eq!(story.answer(asked), Some(Reply::Done));
    assert_eq!((story.held(w1), story.view(job).held), (4, false));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_running_job_that_is_held_keeps_what_runs_and_gives_back_the_rest() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    let other = story.submit(kernel_job(100));
    story.hold_as("ada", false, job, true);
    story.give_back_all_but(w1, 2);
    assert_eq!((story.grants(w1), story.slots(w1, job)), (vec![0..2], 2));
    assert_eq!(verdict(&story, job), Verdict::Running);
    story.finish(w1, job, SECOND);
    assert_eq!((story.slots(w1, job), story.slots(w1, other)), (0, 2));
    assert_eq!((verdict(&story, job), story.view(job).done), (Verdict::Held, 2));
    story.cancel_as("ada", false, other);
    assert_eq!(story.held(w1), 0, "idle slots change nothing");
    story.hold_as("ada", false, job, false);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.view(job).done, 100);
}

#[test]
fn what_a_lost_worker_ran_of_a_held_job_waits_with_the_rest() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(kernel_job(4));
    story.hold_as("ada", false, job, true);
    story.give_back_nothing(w1);
    story.lose(w1);
    assert_eq!((story.held(w2), story.view(job).slots), (2, 2));
}

#[test]
fn a_held_job_can_be_cancelled() {
    let mut story = Story::new();
    story.worker(1);
    let job = story.submit(held(10));
    story.cancel_as("ada", false, job);
    assert!(matches!(story.outcome(job), Some(Outcome::Cancelled { .. })));
    let asked = story.hold_as("ada", false, job, false);
    assert_eq!(story.refusal(asked), Some(Refusal::Over(job)));
}

#[test]
fn only_the_owner_or_an_admin_holds_a_job() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(10));
    let asked = story.hold_as("eve", false, job, true);
    assert!(matches!(story.refusal(asked), Some(Refusal::NotYours { .. })));
    let asked = story.hold_as("root", true, job, true);
    assert_eq!(story.answer(asked), Some(Reply::Done));
    let asked = story.hold_as("ada", false, JobId(9), true);
    assert_eq!(story.refusal(asked), Some(Refusal::NoSuchJob(JobId(9))));
}

#[test]
fn a_hold_is_written_down_once_and_answered_when_it_is_durable() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(10));
    story.storage_slows_down();
    let first = story.hold_as("ada", false, job, true);
    let second = story.hold_as("ada", false, job, true);
    assert_eq!((story.answer(first), story.answer(second)), (None, None));
    let holds = story.records();
    let holds = holds
        .iter()
        .filter(|record| **record == Record::JobHeld { job, held: true });
    assert_eq!((holds.count(), story.view(job).held), (1, false));
    story.storage_catches_up();
    assert_eq!(
        (story.answer(first), story.answer(second)),
        (Some(Reply::Done), Some(Reply::Done))
    );
    assert!(story.view(job).held);
}

#[test]
fn a_new_leader_holds_what_was_held_and_lets_go_what_was_released() {
    let mut before = Story::new();
    let (kept, released) = (before.submit(kernel_job(4)), before.submit(held(4)));
    before.hold_as("ada", false, kept, true);
    before.hold_as("ada", false, released, false);
    let mut replayed = Core::new(Term(2));
    let records = before.records();
    records
        .iter()
        .for_each(|record| assert!(replayed.replay(Term(1), record)));
    for mut core in [Core::restore(Term(2), before.core.snapshot()), replayed] {
        let mut effects = Vec::new();
        core.start(before.now(), &mut effects);
        let mut story = Story::with(core);
        story.start(effects);
        let w1 = story.worker(8);
        story.pass(Duration::from_secs(4));
        assert_eq!((story.slots(w1, kept), story.slots(w1, released)), (0, 4));
    }
}

#[test]
fn a_job_begins_when_its_time_has_come_and_not_before() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(JobSpec {
        begin_unix_millis: Some(60_000),
        ..kernel_job(4)
    });
    story.pass(Duration::from_secs(59));
    let not_yet = Verdict::NotYet {
        begin_unix_millis: 60_000,
    };
    assert_eq!((verdict(&story, job), story.held(w1)), (not_yet, 0));
    story.pass(Duration::from_secs(2));
    assert_eq!((verdict(&story, job), story.held(w1)), (Verdict::Running, 4));
    let started = story.view(job).started_unix_millis;
    assert!(
        started.is_some_and(|millis| (60_000..60_100).contains(&millis)),
        "{started:?}"
    );
}

#[test]
fn a_job_begins_soon_after_a_clock_that_went_wrong_is_set() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    // ten hours slow
    story.micros = 40_000_000_000;
    story.wall_ahead_millis = -36_000_000;
    let job = story.submit(JobSpec {
        begin_unix_millis: Some(40_010_000),
        ..kernel_job(4)
    });
    story.pass(Duration::from_secs(20));
    assert_eq!(story.held(w1), 0);
    story.wall_ahead_millis = 0;
    story.pass(Duration::from_secs(61));
    assert_eq!((verdict(&story, job), story.held(w1)), (Verdict::Running, 4));
}

#[test]
fn a_new_leader_knows_whose_time_has_come() {
    let mut story = Story::new();
    let spec = |begin| JobSpec {
        begin_unix_millis: Some(begin),
        ..kernel_job(1)
    };
    story.micros = 100_000_000;
    let past = story.inherit("ada", JobId(1), spec(99_000));
    let future = story.inherit("ada", JobId(2), spec(200_000));
    let mut effects = Vec::new();
    let now = story.now();
    story.core.start(now, &mut effects);
    story.start(effects);
    let w1 = story.worker(4);
    story.pass(Duration::from_secs(5));
    assert_eq!((story.slots(w1, past), story.slots(w1, future)), (1, 0));
    story.pass(Duration::from_secs(100));
    assert_eq!(story.slots(w1, future), 1);
}

#[test]
fn a_job_that_is_held_past_its_time_stays_held() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(JobSpec {
        begin_unix_millis: Some(1000),
        ..held(4)
    });
    story.pass(Duration::from_secs(2));
    assert_eq!((verdict(&story, job), story.held(w1)), (Verdict::Held, 0));
    story.hold_as("ada", false, job, false);
    assert_eq!(story.held(w1), 4);
}

#[test]
fn the_latest_begin_there_is_does_no_harm() {
    let mut story = Story::new();
    story.worker(4);
    let job = story.submit(JobSpec {
        begin_unix_millis: Some(u64::MAX),
        ..kernel_job(4)
    });
    story.wait(2000);
    assert!(matches!(verdict(&story, job), Verdict::NotYet { .. }));
}
