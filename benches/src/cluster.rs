//! A cluster on loopback whose workers are processes: the benchmark's own program, started again.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use phalanx::{ClientOptions, Cluster};
use phalanx_protocol::Resources;
use phalanx_scheduler::{RunningScheduler, Scheduler, SchedulerConfig};
use phalanx_transport::Role;
use phalanx_transport::directory::{ClusterDirectory, NewCluster};
use phalanx_worker::{AddressSource, Worker, WorkerConfig, detect_capacity};

/// Directory, scheduler address, name and cpus of a worker, in the environment of the process that is to be one.
const WORKER_VARIABLE: &str = "PHALANX_BENCH_WORKER";

/// A scheduler in this process and workers in others; all end when it is dropped.
#[derive(Debug)]
pub struct ProcessCluster {
    /// The way in.
    pub cluster: Cluster,
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
        })?;
        let address = scheduler.address();
        let mut children = Vec::new();
        for number in 0..workers {
            let told = format!("{}\t{address}\tw{number}\t{cpus}", root.display());
            let mut command = Command::new(std::env::current_exe()?);
            children.push(command.env(WORKER_VARIABLE, told).stdin(Stdio::piped()).spawn()?);
        }
        let cluster = Cluster::connect_to(
            &[address],
            &directory.credential(Role::User)?,
            ClientOptions::default(),
        )?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while cluster.workers()?.len() < workers as usize {
            if Instant::now() > deadline {
                return Err("the workers do not join".into());
            }
            std::thread::yield_now();
        }
        Ok(Self {
            cluster,
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

/// Becomes a worker if this process was started as one, and then does not return. Call it first in `main`.
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
    let addresses: Vec<SocketAddr> = vec![address.parse()?];
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
        rejoin_for: Duration::from_secs(1),
        grace: Duration::ZERO,
    })?;
    // the parent holds the other end of stdin: its end is ours
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(worker);
    std::process::exit(0);
}
