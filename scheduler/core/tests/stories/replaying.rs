//! Replay: a new leader reads the records and goes on, and the same inputs give the same effects.

use std::time::Duration;

use phalanx_protocol::message::client::Reply;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::{JobView, Verdict};
use phalanx_protocol::{Feeding, JobSpec, SubmissionId, Term};
use phalanx_scheduler_core::{Core, Now};

use crate::nonsense::random_story;
use crate::story::{Story, held, kernel_job, node};

/// A new leader that has read the first `count` records.
fn successor(before: &Story, count: usize) -> Story {
    let mut core = Core::new(Term(2));
    before.records()[..count]
        .iter()
        .for_each(|record| core.replay(Term(1), record));
    let mut effects = Vec::new();
    let now = Now {
        elapsed: std::time::Duration::ZERO,
        unix_millis: before.micros / 1000,
    };
    core.start(now, &mut effects);
    core.check();
    let mut story = Story::with(core);
    story.start(effects);
    story
}

/// Longer than a new leader waits for the workers of the one before.
const REATTACHED: Duration = Duration::from_millis(3_010);

/// What does not depend on workers.
fn lasting(view: JobView) -> JobView {
    JobView {
        slots: 0,
        workers: 0,
        tasks_per_second: 0.0,
        started_unix_millis: None,
        ..view
    }
}

#[test]
fn a_new_leader_shows_the_same_jobs() {
    let story = random_story(7, 400);
    let after = successor(&story, story.records().len());
    let before: Vec<JobView> = story.core.jobs().into_iter().map(lasting).collect();
    assert!(before.len() > 3);
    assert_eq!(
        after.core.jobs().into_iter().map(lasting).collect::<Vec<_>>(),
        before
    );
}

#[test]
fn a_new_leader_goes_on_where_the_records_end() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..30])], 1000);
    story.fail(w1, job, granted.grant, &[30]);

    let mut story = successor(&story, 3);
    let rest = crate::story::Granted {
        range: 40..100,
        ..granted
    };
    let w1 = story.join(1, Some(w1), node(2), vec![held(&rest)]);
    let w2 = story.worker(2);
    assert_eq!(story.grants(w2), [], "somebody may come back and still run it");
    story.pass(REATTACHED);
    assert_eq!(story.grants(w2), [31..40], "40..100 is held");
    story.report(w1, job, vec![(rest.grant, vec![40..100])], 1000);
    story.run_to_the_end(job, 1000);
    let view = story.view(job);
    assert_eq!(
        (view.outcome, view.done, view.failed),
        (Some(Outcome::Failed), 99, 1)
    );
}

#[test]
fn what_a_worker_brings_back_runs_on_and_new_jobs_do_not_wait_for_others_to_come_back() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(1000));
    let granted = story.grant(w1, job);
    let mut story = successor(&story, 1);
    let w1 = story.join(1, Some(w1), node(2), vec![held(&granted)]);
    assert_eq!(story.core.explain(job).unwrap().verdict, Verdict::Reattaching);
    let w2 = story.worker(1);
    let new = story.submit(kernel_job(1));
    assert_eq!(story.grants(w2), [0..1], "of the new job");
    story.finish(w2, new, 1000);
    let all = granted.range.clone();
    story.report(w1, job, vec![(granted.grant, vec![all.clone()])], 1000);
    assert_eq!(story.view(job).done, all.end);
    story.pass(REATTACHED);
    assert_eq!(story.core.explain(job).unwrap().verdict, Verdict::Running);
    story.run_to_the_end(job, 1000);
}

#[test]
fn a_leader_that_finds_nothing_to_do_waits_for_nobody() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(2));
    story.finish(w1, job, 1000);
    let records = story.records().len();
    let after = successor(&story, records);
    assert_eq!(after.core.next_deadline().map(|due| due < REATTACHED), None);
}

#[test]
fn a_job_whose_tasks_had_all_ended_is_finished_by_the_new_leader() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(kernel_job(2));
    story.finish(w1, job, 1000);
    assert_eq!(story.records().len(), 3);
    let mut after = successor(&story, 2);
    assert_eq!(after.outcome(job), None);
    after.storage_catches_up();
    assert_eq!(after.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_submission_that_the_old_leader_made_durable_is_known_to_the_new_one() {
    let mut story = Story::new();
    let spec = JobSpec {
        submission: SubmissionId(77),
        ..kernel_job(100)
    };
    let job = story.submit(spec.clone());
    let mut after = successor(&story, 1);
    let request = after.ask_to_submit("ada", spec);
    assert_eq!(after.answer(request), Some(Reply::Submitted(job)));
    assert_ne!(after.submit(kernel_job(1)), job);
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    for seed in 0..8 {
        let (one, other) = (random_story(seed, 300), random_story(seed, 300));
        assert_eq!(
            format!("{:?}", one.effects),
            format!("{:?}", other.effects),
            "seed {seed}"
        );
    }
}
