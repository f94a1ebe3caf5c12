//! Tasks that may need one thing or another: "1 gpu, or 16 cpus".

use phalanx_protocol::gang::{Gang, GangError};
use phalanx_protocol::job::SpecError;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{JobSpec, Request, Resources, Sharing};

use phalanx_scheduler_core::Effect;

use crate::story::{Story, command_job, cpus, kernel_job, node};

fn gpu_node(cpus: u32, gpus: u64) -> Resources {
    let mut capacity = node(cpus);
    capacity.add("gpu", gpus.into());
    capacity
}

fn gpu() -> Request {
    let mut request = Request::default();
    request.add("gpu", 1.into());
    request
}

/// A gpu, or 16 cpus.
fn either(tasks: u64) -> JobSpec {
    JobSpec {
        request: gpu(),
        alternatives: vec![cpus(16)],
        ..kernel_job(tasks)
    }
}

#[test]
fn each_worker_runs_tasks_in_the_first_way_that_it_has_enough_for() {
    let mut story = Story::new();
    let (with, without) = (story.worker_with(gpu_node(64, 3)), story.worker(40));
    let job = story.submit(either(1000));
    assert_eq!((story.slots(with, job), story.slots(without, job)), (3, 2));
    let opened = |to| {
        story.effects.iter().find_map(|effect| match effect {
            Effect::Send {
                worker,
                message: ToWorker::Open { request, .. },
            } if *worker == to => Some(request.clone()),
            _ => None,
        })
    };
    assert_eq!((opened(with), opened(without)), (Some(gpu()), Some(cpus(16))));
}

#[test]
fn what_one_way_leaves_is_there_for_others() {
    let mut story = Story::new();
    let worker = story.worker(40);
    let first = story.submit(either(2));
    let second = story.submit(kernel_job(1000));
    assert_eq!((story.slots(worker, first), story.slots(worker, second)), (2, 8));
}

#[test]
fn a_share_is_counted_by_the_way_that_takes_most() {
    let mut story = Story::new();
    let worker = story.worker(64);
    let ada = story.submit_as("ada", either(1000));
    let bob = story.submit_as("bob", kernel_job(1000));
    assert_eq!((story.slots(worker, ada), story.slots(worker, bob)), (2, 32));
}

#[test]
fn a_job_that_fits_nowhere_in_any_way_is_refused_with_all_of_them() {
    let mut story = Story::new();
    story.worker(8);
    let request = story.ask_to_submit("ada", either(1));
    let Some(Refusal::TooLarge { needs, .. }) = story.refusal(request) else {
        panic!("refused as too large");
    };
    assert_eq!(needs, [gpu(), cpus(16)]);
}

#[test]
fn a_job_that_waits_names_what_is_scarce_where_it_could_run() {
    let mut story = Story::new();
    story.worker_with(gpu_node(4, 1));
    let holder = story.submit(JobSpec {
        request: gpu(),
        ..kernel_job(1000)
    });
    let waiting = story.submit(either(1000));
    let verdict = story.core.explain(waiting).unwrap().verdict;
    let jobs = vec![holder];
    assert_eq!(
        verdict,
        Verdict::Scarce {
            resource: "gpu".into(),
            jobs
        }
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let alone = Request {
        sharing: Sharing::Nobody,
        ..cpus(16)
    };
    let unlike = JobSpec {
        alternatives: vec![alone],
        ..either(1)
    };
    assert_eq!(unlike.check(), Err(SpecError::UnlikeAlternatives));
    let many = JobSpec {
        alternatives: vec![cpus(2); 8],
        ..either(1)
    };
    assert_eq!(many.check(), Err(SpecError::TooManyAlternatives { count: 8 }));
    let none = JobSpec {
        alternatives: vec![cpus(0)],
        ..either(1)
    };
    assert_eq!(none.check(), Err(SpecError::NoCpus));
    let gang = JobSpec {
        gang: Some(Box::new(Gang::default())),
        alternatives: vec![cpus(2)],
        ..command_job(2)
    };
    assert!(matches!(
        gang.check(),
        Err(SpecError::Gang(GangError::NotForRanks { .. }))
    ));
}
