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
    /// Inside collective operations; the tag begins with the operation's number.
    Collective,
    /// Inside agreements, which go on where the communicator is revoked; the tag is the agreement's number.
    Agreement,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::PointToPoint, Kind::Collective, Kind::Agreement];
}

/// A space of messages of its own: those of one kind on one communicator, in one word, so that an envelope is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(super) struct Context(u64);

/// The bits of a [`Context`] that are the kind.
const KIND_BITS: u64 = 0b11;

impl Context {
    /// Of the communicator with that [id](communicator_id).
    pub(super) const fn new(communicator: u64, kind: Kind) -> Self {
        Context(communicator_id(communicator) | kind as u64)
    }

    pub(super) fn communicator(self) -> u64 {
        communicator_id(self.0)
    }

    pub(super) fn kind(self) -> Kind {
        Kind::ALL[(self.0 & KIND_BITS) as usize]
    }
}

/// The id of a communicator, the same at all its ranks, out of a number that is another for each.
pub(super) const fn communicator_id(number: u64) -> u64 {
    number & !KIND_BITS
}

impl From<Context> for u64 {
    fn from(context: Context) -> u64 {
        context.0
    }
}

impl TryFrom<u64> for Context {
    type Error = &'static str;

    fn try_from(word: u64) -> Result<Self, &'static str> {
        match word & KIND_BITS < Kind::ALL.len() as u64 {
            true => Ok(Context(word)),
            false => Err("there is no such kind of traffic between ranks"),
        }
    }
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

impl Envelope {
    /// What the user may know of the message besides its value.
    pub(super) fn status(&self, length: Option<usize>) -> Status {
        Status {
            source: self.source as usize,
            tag: self.tag as u32,
            length,
        }
    }
}

/// What a receive takes from one context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub context: Context,
    /// A rank of the communicator; none is any.
    pub source: Option<u32>,
    pub tag: Wanted,
}

/// Which tag a receive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Each.
    Any,
    /// This one.
    One(u64),
    /// Whatever comes next, for the collective operation whose tags begin there: it is to be a message of that.
    Next(u64),
}

impl Wanted {
    #[inline]
    pub(super) fn takes(self, tag: u64) -> bool {
        match self {
            Wanted::One(wanted) => wanted == tag,
            Wanted::Any | Wanted::Next(_) => true,
        }
    }

    /// The tag by which it is known what may be known against the receive.
    pub(super) fn first(self) -> u64 {
        match self {
            Wanted::Any => 0,
            Wanted::One(tag) | Wanted::Next(tag) => tag,
        }
    }
}

impl Pattern {
    pub(super) fn takes(&self, envelope: &Envelope) -> bool {
        self.context == envelope.context
            && self.source.is_none_or(|wanted| wanted == envelope.source)
            && self.tag.takes(envelope.tag)
    }
}
