//! Markers: a chunk of the log whose slots may be deleted carries one for ever (rule R7).
//!
//! A deleted slot's name is free again. A leader that slept through its own deposition and the deletion could create it and
//! believe that it leads; so it looks for the marker after each create, before it acknowledges. That there is one is what
//! counts; the bytes only say what it belongs to, for whoever checks the storage:
//!
//! ```text
//!  0 magic "phxmark\n"   8 version u16   10 zero u16   12 shard u32   16 cluster [16]
//! 32 chunk u64          40 CRC32C u32 over bytes 0..40
//! ```

use crate::slot::{CHUNK_SLOTS, LogId};
use crate::store::{Put, Store, StoreError};

/// The format that this build writes and reads.
pub const FORMAT_VERSION: u16 = 1;
const BYTES: usize = 44;
const CHECKSUM_AT: usize = 40;

/// A marker whose bytes are not what was written. It marks all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the marker that was written")]
pub struct MarkerError;

/// The chunk of a slot.
pub const fn chunk_of(slot: u64) -> u64 {
    slot / CHUNK_SLOTS
}

/// The key of a chunk's marker.
pub fn marker_key(shard: u32, chunk: u64) -> String {
    format!("{}{chunk:016}", marker_prefix(shard))
}

/// The prefix of every marker's key in a shard.
pub fn marker_prefix(shard: u32) -> String {
    format!("shards/{shard}/markers/")
}

/// The chunk that the marker with that key marks; `None` if it is no marker's key.
pub fn chunk_of_marker_key(shard: u32, key: &str) -> Option<u64> {
    let chunk = key.rsplit_once('/')?.1.parse().ok()?;
    (marker_key(shard, chunk) == key).then_some(chunk)
}

/// The bytes of a marker.
pub fn encode(log: LogId, chunk: u64) -> Vec<u8> {
    let mut object = Vec::with_capacity(BYTES);
    object.extend_from_slice(b"phxmark\n");
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&[0; 2]);
    object.extend_from_slice(&log.shard.to_le_bytes());
    object.extend_from_slice(&log.cluster.0);
    object.extend_from_slice(&chunk.to_le_bytes());
    let checksum = crc32c::crc32c(&object[..CHECKSUM_AT]);
    object.extend_from_slice(&checksum.to_le_bytes());
    object
}

/// Checks the bytes of a marker.
///
/// # Errors
/// If they are not what [`encode`] makes.
pub fn verify(object: &[u8], log: LogId, chunk: u64) -> Result<(), MarkerError> {
    match object == encode(log, chunk) {
        true => Ok(()),
        false => Err(MarkerError),
    }
}

/// Marks a chunk; one that is marked already is no error.
///
/// # Errors
/// Says why it may not be marked.
pub fn put_marker(store: &dyn Store, log: LogId, chunk: u64) -> Result<(), StoreError> {
    let (Put::Created | Put::Exists) =
        store.put_if_absent(&marker_key(log.shard, chunk), &encode(log, chunk))?;
    Ok(())
}

/// Whether a slot lies in a marked chunk.
///
/// # Errors
/// Says why that cannot be known.
pub fn is_marked(store: &dyn Store, shard: u32, slot: u64) -> Result<bool, StoreError> {
    Ok(store.get(&marker_key(shard, chunk_of(slot)))?.is_some())
}

/// The marked chunks that a listing shows, in order.
///
/// # Errors
/// Says why they could not be listed.
pub fn list_markers(store: &dyn Store, shard: u32) -> Result<Vec<u64>, StoreError> {
    let keys = store.list(&marker_prefix(shard), None)?;
    let chunks = keys.iter().filter_map(|key| chunk_of_marker_key(shard, key));
    Ok(chunks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterId;
    use crate::memory::MemoryStore;

    const LOG: LogId = LogId {
        cluster: ClusterId([7; 16]),
        shard: 2,
    };

    #[test]
    fn a_marked_chunk_stays_marked_and_its_neighbours_are_not() {
        let store = MemoryStore::default();
        put_marker(&store, LOG, 1).unwrap();
        put_marker(&store, LOG, 1).unwrap();
        let marked = |slot| is_marked(&store, 2, slot).unwrap();
        assert!(!marked(4095) && marked(4096) && marked(8191) && !marked(8192));
        assert_eq!(list_markers(&store, 2).unwrap(), [1]);
        let bytes = store.get(&marker_key(2, 1)).unwrap().unwrap();
        assert_eq!(verify(&bytes, LOG, 1), Ok(()));
        assert_eq!(verify(&bytes, LOG, 2), Err(MarkerError));
        assert_eq!(verify(&bytes[1..], LOG, 1), Err(MarkerError));
    }

    #[test]
    fn released_markers_keep_their_bytes() {
        let mut golden = b"phxmark\n".to_vec();
        golden.extend([1, 0, 0, 0, 2, 0, 0, 0]);
        golden.extend([7; 16]);
        golden.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(crc32c::crc32c(&golden).to_le_bytes());
        assert_eq!(encode(LOG, 9), golden);
    }
}
