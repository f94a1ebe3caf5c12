//! Jobs that share their workers with no other.

use phalanx_protocol::view::Verdict;
use phalanx_protocol::{JobId, JobSpec, Request, Sharing};

use crate::story::{Story, cpus, kernel_job};

const SECOND: u64 = 1_000_000_000;

fn alone(sharing: Sharing, tasks: u64) -> JobSpec {
    JobSpec {
        request: Request {
            sharing,
            ..Request::default()
        },
        ..kernel_job(tasks)
    }
}

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

#[test]
fn nobody_gets_slots_beside_an_exclusive_job() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let first = story.submit(alone(Sharing::OwnJob, 3));
    let other = story.submit(kernel_job(1000));
    assert_eq!((story.slots(w1, first), story.slots(w2, first)), (3, 0));
    assert_eq!((story.slots(w1, other), story.slots(w2, other)), (0, 4));
    story.finish(w1, first, SECOND);
    assert_eq!(story.slots(w1, other), 4);
}

#[test]
fn an_exclusive_job_waits_for_an_empty_worker_and_says_so() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(kernel_job(2));
    let exclusive = story.submit(alone(Sharing::OwnJob, 3));
    assert_eq!(story.slots(w1, exclusive), 0);
    assert_eq!(
        verdict(&story, exclusive),
        Verdict::NotAlone { jobs: vec![first] }
    );
    story.finish(w1, first, SECOND);
    assert_eq!(story.slots(w1, exclusive), 3);
    let later = story.submit(kernel_job(1));
    assert_eq!(
        verdict(&story, later),
        Verdict::KeptOff {
            jobs: vec![exclusive]
        }
    );
    let offers = story.core.explain(later).unwrap().offers;
    assert_eq!((offers[0].slots_capacity, offers[0].slots_free), (4, 0));
}

#[test]
fn an_exclusive_job_drives_nobody_away_and_comes_before_who_has_not_begun() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let first = story.submit(kernel_job(2));
    let exclusive = story.submit(alone(Sharing::OwnJob, 1000));
    let later = story.submit_as("bob", kernel_job(2));
    let last = story.submit(kernel_job(4));
    assert_eq!((story.slots(w1, first), story.slots(w1, later)), (2, 2));
    story.finish(w1, first, SECOND);
    // what it runs may wait for another job
    assert_eq!((story.slots(w1, exclusive), story.slots(w1, later)), (0, 2));
    assert_eq!(story.slots(w1, last), 2, "nobody waits for nothing");
    story.finish(w1, later, SECOND);
    assert_eq!((story.slots(w1, exclusive), story.slots(w1, last)), (0, 4));
    let never = story.submit(kernel_job(4));
    story.finish(w1, last, SECOND);
    assert_eq!((story.slots(w1, exclusive), story.slots(w1, never)), (4, 0));
}

#[test]
fn an_exclusive_job_leaves_those_in_peace_who_came_before() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(4));
    let first = story.submit_as("ada", kernel_job(2));
    let exclusive = story.submit_as("bob", alone(Sharing::OwnJob, 1000));
    assert_eq!((story.slots(w1, first), story.slots(w2, exclusive)), (2, 4));
    let more = story.submit_as("ada", kernel_job(1000));
    assert_eq!((story.slots(w1, more), story.slots(w2, more)), (2, 0));
}

#[test]
fn each_task_may_have_a_worker_for_itself() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(4), story.worker(8));
    let job = story.submit(alone(Sharing::Nobody, 5));
    let other = story.submit(kernel_job(10));
    assert_eq!((story.slots(w1, job), story.slots(w2, job)), (1, 1));
    assert_eq!(story.view(other).slots, 0);
    assert_eq!((story.held(w1), story.held(w2)), (1, 1));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.view(other).slots, 10);
}

#[test]
fn a_higher_priority_drives_an_exclusive_job_from_its_worker_and_the_other_way_round() {
    for (low_sharing, high_sharing) in [
        (Sharing::OwnJob, Sharing::Anybody),
        (Sharing::Anybody, Sharing::OwnJob),
        (Sharing::OwnJob, Sharing::Nobody),
    ] {
        let mut story = Story::new();
        let w1 = story.worker(4);
        let low = story.submit(alone(low_sharing, 1000));
        assert_eq!(story.slots(w1, low), 4);
        let high = story.submit(JobSpec {
            priority: 1,
            ..alone(high_sharing, 1)
        });
        assert_eq!(story.slots(w1, high), 1);
        let left = if high_sharing == Sharing::Anybody && low_sharing == Sharing::Anybody {
            3
        } else {
            0
        };
        assert_eq!(story.slots(w1, low), left, "{low_sharing:?} {high_sharing:?}");
    }
}

#[test]
fn an_exclusive_job_that_fits_on_no_worker_is_refused() {
    let mut story = Story::new();
    story.worker(4);
    let request = Request {
        sharing: Sharing::Nobody,
        ..cpus(5)
    };
    let spec = JobSpec {
        request,
        ..kernel_job(1)
    };
    let asked = story.ask_to_submit("ada", spec);
    assert!(story.refusal(asked).is_some());
}
