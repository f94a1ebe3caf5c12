//! Snapshots: a leader that begins with one and the records behind it knows what one knows that read them all.

use phalanx_protocol::record::Record;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{JobSpec, SubmissionId, Term};
use phalanx_scheduler_core::Core;

use crate::nonsense::random_story;
use crate::story::{Story, kernel_job};

fn replayed(records: &[Record]) -> Core {
    let mut core = Core::new(Term(2));
    records
        .iter()
        .for_each(|record| assert!(core.replay(Term(1), record)));
    core.check();
    core
}

/// Everything that can be asked of a core, and what it does next.
fn knowledge(core: Core) -> (Vec<JobView>, String) {
    let mut story = Story::with(core);
    let views = story
        .core
        .jobs()
        .into_iter()
        .map(|job| story.view(job.job))
        .collect();
    let mut effects = Vec::new();
    let now = story.now();
    story.core.start(now, &mut effects);
    story.core.check();
    story.start(effects);
    story.worker(4);
    story.pass(std::time::Duration::from_secs(4));
    story.submit(JobSpec {
        submission: SubmissionId(1 << 100),
        ..kernel_job(3)
    });
    (views, format!("{:?}", story.effects))
}

#[test]
fn a_snapshot_and_the_records_behind_it_say_what_all_records_say() {
    for seed in 0..12 {
        let records = random_story(seed, 300).records();
        for cut in [0, 1, records.len() / 3, records.len() / 2, records.len()] {
            let cut = cut.min(records.len());
            let before = replayed(&records[..cut]);
            let mut after = Core::restore(Term(2), before.snapshot());
            after.check();
            records[cut..]
                .iter()
                .for_each(|record| assert!(after.replay(Term(1), record)));
            after.check();
            let all = replayed(&records);
            assert_eq!(after.snapshot(), all.snapshot(), "seed {seed}, cut at {cut}");
            assert_eq!(knowledge(after), knowledge(all), "seed {seed}, cut at {cut}");
        }
    }
}

#[test]
fn a_job_that_goes_on_again_keeps_its_place_among_the_finished_until_that_is_durable() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let first = story.submit(kernel_job(1));
    let granted = story.grant(w1, first);
    story.fail(w1, first, granted.grant, &[0]);
    let second = story.submit(kernel_job(1));
    story.run_to_the_end(second, 1000);
    let before = story.core.snapshot();
    assert_eq!(before.finished, [first, second]);
    story.storage_slows_down();
    story.retry_as("ada", false, first);
    assert_eq!(story.core.snapshot(), before);
    story.storage_catches_up();
    assert_eq!(story.core.snapshot().finished, [second]);
}

#[test]
fn a_snapshot_of_a_leader_at_work_holds_what_is_durable_and_nothing_else() {
    for seed in 0..12 {
        let mut story = random_story(seed, 200);
        story.storage_catches_up();
        let records = story.records();
        let mut read = Core::new(Term(1));
        records
            .iter()
            .for_each(|record| assert!(read.replay(Term(1), record)));
        assert_eq!(story.core.snapshot(), read.snapshot(), "seed {seed}");
    }
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(kernel_job(100));
    let before = story.core.snapshot();
    story.storage_slows_down();
    let granted = story.grant(w1, job);
    story.report(w1, job, vec![(granted.grant, vec![0..1])], 1000);
    story.submit(kernel_job(5));
    assert_eq!(story.core.snapshot(), before);
    story.storage_catches_up();
    assert_ne!(story.core.snapshot(), before);
}
