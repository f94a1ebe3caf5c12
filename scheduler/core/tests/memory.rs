//! What a job costs in memory: in proportion to its ranges, never to its tasks. Counts what this process allocates, so
//! it is a test binary of its own with one test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::message::worker::{Join, Report, ToWorker};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, JobSpec, Request, Resources, Retries, SubmissionId, Term, WorkerChoice,
    WorkerId,
};
use phalanx_scheduler_core::{Core, Effect, Input, Now, RequestId, SessionId};

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "counting allocations takes a global allocator")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Driver {
    core: Core,
    micros: u64,
    effects: Vec<Effect>,
}

impl Driver {
    fn tell(&mut self, input: Input) {
        self.micros += 1000;
        let now = Now {
            elapsed: Duration::from_micros(self.micros),
            unix_millis: 0,
        };
        self.core.handle(now, input, &mut self.effects);
    }

    fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

fn job(tasks: u64) -> Input {
    let work = KernelWork {
        program: BlobId([1; 32]),
        kernel: "square".into(),
        parameters: Payload::Inline(bytes::Bytes::new()),
        inputs: Inputs::Index { first: 0 },
        encoding: Encoding::Bincode,
        reduce: false,
    };
    let spec = JobSpec {
        submission: SubmissionId(1),
        name: "squares".into(),
        tasks,
        work: Work::Kernel(work),
        request: Request::default(),
        priority: 0,
        feeding: Feeding::Factoring,
        failures_max: None,
        retries: Retries::default(),
        task_time_limit_millis: None,
        time_limit_millis: None,
        idempotent: false,
        slots_max: None,
        dependency: None,
        held: false,
        begin_unix_millis: None,
        gang: None,
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
    };
    Input::Submitted {
        request: RequestId(1),
        user: "ada".into(),
        spec: Box::new(spec),
    }
}

#[test]
fn a_job_of_a_billion_tasks_costs_less_than_a_mebibyte_from_its_first_grant_to_its_end() {
    let mut driver = Driver {
        core: Core::new(Term(1)),
        micros: 0,
        effects: Vec::new(),
    };
    for session in 0..8 {
        let capacity = Resources {
            cpus: 4,
            ..Resources::default()
        };
        let instance = u128::from(session);
        let join = Join {
            instance,
            worker: None,
            name: "node".into(),
            capacity,
            held: Vec::new(),
        };
        driver.tell(Input::WorkerJoined {
            session: SessionId(session),
            address: "10.0.0.1:7000".into(),
            join: Box::new(join),
        });
    }
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut most = 0;
    let mut reports = [0; 9];
    driver.tell(job(1_000_000_000));
    loop {
        let effects = driver.take_effects();
        most = most.max(ALLOCATED.load(Ordering::Relaxed) - before);
        if effects.is_empty() {
            break;
        }
        for effect in effects {
            match effect {
                Effect::Append { sequence, .. } => driver.tell(Input::Appended { sequence }),
                Effect::Send {
                    worker,
                    message:
                        ToWorker::Grant {
                            job, grant, range, ..
                        },
                } => {
                    // every fourth grant is reported with a hole in it, which comes a little later
                    let WorkerId(place) = worker;
                    let middle = range.start + range.len() / 2;
                    let parts = if grant.number % 4 == 0 {
                        vec![(middle..range.end).into(), (range.start..middle).into()]
                    } else {
                        vec![range]
                    };
                    for part in parts {
                        reports[place as usize] += 1;
                        let number = reports[place as usize];
                        let done = vec![(grant, vec![part])];
                        let (failed, results, busy_nanos) = (Vec::new(), Vec::new(), 100 * range.len());
                        let report = Report {
                            usage: Vec::new(),
                            number,
                            job,
                            done,
                            failed,
                            results,
                            busy_nanos,
                            backlog: 0,
                        };
                        driver.tell(Input::Reported {
                            worker,
                            report: Box::new(report),
                        });
                    }
                }
                Effect::Send { .. }
                | Effect::Admit { .. }
                | Effect::Reject { .. }
                | Effect::Answer { .. }
                | Effect::Publish { .. }
                | Effect::Forget(_) => {}
            }
        }
    }
    let views = driver.core.jobs();
    assert_eq!(views[0].done, 1_000_000_000);
    assert!(most < 1 << 20, "it took {most} bytes");
}
