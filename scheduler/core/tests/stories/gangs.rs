//! Gangs: all ranks are placed or none, a wide one in its turn. What they lose is told in `gang_losses`.

use std::time::Duration;

use phalanx_protocol::gang::{Gang, RankMap};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{JobId, JobSpec, Request, Sharing};
use phalanx_scheduler_core::{Effect, Input};

use crate::gang_losses::epoch;
use crate::story::{Story, command_job, cpus, kernel_job};

const SECOND: u64 = 1_000_000_000;

pub(crate) fn gang(ranks: u64) -> JobSpec {
    JobSpec {
        gang: Some(Box::default()),
        ..command_job(ranks)
    }
}

pub(crate) fn on_nodes(ranks: u64, nodes: u32) -> JobSpec {
    JobSpec {
        gang: Some(Box::new(Gang {
            nodes: Some(nodes),
            ..Gang::default()
        })),
        ..command_job(ranks)
    }
}

fn limited(seconds: u64, spec: JobSpec) -> JobSpec {
    JobSpec {
        time_limit_millis: Some(seconds * 1000),
        ..spec
    }
}

pub(crate) fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

#[test]
fn a_gang_is_placed_all_or_none() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(gang(6));
    assert_eq!((story.slots(w1, job), story.held(w1)), (0, 0));
    let w2 = story.worker(4);
    assert_eq!(story.slots(w1, job) + story.slots(w2, job), 6);
    assert_eq!(story.grants(w1), [0..4]);
    assert_eq!(story.grants(w2), [4..6]);
    let placement = story.mail[&w1]
        .gang
        .clone()
        .expect("it knows where all ranks are");
    assert_eq!(placement.node_of, [0, 0, 0, 0, 1, 1]);
    assert_eq!(placement.counts(), [(w1, 4), (w2, 2)]);
    assert_eq!(story.mail[&w2].gang, Some(placement));
    story.finish(w1, job, SECOND);
    assert_eq!(story.view(job).done, 4);
    assert_eq!(story.slots(w1, job), 4, "slots are kept until all have ended");
    story.finish(w2, job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn ranks_start_only_once_it_is_durable_that_the_job_has() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    story.storage_slows_down();
    let job = story.submit(gang(2));
    assert_eq!((story.slots(w1, job), story.held(w1)), (2, 0));
    story.storage_catches_up();
    assert_eq!(story.held(w1), 2);
}

#[test]
fn nodes_ranks_of_each_and_the_map_are_as_asked_for() {
    let mut story = Story::new();
    let workers = [story.worker(8), story.worker(8), story.worker(8)];
    let spread = story.submit(on_nodes(5, 2));
    let on = |story: &Story, job| workers.map(|worker| story.slots(worker, job));
    assert_eq!(on(&story, spread), [3, 2, 0]);
    let cyclic = story.submit(JobSpec {
        gang: Some(Box::new(Gang {
            ranks_per_node: Some(2),
            map: RankMap::Cyclic,
            ..Gang::default()
        })),
        ..command_job(6)
    });
    assert_eq!(on(&story, cyclic), [2, 2, 2]);
    let granted = story.mail[&workers[0]].grants.iter();
    let granted: Vec<_> = granted.filter(|granted| granted.job == cyclic).collect();
    assert_eq!((granted[0].range.start, granted[1].range.start), (0, 3));
    let two_cpus_each = story.submit(JobSpec {
        request: cpus(2),
        ..on_nodes(2, 2)
    });
    assert_eq!(on(&story, two_cpus_each).iter().sum::<u32>(), 2);
}

#[test]
fn whole_nodes_are_waited_for_and_shared_with_nobody() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let first = story.submit(kernel_job(1));
    let job = story.submit(JobSpec {
        request: Request {
            sharing: Sharing::OwnJob,
            ..Request::default()
        },
        ..on_nodes(2, 2)
    });
    assert_eq!((story.slots(w1, job), story.slots(w2, job)), (0, 0));
    story.finish(w1, first, SECOND);
    let other = story.submit(kernel_job(4));
    assert_eq!((story.slots(w1, job), story.slots(w2, job)), (1, 1));
    assert_eq!(story.view(other).slots, 0);
}

#[test]
fn a_wide_gang_is_not_starved_by_a_stream_of_tasks() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let stream = story.submit(kernel_job(100_000));
    assert_eq!((story.slots(w1, stream), story.slots(w2, stream)), (4, 4));
    let wide = story.submit(on_nodes(8, 2));
    assert_eq!(
        story.slots(w1, stream) + story.slots(w2, stream),
        0,
        "nothing more is started"
    );
    assert_eq!(story.view(wide).slots, 0, "what runs is not driven away");
    assert_eq!(
        verdict(&story, wide),
        Verdict::Gang {
            slots: 8,
            nodes: Some(2),
            slots_free: 0,
            slots_capacity: 8,
            jobs: vec![stream]
        }
    );
    assert_eq!(verdict(&story, stream), Verdict::Running);
    story.finish(w1, stream, SECOND);
    assert_eq!(
        (story.view(wide).slots, story.held(w1)),
        (0, 0),
        "its slots wait for it"
    );
    story.finish(w2, stream, SECOND);
    assert_eq!((story.slots(w1, wide), story.slots(w2, wide)), (4, 4));
    story.finish(w1, wide, SECOND);
    story.finish(w2, wide, SECOND);
    assert_eq!(story.slots(w1, stream), 4);
}

#[test]
fn smaller_gangs_do_not_starve_a_wide_one() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let first = story.submit(gang(4));
    let second = story.submit(gang(2));
    let wide = story.submit(gang(8));
    let third = story.submit(gang(2));
    assert_eq!((story.view(first).slots, story.view(second).slots), (4, 2));
    assert_eq!((story.view(wide).slots, story.view(third).slots), (0, 0));
    let running = |story: &Story, job| if story.slots(w1, job) > 0 { w1 } else { w2 };
    story.finish(running(&story, first), first, SECOND);
    assert_eq!((story.view(wide).slots, story.view(third).slots), (0, 0));
    story.finish(running(&story, second), second, SECOND);
    assert_eq!(story.view(wide).slots, 8);
}

#[test]
fn backfill_runs_what_ends_before_and_delays_nobody() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let running = story.submit(limited(100, gang(4)));
    assert_eq!(story.slots(w1, running), 4);
    let wide = story.submit(gang(8));
    let endless = story.submit(kernel_job(10));
    let long = story.submit(limited(200, kernel_job(10)));
    assert_eq!((story.view(endless).slots, story.view(long).slots), (0, 0));
    let short = story.submit(limited(50, kernel_job(2)));
    let short_gang = story.submit(limited(60, gang(2)));
    assert_eq!((story.slots(w2, short), story.slots(w2, short_gang)), (2, 2));
    story.finish(w2, short, SECOND);
    story.finish(w2, short_gang, SECOND);
    assert_eq!(story.view(wide).slots, 0);
    story.pass(Duration::from_secs(101));
    assert_eq!(
        story.outcome(running),
        Some(Outcome::TimeLimit { millis: 100_000 })
    );
    assert_eq!(story.view(wide).slots, 8);
}

#[test]
fn slots_beyond_what_a_waiting_gang_needs_are_used() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let running = story.submit(gang(4));
    assert_eq!(story.slots(w1, running), 4);
    let wide = story.submit(on_nodes(4, 2));
    let endless = story.submit(kernel_job(10));
    assert_eq!((story.view(wide).slots, story.slots(w2, endless)), (0, 2));
    story.finish(w1, running, SECOND);
    assert_eq!((story.slots(w1, wide), story.slots(w2, wide)), (2, 2));
}

#[test]
fn a_higher_priority_comes_before_a_gang_and_a_gang_before_a_lower_one() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(gang(4));
    let waiting = story.submit(gang(3));
    let high = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(2)
    });
    let higher = story.submit(JobSpec {
        priority: 2,
        ..gang(2)
    });
    story.finish(w1, first, SECOND);
    assert_eq!((story.slots(w1, higher), story.slots(w1, high)), (2, 2));
    story.finish(w1, higher, SECOND);
    assert_eq!(story.slots(w1, waiting), 0);
    story.finish(w1, high, SECOND);
    assert_eq!(story.slots(w1, waiting), 3);
}

#[test]
fn where_a_gang_cannot_run_it_is_not_placed_again() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(4));
    let job = story.submit(gang(2));
    assert_eq!(story.held(w1), 2);
    story.mail(w1).grants.clear();
    story.tell(Input::CannotRun {
        worker: w1,
        job,
        reason: "no such program".into(),
        fatal: false,
    });
    assert_eq!((story.held(w1), story.held(w2), epoch(&story, w2)), (0, 2, 2));
}

#[test]
fn grants_follow_word_of_where_all_ranks_are() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    story.submit(gang(2));
    let to_w1 = |effect: &Effect| match effect {
        Effect::Send { worker, message } if *worker == w1 => match message {
            ToWorker::Gang { .. } => Some("gang"),
            ToWorker::Grant { .. } => Some("grant"),
            ToWorker::Open { .. } => Some("open"),
            _ => None,
        },
        _ => None,
    };
    let told: Vec<_> = story.effects.iter().filter_map(to_w1).collect();
    assert_eq!(told, ["open", "gang", "grant"]);
}
