//! The collective operations on numbers, which are never encoded; large ones are cut into parts. Operators work number by
//! number.

use super::call::Call;
use super::cargo::Vector;
use super::choice::{Algorithm, Way};
use super::vectors::{fill, on_vectors};
use super::{
    all_gather, all_reduce, all_to_all, broadcast, check_length, cutoffs, gather, reduce, reduce_scatter,
    scan, scatter,
};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;
use crate::ranks::payload::Plain;

impl Communicator {
    /// Fills the buffers of all ranks, which are of one length, from the root's. Binomial tree, on several nodes
    /// first to one rank of each; scatter and ring all_gather if large and within a node.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn broadcast_slice<E: Plain>(&self, root: usize, buffer: &mut [E]) -> Result<(), CommError> {
        self.collective(Call::Broadcast { root }, |round| {
            let bytes = Some(size_of_val(buffer));
            let way = round.choose(|shape| cutoffs::broadcast(shape, bytes));
            let own = || (round.rank() == root).then(|| Vector(buffer.to_vec()));
            let Vector(numbers) = match way {
                Way::Levels(levels) => levels.broadcast(round, root, own())?,
                Way::Flat(Algorithm::Ring) => return broadcast::scatter_ring(round, root, buffer),
                Way::Flat(_) => broadcast::binomial(round, root, own())?,
            };
            fill(buffer, &numbers)
        })
    }

    /// Combines the buffers of all ranks, which are of one length, in the order of ranks, in the root's buffer; those of the
    /// others hold anything afterwards. Binomial tree, on several nodes first within each; Rabenseifner's algorithm if large, within
    /// a node and with a core for each rank.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_slice<E: Plain>(
        &self,
        root: usize,
        buffer: &mut [E],
        op: impl Fn(E, E) -> E,
    ) -> Result<(), CommError> {
        self.collective(Call::Reduce { root }, |round| {
            let bytes = Some(size_of_val(buffer));
            let way = round.choose_in_order(|shape| cutoffs::reduce(shape, bytes));
            let own = || Vector(buffer.to_vec());
            let sum = match way {
                Way::Levels(levels) => levels.reduce(round, root, own(), on_vectors(op))?,
                Way::Flat(Algorithm::Halving) => {
                    return all_reduce::rabenseifner(round, Some(root), buffer, op);
                }
                Way::Flat(_) => reduce::binomial(round, root, own(), on_vectors(op))?,
            };
            match sum {
                Some(Vector(sum)) => fill(buffer, &sum),
                None => Ok(()),
            }
        })
    }

    /// Combines the buffers of all ranks, which are of one length, in the order of ranks, in all buffers. Recursive doubling,
    /// on several nodes between one rank of each; Rabenseifner's algorithm if large, and for a number of ranks that is no power of
    /// two one that ends in a ring.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_reduce_slice<E: Plain>(
        &self,
        buffer: &mut [E],
        op: impl Fn(E, E) -> E,
    ) -> Result<(), CommError> {
        self.collective(Call::AllReduce, |round| {
            let bytes = Some(size_of_val(buffer));
            let way = round.choose_in_order(|shape| cutoffs::all_reduce(shape, bytes));
            let own = || Vector(buffer.to_vec());
            let Vector(sum) = match way {
                Way::Levels(levels) => levels.all_reduce(round, own(), on_vectors(op))?,
                Way::Flat(Algorithm::Halving) => return all_reduce::rabenseifner(round, None, buffer, op),
                Way::Flat(Algorithm::Ring) => return all_reduce::parts_ring(round, buffer, op),
                Way::Flat(_) => all_reduce::doubling(round, own(), on_vectors(op))?,
            };
            fill(buffer, &sum)
        })
    }

    /// Gives the root the numbers of all ranks, which are equally many, in the order of ranks. All send them to the root.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn gather_slice<E: Plain>(&self, root: usize, numbers: &[E]) -> Result<Option<Vec<E>>, CommError> {
        self.collective(Call::Gather { root }, |round| {
            gather::direct::<Vector<E>>(round, root, numbers.to_vec())
        })
    }

    /// Gives all ranks the numbers of all ranks, which are equally many, in the order of ranks. Bruck's algorithm, on
    /// several nodes between one rank of each; ring if large and within a node.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_gather_slice<E: Plain>(&self, numbers: &[E]) -> Result<Vec<E>, CommError> {
        self.collective(Call::AllGather, |round| {
            let (n, own, block) = (round.size(), round.rank(), numbers.len());
            let bytes = Some(size_of_val(numbers));
            let way = round.choose(|shape| cutoffs::all_gather(shape, bytes));
            match way {
                Way::Levels(levels) => {
                    let Vector(all) = levels.all_gather(round, numbers.to_vec())?;
                    check_length(n * block, all.len())?;
                    Ok(all)
                }
                Way::Flat(Algorithm::Ring) => {
                    let part = |index: usize| index * block..(index + 1) * block;
                    let mut all = vec![E::zeroed(); n * block];
                    fill(&mut all[part(own)], numbers)?;
                    all_gather::ring(round, own, &mut all, part)?;
                    Ok(all)
                }
                Way::Flat(_) => all_gather::bruck::<Vector<E>>(round, numbers.to_vec(), |_| block),
            }
        })
    }

    /// Gives each rank its part of the root's numbers, the first of as many equal parts as there are ranks to rank 0; what
    /// others give is ignored. The root sends to all.
    ///
    /// # Errors
    /// [`CommError::RootGaveNothing`], [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn scatter_slice<E: Plain>(&self, root: usize, numbers: Option<&[E]>) -> Result<Vec<E>, CommError> {
        self.collective(Call::Scatter { root }, |round| {
            let own = numbers.filter(|_| round.rank() == root);
            scatter::direct::<Vector<E>>(round, root, own.map(<[E]>::to_vec))
        })
    }

    /// Gives each rank a part of each rank's numbers: the i-th of as many equal parts as there are ranks goes to rank i, what
    /// comes from rank i is the i-th part of the result. Pairwise; few numbers, on several nodes, by one rank of each, or by Bruck's
    /// algorithm.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn all_to_all_slice<E: Plain>(&self, numbers: &[E]) -> Result<Vec<E>, CommError> {
        self.collective(Call::AllToAll, |round| {
            let bytes = Some(size_of_val(numbers) / round.size());
            all_to_all::chosen::<Vector<E>>(round, numbers.to_vec(), bytes)
        })
    }

    /// Combines the numbers of all ranks, which are equally many, in the order of ranks, and gives rank i the i-th of as many
    /// equal parts as there are ranks. Pairwise, on several nodes between one rank of each; recursive halving if few and each rank is
    /// on a node of its own.
    ///
    /// # Errors
    /// [`CommError::WrongLength`]; else like [`Communicator::barrier`].
    pub fn reduce_scatter_slice<E: Plain>(
        &self,
        numbers: &[E],
        op: impl Fn(E, E) -> E,
    ) -> Result<Vec<E>, CommError> {
        self.collective(Call::ReduceScatter, |round| {
            let block = numbers.len() / round.size();
            check_length(block * round.size(), numbers.len())?;
            let bytes = Some(size_of_val(numbers) / round.size());
            let way = round.choose_in_order(|shape| cutoffs::reduce_scatter(shape, bytes));
            match way {
                Way::Levels(levels) => levels.reduce_scatter(round, numbers.to_vec(), on_vectors(op)),
                Way::Flat(Algorithm::Halving) => {
                    reduce_scatter::halving(round, numbers.to_vec(), on_vectors(op))
                }
                Way::Flat(_) => {
                    let parts =
                        (0..round.size()).map(|index| Vector(numbers[index * block..][..block].to_vec()));
                    let Vector(sum) = reduce_scatter::pairwise(round, parts.collect(), on_vectors(op))?;
                    Ok(sum)
                }
            }
        })
    }

    /// Combines the buffers of the ranks up to and with this one, which are of one length, in the order of ranks, in this rank's
    /// buffer. Recursive doubling, on several nodes within each and between one rank of each.
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
        self.collective(Call::Scan, |round| {
            let own = Vector(buffer.to_vec());
            let Vector(sum) = match round.choose_in_order(cutoffs::scan) {
                Way::Levels(levels) => levels.scan(round, own, on_vectors(op))?,
                Way::Flat(_) => scan::inclusive(round, own, on_vectors(op))?,
            };
            fill(buffer, &sum)
        })
    }

    /// Combines the numbers of the ranks before this one, which are as many as its own, in the order of ranks; nothing at rank 0.
    /// Like [`Communicator::scan_slice`].
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
        self.collective(Call::ExclusiveScan, |round| {
            let own = Vector(numbers.to_vec());
            let sum = match round.choose_in_order(cutoffs::scan) {
                Way::Levels(levels) => levels.exscan(round, own, on_vectors(op))?,
                Way::Flat(_) => scan::exclusive(round, own, on_vectors(op))?,
            };
            Ok(sum.map(|Vector(sum)| sum))
        })
    }
}
