//! Operations that are called after each other: what each is to give, and that nobody leaves a barrier too early.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use phalanx::Communicator;
use phalanx::ranks::CommError;

use super::joined;

/// In which turn each rank has come to a barrier.
pub(super) struct Come(Mutex<Vec<usize>>);

impl Come {
    pub(super) fn nobody(ranks: usize) -> Self {
        Self(vec![0; ranks].into())
    }

    /// Goes through a barrier, and sees that nobody is behind.
    pub(super) fn pass(&self, comm: &Communicator, turn: usize) -> Result<(), CommError> {
        self.all()[comm.rank()] = turn;
        comm.barrier()?;
        let come = self.all().clone();
        assert!(
            come.iter().all(|&theirs| theirs >= turn),
            "left in turn {turn}: {come:?}"
        );
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// One of those that are called after each other, with what tells from whom and for whom it is, and in which turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Barrier,
    Broadcast,
    Reduce,
    AllReduce,
    Gather,
    AllGather,
    Scatter,
    AllToAll,
    ReduceScatter,
    Scan,
    Exscan,
}

pub(super) const OPERATIONS: [Operation; 11] = [
    Operation::Barrier,
    Operation::Broadcast,
    Operation::Reduce,
    Operation::AllReduce,
    Operation::Gather,
    Operation::AllGather,
    Operation::Scatter,
    Operation::AllToAll,
    Operation::ReduceScatter,
    Operation::Scan,
    Operation::Exscan,
];

impl Operation {
    /// What this rank gets.
    pub(super) fn perform(
        self,
        comm: &Communicator,
        turn: usize,
        root: usize,
        come: &Come,
    ) -> Result<Vec<String>, CommError> {
        let own = comm.rank();
        let word = |to| word(turn, own, to);
        let words = || (0..comm.size()).map(word).collect::<Vec<_>>();
        let at_root = own == root;
        Ok(match self {
            Operation::Barrier => {
                come.pass(comm, turn)?;
                Vec::new()
            }
            Operation::Broadcast => vec![comm.broadcast(root, at_root.then(|| word(own)))?],
            Operation::Reduce => Vec::from_iter(comm.reduce(root, word(own), joined)?),
            Operation::AllReduce => vec![comm.all_reduce(word(own), joined)?],
            Operation::Gather => comm.gather(root, word(own))?.unwrap_or_default(),
            Operation::AllGather => comm.all_gather(word(own))?,
            Operation::Scatter => vec![comm.scatter(root, at_root.then(words))?],
            Operation::AllToAll => comm.all_to_all(words())?,
            Operation::ReduceScatter => vec![comm.reduce_scatter(words(), joined)?],
            Operation::Scan => vec![comm.scan(word(own), joined)?],
            Operation::Exscan => Vec::from_iter(comm.exscan(word(own), joined)?),
        })
    }

    /// What rank `own` of so many is to get.
    pub(super) fn naive(self, own: usize, ranks: usize, turn: usize, root: usize) -> Vec<String> {
        let given = |ranks: Range<usize>| ranks.map(|from| word(turn, from, from)).collect::<Vec<_>>();
        let to_own = || (0..ranks).map(|from| word(turn, from, own)).collect::<Vec<_>>();
        let at_root = own == root;
        match self {
            Operation::Barrier => Vec::new(),
            Operation::Broadcast => vec![word(turn, root, root)],
            Operation::Reduce if !at_root => Vec::new(),
            Operation::Reduce | Operation::AllReduce => vec![given(0..ranks).concat()],
            Operation::Gather if !at_root => Vec::new(),
            Operation::Gather | Operation::AllGather => given(0..ranks),
            Operation::Scatter => vec![word(turn, root, own)],
            Operation::AllToAll => to_own(),
            Operation::ReduceScatter => vec![to_own().concat()],
            Operation::Scan => vec![given(0..own + 1).concat()],
            Operation::Exscan if own == 0 => Vec::new(),
            Operation::Exscan => vec![given(0..own).concat()],
        }
    }
}

fn word(turn: usize, from: usize, to: usize) -> String {
    format!("<{turn}: {from} to {to}>")
}
