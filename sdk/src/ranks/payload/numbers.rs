//! Types of numbers at run time, and numbers out of values of which only the sender or the receiver knows that they are such.

use std::any::{Any, TypeId, type_name};

use bytemuck::allocation::pod_collect_to_vec;

use super::flow::Flow;
use super::{Moved, Plain, Sent, wrong_type};
use crate::ranks::error::CommError;

/// A type of numbers, at run time.
pub(super) struct Numbers {
    pub id: TypeId,
    /// Of a vector of them.
    pub name: fn() -> &'static str,
    pub name_of_one: fn() -> &'static str,
    pub bytes: usize,
    to_vec: fn(&[u8]) -> Box<dyn Any + Send>,
    /// All that flows, in one vector.
    pub gather: fn(Flow) -> Box<dyn Moved>,
}

/// Where the [`Numbers`] of a type are found.
pub(super) trait NumbersOf: Plain {
    const NUMBERS: &'static Numbers;
}

impl<E: Plain> NumbersOf for E {
    const NUMBERS: &'static Numbers = &Numbers {
        id: TypeId::of::<E>(),
        name: type_name::<Vec<E>>,
        name_of_one: type_name::<E>,
        bytes: size_of::<E>(),
        to_vec: |bytes| Box::new(pod_collect_to_vec::<u8, E>(bytes)),
        gather: |flow| {
            let length = flow.length();
            let mut value = vec![E::zeroed(); length.unwrap_or(0)];
            flow.copy_into(bytemuck::cast_slice_mut(&mut value));
            Box::new(Sent { value, length })
        },
    };
}

/// Calls `$case` with each type of numbers whose vectors are known as such wherever they are sent as values.
macro_rules! for_each_number {
    ($case:ident) => {
        $case!(f64, f32, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize)
    };
}

/// The bytes of a vector of numbers, if `value` is one.
pub(super) fn as_numbers(value: &dyn Any) -> Option<(&[u8], usize)> {
    macro_rules! case {
        ($($number:ty),*) => {
            $(if let Some(numbers) = value.downcast_ref::<Vec<$number>>() {
                return Some((bytemuck::cast_slice(numbers), size_of::<$number>()));
            })*
        };
    }
    for_each_number!(case);
    None
}

/// The vector of numbers that a `T` is, if it is one.
pub(super) fn from_numbers<T: 'static>(bytes: &[u8]) -> Option<T> {
    macro_rules! case {
        ($($number:ty),*) => {
            $(if TypeId::of::<T>() == TypeId::of::<Vec<$number>>() {
                return same(pod_collect_to_vec::<u8, $number>(bytes));
            })*
        };
    }
    for_each_number!(case);
    None
}

/// The numbers as a `T`, if that is a vector of such.
pub(super) fn vec_as<T: 'static>(numbers: &'static Numbers, bytes: &[u8]) -> Result<T, CommError> {
    let vec = (numbers.to_vec)(bytes).downcast::<T>();
    vec.map(|vec| *vec)
        .map_err(|_| wrong_type::<T>(Some((numbers.name)())))
}

/// `value` as a `T`, if it is one.
fn same<V: 'static, T: 'static>(value: V) -> Option<T> {
    let mut result: Option<T> = None;
    let place: &mut dyn Any = &mut result;
    *place.downcast_mut::<Option<V>>()? = Some(value);
    result
}

/// The bytes of the number that `value` is, if it is one.
pub(super) fn as_one(value: &dyn Any) -> Option<(&'static Numbers, &[u8])> {
    macro_rules! case {
        ($($number:ty),*) => {
            $(if let Some(number) = value.downcast_ref::<$number>() {
                return Some((<$number>::NUMBERS, bytemuck::bytes_of(number)));
            })*
        };
    }
    for_each_number!(case);
    None
}

/// The number that a `T` is, if it is one.
pub(super) fn from_one<T: 'static>(bytes: &[u8]) -> Option<T> {
    macro_rules! case {
        ($($number:ty),*) => {
            $(if TypeId::of::<T>() == TypeId::of::<$number>() {
                return same(bytemuck::pod_read_unaligned::<$number>(bytes));
            })*
        };
    }
    for_each_number!(case);
    None
}
