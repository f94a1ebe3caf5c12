//! For each rank, the values of the ranks up to it combined.

use super::Round;
use super::cargo::Cargo;
use crate::ranks::error::CommError;

/// Recursive doubling (Hillis and Steele 1986): before step k a rank has combined the values of the 2^k ranks up to itself.
pub(super) fn inclusive<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> C,
) -> Result<C, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let mut sum = own;
    let mut distance = 1;
    while distance < n {
        if rank + distance < n {
            round.send(rank + distance, sum.clone())?;
        }
        if rank >= distance {
            sum = combine(round.receive(rank - distance)?, sum);
        }
        distance *= 2;
    }
    Ok(sum)
}

/// The same without the rank's own value; nothing at rank 0.
pub(super) fn exclusive<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> C,
) -> Result<Option<C>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let mut sum = own;
    let mut before: Option<C> = None;
    let mut distance = 1;
    while distance < n {
        if rank + distance < n {
            round.send(rank + distance, sum.clone())?;
        }
        if rank >= distance {
            let lower: C = round.receive(rank - distance)?;
            sum = combine(lower.clone(), sum);
            before = Some(match before {
                Some(before) => combine(lower, before),
                None => lower,
            });
        }
        distance *= 2;
    }
    Ok(before)
}
