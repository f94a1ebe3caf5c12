//! Tasks that start from the top because somebody wants that.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::view::TaskState;
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, Retries, Term, WorkerId};
use phalanx_scheduler_core::Core;

use crate::story::{Story, command_job, held, kernel_job, node};

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..command_job(tasks)
    }
}

fn reopened(tasks: u64) -> Option<Reply> {
    Some(Reply::Reopened { tasks })
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

/// A job of one command, which runs.
fn running() -> (Story, WorkerId, JobId) {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1));
    (story, w1, job)
}

/// The worker has nothing more of a grant.
fn forget_grants(story: &mut Story, worker: WorkerId) {
    story.mail(worker).grants.clear();
}

#[test]
fn a_running_task_is_ended_and_starts_again_once_it_has_with_one_restart_more() {
    let (mut story, w1, job) = running();
    let first = story.grant(w1, job);
    story.storage_slows_down();
    let asked = story.requeue_as("ada", false, job, &[]);
    assert_eq!((story.stops(w1), story.answer(asked)), (vec![], None));
    story.storage_catches_up();
    assert_eq!((story.stops(w1), story.answer(asked)), (vec![0..1], reopened(1)));
    assert_eq!(story.grant_count(), 1, "two runs of it at once are none too few");
    forget_grants(&mut story, w1);
    story.stops_killed(w1);
    story.storage_catches_up();
    let second = story.grant(w1, job);
    assert!(second.grant > first.grant);
    assert_eq!(story.told_restarts(job, 0), Some(1));
    assert_eq!((story.view(job).failed, story.outcome(job)), (0, None));
    // the first one again: its worker was not sure that it was heard
    story.fail_for(FailureCause::Signal(15), w1, job, first.grant, &[0]);
    story.report(w1, job, vec![(first.grant, vec![0..1])], 1000);
    story.storage_catches_up();
    assert_eq!((story.view(job).done, story.view(job).failed), (0, 0));
    story.finish(w1, job, 1000);
    story.storage_catches_up();
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_task_that_requeues_itself_and_ends_well_starts_again_all_the_same() {
    let (mut story, w1, job) = running();
    for restarts in 1..4 {
        story.requeue_as("ada", false, job, &[0..1]);
        story.finish(w1, job, 1000);
        assert_eq!(story.told_restarts(job, 0), Some(restarts));
        assert_eq!((story.view(job).done, story.outcome(job)), (0, None));
    }
    story.finish(w1, job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn failures_of_a_run_that_does_not_count_use_up_no_retries() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..whole(1)
    });
    story.requeue_as("ada", false, job, &[0..1]);
    story.fail_first(w1, job);
    assert_eq!(
        (story.view(job).resting, story.told_restarts(job, 0)),
        (0, Some(1))
    );
    story.fail_first(w1, job);
    assert_eq!(story.view(job).resting, 1);
    story.wait(5000);
    assert_eq!(story.told_restarts(job, 0), Some(2));
    story.fail_first(w1, job);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
}

#[test]
fn a_grant_is_cut_where_the_counts_differ() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(10));
    story.finish(w1, job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    let asked = story.requeue_as("ada", false, job, &[2..5]);
    assert_eq!(story.answer(asked), reopened(3));
    assert_eq!((story.view(job).done, story.outcome(job)), (7, None));
    story.finish(w1, job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    let asked = story.requeue_as("ada", false, job, &[]);
    assert_eq!(story.answer(asked), reopened(10));
    assert_eq!(story.grants(w1), [0..2, 2..5, 5..10]);
    let told = [0, 1, 2, 4, 5, 9].map(|index| story.told_restarts(job, index));
    assert_eq!(told, [1, 1, 2, 2, 1, 1].map(Some));
    story.run_to_the_end(job, 1000);
    assert_eq!(
        (story.view(job).done, story.outcome(job)),
        (10, Some(Outcome::Succeeded))
    );
}

#[test]
fn starts_before_the_end_count_too() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..whole(1)
    });
    story.fail_first(w1, job);
    story.wait(5000);
    story.finish(w1, job, 1000);
    story.requeue_as("ada", false, job, &[]);
    assert_eq!(story.told_restarts(job, 0), Some(2));
}

#[test]
fn what_a_worker_had_not_started_was_not_started() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(4));
    let asked = story.requeue_as("ada", false, job, &[]);
    assert_eq!((story.answer(asked), story.stops(w1)), (reopened(4), vec![0..4]));
    forget_grants(&mut story, w1);
    let mut stop = story.mail(w1).stops.pop().expect("it is to stop");
    stop.range = 1..4;
    story.mail(w1).stops.push(stop.clone());
    story.stops_unstarted(w1);
    story.fail(w1, job, stop.grant, &[0]);
    story.run_to_the_end(job, 1000);
    let told = [0, 1, 3].map(|index| story.told_restarts(job, index));
    assert_eq!(told, [1, 0, 0].map(Some));
}

#[test]
fn a_worker_that_is_lost_while_it_ends_a_run_counts_once() {
    let (mut story, w1, job) = running();
    story.requeue_as("ada", false, job, &[0..1]);
    story.lose(w1);
    story.worker(1);
    assert_eq!(story.told_restarts(job, 0), Some(1));
}

#[test]
fn a_worker_that_comes_back_with_a_run_that_does_not_count_is_told_again() {
    let (mut story, w1, job) = running();
    let granted = story.grant(w1, job);
    story.requeue_as("ada", false, job, &[0..1]);
    let mut next = taken_over(&story);
    let w1 = next.join(1 << 64, Some(w1), node(1), vec![held(&granted)]);
    assert_eq!((next.stops(w1), next.grant_count()), (vec![0..1], 0));
    next.stops_killed(w1);
    next.wait(5000);
    assert_eq!(next.told_restarts(job, 0), Some(1));
    assert_eq!(next.view(job).failed, 0);
    next.finish(w1, job, 1000);
    assert_eq!(next.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn failed_and_cancelled_tasks_of_kernels_start_again_and_results_stay() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(4)
    });
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..2])], 1000);
    story.fail(w1, job, grant, &[2]);
    let asked = story.requeue_as("ada", false, job, &[0..2]);
    let refusal = story.refusal(asked).expect("nothing of it can");
    assert_eq!(
        refusal.to_string(),
        "no task of job 1 can be requeued: none runs or has failed; results that are there stay"
    );
    story.cancel_tasks_as("ada", false, job, &[3..4]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let asked = story.requeue_as("ada", false, job, &[]);
    assert_eq!(story.answer(asked), reopened(2));
    story.run_to_the_end(job, 1000);
    assert_eq!((story.view(job).done, story.view(job).cancelled), (4, 0));
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn what_never_ran_of_a_job_that_is_over_stays_so_unless_it_is_asked_for() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(5));
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..2])], 1000);
    story.cancel_as("ada", false, job);
    let asked = story.requeue_as("ada", false, job, &[1..3]);
    assert_eq!(story.answer(asked), reopened(2));
    let page = story
        .core
        .tasks(job, IndexRange::new(3, 5))
        .expect("it is durable");
    assert_eq!(page.tasks[0].state, TaskState::Cancelled);
    story.run_to_the_end(job, 1000);
    let by = "ada".to_owned();
    assert_eq!(story.outcome(job), Some(Outcome::Cancelled { by }));
    assert_eq!((story.view(job).done, story.view(job).cancelled), (3, 2));
    let next = taken_over(&story);
    let view = next.view(job);
    assert_eq!((view.outcome, view.done), (story.outcome(job), 3));
    assert_eq!(view.cancelled, 2);
    let page = next
        .core
        .tasks(job, IndexRange::new(0, 5))
        .expect("it is durable");
    let restarts = page
        .tasks
        .iter()
        .map(|told| (told.range.start..told.range.end, told.restarts));
    assert_eq!(restarts.collect::<Vec<_>>(), [(0..1, 0), (1..3, 1), (3..5, 0)]);
}

#[test]
fn what_waits_is_no_matter_for_a_requeue() {
    let mut story = Story::new();
    let job = story.submit(whole(3));
    let asked = story.requeue_as("ada", false, job, &[]);
    let refusal = story.refusal(asked).expect("nothing runs");
    assert_eq!(
        refusal.to_string(),
        "no task of job 1 can be requeued: none runs, and none has ended"
    );
    let asked = story.requeue_as("eve", false, job, &[]);
    assert!(matches!(story.refusal(asked), Some(Refusal::NotYours { .. })));
    let asked = story.requeue_as("ada", false, job, &[2..4]);
    assert!(matches!(story.refusal(asked), Some(Refusal::NoSuchTask { .. })));
    let asked = story.requeue_as("ada", false, JobId(9), &[]);
    assert_eq!(story.refusal(asked), Some(Refusal::NoSuchJob(JobId(9))));
}
