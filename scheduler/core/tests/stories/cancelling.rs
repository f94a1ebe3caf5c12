//! Tasks that are cancelled without their job.

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::view::TaskState;
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, Retries, TaskId, Term};
use phalanx_scheduler_core::Core;

use crate::story::{Story, held, kernel_job, node};

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(tasks)
    }
}

fn cancelled(by: &str) -> Option<Outcome> {
    Some(Outcome::Cancelled { by: by.to_owned() })
}

fn state(story: &Story, job: JobId, index: u64) -> TaskState {
    let one = IndexRange::new(index, index + 1);
    let page = story.core.tasks(job, one).expect("the job is durable");
    page.tasks[0].state
}

/// Another leader, that knows what is durable.
fn taken_over(story: &Story) -> Story {
    let mut core = Core::new(Term(2));
    for record in story.records() {
        core.replay(Term(1), &record);
    }
    let restored = Core::restore(Term(2), core.snapshot());
    assert_eq!(restored.snapshot(), core.snapshot());
    let mut next = Story::with(restored);
    let (now, mut effects) = (next.now(), Vec::new());
    next.core.start(now, &mut effects);
    next.start(effects);
    next.storage_catches_up();
    next
}

#[test]
fn waiting_tasks_are_cancelled_and_the_others_go_on() {
    let mut story = Story::new();
    let job = story.submit(whole(10));
    let asked = story.cancel_tasks_as("ada", false, job, &[2..4, 7..8]);
    assert_eq!(story.answer(asked), Some(Reply::Cancelled { tasks: 3 }));
    let again = story.cancel_tasks_as("ada", false, job, &[3..5]);
    assert_eq!(story.answer(again), Some(Reply::Cancelled { tasks: 1 }));
    let w1 = story.worker(1);
    assert_eq!(story.grants(w1), [0..2, 5..7, 8..10]);
    story.run_to_the_end(job, 1000);
    let view = story.view(job);
    assert_eq!((view.done, view.failed, view.cancelled), (6, 0, 4));
    assert_eq!(view.outcome, cancelled("ada"));
    assert_eq!(state(&story, job, 3), TaskState::Cancelled);
}

#[test]
fn what_runs_is_stopped_once_that_is_durable_and_its_end_does_not_count() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(kernel_job(4));
    let grant = story.grant(w1, job);
    assert_eq!(grant.range, 0..2);
    story.storage_slows_down();
    let asked = story.cancel_tasks_as("ada", false, job, &[0..1]);
    assert_eq!((story.stops(w1), story.answer(asked)), (vec![], None));
    story.storage_catches_up();
    assert_eq!(story.answer(asked), Some(Reply::Cancelled { tasks: 1 }));
    assert_eq!((story.stops(w1), story.stops(w2)), (vec![0..1], vec![]));
    // its slot is not free yet
    assert_eq!(story.grants(w1).len(), 1);
    story.stops_killed(w1);
    story.storage_catches_up();
    assert_eq!(story.view(job).failed, 0);
    story.report(w1, job, vec![(grant.grant, vec![1..2])], 1000);
    story.finish(w2, job, 1000);
    story.storage_catches_up();
    let view = story.view(job);
    assert_eq!((view.done, view.failed, view.cancelled), (3, 0, 1));
    assert_eq!(view.outcome, cancelled("ada"));
}

#[test]
fn what_a_worker_has_not_started_is_given_up_and_makes_room() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(100));
    assert_eq!(story.grants(w1), [0..100]);
    story.cancel_tasks_as("ada", false, job, &[50..60]);
    assert_eq!(story.stops(w1), [50..60]);
    story.stops_unstarted(w1);
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..50, 60..100])], 1000);
    assert_eq!((story.view(job).done, story.outcome(job)), (90, cancelled("ada")));
}

#[test]
fn a_job_whose_last_tasks_are_cancelled_ends() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(3));
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..1])], 1000);
    story.fail(w1, job, grant, &[1]);
    story.cancel_tasks_as("ada", false, job, &[2..3]);
    // a failure says more than that somebody wanted no more
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    assert!(!story.mail(w1).open.contains(&job), "the worker closes it");
    let late = story.cancel_tasks_as("ada", false, job, &[0..3]);
    assert_eq!(story.answer(late), Some(Reply::Cancelled { tasks: 0 }));
}

#[test]
fn resting_tasks_and_suspects_are_cancelled_too() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        retries: Retries {
            errors: 5,
            ..Retries::default()
        },
        ..kernel_job(3)
    });
    let grant = story.grant(w1, job).grant;
    story.fail(w1, job, grant, &[0]);
    assert_eq!(story.view(job).resting, 1);
    story.cancel_tasks_as("ada", false, job, &[0..1]);
    assert_eq!((story.view(job).resting, story.view(job).cancelled), (0, 1));
    story.host_dies(w1, job, &[1], FailureCause::Crash);
    story.wait(1000);
    story.finish(w1, job, 1000);
    // the suspect runs alone now
    story.cancel_tasks_as("ada", false, job, &[1..2]);
    story.stops_killed(w1);
    story.run_to_the_end(job, 1000);
    assert_eq!((story.view(job).done, story.outcome(job)), (1, cancelled("ada")));
}

#[test]
fn of_twins_both_are_stopped() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        idempotent: true,
        ..kernel_job(4)
    });
    story.finish(w2, job, 1_000_000);
    story.finish(w2, job, 1_000_000);
    story.finish(w2, job, 1_000_000);
    story.pass(std::time::Duration::from_secs(30));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![0..1]));
    story.cancel_tasks_as("ada", false, job, &[0..1]);
    assert_eq!((story.stops(w1), story.stops(w2)), (vec![0..1], vec![0..1]));
    assert_eq!((story.view(job).done, story.outcome(job)), (3, cancelled("ada")));
}

#[test]
fn only_their_owner_or_an_admin_cancels_tasks_and_only_those_that_there_are() {
    let mut story = Story::new();
    let job = story.submit(whole(10));
    let asked = story.cancel_tasks_as("eve", false, job, &[0..1]);
    assert!(matches!(story.refusal(asked), Some(Refusal::NotYours { .. })));
    let asked = story.cancel_tasks_as("ada", false, job, &[3..4, 8..12]);
    let task = TaskId { job, index: 10 };
    let refusal = story.refusal(asked);
    assert_eq!(refusal, Some(Refusal::NoSuchTask { task, tasks: 10 }));
    let text = refusal.map(|refusal| refusal.to_string());
    assert_eq!(text.as_deref(), Some("there is no task 1.10: 1 has 10, 0 to 9"));
    assert_eq!(story.view(job).cancelled, 0);
    let asked = story.cancel_tasks_as("root", true, job, &[0..1]);
    assert_eq!(story.answer(asked), Some(Reply::Cancelled { tasks: 1 }));
    let asked = story.cancel_tasks_as("ada", false, JobId(77), &[0..1]);
    assert_eq!(story.refusal(asked), Some(Refusal::NoSuchJob(JobId(77))));
}

#[test]
fn a_later_leader_knows_what_was_cancelled_and_stops_what_still_runs() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(whole(8));
    let granted = story.grant(w1, job);
    story.cancel_tasks_as("ada", false, job, &[1..3]);
    let mut next = taken_over(&story);
    assert_eq!(next.view(job).cancelled, 2);
    let w1 = next.join(1 << 64, Some(w1), node(4), vec![held(&granted)]);
    assert_eq!(next.stops(w1), [1..3]);
    next.wait(5000);
    assert_eq!(next.grant_count(), 0, "the worker still has all of the others");
    next.report(w1, job, vec![(granted.grant, vec![0..8])], 1000);
    let view = next.view(job);
    assert_eq!((view.done, view.outcome), (6, cancelled("ada")));
    let records = next.ended(job);
    assert_eq!(records[0].0, [IndexRange::new(0, 1), IndexRange::new(3, 8)]);
}

#[test]
fn a_dependent_does_not_take_a_cancelled_task_for_a_success() {
    let after = |condition| {
        Some(Dependency {
            joined: Joined::All,
            conditions: vec![condition],
            never: Never::Cancel,
        })
    };
    let mut story = Story::new();
    let w1 = story.worker(1);
    let first = story.submit(whole(3));
    let depending = |condition| JobSpec {
        dependency: after(condition),
        ..whole(3)
    };
    let ok = story.submit(depending(Condition::AfterOk(first)));
    let not_ok = story.submit(depending(Condition::AfterNotOk(first)));
    let task_by_task = story.submit(depending(Condition::AfterCorresponding(first)));
    story.cancel_tasks_as("ada", false, first, &[1..2]);
    story.stops_unstarted(w1);
    story.run_to_the_end(first, 1000);
    assert_eq!(story.outcome(first), cancelled("ada"));
    assert_eq!(
        story.outcome(ok),
        cancelled(&format!("its dependency on job {first}"))
    );
    story.run_to_the_end(not_ok, 1000);
    assert_eq!(story.outcome(not_ok), Some(Outcome::Succeeded));
    story.run_to_the_end(task_by_task, 1000);
    assert_eq!(story.view(task_by_task).done, 2);
    assert_eq!(
        story.outcome(task_by_task),
        cancelled(&format!("its dependency on job {first}"))
    );
}

#[test]
fn a_retry_leaves_cancelled_tasks_alone() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        failures_max: Some(0),
        ..whole(6)
    });
    let grant = story.grant(w1, job).grant;
    story.cancel_tasks_as("ada", false, job, &[4..5]);
    story.fail(w1, job, grant, &[0]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let asked = story.retry_as("ada", false, job);
    assert_eq!(story.answer(asked), Some(Reply::Reopened { tasks: 5 }));
    story.run_to_the_end(job, 1000);
    assert_eq!((story.view(job).done, story.outcome(job)), (5, cancelled("ada")));
    let mut next = taken_over(&story);
    assert_eq!(next.view(job).outcome, cancelled("ada"));
    let record = Record::JobReopened {
        job,
        tasks: vec![IndexRange::new(0, 1)],
    };
    next.core.replay(Term(1), &record);
    assert_eq!(next.view(job).cancelled, 1);
}
