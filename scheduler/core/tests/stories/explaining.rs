//! Explanations: why a job is where it is, as data.

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{Feeding, JobId, JobSpec, Retries, Sharing, WorkerId};
use phalanx_scheduler_core::Input;

use crate::gangs::gang;
use crate::story::{Story, cpus, kernel_job, node};

fn verdict(story: &Story, job: JobId) -> Verdict {
    story.core.explain(job).expect("the job exists").verdict
}

#[test]
fn a_running_job_runs_and_a_finished_one_is_finished() {
    let mut story = Story::new();
    let w1 = story.worker(4);
    let job = story.submit(kernel_job(4));
    assert_eq!(verdict(&story, job), Verdict::Running);
    story.finish(w1, job, 1000);
    assert_eq!(verdict(&story, job), Verdict::Finished);
}

#[test]
fn what_runs_on_while_its_slot_is_kept_for_a_gang_is_said_to_run() {
    for sharing in [Sharing::Anybody, Sharing::OwnJob] {
        let mut story = Story::new();
        let w1 = story.worker(2);
        let runs = story.submit(kernel_job(1));
        let mut wide = gang(2);
        wide.request.sharing = sharing;
        let wide = story.submit(wide);
        assert_eq!((story.slots(w1, runs), story.held(w1)), (0, 1));
        assert_eq!(verdict(&story, runs), Verdict::Running);
        let view = story.view(runs);
        assert_eq!((view.state(), view.slots, view.workers), ("running", 1, 1));
        let offer = &story.core.explain(runs).unwrap().offers[0];
        assert_eq!((offer.slots_held, offer.slots_free), (1, 1));
        let slots_free = match sharing {
            Sharing::Anybody => 1,
            Sharing::OwnJob | Sharing::Nobody => 0,
        };
        let waits = Verdict::Gang {
            slots: 2,
            nodes: None,
            slots_free,
            slots_capacity: 2,
            jobs: vec![runs],
        };
        assert_eq!(verdict(&story, wide), waits);
        let worker = &story.core.workers()[0];
        assert_eq!((&worker.jobs[..], worker.free.cpus), (&[runs][..], 1));
        story.finish(w1, runs, 1_000_000);
        assert_eq!(
            (verdict(&story, wide), story.slots(w1, wide)),
            (Verdict::Running, 2)
        );
    }
}

#[test]
fn a_job_waits_for_storage_to_keep_it() {
    let mut story = Story::new();
    story.storage_slows_down();
    let job = story.submit(kernel_job(4));
    assert_eq!(verdict(&story, job), Verdict::Storage { error: None });
    story.tell(Input::StorageChanged {
        error: Some("disk full".into()),
    });
    assert_eq!(
        verdict(&story, job),
        Verdict::Storage {
            error: Some("disk full".into())
        }
    );
}

#[test]
fn a_job_behind_others_names_them() {
    let mut story = Story::new();
    story.worker(4);
    let first = story.submit(kernel_job(1000));
    let second = story.submit(kernel_job(10));
    assert_eq!(verdict(&story, second), Verdict::Behind { jobs: vec![first] });
}

#[test]
fn a_job_that_became_too_large_names_the_largest_worker() {
    let mut story = Story::new();
    let job = story.submit(JobSpec {
        request: cpus(64),
        ..kernel_job(1)
    });
    story.worker(4);
    story.worker(48);
    assert_eq!(
        verdict(&story, job),
        Verdict::TooLarge {
            largest: Some(node(48))
        }
    );
}

#[test]
fn a_job_that_waits_for_gpus_says_of_which_and_who_has_them() {
    let mut story = Story::new();
    let mut capacity = node(8);
    capacity.add("gpu:a100", 1.into());
    capacity.add("gpu:v100", 1.into());
    story.worker_with(capacity);
    let asking = |name: &str| {
        let mut spec = kernel_job(1000);
        spec.request.add(name, 1.into());
        spec
    };
    story.submit(kernel_job(2));
    let first = story.submit(asking("gpu:a100"));
    let second = story.submit(asking("gpu:a100"));
    let scarce = |resource: &str, jobs| Verdict::Scarce {
        resource: resource.to_owned(),
        jobs,
    };
    assert_eq!(verdict(&story, second), scarce("gpu:a100", vec![first]));
    let third = story.submit(asking("gpu"));
    assert_eq!(verdict(&story, third), Verdict::Running);
    let fourth = story.submit(asking("gpu"));
    assert_eq!(verdict(&story, fourth), scarce("gpu", vec![first, third]));
}

#[test]
fn at_most_twenty_offers_are_listed_the_best_first() {
    let mut story = Story::new();
    let workers: Vec<WorkerId> = (0..30).map(|index| story.worker(1 + index % 7)).collect();
    let job = story.submit(kernel_job(1));
    let explanation = story.core.explain(job).expect("the job exists");
    assert_eq!(explanation.offers.len(), 20);
    let best = &explanation.offers[0];
    assert_eq!((best.worker, best.slots_held), (workers[0], 1));
    assert_eq!(explanation.offers[1].slots_free, 7);
}

/// How many tasks wait while others run, and for what.
fn idle(story: &Story, job: JobId) -> Vec<(u64, Verdict)> {
    let explanation = story.core.explain(job).expect("the job exists");
    let idle = explanation.idle.into_iter();
    idle.map(|idle| (idle.tasks, idle.why)).collect()
}

#[test]
fn a_job_that_runs_says_what_its_other_tasks_wait_for() {
    let mut story = Story::new();
    let w1 = story.worker(8);
    let whole = JobSpec {
        feeding: Feeding::Static,
        retries: Retries {
            errors: 1,
            ..Retries::default()
        },
        ..kernel_job(6)
    };
    let first = story.submit(JobSpec {
        retries: Retries::default(),
        ..whole.clone()
    });
    let second = story.submit(JobSpec {
        dependency: Some(Dependency {
            joined: Joined::All,
            conditions: vec![Condition::AfterCorresponding(first)],
            never: Never::Stay,
        }),
        ..whole
    });
    assert_eq!(idle(&story, first), []);
    let grant = story.grant(w1, first).grant;
    story.report(w1, first, vec![(grant, vec![1..3])], 1000);
    let dependency = Verdict::Dependency { jobs: vec![first] };
    assert_eq!(verdict(&story, second), Verdict::Running);
    assert_eq!(idle(&story, second), [(4, dependency)]);
    let second_grant = story.grant(w1, second).grant;
    story.fail(w1, second, second_grant, &[1]);
    story.fail(w1, first, grant, &[0]);
    story.report(w1, first, vec![(grant, vec![3..6])], 1000);
    let never = Verdict::DependencyNeverSatisfied { jobs: vec![first] };
    assert_eq!(verdict(&story, second), Verdict::Running);
    assert_eq!(idle(&story, second), [(1, never), (1, Verdict::Resting)]);
}

#[test]
fn tasks_that_wait_beside_others_wait_for_slots_or_may_not_have_more() {
    let mut story = Story::new();
    story.worker(4);
    let limited = story.submit(JobSpec {
        slots_max: Some(2),
        ..kernel_job(1000)
    });
    let waiting = |idle: &[(u64, Verdict)]| -> Vec<Verdict> {
        assert!(
            idle.iter().all(|&(tasks, _)| 0 < tasks && tasks < 1000),
            "{idle:?}"
        );
        idle.iter().map(|(_, why)| why.clone()).collect()
    };
    assert_eq!(
        waiting(&idle(&story, limited)),
        [Verdict::SlotsMax { slots_max: 2 }]
    );
    let other = story.submit(kernel_job(1000));
    assert_eq!(verdict(&story, other), Verdict::Running);
    assert_eq!(
        waiting(&idle(&story, other)),
        [Verdict::Behind { jobs: vec![limited] }]
    );
}

#[test]
fn nobody_explains_a_job_that_does_not_exist() {
    assert_eq!(Story::new().core.explain(JobId(3)), None);
}
