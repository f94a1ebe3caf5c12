//! All ranks' items, for one rank.

use super::cargo::List;
use super::{Round, check_length};
use crate::ranks::error::CommError;

/// Binomial tree: each rank joins what its subtree has, which is a row of neighbours, and hands it on. `own` has the same
/// number of items at all ranks.
pub(super) fn binomial<L: List>(
    round: &Round<'_>,
    root: usize,
    own: Vec<L::Item>,
) -> Result<Option<Vec<L::Item>>, CommError> {
    round.check_root(root)?;
    let n = round.size();
    let relative = round.behind(root);
    let block = own.len();
    let mut items = own;
    let mut distance = 1;
    while distance < n {
        if relative & distance != 0 {
            round.send(round.behind(distance), L::wrap(items))?;
            return Ok(None);
        }
        let child = relative + distance;
        if child < n {
            let theirs = round.receive::<L>(round.ahead(distance))?.items();
            check_length(distance.min(n - child) * block, theirs.len())?;
            items.extend(theirs);
        }
        distance *= 2;
    }
    // they begin with the root's
    items.rotate_right(root * block);
    Ok(Some(items))
}
