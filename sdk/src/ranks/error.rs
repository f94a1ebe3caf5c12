//! What can go wrong between ranks, as data. Ranks in errors are those of the communicator that was used.

use std::fmt;

use phalanx_protocol::codec::{DecodeError, EncodeError};
use serde::{Deserialize, Serialize};

/// How a rank came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Its function returned: in good order, but it takes part in nothing any more.
    Returned,
    /// Its function panicked.
    Panicked,
    /// The process or node that it lived on is gone.
    Lost,
    /// It goes on elsewhere, with replacements for those that are lost: see [`respawn`](super::Communicator::respawn).
    Left,
}

impl Ending {
    /// Whether whoever waits for a message from anybody has to be told.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Ending::Returned => false,
            Ending::Panicked | Ending::Lost | Ending::Left => true,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Ending::Returned => "has returned",
            Ending::Panicked => "has panicked",
            Ending::Lost => "is lost",
            Ending::Left => "has left, to go on with replacements",
        })
    }
}

/// Why an operation on a [`Communicator`](super::Communicator) was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommError {
    /// The communicator has no such rank.
    #[error("there is no rank {rank} among {size}")]
    NoSuchRank {
        /// The rank that was named.
        rank: usize,
        /// How many there are, counted from 0.
        size: usize,
    },
    /// A rank that the operation needs has ended.
    #[error("rank {rank} {ending}")]
    RankEnded {
        /// Which one.
        rank: usize,
        /// How it ended.
        ending: Ending,
    },
    /// A collective operation failed at another rank for a reason of its own, so it cannot complete here either.
    #[error("the collective operation failed at rank {rank}")]
    CollectiveFailed {
        /// Where it failed first.
        rank: usize,
    },
    /// Some rank has revoked the communicator.
    #[error("the communicator was revoked: shrink it to go on with the ranks that are left")]
    Revoked,
    /// No rank has failed, so there is nobody to be replaced.
    #[error("no rank of the gang has failed, so none is replaced")]
    NobodyFailed,
    /// The gang replaces no ranks that it loses.
    #[error("ranks that are lost to this gang are not replaced: start it with `respawn_on_loss()`")]
    NotReplaced,
    /// The gang has come to its end, or all of it starts again.
    #[error("this start of the gang is over")]
    Over,
    /// The message is longer than the buffer it was to be received into; it is dropped.
    #[error("a message of {length} numbers does not fit into {capacity}: `probe` tells a length before")]
    Truncated {
        /// Length of the message in numbers.
        length: usize,
        /// Length of the buffer in numbers.
        capacity: usize,
    },
    /// The message holds another type than the one asked for; it is dropped.
    #[error("the message is no {expected}{}", found.map(|found| format!(" but a {found}")).unwrap_or_default())]
    WrongType {
        /// The type that was asked for.
        expected: &'static str,
        /// The type that was sent, where that is known.
        found: Option<&'static str>,
    },
    /// The receiver has not taken [`LANE_MESSAGES_MAX`](super::LANE_MESSAGES_MAX) messages from this rank yet, or 64 MiB of them if
    /// it lives on another node.
    #[error(
        "too many messages to rank {rank} wait to be received: let it receive some, or wait for that with `send`"
    )]
    MailboxFull {
        /// The receiver.
        rank: usize,
    },
    /// The root of a broadcast or scatter gave nothing to send.
    #[error("rank {root} is the root but gave nothing")]
    RootGaveNothing {
        /// The root.
        root: usize,
    },
    /// A collective operation was called with a length that does not fit the number of ranks or the other ranks' length.
    #[error("a length of {found} where {expected} is needed")]
    WrongLength {
        /// What fits.
        expected: usize,
        /// What was given here or came from another rank.
        found: usize,
    },
    /// Another rank has called another collective operation than this one, or the same with another root or length. Where others
    /// are made of these, these are named: a `split` gathers all colors, checkpoints gather and scatter.
    #[error(
        "rank {rank} called {there}, this rank {here}: all ranks of a communicator have to call the same collective operations in \
         the same order, with the same root and equal lengths"
    )]
    CallsDiffer {
        /// The other rank.
        rank: usize,
        /// What that one called.
        there: String,
        /// What this one called.
        here: String,
    },
    /// The value for a rank on another node has no byte form.
    #[error("the value cannot be sent to another node")]
    Encode(#[source] EncodeError),
    /// The bytes from a rank on another node are no such value.
    #[error("the message from another node cannot be read")]
    Decode(#[source] DecodeError),
}
