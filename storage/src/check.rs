//! Reads a whole storage through, changes nothing, and says what is there and what is damaged.
//!
//! It may run beside a scheduler. What that creates meanwhile is not seen, what it deletes meanwhile is passed over.

use std::sync::Arc;

use phalanx_protocol::{BlobId, Term};

use crate::blobs::{BlobError, Blobs};
use crate::checkpoints;
use crate::cluster::{self, ClusterError, ClusterFile};
use crate::damage::{Damage, Effect, Fault};
use crate::directory::Directory;
use crate::journal::PIPELINE_DEPTH_MAX;
use crate::journal::follow::Position;
use crate::journal::replay::{Found, found};
use crate::marker::{self, chunk_of_marker_key, is_marked, marker_prefix};
use crate::slot::{LogId, SlotKind, log_prefix, slot_key, slot_of_key};
use crate::snapshot::{self, slot_of_snapshot_key, snapshot_prefix};
use crate::store::{Store, StoreError};

/// How many objects of a kind, and how large they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: usize) {
        self.objects += 1;
        self.bytes += bytes as u64;
    }
}

/// What is there of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardReport {
    /// Its log's slots.
    pub slots: Tally,
    /// Records that count behind the newest whole snapshot.
    pub records: u64,
    /// Its snapshots.
    pub snapshots: Tally,
    /// The slot of the newest whole one.
    pub newest_snapshot: Option<u64>,
    /// Its markers.
    pub markers: Tally,
    /// The slot behind the last one.
    pub tail: u64,
    /// The highest term.
    pub term: Term,
}

impl Default for ShardReport {
    fn default() -> Self {
        Self {
            slots: Tally::default(),
            records: 0,
            snapshots: Tally::default(),
            newest_snapshot: None,
            markers: Tally::default(),
            tail: 0,
            term: Term(0),
        }
    }
}

/// What is there.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// What `cluster.json` says; `None` if it is damaged or not there.
    pub cluster: Option<ClusterFile>,
    /// By the number of the shard.
    pub shards: Vec<ShardReport>,
    /// Programs and inputs.
    pub blobs: Tally,
    /// Checkpoints, and result files, of which only that they can be read is checked.
    pub job_files: u64,
    /// What writers have staged and not named.
    pub staged: Tally,
    /// Names where nothing of that name belongs.
    pub strays: Vec<String>,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

/// Why a storage cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It was never used.
    #[error("no cluster's storage is there: it has no `cluster.json`")]
    Unused,
    /// It cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a storage: every length and checksum of the log, of snapshots, markers and checkpoints, the content of every blob,
/// that every other file can be read.
///
/// # Errors
/// If it is no storage, or cannot be listed. What cannot be read is damage.
pub fn check(directory: &Arc<Directory>) -> Result<CheckReport, CheckError> {
    let mut report = CheckReport::default();
    match cluster::read(&**directory) {
        Ok(Some(file)) => report.cluster = Some(file),
        Ok(None) if directory.list("", None)?.is_empty() => return Err(CheckError::Unused),
        Ok(None) => report.tell("cluster.json", Fault::Missing, Effect::ClusterLost),
        Err(ClusterError::Store(source)) => return Err(source.into()),
        Err(
            fault @ (ClusterError::Damaged { .. }
            | ClusterError::Id { .. }
            | ClusterError::Version { .. }
            | ClusterError::OtherCluster { .. }
            | ClusterError::Vanished),
        ) => report.tell("cluster.json", Fault::Cluster(fault), Effect::ClusterLost),
    }
    if let Some(file) = report.cluster {
        for shard in 0..file.shard_count {
            let log = LogId {
                cluster: file.cluster,
                shard,
            };
            report.check_shard(&**directory, log)?;
        }
    }
    report.check_blobs(directory)?;
    report.check_files(&**directory)?;
    for (_, bytes) in directory.staged() {
        report.staged.objects += 1;
        report.staged.bytes += bytes;
    }
    Ok(report)
}

impl CheckReport {
    fn tell(&mut self, key: impl Into<String>, fault: Fault, effect: Effect) {
        self.damage.push(Damage {
            key: key.into(),
            fault,
            effect,
        });
    }

    /// Reads an object; one that is gone was deleted meanwhile, one that cannot be read is damage.
    fn read(&mut self, store: &dyn Store, key: &str, effect: Effect) -> Option<Vec<u8>> {
        match store.get(key) {
            Ok(object) => object,
            Err(source) => {
                self.tell(key, Fault::Unreadable(source), effect);
                None
            }
        }
    }

    fn check_shard(&mut self, store: &dyn Store, log: LogId) -> Result<(), StoreError> {
        let mut shard = ShardReport::default();
        // first, since what they cover may be deleted once they are there
        let keys = store.list(&log_prefix(log.shard), None)?;
        let mut start = Position::start();
        for key in store.list(&snapshot_prefix(log.shard), None)? {
            let Some(slot) = slot_of_snapshot_key(log.shard, &key) else {
                self.strays.push(key);
                continue;
            };
            let Some(object) = self.read(store, &key, Effect::SnapshotPassedOver) else {
                continue;
            };
            shard.snapshots.add(object.len());
            match snapshot::decode(object.into(), log, slot) {
                Ok(snapshot) => {
                    start = Position::behind(&snapshot);
                    shard.newest_snapshot = Some(slot);
                }
                Err(fault) => self.tell(key, Fault::Snapshot(fault), Effect::SnapshotPassedOver),
            }
        }
        if shard.newest_snapshot.is_none() && is_marked(store, log.shard, 0)? {
            let first_slot = keys.iter().find_map(|key| slot_of_key(log.shard, key));
            let first_slot = first_slot.unwrap_or_default();
            let effect = Effect::BeginningLost { first_slot };
            self.tell(snapshot_prefix(log.shard), Fault::Missing, effect);
            start.next_slot = first_slot;
        }
        self.check_markers(store, log, &mut shard)?;
        self.check_log(store, log, keys, start, &mut shard);
        self.shards.push(shard);
        Ok(())
    }

    fn check_markers(
        &mut self,
        store: &dyn Store,
        log: LogId,
        shard: &mut ShardReport,
    ) -> Result<(), StoreError> {
        for key in store.list(&marker_prefix(log.shard), None)? {
            let Some(chunk) = chunk_of_marker_key(log.shard, &key) else {
                self.strays.push(key);
                continue;
            };
            let Some(object) = self.read(store, &key, Effect::None) else {
                continue;
            };
            shard.markers.add(object.len());
            if let Err(fault) = marker::verify(&object, log, chunk) {
                self.tell(key, Fault::Marker(fault), Effect::None);
            }
        }
        Ok(())
    }

    /// Reads the slots in order, as a start would: those below `start` only have to be whole.
    fn check_log(
        &mut self,
        store: &dyn Store,
        log: LogId,
        keys: Vec<String>,
        start: Position,
        shard: &mut ShardReport,
    ) {
        let mut position = start;
        let mut missing = Vec::new();
        let mut last_written = 0;
        for key in keys {
            let Some(slot) = slot_of_key(log.shard, &key) else {
                self.strays.push(key);
                continue;
            };
            let is_live = slot >= start.next_slot;
            let lost = |records, position: &Position| match is_live {
                true => Effect::RecordsLost {
                    records,
                    records_before: position.records,
                },
                false => Effect::Covered,
            };
            let Some(object) = self.read(store, &key, lost(None, &position)) else {
                continue;
            };
            shard.slots.add(object.len());
            shard.tail = slot + 1;
            if is_live {
                if position.next_slot < slot {
                    missing.push((position.next_slot..slot, position.records));
                }
                position.next_slot = slot;
            }
            match found(object.into(), log, slot) {
                Found::Whole(there) if is_live => {
                    if matches!(there.head.kind, SlotKind::Data | SlotKind::NoOp) {
                        last_written = slot;
                    }
                    position.take(there, &mut |_| {});
                }
                Found::Damaged { source, records } => {
                    let effect = lost(records, &position);
                    self.tell(key, Fault::Slot(source), effect);
                    position.next_slot = position.next_slot.max(slot + 1);
                }
                Found::Whole(_) | Found::Missing => {}
            }
        }
        // nearer to the end they may just not have been written yet
        let lost_below = (last_written + 1).saturating_sub(PIPELINE_DEPTH_MAX);
        for (slots, records_before) in missing {
            let end = slots.end.min(lost_below);
            if slots.start >= end {
                continue;
            }
            let mut key = slot_key(log.shard, slots.start);
            if end - slots.start > 1 {
                key = format!("{key} to {:020}", end - 1);
            }
            let effect = Effect::RecordsLost {
                records: None,
                records_before,
            };
            self.tell(key, Fault::Missing, effect);
        }
        shard.tail = shard.tail.max(start.next_slot);
        shard.term = position.term();
        shard.records = position.records;
    }

    fn check_blobs(&mut self, directory: &Arc<Directory>) -> Result<(), StoreError> {
        let blobs = Blobs::new(Arc::clone(directory));
        for key in directory.list("blobs/", None)? {
            let id = key
                .rsplit('/')
                .next()
                .and_then(|name| name.parse::<BlobId>().ok());
            let Some(id) = id.filter(|id| blobs.path(*id) == directory.path(&key)) else {
                self.strays.push(key);
                continue;
            };
            self.blobs.objects += 1;
            let size = std::fs::metadata(blobs.path(id)).map(|data| data.len());
            self.blobs.bytes += size.unwrap_or_default();
            match blobs.verify(id) {
                Ok(()) | Err(BlobError::Missing { .. } | BlobError::TooLarge | BlobError::Hash { .. }) => {}
                Err(BlobError::Damaged { found, .. }) => {
                    self.tell(key, Fault::Blob { found }, Effect::BlobLost);
                }
                Err(BlobError::Store(source)) => {
                    self.tell(key, Fault::Unreadable(source), Effect::BlobLost);
                }
                Err(BlobError::Source(source)) => {
                    let source = StoreError::new("read", &blobs.path(id), source);
                    self.tell(key, Fault::Unreadable(source), Effect::BlobLost);
                }
            }
        }
        Ok(())
    }

    fn check_files(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for key in store.list("", None)? {
            match key.split('/').next() {
                Some("jobs") => {
                    self.job_files += 1;
                    self.check_job_file(store, key);
                }
                Some("cluster.json" | "members" | "probe" | "blobs") => {}
                Some("shards") if self.belongs_to_shard(&key) => {}
                Some(_) | None => self.strays.push(key),
            }
        }
        self.strays.sort_unstable();
        self.strays.dedup();
        Ok(())
    }

    fn check_job_file(&mut self, store: &dyn Store, key: String) {
        let folder = key.split('/').nth(2);
        if folder == Some("saved") {
            // what programs keep there is theirs, under names and of kinds that are no objects
        } else if folder == Some("checkpoints") {
            let object = self.read(store, &key, Effect::CheckpointPassedOver);
            if object.is_some_and(|object| checkpoints::decode(object).is_none()) {
                self.tell(key, Fault::Checkpoint, Effect::CheckpointPassedOver);
            }
        } else if let Err(source) = store.get_range(&key, 0, 1) {
            self.tell(key, Fault::Unreadable(source), Effect::FileLost);
        }
    }

    fn belongs_to_shard(&self, key: &str) -> bool {
        // where the number of shards is not known, nothing there is strange
        self.shards.is_empty()
            || (0..).zip(&self.shards).any(|(shard, _)| {
                [log_prefix(shard), snapshot_prefix(shard), marker_prefix(shard)]
                    .iter()
                    .any(|prefix| key.starts_with(prefix))
            })
    }
}

#[cfg(test)]
mod tests;
