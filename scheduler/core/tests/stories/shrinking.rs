//! Gangs that go on without the ranks that they lose.

use std::time::Duration;

use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::{IndexRange, JobId, JobSpec, Retries, Term, WorkerId};
use phalanx_scheduler_core::Core;

use crate::gang_losses::{epoch, stop, taken_over_after};
use crate::gangs::on_nodes;
use crate::rendezvous::{EPOCH_1, listens};
use crate::story::{Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

/// Four ranks on two nodes, of which some may be lost.
fn shrinking() -> JobSpec {
    let mut spec = JobSpec {
        work: kernel_job(4).work,
        ..on_nodes(4, 2)
    };
    spec.gang.as_mut().expect("it is a gang").on_loss = OnLoss::Shrink;
    spec
}

fn meet(story: &mut Story, job: JobId, workers: [WorkerId; 2]) {
    for (worker, said) in workers.into_iter().zip(EPOCH_1) {
        listens(story, worker, job, said);
    }
}

/// It runs, and its hosts have met.
fn pair(spec: JobSpec) -> (Story, JobId, [WorkerId; 2]) {
    let mut story = Story::new();
    let workers = [story.worker(2), story.worker(2)];
    let job = story.submit(spec);
    meet(&mut story, job, workers);
    (story, job, workers)
}

/// The ranks whose results are on record.
fn results(story: &Story, job: JobId) -> Vec<IndexRange> {
    let ended = story.ended(job).into_iter();
    let results = ended.flat_map(|(_, results)| results);
    results.flat_map(|block| block.keep.clone()).collect()
}

#[test]
fn the_ranks_that_are_left_go_on_and_what_they_return_is_the_result() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    let w3 = story.worker(2);
    story.lose(w2);
    assert_eq!((story.stops(w1), story.held(w1)), (vec![], 2));
    assert_eq!(story.held(w3), 0, "lost ranks start nowhere else");
    let view = story.view(job);
    assert_eq!((view.failed, view.outcome), (2, None));
    let (index, cause) = (view.first_failures[0].index, view.first_failures[0].cause);
    assert_eq!((index, cause), (2, FailureCause::Lost));
    let message = &view.first_failures[0].message;
    assert!(message.contains("worker w2 was lost"), "{message}");
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(results(&story, job), [(0..2).into()]);
    assert_eq!((story.view(job).done, story.view(job).failed), (2, 2));
}

#[test]
fn ranks_that_had_ended_are_not_lost_with_their_worker() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.finish(w2, job, SECOND);
    story.lose(w2);
    assert_eq!(story.view(job).failed, 0);
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(results(&story, job), [(2..4).into(), (0..2).into()]);
}

#[test]
fn a_gang_ends_with_the_loss_of_those_that_had_not_ended() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.finish(w1, job, SECOND);
    assert_eq!(results(&story, job), []);
    story.host_dies(w2, job, &[2], FailureCause::Crash);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(results(&story, job), [(0..2).into()]);
    assert!(
        story.view(job).first_failures[1]
            .message
            .contains("its host died")
    );
}

#[test]
fn all_start_again_if_nobody_is_left() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.lose(w1);
    story.lose(w2);
    assert_eq!(
        story.view(job).failed,
        0,
        "nobody is lost to an epoch that has not begun"
    );
    let (w3, w4) = (story.worker(2), story.worker(2));
    assert_eq!((epoch(&story, w3), epoch(&story, w4)), (2, 2));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.view(job).done, 4);
}

#[test]
fn all_start_again_if_the_hosts_have_not_met() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(shrinking());
    listens(&mut story, w1, job, EPOCH_1[0]);
    let w3 = story.worker(2);
    story.lose(w2);
    stop(&mut story, w1);
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
}

#[test]
fn a_rank_that_fails_by_itself_fails_the_gang_for_the_next_leader_too() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.lose(w2);
    let grant = story.grant(w1, job).grant;
    // it could not go on without the others
    story.fail_for(FailureCause::Lost, w1, job, grant, &[1]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let failures = story.view(job).first_failures;
    let causes: Vec<_> = failures
        .iter()
        .map(|failure| (failure.index, failure.cause))
        .collect();
    let lost = FailureCause::Lost;
    assert_eq!(causes, [(1, FailureCause::Error), (2, lost), (3, lost)]);
    let mut after = Core::new(Term(2));
    let mut records = story.records().into_iter();
    assert!(records.all(|record| after.replay(Term(1), &record)));
    assert_eq!(
        after.job(job).and_then(|view| view.outcome),
        Some(Outcome::Failed)
    );
}

#[test]
fn what_a_leader_knew_of_lost_ranks_the_next_one_knows_by_record_and_by_snapshot() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.lose(w2);
    let snapshot = story.core.snapshot();
    story.finish(w1, job, SECOND);
    let records = story.records();
    let begins = |record: &Record| matches!(record, Record::TasksEnded { done, .. } if !done.is_empty());
    let last = records.iter().position(begins).unwrap();
    let mut by_record = Core::new(Term(2));
    assert!(records.iter().all(|record| by_record.replay(Term(1), record)));
    let mut by_snapshot = Core::restore(Term(2), snapshot);
    let mut rest = records[last..].iter();
    assert!(rest.all(|record| by_snapshot.replay(Term(1), record)));
    for core in [by_record, by_snapshot] {
        let view = core.job(job).unwrap();
        assert_eq!(
            (view.outcome, view.done, view.failed),
            (Some(Outcome::Succeeded), 2, 2)
        );
    }
}

#[test]
fn errors_that_are_retried_start_all_ranks_again_those_that_were_lost_too() {
    let retries = Retries {
        errors: 1,
        ..Retries::default()
    };
    let (mut story, job, [w1, w2]) = pair(JobSpec {
        retries,
        ..shrinking()
    });
    story.lose(w2);
    let w3 = story.worker(2);
    let grant = story.grant(w1, job).grant;
    story.mail(w1).grants.clear();
    story.fail(w1, job, grant, &[1]);
    stop(&mut story, w1);
    story.pass(Duration::from_secs(60));
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
    assert_eq!(story.view(job).failed, 0);
    story.run_to_the_end(job, SECOND);
    assert_eq!(
        (story.outcome(job), story.view(job).done),
        (Some(Outcome::Succeeded), 4)
    );
}

#[test]
fn ranks_that_were_taken_for_lost_are_stopped_when_their_worker_comes_back() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    let granted = story.grant(w2, job);
    story.lose(w2);
    let back = story.join(2, Some(w2), node(2), vec![held(&granted)]);
    assert_eq!(story.stops(back), [2..4]);
    story.report(back, job, vec![(granted.grant, vec![granted.range])], SECOND);
    assert_eq!((story.view(job).done, story.view(job).failed), (0, 2));
    story.finish(w1, job, SECOND);
    assert_eq!(results(&story, job), [(0..2).into()], "they run in vain");
}

#[test]
fn a_new_leader_lets_those_that_are_left_go_on_and_starts_all_again_if_it_misses_one_of_them() {
    for is_missed in [false, true] {
        let lose = |story: &mut Story, job, workers: [WorkerId; 2]| {
            meet(story, job, workers);
            story.lose(workers[1]);
        };
        let (before, mut story, job, [w1, _]) = taken_over_after(shrinking(), lose);
        let granted = before.grant(w1, job);
        let brought = match is_missed {
            false => vec![held(&granted)],
            true => vec![],
        };
        story.join(1, Some(w1), node(2), brought);
        story.pass(Duration::from_secs(4));
        if is_missed {
            let w3 = story.worker(2);
            assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
            continue;
        }
        story.report(w1, job, vec![(granted.grant, vec![granted.range])], SECOND);
        assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
        assert_eq!(results(&story, job), [(0..2).into()]);
    }
}

#[test]
fn a_gang_that_has_given_results_is_not_started_again() {
    let (mut story, job, [w1, w2]) = pair(shrinking());
    story.lose(w2);
    story.finish(w1, job, SECOND);
    let asked = story.requeue_as("ada", false, job, &[]);
    assert!(
        matches!(story.refusal(asked), Some(Refusal::NothingToRequeue { .. })),
        "{:?}",
        story.answer(asked)
    );
}
