//! Jobs that wait for other jobs: for their start, their end, how they ended, or task by task.

use std::time::Duration;

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, Term, WorkerId};
use phalanx_scheduler_core::Core;

use crate::nonsense::random_story;
use crate::story::{Story, command_job, kernel_job};

fn after(joined: Joined, conditions: &[Condition]) -> JobSpec {
    JobSpec {
        dependency: Some(Dependency {
            joined,
            conditions: conditions.to_vec(),
            never: Never::Stay,
        }),
        feeding: Feeding::Static,
        ..kernel_job(4)
    }
}

fn after_one(condition: Condition) -> JobSpec {
    after(Joined::All, &[condition])
}

fn or_cancelled(mut spec: JobSpec) -> JobSpec {
    if let Some(dependency) = &mut spec.dependency {
        dependency.never = Never::Cancel;
    }
    spec
}

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(tasks)
    }
}

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

/// Lets a job end that a worker holds, with or without a failure.
fn end(story: &mut Story, worker: WorkerId, job: JobId, fails: bool) {
    if fails {
        story.fail_first(worker, job);
    }
    story.finish(worker, job, 1000);
}

/// A leader that has read the records, or the snapshot, of one before it.
fn successors(before: &Story) -> [Story; 2] {
    let mut replayed = Core::new(Term(2));
    let records = before.records();
    records
        .iter()
        .for_each(|record| assert!(replayed.replay(Term(1), record)));
    [replayed, Core::restore(Term(2), before.core.snapshot())].map(|mut core| {
        let mut effects = Vec::new();
        core.start(before.now(), &mut effects);
        core.check();
        let mut story = Story::with(core);
        story.micros = before.micros;
        story.start(effects);
        story
    })
}

#[test]
fn a_job_waits_until_another_is_over_and_says_for_which() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let first = story.submit(whole(2));
    let second = story.submit(after_one(Condition::AfterAny(first)));
    assert_eq!(story.slots(w1, second), 0);
    assert_eq!(verdict(&story, second), Verdict::Dependency { jobs: vec![first] });
    let view = story.view(second);
    assert_eq!((view.waits_for, view.never), (vec![first], false));
    end(&mut story, w1, first, true);
    assert_eq!(
        (story.slots(w1, second), story.view(second).waits_for),
        (4, Vec::new())
    );
}

#[test]
fn how_the_other_ended_decides() {
    for fails in [false, true] {
        let mut story = Story::new();
        let w1 = story.worker(16);
        let first = story.submit(whole(2));
        let ok = story.submit(after_one(Condition::AfterOk(first)));
        let not_ok = story.submit(after_one(Condition::AfterNotOk(first)));
        let strict = story.submit(or_cancelled(after_one(Condition::AfterOk(first))));
        end(&mut story, w1, first, fails);
        let (runs, waits) = if fails { (not_ok, ok) } else { (ok, not_ok) };
        assert_eq!((story.slots(w1, runs), story.slots(w1, waits)), (4, 0));
        let never = Verdict::DependencyNeverSatisfied { jobs: vec![first] };
        assert_eq!((verdict(&story, waits), story.view(waits).never), (never, true));
        let cancelled = Outcome::Cancelled {
            by: "its dependency on job 1".into(),
        };
        assert_eq!(story.outcome(strict), fails.then_some(cancelled));
    }
}

#[test]
fn who_waits_for_a_job_that_is_cancelled_for_its_dependency_is_cancelled_too() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(whole(2));
    let second = story.submit(or_cancelled(after_one(Condition::AfterOk(first))));
    let third = story.submit(or_cancelled(after_one(Condition::AfterOk(second))));
    end(&mut story, w1, first, true);
    assert!(matches!(story.outcome(third), Some(Outcome::Cancelled { .. })));
}

#[test]
fn nothing_starts_on_an_end_that_is_not_durable() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(whole(2));
    let second = story.submit(after_one(Condition::AfterAny(first)));
    story.storage_slows_down();
    end(&mut story, w1, first, false);
    assert_eq!(story.slots(w1, second), 0);
    story.storage_catches_up();
    assert_eq!(story.slots(w1, second), 4);
}

#[test]
fn all_conditions_or_any() {
    let conditions = |story: &mut Story| {
        let jobs = [story.submit(whole(1)), story.submit(whole(1))];
        (jobs, jobs.map(Condition::AfterAny))
    };
    let mut story = Story::new();
    let w1 = story.worker(16);
    let (jobs, conditions) = conditions(&mut story);
    let all = story.submit(after(Joined::All, &conditions));
    let any = story.submit(after(Joined::Any, &conditions));
    assert!(story.view(any).any_of && !story.view(all).any_of);
    let either = [Condition::AfterOk(jobs[0]), Condition::AfterOk(jobs[1])];
    let any_ok = story.submit(or_cancelled(after(Joined::Any, &either)));
    end(&mut story, w1, jobs[0], true);
    assert_eq!((story.slots(w1, all), story.slots(w1, any)), (0, 4));
    assert_eq!(
        (story.view(any_ok).waits_for, story.view(any_ok).never),
        (vec![jobs[1]], false)
    );
    end(&mut story, w1, jobs[1], true);
    assert_eq!(story.slots(w1, all), 4);
    assert!(matches!(story.outcome(any_ok), Some(Outcome::Cancelled { .. })));
}

#[test]
fn a_job_may_wait_for_the_start_of_another_and_a_while_longer() {
    let mut story = Story::new();
    let first = story.submit(whole(4));
    let condition = |delay_millis| Condition::After {
        job: first,
        delay_millis,
    };
    let at_once = story.submit(after_one(condition(0)));
    let later = story.submit(after_one(condition(60_000)));
    story.wait(1000);
    let w1 = story.worker(4);
    let started = story.records();
    let started = started
        .iter()
        .filter(|record| matches!(record, Record::JobStarted { job, .. } if *job == first));
    assert_eq!(started.count(), 1);
    let w2 = story.worker(8);
    assert_eq!((story.slots(w1, first), story.slots(w2, at_once)), (4, 4));
    let mut after = successors(&story);
    after[0].pass(Duration::from_secs(59));
    assert!(matches!(verdict(&after[0], later), Verdict::Dependency { .. }));
    after[0].pass(Duration::from_secs(3));
    assert!(matches!(verdict(&after[0], later), Verdict::NoWorkers));
    story.pass(Duration::from_secs(59));
    assert!(matches!(verdict(&story, later), Verdict::Dependency { .. }));
    story.pass(Duration::from_secs(3));
    assert_eq!(story.slots(w2, later), 4);
}

#[test]
fn the_start_of_a_job_is_written_down_when_somebody_asks_for_it_later() {
    let mut story = Story::new();
    story.worker(4);
    let first = story.submit(whole(100));
    let is_start = |record: &Record| matches!(record, Record::JobStarted { .. });
    assert!(!story.records().iter().any(is_start));
    let after = story.submit(after_one(Condition::After {
        job: first,
        delay_millis: 0,
    }));
    assert!(story.records().iter().any(is_start));
    assert!(matches!(verdict(&story, after), Verdict::Behind { .. }));
}

#[test]
fn jobs_of_one_name_run_one_after_the_other() {
    let mut story = Story::new();
    let w1 = story.worker(16);
    let singleton = after_one(Condition::Singleton);
    let first = story.submit(singleton.clone());
    let second = story.submit(singleton.clone());
    let third = story.submit(singleton.clone());
    let of_bob = story.submit_as("bob", singleton);
    let slots = |story: &Story| [first, second, third, of_bob].map(|job| story.slots(w1, job));
    assert_eq!(slots(&story), [4, 0, 0, 4]);
    assert_eq!(verdict(&story, third), Verdict::Dependency { jobs: vec![second] });
    story.cancel_as("ada", false, second);
    assert_eq!(slots(&story), [4, 0, 0, 4], "the first one is left");
    for mut after in successors(&story) {
        let w2 = after.worker(16);
        after.pass(Duration::from_secs(4));
        assert_eq!((after.slots(w2, first), after.slots(w2, third)), (4, 0));
    }
    end(&mut story, w1, first, false);
    assert_eq!(slots(&story)[2], 4);
}

#[test]
fn corresponding_tasks_start_as_their_counterparts_succeed() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let first = story.submit(whole(6));
    let second = story.submit(JobSpec {
        tasks: 6,
        ..after_one(Condition::AfterCorresponding(first))
    });
    let grant = story.grant(w1, first).grant;
    assert_eq!(verdict(&story, second), Verdict::Dependency { jobs: vec![first] });
    story.report(w1, first, vec![(grant, vec![1..3])], 1000);
    assert_eq!(story.grant(w1, second).range, 1..3);
    story.finish(w1, second, 1000);
    assert_eq!((story.view(second).done, story.slots(w1, second)), (2, 0));
    story.fail(w1, first, grant, &[0]);
    story.report(w1, first, vec![(grant, vec![3..6])], 1000);
    assert_eq!(story.outcome(first), Some(Outcome::Failed));
    assert_eq!(story.grant(w1, second).range, 3..6);
    story.finish(w1, second, 1000);
    let never = Verdict::DependencyNeverSatisfied { jobs: vec![first] };
    assert_eq!((verdict(&story, second), story.view(second).never), (never, true));
    story.retry_as("ada", false, first);
    assert_eq!(verdict(&story, second), Verdict::Dependency { jobs: vec![first] });
    end_again(&mut story, w1, first);
    assert_eq!(story.grant(w1, second).range, 0..1);
    story.finish(w1, second, 1000);
    assert_eq!(story.outcome(second), Some(Outcome::Succeeded));
}

/// The one grant that a worker has just got of a job comes to its end.
fn end_again(story: &mut Story, worker: WorkerId, job: JobId) {
    let grants = &mut story.mail(worker).grants;
    let last = grants.iter().rposition(|granted| granted.job == job);
    let last = grants.remove(last.expect("the worker has tasks of the job"));
    grants.retain(|granted| granted.job != job);
    story.report(worker, job, vec![(last.grant, vec![last.range])], 1000);
}

#[test]
fn a_job_whose_last_tasks_wait_in_vain_is_cancelled_once_the_others_are_done() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let first = story.submit(whole(4));
    let second = story.submit(or_cancelled(after_one(Condition::AfterCorresponding(first))));
    end(&mut story, w1, first, true);
    assert_eq!(
        (story.grant(w1, second).range, story.outcome(second)),
        (1..4, None)
    );
    story.finish(w1, second, 1000);
    assert!(matches!(story.outcome(second), Some(Outcome::Cancelled { .. })));
    assert_eq!(story.view(second).done, 3);
}

#[test]
fn a_new_leader_knows_which_tasks_have_their_counterparts() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let first = story.submit(whole(6));
    let second = story.submit(JobSpec {
        tasks: 6,
        ..after_one(Condition::AfterCorresponding(first))
    });
    let grant = story.grant(w1, first).grant;
    story.report(w1, first, vec![(grant, vec![2..4])], 1000);
    for mut after in successors(&story) {
        let w2 = after.worker(8);
        after.pass(Duration::from_secs(4));
        assert_eq!(after.grant(w2, second).range, 2..4);
        after.run_to_the_end(first, 1000);
        after.run_to_the_end(second, 1000);
        assert_eq!(after.outcome(second), Some(Outcome::Succeeded));
    }
}

#[test]
fn a_job_that_has_started_does_not_wait_again_but_one_that_has_not_does() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let first = story.submit(whole(2));
    let second = story.submit(after_one(Condition::AfterAny(first)));
    let blocker = story.submit(JobSpec {
        priority: 9,
        begin_unix_millis: None,
        ..whole(1)
    });
    let third = story.submit(JobSpec {
        priority: -9,
        ..after_one(Condition::AfterAny(first))
    });
    end(&mut story, w1, first, true);
    story.finish(w1, blocker, 1000);
    assert_eq!((story.slots(w1, second), story.slots(w1, third)), (2, 0));
    story.retry_as("ada", false, first);
    assert_eq!(verdict(&story, third), Verdict::Dependency { jobs: vec![first] });
    let waits = |story: &Story| matches!(verdict(story, second), Verdict::Dependency { .. });
    assert!(!waits(&story));
    for after in successors(&story) {
        assert!(after.view(second).waits_for.is_empty());
        assert_eq!(after.view(third).waits_for, [first]);
    }
}

#[test]
fn a_new_leader_goes_on_waiting_and_cancels_what_is_in_vain() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let first = story.submit(whole(2));
    let second = story.submit(after_one(Condition::AfterAny(first)));
    let third = story.submit(or_cancelled(after_one(Condition::AfterOk(first))));
    for mut after in successors(&story) {
        let w2 = after.worker(8);
        after.pass(Duration::from_secs(4));
        assert_eq!((after.slots(w2, first), after.slots(w2, second)), (2, 0));
    }
    story.storage_slows_down();
    end(&mut story, w1, first, true);
    let durable = |record: &&Record| !matches!(record, Record::JobFinished { .. });
    let mut core = Core::new(Term(2));
    let records = story.records();
    records
        .iter()
        .filter(durable)
        .for_each(|record| assert!(core.replay(Term(1), record)));
    let mut effects = Vec::new();
    core.start(story.now(), &mut effects);
    let mut after = Story::with(core);
    after.start(effects);
    after.storage_catches_up();
    assert_eq!(after.outcome(first), Some(Outcome::Failed));
    assert!(matches!(after.outcome(third), Some(Outcome::Cancelled { .. })));
}

#[test]
fn a_job_that_there_never_was_is_named_and_one_that_is_forgotten_is_over() {
    let mut story = Story::new();
    let asked = story.ask_to_submit("ada", after_one(Condition::AfterAny(JobId(9))));
    assert_eq!(story.refusal(asked), Some(Refusal::NoSuchDependency(JobId(9))));
    let asked = story.ask_to_submit("ada", after_one(Condition::AfterOk(JobId(1))));
    assert_eq!(
        story.refusal(asked),
        Some(Refusal::NoSuchDependency(JobId(1))),
        "itself"
    );
    story.inherit("ada", JobId(20), kernel_job(1));
    let over = story.submit(after_one(Condition::AfterAny(JobId(9))));
    let started = story.submit(after_one(Condition::After {
        job: JobId(9),
        delay_millis: 1,
    }));
    let unknown = story.submit(after_one(Condition::AfterOk(JobId(9))));
    let strict = story.submit(or_cancelled(after_one(Condition::AfterNotOk(JobId(9)))));
    for job in [over, started] {
        assert_eq!(verdict(&story, job), Verdict::NoWorkers);
    }
    let never = Verdict::DependencyNeverSatisfied { jobs: vec![JobId(9)] };
    assert_eq!(verdict(&story, unknown), never);
    assert!(matches!(story.outcome(strict), Some(Outcome::Cancelled { .. })));
}

#[test]
fn a_job_without_tasks_waits_like_any_other() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let first = story.submit(whole(2));
    let second = story.submit(JobSpec {
        tasks: 0,
        ..after_one(Condition::AfterOk(first))
    });
    assert_eq!(story.outcome(second), None);
    end(&mut story, w1, first, false);
    assert_eq!(story.outcome(second), Some(Outcome::Succeeded));
}

/// What a job waits for, and whether it does so in vain.
fn waits(story: &Story, job: JobId) -> (Option<Outcome>, Vec<JobId>, bool) {
    let view = story.view(job);
    (view.outcome, view.waits_for, view.never)
}

/// Another leader, who has read what is durable of a story.
fn next_leader(story: &Story) -> Story {
    let mut core = Core::new(Term(2));
    for record in story.records() {
        assert!(core.replay(Term(1), &record));
    }
    let mut next = Story::with(core);
    let mut effects = Vec::new();
    next.core.start(story.now(), &mut effects);
    next.start(effects);
    next
}

#[test]
fn whoever_leads_next_has_the_same_jobs_wait_for_the_same() {
    // the last three told of jobs that waited under one leader and not under the next
    for seed in (0..30).chain([114, 220, 467]) {
        let mut story = random_story(seed, 300);
        story.storage_catches_up();
        let next = next_leader(&story);
        // what was given to workers of a job that waits task by task is not known before they come back
        let is_by_task = |condition: &Condition| matches!(condition, Condition::AfterCorresponding(_));
        let jobs = story.core.jobs().into_iter();
        for job in
            jobs.filter(|job| job.started_unix_millis.is_none() || !job.conditions.iter().any(is_by_task))
        {
            let (before, after) = (waits(&story, job.job), waits(&next, job.job));
            let conditions = job.conditions;
            assert_eq!(before, after, "seed {seed}, job {}: {conditions:?}", job.job);
        }
    }
}

#[test]
fn a_job_waits_again_for_the_start_of_one_that_goes_on_again() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    // its start is on record
    let first = story.submit(JobSpec {
        time_limit_millis: Some(1_000_000),
        ..whole(1)
    });
    let granted = story.grant(w1, first);
    story.fail(w1, first, granted.grant, &[0]);
    let condition = Condition::After {
        job: first,
        delay_millis: 0,
    };
    let second = story.submit(JobSpec {
        held: true,
        ..after_one(condition)
    });
    assert_eq!(waits(&story, second), (None, vec![], false));
    story.lose(w1);
    story.retry_as("ada", false, first);
    assert_eq!(waits(&story, second), (None, vec![first], false));
    assert_eq!(waits(&next_leader(&story), second), (None, vec![first], false));
}

#[test]
fn a_job_that_has_started_does_not_wait_again_for_any_of_several() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let first = story.submit(command_job(1));
    story.run_to_the_end(first, 1000);
    let conditions = [Condition::AfterOk(first), Condition::AfterNotOk(first)];
    let second = story.submit(after(Joined::Any, &conditions));
    assert_eq!(story.slots(w1, second), 1);
    story.requeue_as("ada", false, first, &[]);
    story.give_back_all(w1);
    assert_eq!(waits(&story, second), (None, vec![], false));
    assert_eq!(waits(&next_leader(&story), second), (None, vec![], false));
}
