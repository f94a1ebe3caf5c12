//! Failed tasks get another chance when their user asks for it.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{IndexRange, JobSpec};

use crate::story::{Story, kernel_job};

/// A job of ten tasks that is over: 3 and 7 failed.
fn failed() -> (Story, phalanx_protocol::WorkerId, phalanx_protocol::JobId) {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: phalanx_protocol::Feeding::Static,
        ..kernel_job(10)
    });
    let granted = story.grant(w1, job);
    story.fail(w1, job, granted.grant, &[3, 7]);
    story.report(w1, job, vec![(granted.grant, vec![0..3, 4..7, 8..10])], 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    (story, w1, job)
}

#[test]
fn only_what_failed_runs_again_and_the_job_may_then_succeed() {
    let (mut story, w1, job) = failed();
    let asked = story.retry_as("ada", false, job);
    assert_eq!(story.answer(asked), Some(Reply::Reopened { tasks: 2 }));
    let view = story.view(job);
    assert_eq!((view.done, view.failed, view.outcome), (8, 0, None));
    assert!(view.first_failures.is_empty());
    assert_eq!(story.grants(w1), [3..4, 7..8]);
    story.run_to_the_end(job, 1000);
    let view = story.view(job);
    assert_eq!((view.done, view.failed), (10, 0));
    assert_eq!(view.outcome, Some(Outcome::Succeeded));
}

#[test]
fn what_a_stopped_job_did_not_run_is_run_too() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        failures_max: Some(0),
        ..kernel_job(100)
    });
    let granted = story.grant(w1, job);
    story.fail(w1, job, granted.grant, &[0]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let asked = story.retry_as("ada", false, job);
    assert_eq!(story.answer(asked), Some(Reply::Reopened { tasks: 100 }));
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_job_that_still_runs_gets_its_failed_tasks_back() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(1000));
    let granted = story.grant(w1, job);
    story.fail(w1, job, granted.grant, &[0]);
    assert_eq!(story.view(job).failed, 1);
    let asked = story.retry_as("ada", false, job);
    assert_eq!(story.answer(asked), Some(Reply::Reopened { tasks: 1 }));
    assert_eq!(story.view(job).failed, 0);
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn nothing_is_reopened_where_nothing_failed_or_by_somebody_else() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let whole = story.submit(kernel_job(2));
    story.finish(w1, whole, 1000);
    let cancelled = story.submit(kernel_job(1000));
    story.cancel_as("ada", false, cancelled);
    for job in [whole, cancelled] {
        let asked = story.retry_as("ada", false, job);
        let refusal = story.refusal(asked);
        assert!(
            matches!(refusal, Some(Refusal::NothingToRetry { .. })),
            "{refusal:?}"
        );
    }
    let (mut story, _, job) = failed();
    let asked = story.retry_as("eve", false, job);
    assert!(matches!(story.refusal(asked), Some(Refusal::NotYours { .. })));
    let asked = story.retry_as("root", true, job);
    assert!(matches!(story.answer(asked), Some(Reply::Reopened { tasks: 2 })));
}

#[test]
fn a_reopening_is_written_down_and_answered_once_it_is_durable() {
    let (mut story, _, job) = failed();
    story.storage_slows_down();
    let asked = story.retry_as("ada", false, job);
    assert_eq!(story.answer(asked), None);
    assert_eq!(story.view(job).failed, 2, "people see what is durable");
    let tasks = vec![IndexRange::new(3, 4), IndexRange::new(7, 8)];
    assert_eq!(story.records().last(), Some(&Record::JobReopened { job, tasks }));
    story.storage_catches_up();
    assert_eq!(story.answer(asked), Some(Reply::Reopened { tasks: 2 }));
}

#[test]
fn an_old_failure_of_a_reopened_task_does_not_count_when_its_report_comes_again() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: phalanx_protocol::Feeding::Static,
        ..kernel_job(10)
    });
    let grant = story.grant(w1, job).grant;
    story.fail(w1, job, grant, &[0, 1]);
    story.retry_as("ada", false, job);
    story.fail(w1, job, grant, &[0, 1]);
    assert_eq!(story.view(job).failed, 0);
}
