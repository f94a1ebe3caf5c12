//! When a leader takes a snapshot, and what follows from it: older ones and log that nobody needs are deleted.
//!
//! What is in it is noted by the driver between two events; encoding, writing, reading back and deleting are done on a thread
//! that may block. At an orderly stop one is taken if there is something new, so that the next start is quick.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_protocol::snapshot::CoreSnapshot;
use phalanx_protocol::{JobId, Term};
use phalanx_scheduler_core::Core;
use phalanx_storage::{
    CheckpointDirectories, Checkpoints, Collector, LogId, Moment, Needed, Place, Snapshot, Store,
    StreamedInput, WriteSnapshotError, write_snapshot,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::JournalOptions;
use crate::driver::error_text;
use crate::feed::{Feeds, Mark};
use crate::state::{self, StateError};

/// Bytes of journal after which a snapshot is taken sooner.
const JOURNAL_BYTES: u64 = 64 << 20;
/// How long an orderly stop waits for its snapshot. It is only for speed.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Why there is no snapshot. The log is complete without it.
#[derive(Debug, thiserror::Error)]
enum SnapshotFailure {
    #[error(transparent)]
    Write(#[from] WriteSnapshotError),
    #[error("the snapshot does not read back as what it was made of")]
    State(#[from] StateError),
}

/// Takes a leader's snapshots, one at a time.
pub(crate) struct Snapshots {
    store: Arc<dyn Store>,
    log: LogId,
    term: Term,
    /// How long something new waits for its snapshot.
    interval: Duration,
    /// The last slot of which everything is published.
    applied_slot: u64,
    /// When the first of what is not in a snapshot was published.
    changed: Option<Instant>,
    journal_bytes: u64,
    /// Jobs that will not go on, whose tasks' checkpoints are of no use any more.
    over: Vec<JobId>,
    /// The storage's root, under which lies what is no object.
    root: PathBuf,
    collector: Option<Collector>,
    running: Option<JoinHandle<Collector>>,
}

impl Snapshots {
    /// For a leader that knows everything up to `applied_slot`, of which `journal_bytes` are in no snapshot.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        (log, term): (LogId, Term),
        applied_slot: u64,
        journal_bytes: u64,
        options: &JournalOptions,
        root: PathBuf,
    ) -> Self {
        let collector = Collector::with_grace(Arc::clone(&store), log, options.deletion_grace);
        Self {
            store,
            log,
            term,
            interval: options.snapshot_interval,
            applied_slot,
            changed: (journal_bytes > 0).then(Instant::now),
            journal_bytes,
            over: Vec::new(),
            root,
            collector: Some(collector),
            running: None,
        }
    }

    /// One should be taken at once: the journal cannot be read again as it was this time.
    pub(crate) fn hurry(&mut self) {
        self.changed = Some(Instant::now());
        self.journal_bytes = self.journal_bytes.max(JOURNAL_BYTES);
    }

    /// These records are published, and with them all that lie in the same or lower slots.
    pub(crate) fn applied(&mut self, places: &[(u64, Place)]) {
        for (_, place) in places {
            self.applied_slot = self.applied_slot.max(place.slot);
            self.journal_bytes += u64::from(place.bytes);
            self.changed.get_or_insert_with(Instant::now);
        }
    }

    /// A job is over for good: its checkpoints go with the next snapshot. They only take room, so those that a dying leader
    /// leaves behind are no harm.
    pub(crate) fn over(&mut self, job: JobId) {
        self.over.push(job);
    }

    /// A job that was over goes on: its checkpoints stay.
    pub(crate) fn goes_on(&mut self, job: JobId) {
        self.over.retain(|&over| over != job);
    }

    /// When the next one should be taken; `None` while one is, or if there is nothing new.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        match self.journal_bytes >= JOURNAL_BYTES {
            true => self.changed,
            false => self.changed.map(|changed| changed + self.interval),
        }
    }

    /// Takes one of what is published now.
    pub(crate) fn begin(&mut self, core: &Core, feeds: &Feeds) {
        let Some(mut collector) = self.collector.take() else {
            return;
        };
        (self.changed, self.journal_bytes) = (None, 0);
        let (core, marks, over) = (core.snapshot(), feeds.marks(), std::mem::take(&mut self.over));
        let (store, log, term, slot) = (Arc::clone(&self.store), self.log, self.term, self.applied_slot);
        let root = self.root.clone();
        self.running = Some(tokio::task::spawn_blocking(move || {
            match take(&*store, (log, slot, term), core, &marks) {
                Ok(needed) => {
                    collect(&mut collector, &needed);
                    clear(store, &root, &over);
                }
                Err(error) => tracing::warn!(error = error_text(&error), "no snapshot was taken"),
            }
            collector
        }));
    }

    /// Waits until the one that is being taken is there; for ever if there is none. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        // a panic was printed where it happened; without the collector there will be no more snapshots
        self.collector = running.await.ok();
        self.running = None;
    }

    /// Takes the last one, if there is something new, and waits for it for a moment.
    pub(crate) async fn finish(&mut self, core: &Core, feeds: &Feeds) {
        let finish = async {
            if self.running.is_some() {
                self.ended().await;
            }
            if self.changed.is_some() {
                self.begin(core, feeds);
            }
            if self.running.is_some() {
                self.ended().await;
            }
        };
        if timeout(STOP_WAIT, finish).await.is_err() {
            tracing::warn!("the last snapshot takes too long; the next start will read more of the journal");
        }
    }
}

/// Writes a snapshot that reads back as it should. Blocks.
fn take(
    store: &dyn Store,
    (log, slot, term): (LogId, u64, Term),
    core: CoreSnapshot,
    marks: &[Mark],
) -> Result<Needed, SnapshotFailure> {
    let started = Instant::now();
    let (payload, slots) = state::encode(core, marks);
    // one that nobody can read would be in the way of the next start
    state::decode(&payload)?;
    let bytes = payload.len();
    let snapshot = Snapshot {
        log,
        slot,
        term,
        payload: payload.into(),
    };
    write_snapshot(store, &snapshot)?;
    let millis = started.elapsed().as_millis();
    tracing::debug!(slot, bytes, millis, "snapshot");
    Ok(Needed { through: slot, slots })
}

/// Removes the checkpoints and the input of jobs that are over.
fn clear(store: Arc<dyn Store>, root: &Path, over: &[JobId]) {
    let checkpoints = Checkpoints::new(store);
    for &job in over {
        if let Err(error) = checkpoints.clear(job) {
            tracing::warn!(%job, error = error_text(&error), "checkpoints of a job that is over are left behind");
        }
        if let Err(error) = StreamedInput::new(root, job).clear() {
            tracing::warn!(%job, error = error_text(&error), "the input of a job that is over is left behind");
        }
        if let Err(error) = CheckpointDirectories::new(root).clear(job) {
            tracing::warn!(%job, error = error_text(&error), "checkpoints of a job that is over are left behind");
        }
    }
}

/// Deletes what is old. Blocks.
fn collect(collector: &mut Collector, needed: &Needed) {
    match collector.run(needed, &Moment::now) {
        Ok(done) => tracing::debug!(?done, "old log"),
        Err(error) => tracing::warn!(%error, "old log could not be deleted; the next time goes on"),
    }
}
