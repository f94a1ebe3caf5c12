//! Collective operations: all ranks of a communicator call them, in the same order. Made of messages alone, so that they
//! work wherever the ranks live.
//!
//! Each operation is a [`Round`]: its messages carry the operation's number and what was called, so that no operation takes those of
//! another, and a rank that waits for one that calls something else is told so (`call`). If one rank's part fails, the round *breaks*:
//! every rank is told, and this and all later collective operations of the communicator fail there as well, instead of waiting for
//! messages that will not come.
//!
//! Where ranks live on several nodes, most operations have two *levels*: among the ranks of each node, whose messages are
//! moved, and among one rank of each node (`levels`). Which [`Algorithm`] an operation takes depends on that, on the number of
//! ranks and on the size of what it moves (`choice`, and `cutoffs`, which were measured).
//!
//! Operators are associative and need not commute: wherever values are combined, those of lower ranks stand to the left.
//! Results are therefore the same in every run, also of floating-point sums, though not for every number of ranks.

mod all_gather;
mod all_reduce;
mod all_to_all;
mod broadcast;
mod call;
mod cargo;
mod choice;
mod cutoffs;
mod gather;
mod levels;
mod reduce;
mod reduce_scatter;
mod scan;
mod scatter;
mod slices;
mod values;
mod vectors;

use std::cell::Cell;

use self::call::{Call, Signature};
use self::cargo::{Cargo, Vector};
pub use self::choice::Algorithm;
pub(super) use self::choice::Conduct;
use self::choice::Way;
use super::communicator::Communicator;
use super::envelope::Kind;
use super::error::CommError;
use super::matching::Trouble;

/// A rank's part in one collective operation.
pub(super) struct Round<'a> {
    comm: &'a Communicator,
    /// What stands on its messages.
    signature: Cell<Signature>,
    /// The ranks that take part, if not all do; the round's ranks are their numbers in this list.
    members: Option<&'a [usize]>,
    /// This rank's number.
    rank: usize,
    /// Cleared when the part is done; else the round breaks, also if an operator panics.
    unfinished: Cell<Option<Trouble>>,
}

impl Round<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.members.map_or(self.comm.size(), <[usize]>::len)
    }

    /// The same operation among `members` only; nothing if this rank is not one of them. What fails in it breaks the whole.
    fn among<'b>(&'b self, members: &'b [usize]) -> Option<Round<'b>> {
        let rank = members.iter().position(|&member| member == self.comm.rank())?;
        Some(Round {
            comm: self.comm,
            signature: self.signature.clone(),
            members: Some(members),
            rank,
            unfinished: Cell::new(None),
        })
    }

    /// The communicator's rank that is this round's `rank`.
    fn member(&self, rank: usize) -> usize {
        self.members.map_or(rank, |members| members[rank])
    }

    /// The rank that is `distance` behind this one, around the end.
    fn behind(&self, distance: usize) -> usize {
        (self.rank() + self.size() - distance % self.size()) % self.size()
    }

    /// The rank that is `distance` ahead of this one, around the end.
    fn ahead(&self, distance: usize) -> usize {
        (self.rank() + distance) % self.size()
    }

    fn send(&self, to: usize, cargo: impl Cargo) -> Result<(), CommError> {
        let place = self.comm.place(self.member(to))?;
        let payload = cargo.pack(self.comm, place)?;
        self.comm
            .dispatch(Kind::Collective, place, self.signature.get().tag(), payload)
    }

    fn receive<C: Cargo>(&self, from: usize) -> Result<C, CommError> {
        let (rank, signature) = (self.member(from), self.signature.get());
        let message = self
            .comm
            .receive_message(Kind::Collective, Some(rank), signature.wanted())?;
        signature.check(message.envelope.tag, rank).inspect_err(|_| {
            // whoever waits in the operation of that rank waits for what this one will not do
            let place = self.comm.own_place();
            let theirs = Signature::of(message.envelope.tag);
            self.comm
                .break_from(theirs.first_tag(), Trouble::Failed { place });
        })?;
        C::unpack(message.payload)
    }

    /// A rank that all have named as the root.
    fn check_root(&self, root: usize) -> Result<(), CommError> {
        match root < self.size() {
            true => Ok(()),
            false => self.comm.place(root).map(|_| ()),
        }
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if let Some(trouble) = self.unfinished.take() {
            self.comm.break_from(self.signature.get().first_tag(), trouble);
        }
    }
}

/// Checks a length that ranks have to agree on.
fn check_length(expected: usize, found: usize) -> Result<(), CommError> {
    if expected == found {
        Ok(())
    } else {
        Err(CommError::WrongLength { expected, found })
    }
}

impl Communicator {
    /// Does this rank's part of the next collective operation.
    fn collective<R>(
        &self,
        call: Call,
        part: impl FnOnce(&Round<'_>) -> Result<R, CommError>,
    ) -> Result<R, CommError> {
        let own = Trouble::Failed {
            place: self.own_place(),
        };
        let round = Round {
            comm: self,
            signature: Cell::new(Signature::new(self.next_collective(), call)),
            members: None,
            rank: self.rank(),
            unfinished: Cell::new(Some(own)),
        };
        let outcome = part(&round);
        round.unfinished.set(match &outcome {
            Ok(_) | Err(CommError::Revoked) => None,
            Err(CommError::RankEnded { rank, ending }) => {
                let ending = *ending;
                self.place(*rank)
                    .ok()
                    .map(|place| Trouble::Ended { place, ending })
            }
            Err(CommError::CollectiveFailed { rank }) => {
                self.place(*rank).ok().map(|place| Trouble::Failed { place })
            }
            Err(
                CommError::NoSuchRank { .. }
                | CommError::Truncated { .. }
                | CommError::WrongType { .. }
                | CommError::MailboxFull { .. }
                | CommError::RootGaveNothing { .. }
                | CommError::WrongLength { .. }
                | CommError::CallsDiffer { .. }
                | CommError::NobodyFailed
                | CommError::NotReplaced
                | CommError::Over
                | CommError::Encode(_)
                | CommError::Decode(_),
            ) => Some(own),
        });
        outcome
    }

    /// Waits until all ranks have called it.
    ///
    /// Dissemination (Hensgen, Finkel and Manber 1988): in step k a rank tells the one 2^k ahead. On several nodes with several
    /// ranks each, between one rank of each.
    ///
    /// # Errors
    /// If a rank that is needed has ended, the communicator was revoked, or an earlier collective operation broke; and
    /// [`CommError::CallsDiffer`] if a rank calls something else.
    pub fn barrier(&self) -> Result<(), CommError> {
        self.collective(Call::Barrier, |round| match round.choose(cutoffs::barrier) {
            Way::Levels(levels) => levels.barrier(round),
            Way::Flat(_) => disseminate(round),
        })
    }
}

fn disseminate(round: &Round<'_>) -> Result<(), CommError> {
    let mut distance = 1;
    while distance < round.size() {
        round.send(round.ahead(distance), Vector::<u8>(Vec::new()))?;
        round.receive::<Vector<u8>>(round.behind(distance))?;
        distance *= 2;
    }
    Ok(())
}
