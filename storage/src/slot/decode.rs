//! Reading a slot: every length is checked before it is used, and what is wrong is named.

use bytes::Bytes;
use phalanx_protocol::Term;

use super::{
    CHECKSUM_AT, FORMAT_VERSION, HEAD_BYTES, LogId, MAGIC, Place, RECORD_HEAD_BYTES, SlotHead, SlotKind,
    object_checksum,
};
use crate::cluster::ClusterId;

/// A slot that was read back whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Everything but the records.
    pub head: SlotHead,
    /// The records in order, each with its place. They share the object's memory.
    pub records: Vec<(Place, Bytes)>,
}

/// Why bytes are not the slot they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Cut off, or never whole.
    #[error("it has {bytes} bytes and should have {bytes_expected}")]
    TooShort {
        /// Bytes there are.
        bytes: usize,
        /// Bytes there should be.
        bytes_expected: usize,
    },
    /// Something follows the payload.
    #[error("it has {bytes} bytes and should have only {bytes_expected}")]
    TooLong {
        /// Bytes there are.
        bytes: usize,
        /// Bytes there should be.
        bytes_expected: usize,
    },
    /// The first bytes are not a slot's.
    #[error("it does not begin like a log slot")]
    NotASlot,
    /// Another format.
    #[error("its format is version {found}, this build reads version {FORMAT_VERSION}")]
    Version {
        /// The version that it names.
        found: u16,
    },
    /// At least one bit is not what was written.
    #[error("its checksum is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Written in the slot.
        expected: u32,
    },
    /// A kind that this build does not know, though the version is the same.
    #[error("its kind is {found}, which this build does not know")]
    Kind {
        /// The number.
        found: u8,
    },
    /// Its records do not add up to its payload, though the checksum is right.
    #[error("its records do not fit its payload")]
    Records,
    /// A record is not what its own checksum says, though the slot's is right.
    #[error("the checksum of its record at byte {offset} is wrong")]
    Record {
        /// Where the record begins.
        offset: u32,
    },
    /// A whole slot that belongs elsewhere.
    #[error(
        "it belongs to slot {slot} of shard {} of cluster {} and lies at slot {slot_expected} of shard {} of cluster {}",
        log.shard, log.cluster, log_expected.shard, log_expected.cluster
    )]
    WrongPlace {
        /// The log that it names.
        log: LogId,
        /// The slot that it names.
        slot: u64,
        /// The log where it lies.
        log_expected: LogId,
        /// The slot where it lies.
        slot_expected: u64,
    },
    /// A whole slot that no leader can have written there.
    #[error("no leader of term {term} writes a {kind:?} slot at {slot}")]
    WrongTerm {
        /// The term that it names.
        term: Term,
        /// What it says it is for.
        kind: SlotKind,
        /// Where it lies.
        slot: u64,
    },
}

/// Decodes the object that lies at `slot` of `log`.
///
/// # Errors
/// Says what is wrong with it. No input makes this panic.
pub fn decode(object: Bytes, log: LogId, slot: u64) -> Result<Slot, SlotError> {
    let head_bytes = object.get(..HEAD_BYTES);
    let head = head_bytes.ok_or(SlotError::TooShort {
        bytes: object.len(),
        bytes_expected: HEAD_BYTES,
    })?;
    if head[..8] != MAGIC {
        return Err(SlotError::NotASlot);
    }
    let version = u16::from_le_bytes(field(head, 8));
    if version != FORMAT_VERSION {
        return Err(SlotError::Version { found: version });
    }
    let bytes_expected = HEAD_BYTES.saturating_add(u32::from_le_bytes(field(head, 68)) as usize);
    if object.len() < bytes_expected {
        return Err(SlotError::TooShort {
            bytes: object.len(),
            bytes_expected,
        });
    }
    if object.len() > bytes_expected {
        return Err(SlotError::TooLong {
            bytes: object.len(),
            bytes_expected,
        });
    }
    let (found, expected) = (
        object_checksum(&object),
        u32::from_le_bytes(field(head, CHECKSUM_AT)),
    );
    if found != expected {
        return Err(SlotError::Checksum { found, expected });
    }
    let found = SlotHead {
        log: LogId {
            cluster: ClusterId(field(head, 16)),
            shard: u32::from_le_bytes(field(head, 12)),
        },
        slot: u64::from_le_bytes(field(head, 32)),
        term: Term(u64::from_le_bytes(field(head, 40))),
        nonce: u128::from_le_bytes(field(head, 48)),
        kind: SlotKind::from_number(head[10]).ok_or(SlotError::Kind { found: head[10] })?,
    };
    if (found.log, found.slot) != (log, slot) {
        return Err(SlotError::WrongPlace {
            log: found.log,
            slot: found.slot,
            log_expected: log,
            slot_expected: slot,
        });
    }
    if !found.kind.belongs(slot, found.term) {
        return Err(SlotError::WrongTerm {
            term: found.term,
            kind: found.kind,
            slot,
        });
    }
    let count = u32::from_le_bytes(field(head, 64));
    Ok(Slot {
        head: found,
        records: records(&object, slot, count)?,
    })
}

/// How many records a damaged object says that it holds; `None` where its head does not look like one.
pub(crate) fn records_claimed(object: &[u8]) -> Option<u32> {
    let head = object.get(..HEAD_BYTES)?;
    (head[..8] == MAGIC).then(|| u32::from_le_bytes(field(head, 64)))
}

fn records(object: &Bytes, slot: u64, count: u32) -> Result<Vec<(Place, Bytes)>, SlotError> {
    let mut records = Vec::new();
    let mut at = HEAD_BYTES;
    while at < object.len() {
        let head = object.get(at..at + RECORD_HEAD_BYTES).ok_or(SlotError::Records)?;
        let bytes = u32::from_le_bytes(field(head, 0));
        let start = at + RECORD_HEAD_BYTES;
        let end = start
            .checked_add(bytes as usize)
            .filter(|end| *end <= object.len());
        let end = end.ok_or(SlotError::Records)?;
        let offset = u32::try_from(start).map_err(|_| SlotError::Records)?;
        let checksum = u32::from_le_bytes(field(head, 4));
        if crc32c::crc32c(&object[start..end]) != checksum {
            return Err(SlotError::Record { offset });
        }
        records.push((Place { slot, offset, bytes }, object.slice(start..end)));
        at = end;
    }
    if records.len() == count as usize {
        Ok(records)
    } else {
        Err(SlotError::Records)
    }
}

/// A fixed-size field; the caller has checked that the bytes reach that far.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
