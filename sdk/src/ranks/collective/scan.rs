//! For each rank, the values of the ranks up to it combined.

use super::Round;
use super::cargo::Cargo;
use crate::ranks::error::CommError;

/// Recursive doubling (Hillis and Steele 1986): before step k a rank has combined the values of the 2^k ranks up to itself.
/// `heed` gets what comes from lower ranks: in each step of those before all that came so far.
fn doubling<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
    mut heed: impl FnMut(&C) -> Result<(), CommError>,
) -> Result<C, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let mut sum = own;
    let mut distance = 1;
    while distance < n {
        if rank + distance < n {
            round.send(rank + distance, sum.clone())?;
        }
        if rank >= distance {
            let lower = round.receive(rank - distance)?;
            heed(&lower)?;
            sum = combine(lower, sum)?;
        }
        distance *= 2;
    }
    Ok(sum)
}

/// With the rank's own value.
pub(super) fn inclusive<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<C, CommError> {
    doubling(round, own, combine, |_| Ok(()))
}

/// Without the rank's own value; nothing at rank 0.
pub(super) fn exclusive<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<Option<C>, CommError> {
    both(round, own, combine).map(|(before, _)| before)
}

/// Without the rank's own value, and with it.
pub(super) fn both<C: Cargo + Clone>(
    round: &Round<'_>,
    own: C,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<(Option<C>, C), CommError> {
    let mut before: Option<C> = None;
    let sum = doubling(round, own, &combine, |lower| {
        before = Some(match before.take() {
            Some(before) => combine(lower.clone(), before)?,
            None => lower.clone(),
        });
        Ok(())
    })?;
    Ok((before, sum))
}
