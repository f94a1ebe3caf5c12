//! Reports: what ended enters the journal once, and is acknowledged when it is durable.

use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{Feeding, GrantId, IndexRange, JobId, JobSpec, Term, WorkerId};
use phalanx_scheduler_core::Effect;

use crate::story::{Story, held, kernel_job, node, reducing_job};

/// One worker that holds a whole job of 100 tasks.
fn one_worker(spec: JobSpec) -> (Story, WorkerId, JobId, GrantId) {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..spec
    });
    let grant = story.grant(w1, job).grant;
    (story, w1, job, grant)
}

fn kept(story: &Story, job: JobId) -> Vec<IndexRange> {
    story
        .ended(job)
        .into_iter()
        .flat_map(|(_, blocks)| blocks)
        .flat_map(|block| block.keep)
        .collect()
}

#[test]
fn a_report_is_counted_and_acknowledged_only_when_it_is_durable() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.storage_slows_down();
    story.report(w1, job, vec![(grant, vec![0..10])], 1000);
    assert_eq!((story.view(job).done, story.mail(w1).acknowledged), (0, 0));
    story.storage_catches_up();
    assert_eq!((story.view(job).done, story.mail(w1).acknowledged), (10, 1));
}

#[test]
fn a_job_is_called_done_only_when_its_end_is_durable() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.storage_slows_down();
    story.report(w1, job, vec![(grant, vec![0..100])], 1000);
    assert_eq!(story.outcome(job), None);
    assert!(
        story.mail(w1).open.contains(&job),
        "the worker is not told either"
    );
    story.storage_catches_up();
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert!(!story.mail(w1).open.contains(&job));
}

#[test]
fn a_report_that_comes_twice_counts_once_and_is_acknowledged_twice() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.report(w1, job, vec![(grant, vec![0..10])], 1000);
    story.report(w1, job, vec![(grant, vec![0..10])], 1000);
    assert_eq!(story.view(job).done, 10);
    assert_eq!(story.ended(job).len(), 1);
    assert_eq!(story.mail(w1).acknowledged, 2);
}

#[test]
fn of_a_partial_repetition_only_the_new_part_is_kept() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.report(w1, job, vec![(grant, vec![10..20])], 1000);
    story.report(w1, job, vec![(grant, vec![0..30])], 1000);
    let (done, blocks) = story.ended(job).remove(1);
    assert_eq!(done, [IndexRange::new(0, 10), IndexRange::new(20, 30)]);
    assert_eq!(
        (blocks[0].range, &blocks[0].keep),
        (IndexRange::new(0, 30), &done)
    );
}

#[test]
fn one_report_that_says_the_same_twice_counts_it_once() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.report_blocks(
        w1,
        job,
        vec![(grant, vec![0..10, 0..10])],
        vec![0..10, 5..10, 0..10],
        1000,
    );
    assert_eq!(kept(&story, job), [IndexRange::new(0, 10)]);
    let (mut story, w1, job, grant) = one_worker(reducing_job(100));
    story.report_blocks(
        w1,
        job,
        vec![(grant, vec![0..10, 0..10])],
        vec![0..10, 5..10, 0..10],
        1000,
    );
    assert_eq!(kept(&story, job), [IndexRange::new(0, 10)]);
}

#[test]
fn a_worker_that_was_given_up_reports_after_all_and_others_need_not_run_it() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    let lost = story.grant(w1, job);
    story.lose(w1);
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [0..100]);
    story.report(w1, job, vec![(lost.grant, vec![0..60])], 1000);
    assert_eq!(story.view(job).done, 60);
    let granted = story.grant(w2, job);
    story.report(w2, job, vec![(granted.grant, vec![0..100])], 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(
        kept(&story, job),
        [IndexRange::new(0, 60), IndexRange::new(60, 100)]
    );
}

#[test]
fn merged_values_that_overlap_are_dropped_whole_and_their_tasks_run_again() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..reducing_job(100)
    });
    let lost = story.grant(w1, job);
    story.lose(w1);
    let w2 = story.worker(1);
    let granted = story.grant(w2, job);
    story.report(w2, job, vec![(granted.grant, vec![0..50])], 1000);
    // one value for 40..60, of which 40..50 is decided; one for 60..70, which is new
    story.report(w1, job, vec![(lost.grant, vec![40..60, 60..70])], 1000);
    assert_eq!(
        kept(&story, job),
        [IndexRange::new(0, 50), IndexRange::new(60, 70)]
    );
    story.report(w2, job, vec![(granted.grant, vec![50..60, 70..100])], 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.view(job).done, 100);
}

#[test]
fn tasks_of_a_dropped_merged_value_do_not_stay_with_a_worker_that_believes_them_done() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..reducing_job(100)
    });
    let first = story.grant(w1, job);
    story.lose(w1);
    let w2 = story.worker(1);
    let second = story.grant(w2, job);
    story.report(w2, job, vec![(second.grant, vec![0..50])], 1000);
    story.mail(w2).grants.clear();
    story.lose(w2);
    // w1 comes back and takes 50..100 up again, but has one value for all
    story.join(1, Some(w1), node(1), vec![held(&first)]);
    story.mail(w1).grants.clear();
    story.report(w1, job, vec![(first.grant, vec![0..100])], 1000);
    assert_eq!(story.view(job).done, 50);
    assert_eq!(story.grants(w1), [50..100], "what was dropped is granted anew");
    story.run_to_the_end(job, 1000);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_merged_value_for_more_than_what_was_done_does_not_count() {
    let (mut story, w1, job, grant) = one_worker(reducing_job(100));
    story.report_blocks(
        w1,
        job,
        vec![(grant, vec![0..5])],
        vec![std::ops::Range { start: 0, end: 10 }],
        1000,
    );
    assert_eq!((story.view(job).done, kept(&story, job)), (0, vec![]));
}

#[test]
fn indices_that_the_job_does_not_have_are_passed_over() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.report(w1, job, vec![(grant, vec![90..u64::MAX, 200..300])], 1000);
    assert_eq!(story.view(job).done, 10);
    story.fail(w1, job, grant, &[100, u64::MAX]);
    assert_eq!(story.view(job).failed, 0);
}

#[test]
fn a_report_of_an_unknown_job_is_acknowledged_and_changes_nothing() {
    let (mut story, w1, _, grant) = one_worker(kernel_job(100));
    let number = story.report(w1, JobId(99), vec![(grant, vec![0..10])], 1000);
    assert_eq!(story.mail(w1).acknowledged, number);
    assert_eq!(story.records().len(), 1);
}

#[test]
fn a_measurement_of_ages_does_not_spoil_the_sums() {
    let (mut story, w1, job, grant) = one_worker(kernel_job(100));
    story.report(w1, job, vec![(grant, vec![0..10])], u64::MAX);
    story.report(w1, job, vec![(grant, vec![10..20])], 0);
    assert_eq!(story.view(job).done, 20);
}

#[test]
fn an_acknowledgement_is_not_taken_for_that_of_a_namesake() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(100)
    });
    let grant = story.grant(w1, job).grant;
    story.storage_slows_down();
    story.report(w1, job, vec![(grant, vec![0..10])], 1000);
    story.lose(w1);
    // another process, which had this id under an earlier leader
    assert_eq!(story.join(2, Some(w1), node(1), Vec::new()), w1);
    let before = story.effects.len();
    story.storage_catches_up();
    let acknowledged = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                message: ToWorker::Acknowledge { .. },
                ..
            }
        )
    };
    assert!(
        !story.effects[before..].iter().any(acknowledged),
        "its own report 1 is not durable"
    );
}

#[test]
fn a_grant_of_an_earlier_term_is_reported_under_its_own_name() {
    let mut story = Story::new();
    let job = story.inherit("ada", JobId(1), kernel_job(100));
    let grant = GrantId {
        term: Term(0),
        number: 3,
    };
    let old = crate::story::Granted {
        job,
        grant,
        range: 20..30,
    };
    let w1 = story.join(1, Some(WorkerId(5)), node(1), vec![held(&old)]);
    story.report(w1, job, vec![(grant, vec![20..30])], 1000);
    assert_eq!(story.view(job).done, 10);
    story.run_to_the_end(job, 1000);
    assert_eq!(
        kept(&story, job).iter().map(|range| range.len()).sum::<u64>(),
        100
    );
}

#[test]
fn what_is_reported_of_a_job_that_was_lost_with_its_leader_does_not_count_for_the_next_of_its_number() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(100));
    let grant = GrantId {
        term: Term(0),
        number: 1,
    };
    let lost = crate::story::Granted {
        job,
        grant,
        range: 0..100,
    };
    let w1 = story.join(1, Some(WorkerId(5)), node(1), vec![held(&lost)]);
    let close = Effect::Send {
        worker: w1,
        message: ToWorker::Close { job },
    };
    let closed = story.effects.iter().position(|effect| *effect == close);
    let is_open = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                message: ToWorker::Open { .. },
                ..
            }
        )
    };
    let opened = story.effects.iter().position(is_open);
    assert!(
        closed.is_some() && closed < opened,
        "the worker must let go of the other job first"
    );
    story.report(w1, job, vec![(grant, vec![0..100])], 1000);
    assert_eq!(story.view(job).done, 0);
    story.run_to_the_end(job, 1000);
    assert_eq!(story.view(job).done, 100);
}
