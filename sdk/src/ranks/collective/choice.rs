//! Which algorithm an operation takes: what `cutoffs` say of the shape of its communicator and the size of what it moves, or what
//! somebody insists on.

use std::cell::{Cell, OnceCell};

use super::Round;
use super::levels::Levels;
use crate::ranks::communicator::Communicator;

/// The algorithms of collective operations, by what they have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Along a binomial tree.
    Tree,
    /// From whoever has something to whomever it is for.
    Direct,
    /// With one other rank in each of log2(n) steps: of all that there is, or of all that has come so far.
    Doubling,
    /// Likewise, with half as much in each step.
    Halving,
    /// In parts, from each rank to the next.
    Ring,
    /// Among the ranks of each node, and among one rank of each.
    Levels,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 6] = [
        Algorithm::Tree,
        Algorithm::Direct,
        Algorithm::Doubling,
        Algorithm::Halving,
        Algorithm::Ring,
        Algorithm::Levels,
    ];
}

/// What an algorithm is chosen by; all ranks of a communicator have the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub ranks: usize,
    pub nodes: usize,
    /// Whether the operation can be done in two levels.
    pub levels: bool,
    /// Whether each rank of a node has a core.
    pub core_each: bool,
}

impl Shape {
    pub(super) fn is_one_node(self) -> bool {
        self.nodes == 1
    }

    /// Two levels, if there are such.
    pub(super) fn levels_or(self, otherwise: Algorithm) -> Algorithm {
        if self.levels { Algorithm::Levels } else { otherwise }
    }
}

/// What is to be done.
pub(super) enum Way<'a> {
    Levels(&'a Levels),
    Flat(Algorithm),
}

/// What the collective operations of a communicator go by.
#[derive(Default)]
pub(in crate::ranks) struct Conduct {
    /// Which ranks share nodes, once that was asked for.
    levels: OnceCell<Levels>,
    /// What they are to take, if somebody insists.
    algorithm: Cell<Option<Algorithm>>,
}

impl Round<'_> {
    fn levels(&self) -> &Levels {
        let levels = &self.comm.conduct().levels;
        levels.get_or_init(|| Levels::of(self.comm))
    }

    /// The way of an operation: `own` says which algorithm suits.
    pub(super) fn choose(&self, own: impl FnOnce(Shape) -> Algorithm) -> Way<'_> {
        self.way(self.levels().of_use(), own)
    }

    /// The same for an operation that combines values in the order of ranks.
    pub(super) fn choose_in_order(&self, own: impl FnOnce(Shape) -> Algorithm) -> Way<'_> {
        self.way(self.levels().of_use_in_order(), own)
    }

    fn way<'a>(&'a self, levels: Option<&'a Levels>, own: impl FnOnce(Shape) -> Algorithm) -> Way<'a> {
        let algorithm = self.comm.conduct().algorithm.get().unwrap_or_else(|| {
            own(Shape {
                ranks: self.size(),
                nodes: self.levels().n_nodes(),
                levels: levels.is_some(),
                core_each: self.comm.endpoint().mailbox().bell().listens(),
            })
        });
        self.signature.set(self.signature.get().with(algorithm));
        match levels {
            Some(levels) if algorithm == Algorithm::Levels => Way::Levels(levels),
            _ => Way::Flat(algorithm),
        }
    }
}

impl Communicator {
    /// Lets the collective operations of this communicator take that algorithm, whatever their sizes, or their simplest if they have no
    /// such; nothing, and each takes its own choice again. For measurements and tests: all ranks call it between the same
    /// operations.
    #[doc(hidden)]
    pub fn insist_on(&self, algorithm: Option<Algorithm>) {
        self.conduct().algorithm.set(algorithm);
    }
}
