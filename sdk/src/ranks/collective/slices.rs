//! The collective operations on numbers, which are never encoded; large ones are cut into parts. Operators work number by
//! number.

use super::cargo::Vector;
use super::cutoffs::{
    ALL_REDUCE_PARTS_BYTES_MIN, DETOUR_BYTES_MAX, DIRECT_RANKS_MAX, RING_BYTES_MIN, ROOTED_PARTS_BYTES_MIN,
};
use super::vectors::{fill, on_vectors};
use super::{
    Round, all_gather, all_reduce, all_to_all, broadcast, check_length, gather, reduce, reduce_scatter, scan,
    scatter,
};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

impl Round<'_> {
    /// Whether numbers of `bytes_min` bytes or more are cut into parts for the ranks, and these are so many.
    fn in_parts<E>(&self, numbers: &[E], bytes_min: usize) -> bool {
        self.size() > 2 && numbers.len() >= self.size() && size_of_val(numbers) >= bytes_min
    }
}

impl Communicator {
    /// Fills the buffers of all ranks, which are of one length, from the root's. Binomial tree; scatter and ring all_gather if
    /// large.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn broadcast_slice<E: Plain>(&self, root: usize, buffer: &mut [E]) -> Result<(), CommError> {
        self.collective(|round| {
            if round.in_parts(buffer, ROOTED_PARTS_BYTES_MIN) {
                return broadcast::scatter_ring(round, root, buffer);
            }
            let own = (round.rank() == root).then(|| Vector(buffer.to_vec()));
            let Vector(numbers) = match round.levels() {
                Some(levels) => levels.broadcast(round, root, own)?,
                None => broadcast::binomial(round, root, own)?,
            };
            fill(buffer, &numbers)
        })
    }

    /// Combines the buffers of all ranks, which are of one length, in the order of ranks, in the root's buffer; those of the
    /// others hold anything afterwards. Binomial tree; Rabenseifner's algorithm if large.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_slice<E: Plain>(
        &self,
        root: usize,
        buffer: &mut [E],
        op: impl Fn(E, E) -> E,
    ) -> Result<(), CommError> {
        self.collective(|round| {
            if round.in_parts(buffer, ROOTED_PARTS_BYTES_MIN) {
                return all_reduce::rabenseifner(round, Some(root), buffer, op);
            }
            let own = Vector(buffer.to_vec());
            let sum = match round.levels_in_order() {
                Some(levels) => levels.reduce(round, root, own, on_vectors(op))?,
                None => reduce::binomial(round, root, own, on_vectors(op))?,
            };
            match sum {
                Some(Vector(sum)) => fill(buffer, &sum),
                None => Ok(()),
            }
        })
    }

    /// Combines the buffers of all ranks, which are of one length, in the order of ranks, in all buffers. Recursive doubling;
    /// Rabenseifner's algorithm if large, and for a number of ranks that is no power of two one that ends in a ring.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_reduce_slice<E: Plain>(
        &self,
        buffer: &mut [E],
        op: impl Fn(E, E) -> E,
    ) -> Result<(), CommError> {
        self.collective(|round| {
            if !round.in_parts(buffer, ALL_REDUCE_PARTS_BYTES_MIN) {
                let own = Vector(buffer.to_vec());
                let Vector(sum) = match round.levels_in_order() {
                    Some(levels) => levels.all_reduce(round, own, on_vectors(op))?,
                    None => all_reduce::doubling(round, own, on_vectors(op))?,
                };
                return fill(buffer, &sum);
            }
            if round.size().is_power_of_two() {
                all_reduce::rabenseifner(round, None, buffer, op)
            } else {
                all_reduce::parts_ring(round, buffer, op)
            }
        })
    }

    /// Gives the root the numbers of all ranks, which are equally many, in the order of ranks. Binomial tree.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn gather_slice<E: Plain>(&self, root: usize, numbers: &[E]) -> Result<Option<Vec<E>>, CommError> {
        self.collective(|round| gather::binomial::<Vector<E>>(round, root, numbers.to_vec()))
    }

    /// Gives all ranks the numbers of all ranks, which are equally many, in the order of ranks. Bruck's algorithm; ring if large.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_gather_slice<E: Plain>(&self, numbers: &[E]) -> Result<Vec<E>, CommError> {
        self.collective(|round| {
            if size_of_val(numbers) >= RING_BYTES_MIN {
                let (n, own) = (round.size(), round.rank());
                let mut all = vec![E::zeroed(); n * numbers.len()];
                fill(&mut all[own * numbers.len()..][..numbers.len()], numbers)?;
                all_gather::ring(round, own, &mut all)?;
                Ok(all)
            } else {
                all_gather::bruck::<Vector<E>>(round, numbers.to_vec())
            }
        })
    }

    /// Gives each rank its part of the root's numbers, the first of as many equal parts as there are ranks to rank 0; what
    /// others give is ignored. Binomial tree.
    ///
    /// # Errors
    /// [`CommError::RootGaveNothing`], [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn scatter_slice<E: Plain>(&self, root: usize, numbers: Option<&[E]>) -> Result<Vec<E>, CommError> {
        self.collective(|round| {
            let own = numbers.filter(|_| round.rank() == root);
            scatter::binomial::<Vector<E>>(round, root, own.map(<[E]>::to_vec))
        })
    }

    /// Gives each rank a part of each rank's numbers: the i-th of as many equal parts as there are ranks goes to rank i, what
    /// comes from rank i is the i-th part of the result. Bruck's algorithm if small, else pairwise.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_to_all_slice<E: Plain>(&self, numbers: &[E]) -> Result<Vec<E>, CommError> {
        self.collective(|round| {
            let n = round.size();
            let small = size_of_val(numbers) / n <= DETOUR_BYTES_MAX;
            if small && n > DIRECT_RANKS_MAX {
                all_to_all::bruck::<Vector<E>>(round, numbers.to_vec())
            } else {
                all_to_all::pairwise::<Vector<E>>(round, numbers.to_vec())
            }
        })
    }

    /// Combines the numbers of all ranks, which are equally many, in the order of ranks, and gives rank i the i-th of as many
    /// equal parts as there are ranks. Pairwise.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_scatter_slice<E: Plain>(
        &self,
        numbers: &[E],
        op: impl Fn(E, E) -> E,
    ) -> Result<Vec<E>, CommError> {
        self.collective(|round| {
            let block = numbers.len() / round.size();
            check_length(block * round.size(), numbers.len())?;
            let parts = (0..round.size()).map(|index| Vector(numbers[index * block..][..block].to_vec()));
            let Vector(sum) = reduce_scatter::pairwise(round, parts.collect(), on_vectors(op))?;
            Ok(sum)
        })
    }

    /// Combines the buffers of the ranks up to and with this one, which are of one length, in the order of ranks, in this rank's
    /// buffer. Recursive doubling.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    ///
    /// ```
    /// phalanx::ranks::run(3, |comm| {
    ///     let mut ends = [1, 10 * comm.rank()];
    ///     comm.scan_slice(&mut ends, |left, right| left + right).unwrap();
    ///     assert_eq!(ends, [[1, 0], [2, 10], [3, 30]][comm.rank()]);
    /// });
    /// ```
    pub fn scan_slice<E: Plain>(&self, buffer: &mut [E], op: impl Fn(E, E) -> E) -> Result<(), CommError> {
        self.collective(|round| {
            let own = Vector(buffer.to_vec());
            let Vector(sum) = scan::inclusive(round, own, on_vectors(op))?;
            fill(buffer, &sum)
        })
    }

    /// Combines the numbers of the ranks before this one, which are as many as its own, in the order of ranks; nothing at rank 0.
    /// Recursive doubling.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    ///
    /// ```
    /// // where each rank's lines begin in a file that all write
    /// phalanx::ranks::run(3, |comm| {
    ///     let lines = [5 + comm.rank()];
    ///     let before = comm.exscan_slice(&lines, |left, right| left + right).unwrap();
    ///     assert_eq!(before.map_or(0, |sum| sum[0]), [0, 5, 11][comm.rank()]);
    /// });
    /// ```
    pub fn exscan_slice<E: Plain>(
        &self,
        numbers: &[E],
        op: impl Fn(E, E) -> E,
    ) -> Result<Option<Vec<E>>, CommError> {
        self.collective(|round| {
            let own = Vector(numbers.to_vec());
            let sum = scan::exclusive(round, own, on_vectors(op))?;
            Ok(sum.map(|Vector(sum)| sum))
        })
    }
}
