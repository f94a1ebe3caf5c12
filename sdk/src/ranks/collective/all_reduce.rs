//! All ranks' values combined, for all.
//!
//! The algorithms want a power of two of ranks, the *cores*: the first ranks pair up, and the lower of a pair gives its value
//! to the higher and waits for the result. Partners are near first, so each has combined a row of neighbours at any time, and
//! the order of ranks is kept.

use std::ops::Range;

use super::all_gather::ring;
use super::cargo::{Cargo, Vector};
use super::vectors::{Side, combine_into, fill, on_vectors, part};
use super::{Round, reduce_scatter};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Which ranks pair up so that a power of two remains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fold {
    pub cores: usize,
    /// The first `2 * pairs` ranks are pairs.
    pairs: usize,
}

impl Fold {
    pub(super) fn new(n: usize) -> Self {
        let cores = (n / 2 + 1).next_power_of_two();
        Fold {
            cores,
            pairs: n - cores,
        }
    }

    /// The rank that stands for that core.
    pub(super) fn rank(self, core: usize) -> usize {
        if core < self.pairs {
            2 * core + 1
        } else {
            core + self.pairs
        }
    }

    /// The core that has that rank's value.
    pub(super) fn core_of(self, rank: usize) -> usize {
        if rank < 2 * self.pairs {
            rank / 2
        } else {
            rank - self.pairs
        }
    }

    /// For how many ranks that core stands.
    pub(super) fn ranks_of(self, core: usize) -> usize {
        if core < self.pairs { 2 } else { 1 }
    }

    /// Whether the rank gives its value to the next one.
    pub(super) fn gives(self, rank: usize) -> bool {
        rank < 2 * self.pairs && rank.is_multiple_of(2)
    }

    /// Whether the rank takes the value of the one before.
    pub(super) fn takes(self, rank: usize) -> bool {
        rank < 2 * self.pairs && !rank.is_multiple_of(2)
    }

    /// Gives this rank's numbers away, or takes the other's. Says which core this rank is, if it is one.
    fn enter<E: Plain>(
        self,
        round: &Round<'_>,
        buffer: &mut [E],
        combine: impl Fn(E, E) -> E,
    ) -> Result<Option<usize>, CommError> {
        let rank = round.rank();
        if self.gives(rank) {
            round.send(rank + 1, Vector(buffer.to_vec()))?;
            return Ok(None);
        }
        if self.takes(rank) {
            let Vector(lower) = round.receive(rank - 1)?;
            combine_into(&lower, buffer, combine, Side::Left)?;
        }
        Ok(Some(self.core_of(rank)))
    }
}

/// Recursive doubling: in each step partners exchange what they have and combine it.
pub(super) fn doubling<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<C, CommError> {
    let rank = round.rank();
    let fold = Fold::new(round.size());
    if fold.gives(rank) {
        round.send(rank + 1, own)?;
        return round.receive(rank + 1);
    }
    let mut sum = own;
    if fold.takes(rank) {
        sum = combine(round.receive(rank - 1)?, sum)?;
    }
    let core = fold.core_of(rank);
    let mut distance = 1;
    while distance < fold.cores {
        let partner = fold.rank(core ^ distance);
        round.send(partner, sum.clone())?;
        let theirs = round.receive(partner)?;
        sum = if core & distance == 0 {
            combine(sum, theirs)?
        } else {
            combine(theirs, sum)?
        };
        distance *= 2;
    }
    if fold.takes(rank) {
        round.send(rank - 1, sum.clone())?;
    }
    Ok(sum)
}

/// Rabenseifner's: recursive halving leaves each core with a part of the result, and the parts are joined the same way back, at all
/// ranks or at the `root` only. The buffers of others hold anything then.
pub(super) fn rabenseifner<E: Plain>(
    round: &Round<'_>,
    root: Option<usize>,
    buffer: &mut [E],
    combine: impl Fn(E, E) -> E,
) -> Result<(), CommError> {
    root.map_or(Ok(()), |root| round.check_root(root))?;
    let rank = round.rank();
    let wants = |rank: usize| root.is_none_or(|root| root == rank);
    let fold = Fold::new(round.size());
    let Some(core) = fold.enter(round, buffer, &combine)? else {
        if wants(rank) {
            let Vector(numbers) = round.receive(rank + 1)?;
            fill(buffer, &numbers)?;
        }
        return Ok(());
    };
    let mut ranges = halve(round, fold, core, buffer, &combine)?;
    let mut range = ranges.pop().expect("halving leaves at least one range");
    let mut distance = fold.cores / 2;
    while let Some(whole) = ranges.pop() {
        let partner = fold.rank(core ^ distance);
        // whether the root is on the partner's side
        let leaves = root.map(|root| (core ^ fold.core_of(root)) & distance != 0);
        if leaves != Some(false) {
            round.send(partner, Vector(buffer[range.clone()].to_vec()))?;
        }
        if leaves == Some(true) {
            return Ok(());
        }
        take_sibling(round, partner, buffer, &whole, &range)?;
        range = whole;
        distance /= 2;
    }
    if fold.takes(rank) && wants(rank - 1) {
        round.send(rank - 1, Vector(buffer.to_vec()))?;
    }
    Ok(())
}

/// Recursive halving: in each step a core keeps half of its range and combines it with its partner's. Returns the ranges from
/// the whole to the one that is this core's own in the end.
fn halve<E: Plain>(
    round: &Round<'_>,
    fold: Fold,
    core: usize,
    buffer: &mut [E],
    combine: impl Fn(E, E) -> E,
) -> Result<Vec<Range<usize>>, CommError> {
    let mut range = 0..buffer.len();
    let mut ranges = vec![range.clone()];
    let mut distance = 1;
    while distance < fold.cores {
        let partner = fold.rank(core ^ distance);
        let middle = range.start + range.len() / 2;
        let (lower, upper) = (range.start..middle, middle..range.end);
        let (kept, given, side) = if core & distance == 0 {
            (lower, upper, Side::Right)
        } else {
            (upper, lower, Side::Left)
        };
        round.send(partner, Vector(buffer[given].to_vec()))?;
        let Vector(theirs) = round.receive(partner)?;
        combine_into(&theirs, &mut buffer[kept.clone()], &combine, side)?;
        range = kept;
        ranges.push(range.clone());
        distance *= 2;
    }
    Ok(ranges)
}

/// Receives the other half of `whole`, of which this core has `own`.
fn take_sibling<E: Plain>(
    round: &Round<'_>,
    partner: usize,
    buffer: &mut [E],
    whole: &Range<usize>,
    own: &Range<usize>,
) -> Result<(), CommError> {
    let sibling = if own.start == whole.start {
        own.end..whole.end
    } else {
        whole.start..own.start
    };
    let Vector(numbers) = round.receive(partner)?;
    fill(&mut buffer[sibling], &numbers)
}

/// Each rank combines its part of all ranks' numbers, then the parts go round the ring. Moves as little as
/// [`rabenseifner`] for any number of ranks, in more messages.
pub(super) fn parts_ring<E: Plain>(
    round: &Round<'_>,
    buffer: &mut [E],
    combine: impl Fn(E, E) -> E,
) -> Result<(), CommError> {
    let (n, rank, length) = (round.size(), round.rank(), buffer.len());
    let parts = (0..n).map(|index| Vector(buffer[part(length, n, index)].to_vec()));
    let Vector(own) = reduce_scatter::pairwise(round, parts.collect(), on_vectors(combine))?;
    fill(&mut buffer[part(length, n, rank)], &own)?;
    ring(round, rank, buffer, |index| part(length, n, index))
}
