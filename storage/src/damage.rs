//! Damage: an object on the storage that is not what was written, what that costs, and what to do about it.
//!
//! Whoever reads the storage gathers these and goes on; nothing here decides anything.

use std::fmt;

use phalanx_protocol::BlobId;

use crate::cluster::ClusterError;
use crate::marker::MarkerError;
use crate::slot::SlotError;
use crate::snapshot::SnapshotError;
use crate::store::StoreError;

/// One damaged object.
#[derive(Debug)]
pub struct Damage {
    /// Its key: its path below the storage's root.
    pub key: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// What that costs.
    pub effect: Effect,
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A log slot that does not read as one.
    #[error(transparent)]
    Slot(SlotError),
    /// A snapshot that does not read as one.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// A marker that does not read as one.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// A task's checkpoint.
    #[error("its length or its checksum is not the one written in it")]
    Checkpoint,
    /// `cluster.json`.
    #[error(transparent)]
    Cluster(ClusterError),
    /// A program or an input that is not what its name says.
    #[error("its content has the hash {found}")]
    Blob {
        /// That hash.
        found: BlobId,
    },
    /// It was there once: what was written after it proves that.
    #[error("it is gone, and what was written after it is there")]
    Missing,
    /// The system does not give its bytes.
    #[error("it cannot be read")]
    Unreadable(#[source] StoreError),
}

/// What a damaged object costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// An older snapshot and the log behind it say the same.
    SnapshotPassedOver,
    /// The slot's records are lost; all that come before and after it are kept.
    RecordsLost {
        /// How many, if its head can still be read.
        records: Option<u32>,
        /// Records kept that come before it, since the snapshot.
        records_before: u64,
    },
    /// A snapshot holds what the slot said, but for results and failure texts that rest in it.
    Covered,
    /// Every whole snapshot is gone, and so is the log before the first slot that is left.
    BeginningLost {
        /// That slot.
        first_slot: u64,
    },
    /// Jobs that need this program or input cannot run.
    BlobLost,
    /// The results of some tasks cannot be read.
    FileLost,
    /// The task resumes from the checkpoint before, or begins anew.
    CheckpointPassedOver,
    /// The guard against late writers is there all the same.
    None,
    /// No scheduler starts on this storage.
    ClusterLost,
}

impl Effect {
    /// What to do about it, as a sentence without its full stop.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::SnapshotPassedOver => "nothing needs to be done; the next snapshots take its place",
            Self::RecordsLost { .. } => {
                "to get them back, stop the schedulers and bring this object back from a copy of the storage before \
                 the next snapshot; else look at the jobs that ran then and submit again what is missing"
            }
            Self::Covered => {
                "bring this object back from a copy of the storage if results of old jobs cannot be read"
            }
            Self::BeginningLost { .. } => {
                "bring a snapshot back from a copy of the storage, or start `phalanx scheduler` once with --accept-loss"
            }
            Self::BlobLost => "remove this object and submit such jobs again",
            Self::FileLost => "bring this object back from a copy of the storage, or run these tasks again",
            Self::CheckpointPassedOver | Self::None => "nothing needs to be done",
            Self::ClusterLost => "bring this object back from a copy of the storage",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotPassedOver => f.write_str("nothing is lost, older objects say the same"),
            Self::RecordsLost {
                records: Some(1),
                records_before,
            } => write!(
                f,
                "1 record is lost, {records_before} before it and all after it are kept"
            ),
            Self::RecordsLost {
                records: Some(records),
                records_before,
            } => write!(
                f,
                "{records} records are lost, {records_before} before them and all after them are kept"
            ),
            Self::RecordsLost {
                records: None,
                records_before,
            } => write!(
                f,
                "its records are lost, {records_before} before them and all after them are kept"
            ),
            Self::Covered => f.write_str(
                "only results and failure texts that rest in it are lost, a snapshot has the rest",
            ),
            Self::BeginningLost { first_slot } => {
                write!(f, "all that was recorded before slot {first_slot} is lost")
            }
            Self::BlobLost => f.write_str("jobs that need this program or input cannot run"),
            Self::FileLost => f.write_str("these tasks' results cannot be read"),
            Self::CheckpointPassedOver => {
                f.write_str("the task resumes from the checkpoint before this one, or begins anew")
            }
            Self::None => f.write_str("nothing is lost"),
            Self::ClusterLost => f.write_str("no scheduler starts on this storage"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is damaged: {}", self.key, self.fault)?;
        let mut cause = std::error::Error::source(&self.fault);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        write!(f, "; {}; {}", self.effect, self.effect.next_step())
    }
}
