//! Signals for what runs.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::{JobId, TaskId};

use crate::story::{Story, command_job, kernel_job};

fn refused(story: &Story, request: phalanx_scheduler_core::RequestId) -> Refusal {
    match story.answer(request) {
        Some(Reply::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_signal_goes_to_what_workers_hold_and_changes_nothing() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(1));
    let job = story.submit(command_job(10));
    let before = (story.grants(w1), story.grants(w2), story.records().len());
    let sent: Vec<_> = before.0.to_vec();
    let all = story.signal_as("ada", false, job, &[]);
    assert_eq!(story.answer(all), Some(Reply::Done));
    assert_eq!(story.signals(w1), sent);
    assert_eq!(story.signals(w2), before.1);
    let task = before.1[0].start;
    let one = story.signal_as("root", true, job, &[task..task + 1]);
    assert_eq!(story.answer(one), Some(Reply::Done));
    assert_eq!(story.signals(w1), sent, "only what was named");
    assert_eq!(story.signals(w2).last(), Some(&(task..task + 1)));
    assert_eq!(
        before,
        (story.grants(w1), story.grants(w2), story.records().len())
    );
    story.run_to_the_end(job, 1000);
}

#[test]
fn what_does_not_run_takes_no_signal() {
    let mut story = Story::new();
    let job = story.submit(command_job(4));
    let asked = story.signal_as("ada", false, job, &[]);
    assert_eq!(refused(&story, asked), Refusal::NothingRuns { job, all: true });
    let w1 = story.worker(1);
    let waits = story.signal_as("ada", false, job, &[3..4]);
    assert_eq!(refused(&story, waits), Refusal::NothingRuns { job, all: false });
    story.run_to_the_end(job, 1000);
    let over = story.signal_as("ada", false, job, &[]);
    assert_eq!(refused(&story, over), Refusal::Over(job));
    assert_eq!(story.signals(w1), []);
}

#[test]
fn kernels_strangers_and_nonsense_are_refused() {
    let mut story = Story::new();
    let w1 = story.worker(2);
    let kernels = story.submit(kernel_job(1));
    let commands = story.submit(command_job(1));
    let asked = story.signal_as("ada", false, kernels, &[]);
    assert_eq!(refused(&story, asked), Refusal::NoSignals(kernels));
    let asked = story.signal_as("eve", false, commands, &[]);
    assert!(matches!(refused(&story, asked), Refusal::NotYours { .. }));
    let asked = story.signal_as("ada", false, JobId(77), &[]);
    assert_eq!(refused(&story, asked), Refusal::NoSuchJob(JobId(77)));
    let asked = story.signal_as("ada", false, commands, &[0..2]);
    let task = TaskId {
        job: commands,
        index: 1,
    };
    assert_eq!(refused(&story, asked), Refusal::NoSuchTask { task, tasks: 1 });
    assert_eq!(story.signals(w1), []);
}
