//! A number or two, in the message itself.

use std::any::{Any, TypeId};

use super::numbers::{Numbers, NumbersOf, as_one, from_one, vec_as};
use super::{Plain, wrong_type};
use crate::ranks::error::CommError;

/// Bytes of numbers that need no memory of their own on their way within a process: so many that a message is no longer than a
/// cache line, with what a fast box notes on it.
pub(super) const TINY_BYTES_MAX: usize = 16;

/// A number or two.
pub(in crate::ranks) struct Tiny {
    numbers: &'static Numbers,
    room: [u8; TINY_BYTES_MAX],
    extent: Extent,
}

/// What of the room is used, and as what it was sent.
///
/// It is a whole word since the values that it leaves over tell all other payloads apart: so messages are copied word by word. Were
/// that a byte, each copy would be in pieces, and a core waits until pieces that it has just written have left it before it reads them as
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[rustfmt::skip]
enum Extent { B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, Value }

/// The extents of slices, by their bytes.
#[rustfmt::skip]
const SLICES: [Extent; TINY_BYTES_MAX + 1] = {
    use Extent::*;
    [B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16]
};

impl Extent {
    /// The bytes of the slice, if it is one.
    #[inline]
    fn slice_bytes(self) -> Option<usize> {
        (self != Extent::Value).then_some(self as usize)
    }
}

impl Tiny {
    /// None if these are more.
    #[inline]
    pub(super) fn of<E: Plain>(numbers: &[E]) -> Option<Self> {
        Tiny::of_bytes(E::NUMBERS, bytemuck::cast_slice(numbers))
    }

    /// The same with the bytes of such numbers.
    #[inline]
    pub(super) fn of_bytes(numbers: &'static Numbers, bytes: &[u8]) -> Option<Self> {
        let mut room = [0; TINY_BYTES_MAX];
        room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Tiny {
            numbers,
            room,
            extent: SLICES[bytes.len()],
        })
    }

    /// The number that `value` is, if it is one.
    pub(super) fn of_one(value: &dyn Any) -> Option<Self> {
        let (numbers, bytes) = as_one(value)?;
        let extent = Extent::Value;
        Some(Tiny {
            extent,
            ..Tiny::of_bytes(numbers, bytes)?
        })
    }

    /// The bytes of a slice of that type.
    pub(super) fn numbers<E: Plain>(&self) -> Result<&[u8], CommError> {
        match self.numbers.id == TypeId::of::<E>() && self.extent != Extent::Value {
            true => Ok(self.bytes()),
            false => Err(wrong_type::<Vec<E>>(Some(self.name()))),
        }
    }

    /// The value, or the vector that it was sent as a slice of.
    pub(super) fn into_value<T: 'static>(self) -> Result<T, CommError> {
        if self.extent != Extent::Value {
            return vec_as(self.numbers, self.bytes());
        }
        let value = (self.numbers.id == TypeId::of::<T>()).then(|| from_one(self.bytes()));
        value.flatten().ok_or_else(|| wrong_type::<T>(Some(self.name())))
    }

    /// How many numbers it holds, if it was sent as a slice.
    pub(super) fn length(&self) -> Option<usize> {
        self.extent.slice_bytes()?.checked_div(self.numbers.bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[..self.extent.slice_bytes().unwrap_or(self.numbers.bytes)]
    }

    /// What the sender said that it is.
    fn name(&self) -> &'static str {
        match self.extent == Extent::Value {
            true => (self.numbers.name_of_one)(),
            false => (self.numbers.name)(),
        }
    }
}
