//! The tail: workers that do not answer keep nobody waiting, and what stragglers of idempotent jobs hold is run elsewhere too.

use std::time::Duration;

use phalanx_protocol::record::{FailureCause, Outcome, Record};
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, Retries, WorkerId};

use crate::story::{Granted, Story, kernel_job, reducing_job};

const MILLISECOND: u64 = 1_000_000;
/// What a task of these stories takes.
const TASK: u64 = 100 * MILLISECOND;
/// Longer than a straggler of them is waited for.
const LONG: Duration = Duration::from_millis(1000);

fn idempotent_job(tasks: u64) -> JobSpec {
    JobSpec {
        idempotent: true,
        ..kernel_job(tasks)
    }
}

/// The same; a task that crashes is failed at once.
fn fragile_job(tasks: u64) -> JobSpec {
    JobSpec {
        retries: Retries {
            crash_limit: 1,
            ..Retries::default()
        },
        ..idempotent_job(tasks)
    }
}

/// Everybody but the stragglers runs the job as far as that is possible.
fn run_around(story: &mut Story, stragglers: &[WorkerId], job: JobId) {
    for _ in 0..1000 {
        let busy = |worker: &WorkerId| !stragglers.contains(worker) && story.held(*worker) > 0;
        let Some(worker) = story.mail.keys().copied().find(busy) else {
            return;
        };
        story.finish(worker, job, TASK);
    }
    panic!("job {job} never stops");
}

/// Two workers of one slot each; all tasks have ended but the first, which w1 has, and which is granted to w2 too.
fn story_of_twins(spec: JobSpec) -> (Story, WorkerId, WorkerId, JobId) {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(spec);
    run_around(&mut story, &[w1], job);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![]));
    story.pass(LONG);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![0..1]));
    (story, w1, w2, job)
}

/// The worker reports what it was granted, or how it failed, and has nothing more.
fn take_grant(story: &mut Story, worker: WorkerId, job: JobId) -> Granted {
    let granted = story.grant(worker, job);
    story.mail(worker).grants.clear();
    granted
}

#[test]
fn a_revoke_without_an_answer_does_not_keep_others_from_being_asked() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(1000)
    });
    let w3 = story.worker(2);
    assert_eq!((story.revokes(w1).len(), story.revokes(w2).len()), (0, 1));
    story.pass(Duration::from_millis(300));
    assert_eq!(story.revokes(w1).len(), 0, "w2 may be about to answer");
    story.pass(LONG);
    assert_eq!((story.revokes(w1).len(), story.revokes(w2).len()), (1, 1));
    story.give_back_all(w1);
    assert!(story.held(w3) > 0);
    // what w2 says in the end is as good as ever
    story.give_back_all(w2);
    story.run_to_the_end(job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_revoke_that_is_answered_late_is_waited_for_again_the_next_time() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(1000)
    });
    let w3 = story.worker(2);
    story.pass(LONG);
    story.give_back_all(w1);
    story.give_back_all(w2);
    while story.held(w3) > 0 {
        story.finish(w3, job, TASK);
    }
    assert_eq!((story.revokes(w1).len(), story.revokes(w2).len()), (0, 1));
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..1])], TASK);
    assert_eq!(story.revokes(w1).len(), 0, "w2 may be about to answer");
}

#[test]
fn what_a_straggler_of_an_idempotent_job_holds_is_granted_elsewhere_too() {
    let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
    story.finish(w2, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.view(job).done, 10);
    assert!(!story.mail(w1).open.contains(&job), "w1 need not go on");
}

#[test]
fn a_task_gets_one_twin_at_the_most() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(40));
    let job = story.submit(idempotent_job(42));
    run_around(&mut story, &[w1], job);
    story.pass(10 * LONG);
    assert_eq!((story.held(w1), story.held(w2) + story.held(w3)), (1, 1));
}

#[test]
fn a_straggler_runs_nothing_twice_itself() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(1));
    let job = story.submit(idempotent_job(3));
    let first = story.grant(w1, job);
    story.report(w1, job, vec![(first.grant, vec![0..1])], TASK);
    story.finish(w2, job, TASK);
    story.pass(LONG);
    assert_eq!((story.held(w1), story.grants(w2)), (2, vec![1..2]));
}

#[test]
fn a_job_that_is_not_idempotent_waits_for_its_stragglers() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(1));
    let job = story.submit(kernel_job(10));
    run_around(&mut story, &[w1, w3], job);
    story.pass(10 * LONG);
    story.finish(w3, job, TASK);
    story.pass(10 * LONG);
    assert_eq!((story.held(w1), story.held(w2) + story.held(w3)), (1, 0));
}

#[test]
fn who_takes_a_little_longer_than_others_is_no_straggler() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(idempotent_job(10));
    for _ in 0..9 {
        story.finish(w2, job, 100 * TASK);
    }
    story.pass(Duration::from_secs(19));
    assert_eq!((story.held(w1), story.held(w2)), (1, 0));
    story.pass(Duration::from_secs(2));
    assert_eq!((story.held(w1), story.held(w2)), (1, 1));
}

#[test]
fn nothing_is_run_twice_while_anybody_has_a_backlog() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..idempotent_job(40)
    });
    story.finish(w2, job, TASK);
    assert_eq!(story.revokes(w1).len(), 1);
    story.pass(Duration::from_millis(400));
    story.give_back_all(w1);
    assert_eq!((story.held(w1), story.held(w2)), (10, 10));
    story.pass(LONG);
    assert_eq!((story.held(w1), story.held(w2)), (10, 10), "no slot is idle");
    story.finish(w2, job, TASK);
    assert_eq!(story.revokes(w1).len(), 1);
    story.pass(Duration::from_millis(400));
    assert_eq!(story.held(w2), 0, "w1 may be about to answer");
    story.give_back_all(w1);
    assert_eq!((story.held(w1), story.held(w2)), (5, 5));
}

#[test]
fn one_slot_in_twenty_runs_what_others_run() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(10), story.worker(50));
    let job = story.submit(idempotent_job(60));
    story.finish(w2, job, TASK);
    story.pass(LONG);
    assert_eq!((story.held(w1), story.held(w2)), (10, 3));
    // those that won make room for others at once, though w1 does not say a word
    for left in [3, 3, 1] {
        story.finish(w2, job, TASK);
        assert_eq!(story.held(w2), left);
    }
    story.finish(w2, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn tiny_tasks_are_run_twice_by_the_message_not_one_by_one() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..idempotent_job(20_000)
    });
    story.finish(w2, job, 1000);
    // w1 does not answer the revoke
    story.pass(2 * LONG);
    assert_eq!((story.held(w1), story.held(w2)), (10_000, 5000));
}

#[test]
fn the_slower_twin_counts_for_nothing() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(2));
    let job = story.submit(idempotent_job(12));
    run_around(&mut story, &[w1, w3], job);
    story.pass(LONG);
    assert_eq!((story.grants(w2), story.grants(w3)), (vec![0..1], vec![2..4]));
    let third = take_grant(&mut story, w3, job);
    story.report(w3, job, vec![(third.grant, vec![2..3])], TASK);
    story.finish(w2, job, TASK);
    assert_eq!((story.view(job).done, story.held(w2)), (11, 0));
    // the slot of w1 is not free before it says so
    story.lose(w3);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![3..4]));
    let records = story.ended(job).len();
    story.finish(w1, job, TASK);
    assert_eq!(story.ended(job).len(), records, "it had ended before");
    story.lose(w2);
    story.mail(w2).grants.clear();
    assert_eq!(story.grants(w1), [3..4], "now it is");
    story.finish(w1, job, TASK);
    assert_eq!(story.view(job).done, 12);
}

#[test]
fn a_task_does_not_wait_again_while_its_twin_runs() {
    for loses_the_first in [true, false] {
        let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
        let (lost, left) = if loses_the_first { (w1, w2) } else { (w2, w1) };
        story.lose(lost);
        story.mail(lost).grants.clear();
        let grants = story.grant_count();
        let w3 = story.worker(1);
        assert_eq!((story.grants(left), story.grants(w3)), (vec![0..1], vec![]));
        assert_eq!(story.grant_count(), grants);
        story.finish(left, job, TASK);
        assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    }
}

#[test]
fn a_task_gets_another_twin_when_it_has_none_left() {
    let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
    let w3 = story.worker(1);
    story.lose(w1);
    story.mail(w1).grants.clear();
    story.pass(LONG);
    assert_eq!((story.grants(w2), story.grants(w3)), (vec![0..1], vec![0..1]));
    story.finish(w3, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn the_error_of_one_twin_is_one_try() {
    let spec = JobSpec {
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..idempotent_job(10)
    };
    let (mut story, w1, w2, job) = story_of_twins(spec);
    let failed = take_grant(&mut story, w2, job);
    story.fail(w2, job, failed.grant, &[0]);
    story.pass(Duration::from_millis(100));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![]));
    assert_eq!(story.view(job).failed, 0);
    let failed = take_grant(&mut story, w1, job);
    story.fail(w1, job, failed.grant, &[0]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let message = &story.view(job).first_failures[0].message;
    assert!(message.contains("it ran 2 times"), "{message}");
}

#[test]
fn who_ends_first_decides_also_if_that_is_a_failure() {
    let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
    let failed = take_grant(&mut story, w2, job);
    story.fail(w2, job, failed.grant, &[0]);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    story.finish(w1, job, TASK);
    assert_eq!((story.view(job).done, story.view(job).failed), (9, 1));
}

#[test]
fn a_crash_of_one_twin_is_blamed_once_and_leaves_the_other_running() {
    let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
    story.host_dies(w2, job, &[0], FailureCause::Crash);
    story.pass(LONG);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![]));
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    let held = |story: &Story| story.held(w1) + story.held(w2);
    assert_eq!(held(&story), 1, "it runs alone");
    story.pass(10 * LONG);
    assert_eq!(held(&story), 1, "nor does a suspect get a twin");
    let runs_it = if story.held(w1) > 0 { w1 } else { w2 };
    story.host_dies(runs_it, job, &[0], FailureCause::Crash);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    let message = &story.view(job).first_failures[0].message;
    assert!(message.contains("3 times"), "{message}");
}

#[test]
fn a_task_that_is_failed_for_its_crashes_ends_in_its_twin_too() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(1));
    let job = story.submit(fragile_job(12));
    run_around(&mut story, &[w1, w3], job);
    story.pass(LONG);
    assert_eq!(story.grants(w2), [0..1]);
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    assert_eq!(story.view(job).failed, 1);
    story.finish(w2, job, TASK);
    story.finish(w3, job, TASK);
    assert_eq!((story.view(job).done, story.view(job).failed), (11, 1));
}

#[test]
fn a_host_that_dies_of_a_task_that_has_ended_elsewhere_harms_nobody() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(1));
    let job = story.submit(fragile_job(12));
    run_around(&mut story, &[w1, w3], job);
    story.pass(LONG);
    story.finish(w2, job, TASK);
    let records = story.records().len();
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    assert_eq!(story.records().len(), records);
    assert_eq!(story.view(job).done, 11);
    story.finish(w3, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_task_is_not_failed_for_the_loss_of_its_worker_while_its_twin_runs() {
    let spec = JobSpec {
        retries: Retries {
            lost_limit: Some(1),
            ..Retries::default()
        },
        ..idempotent_job(10)
    };
    let (mut story, w1, w2, job) = story_of_twins(spec);
    story.lose(w1);
    story.mail(w1).grants.clear();
    assert_eq!((story.outcome(job), story.grants(w2)), (None, vec![0..1]));
    story.lose(w2);
    // until then the worker may come back and say that it is done
    story.pass(Duration::from_secs(4));
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
}

#[test]
fn the_loss_of_a_worker_is_not_counted_for_what_ended_elsewhere() {
    let spec = JobSpec {
        retries: Retries {
            lost_limit: Some(1),
            ..Retries::default()
        },
        ..idempotent_job(12)
    };
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(1));
    let job = story.submit(spec);
    run_around(&mut story, &[w1, w3], job);
    story.pass(LONG);
    story.finish(w2, job, TASK);
    assert_eq!(story.view(job).done, 11);
    story.lose(w1);
    story.mail(w1).grants.clear();
    story.run_to_the_end(job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn what_a_straggler_gives_back_after_all_does_not_wait_if_its_twin_runs() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..idempotent_job(4)
    });
    story.finish(w2, job, TASK);
    assert_eq!((story.grants(w1), story.revokes(w1).len()), (vec![0..2], 1));
    story.pass(2 * LONG);
    assert_eq!(story.grants(w2), [0..1]);
    story.finish(w2, job, TASK);
    story.pass(LONG);
    assert_eq!(story.grants(w2), [1..2]);
    story.give_back_all(w1);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![1..2]));
    story.finish(w2, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_failed_task_that_is_wanted_again_is_tried_by_the_twin_that_still_runs() {
    let mut story = Story::new();
    let (w1, w2, w3) = (story.worker(1), story.worker(1), story.worker(1));
    let job = story.submit(idempotent_job(12));
    for _ in 0..10 {
        story.finish(w2, job, TASK);
    }
    story.pass(LONG);
    let failed = take_grant(&mut story, w2, job);
    assert_eq!(failed.range, 0..1);
    story.fail(w2, job, failed.grant, &[0]);
    story.retry_as("ada", false, job);
    story.finish(w3, job, TASK);
    assert_eq!((story.grants(w1), story.held(w3)), (vec![0..1], 0));
    assert!(!story.grants(w2).contains(&(0..1)));
    story.finish(w1, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_merged_value_in_which_the_slower_twin_took_part_is_made_again_without_it() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        idempotent: true,
        feeding: Feeding::Static,
        ..reducing_job(4)
    });
    story.finish(w2, job, TASK);
    story.pass(2 * LONG);
    story.finish(w2, job, TASK);
    story.give_back_nothing(w1);
    let granted = take_grant(&mut story, w1, job);
    story.report_blocks(w1, job, vec![(granted.grant, vec![0..2])], vec![0..2], TASK);
    story.run_to_the_end(job, TASK);
    let blocks = story.ended(job).into_iter().flat_map(|(_, results)| results);
    let kept: Vec<IndexRange> = blocks.flat_map(|block| block.keep).collect();
    assert_eq!(kept, [2..4, 0..1, 1..2].map(IndexRange::from));
}

#[test]
fn a_job_that_lost_its_idle_slots_gets_one_to_speculate() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(idempotent_job(2));
    story.finish(w2, job, TASK);
    let other = story.submit(kernel_job(1));
    assert_eq!((story.slots(w2, job), story.slots(w2, other)), (0, 1));
    story.pass(LONG);
    assert_eq!(story.grants(w1), [0..1]);
    story.finish(w2, other, TASK);
    story.pass(LONG);
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![0..1]));
    story.finish(w2, job, TASK);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_worker_that_comes_back_is_told_to_drop_what_its_twin_runs() {
    let (mut story, w1, w2, job) = story_of_twins(idempotent_job(10));
    let granted = take_grant(&mut story, w1, job);
    story.lose(w1);
    let w3 = story.worker(1);
    let held = vec![crate::story::held(&granted)];
    story.join(7, Some(w1), crate::story::node(1), held);
    assert_eq!(story.revokes(w1).len(), 1);
    story.finish(w2, job, TASK);
    let ends = |record: &Record| matches!(record, Record::JobFinished { .. });
    assert_eq!(story.records().iter().filter(|record| ends(record)).count(), 1);
    assert_eq!(story.held(w3), 0);
}
