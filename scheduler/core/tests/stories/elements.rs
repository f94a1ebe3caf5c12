//! Jobs that wait for one task of another job.

use phalanx_protocol::command::{ArrayIds, ArrayPart};
use phalanx_protocol::dependency::{Condition, Dependency, Ending, Joined, Never};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, Term, Work};
use phalanx_scheduler_core::Core;

use crate::story::{Story, command_job};

/// An array of the numbers 10, 12, 14, ...
fn array(tasks: u64) -> JobSpec {
    let mut spec = JobSpec {
        feeding: Feeding::Static,
        ..command_job(tasks)
    };
    let Work::Command(work) = &mut spec.work else {
        panic!("it runs commands");
    };
    work.array = ArrayIds::new(vec![ArrayPart {
        first: 10,
        count: tasks,
        step: 2,
    }]);
    spec
}

fn after(job: JobId, element: u64, ending: Ending, never: Never) -> JobSpec {
    JobSpec {
        dependency: Some(Dependency {
            joined: Joined::All,
            conditions: vec![Condition::AfterElement { job, element, ending }],
            never,
        }),
        ..command_job(1)
    }
}

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

fn waits(story: &Story, job: JobId, on: JobId) -> bool {
    verdict(story, job) == Verdict::Dependency { jobs: vec![on] }
}

fn in_vain(story: &Story, job: JobId, on: JobId) -> bool {
    verdict(story, job) == Verdict::DependencyNeverSatisfied { jobs: vec![on] }
}

#[test]
fn an_element_is_waited_for_while_its_job_goes_on() {
    let mut story = Story::new();
    let first = story.submit(array(4));
    let [any, ok, not_ok] = [Ending::Any, Ending::Ok, Ending::NotOk]
        .map(|ending| story.submit(after(first, 12, ending, Never::Stay)));
    let w1 = story.worker(1);
    let grant = story.grant(w1, first).grant;
    story.report(w1, first, vec![(grant, vec![0..1])], 1000);
    assert!([any, ok, not_ok].iter().all(|&job| waits(&story, job, first)));
    story.storage_slows_down();
    story.report(w1, first, vec![(grant, vec![1..2])], 1000);
    assert!(waits(&story, ok, first), "it is not durable yet");
    story.storage_catches_up();
    assert!(![any, ok].iter().any(|&job| waits(&story, job, first)));
    assert!(in_vain(&story, not_ok, first));
    assert_eq!(story.outcome(first), None);
    story.report(w1, first, vec![(grant, vec![2..4])], 1000);
    story.mail(w1).grants.retain(|granted| granted.job != first);
    story.storage_catches_up();
    for job in [any, ok] {
        story.run_to_the_end(job, 1000);
        story.storage_catches_up();
        assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    }
}

#[test]
fn a_failed_or_cancelled_element_is_not_ok() {
    let mut story = Story::new();
    let first = story.submit(array(3));
    let ok = [10, 12].map(|element| story.submit(after(first, element, Ending::Ok, Never::Cancel)));
    let not_ok = [10, 12].map(|element| story.submit(after(first, element, Ending::NotOk, Never::Stay)));
    let w1 = story.worker(1);
    let grant = story.grant(w1, first).grant;
    story.fail(w1, first, grant, &[0]);
    story.cancel_tasks_as("ada", false, first, &[1..2]);
    for job in ok {
        let by = format!("its dependency on job {first}");
        assert_eq!(story.outcome(job), Some(Outcome::Cancelled { by }));
    }
    assert!(!not_ok.iter().any(|&job| waits(&story, job, first)));
    assert_eq!(story.outcome(first), None);
}

#[test]
fn an_element_that_starts_again_is_waited_for_again() {
    let mut story = Story::new();
    let first = story.submit(array(2));
    let ok = story.submit(after(first, 10, Ending::Ok, Never::Stay));
    let w1 = story.worker(1);
    let grant = story.grant(w1, first).grant;
    story.fail(w1, first, grant, &[0]);
    assert!(in_vain(&story, ok, first));
    story.requeue_as("ada", false, first, &[0..1]);
    assert!(waits(&story, ok, first));
    story.report(w1, first, vec![(grant, vec![1..2])], 1000);
    let again = story.mail(w1).grants.last().expect("it runs again").clone();
    assert_eq!((again.job, again.range), (first, 0..1));
    story.report(w1, first, vec![(again.grant, vec![0..1])], 1000);
    assert!(!waits(&story, ok, first) && !in_vain(&story, ok, first));
}

#[test]
fn an_element_that_never_ran_before_its_job_was_over_has_ended_badly() {
    let mut story = Story::new();
    let first = story.submit(array(2));
    let ok = story.submit(after(first, 12, Ending::Ok, Never::Stay));
    let any = story.submit(after(first, 12, Ending::Any, Never::Stay));
    story.cancel_as("ada", false, first);
    assert!(in_vain(&story, ok, first));
    assert!(!waits(&story, any, first));
}

#[test]
fn only_elements_that_there_are_can_be_waited_for() {
    let mut story = Story::new();
    let first = story.submit(array(3));
    for element in [0, 11, 16] {
        let asked = story.ask_to_submit("ada", after(first, element, Ending::Any, Never::Stay));
        let refusal = Refusal::NoSuchElement { job: first, element };
        assert_eq!(story.refusal(asked), Some(refusal));
    }
    // what is no array has indices
    let plain = story.submit(command_job(2));
    story.submit(after(plain, 1, Ending::Any, Never::Stay));
    let asked = story.ask_to_submit("ada", after(plain, 2, Ending::Any, Never::Stay));
    assert!(matches!(
        story.refusal(asked),
        Some(Refusal::NoSuchElement { .. })
    ));
}

#[test]
fn arrays_are_paired_only_if_they_begin_with_the_same_numbers() {
    let mut story = Story::new();
    let first = story.submit(array(3));
    let corresponding = |mut spec: JobSpec, parts: Option<ArrayPart>| {
        if let (Work::Command(work), Some(part)) = (&mut spec.work, parts) {
            work.array = ArrayIds::new(vec![part]);
        }
        spec.dependency = Some(Dependency {
            joined: Joined::All,
            conditions: vec![Condition::AfterCorresponding(first)],
            never: Never::Stay,
        });
        spec
    };
    let part = |first, step| {
        Some(ArrayPart {
            first,
            count: 2,
            step,
        })
    };
    story.submit(corresponding(array(2), None));
    let job = first;
    for (spec, refusal) in [
        (
            corresponding(array(4), None),
            Refusal::NoSuchElement { job, element: 16 },
        ),
        (
            corresponding(array(2), part(11, 1)),
            Refusal::NoSuchElement { job, element: 11 },
        ),
        (
            corresponding(array(2), part(12, 2)),
            Refusal::Unpaired { job, element: 12 },
        ),
    ] {
        let asked = story.ask_to_submit("ada", spec);
        assert_eq!(story.refusal(asked), Some(refusal));
    }
}

#[test]
fn a_later_leader_comes_to_the_same() {
    let mut story = Story::new();
    let first = story.submit(array(3));
    let ok = story.submit(after(first, 10, Ending::Ok, Never::Stay));
    let not_ok = story.submit(after(first, 10, Ending::NotOk, Never::Stay));
    let w1 = story.worker(1);
    let grant = story.grant(w1, first).grant;
    story.report(w1, first, vec![(grant, vec![0..1])], 1000);
    let mut core = Core::new(Term(2));
    for record in story.records() {
        core.replay(Term(1), &record);
    }
    let mut next = Story::with(core);
    let (now, mut effects) = (next.now(), Vec::new());
    next.core.start(now, &mut effects);
    next.start(effects);
    next.storage_catches_up();
    next.wait(5000);
    assert!(in_vain(&next, not_ok, first));
    assert!(!waits(&next, ok, first));
}
