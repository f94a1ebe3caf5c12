//! How a scheduler starts, leads and stops.
//!
//! Start: open and probe the storage, make sure to be alone, listen, take the lead (which replays the journal), serve.
//! All of that on the scheduler's own thread; the caller waits for the first connection to be possible.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phalanx_protocol::codec;
use phalanx_protocol::record::Record;
use phalanx_scheduler_core::Core;
use phalanx_storage::{
    Candidate, Card, ClusterError, ClusterId, Directory, JournalEvent, JournalWriter, LogId, Members,
    ProbeError, ProcessMark, Store, acquire, cluster, probe, wait_for_quiet,
};
use phalanx_transport::{EndpointKeys, EndpointOptions, Listener};
use tokio::sync::{mpsc, watch};

use crate::config::{EndError, SchedulerConfig, StartError};
use crate::driver::Driver;
use crate::event::EVENT_QUEUE_MAX;
use crate::feed::{Feeds, SHARD};
use crate::session::{Context, serve};

/// How often the member card is rewritten.
const BEAT_INTERVAL: Duration = Duration::from_millis(300);
/// Rounds of the storage probe at start: some 30 ms on a local disk.
const PROBE_ROUNDS: usize = 3;

/// Starts schedulers.
#[derive(Debug)]
pub struct Scheduler;

/// A scheduler that leads, on a thread of this process.
#[derive(Debug)]
pub struct RunningScheduler {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), EndError>>>,
}

impl Scheduler {
    /// Starts a scheduler and returns once it leads and listens.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: SchedulerConfig) -> Result<RunningScheduler, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (ready, started) = std_mpsc::channel();
        let thread = thread::Builder::new()
            .name("scheduler".to_owned())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = ready.send(Err(error.into()));
                        return Ok(());
                    }
                };
                runtime.block_on(async {
                    match lead(&config) {
                        Ok(lead) => {
                            let _ = ready.send(Ok(lead.address));
                            run(lead, stopped).await
                        }
                        Err(error) => {
                            let _ = ready.send(Err(error));
                            Ok(())
                        }
                    }
                })
            })?;
        match started.recv() {
            Ok(Ok(address)) => Ok(RunningScheduler {
                address,
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

/// What a leader has.
struct Lead {
    address: SocketAddr,
    listener: Listener,
    directory: Arc<Directory>,
    members: Members,
    card: Card,
    core: Core,
    feeds: Feeds,
    journal: JournalWriter,
    journaled: mpsc::UnboundedReceiver<JournalEvent>,
}

/// Opens the shared storage, marks it as this cluster's or checks that it is, and tries it out.
fn open_storage(config: &SchedulerConfig, cluster: ClusterId) -> Result<Arc<Directory>, StartError> {
    let path = || config.storage.clone();
    let opened = Directory::open(&config.storage);
    let directory = Arc::new(opened.map_err(|source| StartError::Storage { path: path(), source })?);
    cluster::create_or_check(&*directory, cluster, 1).map_err(|error| match error {
        ClusterError::Store(source) => StartError::Storage { path: path(), source },
        source @ (ClusterError::Damaged { .. }
        | ClusterError::Id { .. }
        | ClusterError::Version { .. }
        | ClusterError::OtherCluster { .. }
        | ClusterError::Vanished) => StartError::Cluster { path: path(), source },
    })?;
    let report = probe(&*directory, random()?, PROBE_ROUNDS).map_err(|error| match error {
        ProbeError::Store(source) => StartError::Storage { path: path(), source },
        source @ (ProbeError::CreatedTwice { .. }
        | ProbeError::ExistsAtOnce { .. }
        | ProbeError::OtherBody { .. }
        | ProbeError::Winners { .. }
        | ProbeError::NotListed { .. }
        | ProbeError::NotDeleted { .. }) => StartError::Probe { path: path(), source },
    })?;
    tracing::debug!(?report, "storage is fit");
    Ok(directory)
}

/// Takes the lead. Blocks.
fn lead(config: &SchedulerConfig) -> Result<Lead, StartError> {
    let id = config.cluster.parse().map_err(StartError::ClusterId)?;
    let directory = open_storage(config, id)?;
    let members = Members::new(Arc::clone(&directory) as Arc<dyn Store>);
    let process = ProcessMark::of_this_process();
    wait_for_quiet(&members, &process, &mut thread::sleep).map_err(StartError::NotAlone)?;
    let keys = config
        .keys
        .as_deref()
        .map(EndpointKeys::load_or_create)
        .transpose()?;
    let options = EndpointOptions::default();
    let listener = Listener::bind_with(config.listen, &config.credential, &options, keys.as_ref())?;
    let address = listener.local_address()?;
    let log = LogId {
        cluster: id,
        shard: SHARD,
    };
    let candidate = Candidate::new(log, random()?);
    let mut leadership = acquire(&*directory, candidate).map_err(|source| StartError::Acquire {
        path: config.storage.clone(),
        source,
    })?;
    for damage in &leadership.damage {
        tracing::error!("{damage}");
    }
    let mut core = Core::new(leadership.term);
    let mut feeds = Feeds::default();
    for record in std::mem::take(&mut leadership.records) {
        let (place, term) = (record.place, record.term);
        let record: Record = codec::decode(&record.bytes).map_err(|source| StartError::Record {
            place: place.to_string(),
            source,
        })?;
        core.replay(term, &record);
        feeds.add(record, place, false);
    }
    tracing::info!(term = %leadership.term, %address, jobs = core.jobs().len(), "leading");
    let (sender, journaled) = mpsc::unbounded_channel();
    let journal = JournalWriter::start(
        Arc::clone(&directory) as Arc<dyn Store>,
        leadership,
        move |event| {
            // fails only once the driver is gone, and then nobody needs to know
            let _ = sender.send(event);
        },
    )?;
    let card = Card {
        name: config.name.clone(),
        addresses: advertised(address),
        counter: 0,
        process,
    };
    Ok(Lead {
        address,
        listener,
        directory,
        members,
        card,
        core,
        feeds,
        journal,
        journaled,
    })
}

/// Leads until told to stop or deposed.
async fn run(lead: Lead, mut stopped: watch::Receiver<bool>) -> Result<(), EndError> {
    let heart = Heart::start(lead.members, lead.card);
    let (events_sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
    let context = Context::new(events_sender, lead.directory);
    let (close, closing) = watch::channel(false);
    let mut sessions = tokio::task::JoinSet::new();
    sessions.spawn(serve(lead.listener, context, closing));
    let driver = Driver::new(lead.core, lead.feeds, lead.journal);
    let ended = tokio::select! {
        ended = driver.run(events, lead.journaled) => ended,
        _ = stopped.wait_for(|&stop| stop) => Ok(()),
    };
    let _ = close.send(true);
    while sessions.join_next().await.is_some() {}
    drop(heart);
    ended
}

/// Rewrites the member card, so that others see that we are alive. Liveness only: safety never rests on it.
struct Heart {
    members: Members,
    name: String,
    stop: Option<std_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    fn start(members: Members, mut card: Card) -> Self {
        let (stop, stopped) = std_mpsc::channel::<()>();
        let (own, name) = (members.clone(), card.name.clone());
        let mut failing = false;
        // written once before the caller goes on, so that the card is there when the scheduler is
        let mut beat = move || match (members.beat(&mut card), failing) {
            (Ok(()), _) => failing = false,
            (Err(_), true) => {}
            (Err(error), false) => {
                failing = true;
                tracing::warn!(%error, "cannot rewrite the member card");
            }
        };
        beat();
        let run = move || {
            while stopped.recv_timeout(BEAT_INTERVAL) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                beat();
            }
        };
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(run);
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for the heartbeat; others may think this scheduler dead");
        }
        Self {
            members: own,
            name,
            stop: Some(stop),
            thread: thread.ok(),
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // it holds nothing that a panic could harm
            let _ = thread.join();
        }
        if let Err(error) = self.members.remove(&self.name) {
            tracing::warn!(%error, "cannot remove the member card; the next start will watch it for a second");
        }
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

fn random() -> Result<u128, StartError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::System(error.into()))?;
    Ok(u128::from_le_bytes(bytes))
}
