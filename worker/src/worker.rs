//! The worker as its program sees it: a configuration, a handle, and how it ended.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use phalanx_protocol::limits::WORKER_TIMEOUT_MILLIS_MAX;
use phalanx_protocol::{Resources, WorkerId};
use phalanx_storage::{Directory, StoreError};
use phalanx_transport::{BindError, ConnectError, Credential, Dialer, EndpointOptions};
use tokio::sync::watch;

use crate::agent::{Agent, Folders};
use crate::driver::{Driver, Parts};
use crate::equipment::Equipment;
use crate::hosts::Launcher;
use crate::hosts::cgroup::Cgroups;
use crate::hosts::process::ProcessLauncher;
use crate::hosts::{board, program};
use crate::preparation::Stores;
use crate::session::Sessions;

/// Where the schedulers are; asked again before each attempt to reach one.
pub struct AddressSource(Box<dyn Fn() -> Vec<SocketAddr> + Send + Sync>);

impl AddressSource {
    /// Asks `source`, which must not block for long.
    pub fn new(source: impl Fn() -> Vec<SocketAddr> + Send + Sync + 'static) -> Self {
        Self(Box::new(source))
    }

    /// The addresses, as of now.
    pub(crate) fn ask(&self) -> Vec<SocketAddr> {
        (self.0)()
    }
}

impl From<Vec<SocketAddr>> for AddressSource {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self::new(move || addresses.clone())
    }
}

impl std::fmt::Debug for AddressSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AddressSource").field(&self.ask()).finish()
    }
}

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerConfig {
    /// Where to look for a scheduler.
    pub schedulers: AddressSource,
    /// The worker's credential.
    pub credential: Credential,
    /// The root of the shared storage.
    pub storage: PathBuf,
    /// A directory of this worker alone, for programs; created if absent.
    pub cache: PathBuf,
    /// For people.
    pub name: String,
    /// What it offers; see [`detect_capacity`](crate::detect_capacity).
    pub capacity: Resources,
    /// Its gpus and cpus by name; see [`Equipment::detect`]. Gpus count only as far as `capacity` offers them.
    pub equipment: Equipment,
    /// How long an idle worker looks for a scheduler; [`WorkerConfig::REJOIN_FOR`] is usual, [`Duration::MAX`] is for ever.
    ///
    /// A worker that holds tasks, or results that no scheduler has acknowledged, goes on for as long as it does, unless the
    /// shared storage itself is gone for this time.
    pub rejoin_for: Duration,
    /// How long what runs may take to end when the worker is stopped; [`WorkerConfig::GRACE`] is usual.
    pub grace: Duration,
}

impl WorkerConfig {
    /// How long an idle worker does without a scheduler unless told otherwise: 10 minutes.
    pub const REJOIN_FOR: Duration = Duration::from_secs(600);
    /// How long a stopping worker waits for what runs, unless told otherwise: 5 s.
    pub const GRACE: Duration = Duration::from_secs(5);
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Shared storage cannot be used.
    #[error("shared storage cannot be used")]
    Storage(#[source] StoreError),
    /// The cache directory cannot be used.
    #[error("cannot use the cache directory `{}`", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system gives no random bytes, thread or event queue.
    #[error("this system gives no {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// Why a worker ended other than by being stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The credential cannot be used.
    #[error("no connections can be made")]
    Endpoint(#[source] BindError),
    /// No scheduler could be reached.
    #[error("no scheduler could be reached for {} s", tried_for.as_secs())]
    Unreachable {
        /// For how long.
        tried_for: Duration,
        /// The most telling reason.
        #[source]
        cause: ConnectError,
    },
    /// The shared storage was deleted, and with it whatever could take what this worker holds.
    #[error(
        "shared storage `{}` is gone, and no scheduler took this worker for {} s",
        path.display(),
        tried_for.as_secs()
    )]
    StorageGone {
        /// Its root.
        path: PathBuf,
        /// For how long it looked for a scheduler.
        tried_for: Duration,
    },
    /// Schedulers answer, and none of them takes this worker.
    #[error("schedulers answer, but none of them takes this worker")]
    NotTaken,
    /// The scheduler refuses this worker.
    #[error("the scheduler refuses this worker: {text}")]
    Refused {
        /// Why.
        text: String,
    },
    /// A fault in this program.
    #[error("the worker's thread panicked")]
    Panicked,
}

/// Why [`RunningWorker::ready`] gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The worker has ended: [`RunningWorker::join`] says why.
    #[error("the worker has ended")]
    Ended,
    /// No scheduler has welcomed it in time.
    #[error("no scheduler has welcomed the worker yet")]
    Timeout,
}

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Starts a worker on a thread of its own; it then looks for a scheduler.
    ///
    /// # Errors
    /// [`StartError`] if this node is not fit for it. Whether a scheduler takes it shows later.
    pub fn start(config: WorkerConfig) -> Result<RunningWorker, StartError> {
        Self::start_with(config, Arc::new(ProcessLauncher))
    }

    pub(crate) fn start_with(
        config: WorkerConfig,
        launcher: Arc<dyn Launcher>,
    ) -> Result<RunningWorker, StartError> {
        let directory = Directory::open(&config.storage).map_err(StartError::Storage)?;
        let programs = config.cache.join("programs");
        let created = fs::create_dir_all(&programs).and_then(|()| program::sweep(&programs));
        let in_cache = |path| move |cause| StartError::Cache { path, cause };
        created.map_err(in_cache(programs))?;
        let boards = board::folder(&config.cache);
        board::sweep(&boards).map_err(in_cache(boards))?;
        let scratch = config.cache.join("scratch");
        program::empty_folder(&scratch).map_err(in_cache(scratch.clone()))?;
        let system = |what| move |cause| StartError::System { what, cause };
        let instance = random().map_err(system("random bytes"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system("event queue"))?;
        let (stop, stop_receiver) = watch::channel(StopWish::GoOn);
        let status = Arc::new(StatusBoard::default());
        let storage = directory.root().to_owned();
        let parts = Parts {
            agent: Agent::new(
                instance,
                config.name,
                config.capacity,
                config.equipment,
                Folders {
                    storage: storage.clone(),
                    scratch,
                },
            ),
            stores: Stores::new(Arc::new(directory), config.cache),
            launcher,
            cgroups: Cgroups::find(),
            status: Arc::clone(&status),
            grace: config.grace,
            stop: stop_receiver,
        };
        let (credential, addresses, rejoin_for) = (config.credential, config.schedulers, config.rejoin_for);
        let run = async move {
            // how long silence is borne is the scheduler's to say: the shorter time holds on both sides
            let options = EndpointOptions {
                idle_timeout: Duration::from_millis(WORKER_TIMEOUT_MILLIS_MAX.into()),
                ..EndpointOptions::default()
            };
            let dialer = Dialer::with_options(&credential, options).map_err(WorkerError::Endpoint)?;
            // the low half of a random number is as random as any
            let seed = instance as u64;
            let sessions = |events| Sessions {
                dialer,
                addresses,
                rejoin_for,
                storage,
                seed,
                events,
            };
            Driver::new(parts).run(sessions).await
        };
        let ending = EndOnDrop(Arc::clone(&status));
        let thread = thread::Builder::new()
            .name("phalanx-worker".to_owned())
            .spawn(move || {
                let _ending = ending;
                let ended = runtime.block_on(run);
                // a write to storage that hangs must not hold the program up
                runtime.shutdown_background();
                ended
            });
        let thread = thread.map_err(system("thread"))?;
        Ok(RunningWorker { stop, status, thread })
    }
}

/// A worker that was started. Dropping the handle stops it, without waiting for its end.
#[derive(Debug)]
pub struct RunningWorker {
    stop: watch::Sender<StopWish>,
    status: Arc<StatusBoard>,
    thread: thread::JoinHandle<Result<(), WorkerError>>,
}

impl RunningWorker {
    /// The id that a scheduler gave to this worker, once one has.
    pub fn id(&self) -> Option<WorkerId> {
        self.status.lock().worker
    }

    /// Waits until a scheduler has welcomed this worker. Blocks the calling thread.
    ///
    /// # Errors
    /// [`NotReady`] if it ends first, or if that takes longer than `patience`.
    pub fn ready(&self, patience: Duration) -> Result<WorkerId, NotReady> {
        let deadline = Instant::now() + patience;
        let mut status = self.status.lock();
        loop {
            if status.ended {
                return Err(NotReady::Ended);
            }
            if let Some(worker) = status.worker {
                return Ok(worker);
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(NotReady::Timeout);
            }
            let waited = self.status.changed.wait_timeout(status, rest);
            status = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks the worker to leave in order: it takes nothing more on, what runs is told to save its state and has
    /// [`WorkerConfig::grace`] to end, what has not started is given back.
    pub fn stop(&self) {
        // without a receiver it has ended already
        let _ = self.stop.send(StopWish::InOrder);
    }

    /// Asks the worker to leave without waiting for what runs: its hosts are killed, and what it reported is given a
    /// moment to become durable.
    pub fn stop_now(&self) {
        let _ = self.stop.send(StopWish::AtOnce);
    }

    /// Waits for the worker's end. Blocks the calling thread.
    ///
    /// # Errors
    /// [`WorkerError`] unless it was stopped or drained.
    pub fn join(self) -> Result<(), WorkerError> {
        self.thread.join().unwrap_or(Err(WorkerError::Panicked))
    }
}

/// What the operator wants of a worker; what comes later outdoes what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopWish {
    GoOn,
    InOrder,
    AtOnce,
}

/// What the outside may know of a running worker.
#[derive(Debug, Default)]
pub(crate) struct StatusBoard {
    status: Mutex<Status>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Status {
    worker: Option<WorkerId>,
    ended: bool,
}

impl StatusBoard {
    /// Notes the worker's id.
    pub(crate) fn set_worker(&self, worker: Option<WorkerId>) {
        let mut status = self.lock();
        if status.worker != worker {
            status.worker = worker;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the worker's end, also by a panic.
struct EndOnDrop(Arc<StatusBoard>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
