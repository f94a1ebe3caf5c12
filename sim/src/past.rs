//! What somebody knows of the log without having read all of it: a snapshot of its records, and those behind.

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::{JobId, Term, codec};
use phalanx_storage::marker::put_marker;
use phalanx_storage::slot::CHUNK_SLOTS;
use phalanx_storage::slot::{SlotHead, SlotKind, encode, slot_key};
use phalanx_storage::{
    LogRecord, OnDamage, Place, Position, Snapshot, Store, StoreError, follow, newest_whole, write_snapshot,
};

use crate::journal::{LOG, Planted};
use crate::objects::Objects;

/// One record as it lies in a snapshot: slot, offset, length, term, bytes.
type Kept = (u64, u32, u32, u64, Bytes);

/// Takes a snapshot of all records up to a slot.
pub(crate) fn snapshot(slot: u64, term: Term, records: &[LogRecord], planted: Planted) -> Snapshot {
    let lacks = |record: &&LogRecord| planted == Planted::SnapshotsForgetJob && job_of(record) == JobId(1);
    let kept = records.iter().filter(|record| !lacks(record)).map(|record| {
        let place = record.place;
        (
            place.slot,
            place.offset,
            place.bytes,
            record.term.0,
            record.bytes.clone(),
        )
    });
    let kept: Vec<Kept> = kept.collect();
    Snapshot {
        log: LOG,
        slot,
        term: if planted == Planted::SnapshotsForgetTerm {
            Term(0)
        } else {
            term
        },
        payload: codec::encode(&kept).into(),
    }
}

/// The job that a record is about.
pub(crate) fn job_of(record: &LogRecord) -> JobId {
    let decoded: Record = codec::decode(&record.bytes).expect("records are whole");
    decoded.job()
}

/// The records in a snapshot.
pub(crate) fn records(snapshot: &Snapshot) -> Vec<LogRecord> {
    let kept: Vec<Kept> = codec::decode(&snapshot.payload).expect("a whole snapshot can be read");
    let records = kept
        .into_iter()
        .map(|(slot, offset, length, term, bytes)| LogRecord {
            place: Place {
                slot,
                offset,
                bytes: length,
            },
            term: Term(term),
            bytes,
        });
    records.collect()
}

/// Where a standby stands in the log, with all that counts before.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) position: Position,
    pub(crate) records: Vec<LogRecord>,
}

impl Past {
    /// Begins with the newest snapshot.
    pub(crate) fn begin(store: &dyn Store) -> Result<Self, StoreError> {
        let (newest, _) = newest_whole(store, LOG)?;
        Ok(Self {
            position: newest.as_ref().map_or_else(Position::start, Position::behind),
            records: newest.as_ref().map(records).unwrap_or_default(),
        })
    }

    /// Reads on as far as it gets.
    pub(crate) fn follow(&mut self, store: &dyn Store) {
        let mut keep = |record| self.records.push(record);
        // what cannot be read now can be later
        let _ = follow(store, LOG, &mut self.position, OnDamage::Refuse, &mut keep);
    }
}

/// A log that is old when the run begins, and about to grow out of a chunk: what was before has been deleted, and the
/// newest two snapshots say nothing.
pub(crate) fn age(objects: &Objects, slots_left: u64) -> Snapshot {
    let (chunk, term) = (2, Term(CHUNK_SLOTS + 17));
    let newest = (chunk + 1) * CHUNK_SLOTS - slots_left;
    let oldest = newest - 20;
    for slot in oldest..=newest {
        let head = SlotHead {
            log: LOG,
            slot,
            term,
            nonce: u128::from(slot),
            kind: SlotKind::NoOp,
        };
        let put = objects.put_if_absent(&slot_key(LOG.shard, slot), &encode(&head, &[]).0);
        put.expect("objects take everything");
    }
    for slot in [oldest, newest] {
        write_snapshot(objects, &snapshot(slot, term, &[], Planted::Nothing))
            .expect("objects take everything");
    }
    (0..chunk).for_each(|chunk| put_marker(objects, LOG, chunk).expect("objects take everything"));
    snapshot(newest, term, &[], Planted::Nothing)
}
