//! Vectors of numbers: combined number by number, and cut into parts.

use std::ops::Range;

use super::cargo::Vector;
use super::check_length;
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

/// The part of `length` numbers that is the `index`-th of `n` parts, of which the last may be shorter.
pub(super) fn part(length: usize, n: usize, index: usize) -> Range<usize> {
    let block = length.div_ceil(n);
    (index * block).min(length)..((index + 1) * block).min(length)
}

/// Puts `numbers` in the place of the buffer's.
pub(super) fn fill<E: Plain>(buffer: &mut [E], numbers: &[E]) -> Result<(), CommError> {
    check_length(buffer.len(), numbers.len())?;
    buffer.copy_from_slice(numbers);
    Ok(())
}

/// On which side of one's own numbers the other's stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// They are of lower ranks.
    Left,
    /// They are of higher ranks.
    Right,
}

/// Combines `theirs` with `own`, number by number.
pub(super) fn combine_into<E: Plain>(
    theirs: &[E],
    own: &mut [E],
    combine: impl Fn(E, E) -> E,
    side: Side,
) -> Result<(), CommError> {
    check_length(own.len(), theirs.len())?;
    for (own, &theirs) in own.iter_mut().zip(theirs) {
        *own = match side {
            Side::Left => combine(theirs, *own),
            Side::Right => combine(*own, theirs),
        };
    }
    Ok(())
}

/// What `op` does to whole vectors, which are to be of one length.
pub(super) fn on_vectors<E: Plain>(
    op: impl Fn(E, E) -> E,
) -> impl Fn(Vector<E>, Vector<E>) -> Result<Vector<E>, CommError> {
    move |Vector(mut left), Vector(right)| {
        combine_into(&right, &mut left, &op, Side::Right)?;
        Ok(Vector(left))
    }
}
