//! Tasks that were run in vain: they rest and are run again, suspects run alone, and in the end they have failed.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, Retries};
use phalanx_scheduler_core::Effect;

use crate::story::{Story, command_job, held, kernel_job, node};

fn whole(tasks: u64, retries: Retries) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        retries,
        ..kernel_job(tasks)
    }
}

fn errors(errors: u32) -> Retries {
    Retries {
        errors,
        ..Retries::default()
    }
}

fn message(story: &Story, job: phalanx_protocol::JobId) -> String {
    let view = story.view(job);
    assert_eq!(view.first_failures.len(), 1, "{:?}", view.first_failures);
    view.first_failures[0].message.clone()
}

#[test]
fn a_task_that_fails_rests_longer_each_time_and_is_run_again() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1, errors(2)));
    assert_eq!(story.fail_first(w1, job), 0);
    let view = story.view(job);
    assert_eq!((view.failed, view.resting, view.outcome), (0, 1, None));
    let verdict = story.core.explain(job).expect("the job is known").verdict;
    assert_eq!(verdict, Verdict::Resting);
    story.wait(900);
    assert_eq!(story.held(w1), 0, "it rests for a second");
    story.wait(150);
    assert_eq!(story.held(w1), 1);
    story.fail_first(w1, job);
    story.wait(1900);
    assert_eq!(story.held(w1), 0, "and then for two");
    story.wait(150);
    story.finish(w1, job, 1000);
    let view = story.view(job);
    assert_eq!((view.outcome, view.resting), (Some(Outcome::Succeeded), 0));
}

#[test]
fn the_core_wants_to_be_told_when_a_rest_is_over() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1, errors(1)));
    story.wait(100);
    assert_eq!(story.core.next_deadline(), None);
    story.fail_first(w1, job);
    let deadline = story.core.next_deadline().expect("a rest ends");
    let rest = deadline - story.now().elapsed;
    assert!(
        rest > Duration::from_millis(990) && rest < Duration::from_millis(1020),
        "{rest:?}"
    );
}

#[test]
fn a_task_that_fails_too_often_says_how_often_it_ran() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1, errors(1)));
    story.fail_first(w1, job);
    story.wait(1100);
    story.fail_first(w1, job);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
    assert_eq!(
        message(&story, job),
        "index 0 is not to my liking (it ran 2 times)"
    );
}

#[test]
fn bad_inputs_and_results_are_not_tried_again() {
    for cause in [FailureCause::Input, FailureCause::Result] {
        let mut story = Story::new();
        let w1 = story.worker(1);
        let job = story.submit(whole(1, errors(5)));
        let grant = story.grant(w1, job).grant;
        story.fail_for(cause, w1, job, grant, &[0]);
        assert_eq!(story.outcome(job), Some(Outcome::Failed));
    }
}

#[test]
fn a_failure_that_is_reported_again_counts_once() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1, errors(1)));
    let grant = story.grant(w1, job).grant;
    story.fail(w1, job, grant, &[0]);
    story.fail(w1, job, grant, &[0]);
    assert_eq!((story.view(job).failed, story.view(job).resting), (0, 1));
}

#[test]
fn failures_that_are_tried_again_do_not_count_against_the_most_a_job_bears() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        failures_max: Some(0),
        ..whole(10, errors(1))
    });
    story.fail_first(w1, job);
    assert_eq!(story.outcome(job), None);
}

#[test]
fn a_hundred_thousand_tasks_that_fail_at_once_wait_again_as_one_range() {
    const TASKS: u64 = 100_000;
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(TASKS, errors(1)));
    let grant = story.grant(w1, job).grant;
    story.mail(w1).grants.clear();
    let all: Vec<u64> = (0..TASKS).collect();
    story.fail(w1, job, grant, &all);
    assert_eq!(story.view(job).resting, TASKS);
    story.wait(1100);
    assert_eq!(story.grants(w1), [0..TASKS]);
    story.finish(w1, job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_task_that_kills_its_host_costs_only_itself() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(whole(10, Retries::default()));
    for death in 1..=3 {
        assert_eq!(story.outcome(job), None, "death {death}");
        // 4 runs, whatever runs beside it
        let held = story.grants(w1);
        assert!(held.iter().any(|range| range.contains(&4)), "{held:?}");
        story.host_dies(w1, job, &[4], FailureCause::Crash);
        story.wait(100);
        if death == 1 {
            assert_eq!(
                story.grants(w1),
                [0..4, 5..10],
                "the suspect waits for the others"
            );
            story.finish(w1, job, 1000);
        }
    }
    let view = story.view(job);
    assert_eq!(
        (view.outcome, view.done, view.failed),
        (Some(Outcome::Failed), 9, 1)
    );
    assert_eq!(
        message(&story, job),
        "poisoned: index 4 killed its kernel host 3 times: signal 11 (SIGSEGV)"
    );
    assert_eq!(view.first_failures[0].cause, FailureCause::Crash);
}

#[test]
fn suspects_run_alone_so_that_the_innocent_are_cleared() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(whole(2, Retries::default()));
    story.host_dies(w1, job, &[0, 1], FailureCause::Crash);
    story.wait(100);
    assert_eq!(
        story.grants(w1),
        [0..1],
        "one at a time, though there are two slots"
    );
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    story.wait(100);
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    story.wait(100);
    assert_eq!(story.view(job).failed, 1);
    assert_eq!(story.grants(w1), [1..2]);
    story.finish(w1, job, 1000);
    assert_eq!((story.view(job).done, story.view(job).failed), (1, 1));
}

#[test]
fn nothing_is_granted_beside_a_suspect() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(whole(3, errors(1)));
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    story.wait(100);
    assert_eq!(story.fail_first(w1, job), 1);
    story.finish(w1, job, 1000);
    assert_eq!(story.grants(w1), [0..1], "the rest is done or rests");
    story.wait(1100);
    assert_eq!(story.grants(w1), [0..1], "1 has rested, and there is a free slot");
    story.finish(w1, job, 1000);
    assert_eq!(story.grants(w1), [1..2]);
}

#[test]
fn several_workers_run_one_suspect_each() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(whole(2, Retries::default()));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..1], vec![1..2]));
    story.host_dies(w1, job, &[0], FailureCause::Crash);
    story.host_dies(w2, job, &[1], FailureCause::Crash);
    story.wait(100);
    assert_eq!((story.held(w1), story.held(w2)), (1, 1));
}

#[test]
fn who_is_not_there_is_not_blamed() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(whole(
        10,
        Retries {
            crash_limit: 1,
            ..Retries::default()
        },
    ));
    assert_eq!((story.grants(w1), story.grants(w2)), (vec![0..5], vec![5..10]));
    story.host_dies(w1, job, &[7, 99, u64::MAX], FailureCause::Crash);
    assert_eq!(story.view(job).failed, 0);
    story.wait(100);
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn deaths_that_blame_a_task_do_not_break_the_job() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(
        8,
        Retries {
            crash_limit: 2,
            ..Retries::default()
        },
    ));
    for _ in 0..16 {
        let running = story.grants(w1)[0].start;
        story.host_dies(w1, job, &[running], FailureCause::Crash);
        story.wait(100);
    }
    let view = story.view(job);
    assert_eq!((view.outcome, view.failed), (Some(Outcome::Failed), 8));
}

#[test]
fn a_task_that_uses_too_much_memory_is_failed_for_that() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(
        1,
        Retries {
            crash_limit: 2,
            ..Retries::default()
        },
    ));
    for _ in 0..2 {
        story.host_dies(w1, job, &[0], FailureCause::Memory);
        story.wait(100);
    }
    assert_eq!(message(&story, job), "used 9.1 GiB of 8 GiB, 2 times");
    assert_eq!(story.view(job).first_failures[0].cause, FailureCause::Memory);
}

#[test]
fn a_task_that_takes_too_long_is_failed_at_once_unless_it_may_try_again() {
    for timeouts in [0, 1] {
        let mut story = Story::new();
        let w1 = story.worker(1);
        let job = story.submit(whole(
            2,
            Retries {
                timeouts,
                ..Retries::default()
            },
        ));
        story.host_dies(w1, job, &[0], FailureCause::TimeLimit);
        assert_eq!(story.view(job).failed, 1 - u64::from(timeouts));
        story.wait(2000);
        story.finish(w1, job, 1000);
        if timeouts > 0 {
            assert_eq!(story.grants(w1), [0..1]);
            story.host_dies(w1, job, &[0], FailureCause::TimeLimit);
            assert_eq!(message(&story, job), "ran longer than 5 s, 2 times");
        }
    }
}

#[test]
fn tasks_that_lose_their_workers_are_failed_where_that_is_limited() {
    for (lost_limit, failed) in [(None, 0), (Some(2), 2)] {
        let mut story = Story::new();
        let job = story.submit(whole(
            10,
            Retries {
                lost_limit,
                ..Retries::default()
            },
        ));
        for _ in 0..2 {
            let w1 = story.worker(2);
            assert_eq!(story.held(w1), 10);
            story.lose(w1);
        }
        let w1 = story.worker(2);
        assert_eq!(
            story.held(w1),
            10 - failed,
            "those at the front, one for each slot"
        );
        assert_eq!(story.view(job).failed, 0, "their worker may yet come back");
        story.wait(3100);
        assert_eq!(story.view(job).failed, failed);
    }
}

#[test]
fn a_worker_that_comes_back_has_lost_nothing_however_often_it_goes() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(whole(
        10,
        Retries {
            lost_limit: Some(1),
            ..Retries::default()
        },
    ));
    let granted = story.grant(w1, job);
    for _ in 0..3 {
        story.lose(w1);
        story.wait(2000);
        story.join(1, Some(w1), node(2), vec![held(&granted)]);
    }
    story.wait(10_000);
    assert_eq!((story.view(job).failed, story.held(w1)), (0, 10));
    story.finish(w1, job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn another_process_under_a_lost_workers_id_does_not_bring_its_tasks_back() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(whole(
        10,
        Retries {
            lost_limit: Some(1),
            ..Retries::default()
        },
    ));
    story.lose(w1);
    story.join(2, Some(w1), node(2), Vec::new());
    story.wait(3100);
    assert_eq!(story.view(job).failed, 2);
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Failed));
}

#[test]
fn a_late_report_of_a_task_that_took_too_long_does_not_let_it_rest_where_it_waits() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let retries = Retries {
        timeouts: 3,
        ..Retries::default()
    };
    let job = story.submit(whole(10, retries));
    let grant = story.grant(w1, job).grant;
    story.lose(w1);
    story.fail_for(FailureCause::TimeLimit, w1, job, grant, &[4]);
    assert_eq!((story.view(job).resting, story.view(job).failed), (0, 0));
}

/// How often a worker was told that what it was granted last of each task had run before.
fn restarts(story: &Story, job: JobId) -> BTreeMap<(u64, u64), u32> {
    let grants = story.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            message:
                ToWorker::Grant {
                    job: of,
                    range,
                    restarts,
                    ..
                },
            ..
        } if *of == job => Some((range.start, range.end, *restarts)),
        _ => None,
    });
    grants
        .map(|(start, end, restarts)| ((start, end), restarts))
        .collect()
}

#[test]
fn a_command_that_ran_before_is_granted_alone_and_told_how_often() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        retries: errors(3),
        ..command_job(10)
    });
    let grant = story.grant(w1, job).grant;
    story.fail(w1, job, grant, &[3, 4]);
    let w2 = story.worker(1);
    story.lose(w1);
    story.mail(w1).grants.clear();
    story.wait(5000);
    story.finish(w2, job, 1000);
    let told = restarts(&story, job);
    let last = [(0, 1), (1, 3), (3, 4), (4, 5), (5, 10)].map(|range| (range, told.get(&range).copied()));
    let last = last.map(|(_, restarts)| restarts);
    assert_eq!(
        last,
        [Some(1), Some(0), Some(1), Some(1), Some(0)],
        "{:?}",
        story.grants(w2)
    );
}
