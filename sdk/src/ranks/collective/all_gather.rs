//! All ranks' items, for all.

use super::cargo::{List, Vector};
use super::vectors::{fill, part};
use super::{Round, check_length};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Bruck's: in each step a rank doubles what it has, by what the rank ahead has. `own` has the same number of items at all
/// ranks.
pub(super) fn bruck<L: List<Item: Clone>>(
    round: &Round<'_>,
    own: Vec<L::Item>,
) -> Result<Vec<L::Item>, CommError> {
    let n = round.size();
    let block = own.len();
    let mut items = own;
    let mut distance = 1;
    while distance < n {
        let n_blocks = distance.min(n - distance);
        let given = items[..n_blocks * block].to_vec();
        round.send(round.behind(distance), L::wrap(given))?;
        let theirs = round.receive::<L>(round.ahead(distance))?.items();
        check_length(n_blocks * block, theirs.len())?;
        items.extend(theirs);
        distance *= 2;
    }
    // they begin with this rank's
    items.rotate_right(round.rank() * block);
    Ok(items)
}

/// Ring: each rank hands on what it got from the one behind; nothing is copied on the way. Rank `index` of the ring has the
/// `index`-th part of `buffer`.
pub(super) fn ring<E: Plain>(round: &Round<'_>, index: usize, buffer: &mut [E]) -> Result<(), CommError> {
    let (n, length) = (round.size(), buffer.len());
    let mut passing = buffer[part(length, n, index)].to_vec();
    for step in 1..n {
        round.send(round.ahead(1), Vector(passing))?;
        Vector(passing) = round.receive(round.behind(1))?;
        fill(&mut buffer[part(length, n, (index + n - step) % n)], &passing)?;
    }
    Ok(())
}
