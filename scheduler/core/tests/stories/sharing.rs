//! Sharing: which job gets how many slots of which worker.

use std::collections::BTreeMap;

use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobSpec, Request, Resources};

use crate::story::{Story, cpus, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

fn gpu_node(cpus: u32, gpus: u64) -> Resources {
    Resources {
        named: BTreeMap::from([("gpu".to_owned(), gpus.into())]),
        ..node(cpus)
    }
}

fn gpu_task() -> Request {
    Request {
        named: BTreeMap::from([("gpu".to_owned(), 1.into())]),
        ..Request::default()
    }
}

#[test]
fn two_users_share_evenly() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let ada = story.submit_as("ada", kernel_job(1000));
    assert_eq!(story.view(ada).slots, 8, "alone she has everything");
    let bob = story.submit_as("bob", kernel_job(1000));
    assert_eq!((story.view(ada).slots, story.view(bob).slots), (4, 4));
    assert_eq!(story.slots(w1, ada) + story.slots(w1, bob), 4);
    assert_eq!(story.slots(w2, ada) + story.slots(w2, bob), 4);
}

#[test]
fn many_jobs_do_not_buy_a_user_a_larger_share() {
    let mut story = Story::new();
    story.worker(8);
    let of_ada: Vec<_> = (0..3).map(|_| story.submit_as("ada", kernel_job(1000))).collect();
    let bob = story.submit_as("bob", kernel_job(1000));
    assert_eq!(story.view(bob).slots, 4);
    assert_eq!(
        of_ada.into_iter().map(|job| story.view(job).slots).sum::<u64>(),
        4
    );
}

#[test]
fn who_needs_little_leaves_the_rest_to_others() {
    let mut story = Story::new();
    story.worker(8);
    let ada = story.submit_as("ada", kernel_job(1000));
    let bob = story.submit_as("bob", kernel_job(1));
    assert_eq!((story.view(ada).slots, story.view(bob).slots), (7, 1));
}

#[test]
fn a_higher_priority_goes_first() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let low = story.submit_as("ada", kernel_job(1000));
    let high = story.submit_as(
        "bob",
        JobSpec {
            priority: 5,
            ..kernel_job(2)
        },
    );
    assert_eq!((story.slots(w1, low), story.slots(w1, high)), (2, 2));
    let highest = story.submit_as(
        "cy",
        JobSpec {
            priority: 6,
            ..kernel_job(1000)
        },
    );
    assert_eq!(
        (
            story.slots(w1, low),
            story.slots(w1, high),
            story.slots(w1, highest)
        ),
        (0, 0, 4)
    );
}

#[test]
fn a_higher_priority_gets_the_one_worker_that_it_can_use() {
    let mut story = Story::new();
    let w1 = story.worker_with(gpu_node(4, 4));
    let w2 = story.worker(4);
    let low = story.submit(kernel_job(4));
    assert_eq!(story.slots(w1, low), 4);
    let high = story.submit(JobSpec {
        priority: 1,
        request: gpu_task(),
        ..kernel_job(4)
    });
    assert_eq!(
        (story.slots(w1, high), story.slots(w2, low)),
        (4, 4),
        "the other moves"
    );
}

#[test]
fn a_higher_priority_does_not_displace_others_where_there_is_room_elsewhere() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let low = story.submit(kernel_job(4));
    let w2 = story.worker(4);
    let high = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(4)
    });
    assert_eq!((story.slots(w1, low), story.slots(w2, high)), (4, 4));
}

#[test]
fn of_one_user_the_older_job_goes_first() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let older = story.submit(kernel_job(3));
    let younger = story.submit(kernel_job(1000));
    assert_eq!((story.slots(w1, older), story.slots(w1, younger)), (3, 1));
}

#[test]
fn a_smaller_job_fills_the_gaps_that_a_larger_one_leaves() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let wide = story.submit(JobSpec {
        request: cpus(3),
        ..kernel_job(1000)
    });
    let narrow = story.submit(kernel_job(1000));
    for worker in [w1, w2] {
        assert_eq!((story.slots(worker, wide), story.slots(worker, narrow)), (1, 1));
    }
}

#[test]
fn memory_and_named_resources_limit_the_slots() {
    let mut story = Story::new();
    let w1 = story.worker_with(gpu_node(8, 2));
    let hungry = Request {
        memory_bytes: 3 << 30,
        ..Request::default()
    };
    let memory = story.submit(JobSpec {
        request: hungry,
        ..kernel_job(1000)
    });
    assert_eq!(story.slots(w1, memory), 2, "8 GiB hold two tasks of 3 GiB");
    let gpus = story.submit(JobSpec {
        request: gpu_task(),
        ..kernel_job(1000)
    });
    assert_eq!(story.slots(w1, gpus), 2);
    let rest = story.submit(kernel_job(1000));
    assert_eq!(story.slots(w1, rest), 4);
}

#[test]
fn a_job_that_loses_its_slots_gives_back_its_unstarted_tasks() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let low = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    assert_eq!(story.held(w1), 100);
    let high = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(4)
    });
    assert_eq!(
        story.revokes(w1).iter().map(|revoke| revoke.count).sum::<u64>(),
        100
    );
    story.give_back_all(w1);
    story.finish(w1, high, SECOND);
    assert_eq!(story.slots(w1, low), 4);
    story.run_to_the_end(low, SECOND);
    assert_eq!(story.view(low).done, 100);
}

#[test]
fn a_job_that_loses_half_its_slots_gives_back_half_of_its_tasks() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    story.submit_as(
        "ada",
        JobSpec {
            feeding: Feeding::Static,
            ..kernel_job(100)
        },
    );
    story.submit_as("bob", kernel_job(1000));
    assert_eq!(
        story.revokes(w1).iter().map(|revoke| revoke.count).sum::<u64>(),
        50
    );
}

#[test]
fn the_last_tasks_keep_the_slots_that_they_run_on() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let older = story.submit(kernel_job(4));
    let younger = story.submit(kernel_job(1000));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..2], vec![2..4]));
    story.finish(w1, older, SECOND);
    assert_eq!((story.slots(w1, older), story.slots(w2, older)), (0, 2));
    assert_eq!((story.slots(w1, younger), story.slots(w2, younger)), (2, 0));
}

#[test]
fn a_finished_job_leaves_its_slots_to_the_next() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(kernel_job(4));
    let next = story.submit(kernel_job(1000));
    assert_eq!(story.slots(w1, next), 0);
    story.finish(w1, first, SECOND);
    assert_eq!(story.slots(w1, next), 4);
}

/// A job of which at most `slots_max` tasks run at a time.
fn limited(slots_max: u32, tasks: u64) -> JobSpec {
    JobSpec {
        slots_max: Some(slots_max),
        ..kernel_job(tasks)
    }
}

#[test]
fn a_job_gets_no_more_slots_than_it_allows_over_all_workers() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let job = story.submit(limited(5, 1000));
    let other = story.submit(kernel_job(1000));
    assert_eq!(story.slots(w1, job) + story.slots(w2, job), 5);
    assert_eq!((story.view(other).slots, story.view(job).slots_max), (3, Some(5)));
    let verdict = story.core.explain(job).map(|explanation| explanation.verdict);
    assert_eq!(verdict, Some(Verdict::SlotsMax { slots_max: 5 }));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.view(job).done, 1000);
}

#[test]
fn a_task_that_goes_on_without_a_slot_counts_among_those_that_may_run() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(limited(1, 10));
    let w2 = story.worker(1);
    story.drain(w1, true);
    story.give_back_nothing(w1);
    assert_eq!((story.held(w1), story.held(w2)), (1, 0), "one runs on");
    story.finish(w1, job, SECOND);
    assert_eq!((story.held(w1), story.held(w2)), (0, 1));
}

#[test]
fn slots_elsewhere_follow_once_what_runs_without_one_has_ended() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..limited(2, 100)
    });
    let w2 = story.worker(2);
    story.drain(w1, true);
    assert_eq!((story.held(w1), story.slots(w2, job)), (100, 0));
    story.give_back_all_but(w1, 2);
    assert_eq!((story.held(w1), story.held(w2)), (2, 0));
    story.finish(w1, job, SECOND);
    assert_eq!(story.slots(w2, job), 2);
}

#[test]
fn each_task_that_runs_without_a_slot_counts_until_it_has_ended() {
    let mut story = Story::new();
    let w1 = story.worker(3);
    let job = story.submit(limited(3, 10));
    let w2 = story.worker(3);
    story.drain(w1, true);
    story.give_back_nothing(w1);
    let granted = story.grant(w1, job);
    assert_eq!((granted.range, story.slots(w2, job)), (0..3, 0));
    story.report(w1, job, vec![(granted.grant, vec![0..2])], SECOND);
    assert_eq!(story.slots(w2, job), 2, "one runs on");
}

#[test]
fn slots_that_move_to_another_worker_follow_when_those_before_are_empty() {
    let mut story = Story::new();
    let w1 = story.worker_with(gpu_node(2, 2));
    let job = story.submit(limited(2, 10));
    let w2 = story.worker(2);
    let high = story.submit(JobSpec {
        priority: 1,
        request: gpu_task(),
        ..kernel_job(2)
    });
    let slots = |story: &Story| (story.slots(w1, high), story.slots(w1, job), story.slots(w2, job));
    assert_eq!(slots(&story), (2, 0, 0));
    story.finish(w1, job, SECOND);
    assert_eq!(slots(&story), (2, 0, 2));
}
