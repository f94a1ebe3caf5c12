//! Ends: success, failures, cancelling.

use phalanx_protocol::limits::FAILURES_KEPT_MAX;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{Feeding, JobId, JobSpec, WorkerId};
use phalanx_scheduler_core::Effect;

use crate::story::{Granted, Story, kernel_job};

/// One worker that holds a whole job.
fn one_worker(spec: JobSpec) -> (Story, WorkerId, JobId, Granted) {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..spec
    });
    let granted = story.grant(w1, job);
    (story, w1, job, granted)
}

fn cancelled_by(user: &str) -> Option<Outcome> {
    Some(Outcome::Cancelled { by: user.into() })
}

#[test]
fn a_job_with_a_failed_task_runs_to_its_end_and_is_failed() {
    let (mut story, w1, job, granted) = one_worker(kernel_job(100));
    story.fail(w1, job, granted.grant, &[7]);
    assert_eq!(story.outcome(job), None);
    story.finish(w1, job, 1000);
    let view = story.view(job);
    assert_eq!(
        (view.outcome, view.done, view.failed),
        (Some(Outcome::Failed), 99, 1)
    );
    assert_eq!(view.first_failures[0].message, "index 7 is not to my liking");
}

#[test]
fn a_failure_that_comes_twice_counts_once() {
    let (mut story, w1, job, granted) = one_worker(kernel_job(100));
    story.fail(w1, job, granted.grant, &[7, 7]);
    story.fail(w1, job, granted.grant, &[7]);
    assert_eq!(story.view(job).failed, 1);
}

#[test]
fn one_failure_too_many_ends_the_job() {
    let (mut story, w1, job, granted) = one_worker(JobSpec {
        failures_max: Some(2),
        ..kernel_job(100)
    });
    story.fail(w1, job, granted.grant, &[1, 2]);
    assert_eq!(story.outcome(job), None);
    story.fail(w1, job, granted.grant, &[3]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    assert!(story.effects.contains(&Effect::Send {
        worker: w1,
        message: ToWorker::Close { job }
    }));
}

#[test]
fn a_job_of_failures_only_keeps_the_first_thousand() {
    let (mut story, w1, job, granted) = one_worker(kernel_job(3000));
    let indices: Vec<u64> = (0..3000).rev().collect();
    story.fail(w1, job, granted.grant, &indices);
    let view = story.view(job);
    assert_eq!(
        (view.outcome, view.failed, view.done),
        (Some(Outcome::Failed), 3000, 0)
    );
    assert_eq!(view.first_failures[0].index, 0);
    assert!(view.first_failures.len() <= FAILURES_KEPT_MAX);
}

#[test]
fn a_cancelled_job_is_answered_and_closed_when_that_is_durable() {
    let (mut story, w1, job, _) = one_worker(kernel_job(100));
    story.storage_slows_down();
    let request = story.cancel_as("ada", false, job);
    assert_eq!((story.answer(request), story.outcome(job)), (None, None));
    story.storage_catches_up();
    assert_eq!(
        (story.answer(request), story.outcome(job)),
        (Some(Reply::Done), cancelled_by("ada"))
    );
    assert_eq!(story.held(w1), 0);
}

#[test]
fn a_job_can_be_cancelled_before_it_is_durable() {
    let mut story = Story::new();
    story.storage_slows_down();
    let job = story.submit(kernel_job(100));
    story.cancel_as("ada", false, job);
    story.storage_catches_up();
    let w1 = story.worker(2);
    assert_eq!((story.outcome(job), story.held(w1)), (cancelled_by("ada"), 0));
}

#[test]
fn somebody_elses_job_is_left_alone_unless_an_admin_asks() {
    let (mut story, _, job, _) = one_worker(kernel_job(100));
    let request = story.cancel_as("bob", false, job);
    let refusal = Refusal::NotYours {
        job,
        owner: "ada".into(),
        user: "bob".into(),
    };
    assert_eq!(
        (story.refusal(request), story.outcome(job)),
        (Some(refusal), None)
    );
    story.cancel_as("root", true, job);
    assert_eq!(story.outcome(job), cancelled_by("root"));
}

#[test]
fn cancelling_a_finished_job_changes_nothing() {
    let (mut story, w1, job, _) = one_worker(kernel_job(100));
    story.finish(w1, job, 1000);
    let records = story.records().len();
    let request = story.cancel_as("ada", false, job);
    assert_eq!(story.answer(request), Some(Reply::Done));
    assert_eq!(
        (story.outcome(job), story.records().len()),
        (Some(Outcome::Succeeded), records)
    );
}

#[test]
fn cancelling_twice_writes_one_end() {
    let (mut story, _, job, _) = one_worker(kernel_job(100));
    story.storage_slows_down();
    let first = story.cancel_as("ada", false, job);
    let second = story.cancel_as("root", true, job);
    story.storage_catches_up();
    assert_eq!(
        (story.answer(first), story.answer(second)),
        (Some(Reply::Done), Some(Reply::Done))
    );
    assert_eq!(
        (story.outcome(job), story.records().len()),
        (cancelled_by("ada"), 2)
    );
}

#[test]
fn a_job_that_does_not_exist_cannot_be_cancelled() {
    let mut story = Story::new();
    let request = story.cancel_as("ada", false, JobId(9));
    assert_eq!(story.refusal(request), Some(Refusal::NoSuchJob(JobId(9))));
}

#[test]
fn what_a_worker_reports_of_an_ended_job_does_not_count() {
    let (mut story, w1, job, granted) = one_worker(kernel_job(100));
    story.cancel_as("ada", false, job);
    let records = story.records().len();
    let number = story.report(w1, job, vec![(granted.grant, vec![0..10])], 1000);
    assert_eq!((story.view(job).done, story.records().len()), (0, records));
    assert_eq!(story.mail(w1).acknowledged, number);
}
