//! Gangs of which the first rank leads: it ends for all, and the others keep their nodes until then.

use phalanx_protocol::JobSpec;
use phalanx_protocol::gang::{Gang, RankMap};
use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::{IndexRange, Retries, WorkerId};

use crate::gang_losses::{epoch, stop, taken_over};
use crate::story::{Granted, Story, command_job, held, node};

const SECOND: u64 = 1_000_000_000;

fn led(nodes: u64) -> JobSpec {
    JobSpec {
        gang: Some(Box::new(Gang {
            map: RankMap::Led,
            ..Gang::default()
        })),
        ..command_job(nodes)
    }
}

#[test]
fn a_led_gang_has_one_rank_on_each_worker_and_ends_with_its_first() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let job = story.submit(led(3));
    assert_eq!(story.held(w1), 0, "one worker is no three nodes");
    let (w2, w3) = (story.worker(8), story.worker(8));
    for (worker, rank) in [(w1, 0), (w2, 1), (w3, 2)] {
        assert_eq!(story.grants(worker), [rank..rank + 1]);
        assert!(
            story.mail[&worker]
                .gang
                .as_ref()
                .is_some_and(|placement| placement.is_led)
        );
    }
    story.finish(w2, job, SECOND);
    assert_eq!(
        (story.outcome(job), story.slots(w2, job)),
        (None, 1),
        "it keeps its node"
    );
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    let ended = story.records().into_iter().filter_map(|record| match record {
        Record::TasksEnded { done, .. } => Some(done),
        _ => None,
    });
    let range = |start, end| IndexRange::new(start, end);
    let ended: Vec<_> = ended.collect();
    assert_eq!(ended, [vec![range(1, 2)], vec![range(0, 1), range(2, 3)]]);
    assert!(
        [w1, w2, w3]
            .iter()
            .all(|worker| story.mail[worker].open.is_empty())
    );
    story.lose(w3);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_led_gang_that_loses_a_node_starts_again() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(led(2));
    story.lose(w2);
    assert_eq!(story.stops(w1), [0..1]);
    stop(&mut story, w1);
    let w3 = story.worker(2);
    assert_eq!((epoch(&story, w1), epoch(&story, w3)), (2, 2));
    assert_eq!(story.told_restarts(job, 0), Some(1));
    story.finish(w1, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_led_gang_that_is_not_to_run_again_has_failed_of_a_lost_node() {
    let mut story = Story::new();
    let (_, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(JobSpec {
        retries: Retries {
            lost_limit: Some(1),
            ..Retries::default()
        },
        ..led(2)
    });
    story.lose(w2);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    assert_eq!(story.view(job).first_failures[0].cause, FailureCause::Lost);
}

#[test]
fn a_leader_that_took_over_ends_a_led_gang_with_its_first_rank_too() {
    let (before, mut story, job, [w1, w2]) = taken_over(led(2));
    let (leads, keeps) = (before.grant(w1, job), before.grant(w2, job));
    let back = |story: &mut Story, worker: WorkerId, granted: &Granted| {
        story.join(
            u128::from(worker.0) << 64,
            Some(worker),
            node(2),
            vec![held(granted)],
        )
    };
    back(&mut story, w1, &leads);
    story.report(w1, job, vec![(leads.grant, vec![0..1])], SECOND);
    assert_eq!(
        story.outcome(job),
        Some(Outcome::Succeeded),
        "the other one is not missed"
    );
    back(&mut story, w2, &keeps);
    assert!(story.mail[&w2].open.is_empty());
}
