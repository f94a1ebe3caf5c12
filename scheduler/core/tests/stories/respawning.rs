//! Gangs whose lost ranks start again elsewhere while the others run on.

use std::time::Duration;

use phalanx_protocol::gang::{OnLoss, Placement};
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, Retries, Term, WorkerId};
use phalanx_scheduler_core::{Core, HostPort};

use crate::gang_losses::{epoch, stop, taken_over_after};
use crate::gangs::{gang, on_nodes, verdict};
use crate::rendezvous::listens;
use crate::story::{Granted, Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

/// Ranks of kernels, of which lost ones are replaced.
fn respawning(spec: JobSpec) -> JobSpec {
    let mut spec = JobSpec {
        work: kernel_job(1).work,
        ..spec
    };
    spec.gang.as_mut().expect("it is a gang").on_loss = OnLoss::Respawn;
    spec
}

/// Four ranks on two nodes, which run.
fn pair() -> (Story, JobId, [WorkerId; 2]) {
    let mut story = Story::new();
    let workers = [story.worker(2), story.worker(2)];
    let job = story.submit(respawning(on_nodes(4, 2)));
    (story, job, workers)
}

/// What a worker was told last of where the ranks are.
fn placement(story: &Story, worker: WorkerId) -> Placement {
    story.mail[&worker].gang.clone().expect("it was told of a gang")
}

/// Which ranks were requeued, record by record.
fn requeued(story: &Story) -> Vec<RangeSet> {
    let requeued = |record: Record| match record {
        Record::TasksRequeued { tasks, .. } => Some(RangeSet::from(tasks)),
        _ => None,
    };
    story.records().into_iter().filter_map(requeued).collect()
}

fn ranks(start: u64, end: u64) -> RangeSet {
    RangeSet::from(IndexRange::new(start, end))
}

#[test]
fn only_lost_ranks_start_again_and_all_are_told_where_they_are_now() {
    let (mut story, job, [w1, w2]) = pair();
    let w3 = story.worker(2);
    assert!(placement(&story, w1).respawns && placement(&story, w1).starting == ranks(0, 4));
    story.lose(w2);
    assert_eq!(
        (story.stops(w1), story.held(w1)),
        (vec![], 2),
        "the others run on"
    );
    assert_eq!((story.grants(w3), epoch(&story, w3)), (vec![2..4], 2));
    assert_eq!(requeued(&story), [ranks(2, 4)]);
    let told = placement(&story, w1);
    assert_eq!(told, placement(&story, w3));
    assert_eq!((told.epoch, told.starting.clone()), (2, ranks(2, 4)));
    assert_eq!(told.counts(), [(w1, 2), (w3, 2)]);
    assert_eq!(story.told_restarts(job, 2), Some(1));
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), None);
}

#[test]
fn what_they_all_return_is_the_result() {
    let (mut story, job, [w1, w2]) = pair();
    let w3 = story.worker(2);
    story.lose(w2);
    for (worker, node) in [(w1, 0), (w3, 1)] {
        meet(&mut story, worker, job, 2, node);
    }
    assert_eq!(story.mail[&w1].hosts.last().map(|told| told.0), Some(2));
    story.finish(w1, job, SECOND);
    story.finish(w3, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!((story.view(job).done, story.view(job).failed), (4, 0));
}

/// The host of one of two nodes listens.
fn meet(story: &mut Story, worker: WorkerId, job: JobId, epoch: u32, node: u32) {
    let port = 500;
    let said = HostPort {
        epoch,
        node,
        nodes: 2,
        port,
    };
    listens(story, worker, job, said);
}

#[test]
fn nothing_is_granted_again_before_it_is_durable_that_what_ran_is_void() {
    let (mut story, _, [_, w2]) = pair();
    let w3 = story.worker(2);
    story.storage_slows_down();
    story.lose(w2);
    story.pass(Duration::from_secs(1));
    assert_eq!((story.held(w3), requeued(&story)), (0, vec![ranks(2, 4)]));
    story.storage_catches_up();
    assert_eq!(story.grants(w3), [2..4]);
}

#[test]
fn the_others_wait_for_a_worker_that_fits_and_it_is_said_what_is_missing() {
    let (mut story, job, [w1, w2]) = pair();
    let small = story.worker(1);
    story.lose(w2);
    assert_eq!((story.mail[&w1].awaited, story.mail[&small].awaited), (2, 0));
    story.pass(Duration::from_secs(1000));
    assert_eq!((story.held(w1), story.held(small)), (2, 0));
    let Verdict::Gang { slots, nodes, .. } = verdict(&story, job) else {
        panic!("{:?}", verdict(&story, job));
    };
    assert_eq!((slots, nodes), (2, Some(1)));
    let w3 = story.worker(2);
    assert_eq!(
        (story.grants(w3), verdict(&story, job)),
        (vec![2..4], Verdict::Running)
    );
}

#[test]
fn a_node_of_a_gang_with_a_shape_gets_no_other_nodes_ranks() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let job = story.submit(respawning(on_nodes(4, 2)));
    story.lose(w2);
    assert_eq!(story.held(w1), 2, "it has room, and the gang wants two nodes");
    let w3 = story.worker(2);
    assert_eq!(story.grants(w3), [2..4]);
    story.host_dies(w3, job, &[2], FailureCause::Crash);
    assert_eq!((story.held(w1), story.held(w3), epoch(&story, w1)), (2, 2, 3));
}

#[test]
fn ranks_of_a_gang_without_a_shape_go_wherever_there_is_room() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(2));
    let job = story.submit(respawning(gang(5)));
    let (lost, left) = (story.held(w2), story.held(w1));
    assert_eq!((lost, left), (1, 4));
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    assert_eq!((story.held(w1), epoch(&story, w2)), (4, 2), "where they were");
    story.lose(w1);
    let w3 = story.worker(3);
    assert_eq!(story.held(w2) + story.held(w3), 5, "one beside the one that runs");
    let told = placement(&story, w2);
    assert_eq!((told.counts(), told.epoch), (vec![(w2, 2), (w3, 3)], 3));
}

#[test]
fn what_is_lost_while_others_are_replaced_is_replaced_too() {
    let mut story = Story::new();
    let workers = [2, 2, 2].map(|cpus| story.worker(cpus));
    let job = story.submit(respawning(on_nodes(6, 3)));
    story.lose(workers[2]);
    let w4 = story.worker(2);
    assert_eq!((story.grants(w4), epoch(&story, workers[0])), (vec![4..6], 2));
    story.lose(w4);
    story.lose(workers[1]);
    assert_eq!(requeued(&story), [ranks(4, 6), ranks(4, 6), ranks(2, 4)]);
    let w5 = story.worker(2);
    assert_eq!(story.held(w5), 0, "all of what is lost at once");
    let w6 = story.worker(2);
    assert_eq!((story.grants(w5), story.grants(w6)), (vec![2..4], vec![4..6]));
    let told = placement(&story, workers[0]);
    assert_eq!((told.epoch, told.starting), (4, ranks(2, 6)));
    assert_eq!(story.stops(workers[0]), []);
    story.lose(w5);
    story.lose(w6);
    story.lose(workers[0]);
    assert_eq!(requeued(&story).last(), Some(&ranks(0, 6)), "nobody is left");
    for _ in 0..3 {
        story.worker(2);
    }
    assert_eq!(story.view(job).slots, 6);
}

#[test]
fn places_that_are_lost_before_their_ranks_are_granted_are_found_once_more() {
    let (mut story, _, [w1, w2]) = pair();
    let w3 = story.worker(2);
    story.storage_slows_down();
    story.lose(w2);
    story.pass(Duration::from_secs(1));
    story.lose(w3);
    let w4 = story.worker(2);
    story.pass(Duration::from_secs(1));
    assert_eq!((story.held(w4), requeued(&story).len()), (0, 1));
    story.storage_catches_up();
    assert_eq!(
        (story.grants(w4), placement(&story, w1).counts()),
        (vec![2..4], vec![(w1, 2), (w4, 2)])
    );
}

#[test]
fn all_start_again_if_a_rank_has_returned_that_cannot_meet_the_others_any_more() {
    for is_before in [true, false] {
        let (mut story, job, [w1, w2]) = pair();
        let w3 = story.worker(2);
        let first = story.grant(w1, job).grant;
        let ends = |story: &mut Story| story.report(w1, job, vec![(first, vec![0..1])], SECOND);
        if is_before {
            ends(&mut story);
            story.lose(w2);
        } else {
            story.lose(w2);
            assert_eq!(story.held(w3), 2);
            ends(&mut story);
            assert_eq!(story.stops(w3), [2..4]);
            stop(&mut story, w3);
        }
        assert_eq!(requeued(&story).last(), Some(&ranks(0, 4)));
        assert_eq!(story.stops(w1), [1..2]);
        story.mail(w1).grants.clear();
        story.stops_killed(w1);
        assert_eq!((story.held(w1), story.held(w3)), (2, 2));
        assert_eq!(placement(&story, w1).starting, ranks(0, 4));
    }
}

#[test]
fn ranks_that_return_after_all_have_met_are_done() {
    let (mut story, job, [w1, w2]) = pair();
    let w3 = story.worker(2);
    story.lose(w2);
    meet(&mut story, w1, job, 2, 0);
    meet(&mut story, w3, job, 2, 1);
    story.finish(w3, job, SECOND);
    assert_eq!((story.stops(w1), requeued(&story).len()), (vec![], 1));
}

#[test]
fn a_rank_that_fails_by_itself_fails_the_gang_or_starts_all_of_it_again() {
    for errors in [0, 1] {
        let mut story = Story::new();
        let (w1, w2) = (story.worker(2), story.worker(2));
        let job = story.submit(JobSpec {
            retries: Retries {
                errors,
                ..Retries::default()
            },
            ..respawning(on_nodes(4, 2))
        });
        let grant = story.grant(w2, job).grant;
        story.fail(w2, job, grant, &[2]);
        match errors {
            0 => assert_eq!(story.outcome(job), Some(Outcome::Failed)),
            _ => assert_eq!(
                (story.stops(w1), requeued(&story)),
                (vec![0..2], vec![ranks(0, 4)])
            ),
        }
    }
}

#[test]
fn workers_and_hosts_are_lost_as_often_as_the_job_allows() {
    let mut story = Story::new();
    let (_, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(JobSpec {
        retries: Retries {
            lost_limit: Some(2),
            ..Retries::default()
        },
        ..respawning(on_nodes(4, 2))
    });
    story.lose(w2);
    let bystander = story.worker(1);
    story.lose(bystander);
    let w3 = story.worker(2);
    assert_eq!((story.held(w3), epoch(&story, w3)), (2, 2));
    story.lose(w3);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let message = &story.view(job).first_failures[0].message;
    assert!(message.contains("in epoch 2"), "{message}");
}

#[test]
fn ranks_that_were_taken_for_lost_are_stopped_when_their_worker_comes_back() {
    for is_replaced in [false, true] {
        let (mut story, job, [w1, w2]) = pair();
        let granted = story.grant(w2, job);
        let w3 = is_replaced.then(|| story.worker(2));
        story.lose(w2);
        let back = story.join(2, Some(w2), node(2), vec![held(&granted)]);
        assert_eq!(story.stops(back), [2..4]);
        story.report(back, job, vec![(granted.grant, vec![granted.range])], SECOND);
        assert_eq!(story.stops(w1), [], "what they return does not count");
        let replaced = w3.unwrap_or(back);
        assert_eq!(
            story.held(replaced),
            if is_replaced { 2 } else { 4 },
            "two in vain"
        );
    }
}

#[test]
fn a_new_leader_replaces_what_is_lost_while_the_others_run_on() {
    for is_replaced in [false, true] {
        let mut third = None;
        let lose = |story: &mut Story, _, workers: [WorkerId; 2]| {
            third = is_replaced.then(|| story.worker(2));
            story.lose(workers[1]);
        };
        let (before, mut story, job, [w1, w2]) = taken_over_after(respawning(on_nodes(4, 2)), lose);
        story.join(1, Some(w1), node(2), vec![held(&before.grant(w1, job))]);
        let lost = before.grant(w2, job);
        if let Some(w3) = third {
            story.join(3, Some(w3), node(2), vec![held(&before.grant(w3, job))]);
            story.pass(Duration::from_secs(4));
            assert_eq!((story.slots(w1, job), story.slots(w3, job)), (2, 2));
            assert_eq!(requeued(&story), [], "all have been found");
            story.join(2, Some(w2), node(2), vec![held(&lost)]);
            assert_eq!(story.stops(w2), [2..4]);
            for worker in [w1, w3] {
                let Granted { grant, range, .. } = before.grant(worker, job);
                story.report(worker, job, vec![(grant, vec![range])], SECOND);
            }
            assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
            continue;
        }
        let w4 = story.worker(2);
        assert_eq!(story.held(w4), 0, "it may come back yet");
        story.pass(Duration::from_secs(4));
        assert_eq!((story.grants(w4), epoch(&story, w4)), (vec![2..4], 3));
        assert_eq!(
            (story.stops(w1), placement(&story, w1).counts()),
            (vec![], vec![(w1, 2), (w4, 2)])
        );
    }
}

#[test]
fn void_ranks_that_come_back_to_a_new_leader_are_replaced_once_they_have_ended() {
    let lose = |story: &mut Story, _, workers: [WorkerId; 2]| story.lose(workers[1]);
    let (before, mut story, job, [w1, w2]) = taken_over_after(respawning(on_nodes(4, 2)), lose);
    story.join(1, Some(w1), node(2), vec![held(&before.grant(w1, job))]);
    let lost = before.grant(w2, job);
    story.join(2, Some(w2), node(2), vec![held(&lost)]);
    let w3 = story.worker(2);
    story.pass(Duration::from_secs(4));
    assert_eq!(
        (story.stops(w2), story.held(w3)),
        (vec![2..4], 0),
        "two never run at once"
    );
    story.stops_killed(w2);
    assert_eq!(story.held(w2) + story.held(w3), 2);
    assert_eq!(
        (story.stops(w1), placement(&story, w1).starting),
        (vec![], ranks(2, 4))
    );
}

#[test]
fn a_gang_that_never_started_to_the_end_is_known_by_snapshot_as_by_record() {
    let (mut story, job, [_, w2]) = pair();
    story.lose(w2);
    let w3 = story.worker(2);
    story.lose(w3);
    let by_snapshot = Core::restore(Term(2), story.core.snapshot());
    let mut by_record = Core::new(Term(2));
    let mut records = story.records().into_iter();
    assert!(records.all(|record| by_record.replay(Term(1), &record)));
    for core in [by_snapshot, by_record] {
        let mut after = Story::with(core);
        let mut effects = Vec::new();
        after.core.start(after.now(), &mut effects);
        after.start(effects);
        after.pass(Duration::from_secs(4));
        let (w1, w2) = (after.worker(2), after.worker(2));
        assert_eq!(
            (epoch(&after, w1), epoch(&after, w2)),
            (4, 4),
            "after two losses and the leader's"
        );
        after.run_to_the_end(job, SECOND);
        assert_eq!(after.outcome(job), Some(Outcome::Succeeded));
    }
}
