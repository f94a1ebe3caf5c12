//! One rank's value to all.

use std::ops::Range;

use super::cargo::{Cargo, Vector};
use super::{Round, check_length};
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// Binomial tree: whoever has the value sends it to the rank half of the remaining distance ahead.
pub(super) fn binomial<C: Cargo + Clone>(
    round: &Round<'_>,
    root: usize,
    own: Option<C>,
) -> Result<C, CommError> {
    round.check_root(root)?;
    let n = round.size();
    let relative = round.behind(root);
    let (value, mut distance) = if relative == 0 {
        let value = own.ok_or(CommError::RootGaveNothing { root })?;
        (value, n.next_power_of_two() / 2)
    } else {
        let lowest = 1 << relative.trailing_zeros();
        (round.receive(round.behind(lowest))?, lowest / 2)
    };
    while distance > 0 {
        if relative + distance < n {
            round.send(round.ahead(distance), value.clone())?;
        }
        distance /= 2;
    }
    Ok(value)
}

/// The part of `length` numbers that is the `index`-th of `n` parts.
pub(super) fn part(length: usize, n: usize, index: usize) -> Range<usize> {
    let block = length.div_ceil(n);
    (index * block).min(length)..((index + 1) * block).min(length)
}

/// Scatter, then ring all_gather (van de Geijn): each number crosses each rank's link twice, however many ranks there are.
pub(super) fn scatter_ring<E: Plain>(
    round: &Round<'_>,
    root: usize,
    buffer: &mut [E],
) -> Result<(), CommError> {
    round.check_root(root)?;
    let (n, length) = (round.size(), buffer.len());
    let relative = round.behind(root);
    let from_here = |index: usize, end: usize| part(length, n, index).start..part(length, n, end - 1).end;
    let mut distance = if relative == 0 {
        n.next_power_of_two()
    } else {
        let lowest = 1 << relative.trailing_zeros();
        let Vector(numbers) = round.receive(round.behind(lowest))?;
        let range = from_here(relative, (relative + lowest).min(n));
        check_length(range.len(), numbers.len())?;
        buffer[range].copy_from_slice(&numbers);
        lowest
    } / 2;
    while distance > 0 {
        let child = relative + distance;
        if child < n {
            let range = from_here(child, (child + distance).min(n));
            round.send(round.ahead(distance), Vector(buffer[range].to_vec()))?;
        }
        distance /= 2;
    }
    ring(round, relative, buffer)
}

/// Ring all_gather of parts: rank `index` of the ring has the `index`-th part, and each hands on what it gets.
pub(super) fn ring<E: Plain>(round: &Round<'_>, index: usize, buffer: &mut [E]) -> Result<(), CommError> {
    let (n, length) = (round.size(), buffer.len());
    let mut passing = buffer[part(length, n, index)].to_vec();
    for step in 1..n {
        round.send(round.ahead(1), Vector(passing))?;
        Vector(passing) = round.receive(round.behind(1))?;
        let range = part(length, n, (index + n - step) % n);
        check_length(range.len(), passing.len())?;
        buffer[range].copy_from_slice(&passing);
    }
    Ok(())
}
