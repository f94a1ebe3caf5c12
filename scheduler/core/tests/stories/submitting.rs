//! Submissions: checked, made durable, then answered.

use std::collections::BTreeMap;

use phalanx_protocol::job::SpecError;
use phalanx_protocol::limits::TASKS_MAX;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{JobId, JobSpec, Request, SubmissionId};
use phalanx_scheduler_core::{Effect, Input};

use crate::story::{Story, command_job, cpus, kernel_job, node};

#[test]
fn a_submission_is_answered_and_published_only_when_it_is_durable_and_kernels_are_granted_at_once() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    story.storage_slows_down();
    let request = story.ask_to_submit("ada", kernel_job(100));
    let premature = |effect: &Effect| matches!(effect, Effect::Answer { .. } | Effect::Publish { .. });
    assert!(!story.effects.iter().any(premature));
    assert_eq!(
        story.core.job(JobId(1)),
        None,
        "nobody sees a job that could still be lost"
    );
    assert_eq!(story.held(w1), 4, "work that is under way saves a storage write");

    story.storage_catches_up();
    assert_eq!(story.answer(request), Some(Reply::Submitted(JobId(1))));
    assert!(story.effects.contains(&Effect::Publish {
        job: JobId(1),
        sequence: 1
    }));
}

#[test]
fn commands_are_granted_when_their_job_is_durable_since_they_may_ask_about_it() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    story.storage_slows_down();
    story.ask_to_submit("ada", command_job(100));
    assert_eq!(story.held(w1), 0);
    story.storage_catches_up();
    assert_eq!(story.held(w1), 4);
}

#[test]
fn the_same_submission_twice_is_one_job() {
    let mut story = Story::new();
    let spec = JobSpec {
        submission: SubmissionId(77),
        ..kernel_job(100)
    };
    story.storage_slows_down();
    let first = story.ask_to_submit("ada", spec.clone());
    let again = story.ask_to_submit("ada", spec.clone());
    assert_eq!(
        story.answer(again),
        None,
        "the repetition waits for the same record"
    );
    story.storage_catches_up();
    let later = story.ask_to_submit("ada", spec);
    for request in [first, again, later] {
        assert_eq!(story.answer(request), Some(Reply::Submitted(JobId(1))));
    }
    assert_eq!(story.records().len(), 1);
}

#[test]
fn a_submission_of_somebody_else_under_the_same_id_is_refused() {
    let mut story = Story::new();
    let spec = JobSpec {
        submission: SubmissionId(77),
        ..kernel_job(100)
    };
    story.ask_to_submit("ada", spec.clone());
    let request = story.ask_to_submit("bob", spec);
    let refusal = Refusal::NotYours {
        job: JobId(1),
        owner: "ada".into(),
        user: "bob".into(),
    };
    assert_eq!(story.refusal(request), Some(refusal));
}

#[test]
fn a_job_without_tasks_succeeds_at_once() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(0));
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_request_that_no_worker_can_hold_is_refused_and_names_the_largest() {
    let mut story = Story::new();
    story.worker(4);
    story.worker(48);
    let request = story.ask_to_submit(
        "ada",
        JobSpec {
            request: cpus(64),
            ..kernel_job(1)
        },
    );
    assert_eq!(
        story.refusal(request),
        Some(Refusal::TooLarge {
            needs: vec![cpus(64)],
            largest: node(48)
        })
    );
    assert!(story.records().is_empty());
}

#[test]
fn a_named_resource_that_nobody_has_is_refused() {
    let mut story = Story::new();
    story.worker(4);
    let need = Request {
        named: BTreeMap::from([("gpu".to_owned(), 1.into())]),
        ..Request::default()
    };
    let request = story.ask_to_submit(
        "ada",
        JobSpec {
            request: need.clone(),
            ..kernel_job(1)
        },
    );
    assert_eq!(
        story.refusal(request),
        Some(Refusal::TooLarge {
            needs: vec![need],
            largest: node(4)
        })
    );
}

#[test]
fn without_workers_a_job_is_accepted_and_waits() {
    let mut story = Story::new();
    let job = story.submit(JobSpec {
        request: cpus(64),
        ..kernel_job(10)
    });
    assert_eq!(story.view(job).state(), "waiting");
    assert_eq!(
        story.core.explain(job).map(|why| why.verdict),
        Some(Verdict::NoWorkers)
    );
    let w1 = story.worker(64);
    assert_eq!(story.held(w1), 1);
}

#[test]
fn a_malformed_spec_is_refused_with_the_reason() {
    let mut story = Story::new();
    let too_many = story.ask_to_submit("ada", kernel_job(TASKS_MAX + 1));
    let tasks = TASKS_MAX + 1;
    assert_eq!(
        story.refusal(too_many),
        Some(Refusal::Spec(SpecError::TooManyTasks { tasks }))
    );
    let no_cpus = story.ask_to_submit(
        "ada",
        JobSpec {
            request: cpus(0),
            ..kernel_job(1)
        },
    );
    assert_eq!(story.refusal(no_cpus), Some(Refusal::Spec(SpecError::NoCpus)));
}

#[test]
fn while_storage_fails_submissions_are_refused_and_running_jobs_go_on() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(100));
    story.tell(Input::StorageChanged {
        error: Some("disk full".into()),
    });
    let request = story.ask_to_submit("ada", kernel_job(1));
    assert_eq!(
        story.refusal(request),
        Some(Refusal::Storage {
            error: "disk full".into()
        })
    );
    story.storage_slows_down();
    story.finish(w1, job, 10_000_000_000);
    assert_eq!(story.held(w1), 2, "the next tasks were granted");
    story.tell(Input::StorageChanged { error: None });
    let request = story.ask_to_submit("ada", kernel_job(1));
    story.storage_catches_up();
    assert_eq!(story.answer(request), Some(Reply::Submitted(JobId(2))));
}

#[test]
fn the_largest_job_there_may_be_is_fed_like_any_other() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(TASKS_MAX));
    for _ in 0..20 {
        story.finish(w1, job, 1);
    }
    assert!(story.held(w1) > 1_000_000_000);
}
