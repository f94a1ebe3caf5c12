//! The byte format of everything that crosses a process border or reaches the journal.
//!
//! This is the only module that knows `bincode`. The crate is no longer maintained (RUSTSEC-2025-0141) and its 3.0.0
//! is an empty release, so the last working version is pinned, and every decode has a byte limit: without one, eight
//! hostile bytes can ask for a 128 GiB allocation. Replacing the crate means replacing the two functions below; the
//! golden bytes in the tests say what must not change.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{CHECKPOINT_VALUE_BYTES_MAX, VALUE_BYTES_MAX};

/// Why bytes could not be turned into a value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no such value, end too early, or claim more than the limit.
    #[error("{bytes} bytes are not a valid {what}")]
    Malformed {
        /// The type that was expected.
        what: &'static str,
        /// Length of the input in bytes.
        bytes: usize,
        /// What the decoder said.
        #[source]
        cause: bincode::error::DecodeError,
    },
    /// The value ended before the bytes did.
    #[error("{bytes} bytes follow a complete {what}")]
    TrailingBytes {
        /// The type that was decoded.
        what: &'static str,
        /// How many bytes were left over.
        bytes: usize,
    },
}

/// A value that has no byte form (a sequence of unknown length, say).
#[derive(Debug, thiserror::Error)]
#[error("a {what} cannot be encoded")]
pub struct EncodeError {
    what: &'static str,
    #[source]
    cause: bincode::error::EncodeError,
}

const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// Encodes one of the protocol's own types, which always have a byte form.
///
/// # Panics
/// If `value`'s `Serialize` refuses, which no type of this crate does.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes).expect("protocol types have a byte form");
    bytes
}

/// Appends the encoding of `value` to `bytes`.
///
/// # Errors
/// If `value`'s `Serialize` refuses; `bytes` may then hold a part of it.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    /// Lets the encoder append to a vector.
    struct Appender<'a>(&'a mut Vec<u8>);
    impl bincode::enc::write::Writer for Appender<'_> {
        #[inline]
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let what = std::any::type_name::<T>();
    bincode::serde::encode_into_writer(value, Appender(bytes), CONFIG)
        .map_err(|cause| EncodeError { what, cause })
}

/// Decodes a value that fills `bytes` exactly; collections inside it may claim at most [`VALUE_BYTES_MAX`] bytes.
///
/// # Errors
/// [`DecodeError`] if the bytes are malformed, too large, or longer than the value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    whole(bytes, decode_prefix(bytes)?)
}

/// Decodes what a program saved for itself, which may be far larger than a message: its collections may claim up to
/// [`CHECKPOINT_VALUE_BYTES_MAX`] bytes.
///
/// # Errors
/// Like [`decode`].
pub fn decode_checkpoint<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let limit = CONFIG.with_limit::<CHECKPOINT_VALUE_BYTES_MAX>();
    whole(bytes, decode_limited(bytes, limit)?)
}

/// The value, if nothing follows it.
fn whole<T>(bytes: &[u8], (value, used): (T, usize)) -> Result<T, DecodeError> {
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(DecodeError::TrailingBytes {
            what: std::any::type_name::<T>(),
            bytes: rest,
        }),
    }
}

/// Decodes a value from the front of `bytes` and says how many bytes it took: results of a range lie back to back.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    decode_limited(bytes, CONFIG.with_limit::<VALUE_BYTES_MAX>())
}

fn decode_limited<T: DeserializeOwned>(
    bytes: &[u8],
    config: impl bincode::config::Config,
) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(bytes, config).map_err(|cause| DecodeError::Malformed {
        what: std::any::type_name::<T>(),
        bytes: bytes.len(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_may_be_larger_than_a_message() {
        let state = vec![0_u64; VALUE_BYTES_MAX / size_of::<u64>() + 1];
        let bytes = encode(&state);
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert_eq!(decode_checkpoint::<Vec<u64>>(&bytes).unwrap(), state);
    }

    #[test]
    fn a_hostile_length_is_refused_before_it_is_allocated() {
        // varint marker 253 = u64 follows: a sequence of 2^63 elements
        let evil = [253, 0, 0, 0, 0, 0, 0, 0, 0x80];
        assert!(matches!(
            decode::<Vec<u64>>(&evil),
            Err(DecodeError::Malformed { .. })
        ));
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert!(matches!(
            decode::<u64>(&bytes),
            Err(DecodeError::TrailingBytes { bytes: 1, .. })
        ));
    }

    #[test]
    fn the_byte_form_is_pinned() {
        let value = (1u64, 300u32, "ab".to_owned(), vec![Some(5i16), None]);
        assert_eq!(encode(&value), [1, 251, 44, 1, 2, b'a', b'b', 2, 1, 10, 0]);
    }
}
