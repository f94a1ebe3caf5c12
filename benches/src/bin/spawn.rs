//! What it costs to run programs: an array of `/bin/true` beside a bare loop that starts it and waits for it, in as many threads
//! as there are slots, and beside `xargs -P`. Also: memory and bytes on storage per task, and what submitting 10^6 tasks costs.
//!
//! `cargo run --release -p phalanx-benches --bin spawn`

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use phalanx::Surroundings;
use phalanx_benches::{ProcessCluster, median, seconds_text, worker_if_asked};
use phalanx_protocol::command::{
    Action, ArrayIds, ArrayPart, CommandPlan, CommandWork, Dialect, Output, TaskInput,
};
use phalanx_protocol::job::{Feeding, Inputs, Payload, Retries, Work};
use phalanx_protocol::{JobId, JobSpec, Request, SubmissionId, WorkerChoice, codec};
use tokio::runtime::Runtime;

const RUNS: usize = 5;
const TASKS: u64 = 8_000;
const MANY_TASKS: u64 = 1_000_000;
const PROGRAM: &str = "/bin/true";

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    worker_if_asked()?;
    let cores = thread::available_parallelism()?.get() as u32;
    let cluster = ProcessCluster::start(1, cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bench = Bench {
        cluster,
        runtime,
        cores,
    };
    bench.run(1_000)?;
    bench.submitting()?;
    bench.rates()?;
    bench.sizes()
}

struct Bench {
    cluster: ProcessCluster,
    runtime: Runtime,
    cores: u32,
}

impl Bench {
    fn submit(&self, tasks: u64) -> Result<JobId, Box<dyn Error>> {
        let spec = array(tasks)?;
        Ok(self
            .runtime
            .block_on(self.cluster.cluster.client().submit(spec))?)
    }

    /// Runs an array; says how many tasks it ran per second.
    fn run(&self, tasks: u64) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let job = self.submit(tasks)?;
        let mut watch = self.cluster.cluster.client().watch(job);
        let view = self.runtime.block_on(async {
            loop {
                match watch.next().await? {
                    Some(view) if view.outcome.is_none() => {}
                    other => return Ok::<_, Box<dyn Error>>(other),
                }
            }
        })?;
        assert_eq!(view.map(|view| view.done), Some(tasks));
        Ok(tasks as f64 / start.elapsed().as_secs_f64())
    }

    fn submitting(&self) -> Result<(), Box<dyn Error>> {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let start = Instant::now();
            let job = self.submit(MANY_TASKS)?;
            times.push(start.elapsed().as_secs_f64());
            self.cluster.cluster.cancel(job)?;
        }
        println!(
            "submit an array of 10^6, durable: {}",
            seconds_text(median(&times))
        );
        Ok(())
    }

    fn rates(&self) -> Result<(), Box<dyn Error>> {
        let (mut bare, mut ours, mut xargs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ratios, mut over_xargs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (before, own) = (bare_loop(self.cores), self.run(TASKS)?);
            // before and after, since machines drift
            let alone = f64::midpoint(before, bare_loop(self.cores));
            bare.push(alone);
            ours.push(own);
            ratios.push(own / alone);
            if let Some(rate) = xargs_rate(self.cores)? {
                xargs.push(rate);
                over_xargs.push(own / rate);
            }
        }
        println!(
            "bare loop, {} threads:             {:.0} tasks/s",
            self.cores,
            median(&bare)
        );
        println!(
            "array of {PROGRAM}:               {:.0} tasks/s, {:.2} of the bare loop",
            median(&ours),
            median(&ratios)
        );
        if !xargs.is_empty() {
            println!(
                "xargs -P {}:                       {:.0} tasks/s, we {:.2} times that",
                self.cores,
                median(&xargs),
                median(&over_xargs)
            );
        }
        Ok(())
    }

    fn sizes(&self) -> Result<(), Box<dyn Error>> {
        let storage = &self.cluster.storage;
        let before = bytes_in(storage)?;
        let resident = resident_bytes("self");
        self.run(TASKS)?;
        let grown = bytes_in(storage)? - before;
        println!(
            "on storage:                       {:.1} bytes per task",
            grown as f64 / TASKS as f64
        );
        let more = resident_bytes("self").saturating_sub(resident);
        println!(
            "memory after all:                 scheduler and client {} MiB ({:.0} bytes more per task), host {} MiB",
            resident_bytes("self") >> 20,
            more as f64 / TASKS as f64,
            host_bytes() >> 20
        );
        Ok(())
    }
}

/// Starts and awaits programs in as many threads; says how many per second.
fn bare_loop(threads: u32) -> f64 {
    let each = TASKS / u64::from(threads);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    let status = Command::new(PROGRAM).stdin(Stdio::null()).status();
                    assert!(status.is_ok_and(|status| status.success()));
                }
            });
        }
    });
    (each * u64::from(threads)) as f64 / start.elapsed().as_secs_f64()
}

/// The same by `xargs`, if it is there.
fn xargs_rate(threads: u32) -> Result<Option<f64>, Box<dyn Error>> {
    let start = Instant::now();
    let mut command = Command::new("xargs");
    command.args(["-P", &threads.to_string(), "-n", "1", PROGRAM]);
    let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else {
        return Ok(None);
    };
    let lines: String = (0..TASKS).map(|number| format!("{number}\n")).collect();
    // the pipe is dropped, and with that the list ends
    child
        .stdin
        .take()
        .ok_or("a pipe was asked for")?
        .write_all(lines.as_bytes())?;
    assert!(child.wait()?.success());
    Ok(Some(TASKS as f64 / start.elapsed().as_secs_f64()))
}

/// An array of programs, with all that is around this process, as the command line submits it.
fn array(tasks: u64) -> Result<JobSpec, Box<dyn Error>> {
    let around = Surroundings::capture()?;
    let plan = CommandPlan {
        name: "true".to_owned(),
        action: Action::Program(vec![Bytes::from_static(PROGRAM.as_bytes())]),
        placeholders: true,
        environment: around.environment,
        directory: around.directory,
        umask: around.umask,
        limits: around.limits,
        input: TaskInput::Empty,
        output: Output::Packed,
        dialect: Dialect::Phalanx,
        warning: None,
        grace_millis: 1_000,
    };
    let part = ArrayPart {
        first: 0,
        count: tasks,
        step: 1,
    };
    // no two are made in one nanosecond
    let time = std::time::UNIX_EPOCH.elapsed()?.as_nanos();
    Ok(JobSpec {
        submission: SubmissionId(time),
        name: plan.name.clone(),
        tasks,
        work: Work::Command(CommandWork {
            command: PROGRAM.to_owned(),
            plan: Payload::Inline(codec::encode(&plan).into()),
            inputs: Inputs::Index { first: 0 },
            array: ArrayIds::new(vec![part]),
            facts: Default::default(),
        }),
        request: Request::default(),
        priority: 0,
        feeding: Feeding::default(),
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
    })
}

/// Bytes of all files in a folder.
fn bytes_in(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => bytes_in(&entry.path())?,
            metadata => metadata.len(),
        };
    }
    Ok(bytes)
}

/// What a process has resident.
fn resident_bytes(process: &str) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: Option<u64> = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or_default() * 4096
}

/// What the host of commands has resident, which is the child of a child.
fn host_bytes() -> u64 {
    let parent = |process: &str| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split_ascii_whitespace().nth(1).map(str::to_owned)
    };
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let hosts = names.filter(|name| {
        let above = parent(name).and_then(|parent_name| parent(&parent_name));
        above.as_ref() == Some(&own)
    });
    hosts.map(|host| resident_bytes(&host)).sum()
}
