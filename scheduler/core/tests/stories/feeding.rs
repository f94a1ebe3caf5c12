//! Feeding: how much each worker is granted, and how work is taken back at the end.

use phalanx_protocol::{Feeding, JobSpec};

use crate::story::{Story, kernel_job};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

#[test]
fn a_first_grant_is_a_probe_of_one_task_per_slot() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(2));
    story.submit(kernel_job(1_000_000));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..4], vec![4..6]));
}

#[test]
fn a_worker_twice_as_fast_holds_about_twice_as_much() {
    let mut story = Story::new();
    let (fast, slow) = (story.worker(4), story.worker(4));
    let job = story.submit(kernel_job(100_000));
    for _ in 0..3 {
        story.finish(fast, job, MILLISECOND);
        story.finish(slow, job, 2 * MILLISECOND);
    }
    let ratio = story.held(fast) as f64 / story.held(slow) as f64;
    assert!((1.5..2.7).contains(&ratio), "it holds {ratio} times as much");
}

#[test]
fn a_grant_is_at_most_two_seconds_of_work() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(kernel_job(1_000_000_000));
    for _ in 0..5 {
        story.finish(w1, job, 10 * MILLISECOND);
    }
    assert!((4 * 198..=4 * 200).contains(&story.held(w1)));
}

#[test]
fn tasks_longer_than_the_credit_are_granted_one_per_slot() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(kernel_job(1000));
    for _ in 0..5 {
        assert_eq!(story.held(w1), 4);
        story.finish(w1, job, 3 * SECOND);
    }
}

#[test]
fn a_hundred_million_tiny_tasks_on_four_workers_take_fewer_than_200_grants() {
    let mut story = Story::new();
    for _ in 0..4 {
        story.worker(2);
    }
    let job = story.submit(kernel_job(100_000_000));
    story.run_to_the_end(job, 1);
    assert_eq!(story.view(job).done, 100_000_000);
    let count = story.grant_count();
    assert!(count < 200, "{count} grants");
}

#[test]
fn guided_feeding_gives_each_slot_an_equal_share_of_what_remains() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(3), story.worker(1));
    story.submit(JobSpec {
        feeding: Feeding::Guided,
        ..kernel_job(1600)
    });
    assert_eq!((story.held(w1), story.held(w2)), (1200, 100));
}

#[test]
fn static_feeding_splits_everything_at_once() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(3), story.worker(1));
    story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(1600)
    });
    assert_eq!(
        (story.grants(w1), story.grants(w2)),
        (vec![0..1200], vec![1200..1600])
    );
}

#[test]
fn static_feeding_does_not_go_on_by_spoonfuls_after_an_interruption() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(1_000_000)
    });
    let high = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(2)
    });
    // two had started, the rest came back
    let mail = story.mail(w1);
    mail.revokes[0].count -= 2;
    story.give_back_all(w1);
    story.finish(w1, job, 1000);
    story.finish(w1, high, 1000);
    assert_eq!(story.held(w1), 999_998);
}

/// Two workers of two slots: w1 holds 1000 tasks of 10 ms, w2 nothing.
fn story_of_a_tail() -> (
    Story,
    phalanx_protocol::WorkerId,
    phalanx_protocol::WorkerId,
    phalanx_protocol::JobId,
) {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(1000)
    });
    assert_eq!(story.held(w1), 1000);
    let w2 = story.worker(2);
    (story, w1, w2, job)
}

#[test]
fn an_idle_worker_makes_the_core_revoke_half_of_the_longest_backlog() {
    let (mut story, w1, w2, _) = story_of_a_tail();
    let revokes = story.revokes(w1);
    assert_eq!(
        revokes.iter().map(|revoke| revoke.count).collect::<Vec<_>>(),
        [499]
    );
    story.give_back_all(w1);
    assert_eq!((story.held(w1), story.held(w2)), (501, 499));
}

#[test]
fn an_empty_return_does_not_loop() {
    let (mut story, w1, w2, job) = story_of_a_tail();
    story.give_back_nothing(w1);
    assert_eq!(
        story.revokes(w1),
        [],
        "everything there has started; asking again is of no use"
    );
    assert_eq!(story.held(w2), 0);
    // once w1 has reported again, things may be different
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..2])], 20 * MILLISECOND);
    assert_eq!(story.revokes(w1).len(), 1);
}

#[test]
fn one_idle_worker_causes_one_revoke_at_a_time() {
    let (mut story, w1, _, job) = story_of_a_tail();
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..2])], 20 * MILLISECOND);
    assert_eq!(story.revokes(w1).len(), 1);
}

#[test]
fn a_backlog_of_less_than_two_milliseconds_is_left_alone() {
    let (mut story, w1, _, job) = story_of_a_tail();
    story.give_back_nothing(w1);
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..900])], 900);
    assert_eq!(story.revokes(w1), []);
}

#[test]
fn a_job_ends_in_fragments_as_well() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(400)
    });
    let granted = story.grant(w1, job);
    // every second task was done when the worker died
    let odd = (0..200).map(|index| 2 * index..2 * index + 1).collect();
    story.report(w1, job, vec![(granted.grant, odd)], 200 * MILLISECOND);
    story.mail(w1).grants.clear();
    story.lose(w1);
    let w2 = story.worker(300);
    assert!(story.held(w2) >= 64);
    story.run_to_the_end(job, MILLISECOND);
    assert_eq!(story.view(job).done, 400);
}
