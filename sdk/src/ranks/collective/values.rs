//! The collective operations on values of any type, which move within a process.

use super::cargo::Value;
use super::cutoffs::DIRECT_RANKS_MAX;
use super::{all_gather, all_reduce, all_to_all, broadcast, gather, reduce, reduce_scatter, scan, scatter};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;
use crate::ranks::payload::Message;

/// What `op` does, for what is sent.
fn on_values<T>(op: impl Fn(T, T) -> T) -> impl Fn(Value<T>, Value<T>) -> Result<Value<T>, CommError> {
    move |Value(left), Value(right)| Ok(Value(op(left, right)))
}

impl Communicator {
    /// Gives all ranks the root's `value`; what others give is ignored. Binomial tree.
    ///
    /// # Errors
    /// [`CommError::RootGaveNothing`]; else like [`Communicator::barrier`].
    ///
    /// ```
    /// phalanx::ranks::run(3, |comm| {
    ///     let own = (comm.rank() == 0).then(|| "hello".to_owned());
    ///     assert_eq!(comm.broadcast(0, own).unwrap(), "hello");
    /// });
    /// ```
    pub fn broadcast<T: Message + Clone>(&self, root: usize, value: Option<T>) -> Result<T, CommError> {
        self.collective(|round| {
            let own = value.map(Value);
            let Value(value) = match round.levels() {
                Some(levels) => levels.broadcast(round, root, own)?,
                None => broadcast::binomial(round, root, own)?,
            };
            Ok(value)
        })
    }

    /// Combines all ranks' values in the order of ranks, for the root. Binomial tree.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn reduce<T: Message>(
        &self,
        root: usize,
        value: T,
        op: impl Fn(T, T) -> T,
    ) -> Result<Option<T>, CommError> {
        self.collective(|round| {
            let sum = match round.levels_in_order() {
                Some(levels) => levels.reduce(round, root, Value(value), on_values(op))?,
                None => reduce::binomial(round, root, Value(value), on_values(op))?,
            };
            Ok(sum.map(|Value(sum)| sum))
        })
    }

    /// Combines all ranks' values in the order of ranks, for all. Recursive doubling.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    ///
    /// ```
    /// phalanx::ranks::run(3, |comm| {
    ///     let word = comm.rank().to_string();
    ///     assert_eq!(comm.all_reduce(word, |left, right| left + &right).unwrap(), "012");
    /// });
    /// ```
    pub fn all_reduce<T: Message + Clone>(&self, value: T, op: impl Fn(T, T) -> T) -> Result<T, CommError> {
        self.collective(|round| {
            let Value(sum) = match round.levels_in_order() {
                Some(levels) => levels.all_reduce(round, Value(value), on_values(op))?,
                None => all_reduce::doubling(round, Value(value), on_values(op))?,
            };
            Ok(sum)
        })
    }

    /// Gives the root all ranks' values, in the order of ranks. Binomial tree.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn gather<T: Message>(&self, root: usize, value: T) -> Result<Option<Vec<T>>, CommError> {
        self.collective(|round| gather::binomial::<Value<Vec<T>>>(round, root, vec![value]))
    }

    /// Gives all ranks all ranks' values, in the order of ranks. Bruck's algorithm.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn all_gather<T: Message + Clone>(&self, value: T) -> Result<Vec<T>, CommError> {
        self.collective(|round| all_gather::bruck::<Value<Vec<T>>>(round, vec![value]))
    }

    /// Gives each rank one of the root's `values`, which are as many as the ranks; what others give is ignored. Binomial tree.
    ///
    /// # Errors
    /// [`CommError::RootGaveNothing`], [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn scatter<T: Message>(&self, root: usize, values: Option<Vec<T>>) -> Result<T, CommError> {
        self.collective(|round| {
            if let Some(values) = values.as_ref().filter(|_| round.rank() == root) {
                super::check_length(round.size(), values.len())?;
            }
            let own = scatter::binomial::<Value<Vec<T>>>(round, root, values)?;
            let found = own.len();
            let wrong = CommError::WrongLength { expected: 1, found };
            own.into_iter().next().ok_or(wrong)
        })
    }

    /// Gives each rank one value of each rank: its i-th of `values` goes to rank i, what it gets from rank i is the i-th of the
    /// result. Pairwise; Bruck's algorithm among many ranks.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_to_all<T: Message>(&self, values: Vec<T>) -> Result<Vec<T>, CommError> {
        self.collective(|round| {
            super::check_length(round.size(), values.len())?;
            if round.size() <= DIRECT_RANKS_MAX {
                all_to_all::pairwise::<Value<Vec<T>>>(round, values)
            } else {
                all_to_all::bruck::<Value<Vec<T>>>(round, values)
            }
        })
    }

    /// Combines the i-th values of all ranks in the order of ranks, for rank i. Pairwise.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_scatter<T: Message>(&self, values: Vec<T>, op: impl Fn(T, T) -> T) -> Result<T, CommError> {
        self.collective(|round| {
            let values = values.into_iter().map(Value).collect();
            let Value(sum) = reduce_scatter::pairwise(round, values, on_values(op))?;
            Ok(sum)
        })
    }

    /// Combines the values of the ranks up to and with this one, in their order. Recursive doubling.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn scan<T: Message + Clone>(&self, value: T, op: impl Fn(T, T) -> T) -> Result<T, CommError> {
        self.collective(|round| {
            let Value(sum) = scan::inclusive(round, Value(value), on_values(op))?;
            Ok(sum)
        })
    }

    /// Combines the values of the ranks before this one, in their order; nothing at rank 0. Recursive doubling.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn exscan<T: Message + Clone>(
        &self,
        value: T,
        op: impl Fn(T, T) -> T,
    ) -> Result<Option<T>, CommError> {
        self.collective(|round| {
            let sum = scan::exclusive(round, Value(value), on_values(op))?;
            Ok(sum.map(|Value(sum)| sum))
        })
    }
}
