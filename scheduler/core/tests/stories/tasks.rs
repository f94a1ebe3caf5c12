//! What becomes of tasks: by ranges, as far as a page goes.

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::limits::USAGE_TASKS_MAX;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::record::Record;
use phalanx_protocol::view::{TASKS_PAGE_MAX, TaskRange, TaskState};
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, Retries, TaskUsage, Term, Usage, UsageSum};
use phalanx_scheduler_core::Core;

use crate::nonsense::random_story;
use crate::story::{Story, command_job, kernel_job};

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(tasks)
    }
}

fn tasks(story: &Story, job: JobId) -> Vec<(std::ops::Range<u64>, TaskState)> {
    let page = story
        .core
        .tasks(job, IndexRange::new(0, u64::MAX))
        .expect("the job is durable");
    assert_eq!(page.next, story.view(job).tasks);
    let told = page.tasks.into_iter();
    told.map(|told| (told.range.start..told.range.end, told.state))
        .collect()
}

#[test]
fn each_task_is_in_one_place() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..kernel_job(100)
    });
    let running = TaskState::Running;
    assert_eq!(
        tasks(&story, job),
        [(0..2, running), (2..100, TaskState::Waiting)]
    );
    let grant = story.grant(w1, job).grant;
    story.fail(w1, job, grant, &[0]);
    assert_eq!(tasks(&story, job)[0], (0..1, TaskState::Resting));
    story.fail_for(FailureCause::Input, w1, job, grant, &[1]);
    let failed = TaskState::Failed(Some(FailureCause::Input));
    assert_eq!(tasks(&story, job)[1], (1..2, failed));
    story.cancel_as("ada", false, job);
    let unrun = TaskState::Unrun;
    assert_eq!(
        tasks(&story, job),
        [(0..1, unrun), (1..2, failed), (2..100, unrun)]
    );
}

#[test]
fn what_has_ended_is_shown_as_such_once_it_is_durable() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(10));
    let grant = story.grant(w1, job).grant;
    story.storage_slows_down();
    story.report(w1, job, vec![(grant, vec![0..4])], 1000);
    let (running, granted) = ((4..5, TaskState::Running), (5..10, TaskState::Granted));
    let ending = (0..4, TaskState::Ending);
    assert_eq!(tasks(&story, job), [ending, running.clone(), granted.clone()]);
    story.storage_catches_up();
    let succeeded = (0..4, TaskState::Succeeded);
    assert_eq!(tasks(&story, job), [succeeded, running, granted]);
}

#[test]
fn tasks_that_wait_for_their_counterparts_are_told_apart() {
    let mut story = Story::new();
    let first = story.submit(whole(4));
    let second = story.submit(JobSpec {
        dependency: Some(Dependency {
            joined: Joined::All,
            conditions: vec![Condition::AfterCorresponding(first)],
            never: Never::Stay,
        }),
        ..kernel_job(4)
    });
    assert_eq!(tasks(&story, first), [(0..4, TaskState::Waiting)]);
    assert_eq!(tasks(&story, second), [(0..4, TaskState::Blocked)]);
}

#[test]
fn a_billion_tasks_in_pieces_come_by_pages() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(1_000_000_000));
    let grant = story.grant(w1, job).grant;
    let every_other = (0..5000).map(|index| 2 * index..2 * index + 1);
    story.report(w1, job, vec![(grant, every_other.collect())], 1000);
    let all = IndexRange::new(0, u64::MAX);
    let first = story.core.tasks(job, all).expect("the job is durable");
    assert_eq!(first.tasks.len(), TASKS_PAGE_MAX);
    let mut pages = vec![first];
    while pages.last().is_some_and(|page| page.next < 1_000_000_000) {
        let from = pages.last().map_or(0, |page| page.next);
        pages.extend(story.core.tasks(job, IndexRange { start: from, ..all }));
        assert!(pages.len() < 10);
    }
    let ranges: Vec<_> = pages.into_iter().flat_map(|page| page.tasks).collect();
    assert_eq!(ranges.len(), 10_000);
    let mut pairs = ranges.iter().zip(&ranges[1..]);
    assert!(pairs.all(|(one, next)| one.range.end == next.range.start));
    let last = ranges[9999];
    assert_eq!(
        (ranges[0].state, ranges[1].state),
        (TaskState::Succeeded, TaskState::Running)
    );
    assert_eq!(
        (last.range, last.state),
        (IndexRange::new(9999, 1_000_000_000), TaskState::Granted)
    );
}

#[test]
fn pages_of_any_job_have_no_gaps() {
    for seed in 0..8 {
        let story = random_story(seed, 200);
        for view in story.core.jobs() {
            let mut from = 0;
            while from < view.tasks {
                let asked = IndexRange::new(from, view.tasks);
                let page = story.core.tasks(view.job, asked).expect("the job is durable");
                for told in page.tasks {
                    let range = told.range;
                    assert!(range.start == from && !range.is_empty(), "seed {seed}");
                    from = range.end;
                }
                assert_eq!(page.next, from, "seed {seed}");
            }
        }
    }
    assert_eq!(Story::new().core.tasks(JobId(3), IndexRange::new(0, 1)), None);
}

#[test]
fn of_a_command_it_is_known_where_and_when_it_ran_and_how_often() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(JobSpec {
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..command_job(4)
    });
    let all = IndexRange::new(0, 4);
    let page = |story: &Story| story.core.tasks(job, all).expect("the job is durable").tasks;
    let granted = story.now().unix_millis;
    let first = page(&story)[0];
    assert_eq!((first.state, first.worker), (TaskState::Running, Some(w1)));
    let began = first.started_unix_millis.expect("it was granted now");
    assert!(began.abs_diff(granted) <= 2, "{began} {granted}");
    story.wait(60_000);
    story.finish(w2, job, 60_000_000_000);
    story.fail_first(w1, job);
    assert_eq!(page(&story)[0].state, TaskState::Resting);
    story.wait(1000);
    story.finish(w1, job, 60_000_000_000);
    story.finish(w2, job, 60_000_000_000);
    story.run_to_the_end(job, 60_000_000_000);
    let ended = page(&story);
    let of = |index: u64| {
        let mut told = ended.iter();
        *told
            .find(|told| told.range.start <= index && index < told.range.end)
            .expect("each task is in a page")
    };
    assert!(
        ended
            .iter()
            .all(|told| told.state == TaskState::Succeeded && told.worker.is_some())
    );
    let millis = |of: TaskRange| of.ended_unix_millis.unwrap() - of.started_unix_millis.unwrap();
    assert_eq!((of(1).worker, of(1).restarts), (Some(w2), 0));
    assert!((60_000..60_010).contains(&millis(of(1))), "{:?}", of(1));
    assert_eq!(of(0).restarts, 1);
}

#[test]
fn a_task_that_is_run_again_has_not_ended() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..command_job(3)
    });
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..1])], 1000);
    story.fail(w1, job, grant, &[1]);
    story.report(w1, job, vec![(grant, vec![2..3])], 1000);
    story.mail(w1).grants.clear();
    story.retry_as("ada", false, job);
    let page = story
        .core
        .tasks(job, IndexRange::new(0, 3))
        .expect("the job is durable");
    let ended: Vec<bool> = page
        .tasks
        .iter()
        .map(|told| told.ended_unix_millis.is_some())
        .collect();
    assert_eq!(ended, [true, false, true], "{page:?}");
    assert_eq!(page.tasks[1].state, TaskState::Running);
}

fn used(index: u64, rss_kib: u64) -> TaskUsage {
    TaskUsage {
        index,
        ran_millis: 40,
        user_micros: 1000,
        system_micros: 10,
        rss_kib,
    }
}

/// What the records of a story say was used.
fn recorded(story: &Story) -> Vec<Usage> {
    let mut said = Vec::new();
    for record in story.records() {
        if let Record::TasksEnded { usage, .. } = record {
            said.push(usage);
        }
    }
    said
}

/// What is known once its records were read back.
fn read_back(story: &Story) -> Story {
    let mut core = Core::new(Term(2));
    for record in story.records() {
        assert!(core.replay(Term(1), &record));
    }
    let snapshot = core.snapshot();
    assert!(!snapshot.jobs.is_empty());
    Story::with(Core::restore(Term(3), snapshot))
}

#[test]
fn what_tasks_used_and_when_they_ran_outlives_the_leader() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..command_job(4)
    });
    let grant = story.grant(w1, job).grant;
    story.pass(std::time::Duration::from_secs(1));
    // nothing is known of 0, and nobody asked of 3
    story.usage = vec![used(3, 9999), used(1, 70)];
    story.report(w1, job, vec![(grant, vec![0..2])], 1000);
    story.usage = vec![used(2, 50)];
    story.fail_for(FailureCause::Exit(1), w1, job, grant, &[2]);
    story.run_to_the_end(job, 1000);
    let after = read_back(&story);
    for (story, leads) in [(&story, "the same leader"), (&after, "another leader")] {
        let page = story.core.tasks(job, IndexRange::new(0, 4)).unwrap();
        let told: Vec<_> = page
            .tasks
            .iter()
            .map(|told| (told.range.start, told.usage))
            .collect();
        let expected = [(1, Some(used(1, 70))), (2, Some(used(2, 50))), (3, None)];
        assert_eq!(told[told.len() - 3..], expected, "{leads}");
        for told in page.tasks.iter().filter(|told| told.usage.is_some()) {
            let (started, ended) = (told.started_unix_millis.unwrap(), told.ended_unix_millis.unwrap());
            assert_eq!(ended - started, 40, "{leads}");
            assert!(started > 900, "{leads}: {told:?}");
        }
        let sum = story.view(job).usage.unwrap();
        assert_eq!(
            (sum.tasks, sum.user_micros, sum.rss_kib_max, sum.rss_task),
            (2, 2000, 70, 1),
            "{leads}"
        );
    }
    assert_eq!(after.view(job).usage, story.view(job).usage);
    assert!(after.view(job).started_unix_millis.is_some());
}

#[test]
fn of_a_large_job_only_the_sum_is_kept() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let tasks = USAGE_TASKS_MAX + 1;
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..command_job(tasks)
    });
    let grant = story.grant(w1, job).grant;
    story.usage = (0..tasks).map(|index| used(index, index)).collect();
    story.report(w1, job, vec![(grant, vec![0..1000])], 1000);
    let [
        Usage::Sum(UsageSum {
            tasks: 1000,
            rss_task: 999,
            ..
        }),
    ] = recorded(&story)[..]
    else {
        panic!("{:?}", recorded(&story));
    };
    let page = story.core.tasks(job, IndexRange::new(0, tasks)).unwrap();
    assert!(page.tasks.iter().all(|told| told.usage.is_none()));
    assert_eq!(read_back(&story).view(job).usage, story.view(job).usage);
}

#[test]
fn what_a_cancelled_task_used_is_known_once_it_has_ended() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..command_job(3)
    });
    story.cancel_tasks_as("ada", false, job, &[0..1, 2..3]);
    story.usage = vec![used(0, 70), used(1, 9999)];
    story.stops_killed(w1);
    let usages = |story: &Story| {
        let page = story.core.tasks(job, IndexRange::new(0, 3)).unwrap();
        let told = page.tasks.iter();
        told.map(|told| (told.range.start, told.state, told.usage))
            .collect::<Vec<_>>()
    };
    let expected = [
        (0, TaskState::Cancelled, Some(used(0, 70))),
        (1, TaskState::Running, None),
        (2, TaskState::Cancelled, None),
    ];
    assert_eq!(usages(&story), expected);
    // told twice, it counts once
    let records = recorded(&story).len();
    story.usage = vec![used(0, 70)];
    let grant = story.grant(w1, job).grant;
    story.fail_for(FailureCause::Signal(15), w1, job, grant, &[0]);
    assert_eq!(recorded(&story).len(), records);
    story.run_to_the_end(job, 1000);
    let after = read_back(&story);
    assert_eq!(usages(&after), usages(&story));
    assert_eq!(after.view(job).usage.map(|sum| sum.tasks), Some(1));
}

#[test]
fn a_task_that_runs_again_shows_its_last_run_and_its_job_both() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(command_job(1));
    let grant = story.grant(w1, job).grant;
    story.usage = vec![used(0, 70)];
    story.fail_for(FailureCause::Exit(1), w1, job, grant, &[0]);
    story.retry_as("ada", false, job);
    let usage = |story: &Story| story.core.tasks(job, IndexRange::new(0, 1)).unwrap().tasks[0].usage;
    assert_eq!(usage(&story), None);
    let grant = story.grant(w1, job).grant;
    story.usage = vec![used(0, 50)];
    story.report(w1, job, vec![(grant, vec![0..1])], 1000);
    assert_eq!(usage(&story), Some(used(0, 50)));
    let sum = story.view(job).usage.unwrap();
    assert_eq!((sum.tasks, sum.rss_kib_max), (2, 70));
}
