//! All ranks' values combined, for one rank.

use super::Round;
use super::all_reduce::{Fold, halve};
use super::cargo::{Cargo, Vector};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Binomial tree to rank 0, which keeps the order of ranks, and from there to the root.
pub(super) fn binomial<C: Cargo>(
    round: &Round<'_>,
    root: usize,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<Option<C>, CommError> {
    round.check_root(root)?;
    let (n, rank) = (round.size(), round.rank());
    let mut sum = own;
    let mut distance = 1;
    while distance < n {
        if rank & distance != 0 {
            round.send(rank - distance, sum)?;
            return if rank == root {
                round.receive(0).map(Some)
            } else {
                Ok(None)
            };
        }
        if rank + distance < n {
            sum = combine(sum, round.receive(rank + distance)?)?;
        }
        distance *= 2;
    }
    if root == 0 {
        return Ok(Some(sum));
    }
    round.send(root, sum)?;
    Ok(None)
}

/// Rabenseifner's: each rank combines a part, and the parts are gathered. Says whether `buffer` has the result, which is so
/// at the root only.
pub(super) fn rabenseifner<E: Plain>(
    round: &Round<'_>,
    root: usize,
    buffer: &mut [E],
    combine: impl Fn(E, E) -> E,
) -> Result<bool, CommError> {
    round.check_root(root)?;
    let fold = Fold::new(round.size());
    let root_core = fold.core_of(root);
    let Some(core) = fold.enter(round, buffer, &combine)? else {
        if round.rank() != root {
            return Ok(false);
        }
        let Vector(numbers) = round.receive(fold.rank(root_core))?;
        super::check_length(buffer.len(), numbers.len())?;
        buffer.copy_from_slice(&numbers);
        return Ok(true);
    };
    let mut ranges = halve(round, fold, core, buffer, &combine)?;
    let mut range = ranges.pop().expect("halving leaves at least one range");
    let mut distance = fold.cores() / 2;
    while distance > 0 {
        let partner = fold.rank(core ^ distance);
        if (core ^ root_core) & distance != 0 {
            round.send(partner, Vector(buffer[range].to_vec()))?;
            return Ok(false);
        }
        let whole = ranges.pop().expect("there is a range for each step");
        super::all_reduce::take_sibling(round, partner, buffer, &whole, &range)?;
        range = whole;
        distance /= 2;
    }
    let holder = fold.rank(root_core);
    if holder != root {
        round.send(root, Vector(buffer.to_vec()))?;
    }
    Ok(holder == root)
}
