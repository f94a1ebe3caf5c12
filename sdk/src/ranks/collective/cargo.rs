//! What the messages of collective operations carry: the same algorithms move values and numbers.

use super::check_length;
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;
use crate::ranks::payload::{Message, Payload, Plain};

/// What can be sent in a round.
pub(super) trait Cargo: Sized {
    /// The payload for the rank at that place.
    fn pack(self, comm: &Communicator, place: u32) -> Result<Payload, CommError>;

    fn unpack(payload: Payload) -> Result<Self, CommError>;
}

/// A list of items that can be cut and joined.
pub(super) trait List: Cargo {
    type Item;

    fn wrap(items: Vec<Self::Item>) -> Self;

    fn items(self) -> Vec<Self::Item>;
}

/// A value of the user's.
#[derive(Clone)]
pub(super) struct Value<T>(pub T);

impl<T: Message> Cargo for Value<T> {
    fn pack(self, comm: &Communicator, place: u32) -> Result<Payload, CommError> {
        comm.payload(place, self.0)
    }

    fn unpack(payload: Payload) -> Result<Self, CommError> {
        payload.into_value().map(Value)
    }
}

impl<T: Message> List for Value<Vec<T>> {
    type Item = T;

    fn wrap(items: Vec<T>) -> Self {
        Value(items)
    }

    fn items(self) -> Vec<T> {
        self.0
    }
}

/// Numbers, which cross nodes as they lie in memory.
#[derive(Clone)]
pub(super) struct Vector<E>(pub Vec<E>);

impl<E: Plain> Cargo for Vector<E> {
    fn pack(self, comm: &Communicator, place: u32) -> Result<Payload, CommError> {
        Ok(comm.payload_of_vec(place, self.0))
    }

    fn unpack(payload: Payload) -> Result<Self, CommError> {
        payload.into_vec().map(Vector)
    }
}

impl<E: Plain> List for Vector<E> {
    type Item = E;

    fn wrap(items: Vec<E>) -> Self {
        Vector(items)
    }

    fn items(self) -> Vec<E> {
        self.0
    }
}

/// What `op` does item by item to whole lists, which are to be of one length.
pub(super) fn on_lists<L: List>(
    op: impl Fn(L::Item, L::Item) -> L::Item,
) -> impl Fn(L, L) -> Result<L, CommError> {
    move |left, right| {
        let (left, right) = (left.items(), right.items());
        check_length(left.len(), right.len())?;
        let both = left.into_iter().zip(right);
        Ok(L::wrap(both.map(|(left, right)| op(left, right)).collect()))
    }
}
