//! A snapshot: what the log said up to some slot, as one object, so that older log need not be read and may be deleted.
//!
//! What it says is the scheduler's; this crate wraps it, byte by byte, as it does a slot ([`crate::slot`]):
//!
//! ```text
//!  0 magic "phxsnap\n"   8 version u16   10 zero u16   12 shard u32   16 cluster [16]
//! 32 slot u64           40 term u64     48 payload bytes u64
//! 56 BLAKE3 [32] over all other bytes
//! 88 payload
//! ```
//!
//! The term in force at that slot is part of it: without it, a void slot right behind would count (`tests/model_gc.rs` has
//! that as a planted fault). A snapshot is created once and counts only when it was read back (rule R11). The two newest whole
//! ones are kept, so that one may be damaged and nothing is lost.

use bytes::Bytes;
use phalanx_protocol::Term;

use crate::cluster::ClusterId;
use crate::damage::{Damage, Effect, Fault};
use crate::slot::{LogId, SLOTS_MAX};
use crate::store::{Put, Store, StoreError};

/// The format that this build writes and reads.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEAD_BYTES: usize = 88;
/// Whole snapshots that are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

const MAGIC: [u8; 8] = *b"phxsnap\n";
const HASH_AT: usize = 56;

/// What a log said up to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The log.
    pub log: LogId,
    /// The last slot that is in it.
    pub slot: u64,
    /// The highest term up to that slot.
    pub term: Term,
    /// The scheduler's state; this crate does not look into it.
    pub payload: Bytes,
}

/// Why bytes are not the snapshot they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Cut off, never whole, or something follows.
    #[error("it has {bytes} bytes and should have {bytes_expected}")]
    Length {
        /// Bytes there are.
        bytes: u64,
        /// Bytes there should be.
        bytes_expected: u64,
    },
    /// The first bytes are not a snapshot's.
    #[error("it does not begin like a snapshot")]
    NotASnapshot,
    /// Another format.
    #[error("its format is version {found}, this build reads version {FORMAT_VERSION}")]
    Version {
        /// The version that it names.
        found: u16,
    },
    /// At least one bit is not what was written.
    #[error("its hash is not the one written in it")]
    Hash,
    /// A whole snapshot that belongs elsewhere.
    #[error("it is one of slot {slot} of shard {} of cluster {}", log.shard, log.cluster)]
    WrongPlace {
        /// The log that it names.
        log: LogId,
        /// The slot that it names.
        slot: u64,
    },
}

/// Why a snapshot does not count.
#[derive(Debug, thiserror::Error)]
pub enum WriteSnapshotError {
    /// The storage failed.
    #[error("the storage failed at snapshot `{key}`")]
    Store {
        /// The snapshot's key.
        key: String,
        /// How.
        #[source]
        source: StoreError,
    },
    /// Written, and gone when read back.
    #[error("snapshot `{key}` vanished when it was read back")]
    Vanished {
        /// The snapshot's key.
        key: String,
    },
    /// What lies there is no whole snapshot: written wrongly, or damaged earlier. A later one will have another name.
    #[error("snapshot `{key}` does not read back")]
    Damaged {
        /// The snapshot's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: SnapshotError,
    },
}

/// The key of a snapshot.
pub fn snapshot_key(shard: u32, slot: u64) -> String {
    format!("{}{slot:020}", snapshot_prefix(shard))
}

/// The prefix of every snapshot's key in a shard.
pub fn snapshot_prefix(shard: u32) -> String {
    format!("shards/{shard}/snapshots/")
}

/// The slot of the snapshot with that key; `None` if it is no snapshot's key.
pub fn slot_of_snapshot_key(shard: u32, key: &str) -> Option<u64> {
    let slot = key.rsplit_once('/')?.1.parse().ok()?;
    (slot < SLOTS_MAX && snapshot_key(shard, slot) == key).then_some(slot)
}

/// Encodes a snapshot.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut object = Vec::with_capacity(HEAD_BYTES + snapshot.payload.len());
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&[0; 2]);
    object.extend_from_slice(&snapshot.log.shard.to_le_bytes());
    object.extend_from_slice(&snapshot.log.cluster.0);
    object.extend_from_slice(&snapshot.slot.to_le_bytes());
    object.extend_from_slice(&snapshot.term.0.to_le_bytes());
    object.extend_from_slice(&(snapshot.payload.len() as u64).to_le_bytes());
    object.extend_from_slice(&[0; HEAD_BYTES - HASH_AT]);
    object.extend_from_slice(&snapshot.payload);
    let hash = object_hash(&object);
    object[HASH_AT..HEAD_BYTES].copy_from_slice(&hash);
    object
}

/// Decodes the object that lies at the snapshot of `slot` of `log`.
///
/// # Errors
/// Says what is wrong with it. No input makes this panic.
pub fn decode(object: Bytes, log: LogId, slot: u64) -> Result<Snapshot, SnapshotError> {
    let length = |bytes_expected| SnapshotError::Length {
        bytes: object.len() as u64,
        bytes_expected,
    };
    let head = object
        .get(..HEAD_BYTES)
        .ok_or_else(|| length(HEAD_BYTES as u64))?;
    if head[..8] != MAGIC {
        return Err(SnapshotError::NotASnapshot);
    }
    let version = u16::from_le_bytes(field(head, 8));
    if version != FORMAT_VERSION {
        return Err(SnapshotError::Version { found: version });
    }
    let bytes_expected = (HEAD_BYTES as u64).saturating_add(u64::from_le_bytes(field(head, 48)));
    if object.len() as u64 != bytes_expected {
        return Err(length(bytes_expected));
    }
    if object_hash(&object) != head[HASH_AT..HEAD_BYTES] {
        return Err(SnapshotError::Hash);
    }
    let found = Snapshot {
        log: LogId {
            cluster: ClusterId(field(head, 16)),
            shard: u32::from_le_bytes(field(head, 12)),
        },
        slot: u64::from_le_bytes(field(head, 32)),
        term: Term(u64::from_le_bytes(field(head, 40))),
        payload: object.slice(HEAD_BYTES..),
    };
    if (found.log, found.slot) != (log, slot) {
        return Err(SnapshotError::WrongPlace {
            log: found.log,
            slot: found.slot,
        });
    }
    Ok(found)
}

/// Writes a snapshot and reads it back; it counts when this returns. One that is there already and whole is as good: a slot
/// has one content for ever, so both say the same.
///
/// # Errors
/// Says why it does not count. The log is complete without it.
pub fn write_snapshot(store: &dyn Store, snapshot: &Snapshot) -> Result<(), WriteSnapshotError> {
    let key = snapshot_key(snapshot.log.shard, snapshot.slot);
    let failed = |source| WriteSnapshotError::Store {
        key: key.clone(),
        source,
    };
    let (Put::Created | Put::Exists) = store.put_if_absent(&key, &encode(snapshot)).map_err(failed)?;
    match store.get(&key).map_err(failed)? {
        None => Err(WriteSnapshotError::Vanished { key }),
        Some(object) => match decode(object.into(), snapshot.log, snapshot.slot) {
            Ok(_) => Ok(()),
            Err(source) => Err(WriteSnapshotError::Damaged { key, source }),
        },
    }
}

/// The slots of all snapshots that a listing shows, in order, whole or not.
///
/// # Errors
/// Says why they could not be listed.
pub fn list_snapshots(store: &dyn Store, shard: u32) -> Result<Vec<u64>, StoreError> {
    let keys = store.list(&snapshot_prefix(shard), None)?;
    let slots = keys.iter().filter_map(|key| slot_of_snapshot_key(shard, key));
    Ok(slots.collect())
}

/// Reads one snapshot; `None` if there is none.
///
/// # Errors
/// Says why it could not be read; what is wrong with its bytes is the inner error.
pub fn read_snapshot(
    store: &dyn Store,
    log: LogId,
    slot: u64,
) -> Result<Option<Result<Snapshot, SnapshotError>>, StoreError> {
    let object = store.get(&snapshot_key(log.shard, slot))?;
    Ok(object.map(|object| decode(object.into(), log, slot)))
}

/// The newest whole snapshot, and every newer one that is damaged or cannot be read.
///
/// # Errors
/// Says why they could not be listed, or why none could be read: none that is whole is no reason to think that there is none.
pub fn newest_whole(store: &dyn Store, log: LogId) -> Result<(Option<Snapshot>, Vec<Damage>), StoreError> {
    let mut damage = Vec::new();
    for slot in list_snapshots(store, log.shard)?.into_iter().rev() {
        let fault = match read_snapshot(store, log, slot) {
            // deleted meanwhile: newer ones are whole
            Ok(None) => continue,
            Ok(Some(Ok(snapshot))) => return Ok((Some(snapshot), damage)),
            Ok(Some(Err(fault))) => Fault::Snapshot(fault),
            Err(error) => Fault::Unreadable(error),
        };
        damage.push(Damage {
            key: snapshot_key(log.shard, slot),
            fault,
            effect: Effect::SnapshotPassedOver,
        });
    }
    let is_unreadable = |damage: &Damage| matches!(damage.fault, Fault::Unreadable(_));
    match damage
        .iter()
        .position(is_unreadable)
        .map(|at| damage.swap_remove(at).fault)
    {
        Some(Fault::Unreadable(error)) => Err(error),
        Some(_) | None => Ok((None, damage)),
    }
}

/// The slots of the newest whole snapshots, newest first, [`SNAPSHOTS_KEPT`] at the most. Reads them all through.
///
/// # Errors
/// Says why they could not be listed or read.
pub fn kept_snapshots(store: &dyn Store, log: LogId) -> Result<Vec<u64>, StoreError> {
    let mut kept = Vec::new();
    for slot in list_snapshots(store, log.shard)?.into_iter().rev() {
        if kept.len() < SNAPSHOTS_KEPT && matches!(read_snapshot(store, log, slot)?, Some(Ok(_))) {
            kept.push(slot);
        }
    }
    Ok(kept)
}

/// Deletes the snapshots that are older than the two newest whole ones; returns how many. Damaged ones that are newer stay
/// where they are, for whoever wants to look at them.
///
/// # Errors
/// Says what failed; calling it again goes on.
pub fn delete_old_snapshots(store: &dyn Store, log: LogId) -> Result<usize, StoreError> {
    let kept = kept_snapshots(store, log)?;
    let Some(oldest) = kept.get(SNAPSHOTS_KEPT - 1) else {
        return Ok(0);
    };
    let old = list_snapshots(store, log.shard)?
        .into_iter()
        .filter(|slot| slot < oldest);
    let mut deleted = 0;
    for slot in old {
        store.delete(&snapshot_key(log.shard, slot))?;
        deleted += 1;
    }
    Ok(deleted)
}

fn object_hash(object: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&object[..HASH_AT]).update(&object[HEAD_BYTES..]);
    *hasher.finalize().as_bytes()
}

/// A fixed-size field; the caller has checked that the bytes reach that far.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests;
