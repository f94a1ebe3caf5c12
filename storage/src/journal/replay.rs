//! Rule R1: what a log says, read back slot by slot. What becomes of a damaged slot is decided by whoever reads on
//! ([`super::follow`]).

use bytes::Bytes;
use phalanx_protocol::Term;

use crate::damage::Damage;
use crate::slot::{self, LogId, Place, RECORD_HEAD_BYTES, Slot, SlotError, SlotHead, slot_key};
use crate::store::{Store, StoreError};

/// A record that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it lies.
    pub place: Place,
    /// The leadership that wrote it.
    pub term: Term,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Where a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The first slot that is missing.
    pub next_slot: u64,
    /// The highest term seen; zero in an empty log.
    pub term: Term,
}

/// Why a log could not be read, or a slot not be settled.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The storage failed.
    #[error("the storage failed at log slot `{key}`")]
    Store {
        /// The slot's key.
        key: String,
        /// How.
        #[source]
        source: StoreError,
    },
    /// A slot is not what was written, and may not be passed over.
    #[error(
        "log slot `{key}` is damaged; nothing was changed: bring this object back from a copy of the storage, or start \
         with its loss accepted, which keeps all other records"
    )]
    Damaged {
        /// The slot's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: SlotError,
    },
    /// A record is not what was written.
    #[error(
        "the record at {place} of log slot `{key}` is damaged: bring this object back from a copy of the storage"
    )]
    DamagedRecord {
        /// The slot's key.
        key: String,
        /// Where in it.
        place: Place,
    },
    /// A slot that was there once, and may not be passed over.
    #[error(
        "log slot `{key}` is gone, and what was written after it is there; nothing was changed: bring this object back \
         from a copy of the storage, or start with its loss accepted, which keeps all other records"
    )]
    Lost {
        /// The slot's key.
        key: String,
    },
    /// The old log was deleted, and every snapshot of it is gone or damaged.
    #[error(
        "no snapshot below `{key}` is whole, and the log before slot {first_slot} is deleted; nothing was changed: bring \
         the newest snapshot back from a copy of the storage, or start with --accept-loss, which gives up all earlier jobs{}",
        listed(damage)
    )]
    BeginningGone {
        /// Where the snapshots should be.
        key: String,
        /// The first slot that is left.
        first_slot: u64,
        /// The snapshots that are there.
        damage: Vec<Damage>,
    },
    /// A slot said to exist that cannot be read.
    #[error("log slot `{key}` exists and cannot be found")]
    Vanished {
        /// The slot's key.
        key: String,
    },
}

/// The void rule: decides slot by slot, in order, which ones count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VoidRule {
    term: Term,
}

impl Default for VoidRule {
    fn default() -> Self {
        Self::from_term(Term(0))
    }
}

impl VoidRule {
    /// Begins behind a slot where that term was in force.
    pub const fn from_term(term: Term) -> Self {
        Self { term }
    }

    /// Passes over a slot that was a fence, as is known by what follows it.
    pub(crate) fn pass_fence(&mut self, slot: u64) {
        self.term = self.term.max(Term(slot + 1));
    }

    /// Whether the next slot counts; a void one was written by a leader that a fence below it had deposed.
    pub fn admits(&mut self, next: &SlotHead) -> bool {
        let admitted = next.term >= self.term;
        self.term = self.term.max(next.term);
        admitted
    }

    /// The highest term seen.
    pub fn term(&self) -> Term {
        self.term
    }
}

/// Reads a log from its first slot to the first missing one and hands out every record that counts.
///
/// # Errors
/// [`LogError::Damaged`] names a slot that is not what was written; nothing behind it is handed out.
pub fn replay(store: &dyn Store, log: LogId, visit: &mut dyn FnMut(LogRecord)) -> Result<LogEnd, LogError> {
    let mut rule = VoidRule::default();
    let mut next_slot = 0;
    while let Some(slot) = read_slot(store, log, next_slot)? {
        admit(&mut rule, slot, visit);
        next_slot += 1;
    }
    Ok(LogEnd {
        next_slot,
        term: rule.term(),
    })
}

/// Hands out the slot's records if it counts.
pub(crate) fn admit(rule: &mut VoidRule, slot: Slot, visit: &mut dyn FnMut(LogRecord)) {
    if rule.admits(&slot.head) {
        for (place, bytes) in slot.records {
            visit(LogRecord {
                place,
                term: slot.head.term,
                bytes,
            });
        }
    }
}

/// Reads one slot; `None` if there is none.
///
/// # Errors
/// Names the slot and what is wrong with it.
pub fn read_slot(store: &dyn Store, log: LogId, slot: u64) -> Result<Option<Slot>, LogError> {
    let key = slot_key(log.shard, slot);
    match find_slot(store, log, slot)? {
        Found::Whole(slot) => Ok(Some(slot)),
        Found::Missing => Ok(None),
        Found::Damaged { source, .. } => Err(LogError::Damaged { key, source }),
    }
}

/// What lies in a slot.
#[derive(Debug)]
pub(crate) enum Found {
    /// What was written.
    Whole(Slot),
    /// Nothing.
    Missing,
    /// Something else.
    Damaged {
        /// What is wrong with it.
        source: SlotError,
        /// How many records it should hold, if its head can be read.
        records: Option<u32>,
    },
}

/// Looks at one slot.
pub(crate) fn find_slot(store: &dyn Store, log: LogId, slot: u64) -> Result<Found, LogError> {
    let key = slot_key(log.shard, slot);
    match store.get(&key) {
        Ok(Some(object)) => Ok(found(object.into(), log, slot)),
        Ok(None) => Ok(Found::Missing),
        Err(source) => Err(LogError::Store { key, source }),
    }
}

/// Looks at a slot's object.
pub(crate) fn found(object: Bytes, log: LogId, slot: u64) -> Found {
    match slot::decode(object.clone(), log, slot) {
        Ok(slot) => Found::Whole(slot),
        Err(source) => Found::Damaged {
            source,
            records: slot::records_claimed(&object),
        },
    }
}

fn listed(damage: &[Damage]) -> String {
    let lines = damage.iter().map(|damage| format!("; {damage}"));
    lines.collect()
}

/// Reads one record again, from where it was said to lie, and checks it.
///
/// # Errors
/// Names the slot that is gone, damaged or unreadable.
pub fn read_record(store: &dyn Store, shard: u32, place: Place) -> Result<Vec<u8>, LogError> {
    let key = slot_key(shard, place.slot);
    let head_bytes = RECORD_HEAD_BYTES as u32;
    let Some(start) = place.offset.checked_sub(head_bytes) else {
        return Err(LogError::DamagedRecord { key, place });
    };
    let length = RECORD_HEAD_BYTES + place.bytes as usize;
    let mut framed = match store.get_range(&key, u64::from(start), length) {
        Ok(Some(framed)) => framed,
        Ok(None) => return Err(LogError::Vanished { key }),
        Err(source) => return Err(LogError::Store { key, source }),
    };
    let whole = framed.len() == length && framed[..4] == place.bytes.to_le_bytes();
    if !whole || framed[4..8] != crc32c::crc32c(&framed[RECORD_HEAD_BYTES..]).to_le_bytes() {
        return Err(LogError::DamagedRecord { key, place });
    }
    framed.drain(..RECORD_HEAD_BYTES);
    Ok(framed)
}

#[cfg(test)]
mod tests;
