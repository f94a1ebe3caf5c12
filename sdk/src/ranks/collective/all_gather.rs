//! All ranks' items, for all.

use std::ops::Range;

use super::cargo::{List, Vector};
use super::vectors::fill;
use super::{Round, check_length};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Bruck's (Bruck et al. 1997): in each step a rank doubles what it has, by what the rank ahead has. `count` says how many items a
/// rank has.
pub(super) fn bruck<L: List<Item: Clone>>(
    round: &Round<'_>,
    own: Vec<L::Item>,
    count: impl Fn(usize) -> usize,
) -> Result<Vec<L::Item>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let of_row = |first: usize, n_ranks: usize| -> usize {
        let row = first..first + n_ranks;
        row.map(|rank| count(rank % n)).sum()
    };
    let mut items = own;
    let mut distance = 1;
    while distance < n {
        let n_ranks = distance.min(n - distance);
        let given = items[..of_row(rank, n_ranks)].to_vec();
        round.send(round.behind(distance), L::wrap(given))?;
        let theirs = round.receive::<L>(round.ahead(distance))?.items();
        check_length(of_row(round.ahead(distance), n_ranks), theirs.len())?;
        items.extend(theirs);
        distance *= 2;
    }
    // they begin with this rank's
    items.rotate_right(of_row(0, rank));
    Ok(items)
}

/// Ring (Thakur, Rabenseifner and Gropp 2005): each rank hands on what it got from the one ahead; nothing is copied on the way.
/// `part` says where in `buffer` that of a rank of the ring is, of which this one is the `index`-th. It begins like [`bruck`], so that
/// ranks whose lengths differ by so much that they take different algorithms notice it.
pub(super) fn ring<E: Plain>(
    round: &Round<'_>,
    index: usize,
    buffer: &mut [E],
    part: impl Fn(usize) -> Range<usize>,
) -> Result<(), CommError> {
    let n = round.size();
    let mut passing = buffer[part(index)].to_vec();
    for step in 1..n {
        round.send(round.behind(1), Vector(passing))?;
        Vector(passing) = round.receive(round.ahead(1))?;
        fill(&mut buffer[part((index + step) % n)], &passing)?;
    }
    Ok(())
}
