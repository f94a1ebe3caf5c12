//! One rank's items, some for each rank.

use super::Round;
use super::cargo::List;
use crate::ranks::error::CommError;

/// The root gives the same number of items for each rank.
pub(super) fn binomial<L: List>(
    round: &Round<'_>,
    root: usize,
    items: Option<Vec<L::Item>>,
) -> Result<Vec<L::Item>, CommError> {
    round.check_root(root)?;
    let n = round.size();
    let items = match items {
        Some(mut items) if round.rank() == root => {
            check_multiple(n, items.len())?;
            let block = items.len() / n;
            items.rotate_left(root * block);
            Some(items)
        }
        _ => None,
    };
    down_the_tree::<L>(round, root, items, |n_served, count| {
        check_multiple(n_served, count)?;
        Ok(count / n_served)
    })
}

/// Binomial tree: each rank gets what its subtree needs, which is a row of neighbours, and hands on the others' parts. The root's
/// items are in the order of ranks from itself on; `block` says how many a rank gets where so many ranks are served by so many.
/// The last ranks get what is left.
pub(super) fn down_the_tree<L: List>(
    round: &Round<'_>,
    root: usize,
    items: Option<Vec<L::Item>>,
    block: impl Fn(usize, usize) -> Result<usize, CommError>,
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
    let block = block(subtree.min(n - relative), items.len())?;
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

/// Checks that each of `n` ranks gets the same number of items.
fn check_multiple(n: usize, length: usize) -> Result<(), CommError> {
    if length.is_multiple_of(n) {
        Ok(())
    } else {
        Err(CommError::WrongLength {
            expected: length.next_multiple_of(n),
            found: length,
        })
    }
}
