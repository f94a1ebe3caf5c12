//! What one rank loses is lost to all: the epoch of a gang ends, and the next one begins or the job has failed.

use std::time::Duration;

use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{IndexRange, JobId, JobSpec, Retries, Term, WorkerId};
use phalanx_scheduler_core::Core;

use crate::gangs::{gang, on_nodes, verdict};
use crate::story::{Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

/// The epoch that a worker was told of last.
pub(crate) fn epoch(story: &Story, worker: WorkerId) -> u32 {
    let placement = story.mail[&worker].gang.as_ref();
    placement.expect("it was told of a gang").epoch
}

/// Every rank that a worker was told to stop ends by a signal.
pub(crate) fn stop(story: &mut Story, worker: WorkerId) {
    let stops: Vec<_> = story.mail(worker).stops.iter().map(|stop| stop.grant).collect();
    story
        .mail(worker)
        .grants
        .retain(|granted| !stops.contains(&granted.grant));
    story.give_back_nothing(worker);
    story.stops_killed(worker);
}

#[test]
fn a_lost_worker_restarts_all_ranks_in_the_next_epoch() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(on_nodes(4, 2));
    assert_eq!((epoch(&story, w1), story.told_restarts(job, 0)), (1, Some(0)));
    let w3 = story.worker(2);
    story.lose(w2);
    assert_eq!(story.stops(w1), [0..2], "what is left of the epoch is ended");
    assert_eq!(story.held(w3), 0, "the next one waits for that");
    stop(&mut story, w1);
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
    assert_eq!((story.grants(w1), story.grants(w3)), (vec![0..2], vec![2..4]));
    assert_eq!(story.told_restarts(job, 3), Some(1));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn ranks_that_had_ended_start_again_too() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(on_nodes(4, 2));
    story.finish(w1, job, SECOND);
    assert_eq!(story.view(job).done, 2);
    story.lose(w2);
    assert_eq!(story.view(job).done, 0);
    story.worker(2);
    assert_eq!((story.grants(w1), epoch(&story, w1)), (vec![0..2], 2));
}

#[test]
fn what_ranks_return_is_on_record_once_all_of_an_epoch_have_ended() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(JobSpec {
        work: kernel_job(4).work,
        ..on_nodes(4, 1)
    });
    let first = story.mail(w1).grants[0].grant;
    story.report(w1, job, vec![(first, vec![0..2])], SECOND);
    assert_eq!(story.ended(job), [], "a later epoch may return something else");
    story.lose(w1);
    let w2 = story.worker(4);
    let second = story.mail(w2).grants[0].grant;
    story.report(w2, job, vec![(second, vec![2..4])], SECOND);
    assert_eq!(story.ended(job), []);
    story.report(w2, job, vec![(second, vec![0..2])], SECOND);
    let ended = story.ended(job);
    assert_eq!(ended.len(), 1);
    let (done, results) = &ended[0];
    assert_eq!(done[..], [(0..4).into()]);
    let kept: Vec<IndexRange> = results.iter().flat_map(|block| block.keep.clone()).collect();
    assert_eq!(kept, [(2..4).into(), (0..2).into()], "none is of the first epoch");
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_gang_on_one_worker_is_lost_with_it_as_a_whole() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(gang(4));
    story.lose(w1);
    let w2 = story.worker(4);
    assert_eq!((story.held(w2), epoch(&story, w2)), (4, 2));
    assert_eq!(story.told_restarts(job, 0), Some(1));
}

#[test]
fn a_gang_that_is_to_fail_when_it_loses_a_rank_names_the_cause() {
    let mut story = Story::new();
    let (_, w2) = (story.worker(2), story.worker(2));
    let mut spec = on_nodes(4, 2);
    spec.gang.as_mut().unwrap().on_loss = OnLoss::Fail;
    let job = story.submit(spec);
    story.lose(w2);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let failures = story.view(job).first_failures;
    assert_eq!((failures.len(), failures[0].index), (1, 2));
    assert_eq!(failures[0].cause, FailureCause::Lost);
    assert!(
        failures[0].message.contains("worker w2"),
        "{}",
        failures[0].message
    );
}

#[test]
fn workers_may_be_lost_as_often_as_the_job_allows() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        retries: Retries {
            lost_limit: Some(2),
            ..Retries::default()
        },
        ..gang(2)
    });
    story.lose(w1);
    let w2 = story.worker(2);
    assert_eq!(epoch(&story, w2), 2);
    story.lose(w2);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    assert!(story.view(job).first_failures[0].message.contains("in epoch 2"));
}

#[test]
fn a_rank_that_fails_ends_the_gang_or_starts_it_again_if_errors_are_retried() {
    for errors in [0, 1] {
        let mut story = Story::new();
        let (w1, w2) = (story.worker(2), story.worker(2));
        let job = story.submit(JobSpec {
            retries: Retries {
                errors,
                ..Retries::default()
            },
            ..on_nodes(4, 2)
        });
        let grant = story.grant(w2, job).grant;
        story.mail(w2).grants.clear();
        story.fail_for(FailureCause::Exit(3), w2, job, grant, &[2]);
        if errors == 0 {
            assert_eq!(story.outcome(job), Some(Outcome::Failed));
            let failures = story.view(job).first_failures;
            assert_eq!((failures.len(), failures[0].cause), (1, FailureCause::Exit(3)));
            continue;
        }
        stop(&mut story, w1);
        stop(&mut story, w2);
        assert_eq!(story.view(job).slots, 0, "it rests");
        story.pass(Duration::from_secs(2));
        assert_eq!((epoch(&story, w1), story.held(w1), story.held(w2)), (2, 2, 2));
        let grant = story.grant(w1, job).grant;
        story.fail_for(FailureCause::Exit(3), w1, job, grant, &[1]);
        assert_eq!(story.outcome(job), Some(Outcome::Failed));
    }
}

#[test]
fn a_dead_host_restarts_the_gang_up_to_the_crash_limit() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(gang(2));
    for next in [2, 3] {
        story.host_dies(w1, job, &[0], FailureCause::Crash);
        assert_eq!((epoch(&story, w1), story.held(w1)), (next, 2));
    }
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
}

#[test]
fn a_gang_is_cancelled_and_held_as_a_whole() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(gang(4));
    story.hold_as("ada", false, job, true);
    assert_eq!(
        (story.slots(w1, job), story.revokes(w1).len()),
        (4, 0),
        "it has started"
    );
    story.cancel_tasks_as("ada", false, job, &[1..2]);
    assert_eq!(story.outcome(job), Some(Outcome::Cancelled { by: "ada".into() }));
    let waiting = story.submit(JobSpec {
        held: true,
        ..gang(4)
    });
    assert_eq!(story.slots(w1, waiting), 0);
    story.hold_as("ada", false, waiting, false);
    assert_eq!(story.held(w1), 4);
    story.cancel_as("ada", false, waiting);
    assert_eq!(story.slots(w1, waiting), 0);
}

#[test]
fn a_failed_gang_is_tried_again_as_a_whole() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(gang(4));
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..2])], SECOND);
    story.fail(w1, job, grant, &[2]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    story.retry_as("ada", false, job);
    assert_eq!((story.grants(w1), epoch(&story, w1)), (vec![0..4], 2));
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_gang_that_failed_has_failed_for_the_next_leader_too() {
    let mut before = Story::new();
    let worker = before.worker(4);
    let job = before.submit(gang(4));
    let grant = before.grant(worker, job).grant;
    before.fail(worker, job, grant, &[2]);
    assert_eq!(before.outcome(job), Some(Outcome::Failed));
    let mut after = Core::new(Term(2));
    let mut records = before.records().into_iter();
    assert!(records.all(|record| after.replay(Term(1), &record)));
    let outcome = after.job(job).and_then(|view| view.outcome);
    assert_eq!(
        outcome,
        Some(Outcome::Failed),
        "though the other ranks have not ended"
    );
}

/// A gang of two on each of two workers, and a new leader that knows what is durable of it.
pub(crate) fn taken_over(spec: JobSpec) -> (Story, Story, JobId, [WorkerId; 2]) {
    taken_over_after(spec, |_, _, _| {})
}

/// The same, with something that happens before the old leader is lost.
pub(crate) fn taken_over_after(
    spec: JobSpec,
    happens: impl FnOnce(&mut Story, JobId, [WorkerId; 2]),
) -> (Story, Story, JobId, [WorkerId; 2]) {
    let mut before = Story::new();
    let workers = [before.worker(2), before.worker(2)];
    let job = before.submit(spec);
    happens(&mut before, job, workers);
    let mut core = Core::new(Term(2));
    for record in before.records() {
        core.replay(Term(1), &record);
    }
    let mut after = Story::with(core);
    let mut effects = Vec::new();
    after.core.start(after.now(), &mut effects);
    after.start(effects);
    (before, after, job, workers)
}

#[test]
fn a_new_leader_finds_a_gang_whose_workers_all_come_back() {
    let (before, mut story, job, [w1, w2]) = taken_over(on_nodes(4, 2));
    for worker in [w1, w2] {
        let granted = held(&before.grant(worker, job));
        story.join(u128::from(worker.0) << 64, Some(worker), node(2), vec![granted]);
    }
    story.pass(Duration::from_secs(4));
    assert_eq!((story.slots(w1, job), story.slots(w2, job)), (2, 2));
    let requeued = |record: &Record| matches!(record, Record::TasksRequeued { .. });
    assert!(!story.records().iter().any(requeued));
    for worker in [w1, w2] {
        let granted = before.grant(worker, job);
        story.report(worker, job, vec![(granted.grant, vec![granted.range])], SECOND);
    }
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_new_leader_lets_the_other_half_of_a_gang_end_whose_first_half_has() {
    let mut first = None;
    let spec = on_nodes(4, 2);
    let (before, mut story, job, [w1, w2]) = taken_over_after(spec, |story, job, [w1, _]| {
        first = Some(story.grant(w1, job).grant);
        story.finish(w1, job, SECOND);
    });
    assert_eq!(story.view(job).done, 2, "that is durable");
    story.join(1 << 64, Some(w1), node(2), vec![]);
    let granted = before.grant(w2, job);
    story.join(2 << 64, Some(w2), node(2), vec![held(&granted)]);
    story.pass(Duration::from_secs(4));
    // the old leader's word of that may not have reached its worker
    story.report(w1, job, vec![(first.unwrap(), vec![0..2])], SECOND);
    assert_eq!((story.held(w1), story.stops(w2)), (0, vec![]));
    story.report(w2, job, vec![(granted.grant, vec![granted.range])], SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.view(job).done, 4);
    let ended: Vec<_> = story.ended(job).into_iter().flat_map(|(done, _)| done).collect();
    assert_eq!(ended, [(2..4).into()], "each rank counts once");
}

#[test]
fn what_half_of_a_gang_returned_is_lost_with_the_leader_and_all_of_it_is_of_one_epoch() {
    let spec = JobSpec {
        work: kernel_job(4).work,
        ..on_nodes(4, 2)
    };
    let (before, mut story, job, [w1, w2]) = taken_over_after(spec, |story, job, [w1, _]| {
        story.finish(w1, job, SECOND);
    });
    assert_eq!(story.view(job).done, 0, "nothing of it is on record");
    story.join(1 << 64, Some(w1), node(2), vec![]);
    let granted = before.grant(w2, job);
    story.join(2 << 64, Some(w2), node(2), vec![held(&granted)]);
    story.pass(Duration::from_secs(4));
    assert_eq!(story.stops(w2), [2..4], "the first half cannot be had again");
    stop(&mut story, w2);
    assert_eq!((epoch(&story, w1), epoch(&story, w2)), (2, 2));
    // the end of the first epoch, which comes late
    story.report(w2, job, vec![(granted.grant, vec![granted.range])], SECOND);
    assert_eq!(story.ended(job), []);
    for worker in [w1, w2] {
        story.finish(worker, job, SECOND);
    }
    let ended = story.ended(job);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].0[..], [(0..4).into()]);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_new_leader_begins_another_epoch_if_a_part_does_not_come_back() {
    let (before, mut story, job, [w1, w2]) = taken_over(on_nodes(4, 2));
    let granted = before.grant(w1, job);
    story.join(1, Some(w1), node(2), vec![held(&granted)]);
    let w3 = story.worker(2);
    assert_eq!(story.stops(w1), []);
    story.pass(Duration::from_secs(4));
    assert_eq!(story.stops(w1), [0..2]);
    story.give_back_nothing(w1);
    story.stops_killed(w1);
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
    // too late
    let late = before.grant(w2, job);
    let back = story.join(2, Some(w2), node(2), vec![held(&late)]);
    assert_eq!(story.stops(back), [2..4]);
    story.report(back, job, vec![(late.grant, vec![late.range])], SECOND);
    assert_eq!(story.view(job).done, 0);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_worker_whose_session_broke_goes_on_with_its_ranks_if_it_is_back_before_it_is_missed() {
    let mut story = Story::new();
    let (w1, w2) = (story.join(7, None, node(2), vec![]), story.worker(2));
    let job = story.submit(on_nodes(4, 2));
    let granted = story.grant(w1, job);
    story.join(7, Some(w1), node(2), vec![held(&granted)]);
    assert_eq!((story.stops(w2), story.slots(w1, job)), (vec![], 2));
    story.finish(w1, job, SECOND);
    story.finish(w2, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn ranks_of_which_a_worker_had_not_heard_when_its_session_broke_are_no_loss() {
    let mut story = Story::new();
    let (w1, w2) = (story.join(7, None, node(2), vec![]), story.worker(2));
    let mut spec = on_nodes(4, 2);
    spec.gang.as_mut().unwrap().on_loss = OnLoss::Fail;
    let job = story.submit(spec);
    story.join(7, Some(w1), node(2), vec![]);
    assert_eq!(story.stops(w2), [2..4]);
    stop(&mut story, w2);
    assert_eq!((story.held(w2), epoch(&story, w1)), (2, 2));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_worker_that_is_to_leave_lets_its_ranks_end_and_gets_no_other_gang() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(gang(2));
    story.drain(w1, true);
    story.give_back_nothing(w1);
    let next = story.submit(gang(2));
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.slots(w1, next), 0);
    assert_eq!(verdict(&story, next), Verdict::Draining);
}

#[test]
fn a_rank_that_never_started_takes_the_others_back() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(on_nodes(4, 2));
    story.drain(w2, true);
    story.give_back_all(w2);
    assert_eq!(story.stops(w1), [0..2]);
    stop(&mut story, w1);
    let w3 = story.worker(2);
    assert_eq!((story.held(w1), epoch(&story, w3)), (2, 2));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}
