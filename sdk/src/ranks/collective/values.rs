//! The collective operations on values of any type, which move within a process.

use super::call::Call;
use super::cargo::{List, Value, on_lists};
use super::choice::{Algorithm, Way};
use super::{
    all_gather, all_reduce, all_to_all, broadcast, check_length, cutoffs, gather, reduce, reduce_scatter,
    scan, scatter,
};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;
use crate::ranks::payload::Message;

/// What `op` does, for what is sent.
fn on_values<T>(op: impl Fn(T, T) -> T) -> impl Fn(Value<T>, Value<T>) -> Result<Value<T>, CommError> {
    move |Value(left), Value(right)| Ok(Value(op(left, right)))
}

/// The value of a list of one.
fn only_one<T>(values: Vec<T>) -> Result<T, CommError> {
    let found = values.len();
    let wrong = CommError::WrongLength { expected: 1, found };
    values.into_iter().next().ok_or(wrong)
}

impl Communicator {
    /// Gives all ranks the root's `value`; what others give is ignored. Binomial tree, on several nodes first to one rank of each.
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
        self.collective(Call::Broadcast { root }, |round| {
            let own = value.map(Value);
            let way = round.choose(|shape| cutoffs::broadcast(shape, None));
            let Value(value) = match way {
                Way::Levels(levels) => levels.broadcast(round, root, own)?,
                Way::Flat(_) => broadcast::binomial(round, root, own)?,
            };
            Ok(value)
        })
    }

    /// Combines all ranks' values in the order of ranks, for the root. Binomial tree, on several nodes first within each.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn reduce<T: Message>(
        &self,
        root: usize,
        value: T,
        op: impl Fn(T, T) -> T,
    ) -> Result<Option<T>, CommError> {
        self.collective(Call::Reduce { root }, |round| {
            let way = round.choose_in_order(|shape| cutoffs::reduce(shape, None));
            let sum = match way {
                Way::Levels(levels) => levels.reduce(round, root, Value(value), on_values(op))?,
                Way::Flat(_) => reduce::binomial(round, root, Value(value), on_values(op))?,
            };
            Ok(sum.map(|Value(sum)| sum))
        })
    }

    /// Combines all ranks' values in the order of ranks, for all. Recursive doubling, on several nodes between one rank of each.
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
        self.collective(Call::AllReduce, |round| {
            let way = round.choose_in_order(|shape| cutoffs::all_reduce(shape, None));
            let Value(sum) = match way {
                Way::Levels(levels) => levels.all_reduce(round, Value(value), on_values(op))?,
                Way::Flat(_) => all_reduce::doubling(round, Value(value), on_values(op))?,
            };
            Ok(sum)
        })
    }

    /// Gives the root all ranks' values, in the order of ranks. All send them to the root.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn gather<T: Message>(&self, root: usize, value: T) -> Result<Option<Vec<T>>, CommError> {
        self.collective(Call::Gather { root }, |round| {
            gather::direct::<Value<Vec<T>>>(round, root, vec![value])
        })
    }

    /// Gives all ranks all ranks' values, in the order of ranks. Bruck's algorithm, on several nodes between one rank of each.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn all_gather<T: Message + Clone>(&self, value: T) -> Result<Vec<T>, CommError> {
        self.collective(Call::AllGather, |round| {
            let way = round.choose(|shape| cutoffs::all_gather(shape, None));
            match way {
                Way::Levels(levels) => levels
                    .all_gather::<Value<Vec<T>>>(round, vec![value])
                    .map(List::items),
                Way::Flat(_) => all_gather::bruck::<Value<Vec<T>>>(round, vec![value], |_| 1),
            }
        })
    }

    /// Gives each rank one of the root's `values`, which are as many as the ranks; what others give is ignored. The root
    /// sends to all.
    ///
    /// # Errors
    /// [`CommError::RootGaveNothing`], [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn scatter<T: Message>(&self, root: usize, values: Option<Vec<T>>) -> Result<T, CommError> {
        self.collective(Call::Scatter { root }, |round| {
            if let Some(values) = values.as_ref().filter(|_| round.rank() == root) {
                check_length(round.size(), values.len())?;
            }
            let own = scatter::direct::<Value<Vec<T>>>(round, root, values)?;
            only_one(own)
        })
    }

    /// Gives each rank one value of each rank: its i-th of `values` goes to rank i, what it gets from rank i is the i-th of the
    /// result. Pairwise.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_to_all<T: Message>(&self, values: Vec<T>) -> Result<Vec<T>, CommError> {
        self.collective(Call::AllToAll, |round| {
            check_length(round.size(), values.len())?;
            all_to_all::chosen::<Value<Vec<T>>>(round, values, None)
        })
    }

    /// Combines the i-th values of all ranks in the order of ranks, for rank i. Pairwise, on several nodes between one rank of each.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_scatter<T: Message>(&self, values: Vec<T>, op: impl Fn(T, T) -> T) -> Result<T, CommError> {
        self.collective(Call::ReduceScatter, |round| {
            check_length(round.size(), values.len())?;
            let way = round.choose_in_order(|shape| cutoffs::reduce_scatter(shape, None));
            let own = match way {
                Way::Levels(levels) => levels.reduce_scatter::<Value<Vec<T>>>(round, values, on_lists(op))?,
                Way::Flat(Algorithm::Halving) => {
                    reduce_scatter::halving::<Value<Vec<T>>>(round, values, on_lists(op))?
                }
                Way::Flat(_) => {
                    let values = values.into_iter().map(Value).collect();
                    let Value(sum) = reduce_scatter::pairwise(round, values, on_values(op))?;
                    return Ok(sum);
                }
            };
            only_one(own)
        })
    }

    /// Combines the values of the ranks up to and with this one, in their order. Recursive doubling, on several nodes within each and
    /// between one rank of each.
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn scan<T: Message + Clone>(&self, value: T, op: impl Fn(T, T) -> T) -> Result<T, CommError> {
        self.collective(Call::Scan, |round| {
            let Value(sum) = match round.choose_in_order(cutoffs::scan) {
                Way::Levels(levels) => levels.scan(round, Value(value), on_values(op))?,
                Way::Flat(_) => scan::inclusive(round, Value(value), on_values(op))?,
            };
            Ok(sum)
        })
    }

    /// Combines the values of the ranks before this one, in their order; nothing at rank 0. Like
    /// [`Communicator::scan`].
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn exscan<T: Message + Clone>(
        &self,
        value: T,
        op: impl Fn(T, T) -> T,
    ) -> Result<Option<T>, CommError> {
        self.collective(Call::ExclusiveScan, |round| {
            let sum = match round.choose_in_order(cutoffs::scan) {
                Way::Levels(levels) => levels.exscan(round, Value(value), on_values(op))?,
                Way::Flat(_) => scan::exclusive(round, Value(value), on_values(op))?,
            };
            Ok(sum.map(|Value(sum)| sum))
        })
    }
}
