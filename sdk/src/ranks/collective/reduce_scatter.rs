//! All ranks' lists combined item by item, a part for each rank.

use std::ops::Range;

use super::all_reduce::{Side, combine_into};
use super::cargo::{Cargo, Vector};
use super::{Round, check_length};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Everybody sends each rank its part; each combines what it got, in the order of ranks.
pub(super) fn pairwise<C: Cargo>(
    round: &Round<'_>,
    items: Vec<C>,
    combine: impl Fn(C, C) -> Result<C, CommError>,
) -> Result<C, CommError> {
    let (n, rank) = (round.size(), round.rank());
    check_length(n, items.len())?;
    let mut own = None;
    for (to, item) in items.into_iter().enumerate() {
        if to == rank {
            own = Some(item);
        } else {
            round.send(to, item)?;
        }
    }
    let mut sum: Option<C> = None;
    for from in 0..n {
        let item = match own.take_if(|_| from == rank) {
            Some(own) => own,
            None => round.receive(from)?,
        };
        sum = Some(match sum {
            Some(sum) => combine(sum, item)?,
            None => item,
        });
    }
    Ok(sum.expect("a round has at least this rank"))
}

/// The same with numbers: `part` says which of `numbers` are a rank's.
pub(super) fn combine_parts<E: Plain>(
    round: &Round<'_>,
    numbers: &[E],
    part: impl Fn(usize) -> Range<usize>,
    combine: impl Fn(E, E) -> E,
) -> Result<Vec<E>, CommError> {
    let (n, rank) = (round.size(), round.rank());
    for step in 1..n {
        let to = round.ahead(step);
        round.send(to, Vector(numbers[part(to)].to_vec()))?;
    }
    let mut sum: Option<Vec<E>> = None;
    for from in 0..n {
        sum = Some(match sum {
            None if from == rank => numbers[part(rank)].to_vec(),
            None => {
                let Vector(theirs) = round.receive(from)?;
                check_length(part(rank).len(), theirs.len())?;
                theirs
            }
            Some(mut sum) if from == rank => {
                combine_into(&numbers[part(rank)], &mut sum, &combine, Side::Right)?;
                sum
            }
            Some(mut sum) => {
                let Vector(theirs) = round.receive(from)?;
                combine_into(&theirs, &mut sum, &combine, Side::Right)?;
                sum
            }
        });
    }
    Ok(sum.expect("a round has at least this rank"))
}
