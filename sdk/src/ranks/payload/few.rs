//! A few numbers: too many to stand in a message, too few for memory of their own.

use std::any::TypeId;

use super::{Numbers, NumbersOf, Payload, Plain, Tiny, vec_as, wrong_type};
use crate::ranks::error::CommError;

/// Bytes of a few numbers: three cache lines.
pub(in crate::ranks) const FEW_BYTES_MAX: usize = 192;

/// Numbers, copied with what is said of them.
pub(in crate::ranks) struct Few {
    said: Beside,
    bytes: [u8; FEW_BYTES_MAX],
}

impl Few {
    /// None if these are more.
    pub(super) fn of<E: Plain>(numbers: &[E]) -> Option<Self> {
        const { assert!(FEW_BYTES_MAX <= u8::MAX as usize) };
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
        self.said.numbers::<E>(&self.bytes)
    }

    /// The numbers as a `T`, if that is a vector of such.
    pub(super) fn into_vec<T: 'static>(self) -> Result<T, CommError> {
        vec_as(self.said.numbers, self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        self.said.bytes(&self.bytes)
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

    /// Which of these bytes they are, if they are of that type.
    #[inline]
    pub(super) fn numbers<'a, E: Plain>(
        &self,
        bytes: &'a [u8; FEW_BYTES_MAX],
    ) -> Result<&'a [u8], CommError> {
        match self.numbers.id == TypeId::of::<E>() {
            true => Ok(self.bytes(bytes)),
            false => Err(wrong_type::<Vec<E>>(Some((self.numbers.name)()))),
        }
    }

    fn bytes<'a>(&self, bytes: &'a [u8; FEW_BYTES_MAX]) -> &'a [u8] {
        &bytes[..usize::from(self.length_bytes)]
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
    /// None if these are more.
    #[inline]
    pub(in crate::ranks) fn of<E: Plain>(numbers: &'a [E]) -> Option<Self> {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        let numbers = E::NUMBERS;
        (bytes.len() <= FEW_BYTES_MAX).then_some(Lent { numbers, bytes })
    }

    /// What is to stand in the message, and what beside it.
    #[inline]
    pub(in crate::ranks) fn parts(&self) -> (Payload, &'a [u8]) {
        let Lent { numbers, bytes } = *self;
        match Tiny::of_bytes(numbers, bytes) {
            Some(tiny) => (Payload::Tiny(tiny), &[]),
            None => {
                let length_bytes = bytes.len() as u8;
                let said = Beside {
                    numbers,
                    length_bytes,
                };
                (Payload::Beside(said), bytes)
            }
        }
    }
}
