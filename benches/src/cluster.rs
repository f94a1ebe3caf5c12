//! Clusters on loopback whose members are processes: the benchmark's own program, started again.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use phalanx::{ClientOptions, Cluster};
use phalanx_protocol::Resources;
use phalanx_scheduler::{JournalOptions, RunningScheduler, Scheduler, SchedulerConfig};
use phalanx_transport::Role;
use phalanx_transport::directory::{ClusterDirectory, NewCluster};
use phalanx_worker::{AddressSource, Equipment, Worker, WorkerConfig, detect_capacity};

/// Directory, scheduler address, name and cpus of a worker, in the environment of the process that is to be one.
const WORKER_VARIABLE: &str = "PHALANX_BENCH_WORKER";

/// Directory and name of a scheduler, in the environment of the process that is to be one.
const SCHEDULER_VARIABLE: &str = "PHALANX_BENCH_SCHEDULER";

/// Schedulers and workers, each a process that can be killed; all end when it is dropped.
#[derive(Debug)]
pub struct MortalCluster {
    /// The way in.
    pub cluster: Cluster,
    /// Schedulers, by age; the first one led first.
    pub schedulers: Vec<Child>,
    /// Workers.
    pub workers: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl MortalCluster {
    /// Starts schedulers, then workers of one cpu each.
    ///
    /// # Errors
    /// Whatever does not start.
    pub fn start(schedulers: u32, workers: u32) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("cluster");
        let directory = ClusterDirectory::create(&root, &NewCluster::default())?;
        let mut leaders = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..schedulers {
            let mut command = Command::new(std::env::current_exe()?);
            let mut child = command
                .env(SCHEDULER_VARIABLE, format!("{}\ts{number}", root.display()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let stdout = child.stdout.take().ok_or("a scheduler has a stdout")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            leaders.push(child);
            addresses.push(line.trim().to_owned());
        }
        let told = addresses.join(",");
        let workers: Result<Vec<Child>, Box<dyn Error>> = (0..workers)
            .map(|number| start_worker(&root, &told, number, 1))
            .collect();
        let parsed: Result<Vec<SocketAddr>, _> = addresses.iter().map(|address| address.parse()).collect();
        let credential = directory.credential(Role::User)?;
        let cluster = Cluster::connect_to(&parsed?, &credential, ClientOptions::default())?;
        let members = Self {
            cluster,
            schedulers: leaders,
            workers: workers?,
            _folder: folder,
        };
        wait_for_workers(&members.cluster, members.workers.len())?;
        Ok(members)
    }
}

impl Drop for MortalCluster {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain(&mut self.schedulers) {
            // one that has ended already needs no end
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_worker(root: &Path, addresses: &str, number: u32, cpus: u32) -> Result<Child, Box<dyn Error>> {
    let told = format!("{}\t{addresses}\tw{number}\t{cpus}", root.display());
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.env(WORKER_VARIABLE, told).stdin(Stdio::piped()).spawn()?)
}

/// Waits until that many workers have joined, or are left.
///
/// # Errors
/// If that takes too long.
pub fn wait_for_workers(cluster: &Cluster, count: usize) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.workers()?.len() != count {
        if Instant::now() > deadline {
            return Err("the workers do not join".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// A scheduler in this process and workers in others; all end when it is dropped.
#[derive(Debug)]
pub struct ProcessCluster {
    /// The way in.
    pub cluster: Cluster,
    /// The shared storage.
    pub storage: PathBuf,
    workers: Vec<Child>,
    _scheduler: RunningScheduler,
    _folder: tempfile::TempDir,
}

impl ProcessCluster {
    /// Starts `workers` worker processes of `cpus` cpus each.
    ///
    /// # Errors
    /// Whatever does not start.
    pub fn start(workers: u32, cpus: u32) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("cluster");
        let directory = ClusterDirectory::create(&root, &NewCluster::default())?;
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
        let address = scheduler.address();
        let mut children = Vec::new();
        for number in 0..workers {
            children.push(start_worker(&root, &address.to_string(), number, cpus)?);
        }
        let cluster = Cluster::connect_to(
            &[address],
            &directory.credential(Role::User)?,
            ClientOptions::default(),
        )?;
        wait_for_workers(&cluster, workers as usize)?;
        Ok(Self {
            cluster,
            storage: directory.storage_path(),
            workers: children,
            _scheduler: scheduler,
            _folder: folder,
        })
    }
}

impl Drop for ProcessCluster {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // one that has ended already needs no end
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// Becomes a member of a cluster if this process was started as one, and then does not return. Call it first in `main`.
///
/// # Errors
/// Whatever keeps it from being one.
pub fn member_if_asked() -> Result<(), Box<dyn Error>> {
    scheduler_if_asked()?;
    worker_if_asked()
}

fn scheduler_if_asked() -> Result<(), Box<dyn Error>> {
    let Ok(told) = std::env::var(SCHEDULER_VARIABLE) else {
        return Ok(());
    };
    let (root, name) = told.split_once('\t').ok_or("a scheduler has a name")?;
    let directory = ClusterDirectory::open(Path::new(root))?;
    let scheduler = Scheduler::start(SchedulerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        credential: directory.credential(Role::Scheduler)?,
        storage: directory.storage_path(),
        name: name.to_owned(),
        cluster: directory.config.cluster.clone(),
        keys: None,
        takeover_after: SchedulerConfig::TAKEOVER_AFTER,
        worker_timeout: SchedulerConfig::WORKER_TIMEOUT,
        journal: JournalOptions::default(),
    })?;
    println!("{}", scheduler.address());
    // the parent holds the other end of stdin: its end is ours
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(scheduler);
    std::process::exit(0);
}

/// Becomes a worker if this process was started as one, and then does not return.
///
/// # Errors
/// Whatever keeps it from being one.
pub fn worker_if_asked() -> Result<(), Box<dyn Error>> {
    let Ok(told) = std::env::var(WORKER_VARIABLE) else {
        return Ok(());
    };
    let [root, address, name, cpus] = told.split('\t').collect::<Vec<_>>()[..] else {
        return Err(format!("{WORKER_VARIABLE} is malformed").into());
    };
    let directory = ClusterDirectory::open(Path::new(root))?;
    let addresses: Result<Vec<SocketAddr>, _> = address.split(',').map(|address| address.parse()).collect();
    let addresses = addresses?;
    let worker = Worker::start(WorkerConfig {
        schedulers: AddressSource::new(move || addresses.clone()),
        credential: directory.credential(Role::Worker)?,
        storage: directory.storage_path(),
        cache: Path::new(root).join(name),
        name: name.to_owned(),
        capacity: Resources {
            cpus: cpus.parse()?,
            ..detect_capacity()
        },
        equipment: Equipment::default(),
        rejoin_for: Duration::from_secs(10),
        grace: Duration::ZERO,
    })?;
    // the parent holds the other end of stdin: its end is ours
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(worker);
    std::process::exit(0);
}
