//! How a scheduler starts and stops.
//!
//! Start: open and probe the storage, make sure that its name is its own, listen, then lead or stand by ([`crate::role`]). All
//! of that on the scheduler's own thread; the caller waits until it is known which of the two it is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phalanx_protocol::Term;
use phalanx_storage::{
    Blobs, Card, ClusterError, ClusterId, Directory, LogId, Members, ProbeError, ProcessMark, Store, cluster,
    probe, wait_for_name,
};
use phalanx_transport::{Dialer, EndpointKeys, EndpointOptions, Listener};
use tokio::sync::watch;

use crate::config::{EndError, SchedulerConfig, StartError};
use crate::feed::SHARD;
use crate::lead::{Ground, random};
use crate::role::{Roles, Standing, Starter};
use crate::roster::Watcher;
use crate::session::{Desk, Role, serve};

/// Rounds of the storage probe at start: some 30 ms on a local disk.
const PROBE_ROUNDS: usize = 3;

/// Starts schedulers.
#[derive(Debug)]
pub struct Scheduler;

/// A scheduler on a thread of this process.
#[derive(Debug)]
pub struct RunningScheduler {
    address: SocketAddr,
    standing: Arc<Standing>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), EndError>>>,
}

impl Scheduler {
    /// Starts a scheduler and returns once it leads, or stands by for another one that seems to lead.
    ///
    /// # Errors
    /// [`StartError`]; also if nobody leads and this one cannot take the lead. Later on it goes on trying.
    pub fn start(config: SchedulerConfig) -> Result<RunningScheduler, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (starter, started) = std_mpsc::channel();
        let standing = Arc::new(Standing::default());
        let told = Arc::clone(&standing);
        let thread = thread::Builder::new()
            .name("scheduler".to_owned())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = starter.send(Err(error.into()));
                        return Ok(());
                    }
                };
                runtime.block_on(async {
                    match Parts::open(&config) {
                        Ok(parts) => parts.run(told, starter, stopped).await,
                        Err(error) => {
                            let _ = starter.send(Err(error));
                            Ok(())
                        }
                    }
                })
            })?;
        match started.recv() {
            Ok(Ok(address)) => Ok(RunningScheduler {
                address,
                standing,
                stop,
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::System(std::io::Error::other(
                "the scheduler's thread died",
            ))),
        }
    }
}

impl RunningScheduler {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it leads now, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.term().is_some()
    }

    /// The term with which it leads.
    pub fn term(&self) -> Option<Term> {
        self.standing.term()
    }

    /// Waits until it leads; `None` if it does not within that time. Blocks.
    pub fn wait_for_lead(&self, patience: Duration) -> Option<Term> {
        self.standing.wait(patience)
    }

    /// Stops it: connections are closed, the journal keeps what was acknowledged.
    pub fn stop(mut self) {
        self.end();
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Why it ended.
    pub fn join(mut self) -> Result<(), EndError> {
        let thread = self
            .thread
            .take()
            .expect("a running scheduler has a thread until it is joined");
        thread.join().unwrap_or(Err(EndError::Panicked))
    }

    fn end(&mut self) {
        // fails only if the thread has ended already
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // a panic was printed where it happened
            let _ = thread.join();
        }
    }
}

impl Drop for RunningScheduler {
    fn drop(&mut self) {
        self.end();
    }
}

/// A scheduler that has all it needs and does nothing yet.
struct Parts {
    ground: Ground,
    listener: Listener,
    address: SocketAddr,
    advertised: Vec<String>,
    watcher: Watcher,
    /// Reaches the leader.
    dialer: Dialer,
}

/// Opens the shared storage, marks it as this cluster's or checks that it is, and tries it out.
fn open_storage(config: &SchedulerConfig, cluster: ClusterId) -> Result<(Arc<dyn Store>, Blobs), StartError> {
    let path = || config.storage.clone();
    let opened = Directory::open(&config.storage);
    let directory = Arc::new(opened.map_err(|source| StartError::Storage { path: path(), source })?);
    let blobs = Blobs::new(Arc::clone(&directory));
    let store: Arc<dyn Store> = match &config.journal.layer {
        Some(layer) => layer.over(directory),
        None => directory,
    };
    cluster::create_or_check(&*store, cluster, 1).map_err(|error| match error {
        ClusterError::Store(source) => StartError::Storage { path: path(), source },
        source @ (ClusterError::Damaged { .. }
        | ClusterError::Id { .. }
        | ClusterError::Version { .. }
        | ClusterError::OtherCluster { .. }
        | ClusterError::Vanished) => StartError::Cluster { path: path(), source },
    })?;
    let report = probe(&*store, random()?, PROBE_ROUNDS).map_err(|error| match error {
        ProbeError::Store(source) => StartError::Storage { path: path(), source },
        source @ (ProbeError::CreatedTwice { .. }
        | ProbeError::ExistsAtOnce { .. }
        | ProbeError::OtherBody { .. }
        | ProbeError::Winners { .. }
        | ProbeError::NotListed { .. }
        | ProbeError::NotDeleted { .. }) => StartError::Probe { path: path(), source },
    })?;
    tracing::debug!(?report, "storage is fit");
    Ok((store, blobs))
}

impl Parts {
    /// Opens everything. Blocks.
    fn open(config: &SchedulerConfig) -> Result<Self, StartError> {
        let worker_timeout_millis = config.worker_timeout_millis()?;
        let id = config.cluster.parse().map_err(StartError::ClusterId)?;
        let (store, blobs) = open_storage(config, id)?;
        let members = Members::new(Arc::clone(&store));
        let process = ProcessMark::of_this_process();
        wait_for_name(&members, &config.name, &process, &mut thread::sleep).map_err(StartError::Name)?;
        let keys = config
            .keys
            .as_deref()
            .map(EndpointKeys::load_or_create)
            .transpose()?;
        // workers leave the limit to us, clients keep to a shorter one of their own
        let options = EndpointOptions {
            idle_timeout: config.worker_timeout,
            ..EndpointOptions::default()
        };
        let listener = Listener::bind_with(config.listen, &config.credential, &options, keys.as_ref())?;
        let address = listener.local_address()?;
        let advertised = advertised(address);
        let card = Card {
            name: config.name.clone(),
            addresses: advertised.clone(),
            counter: 0,
            process,
            term: None,
            is_candidate: false,
        };
        Ok(Self {
            ground: Ground {
                store,
                blobs,
                options: config.journal.clone(),
                worker_timeout_millis,
                log: LogId {
                    cluster: id,
                    shard: SHARD,
                },
                path: config.storage.clone(),
            },
            listener,
            address,
            advertised,
            dialer: Dialer::new(&config.credential)?,
            watcher: Watcher::start(members, card, config.takeover_after)?,
        })
    }

    /// Serves until told to stop.
    async fn run(
        self,
        standing: Arc<Standing>,
        starter: Starter,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), EndError> {
        let (role, known) = watch::channel(Role::Standby);
        let desk = Desk {
            role: known,
            roster: self.watcher.roster(),
            addresses: self.advertised.clone(),
        };
        let (close, closing) = watch::channel(false);
        let mut sessions = tokio::task::JoinSet::new();
        sessions.spawn(serve(self.listener, desk, closing));
        let roles = Roles {
            ground: self.ground,
            watcher: self.watcher,
            dialer: self.dialer,
            address: self.address,
            advertised: self.advertised,
            role,
            standing,
            starter: Some(starter),
        };
        // with it goes the card, so that others need not wait
        let ended = roles.run(stopped).await;
        let _ = close.send(true);
        while sessions.join_next().await.is_some() {}
        ended
    }
}

/// Where others can reach a listener: as it is, or, if it listens on every interface, on the one that leads out of this
/// machine and on loopback.
fn advertised(listening: SocketAddr) -> Vec<String> {
    if !listening.ip().is_unspecified() {
        return vec![listening.to_string()];
    }
    let loopback = SocketAddr::from(([127, 0, 0, 1], listening.port()));
    // connecting a UDP socket sends nothing; the address is one that documentation reserves
    let outward = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    let outward = outward
        .ok()
        .map(|local| SocketAddr::from((local.ip(), listening.port())));
    outward
        .into_iter()
        .chain([loopback])
        .map(|address| address.to_string())
        .collect()
}
