//! How the hosts of a gang on several nodes are told of each other.

use std::time::Duration;

use phalanx_protocol::gang::{Gang, OnLoss};
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::{JobId, JobSpec, WorkerId};
use phalanx_scheduler_core::{HostPort, Input};

use crate::gang_losses::{epoch, stop, taken_over};
use crate::gangs::on_nodes;
use crate::story::{Story, command_job, held, node};

pub(crate) const EPOCH_1: [HostPort; 2] = [port(1, 0, 501), port(1, 1, 502)];

const fn port(epoch: u32, node: u32, port: u16) -> HostPort {
    HostPort {
        epoch,
        node,
        nodes: 2,
        port,
    }
}

/// A worker says that its host listens.
pub(crate) fn listens(story: &mut Story, worker: WorkerId, job: JobId, said: HostPort) {
    story.tell(Input::HostListens { worker, job, said });
}

/// What a worker was told of where hosts are, and forgets.
fn told(story: &mut Story, worker: WorkerId) -> Vec<(u32, Vec<String>)> {
    std::mem::take(&mut story.mail(worker).hosts)
}

fn at(ports: [u16; 2]) -> Vec<String> {
    ports.map(|port| format!("10.0.0.1:{port}")).to_vec()
}

fn pair() -> (Story, JobId, [WorkerId; 2]) {
    let mut story = Story::new();
    let workers = [story.worker(2), story.worker(2)];
    let job = story.submit(on_nodes(4, 2));
    (story, job, workers)
}

#[test]
fn all_hosts_are_told_where_all_are_once_all_listen() {
    let (mut story, job, [w1, w2]) = pair();
    listens(&mut story, w2, job, EPOCH_1[1]);
    listens(&mut story, w2, job, EPOCH_1[1]);
    assert!(told(&mut story, w1).is_empty() && told(&mut story, w2).is_empty());
    listens(&mut story, w1, job, EPOCH_1[0]);
    let all = vec![(1, at([501, 502]))];
    assert_eq!(
        (told(&mut story, w1), told(&mut story, w2)),
        (all.clone(), all.clone())
    );
    listens(&mut story, w2, job, EPOCH_1[1]);
    assert_eq!((told(&mut story, w1), told(&mut story, w2)), (vec![], all));
    listens(&mut story, w2, job, port(1, 1, 503));
    let moved = vec![(1, at([501, 503]))];
    assert_eq!(
        (told(&mut story, w1), told(&mut story, w2)),
        (moved.clone(), moved)
    );
}

#[test]
fn nobody_listens_for_another_node_or_an_epoch_that_is_over() {
    let (mut story, job, [w1, w2]) = pair();
    let w3 = story.worker(2);
    listens(&mut story, w1, job, EPOCH_1[0]);
    let strange = HostPort {
        nodes: 3,
        ..EPOCH_1[1]
    };
    for (worker, said) in [
        (w1, EPOCH_1[1]),
        (w3, EPOCH_1[1]),
        (w2, strange),
        (w2, port(2, 1, 502)),
    ] {
        listens(&mut story, worker, job, said);
    }
    listens(&mut story, w2, JobId(99), EPOCH_1[1]);
    assert!(told(&mut story, w1).is_empty());
    listens(&mut story, w2, job, EPOCH_1[1]);
    assert_eq!(told(&mut story, w1), [(1, at([501, 502]))]);
    story.lose(w2);
    stop(&mut story, w1);
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
    listens(&mut story, w1, job, port(2, 0, 601));
    listens(&mut story, w3, job, EPOCH_1[1]);
    listens(&mut story, w1, job, EPOCH_1[0]);
    assert!(
        told(&mut story, w3).is_empty(),
        "what was said of the first epoch is over"
    );
    listens(&mut story, w3, job, port(2, 1, 602));
    assert_eq!(told(&mut story, w3), [(2, at([601, 602]))]);
}

#[test]
fn a_new_leader_tells_hosts_of_each_other_that_had_not_met() {
    let (before, mut story, job, [w1, w2]) = taken_over(on_nodes(4, 2));
    let granted = held(&before.grant(w1, job));
    story.join(1, Some(w1), node(2), vec![granted]);
    listens(&mut story, w1, job, EPOCH_1[0]);
    assert!(told(&mut story, w1).is_empty());
    let granted = held(&before.grant(w2, job));
    story.join(2, Some(w2), node(2), vec![granted]);
    listens(
        &mut story,
        w2,
        job,
        HostPort {
            nodes: 4,
            ..EPOCH_1[1]
        },
    );
    assert!(
        told(&mut story, w1).is_empty(),
        "the first said that they are two"
    );
    listens(&mut story, w2, job, EPOCH_1[1]);
    let all = vec![(1, at([501, 502]))];
    assert_eq!((told(&mut story, w1), told(&mut story, w2)), (all.clone(), all));
    story.pass(Duration::from_secs(400));
    let requeued = |record: &Record| matches!(record, Record::TasksRequeued { .. });
    assert!(!story.records().iter().any(requeued));
}

#[test]
fn hosts_that_have_met_are_given_all_the_time_they_need() {
    let (mut story, job, [w1, w2]) = pair();
    listens(&mut story, w1, job, EPOCH_1[0]);
    listens(&mut story, w2, job, EPOCH_1[1]);
    story.pass(Duration::from_secs(400));
    assert_eq!((epoch(&story, w1), story.outcome(job)), (1, None));
}

#[test]
fn a_host_that_never_listens_ends_the_epoch_like_a_lost_worker() {
    let (mut story, _, [w1, w2]) = pair();
    story.pass(Duration::from_secs(299));
    assert!(story.stops(w1).is_empty());
    story.pass(Duration::from_secs(2));
    stop(&mut story, w1);
    stop(&mut story, w2);
    assert_eq!((epoch(&story, w1), epoch(&story, w2)), (2, 2));
}

#[test]
fn a_gang_that_may_lose_nobody_fails_by_the_name_of_who_never_listened() {
    let mut story = Story::new();
    let (w1, _w2) = (story.worker(2), story.worker(2));
    let job = story.submit(JobSpec {
        gang: Some(Box::new(Gang {
            nodes: Some(2),
            on_loss: OnLoss::Fail,
            ..Gang::default()
        })),
        ..command_job(4)
    });
    listens(&mut story, w1, job, EPOCH_1[0]);
    story.pass(Duration::from_secs(301));
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let failure = story.view(job).first_failures.remove(0);
    assert_eq!(failure.cause, FailureCause::Lost);
    assert!(
        failure.message.contains("worker w2 did not listen"),
        "{}",
        failure.message
    );
}

#[test]
fn ranks_that_lost_those_on_another_node_are_not_to_blame() {
    let (mut story, job, [w1, w2]) = pair();
    let grant = story.grant(w1, job).grant;
    story.fail_for(FailureCause::Lost, w1, job, grant, &[0]);
    assert_eq!(story.outcome(job), None, "an error would be final");
    stop(&mut story, w1);
    stop(&mut story, w2);
    story.pass(Duration::from_secs(60));
    assert_eq!((epoch(&story, w1), epoch(&story, w2)), (2, 2));
}
