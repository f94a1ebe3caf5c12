//! What ranks have to call alike, and how a rank sees from a message that they have not.
//!
//! A message carries the [`Signature`] of the call that it belongs to as its tag: the operation's number on the communicator, which
//! operation it is, its root, and the algorithm that its length led to. Messages of one rank come in the order of its calls. So the
//! next one from the rank that is waited for belongs to the same call, or that rank does something else.

use super::choice::Algorithm;
use crate::ranks::envelope::Wanted;
use crate::ranks::error::CommError;

/// Bits of a signature besides the operation's number.
const CALL_BITS: u32 = 16;
const ALGORITHM_SHIFT: u32 = 12;
const OPERATION_SHIFT: u32 = 8;

/// A collective operation, in whichever form: ranks that call it together give the same root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Barrier,
    Broadcast { root: usize },
    Reduce { root: usize },
    AllReduce,
    Gather { root: usize },
    AllGather,
    Scatter { root: usize },
    AllToAll,
    ReduceScatter,
    Scan,
    ExclusiveScan,
}

/// The operations' names, by their number in a signature.
const NAMES: [&str; 11] = [
    "barrier",
    "broadcast",
    "reduce",
    "all_reduce",
    "gather",
    "all_gather",
    "scatter",
    "all_to_all",
    "reduce_scatter",
    "scan",
    "exscan",
];

impl Call {
    /// Which operation it is, and its root if it has one.
    fn parts(self) -> (u64, usize) {
        match self {
            Call::Barrier => (0, 0),
            Call::Broadcast { root } => (1, root),
            Call::Reduce { root } => (2, root),
            Call::AllReduce => (3, 0),
            Call::Gather { root } => (4, root),
            Call::AllGather => (5, 0),
            Call::Scatter { root } => (6, root),
            Call::AllToAll => (7, 0),
            Call::ReduceScatter => (8, 0),
            Call::Scan => (9, 0),
            Call::ExclusiveScan => (10, 0),
        }
    }
}

/// What stands on the messages of one call, as their tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature(u64);

impl Signature {
    /// Of the operation with that number.
    pub(super) fn new(number: u64, call: Call) -> Self {
        let (operation, root) = call.parts();
        Signature(number << CALL_BITS | operation << OPERATION_SHIFT | (root as u64 & 0xff))
    }

    /// That on a message with that tag.
    pub(super) fn of(tag: u64) -> Self {
        Signature(tag)
    }

    /// The same once it has chosen an algorithm.
    pub(super) fn with(self, algorithm: Algorithm) -> Self {
        Signature(self.0 & !(0xf << ALGORITHM_SHIFT) | (algorithm as u64 + 1) << ALGORITHM_SHIFT)
    }

    pub(super) fn tag(self) -> u64 {
        self.0
    }

    /// The least tag of this operation, whatever is called.
    pub(super) fn first_tag(self) -> u64 {
        self.number() << CALL_BITS
    }

    /// What a receive is to take: the next message, which is to be of this call.
    pub(super) fn wanted(self) -> Wanted {
        Wanted::Next(self.first_tag())
    }

    fn number(self) -> u64 {
        self.0 >> CALL_BITS
    }

    fn operation(self) -> usize {
        (self.0 >> OPERATION_SHIFT & 0xf) as usize
    }

    fn name(self) -> &'static str {
        NAMES
            .get(self.operation())
            .copied()
            .unwrap_or("another operation")
    }

    /// # Errors
    /// [`CommError::CallsDiffer`] if a message with that tag, from that rank, belongs to another call.
    #[inline]
    pub(super) fn check(self, tag: u64, rank: usize) -> Result<(), CommError> {
        match self.0 == tag {
            true => Ok(()),
            false => Err(self.difference(Signature::of(tag), rank)),
        }
    }

    #[cold]
    fn difference(self, theirs: Signature, rank: usize) -> CommError {
        let own = self.name();
        let there = match theirs {
            _ if theirs.number() != self.number() => {
                format!(
                    "{} as collective operation number {}",
                    theirs.name(),
                    theirs.number()
                )
            }
            _ if theirs.operation() != self.operation() => theirs.name().to_owned(),
            _ if theirs.0 & 0xff != self.0 & 0xff => format!("{own} with another root"),
            _ => format!("{own} with another length"),
        };
        let here = match theirs.number() == self.number() {
            true => own.to_owned(),
            false => format!("{own} as number {}", self.number()),
        };
        CommError::CallsDiffer { rank, there, here }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(own: Signature, theirs: Signature) -> String {
        own.check(theirs.tag(), 7).unwrap_err().to_string()
    }

    #[test]
    fn a_signature_tells_operation_root_and_algorithm_apart() {
        let own = Signature::new(5, Call::Reduce { root: 1 }).with(Algorithm::Tree);
        own.check(own.tag(), 7).unwrap();
        let other = |call, algorithm| Signature::new(5, call).with(algorithm);
        let rooted = other(Call::Reduce { root: 2 }, Algorithm::Tree);
        assert!(told(own, rooted).starts_with("rank 7 called reduce with another root, this rank reduce:"));
        let long = other(Call::Reduce { root: 1 }, Algorithm::Halving);
        assert!(told(own, long).starts_with("rank 7 called reduce with another length, this rank reduce:"));
        let scan = other(Call::ExclusiveScan, Algorithm::Tree);
        assert!(told(own, scan).starts_with("rank 7 called exscan, this rank reduce:"));
        let later = Signature::new(6, Call::Barrier);
        assert!(told(own, later).starts_with(
            "rank 7 called barrier as collective operation number 6, this rank reduce as number 5:"
        ));
    }

    #[test]
    fn tags_of_an_operation_lie_between_those_of_its_neighbours() {
        let calls = [Call::Barrier, Call::ExclusiveScan, Call::Gather { root: 1000 }];
        let tags = |number| {
            calls.into_iter().flat_map(move |call| {
                Algorithm::ALL.map(|algorithm| Signature::new(number, call).with(algorithm))
            })
        };
        let first = Signature::new(4, Call::Scan).first_tag();
        assert!(tags(3).all(|signature| signature.tag() < first));
        assert!(tags(4).all(|signature| signature.first_tag() == first && signature.tag() >= first));
        assert!(tags(5).all(|signature| signature.first_tag() > first + 0xffff));
    }
}
