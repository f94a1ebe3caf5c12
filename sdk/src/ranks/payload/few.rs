//! A few numbers: too many to stand in a message, too few for memory of their own.

use std::any::TypeId;

use super::{Numbers, NumbersOf, Payload, Plain, TINY_BYTES_MAX, vec_as, wrong_type};
use crate::ranks::error::CommError;

/// Bytes of a few numbers: a cache line.
pub(in crate::ranks) const FEW_BYTES_MAX: usize = 64;

/// Numbers, copied with what is said of them.
pub(in crate::ranks) struct Few {
    said: Beside,
    bytes: [u8; FEW_BYTES_MAX],
}

impl Few {
    /// None if these are more.
    pub(super) fn of<E: Plain>(numbers: &[E]) -> Option<Self> {
        let source: &[u8] = bytemuck::cast_slice(numbers);
        let mut bytes = [0; FEW_BYTES_MAX];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        let said = Beside {
            numbers: E::NUMBERS,
            length_bytes: source.len() as u8,
        };
        Some(Few { said, bytes })
    }

    pub(super) fn length_bytes(&self) -> u8 {
        self.said.length_bytes
    }

    /// How many numbers they are.
    pub(super) fn length(&self) -> Option<usize> {
        self.said.length()
    }

    /// The bytes, if they are of that type.
    pub(super) fn numbers<E: Plain>(&self) -> Result<&[u8], CommError> {
        match self.said.numbers.id == TypeId::of::<E>() {
            true => Ok(self.bytes()),
            false => Err(wrong_type::<Vec<E>>(Some((self.said.numbers.name)()))),
        }
    }

    /// The numbers as a `T`, if that is a vector of such.
    pub(super) fn into_vec<T: 'static>(self) -> Result<T, CommError> {
        vec_as(self.said.numbers, self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.said.length_bytes)]
    }
}

/// What is said of a few numbers.
pub(in crate::ranks) struct Beside {
    numbers: &'static Numbers,
    length_bytes: u8,
}

impl Beside {
    pub(super) fn length_bytes(&self) -> u8 {
        self.length_bytes
    }

    /// How many numbers they are.
    pub(super) fn length(&self) -> Option<usize> {
        usize::from(self.length_bytes).checked_div(self.numbers.bytes)
    }

    /// The numbers with what was said of them; their bytes are the first of these.
    pub(in crate::ranks) fn with(self, bytes: &[u8; FEW_BYTES_MAX]) -> Payload {
        let bytes = *bytes;
        Payload::Few(Box::new(Few { said: self, bytes }))
    }
}

/// A few numbers where their sender has them.
pub(in crate::ranks) struct Lent<'a> {
    numbers: &'static Numbers,
    bytes: &'a [u8],
}

impl<'a> Lent<'a> {
    /// None if these are more, or [`Tiny`](super::Tiny).
    pub(in crate::ranks) fn of<E: Plain>(numbers: &'a [E]) -> Option<Self> {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        let numbers = E::NUMBERS;
        (TINY_BYTES_MAX + 1..=FEW_BYTES_MAX)
            .contains(&bytes.len())
            .then_some(Lent { numbers, bytes })
    }

    /// What is said of them, and their bytes, to stand beside it.
    pub(in crate::ranks) fn parts(&self) -> (Payload, &'a [u8]) {
        let length_bytes = self.bytes.len() as u8;
        let numbers = self.numbers;
        let said = Beside {
            numbers,
            length_bytes,
        };
        (Payload::Beside(said), self.bytes)
    }
}
