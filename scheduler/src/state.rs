//! The bytes of a snapshot: what the core knew, and where the results of its jobs lie. Layout 1, integers little-endian:
//!
//! ```text
//! 0 layout u32   4 layout of the core's part u32
//! 8 frame: the core's snapshot without jobs; one frame per job; an empty frame
//!   per feed: frame head, frames of at most 1024 entries each; an empty frame
//! ```
//!
//! A frame is its length as u32 and a value of `protocol::codec`. Many small ones, because a decoder takes no value that
//! claims too much memory. An entry takes some 20 bytes; results and failure texts stay where they are, in log slots and
//! files, and the slots are named to whoever deletes old log.

use std::collections::BTreeSet;

use phalanx_protocol::codec::{self, DecodeError};
use phalanx_protocol::snapshot::{
    CORE_SNAPSHOT_VERSION, CoreSnapshot, FirstJobSnapshot, JobSnapshot, SecondJobSnapshot, ThirdJobSnapshot,
};
use phalanx_protocol::{IndexRange, JobId};
use phalanx_storage::Place;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::feed::{Entry, Feeds, Mark, Source};

/// The layout that this version writes.
const LAYOUT: u32 = 1;
/// Entries in one frame.
const ENTRIES_PER_FRAME: usize = 1024;

/// Why a snapshot's bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by another version.
    #[error("its layout is {found}, which this version does not read")]
    Layout {
        /// The layout that it names.
        found: u32,
    },
    /// It ends too early, or something follows its end.
    #[error("it is cut off or too long")]
    Length,
    /// A part is not what it should be.
    #[error("a part of it is malformed")]
    Part(#[from] DecodeError),
}

/// How a feed begins.
#[derive(Debug, Serialize, Deserialize)]
struct FeedHead {
    job: JobId,
    is_over: bool,
    entries: u64,
}

/// An [`Entry`] as it is written. `keep` is empty if all of `range` counts.
#[derive(Debug, Serialize, Deserialize)]
enum Stored {
    Journal {
        range: IndexRange,
        keep: Vec<IndexRange>,
        place: (u64, u32, u32),
        block: u64,
    },
    File {
        range: IndexRange,
        keep: Vec<IndexRange>,
        name: String,
        offset: u64,
        bytes: u64,
        crc32c: u32,
    },
    Done(Vec<IndexRange>),
    Failed {
        ranges: Vec<IndexRange>,
        place: (u64, u32, u32),
    },
    Cancelled(Vec<IndexRange>),
}

/// Encodes a state; returns the log slots that it points to, too. Locks each feed only for a part of it at a time.
pub(crate) fn encode(mut core: CoreSnapshot, feeds: &[Mark]) -> (Vec<u8>, BTreeSet<u64>) {
    let (mut bytes, mut slots) = (Vec::new(), BTreeSet::new());
    bytes.extend(LAYOUT.to_le_bytes());
    bytes.extend(CORE_SNAPSHOT_VERSION.to_le_bytes());
    let jobs = std::mem::take(&mut core.jobs);
    frame(&mut bytes, &core);
    jobs.iter().for_each(|job| frame(&mut bytes, job));
    end(&mut bytes);
    for mark in feeds {
        let head = FeedHead {
            job: mark.job,
            is_over: mark.is_over,
            entries: mark.entries as u64,
        };
        frame(&mut bytes, &head);
        for start in (0..mark.entries).step_by(ENTRIES_PER_FRAME) {
            let part = mark.feed.part(start..mark.entries.min(start + ENTRIES_PER_FRAME));
            slots.extend(part.iter().filter_map(Entry::place).map(|place| place.slot));
            let part: Vec<Stored> = part.into_iter().map(Stored::from).collect();
            frame(&mut bytes, &part);
        }
    }
    end(&mut bytes);
    (bytes, slots)
}

/// Reads a state.
///
/// # Errors
/// [`StateError`]. No input makes this panic.
pub(crate) fn decode(bytes: &[u8]) -> Result<(CoreSnapshot, Feeds), StateError> {
    let mut reader = Reader(bytes);
    let layout = reader.number()?;
    if layout != LAYOUT {
        return Err(StateError::Layout { found: layout });
    }
    let of_core = reader.number()?;
    let mut core: CoreSnapshot = reader.value()?.ok_or(StateError::Length)?;
    while let Some(job) = match of_core {
        1 => reader.value::<FirstJobSnapshot>()?.map(JobSnapshot::from),
        2 => reader.value::<SecondJobSnapshot>()?.map(JobSnapshot::from),
        3 => reader.value::<ThirdJobSnapshot>()?.map(JobSnapshot::from),
        CORE_SNAPSHOT_VERSION => reader.value::<JobSnapshot>()?,
        found => return Err(StateError::Layout { found }),
    } {
        core.jobs.push(job);
    }
    let mut feeds = Feeds::default();
    while let Some(head) = reader.value::<FeedHead>()? {
        let mut entries: Vec<Entry> = Vec::new();
        while (entries.len() as u64) < head.entries {
            let part: Vec<Stored> = reader.value()?.ok_or(StateError::Length)?;
            if part.is_empty() {
                return Err(StateError::Length);
            }
            entries.extend(part.into_iter().map(Entry::from));
        }
        feeds.restore(head.job, head.is_over, entries);
    }
    match reader.0.is_empty() {
        true => Ok((core, feeds)),
        false => Err(StateError::Length),
    }
}

fn frame(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let value = codec::encode(value);
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
}

fn end(bytes: &mut Vec<u8>) {
    bytes.extend(0_u32.to_le_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(StateError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, StateError> {
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(number))
    }

    /// The next frame's value; `None` at an empty one.
    fn value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StateError> {
        match self.number()? {
            0 => Ok(None),
            length => Ok(Some(codec::decode(self.take(length as usize)?)?)),
        }
    }
}

fn written(place: Place) -> (u64, u32, u32) {
    (place.slot, place.offset, place.bytes)
}

fn read((slot, offset, bytes): (u64, u32, u32)) -> Place {
    Place { slot, offset, bytes }
}

/// What is written for the kept parts of a range.
fn shortened(range: IndexRange, keep: Vec<IndexRange>) -> Vec<IndexRange> {
    if keep == [range] { Vec::new() } else { keep }
}

fn lengthened(range: IndexRange, keep: Vec<IndexRange>) -> Vec<IndexRange> {
    if keep.is_empty() { vec![range] } else { keep }
}

impl From<Entry> for Stored {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Results {
                range,
                keep,
                source: Source::Journal { place, block, .. },
            } => Self::Journal {
                range,
                keep: shortened(range, keep),
                place: written(place),
                block: block as u64,
            },
            Entry::Results {
                range,
                keep,
                source:
                    Source::File {
                        name,
                        offset,
                        bytes,
                        crc32c,
                    },
            } => Self::File {
                range,
                keep: shortened(range, keep),
                name,
                offset,
                bytes,
                crc32c,
            },
            Entry::Done(ranges) => Self::Done(ranges),
            Entry::Cancelled(ranges) => Self::Cancelled(ranges),
            Entry::Failed { ranges, place } => Self::Failed {
                ranges,
                place: written(place),
            },
        }
    }
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Journal {
                range,
                keep,
                place,
                block,
            } => Self::Results {
                range,
                keep: lengthened(range, keep),
                source: Source::Journal {
                    place: read(place),
                    block: usize::try_from(block).unwrap_or(usize::MAX),
                    cached: None,
                },
            },
            Stored::File {
                range,
                keep,
                name,
                offset,
                bytes,
                crc32c,
            } => Self::Results {
                range,
                keep: lengthened(range, keep),
                source: Source::File {
                    name,
                    offset,
                    bytes,
                    crc32c,
                },
            },
            Stored::Done(ranges) => Self::Done(ranges),
            Stored::Cancelled(ranges) => Self::Cancelled(ranges),
            Stored::Failed { ranges, place } => Self::Failed {
                ranges,
                place: read(place),
            },
        }
    }
}

#[cfg(test)]
mod tests;
