//! What finished tasks leave behind in a slot until the next progress message takes it.

use std::any::Any;
use std::fmt;

use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::MESSAGE_BYTES_MAX;
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::usage::TaskUsage;

/// Result bytes above which a slot sends what it has before it goes on, and neighbours are no longer joined.
pub(crate) const OUTPUT_BYTES_HIGH: usize = 1 << 20;

/// Merged values that are no neighbours above which a slot sends what it has: their size in memory is not known.
const VALUES_HIGH: usize = 256;

/// Measured tasks above which a slot sends what it has.
const MEASURED_HIGH: usize = 1024;

/// What tasks of one job returned, in the order in which they ended on one slot.
#[derive(Debug, Default)]
pub(crate) struct ChunkOutput {
    pub(crate) pieces: Vec<Piece>,
    /// Encoded results of the pieces, back to back.
    pub(crate) bytes: Vec<u8>,
    pub(crate) failed: Vec<(GrantId, TaskFailure)>,
    /// What those of the tasks have used that were measured.
    pub(crate) usage: Vec<TaskUsage>,
    /// Bytes of the failures' messages.
    failed_bytes: usize,
    /// Why the job cannot go on: merging panicked, and the values that were being merged are lost.
    pub(crate) broken: Option<String>,
    /// Time spent on all of this.
    pub(crate) busy_nanos: u64,
}

/// Neighbouring tasks of one grant that succeeded.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) grant: GrantId,
    pub(crate) range: IndexRange,
    pub(crate) yielded: Yield,
}

/// What the tasks of a piece returned.
pub(crate) enum Yield {
    /// This many of the output's bytes.
    Bytes(usize),
    /// One merged value, not encoded yet.
    Merged(Box<dyn Any + Send>),
}

impl fmt::Debug for Yield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({bytes})"),
            Self::Merged(_) => f.write_str("Merged"),
        }
    }
}

/// Neighbouring tasks of one grant with their encoded results, ready to be sent; no bytes if they return nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) grant: GrantId,
    pub(crate) range: IndexRange,
    pub(crate) bytes: Vec<u8>,
}

impl Piece {
    /// Whether `next` begins where this one ends.
    pub(crate) fn meets(&self, next: &Self) -> bool {
        self.grant == next.grant && self.range.end == next.range.start
    }
}

impl ChunkOutput {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.failed.is_empty() && self.broken.is_none()
    }

    /// Whether this is so much that a slot should send it before it goes on.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() + self.failed_bytes >= OUTPUT_BYTES_HIGH || self.usage.len() >= MEASURED_HIGH
    }

    /// Whether merged values pile up.
    pub(crate) fn has_many_values(&self) -> bool {
        self.pieces.len() >= VALUES_HIGH
            && self
                .pieces
                .iter()
                .any(|piece| matches!(piece.yielded, Yield::Merged(_)))
    }

    /// Adds a piece, joined to the last one where results lie back to back and stay small.
    pub(crate) fn push(&mut self, piece: Piece) {
        if let Some(last) = self.pieces.last_mut()
            && last.meets(&piece)
            && let (Yield::Bytes(have), Yield::Bytes(more)) = (&mut last.yielded, &piece.yielded)
            && *have < OUTPUT_BYTES_HIGH
        {
            last.range.end = piece.range.end;
            *have += more;
        } else {
            self.pieces.push(piece);
        }
    }

    /// Records a failed task, its message cut to the limit.
    pub(crate) fn fail(&mut self, grant: GrantId, index: u64, cause: FailureCause, mut message: String) {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        self.failed_bytes += message.len() + size_of::<TaskFailure>();
        let failure = TaskFailure {
            index,
            cause,
            message,
        };
        self.failed.push((grant, failure));
    }

    /// Moves everything out of `other`, which keeps its memory.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.busy_nanos += std::mem::take(&mut other.busy_nanos);
        self.failed_bytes += std::mem::take(&mut other.failed_bytes);
        self.broken = self.broken.take().or(other.broken.take());
        self.usage.append(&mut other.usage);
        if self.is_empty() {
            std::mem::swap(&mut self.bytes, &mut other.bytes);
            std::mem::swap(&mut self.pieces, &mut other.pieces);
            std::mem::swap(&mut self.failed, &mut other.failed);
            return;
        }
        self.bytes.append(&mut other.bytes);
        self.failed.append(&mut other.failed);
        for piece in other.pieces.drain(..) {
            self.push(piece);
        }
    }
}
