//! Replay: a new leader reads the records and goes on, and the same inputs give the same effects.

use std::time::Duration;

use phalanx_protocol::message::client::Reply;
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::view::{JobView, Verdict};
use phalanx_protocol::{Feeding, IndexRange, JobSpec, SubmissionId, Term, Usage};
use phalanx_scheduler_core::{Core, Now};

use crate::nonsense::random_story;
use crate::story::{Story, held, kernel_job, node};

/// A new leader that has read the first `count` records.
pub(crate) fn successor(before: &Story, count: usize) -> Story {
    successor_that_bears(before, count, Duration::ZERO)
}

/// The same where workers and schedulers bear that much silence of each other.
fn successor_that_bears(before: &Story, count: usize, silence: Duration) -> Story {
    let mut core = Core::new(Term(2));
    core.bear_silence(silence);
    before.records()[..count]
        .iter()
        .for_each(|record| assert!(core.replay(Term(1), record)));
    let mut effects = Vec::new();
    let now = Now {
        elapsed: std::time::Duration::ZERO,
        unix_millis: before.micros / 1000,
    };
    core.start(now, &mut effects);
    core.check();
    let mut story = Story::with(core);
    story.start(effects);
    story
}

/// Longer than a new leader waits for the workers of the one before.
pub(crate) const REATTACHED: Duration = Duration::from_millis(3_010);

/// What does not depend on workers.
fn lasting(view: JobView) -> JobView {
    JobView {
        slots: 0,
        workers: 0,
        tasks_per_second: 0.0,
        started_unix_millis: None,
        ..view
    }
}

#[test]
fn a_new_leader_shows_the_same_jobs() {
    let story = random_story(7, 400);
    let after = successor(&story, story.records().len());
    let before: Vec<JobView> = story.core.jobs().into_iter().map(lasting).collect();
    assert!(before.len() > 3);
    assert_eq!(
        after.core.jobs().into_iter().map(lasting).collect::<Vec<_>>(),
        before
    );
}

#[test]
fn workers_that_bear_long_silence_are_waited_for_as_long() {
    let mut story = Story::new();
    story.submit(kernel_job(100));
    let mut story = successor_that_bears(&story, 1, Duration::from_secs(20));
    let worker = story.worker(2);
    story.pass(Duration::from_millis(19_900));
    assert_eq!(
        story.grants(worker),
        [],
        "who runs it may not know yet that its leader is gone"
    );
    story.pass(Duration::from_millis(200));
    assert!(!story.grants(worker).is_empty());
}

#[test]
fn a_new_leader_goes_on_where_the_records_end() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..30])], 1000);
    story.fail(w1, job, granted.grant, &[30]);

    let mut story = successor(&story, 3);
    let rest = crate::story::Granted {
        range: 40..100,
        ..granted
    };
    let w1 = story.join(1, Some(w1), node(2), vec![held(&rest)]);
    let w2 = story.worker(2);
    assert_eq!(story.grants(w2), [], "somebody may come back and still run it");
    story.pass(REATTACHED);
    assert_eq!(story.grants(w2), [31..40], "40..100 is held");
    story.report(w1, job, vec![(rest.grant, vec![40..100])], 1000);
    story.run_to_the_end(job, 1000);
    let view = story.view(job);
    assert_eq!(
        (view.outcome, view.done, view.failed),
        (Some(Outcome::Failed), 99, 1)
    );
}

/// When a new leader begins, by its own clock.
const BEGIN: Now = Now {
    elapsed: Duration::ZERO,
    unix_millis: 0,
};

/// A core that reads these records of another; whether each counts.
fn reader(records: &[&Record]) -> (Core, Vec<bool>) {
    let mut core = Core::new(Term(2));
    let counts = records.iter().map(|record| core.replay(Term(1), record));
    let counts = counts.collect();
    (core, counts)
}

#[test]
fn a_job_is_not_over_while_ends_of_its_tasks_are_lost() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(10)
    });
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..4])], 1000);
    story.report(w1, job, vec![(granted.grant, vec![4..10])], 1000);
    let records = story.records();
    let is_lost = |record: &Record| matches!(record, Record::TasksEnded { done, .. } if done[0].start == 0);
    let lost = records.iter().position(is_lost);
    let kept: Vec<&Record> = (0..)
        .zip(&records)
        .filter(|&(at, _)| Some(at) != lost)
        .map(|(_, record)| record)
        .collect();
    let (mut core, counts) = reader(&kept);
    assert_eq!(counts.last(), Some(&false), "its end contradicts what is left");
    assert!(counts[..counts.len() - 1].iter().all(|&counts| counts));
    let view = core.job(job).unwrap();
    assert_eq!((view.outcome, view.done), (None, 6));

    // the rest is run, and then it is over
    let mut effects = Vec::new();
    core.start(BEGIN, &mut effects);
    let mut story = Story::with(core);
    story.start(effects);
    story.pass(REATTACHED);
    story.join(2, None, node(2), Vec::new());
    story.run_to_the_end(job, 1000);
    let view = story.view(job);
    assert_eq!((view.outcome, view.done), (Some(Outcome::Succeeded), 10));
}

#[test]
fn ends_of_tasks_of_a_job_whose_submission_is_lost_do_not_count_for_another() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(10)
    });
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..4])], 1000);
    let records = story.records();
    let (mut core, counts) = reader(&records[1..].iter().collect::<Vec<&Record>>());
    assert!(counts.iter().all(|counts| !counts), "nobody knows the job");
    core.start(BEGIN, &mut Vec::new());
    let mut story = Story::with(core);
    let other = story.submit(kernel_job(10));
    assert_eq!(other, job, "the number is free");
    assert_eq!(story.view(other).done, 0);
}

#[test]
fn a_task_whose_reopening_is_lost_has_ended_as_it_had() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(10)
    });
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..9])], 1000);
    story.fail(w1, job, granted.grant, &[9]);
    let before: Vec<Record> = story.records();
    let again = Record::TasksEnded {
        usage: Usage::Unknown,
        job,
        done: vec![IndexRange::new(9, 10)],
        results: Vec::new(),
        failed: Vec::new(),
    };
    let mut records: Vec<&Record> = before.iter().collect();
    records.push(&again);
    let (core, counts) = reader(&records);
    assert_eq!(counts.last(), Some(&false));
    let view = core.job(job).unwrap();
    assert_eq!((view.done, view.failed), (9, 1));
}

#[test]
fn what_a_worker_brings_back_runs_on_and_new_jobs_do_not_wait_for_others_to_come_back() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(1000));
    let granted = story.grant(w1, job);
    let mut story = successor(&story, 1);
    let w1 = story.join(1, Some(w1), node(2), vec![held(&granted)]);
    assert_eq!(story.core.explain(job).unwrap().verdict, Verdict::Reattaching);
    let w2 = story.worker(1);
    let new = story.submit(kernel_job(1));
    assert_eq!(story.grants(w2), [0..1], "of the new job");
    story.finish(w2, new, 1000);
    let all = granted.range.clone();
    story.report(w1, job, vec![(granted.grant, vec![all.clone()])], 1000);
    assert_eq!(story.view(job).done, all.end);
    story.pass(REATTACHED);
    assert_eq!(story.core.explain(job).unwrap().verdict, Verdict::Running);
    story.run_to_the_end(job, 1000);
}

#[test]
fn a_leader_that_finds_nothing_to_do_waits_for_nobody() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(2));
    story.finish(w1, job, 1000);
    let records = story.records().len();
    let after = successor(&story, records);
    assert_eq!(after.core.next_deadline().map(|due| due < REATTACHED), None);
}

#[test]
fn a_job_whose_tasks_had_all_ended_is_finished_by_the_new_leader() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(2));
    story.finish(w1, job, 1000);
    assert_eq!(story.records().len(), 3);
    let mut after = successor(&story, 2);
    assert_eq!(after.outcome(job), None);
    after.storage_catches_up();
    assert_eq!(after.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_submission_that_the_old_leader_made_durable_is_known_to_the_new_one() {
    let mut story = Story::new();
    let spec = JobSpec {
        submission: SubmissionId(77),
        ..kernel_job(100)
    };
    let job = story.submit(spec.clone());
    let mut after = successor(&story, 1);
    let request = after.ask_to_submit("ada", spec);
    assert_eq!(after.answer(request), Some(Reply::Submitted(job)));
    assert_ne!(after.submit(kernel_job(1)), job);
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    for seed in 0..8 {
        let (one, other) = (random_story(seed, 300), random_story(seed, 300));
        assert_eq!(
            format!("{:?}", one.effects),
            format!("{:?}", other.effects),
            "seed {seed}"
        );
    }
}
