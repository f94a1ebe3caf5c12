//! What becomes of tasks: by ranges, as far as a page goes.

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::view::{TASKS_PAGE_MAX, TaskRange, TaskState};
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, Retries};

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
