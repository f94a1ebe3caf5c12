//! All ranks' lists combined item by item, a part for each rank.

use super::cargo::Cargo;
use super::{Round, check_length};
use crate::ranks::error::CommError;

/// Everybody sends each rank its part; each combines what it got, in the order of ranks.
pub(super) fn pairwise<C: Cargo>(
    round: &Round<'_>,
    items: Vec<C>,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<C, CommError> {
    let n = round.size();
    check_length(n, items.len())?;
    let mut items: Vec<Option<C>> = items.into_iter().map(Some).collect();
    for to in (1..n).map(|step| round.ahead(step)) {
        if let Some(item) = items[to].take() {
            round.send(to, item)?;
        }
    }
    let mut sum: Option<C> = None;
    for (from, own) in items.into_iter().enumerate() {
        // this rank's own is the only one left
        let item = own.map_or_else(|| round.receive(from), Ok)?;
        sum = Some(match sum {
            Some(sum) => combine(sum, item)?,
            None => item,
        });
    }
    Ok(sum.expect("a round has at least this rank"))
}
