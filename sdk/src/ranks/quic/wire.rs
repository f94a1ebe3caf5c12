//! What two hosts of a gang say to each other: the frames and their limits.
//!
//! A pair of hosts has one connection. On its one stream in both directions go [`Hello`] and then [`Frame`]s: small messages, and
//! the announcements of large ones, in the order in which they were sent, and notices between them. The bytes of a
//! large message go on a stream of their own once its receiver has asked for them, [`Bulk`] first and then as they are, so that
//! they delay nothing small. The version is in the handshake's protocol name: whoever changes anything here raises it.

use serde::{Deserialize, Serialize};

use crate::ranks::envelope::{Context, Envelope};
use crate::ranks::gang::Notice;
use crate::ranks::payload::Form;

/// Protocol and version, agreed on in the handshake (ALPN).
pub(super) const PROTOCOL: &str = "phalanx-ranks/3";
/// Bytes of a message up to which it is sent without being asked for. To be asked for costs a round trip and two turns of the
/// hosts, as much as 256 KiB take to cross a machine's loopback; and this much delays what is behind it by half a millisecond there.
pub(super) const EAGER_BYTES_MAX: usize = 512 << 10;
/// Bytes of a frame: a message that is sent unasked and what stands on it, or a list of loads.
pub(super) const FRAME_BYTES_MAX: usize = EAGER_BYTES_MAX + (4 << 10);
/// Lanes in one list of loads.
pub(super) const RETURNS_PER_FRAME_MAX: usize = 64;

/// The first frame of both sides: both know the same gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// A hash of which host each rank lives on.
    pub hosts_hash: u64,
}

/// What stands on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The receiver's place.
    pub to: u32,
    pub envelope: Envelope,
    pub form: Form,
}

impl Head {
    pub(super) fn lane(&self) -> Lane {
        Lane {
            to: self.to,
            sender: self.envelope.sender,
            context: self.envelope.context,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// A message; its bytes follow.
    Eager(Head),
    /// A message whose `bytes` bytes wait to be asked for by this number.
    Announced { head: Head, id: u64, bytes: u64 },
    /// The announced message with this number was received: send its bytes.
    Fetch { id: u64 },
    /// The announced message with this number was thrown away.
    Forgo { id: u64 },
    /// A fact about ranks.
    Notice(Notice),
    /// Messages that were received since the last time.
    Returns(Vec<(Lane, Load)>),
    /// A rank waits for room in this lane: say at once what is received of it.
    Pressing(Lane),
}

/// The first frame of a stream that carries a large message; its bytes follow as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bulk {
    pub id: u64,
}

/// The messages from one rank to another in one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Lane {
    /// The receiver's place.
    pub to: u32,
    /// The sender's place.
    pub sender: u32,
    pub context: Context,
}

/// How much of a lane was sent, or received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Load {
    pub messages: u64,
    /// Bytes in these, wherever they lie.
    pub bytes: u64,
    /// Bytes of those that were sent without being asked for.
    pub eager_bytes: u64,
}

impl Load {
    /// One message.
    pub(super) fn one(bytes: usize, eager: bool) -> Self {
        Load {
            messages: 1,
            bytes: bytes as u64,
            eager_bytes: if eager { bytes as u64 } else { 0 },
        }
    }

    /// Another one counts too. What was only announced may come to more than a number holds.
    pub(super) fn add(&mut self, other: Load) {
        self.messages += other.messages;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.eager_bytes += other.eager_bytes;
    }

    /// What is left, unless `other` is more.
    pub(super) fn less(self, other: Load) -> Option<Load> {
        Some(Load {
            messages: self.messages.checked_sub(other.messages)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
            eager_bytes: self.eager_bytes.checked_sub(other.eager_bytes)?,
        })
    }
}
