//! What a death costs: how soon a standby leads, how soon a lost worker is given up and what it ran starts elsewhere, how much
//! runs twice, and how long a scheduler needs for a long journal, with a snapshot and without.
//!
//! `cargo run --release -p phalanx-benches --bin recovery`

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use phalanx::Cluster;
use phalanx_benches::{MortalCluster, median, member_if_asked, seconds_text, wait_for_workers};
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::record::{Record, ResultBlock, ResultData};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, IndexRange, JobId, JobSpec, Request, Retries, SubmissionId, Usage,
    WorkerChoice, codec,
};
use phalanx_scheduler::{JournalOptions, Scheduler, SchedulerConfig};
use phalanx_storage::{Candidate, Directory, JournalEvent, JournalWriter, LogId, Store, acquire, cluster};
use phalanx_transport::Role;
use phalanx_transport::directory::{ClusterDirectory, NewCluster};

const RUNS: usize = 5;
const REPORTS: u64 = 1_000_000;
/// Tasks of the job that loses a worker, and how long each takes.
const TASKS: u64 = 400;
const TASK_MILLIS: u64 = 10;

#[phalanx::kernel]
fn echo(index: u64) -> u64 {
    index
}

/// Leaves a mark for each time that it is run.
#[phalanx::kernel]
fn marked(index: u64, path: &String) -> Result<u64, std::io::Error> {
    OpenOptions::new().append(true).open(path)?.write_all(b".")?;
    std::thread::sleep(Duration::from_millis(TASK_MILLIS));
    Ok(index)
}

/// Leaves a line when it starts, the process of its worker and the nanoseconds since 1970, and runs until it is let go.
#[phalanx::kernel]
fn stands(index: u64, path: &String) -> Result<u64, std::io::Error> {
    let line = format!("{} {}\n", parent_id(), unix_nanos());
    OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(line.as_bytes())?;
    let gate = format!("{path}.go");
    while !std::fs::exists(&gate)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(index)
}

fn unix_nanos() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    member_if_asked()?;
    let (mut answers, mut results) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (answer, result) = takeover()?;
        answers.push(answer);
        results.push(result);
    }
    println!(
        "SIGKILL of the leader, to the standby's first answer   {}",
        spread(&answers)
    );
    println!(
        "                   to the result of a new task         {}",
        spread(&results)
    );
    let (mut noticed, mut twice) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (seconds, tasks) = lost_worker()?;
        noticed.push(seconds);
        twice.push(tasks);
    }
    println!(
        "SIGKILL of one of two workers, until it is given up     {}",
        spread(&noticed)
    );
    let restarted: Result<Vec<f64>, _> = (0..RUNS).map(|_| restarted()).collect();
    println!(
        "                   until what it ran starts elsewhere  {}",
        spread(&restarted?)
    );
    println!(
        "  of {TASKS} tasks of {TASK_MILLIS} ms run twice: {:.0}, which is {} of work (median of {RUNS})",
        median(&twice),
        seconds_text(median(&twice) * TASK_MILLIS as f64 / 1000.0)
    );
    for (has_results, what) in [
        (false, "progress"),
        (true, "results of 8 bytes, no two of them neighbours"),
    ] {
        let (without, with) = long_journal(has_results)?;
        println!("start on {REPORTS} reports: {what}");
        println!("  all of the journal  {}", spread(&without));
        println!("  behind a snapshot   {}", spread(&with));
        println!("  ratio {:.1}", median(&without) / median(&with));
    }
    Ok(())
}

fn spread(seconds: &[f64]) -> String {
    let largest = seconds.iter().copied().fold(0.0, f64::max);
    format!(
        "{:>10} median, {} at most, of {}",
        seconds_text(median(seconds)),
        seconds_text(largest),
        seconds.len()
    )
}

/// Kills the leader; seconds to an answer from the standby, and to the result of a task that is submitted then.
fn takeover() -> Result<(f64, f64), Box<dyn Error>> {
    let mut members = MortalCluster::start(2, 1)?;
    run_one(&members.cluster)?;
    let killed = Instant::now();
    members.schedulers[0].kill()?;
    members.cluster.jobs()?;
    let answered = killed.elapsed().as_secs_f64();
    run_one(&members.cluster)?;
    Ok((answered, killed.elapsed().as_secs_f64()))
}

fn run_one(cluster: &Cluster) -> Result<(), Box<dyn Error>> {
    match cluster.map::<echo>(7..8).collect()?[..] {
        [7] => Ok(()),
        _ => Err("a wrong result".into()),
    }
}

/// Kills one of two workers in the middle of a job; seconds until the other one has its tasks, and how many ran twice.
fn lost_worker() -> Result<(f64, f64), Box<dyn Error>> {
    let mut members = MortalCluster::start(1, 2)?;
    let folder = tempfile::tempdir()?;
    let marks = folder.path().join("marks");
    std::fs::write(&marks, "")?;
    let path = marks.display().to_string();
    let job = members
        .cluster
        .map::<marked>(0..TASKS)
        .parameters(&path)
        .submit()?;
    while job.view()?.done < TASKS / 4 {
        std::thread::yield_now();
    }
    let killed = Instant::now();
    members.workers[0].kill()?;
    wait_for_workers(&members.cluster, 1)?;
    let noticed = killed.elapsed().as_secs_f64();
    job.collect()?;
    let runs = std::fs::metadata(&marks)?.len();
    Ok((noticed, runs.saturating_sub(TASKS) as f64))
}

/// Kills the worker that runs a task; seconds until the task itself says that it runs on the other one, which is idle.
fn restarted() -> Result<f64, Box<dyn Error>> {
    let mut members = MortalCluster::start(1, 2)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("starts");
    std::fs::write(&path, "")?;
    let parameters = path.display().to_string();
    let job = members
        .cluster
        .map::<stands>(0..1)
        .parameters(&parameters)
        .submit()?;
    let (worker, _) = start_of(&path, 0)?;
    let mut workers = members.workers.iter_mut();
    let victim = workers.find(|child| child.id() == worker);
    let victim = victim.ok_or("the task runs on no worker of this cluster")?;
    let killed = unix_nanos();
    victim.kill()?;
    let (other, started) = start_of(&path, 1)?;
    if other == worker {
        return Err("it was started by a worker that is dead".into());
    }
    std::fs::write(format!("{parameters}.go"), "")?;
    job.collect()?;
    Ok(started.saturating_sub(killed) as f64 / 1e9)
}

/// Waits for a line of `stands`, and returns the process of the worker and the nanoseconds in it.
fn start_of(path: &Path, number: usize) -> Result<(u32, u128), Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(path)?;
        let line = text.split_inclusive('\n').nth(number);
        if let Some((worker, nanos)) = line
            .and_then(|line| line.strip_suffix('\n'))
            .and_then(|line| line.split_once(' '))
        {
            return Ok((worker.parse()?, nanos.parse()?));
        }
        if Instant::now() > deadline {
            return Err("the task does not start".into());
        }
        std::thread::yield_now();
    }
}

/// Seconds that a scheduler needs to lead a journal of many reports, and the same with a snapshot of it.
fn long_journal(has_results: bool) -> Result<(Vec<f64>, Vec<f64>), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let directory = ClusterDirectory::create(&folder.path().join("cluster"), &NewCluster::default())?;
    write_journal(&directory, has_results)?;
    let start = || -> Result<f64, Box<dyn Error>> {
        let started = Instant::now();
        let scheduler = Scheduler::start(SchedulerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            credential: directory.credential(Role::Scheduler)?,
            storage: directory.storage_path(),
            name: "bench".into(),
            cluster: directory.config.cluster.clone(),
            keys: None,
            takeover_after: SchedulerConfig::TAKEOVER_AFTER,
            worker_timeout: SchedulerConfig::WORKER_TIMEOUT,
            journal: JournalOptions::default(),
        })?;
        let took = started.elapsed().as_secs_f64();
        if scheduler.term().is_none() {
            return Err("it does not lead".into());
        }
        // in order, which takes a snapshot
        scheduler.stop();
        Ok(took)
    };
    let snapshots = directory.storage_path().join("shards/0/snapshots");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        if snapshots.exists() {
            std::fs::remove_dir_all(&snapshots)?;
        }
        without.push(start()?);
        with.push(start()?);
    }
    Ok((without, with))
}

/// A job of a billion tasks, and reports of ten tasks each: all of them in turn, or every other ten with results.
fn write_journal(cluster_directory: &ClusterDirectory, has_results: bool) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(Directory::open(cluster_directory.storage_path())?);
    let id = cluster_directory.config.cluster.parse()?;
    cluster::create_or_check(&*store, id, 1)?;
    let log = LogId {
        cluster: id,
        shard: 0,
    };
    let leadership = acquire(&*store, Candidate::new(log, 1))?;
    let (sender, events) = mpsc::channel();
    let journal = JournalWriter::start(store as Arc<dyn Store>, leadership, move |event| {
        // the receiver lives as long as this is waited for
        let _ = sender.send(event);
    })?;
    let mut records = vec![Bytes::from(codec::encode(&submitted()))];
    records.extend((0..REPORTS).map(|number| Bytes::from(codec::encode(&report(number, has_results)))));
    let last = records.len() as u64;
    journal.append_all((1..).zip(records))?;
    loop {
        match events.recv()? {
            JournalEvent::Durable { upto_sequence, .. } if upto_sequence == last => return Ok(()),
            JournalEvent::Durable { .. } | JournalEvent::Recovered => {}
            JournalEvent::Failing { error } => return Err(error.into()),
            JournalEvent::Deposed { .. } | JournalEvent::Expired { .. } => {
                return Err("it lost the lead".into());
            }
        }
    }
}

fn submitted() -> Record {
    Record::JobSubmitted {
        job: JobId(1),
        user: "ada".to_owned(),
        submitted_unix_millis: 0,
        spec: Box::new(JobSpec {
            submission: SubmissionId(1),
            name: "long".to_owned(),
            tasks: 1_000_000_000,
            work: Work::Kernel(KernelWork {
                program: BlobId([0; 32]),
                kernel: "long".to_owned(),
                parameters: Payload::Inline(Bytes::new()),
                inputs: Inputs::Index { first: 0 },
                encoding: Encoding::Bincode,
                reduce: true,
            }),
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
        }),
    }
}

fn report(number: u64, has_results: bool) -> Record {
    let stride = if has_results { 20 } else { 10 };
    let range = IndexRange::new(number * stride, number * stride + 10);
    let block = ResultBlock {
        range,
        keep: vec![range],
        data: ResultData::Inline(Bytes::from_static(b"8 bytes.")),
    };
    Record::TasksEnded {
        usage: Usage::Unknown,
        job: JobId(1),
        done: vec![range],
        results: has_results.then_some(block).into_iter().collect(),
        failed: Vec::new(),
    }
}
