//! By what messages are matched: envelopes on messages, patterns on receives. Knows nothing of what is inside.

use serde::{Deserialize, Serialize};

/// A number by which a receiver tells the messages of one sender apart.
pub type Tag = u32;

/// Whose message a receive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Whoever's comes first.
    Any,
    /// That rank's.
    Rank(usize),
}

impl From<usize> for Source {
    fn from(rank: usize) -> Self {
        Source::Rank(rank)
    }
}

/// Which tag a receive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// Each.
    Any,
    /// This one.
    One(Tag),
}

impl From<Tag> for Tags {
    fn from(tag: Tag) -> Self {
        Tags::One(tag)
    }
}

/// What is known of a message besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The rank that sent it.
    pub source: usize,
    /// Its tag.
    pub tag: Tag,
    /// How many numbers it holds, if it was sent as a slice.
    pub length: Option<usize>,
}

/// Which kind of traffic of a communicator: they never match each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Kind {
    /// The user's own messages.
    PointToPoint,
    /// Inside collective operations; the tag is the operation's number.
    Collective,
    /// Inside agreements, which go on where the communicator is revoked; the tag is the agreement's number.
    Agreement,
}

/// A space of messages of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Context {
    /// The communicator's id, the same at all its ranks.
    pub communicator: u64,
    pub kind: Kind,
}

/// What stands on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub context: Context,
    /// The sender's rank in the communicator.
    pub source: u32,
    pub tag: u64,
    /// The sender's place in the gang.
    pub sender: u32,
}

/// What a receive takes from one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub context: Context,
    /// A rank of the communicator; none is any.
    pub source: Option<u32>,
    pub tag: Option<u64>,
}

impl Pattern {
    pub(super) fn takes_tag(&self, tag: u64) -> bool {
        self.tag.is_none_or(|wanted| wanted == tag)
    }

    pub(super) fn takes(&self, envelope: &Envelope) -> bool {
        self.context == envelope.context
            && self.source.is_none_or(|wanted| wanted == envelope.source)
            && self.takes_tag(envelope.tag)
    }
}
