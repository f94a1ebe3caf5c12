use std::collections::BTreeMap;

use phalanx_protocol::dependency::Condition;
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::view::Offer;
use phalanx_protocol::{Encoding, Request, WorkerChoice, WorkerId};

use super::*;

const NOW: u64 = 1_000_000 + 200_000;

pub(crate) fn job_view() -> JobView {
    JobView {
        usage: None,
        job: JobId(42),
        name: "nightly".to_owned(),
        user: "ada".to_owned(),
        kernel: "count".to_owned(),
        command: None,
        encoding: Encoding::Json,
        reduce: false,
        request: Request {
            cpus: 2,
            memory_bytes: 1 << 30,
            named: BTreeMap::from([("gpu".to_owned(), 1.into())]),
            ..Request::default()
        },
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
        priority: 5,
        outcome: None,
        tasks: 1000,
        done: 512,
        failed: 1,
        resting: 0,
        slots: 4,
        workers: 2,
        tasks_per_second: 83.25,
        submitted_unix_millis: 1_000_000,
        finished_unix_millis: None,
        first_failures: vec![TaskFailure {
            index: 7,
            cause: FailureCause::Panic,
            message: "boom".to_owned(),
        }],
        slots_max: None,
        task_time_limit_millis: None,
        time_limit_millis: None,
        started_unix_millis: None,
        held: false,
        begin_unix_millis: None,
        conditions: Vec::new(),
        any_of: false,
        waits_for: Vec::new(),
        never: false,
        cancelled: 0,
    }
}

pub(crate) fn finished(outcome: Outcome) -> JobView {
    JobView {
        outcome: Some(outcome),
        finished_unix_millis: Some(1_065_000),
        slots: 0,
        workers: 0,
        ..job_view()
    }
}

pub(crate) fn worker_view() -> WorkerView {
    let resources = |cpus, gib: u64, gpus: u64| Resources {
        cpus,
        memory_bytes: gib << 30,
        named: BTreeMap::from([("gpu".to_owned(), gpus.into())]),
    };
    WorkerView {
        worker: WorkerId(3),
        name: "node7".to_owned(),
        address: "10.0.0.7:40000".to_owned(),
        capacity: resources(8, 16, 2),
        free: resources(6, 15, 1),
        jobs: vec![JobId(42)],
        draining: false,
        tasks_ended: 512,
    }
}

pub(crate) fn explanation(verdict: Verdict) -> Explanation {
    let worker = worker_view();
    Explanation {
        job: job_view(),
        verdict,
        idle: Vec::new(),
        offers: vec![Offer {
            worker: worker.worker,
            name: worker.name,
            capacity: worker.capacity,
            slots_capacity: 2,
            slots_free: 0,
            slots_held: 1,
        }],
    }
}

#[test]
fn jobs_are_a_table() {
    let jobs = [
        finished(Outcome::Succeeded),
        JobView {
            job: JobId(1043),
            name: "k\x1b[2J".to_owned(),
            tasks: 1_000_000_000,
            done: 0,
            failed: 0,
            resting: 0,
            slots: 0,
            tasks_per_second: 0.0,
            ..job_view()
        },
    ];
    let expected = "\
  ID  NAME         USER  STATE                DONE  FAILED  SLOTS  RATE  SUBMITTED     TOOK
  42  nightly      ada   succeeded       512/1,000       1      0     -  3 min ago  1 min 5 s
1043  k\\u{1b}[2J  ada   waiting    0/1,000,000,000       0      0     -  3 min ago          -
";
    let text = jobs_table(&jobs, NOW, Style::Plain);
    assert_eq!(squeezed(&text), squeezed(expected), "{text}");
}

/// The lines without runs of spaces, which `table` tests.
fn squeezed(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[test]
fn one_job_is_told_whole() {
    let expected = "\
job 42 nightly
  state      running
  kernel     count
  user       ada
  tasks      512 of 1,000 done, 1 failed
  each needs 2 cpus, 1 GiB, 1 gpu
  priority   5
  runs on    4 slots of 2 workers, 83.2 /s
  submitted  3 min ago
first failures
  42.7 panicked: boom
";
    assert_eq!(job_text(&job_view(), NOW, Style::Plain), expected);
}

#[test]
fn what_a_job_was_submitted_to_wait_for_is_told() {
    let mut view = job_view();
    view.conditions = vec![
        Condition::AfterOk(JobId(40)),
        Condition::AfterAny(JobId(41)),
        Condition::Singleton,
    ];
    let text = job_text(&view, NOW, Style::Plain);
    assert!(
        text.contains("\n  waits for  afterok 40, afterany 41, singleton\n"),
        "{text}"
    );
    view.any_of = true;
    let text = job_text(&view, NOW, Style::Plain);
    assert!(
        text.contains("\n  waits for  any of afterok 40, afterany 41, singleton\n"),
        "{text}"
    );
    view.any_of = false;
    view.outcome = Some(Outcome::Succeeded);
    let text = job_text(&view, NOW, Style::Plain);
    assert!(
        text.contains("\n  waited for afterok 40, afterany 41, singleton\n"),
        "{text}"
    );
}

#[test]
fn the_end_of_a_job_is_told_with_its_reason() {
    let broken = finished(Outcome::Broken {
        reason: "no kernel `count`".to_owned(),
    });
    let text = job_text(&broken, NOW, Style::Plain);
    assert!(
        text.contains("  state      broken: no kernel `count`\n"),
        "{text}"
    );
    assert!(
        text.contains("  ended      2 min ago, took 1 min 5 s\n"),
        "{text}"
    );
    let cancelled = finished(Outcome::Cancelled { by: "eve".to_owned() });
    let text = job_text(&cancelled, NOW, Style::Coloured);
    assert!(text.contains("\x1b[2mcancelled\x1b[0m by eve\n"), "{text}");
}

#[test]
fn workers_are_a_table() {
    let idle = WorkerView {
        worker: WorkerId(12),
        capacity: Resources {
            cpus: 1,
            ..Resources::default()
        },
        free: Resources {
            cpus: 1,
            ..Resources::default()
        },
        jobs: vec![],
        draining: true,
        ..worker_view()
    };
    let expected = "\
ID   NAME   ADDRESS         CPUS FREE    MEMORY FREE  OTHER FREE  TASKS ENDED  JOBS
w3   node7  10.0.0.7:40000        6/8  15 GiB/16 GiB  1/2 gpu             512  42
w12  node7  10.0.0.7:40000        1/1        0 B/0 B  -                   512  - (draining)
";
    assert_eq!(workers_table(&[worker_view(), idle], Style::Plain), expected);
}

#[test]
fn a_verdict_is_a_sentence() {
    let text = |verdict| verdict_text(&explanation(verdict));
    let largest = Some(worker_view().capacity);
    assert_eq!(
        text(Verdict::TooLarge { largest }),
        "job 42 cannot start: each task needs 2 cpus, 1 GiB, 1 gpu, the largest worker has 8 cpus, 16 GiB, 2 gpu."
    );
    assert_eq!(
        text(Verdict::Behind {
            jobs: (1..=7).map(JobId).collect()
        }),
        "job 42 waits: jobs 1, 2, 3, 4, 5 and 2 more hold the slots that it could use, and came first by priority, \
         fair share or age."
    );
    let resource = "gpu:a100".to_owned();
    assert_eq!(
        text(Verdict::Scarce {
            resource,
            jobs: vec![JobId(7)]
        }),
        "job 42 waits for gpu:a100: all that it could use is held by job 7."
    );
    assert_eq!(
        text(Verdict::NotAlone {
            jobs: vec![JobId(7), JobId(8)]
        }),
        "job 42 waits for a worker that no other job uses: jobs 7, 8 hold slots on all that it could use."
    );
    assert_eq!(
        text(Verdict::KeptOff { jobs: vec![JobId(7)] }),
        "job 42 waits: the workers where there is room are exclusively those of job 7."
    );
    let mut lacking = explanation(Verdict::TooLarge { largest: None });
    lacking.job.request.add("gpu:v100", 1.into());
    assert_eq!(
        verdict_text(&lacking),
        "job 42 cannot start: each task needs 2 cpus, 1 GiB, 2 gpu, 1 gpu:v100, and no worker has as much gpu:v100."
    );
    assert_eq!(
        text(Verdict::Running),
        "job 42 is running: 512 of 1,000 tasks are done, on 4 slots of 2 workers."
    );
    assert_eq!(
        text(Verdict::Storage {
            error: Some("no space left".to_owned())
        }),
        "job 42 waits for shared storage, which fails: no space left."
    );
    let over = Explanation {
        job: finished(Outcome::Failed),
        ..explanation(Verdict::Finished)
    };
    assert_eq!(
        verdict_text(&over),
        "job 42 failed in 1 min 5 s: 512 of 1,000 tasks done, 1 failed."
    );
}

#[test]
fn an_explanation_ends_with_what_workers_offer() {
    let explanation = explanation(Verdict::Behind {
        jobs: vec![JobId(40)],
    });
    let expected = "\
job 42 waits: job 40 holds the slots that it could use, and came first by priority, fair share or age.

WORKER  NAME   FITS EMPTY  FITS NOW  HOLDS  HAS
w3      node7           2         0      1  8 cpus, 16 GiB, 2 gpu
";
    let text = explanation_text(&explanation, verdict_text(&explanation), Style::Plain);
    assert_eq!(text, expected);
}
