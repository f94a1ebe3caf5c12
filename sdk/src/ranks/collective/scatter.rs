//! One rank's items, some for each rank.

use super::Round;
use super::cargo::List;
use crate::ranks::error::CommError;

/// The root sends everybody its items. It gives the same number for each.
pub(super) fn direct<L: List>(
    round: &Round<'_>,
    root: usize,
    items: Option<Vec<L::Item>>,
) -> Result<Vec<L::Item>, CommError> {
    round.check_root(root)?;
    if round.rank() != root {
        return Ok(round.receive::<L>(root)?.items());
    }
    let n = round.size();
    let mut items = items.ok_or(CommError::RootGaveNothing { root })?;
    let block = part_of(items.len(), n)?;
    let mut own = Vec::new();
    for to in (0..n).rev() {
        let theirs = items.split_off(to * block);
        if to == root {
            own = theirs;
        } else {
            round.send(to, L::wrap(theirs))?;
        }
    }
    Ok(own)
}

/// Binomial tree: each rank gets what its subtree needs, which is a row of neighbours, and hands on the others' parts. The root's
/// items are in the order of ranks from itself on, `block` for each; the last ranks get what is left.
pub(super) fn down_the_tree<L: List>(
    round: &Round<'_>,
    root: usize,
    items: Option<Vec<L::Item>>,
    block: usize,
) -> Result<Vec<L::Item>, CommError> {
    let n = round.size();
    let relative = round.behind(root);
    let (mut items, subtree) = if relative == 0 {
        let items = items.ok_or(CommError::RootGaveNothing { root })?;
        (items, n.next_power_of_two())
    } else {
        let lowest = 1 << relative.trailing_zeros();
        (round.receive::<L>(round.behind(lowest))?.items(), lowest)
    };
    let mut distance = subtree / 2;
    while distance > 0 {
        if relative + distance < n {
            let theirs = items.split_off((distance * block).min(items.len()));
            round.send(round.ahead(distance), L::wrap(theirs))?;
        }
        distance /= 2;
    }
    Ok(items)
}

/// How many items each of `n` gets of so many, which is the same number for all.
pub(super) fn part_of(length: usize, n: usize) -> Result<usize, CommError> {
    if length.is_multiple_of(n) {
        Ok(length / n)
    } else {
        Err(CommError::WrongLength {
            expected: length.next_multiple_of(n),
            found: length,
        })
    }
}
