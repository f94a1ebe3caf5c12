//! All ranks' values combined, for one rank. Large vectors take the way of `all_reduce`.

use super::Round;
use super::cargo::Cargo;
use crate::ranks::error::CommError;

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
