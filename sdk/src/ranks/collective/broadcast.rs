//! One rank's value to all.

use super::all_gather::ring;
use super::cargo::{Cargo, Vector};
use super::vectors::{fill, part};
use super::{Round, scatter};
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

/// Scatter, then ring all_gather (van de Geijn): each number crosses each rank's link twice, however many ranks there are.
pub(super) fn scatter_ring<E: Plain>(
    round: &Round<'_>,
    root: usize,
    buffer: &mut [E],
) -> Result<(), CommError> {
    round.check_root(root)?;
    let (n, length) = (round.size(), buffer.len());
    let relative = round.behind(root);
    let all = (relative == 0).then(|| buffer.to_vec());
    let block = length.div_ceil(n);
    let own = scatter::down_the_tree::<Vector<E>>(round, root, all, block)?;
    fill(&mut buffer[part(length, n, relative)], &own)?;
    ring(round, relative, buffer, |index| part(length, n, index))
}
