//! One object of a shard's log, byte by byte: a head, then records that this crate does not look into.
//!
//! The bytes outlive every build, so the encoding is written out by hand, carries a version, and is pinned by a test.
//! All numbers are little-endian:
//!
//! ```text
//!  0 magic "phxslot\n"   8 version u16   10 kind u8   11 zero u8   12 shard u32   16 cluster [16]
//! 32 slot u64           40 term u64     48 nonce u128
//! 64 records u32        68 payload bytes u32          72 zero u32  76 CRC32C u32 over all other bytes
//! 80 payload: for each record  length u32, CRC32C u32, bytes
//! ```
//!
//! A record has a checksum of its own so that it can be read alone, by its [`Place`].

mod decode;

use std::fmt;

use bytes::Bytes;
use phalanx_protocol::Term;

use crate::cluster::ClusterId;
pub(crate) use decode::records_claimed;
pub use decode::{Slot, SlotError, decode};

/// The format that this build writes and reads.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEAD_BYTES: usize = 80;
/// Bytes before each record.
pub const RECORD_HEAD_BYTES: usize = 8;
/// Bytes of one record.
pub const RECORD_BYTES_MAX: usize = 32 << 20;
/// Slots in one folder of the log.
pub const CHUNK_SLOTS: u64 = 4096;

/// Slots of one log: a number that no log reaches, so that what lies some way ahead has a number too.
pub const SLOTS_MAX: u64 = 1 << 62;

const MAGIC: [u8; 8] = *b"phxslot\n";
const CHECKSUM_AT: usize = 76;

/// What a slot is for. Numbers 5 (handover) and 6 (snapshot taken) are kept for rules to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// Holds records.
    Data,
    /// Begins a leadership, whose term is one more than the slot's number.
    Fence,
    /// Put by a new leader below its fence where nothing was, so that nobody else can write there.
    Fill,
    /// Says nothing but that its leader still leads; or stands in for a slot that the storage lost.
    NoOp,
}

impl SlotKind {
    const fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Fence => 2,
            Self::Fill => 3,
            Self::NoOp => 4,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Data),
            2 => Some(Self::Fence),
            3 => Some(Self::Fill),
            4 => Some(Self::NoOp),
            _ => None,
        }
    }

    /// Whether rules R2-R4 let a leader of that term write this kind there.
    const fn belongs(self, slot: u64, term: Term) -> bool {
        match self {
            Self::Data | Self::NoOp => slot >= term.0,
            Self::Fence => term.0 > 0 && slot == term.0 - 1,
            Self::Fill => slot < term.0.saturating_sub(1),
        }
    }
}

/// Names a log: there is one for each shard of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard, from 0.
    pub shard: u32,
}

/// Everything about a slot but its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotHead {
    /// The log it belongs to.
    pub log: LogId,
    /// Its number.
    pub slot: u64,
    /// The leadership that wrote it.
    pub term: Term,
    /// Tells this write from every other, so that a writer recognises its own after an unknown outcome.
    pub nonce: u128,
    /// What it is for.
    pub kind: SlotKind,
}

/// Where one record lies, so that it can be read again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The slot.
    pub slot: u64,
    /// Where the record's bytes begin in the slot's object.
    pub offset: u32,
    /// How many they are.
    pub bytes: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slot {}, bytes {}..{}",
            self.slot,
            self.offset,
            u64::from(self.offset) + u64::from(self.bytes)
        )
    }
}

/// Makes nonces from a random seed given from outside: one seed per leadership.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonces(u128);

impl Nonces {
    /// Starts at a seed, 128 random bits.
    pub const fn new(seed: u128) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn draw(&mut self) -> u128 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

/// The key of a slot.
pub fn slot_key(shard: u32, slot: u64) -> String {
    format!("{}{slot:020}", chunk_prefix(shard, slot / CHUNK_SLOTS))
}

/// The prefix of every slot's key in a chunk: its folder.
pub fn chunk_prefix(shard: u32, chunk: u64) -> String {
    format!("{}{chunk:016}/", log_prefix(shard))
}

/// The prefix of every slot's key in a shard.
pub fn log_prefix(shard: u32) -> String {
    format!("shards/{shard}/log/")
}

/// The number of the slot with that key; `None` if it is no slot's key.
pub fn slot_of_key(shard: u32, key: &str) -> Option<u64> {
    let slot = key.rsplit_once('/')?.1.parse().ok()?;
    (slot < SLOTS_MAX && slot_key(shard, slot) == key).then_some(slot)
}

/// Encodes a slot and says where each record lies in it.
///
/// # Panics
/// If the payload exceeds `u32`; the appender's limits keep it far below.
pub fn encode(head: &SlotHead, records: &[Bytes]) -> (Bytes, Vec<Place>) {
    let payload_bytes: usize = records
        .iter()
        .map(|record| RECORD_HEAD_BYTES + record.len())
        .sum();
    let mut object = Vec::with_capacity(HEAD_BYTES + payload_bytes);
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&[head.kind.number(), 0]);
    object.extend_from_slice(&head.log.shard.to_le_bytes());
    object.extend_from_slice(&head.log.cluster.0);
    object.extend_from_slice(&head.slot.to_le_bytes());
    object.extend_from_slice(&head.term.0.to_le_bytes());
    object.extend_from_slice(&head.nonce.to_le_bytes());
    object.extend_from_slice(&length_field(records.len()).to_le_bytes());
    object.extend_from_slice(&length_field(payload_bytes).to_le_bytes());
    object.extend_from_slice(&[0; HEAD_BYTES - 72]);
    let mut places = Vec::with_capacity(records.len());
    for record in records {
        object.extend_from_slice(&length_field(record.len()).to_le_bytes());
        object.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
        places.push(Place {
            slot: head.slot,
            offset: length_field(object.len()),
            bytes: length_field(record.len()),
        });
        object.extend_from_slice(record);
    }
    let checksum = object_checksum(&object);
    object[CHECKSUM_AT..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    (object.into(), places)
}

/// The checksum over everything but itself.
fn object_checksum(object: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&object[..CHECKSUM_AT]), &object[HEAD_BYTES..])
}

fn length_field(length: usize) -> u32 {
    u32::try_from(length).expect("a slot's payload is limited to far less than 4 GiB")
}

#[cfg(test)]
mod tests;
