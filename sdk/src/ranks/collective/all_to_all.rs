//! Each rank's items, some for each rank.

use super::cargo::List;
use super::choice::{Algorithm, Way};
use super::{Round, check_length, cutoffs};
use crate::ranks::error::CommError;

/// The way that suits blocks of so many bytes, or values. `items` holds as many for each rank.
pub(super) fn chosen<L: List>(
    round: &Round<'_>,
    items: Vec<L::Item>,
    bytes: Option<usize>,
) -> Result<Vec<L::Item>, CommError> {
    match round.choose(|shape| cutoffs::all_to_all(shape, bytes)) {
        Way::Levels(levels) => levels.all_to_all::<L>(round, items),
        Way::Flat(Algorithm::Doubling) => bruck::<L>(round, items),
        Way::Flat(_) => pairwise::<L>(round, items),
    }
}

/// Everybody sends each rank its items. `items` holds as many for each rank.
pub(super) fn pairwise<L: List>(
    round: &Round<'_>,
    mut items: Vec<L::Item>,
) -> Result<Vec<L::Item>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let block = items.len() / n;
    check_length(n * block, items.len())?;
    let mut own = Vec::new();
    for to in (0..n).rev() {
        let theirs = items.split_off(to * block);
        if to == rank {
            own = theirs;
        } else {
            round.send(to, L::wrap(theirs))?;
        }
    }
    for from in 0..n {
        if from == rank {
            items.append(&mut own);
        } else {
            let theirs = round.receive::<L>(from)?.items();
            check_length(block, theirs.len())?;
            items.extend(theirs);
        }
    }
    Ok(items)
}

/// Bruck's (Bruck et al. 1997): log2(n) messages, each of half of the items. Block i is on its way to the rank i ahead; in step k
/// those move on by 2^k whose distance has that bit.
pub(super) fn bruck<L: List>(round: &Round<'_>, mut items: Vec<L::Item>) -> Result<Vec<L::Item>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let block = items.len() / n;
    check_length(n * block, items.len())?;
    items.rotate_left(rank * block);
    let mut distance = 1;
    while distance < n {
        let moves = |index: &usize| index & distance != 0;
        let (mut leaving, mut staying) = (Vec::new(), Vec::new());
        let mut rest = items.into_iter();
        for index in 0..n {
            let blocks = if moves(&index) { &mut leaving } else { &mut staying };
            blocks.extend(rest.by_ref().take(block));
        }
        let n_leaving = leaving.len();
        round.send(round.ahead(distance), L::wrap(leaving))?;
        let came = round.receive::<L>(round.behind(distance))?.items();
        check_length(n_leaving, came.len())?;
        let (mut came, mut staying) = (came.into_iter(), staying.into_iter());
        items = Vec::with_capacity(n * block);
        for index in 0..n {
            let blocks = if moves(&index) { &mut came } else { &mut staying };
            items.extend(blocks.take(block));
        }
        distance *= 2;
    }
    // block i came from the rank i behind: turn the order of blocks around, then to rank 0
    let mut turned = Vec::with_capacity(n * block);
    while !items.is_empty() && block > 0 {
        turned.extend(items.split_off(items.len() - block));
    }
    turned.rotate_right(((rank + 1) % n) * block);
    Ok(turned)
}
