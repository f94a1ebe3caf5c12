//! All ranks' lists combined item by item, a part for each rank.

use super::all_reduce::Fold;
use super::cargo::{Cargo, List};
use super::{Round, check_length};
use crate::ranks::error::CommError;

/// Pairwise (Thakur, Rabenseifner and Gropp 2005): everybody sends each rank its part; each combines what it got, in the order of
/// ranks.
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

/// Recursive halving (likewise), with near partners first as in `all_reduce`: in each step a core gives
/// its partner what the partner and those that it stands for are to have, and combines the rest with what it gets. `items` holds
/// as many for each rank.
pub(super) fn halving<L: List>(
    round: &Round<'_>,
    items: Vec<L::Item>,
    combine: impl Fn(L, L) -> Result<L, CommError>,
) -> Result<Vec<L::Item>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    let block = items.len() / n;
    check_length(n * block, items.len())?;
    let fold = Fold::new(n);
    if fold.gives(rank) {
        round.send(rank + 1, L::wrap(items))?;
        let own = round.receive::<L>(rank + 1)?.items();
        check_length(block, own.len())?;
        return Ok(own);
    }
    let mut sum = items;
    if fold.takes(rank) {
        sum = combine(round.receive(rank - 1)?, L::wrap(sum))?.items();
    }
    let own_core = fold.core_of(rank);
    // whose parts are in `sum`, ascending
    let mut cores: Vec<usize> = (0..fold.cores).collect();
    let mut distance = 1;
    while distance < fold.cores {
        let (mut kept, mut given) = (Vec::new(), Vec::new());
        let mut rest = sum.into_iter();
        for &core in &cores {
            let stays = (core ^ own_core) & distance == 0;
            let parts = if stays { &mut kept } else { &mut given };
            parts.extend(rest.by_ref().take(fold.ranks_of(core) * block));
        }
        cores.retain(|core| (core ^ own_core) & distance == 0);
        let partner = fold.rank(own_core ^ distance);
        round.send(partner, L::wrap(given))?;
        let (kept, theirs) = (L::wrap(kept), round.receive(partner)?);
        sum = if own_core & distance == 0 {
            combine(kept, theirs)?
        } else {
            combine(theirs, kept)?
        }
        .items();
        distance *= 2;
    }
    if fold.takes(rank) {
        let own = sum.split_off(block);
        round.send(rank - 1, L::wrap(sum))?;
        return Ok(own);
    }
    Ok(sum)
}
