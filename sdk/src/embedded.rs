//! A whole cluster inside the calling process: the real scheduler and workers, QUIC on loopback, a journal on disk.
//!
//! Nothing is simulated and nothing has to be set up. It lives in a temporary directory ([`home`]), and ends with the
//! last clone of the [`crate::Cluster`] that holds it, also when a panic unwinds: workers first, then the scheduler, then
//! the directory. A process that is killed leaves its directory behind, and the next one to start removes it.

mod home;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use phalanx_protocol::Resources;
use phalanx_scheduler::{JournalOptions, RunningScheduler, Scheduler, SchedulerConfig};
use phalanx_transport::{ClusterDirectory, DirectoryError, NewCluster, Role};
use phalanx_worker::{Equipment, RunningWorker, Worker, WorkerConfig};

use home::Home;

/// How long a worker may take to join a scheduler in its own process.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// What an embedded cluster is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How many workers; at least 1 is started.
    pub workers: u32,
    /// Cpus of each worker; unless given, the machine's are divided among the workers, and none gets less than 1.
    pub cpus: Option<u32>,
    /// Bytes of memory of each worker; unless given, the machine's are divided among the workers.
    pub memory_bytes: Option<u64>,
    /// Where its directory is made; the system's directory for temporary files unless given.
    pub parent: Option<PathBuf>,
}

impl Default for EmbeddedOptions {
    /// One worker with all that the machine has.
    fn default() -> Self {
        Self {
            workers: 1,
            cpus: None,
            memory_bytes: None,
            parent: None,
        }
    }
}

impl EmbeddedOptions {
    /// What each worker offers, on a machine with `machine`.
    fn capacity(&self, machine: &Resources) -> Resources {
        let workers = self.workers.max(1);
        Resources {
            cpus: self.cpus.unwrap_or(machine.cpus / workers).max(1),
            memory_bytes: self
                .memory_bytes
                .unwrap_or(machine.memory_bytes / u64::from(workers)),
            named: machine.named.clone(),
        }
    }
}

/// Why an embedded cluster cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No temporary directory can be made.
    #[error("cannot make a temporary directory in `{}`", parent.display())]
    Home {
        /// Where it was to be.
        parent: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The cluster's keys cannot be made.
    #[error("its cluster directory cannot be made")]
    Directory(#[from] DirectoryError),
    /// The scheduler does not start.
    #[error("its scheduler does not start")]
    Scheduler(#[from] phalanx_scheduler::StartError),
    /// A worker does not start.
    #[error("its worker does not start")]
    Worker(#[from] phalanx_worker::StartError),
    /// A worker does not join the scheduler.
    #[error("its worker does not join")]
    NotReady(#[from] phalanx_worker::NotReady),
}

/// A cluster inside this process; ends when dropped.
#[derive(Debug)]
pub(crate) struct Embedded {
    workers: Vec<RunningWorker>,
    scheduler: Option<RunningScheduler>,
    address: SocketAddr,
    directory: ClusterDirectory,
    /// Removed last.
    home: Home,
}

impl Embedded {
    /// Starts it and waits until its workers have joined.
    pub(crate) fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let home = Home::create(&parent).map_err(|cause| EmbeddedError::Home { parent, cause })?;
        let directory = ClusterDirectory::create(&home.path().join("cluster"), &NewCluster::default())?;
        let scheduler = start_scheduler(&directory)?;
        let address = scheduler.address();
        let mut embedded = Self {
            workers: Vec::new(),
            scheduler: Some(scheduler),
            address,
            directory,
            home,
        };
        let capacity = options.capacity(&phalanx_worker::detect_capacity());
        let equipment = Equipment::detect();
        let count = options.workers.max(1);
        for number in 1..=count {
            let equipment = equipment.part(number as usize - 1, count as usize);
            let mut capacity = capacity.clone();
            capacity.set_gpus(equipment.gpus());
            let name = format!("embedded-{number}");
            let cache = embedded.home.path().join(&name);
            let worker = start_worker(&embedded.directory, address, &name, &cache, capacity, equipment)?;
            embedded.workers.push(worker);
        }
        for worker in &embedded.workers {
            worker.ready(JOIN_PATIENCE)?;
        }
        Ok(embedded)
    }

    /// Its cluster directory.
    pub(crate) fn directory(&self) -> &ClusterDirectory {
        &self.directory
    }

    /// Where its scheduler listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.stop();
        }
        for worker in self.workers.drain(..) {
            if let Err(error) = worker.join() {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "an embedded worker has failed"
                );
            }
        }
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.stop();
        }
    }
}

fn start_scheduler(directory: &ClusterDirectory) -> Result<RunningScheduler, EmbeddedError> {
    Ok(Scheduler::start(SchedulerConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        credential: directory.credential(Role::Scheduler)?,
        storage: directory.storage_path(),
        name: "embedded".to_owned(),
        cluster: directory.config.cluster.clone(),
        // it is never restarted, so nobody has to recognise it
        keys: None,
        takeover_after: SchedulerConfig::TAKEOVER_AFTER,
        worker_timeout: SchedulerConfig::WORKER_TIMEOUT,
        journal: JournalOptions::default(),
    })?)
}

fn start_worker(
    directory: &ClusterDirectory,
    scheduler: SocketAddr,
    name: &str,
    cache: &Path,
    capacity: Resources,
    equipment: Equipment,
) -> Result<RunningWorker, EmbeddedError> {
    Ok(Worker::start(WorkerConfig {
        schedulers: vec![scheduler].into(),
        credential: directory.credential(Role::Worker)?,
        storage: directory.storage_path(),
        cache: cache.to_owned(),
        name: name.to_owned(),
        capacity,
        equipment,
        rejoin_for: WorkerConfig::REJOIN_FOR,
        // it ends with its only user
        grace: Duration::ZERO,
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_divided_among_the_workers() {
        let machine = Resources {
            cpus: 6,
            memory_bytes: 12 << 30,
            ..Resources::default()
        };
        let with = |workers, cpus| {
            let options = EmbeddedOptions {
                workers,
                cpus,
                ..EmbeddedOptions::default()
            };
            let capacity = options.capacity(&machine);
            (capacity.cpus, capacity.memory_bytes >> 30)
        };
        assert_eq!(with(1, None), (6, 12));
        assert_eq!(with(4, None), (1, 3));
        assert_eq!(with(8, None), (1, 1));
        assert_eq!(with(2, Some(5)), (5, 6));
    }

    #[test]
    fn nothing_is_left_when_it_ends() {
        let parent = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions {
            parent: Some(parent.path().to_owned()),
            cpus: Some(1),
            ..EmbeddedOptions::default()
        };
        let cluster = crate::Cluster::embedded_with(&options).unwrap();
        let clone = cluster.clone();
        drop(cluster);
        assert_eq!(clone.workers().unwrap().len(), 1);
        drop(clone);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
