//! What is inside a message: a value that moves within the process, numbers, or bytes for and from another node.
//!
//! A value stays what it is between ranks of one process: it is moved, never copied or encoded. Only a message for another
//! node is encoded. Numbers travel as they lie in memory in both cases. A large one from another node is *announced* first:
//! its bytes stay where they are until a receive has taken it.

mod few;
mod flow;
mod numbers;
mod tiny;

use std::any::{Any, type_name};

use bytemuck::allocation::pod_collect_to_vec;
use bytes::Bytes;
use phalanx_protocol::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::few::Few;
pub(super) use self::few::{Beside, FEW_BYTES_MAX, Lent};
use self::flow::Flow;
pub(super) use self::flow::{Parts, Pouring};
use self::numbers::{Numbers, NumbersOf, as_numbers, from_numbers, vec_as};
use self::tiny::Tiny;
use super::error::CommError;

/// What can be sent: any value with a byte form, for the case that the receiver lives on another node.
///
/// Between ranks of one process the value is moved.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// Plain numbers, and arrays and structures of nothing else: what can be sent as a slice without being encoded.
pub trait Plain: bytemuck::Pod + Send + Sync {}
impl<E: bytemuck::Pod + Send + Sync> Plain for E {}

/// What holds of every payload that is opened.
const WHOLE_FIRST: &str = "a payload is whole before it is opened";

/// The inside of a message.
pub(super) enum Payload {
    /// Hardly anything, on its way to another thread.
    Tiny(Tiny),
    /// A few numbers on their way to another thread.
    Few(Box<Few>),
    /// The same whose numbers stand beside the message, as long as that lies in a fast box.
    Beside(Beside),
    /// A value on its way to another thread.
    Moved(Box<dyn Moved>),
    /// Something on its way to or from another node.
    Encoded(Box<Encoded>),
    /// Something whose bytes are on another node still.
    Announced(Box<Announced>),
}

// the rest of a cache line is the envelope, and what a fast box notes
const _: () = assert!(size_of::<Payload>() == 32);

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Tiny(tiny) => write!(formatter, "Tiny({} bytes)", tiny.bytes().len()),
            Payload::Few(few) => write!(formatter, "Few({} bytes)", few.length_bytes()),
            Payload::Beside(beside) => write!(formatter, "Beside({} bytes)", beside.length_bytes()),
            Payload::Moved(moved) => write!(formatter, "Moved({})", moved.name()),
            Payload::Encoded(encoded) => write!(formatter, "Encoded({} bytes)", encoded.bytes.len()),
            Payload::Announced(announced) => write!(formatter, "Announced({} bytes)", announced.length_bytes),
        }
    }
}

/// A [`Sent`] of any type.
pub(super) trait Moved: Any + Send {
    /// The type's name.
    fn name(&self) -> &'static str;

    /// How many numbers it is, if it was sent as a slice.
    fn length(&self) -> Option<usize>;

    /// It all in one place, as a [`Sent`].
    fn gathered(self: Box<Self>) -> Box<dyn Moved>;
}

/// A value on its way.
struct Sent<T> {
    value: T,
    length: Option<usize>,
}

impl<T: Send + 'static> Moved for Sent<T> {
    fn name(&self) -> &'static str {
        type_name::<T>()
    }

    fn length(&self) -> Option<usize> {
        self.length
    }

    fn gathered(self: Box<Self>) -> Box<dyn Moved> {
        self
    }
}

/// The value, if it is a `T`.
fn unpacked<T: 'static>(moved: Box<dyn Moved>) -> Result<T, CommError> {
    let name = moved.name();
    let sent = (moved.gathered() as Box<dyn Any>).downcast::<Sent<T>>();
    sent.map(|sent| sent.value)
        .map_err(|_| wrong_type::<T>(Some(name)))
}

/// The flow that it is, if it is one of such numbers; else itself.
fn flow_of<E: Plain>(moved: Box<dyn Moved>) -> Result<Box<Flow>, Box<dyn Moved>> {
    match (&*moved as &dyn Any).downcast_ref::<Flow>() {
        Some(flow) if flow.is_of::<E>() => Ok((moved as Box<dyn Any>).downcast().expect("it is one")),
        Some(_) | None => Err(moved),
    }
}

/// What goes over the network. Both sides are the same program, so a hash of a type's name tells types apart.
pub(super) struct Encoded {
    pub bytes: Bytes,
    pub form: Form,
    /// Tells whoever counts what is not received yet; nobody does at the sender.
    pub receipt: Option<Receipt>,
}

/// What encoded bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Form {
    pub type_hash: u64,
    /// Bytes of one number, if these are numbers as they lie in memory.
    pub number_bytes: Option<u32>,
}

impl Form {
    fn of_numbers<E: Plain>() -> Self {
        Form {
            type_hash: type_hash(type_name::<Vec<E>>()),
            number_bytes: Some(size_of::<E>() as u32),
        }
    }

    /// How many numbers so many bytes are, if they are numbers.
    fn length(self, bytes: usize) -> Option<usize> {
        bytes.checked_div(self.number_bytes? as usize)
    }
}

/// Says by its end that a message was received or thrown away.
pub(super) type Receipt = Box<dyn Send>;

/// What is known of bytes that are on another node still.
pub(super) struct Announced {
    pub remote: Box<dyn Remote>,
    pub form: Form,
    pub length_bytes: usize,
    pub receipt: Receipt,
}

/// Bytes on another node.
pub(super) trait Remote: Send {
    /// Asks for them, if that was not done yet. Returns at once; the receiver is rung for when they are here.
    fn fetch(&self);

    /// The bytes, if they are here.
    fn fetched(&self) -> Option<Result<Bytes, Gone>>;
}

/// Bytes that will never come: their node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What became of a payload that may be on another node.
pub(super) enum Fetched {
    /// It is all here.
    Here(Payload),
    /// It is on its way.
    Coming(Payload),
    /// It will never come.
    Gone,
}

/// Numbers that are sent from where they are.
struct Owned<E>(Vec<E>);

impl<E: Plain> AsRef<[u8]> for Owned<E> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn type_hash(name: &str) -> u64 {
    // FNV-1a
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Payload {
    /// A value for a rank of this process.
    pub(super) fn moved<T: Send + 'static>(value: T) -> Self {
        match Tiny::of_one(&value) {
            Some(tiny) => Payload::Tiny(tiny),
            None => Payload::Moved(Box::new(Sent { value, length: None })),
        }
    }

    /// A value for another node.
    ///
    /// # Errors
    /// [`CommError::Encode`].
    pub(super) fn encoded<T: Message>(value: &T) -> Result<Self, CommError> {
        let type_hash = type_hash(type_name::<T>());
        let (bytes, number_bytes) = match as_numbers(value) {
            Some((bytes, number_bytes)) => (bytes.to_vec(), Some(number_bytes as u32)),
            None => {
                let mut bytes = Vec::new();
                codec::encode_into(value, &mut bytes).map_err(CommError::Encode)?;
                (bytes, None)
            }
        };
        let form = Form {
            type_hash,
            number_bytes,
        };
        Ok(Payload::encoded_bytes(bytes.into(), form))
    }

    /// Numbers for a rank of this process, which are copied once.
    pub(super) fn numbers<E: Plain>(numbers: &[E]) -> Self {
        if let Some(tiny) = Tiny::of(numbers) {
            return Payload::Tiny(tiny);
        }
        match Few::of(numbers) {
            Some(few) => Payload::Few(Box::new(few)),
            None => Payload::vec(numbers.to_vec()),
        }
    }

    /// Numbers for a rank of this process: the few in place, the many moved.
    pub(super) fn vec<E: Plain>(numbers: Vec<E>) -> Self {
        match Tiny::of(&numbers) {
            Some(tiny) => Payload::Tiny(tiny),
            None => Payload::Moved(Box::new(Sent {
                length: Some(numbers.len()),
                value: numbers,
            })),
        }
    }

    /// Numbers for another node.
    pub(super) fn encoded_numbers<E: Plain>(numbers: &[E]) -> Self {
        let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(numbers));
        Payload::encoded_bytes(bytes, Form::of_numbers::<E>())
    }

    /// Numbers for another node, which are sent as they lie in memory from where they are.
    pub(super) fn encoded_vec<E: Plain>(numbers: Vec<E>) -> Self {
        Payload::encoded_bytes(Bytes::from_owner(Owned(numbers)), Form::of_numbers::<E>())
    }

    fn encoded_bytes(bytes: Bytes, form: Form) -> Self {
        let receipt = None;
        Payload::Encoded(Box::new(Encoded { bytes, form, receipt }))
    }

    /// How many numbers it holds, if it was sent as a slice.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Payload::Tiny(tiny) => tiny.length(),
            Payload::Few(few) => few.length(),
            Payload::Beside(beside) => beside.length(),
            Payload::Moved(moved) => moved.length(),
            Payload::Encoded(encoded) => encoded.form.length(encoded.bytes.len()),
            Payload::Announced(announced) => announced.form.length(announced.length_bytes),
        }
    }

    /// Asks for its bytes if they are on another node. A receive has taken it.
    pub(super) fn fetch(&self) {
        match self {
            Payload::Announced(announced) => announced.remote.fetch(),
            Payload::Tiny(_)
            | Payload::Few(_)
            | Payload::Beside(_)
            | Payload::Moved(_)
            | Payload::Encoded(_) => {}
        }
    }

    /// Itself with all its bytes, if they are here. A receive has taken it.
    pub(super) fn fetched(self) -> Fetched {
        let announced = match self {
            Payload::Announced(announced) => announced,
            Payload::Tiny(_)
            | Payload::Few(_)
            | Payload::Beside(_)
            | Payload::Moved(_)
            | Payload::Encoded(_) => {
                return Fetched::Here(self);
            }
        };
        match announced.remote.fetched() {
            Some(Ok(bytes)) => Fetched::Here(Payload::Encoded(Box::new(Encoded {
                bytes,
                form: announced.form,
                receipt: Some(announced.receipt),
            }))),
            Some(Err(Gone)) => Fetched::Gone,
            None => Fetched::Coming(Payload::Announced(announced)),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// [`CommError::WrongType`] or [`CommError::Decode`].
    pub(super) fn into_value<T: Message>(self) -> Result<T, CommError> {
        match self {
            Payload::Tiny(tiny) => tiny.into_value(),
            Payload::Few(few) => few.into_vec(),
            Payload::Moved(moved) => unpacked(moved),
            Payload::Encoded(encoded) => encoded.into_value(),
            Payload::Beside(_) | Payload::Announced(_) => unreachable!("{WHOLE_FIRST}"),
        }
    }

    /// The numbers.
    ///
    /// # Errors
    /// [`CommError::WrongType`].
    pub(super) fn into_vec<E: Plain>(self) -> Result<Vec<E>, CommError> {
        match self {
            Payload::Tiny(tiny) => Ok(pod_collect_to_vec(tiny.numbers::<E>()?)),
            Payload::Few(few) => Ok(pod_collect_to_vec(few.numbers::<E>()?)),
            Payload::Moved(moved) => unpacked(moved),
            Payload::Encoded(encoded) => Ok(pod_collect_to_vec(encoded.numbers::<E>()?)),
            Payload::Beside(_) | Payload::Announced(_) => unreachable!("{WHOLE_FIRST}"),
        }
    }

    /// The bytes of a few numbers that lie in a fast box, if they are such; `beside` is what is beside the message.
    #[inline]
    pub(super) fn few<'a, E: Plain>(
        &'a self,
        beside: &'a [u8; FEW_BYTES_MAX],
    ) -> Option<Result<&'a [u8], CommError>> {
        match self {
            Payload::Tiny(tiny) => Some(tiny.numbers::<E>()),
            Payload::Beside(said) => Some(said.numbers::<E>(beside)),
            Payload::Few(_) | Payload::Moved(_) | Payload::Encoded(_) | Payload::Announced(_) => None,
        }
    }

    /// Copies the numbers to the front of `buffer` and says how many they are.
    ///
    /// # Errors
    /// [`CommError::WrongType`] or [`CommError::Truncated`]; `buffer` is as it was then.
    pub(super) fn copy_into<E: Plain>(self, buffer: &mut [E]) -> Result<usize, CommError> {
        let mut copy = |bytes: &[u8]| copy_to_front(bytes, buffer);
        match self {
            Payload::Tiny(tiny) => copy(tiny.numbers::<E>()?),
            Payload::Few(few) => copy(few.numbers::<E>()?),
            Payload::Moved(moved) => match flow_of::<E>(moved) {
                Ok(flow) => {
                    let length = room_for(flow.length().unwrap_or(0), buffer.len())?;
                    flow.copy_into(bytemuck::cast_slice_mut(&mut buffer[..length]));
                    Ok(length)
                }
                Err(moved) => copy(bytemuck::cast_slice(&unpacked::<Vec<E>>(moved)?)),
            },
            Payload::Encoded(encoded) => copy(encoded.numbers::<E>()?),
            Payload::Beside(_) | Payload::Announced(_) => unreachable!("{WHOLE_FIRST}"),
        }
    }
}

impl Encoded {
    fn into_value<T: Message>(self) -> Result<T, CommError> {
        if self.form.type_hash != type_hash(type_name::<T>()) {
            return Err(wrong_type::<T>(None));
        }
        match self.form.number_bytes {
            Some(_) => from_numbers(&self.bytes).ok_or_else(|| wrong_type::<T>(None)),
            None => codec::decode_checkpoint(&self.bytes).map_err(CommError::Decode),
        }
    }

    /// The bytes, if they are whole numbers of this type.
    fn numbers<E: Plain>(&self) -> Result<&[u8], CommError> {
        let whole = size_of::<E>() == 0 || self.bytes.len().is_multiple_of(size_of::<E>());
        let form = self.form;
        let same = form.type_hash == type_hash(type_name::<Vec<E>>()) && form.number_bytes.is_some();
        if whole && same {
            Ok(&self.bytes)
        } else {
            Err(wrong_type::<Vec<E>>(None))
        }
    }
}

/// Copies the bytes of numbers to the front of `buffer` and says how many numbers they are.
///
/// # Errors
/// [`CommError::Truncated`]; `buffer` is as it was then.
#[inline]
pub(super) fn copy_to_front<E: Plain>(bytes: &[u8], buffer: &mut [E]) -> Result<usize, CommError> {
    let length = room_for(bytes.len().checked_div(size_of::<E>()).unwrap_or(0), buffer.len())?;
    bytemuck::cast_slice_mut::<E, u8>(buffer)[..bytes.len()].copy_from_slice(bytes);
    Ok(length)
}

/// The length, if there is room for so many.
#[inline]
fn room_for(length: usize, capacity: usize) -> Result<usize, CommError> {
    match length <= capacity {
        true => Ok(length),
        false => Err(CommError::Truncated { length, capacity }),
    }
}

fn wrong_type<T>(found: Option<&'static str>) -> CommError {
    CommError::WrongType {
        expected: type_name::<T>(),
        found,
    }
}
