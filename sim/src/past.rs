//! What somebody knows of the log without having read all of it: a snapshot of its records, and those behind.

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::snapshot::CoreSnapshot;
use phalanx_protocol::{JobId, Term, codec};
use phalanx_scheduler_core::Core;
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

/// Takes a snapshot of what a core knows, and of all the records that say so, up to a slot with a term.
pub(crate) fn snapshot(
    (slot, term): (u64, Term),
    core: &CoreSnapshot,
    records: &[LogRecord],
    planted: Planted,
) -> Snapshot {
    let kept = records.iter().map(|record| {
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
    let mut core = core.clone();
    if planted == Planted::SnapshotsForgetJob {
        core.jobs.retain(|job| job.submitted.job() != JobId(1));
    }
    Snapshot {
        log: LOG,
        slot,
        term,
        payload: codec::encode(&(core, kept)).into(),
    }
}

/// What a record says.
pub(crate) fn decoded(record: &LogRecord) -> Record {
    codec::decode(&record.bytes).expect("records are whole")
}

/// Where a standby stands in the log, with all that counts before.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) position: Position,
    pub(crate) records: Vec<LogRecord>,
    /// What a core knew when it had heard so many of the records.
    snapshot: CoreSnapshot,
    covered: usize,
}

impl Past {
    /// Before the first slot.
    pub(crate) fn nothing() -> Self {
        Self {
            position: Position::start(),
            records: Vec::new(),
            snapshot: CoreSnapshot::default(),
            covered: 0,
        }
    }

    /// Behind a snapshot.
    pub(crate) fn restore(of: &Snapshot) -> Self {
        let (snapshot, kept): (CoreSnapshot, Vec<Kept>) =
            codec::decode(&of.payload).expect("KEEP: a snapshot that counts can be read");
        let records = kept
            .into_iter()
            .map(|(slot, offset, bytes, term, record)| LogRecord {
                place: Place { slot, offset, bytes },
                term: Term(term),
                bytes: record,
            });
        let records: Vec<LogRecord> = records.collect();
        Self {
            position: Position::behind(of),
            covered: records.len(),
            records,
            snapshot,
        }
    }

    /// Begins with the newest snapshot.
    pub(crate) fn begin(store: &dyn Store) -> Result<Self, StoreError> {
        let (newest, _) = newest_whole(store, LOG)?;
        Ok(newest.as_ref().map_or_else(Self::nothing, Self::restore))
    }

    /// Reads on as far as it gets.
    pub(crate) fn follow(&mut self, store: &dyn Store) {
        let mut keep = |record| self.records.push(record);
        // what cannot be read now can be later
        let _ = follow(store, LOG, &mut self.position, OnDamage::Refuse, &mut keep);
    }

    /// A core that knows all that.
    pub(crate) fn core(&self, term: Term) -> Core {
        let mut core = Core::restore(term, self.snapshot.clone());
        for record in &self.records[self.covered..] {
            core.replay(record.term, &decoded(record));
        }
        core
    }

    /// Tells a core that knows nothing every single record.
    pub(crate) fn replayed(&self, mut core: Core) -> Core {
        for record in &self.records {
            core.replay(record.term, &decoded(record));
        }
        core
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
        write_snapshot(
            objects,
            &snapshot((slot, term), &CoreSnapshot::default(), &[], Planted::Nothing),
        )
        .expect("objects take everything");
    }
    (0..chunk).for_each(|chunk| put_marker(objects, LOG, chunk).expect("objects take everything"));
    snapshot((newest, term), &CoreSnapshot::default(), &[], Planted::Nothing)
}
