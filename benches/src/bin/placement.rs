//! What the scheduler's decisions cost, without network, storage and kernels: the pure core alone with 1,000 and 10,000
//! virtual workers of 64 cpus and ten users' jobs of 10^8 tasks.
//!
//! Run with `cargo run --release -p phalanx-benches --bin placement`. Figures are for one core of this machine; bytes
//! are what the global allocator handed out.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::message::worker::{Join, Report, ToWorker};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, GrantId, IndexRange, JobId, JobSpec, Request, Resources, Retries,
    SubmissionId, Term, WorkerChoice, WorkerId,
};
use phalanx_scheduler_core::{Core, Effect, Input, Now, RequestId, SessionId};

const WORKER_CPUS: u32 = 64;
const JOB_COUNT: u64 = 10;
const JOB_TASKS: u64 = 100_000_000;
/// Long enough that grants are limited by the credit of two seconds: the steady state of a large cluster.
const TASK_NANOS: u64 = 100_000_000;
/// Reports between two storage writes.
const REPORTS_PER_APPEND: usize = 64;
/// Virtual time between reports.
const REPORT_MICROS: u64 = 20;
const REPORT_COUNT: usize = 300_000;

const SMALL_JOB_COUNT: u64 = 10_000;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "counting allocations takes a global allocator")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

/// A core and the virtual workers that it believes in. Only time spent in the core is counted.
struct Cluster {
    core: Core,
    micros: u64,
    spent: Duration,
    effects: Vec<Effect>,
    appended: u64,
    grants: BTreeMap<WorkerId, VecDeque<(JobId, GrantId, IndexRange)>>,
    grant_count: u64,
    reports: u64,
}

impl Cluster {
    fn new() -> Self {
        Self {
            core: Core::new(Term(1)),
            micros: 0,
            spent: Duration::ZERO,
            effects: Vec::new(),
            appended: 0,
            grants: BTreeMap::new(),
            grant_count: 0,
            reports: 0,
        }
    }

    /// Tells the core; returns how long it took.
    fn tell(&mut self, input: Input) -> Duration {
        let now = Now {
            elapsed: Duration::from_micros(self.micros),
            unix_millis: 0,
        };
        let start = Instant::now();
        self.core.handle(now, input, &mut self.effects);
        let took = start.elapsed();
        self.spent += took;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Append { sequence, .. } => self.appended = sequence,
                Effect::Send {
                    worker,
                    message:
                        ToWorker::Grant {
                            job, grant, range, ..
                        },
                } => {
                    self.grant_count += 1;
                    self.grants
                        .entry(worker)
                        .or_default()
                        .push_back((job, grant, range));
                }
                Effect::Send { .. }
                | Effect::Admit { .. }
                | Effect::Reject { .. }
                | Effect::Answer { .. }
                | Effect::Publish { .. }
                | Effect::Forget(_) => {}
            }
        }
        took
    }

    fn append(&mut self) -> Duration {
        self.tell(Input::Appended {
            sequence: self.appended,
        })
    }

    fn join(&mut self, number: u64) {
        let capacity = Resources {
            cpus: WORKER_CPUS,
            memory_bytes: 256 << 30,
            named: BTreeMap::new(),
        };
        let name = format!("node{number}");
        let join = Join {
            instance: number.into(),
            worker: None,
            name,
            capacity,
            held: Vec::new(),
        };
        let address = format!("10.0.{}.{}:7000", number / 256, number % 256);
        let session = SessionId(number);
        self.tell(Input::WorkerJoined {
            session,
            address,
            join: Box::new(join),
        });
    }

    fn submit(&mut self, number: u64, user: String, tasks: u64) {
        let work = KernelWork {
            program: BlobId([1; 32]),
            kernel: "square".into(),
            parameters: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        };
        let spec = JobSpec {
            submission: SubmissionId(number.into()),
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
        self.tell(Input::Submitted {
            request: RequestId(number),
            user,
            spec: Box::new(spec),
        });
    }

    /// A worker reports its oldest grant as done.
    fn report(&mut self, worker: WorkerId) {
        let Some((job, grant, range)) = self.grants.get_mut(&worker).and_then(VecDeque::pop_front) else {
            return;
        };
        self.reports += 1;
        self.micros += REPORT_MICROS;
        let report = Report {
            usage: Vec::new(),
            number: self.reports,
            job,
            done: vec![(grant, vec![range])],
            failed: Vec::new(),
            results: Vec::new(),
            busy_nanos: TASK_NANOS.saturating_mul(range.len()),
            backlog: 0,
        };
        self.tell(Input::Reported {
            worker,
            report: Box::new(report),
        });
    }

    /// Lets the workers report in turn.
    fn run(&mut self, report_count: usize) {
        let workers: Vec<WorkerId> = self.grants.keys().copied().collect();
        for (count, &worker) in workers.iter().cycle().take(report_count).enumerate() {
            self.report(worker);
            if count % REPORTS_PER_APPEND == 0 {
                self.append();
            }
        }
        self.append();
    }

    fn reset(&mut self) {
        (self.spent, self.grant_count, self.reports) = (Duration::ZERO, 0, 0);
    }

    /// Lets enough time pass for a plan, and makes it.
    fn plan(&mut self) -> Duration {
        self.micros += 10_000_000;
        self.tell(Input::Ticked)
    }
}

/// One column of the table.
struct Figures {
    worker_bytes: usize,
    job_bytes: usize,
    steady_bytes: usize,
    first_plan: Duration,
    next_plan: Duration,
    reports: f64,
    grants: f64,
    tail_reports: f64,
    small_jobs: f64,
    crowded_plan: Duration,
    loss: Duration,
}

fn measure(worker_count: u64) -> Figures {
    let mut cluster = Cluster::new();
    let empty = allocated();
    (1..=worker_count).for_each(|number| cluster.join(number));
    cluster.plan();
    let worker_bytes = (allocated() - empty) / worker_count as usize;

    let before_jobs = allocated();
    for number in 1..=JOB_COUNT {
        cluster.submit(number, format!("user{number}"), JOB_TASKS);
    }
    let job_bytes = (allocated() - before_jobs) / JOB_COUNT as usize;
    cluster.append();
    let first_plan = cluster.plan();

    // two rounds until rates are known
    cluster.run(2 * worker_count as usize);
    cluster.submit(JOB_COUNT + 1, "user1".into(), 1);
    cluster.micros += 10_000_000;
    let next_plan = cluster.append();
    cluster.reset();
    cluster.run(REPORT_COUNT);
    let (reports, grants) = (cluster.reports as f64, cluster.grant_count as f64);
    let seconds = cluster.spent.as_secs_f64();
    let steady_bytes = (allocated() - empty) / worker_count as usize;

    for number in 1..=SMALL_JOB_COUNT {
        cluster.submit(1000 + number, format!("user{}", number % 100), JOB_TASKS);
    }
    cluster.micros += 10_000_000;
    let crowded_plan = cluster.append();

    cluster.reset();
    let losses = worker_count / 10;
    for number in 1..=losses {
        cluster.grants.remove(&WorkerId(number));
        cluster.tell(Input::WorkerLost(WorkerId(number)));
    }
    let loss = cluster.spent / u32::try_from(losses).unwrap_or(u32::MAX);
    Figures {
        worker_bytes,
        job_bytes,
        steady_bytes,
        first_plan,
        next_plan,
        reports: reports / seconds,
        grants: grants / seconds,
        tail_reports: measure_tail(worker_count),
        small_jobs: measure_small_jobs(worker_count),
        crowded_plan,
        loss,
    }
}

/// Reports per second when nothing waits any more, slots go idle, and every report may cause a revoke or a plan.
fn measure_tail(worker_count: u64) -> f64 {
    let mut cluster = Cluster::new();
    (1..=worker_count).for_each(|number| cluster.join(number));
    let slots = worker_count * u64::from(WORKER_CPUS);
    cluster.submit(1, "ada".into(), 3 * slots);
    cluster.submit(2, "ada".into(), JOB_TASKS);
    cluster.append();
    cluster.plan();
    cluster.run(worker_count as usize);
    cluster.reset();
    cluster.run(4 * worker_count as usize);
    cluster.reports as f64 / cluster.spent.as_secs_f64()
}

/// Jobs of one task each, from submission to end, per second.
fn measure_small_jobs(worker_count: u64) -> f64 {
    let mut cluster = Cluster::new();
    (1..=worker_count).for_each(|number| cluster.join(number));
    cluster.reset();
    for batch in 0..10 {
        let count = SMALL_JOB_COUNT / 10;
        for number in 1..=count {
            cluster.submit(batch * count + number, "ada".into(), 1);
        }
        cluster.micros += 100_000;
        cluster.append();
        while cluster.grants.values().any(|grants| !grants.is_empty()) {
            cluster.run(worker_count as usize);
        }
    }
    cluster.append();
    let unfinished = cluster
        .core
        .jobs()
        .iter()
        .filter(|job| job.outcome.is_none())
        .count();
    assert_eq!(unfinished, 0, "every job ended");
    SMALL_JOB_COUNT as f64 / cluster.spent.as_secs_f64()
}

fn main() {
    let columns: Vec<(u64, Figures)> = [1_000, 10_000].map(|count| (count, measure(count))).into();
    let row = |name: &str, figure: &dyn Fn(&Figures) -> String| {
        print!("{name:<44}");
        columns
            .iter()
            .for_each(|(_, figures)| print!("{:>14}", figure(figures)));
        println!();
    };
    print!("{:<44}", "workers of 64 cpus");
    columns.iter().for_each(|(count, _)| print!("{count:>14}"));
    println!();
    row("decisions (grants) per second", &|figures| {
        format!("{:.0}", figures.grants)
    });
    row("reports handled per second", &|figures| {
        format!("{:.0}", figures.reports)
    });
    row("reports handled per second, in the tail", &|figures| {
        format!("{:.0}", figures.tail_reports)
    });
    row("first plan: 10 jobs get all slots (ms)", &|figures| {
        millis(figures.first_plan)
    });
    row("next plan: one job more (ms)", &|figures| {
        millis(figures.next_plan)
    });
    row("next plan: 10,000 jobs more (ms)", &|figures| {
        millis(figures.crowded_plan)
    });
    row("jobs of one task per second", &|figures| {
        format!("{:.0}", figures.small_jobs)
    });
    row("a lost worker (ms)", &|figures| millis(figures.loss));
    row("bytes per idle worker", &|figures| {
        figures.worker_bytes.to_string()
    });
    row("bytes per waiting job of 10^8 tasks", &|figures| {
        figures.job_bytes.to_string()
    });
    row("bytes per worker in the steady state", &|figures| {
        figures.steady_bytes.to_string()
    });
}

fn millis(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1000.0)
}
