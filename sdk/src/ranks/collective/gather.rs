//! All ranks' items, for one rank.

use super::cargo::List;
use super::{Round, check_length};
use crate::ranks::error::CommError;

/// Everybody sends the root its items, of which all have the same number.
pub(super) fn direct<L: List>(
    round: &Round<'_>,
    root: usize,
    mut own: Vec<L::Item>,
) -> Result<Option<Vec<L::Item>>, CommError> {
    round.check_root(root)?;
    if round.rank() != root {
        round.send(root, L::wrap(own))?;
        return Ok(None);
    }
    let (n, block) = (round.size(), own.len());
    let mut items = Vec::with_capacity(n * block);
    for from in 0..n {
        if from == root {
            items.append(&mut own);
        } else {
            let theirs = round.receive::<L>(from)?.items();
            check_length(block, theirs.len())?;
            items.extend(theirs);
        }
    }
    Ok(Some(items))
}
