//! Drains: a worker that is to leave gets nothing more, and what it runs ends there.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, WorkerId};
use phalanx_scheduler_core::{Effect, Input};

use crate::story::{Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(tasks)
    }
}

fn is_draining(story: &Story, worker: WorkerId) -> bool {
    let workers = story.core.workers();
    workers.iter().any(|view| view.worker == worker && view.draining)
}

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

/// How often a worker was told to leave.
fn drains(story: &Story, to: WorkerId) -> usize {
    let drain = |effect: &&Effect| matches!(effect, Effect::Send { worker, message: ToWorker::Drain } if *worker == to);
    story.effects.iter().filter(drain).count()
}

#[test]
fn a_worker_that_is_drained_is_told_at_once_and_gives_back_what_has_not_started() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let job = story.submit(whole(100));
    let w2 = story.worker(2);
    story.give_back_nothing(w1);
    let request = story.drain(w1, true);
    assert_eq!(story.answer(request), Some(Reply::Done));
    assert_eq!((drains(&story, w1), story.slots(w1, job)), (1, 0));
    assert!(is_draining(&story, w1) && !is_draining(&story, w2));
    // two of its tasks run
    let revoked = story.revokes(w1)[0];
    assert_eq!(revoked.count, 100, "all that has not started");
    story.mail(w1).revokes[0].count = 98;
    story.give_back_all(w1);
    assert_eq!(story.grants(w1), [0..2]);
    assert_eq!(story.held(w2), 98, "others run the rest");
    story.finish(w1, job, SECOND);
    assert_eq!(story.held(w1), 0, "nothing more comes");
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

/// A job of 200 tasks. Half of it runs on w0; the other half was granted to w1, which reports the first `done` of it only
/// after its loss, when w2 has been granted the same.
fn story_of_a_late_report(done: u64) -> (Story, WorkerId, JobId) {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let _w0 = story.worker(1);
    let job = story.submit(whole(200));
    let lost = story.grant(w1, job);
    assert_eq!(lost.range, 0..100);
    story.lose(w1);
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [0..100]);
    // in a new session, which takes no work on
    story.join(1, Some(w1), node(1), Vec::new());
    story.tell(Input::WorkerDraining(w1));
    story.give_back_nothing(w2);
    story.report(w1, job, vec![(lost.grant, vec![0..done])], SECOND);
    (story, w2, job)
}

#[test]
fn a_drained_worker_gives_back_also_what_others_have_ended() {
    let (mut story, w2, job) = story_of_a_late_report(80);
    assert_eq!(story.revokes(w2), [], "it goes on with the last 20");
    story.drain(w2, true);
    story.give_back_all(w2);
    assert_eq!(story.held(w2), 0, "the first 80 keep it from leaving");
    story.worker(1);
    story.mail.remove(&w2);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_grant_of_which_others_have_ended_all_is_asked_back() {
    let (mut story, w2, job) = story_of_a_late_report(100);
    assert_eq!((story.held(w2), story.outcome(job)), (100, None));
    story.give_back_all(w2);
    assert_eq!(story.held(w2), 0, "it is run in vain");
}

#[test]
fn a_worker_that_says_that_it_will_leave_gets_nothing_of_later_jobs() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(8), story.worker(1));
    story.tell(Input::WorkerDraining(w1));
    assert_eq!(drains(&story, w1), 0, "it knows");
    let job = story.submit(kernel_job(100));
    assert_eq!((story.slots(w1, job), story.slots(w2, job)), (0, 1));
    assert_eq!(story.held(w1), 0);
}

#[test]
fn only_who_may_drains_and_only_workers_that_there_are() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let refused = story.drain(w1, false);
    assert_eq!(story.refusal(refused), Some(Refusal::AdminOnly));
    assert!(!is_draining(&story, w1) && drains(&story, w1) == 0);
    let unknown = story.drain(WorkerId(9), true);
    assert_eq!(story.refusal(unknown), Some(Refusal::NoSuchWorker(WorkerId(9))));
}

#[test]
fn a_drained_worker_that_comes_back_is_told_again_and_keeps_what_it_runs() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(kernel_job(10));
    let granted = story.grant(w1, job);
    story.drain(w1, true);
    story.join(1, Some(w1), node(1), vec![held(&granted)]);
    assert_eq!((drains(&story, w1), story.slots(w1, job)), (2, 0));
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [1..2], "what w1 runs is not run twice");
    story.finish(w1, job, SECOND);
    assert_eq!(story.view(job).done, 1);
}

#[test]
fn a_drained_worker_that_was_given_up_before_it_heard_of_that_is_told_when_it_comes_back() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    story.drain(w1, true);
    story.lose(w1);
    // by its old id or as if it had none
    for claimed in [Some(w1), None] {
        let job = story.submit(kernel_job(10));
        let back = story.join(1, claimed, node(1), Vec::new());
        assert!(is_draining(&story, back));
        assert_eq!(story.slots(back, job), 0);
        story.lose(back);
    }
    assert_eq!(drains(&story, w1), 2);
}

#[test]
fn another_process_under_a_drained_workers_id_takes_work() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    story.drain(w1, true);
    story.lose(w1);
    story.join(2, Some(w1), node(1), Vec::new());
    let job = story.submit(kernel_job(10));
    assert_eq!(story.slots(w1, job), 1);
}

#[test]
fn a_drain_leaves_fair_shares_of_what_stays() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let (ada, bob) = (
        story.submit_as("ada", kernel_job(1000)),
        story.submit_as("bob", kernel_job(1000)),
    );
    story.drain(w1, true);
    story.tell(Input::Ticked);
    assert_eq!((story.slots(w2, ada), story.slots(w2, bob)), (2, 2));
}

#[test]
fn a_job_whose_workers_all_drain_says_so_and_runs_on_the_next_one() {
    let mut story = Story::new();
    let (w1, _small) = (story.worker(4), story.worker(1));
    let job = story.submit(JobSpec {
        request: crate::story::cpus(2),
        ..kernel_job(10)
    });
    story.drain(w1, true);
    let explanation = story.core.explain(job).expect("the job exists");
    let idle: Vec<(u64, Verdict)> = explanation
        .idle
        .into_iter()
        .map(|idle| (idle.tasks, idle.why))
        .collect();
    assert_eq!(
        (explanation.verdict, idle),
        (Verdict::Running, vec![(8, Verdict::Draining)])
    );
    assert_eq!(
        explanation
            .offers
            .iter()
            .map(|offer| offer.slots_free)
            .sum::<u32>(),
        0
    );
    let w3 = story.worker(4);
    assert_eq!(
        (verdict(&story, job), story.slots(w3, job)),
        (Verdict::Running, 2)
    );
}
