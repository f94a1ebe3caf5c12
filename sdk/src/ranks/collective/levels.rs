//! Operations in two levels: among the ranks of each node, and among the *leaders*, one rank of each node (Kielmann et al. 1999). A
//! message between nodes costs a hundred times what one within a node does, so that the fewest between nodes win: over QUIC, on two
//! and four hosts with 8 ranks in all, a barrier, an all_reduce, an all_gather, an all_to_all and a reduce_scatter of a number took
//! 0.4 to 0.8 of the time that the best of one level took. Large blocks that need no combining go straight to their ranks instead.
//!
//! Here are those that move or combine one value; `blocks` has those that move blocks, `prefixes` scans.

mod blocks;
mod prefixes;

use super::all_reduce::doubling;
use super::cargo::{Cargo, Vector};
use super::{Round, broadcast, disseminate, reduce};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;

/// Which ranks of a communicator share a node.
#[derive(Debug)]
pub(in crate::ranks) struct Levels {
    /// The ranks of each node, ascending; nodes in the order of their first rank.
    nodes: Vec<Vec<usize>>,
    /// The first rank of each node.
    leaders: Vec<usize>,
    /// Whether each node's ranks are neighbours, so that to combine node by node keeps the order of ranks.
    in_order: bool,
}

/// Ranks that speak for their nodes.
struct Leaders {
    /// By node.
    ranks: Vec<usize>,
    /// The node of the one that an operation starts from or ends at.
    root_node: usize,
}

impl Levels {
    pub(in crate::ranks) fn of(comm: &Communicator) -> Self {
        let gang = comm.endpoint().gang();
        let mut numbers: Vec<u32> = Vec::new();
        let mut nodes: Vec<Vec<usize>> = Vec::new();
        for (rank, &place) in comm.group().places().iter().enumerate() {
            let node = gang.node(place);
            match numbers.iter().position(|&number| number == node) {
                Some(known) => nodes[known].push(rank),
                None => {
                    numbers.push(node);
                    nodes.push(vec![rank]);
                }
            }
        }
        let leaders: Vec<usize> = nodes.iter().filter_map(|ranks| ranks.first().copied()).collect();
        let in_order = nodes.iter().flatten().copied().eq(0..comm.size());
        Levels {
            nodes,
            leaders,
            in_order,
        }
    }

    pub(super) fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    fn n_ranks(&self) -> usize {
        self.nodes.iter().map(Vec::len).sum()
    }

    /// These, if there are several nodes and one of them has several ranks.
    pub(super) fn of_use(&self) -> Option<&Self> {
        (2..self.n_ranks()).contains(&self.n_nodes()).then_some(self)
    }

    /// These, if they are of use where values are combined in the order of ranks.
    pub(super) fn of_use_in_order(&self) -> Option<&Self> {
        self.of_use().filter(|levels| levels.in_order)
    }

    /// Which node a rank is on.
    fn node_of(&self, rank: usize) -> usize {
        let found = self.nodes.iter().position(|ranks| ranks.contains(&rank));
        found.unwrap_or_default()
    }

    /// The part of the operation among the ranks of this rank's node.
    fn within<'a>(&'a self, round: &'a Round<'_>) -> Round<'a> {
        let own = &self.nodes[self.node_of(round.rank())];
        round.among(own).expect("a rank is on its own node")
    }

    pub(super) fn barrier(&self, round: &Round<'_>) -> Result<(), CommError> {
        let within = self.within(round);
        let nothing = || Vector::<u8>(Vec::new());
        reduce::binomial(&within, 0, nothing(), |left, _| Ok(left))?;
        if let Some(between) = round.among(&self.leaders) {
            disseminate(&between)?;
        }
        broadcast::binomial(&within, 0, Some(nothing())).map(|_| ())
    }

    /// One rank of each node: the leaders, but the root in place of its node's.
    fn leaders_with(&self, root: usize) -> Leaders {
        let root_node = self.node_of(root);
        let mut ranks = self.leaders.clone();
        ranks[root_node] = root;
        Leaders { ranks, root_node }
    }

    /// Gives all ranks the root's value: first one rank of each node.
    pub(super) fn broadcast<C: Cargo + Clone>(
        &self,
        round: &Round<'_>,
        root: usize,
        own: Option<C>,
    ) -> Result<C, CommError> {
        round.check_root(root)?;
        let mut own = own.filter(|_| round.rank() == root);
        if round.rank() == root && own.is_none() {
            return Err(CommError::RootGaveNothing { root });
        }
        let leaders = self.leaders_with(root);
        if let Some(between) = round.among(&leaders.ranks) {
            own = Some(broadcast::binomial(&between, leaders.root_node, own)?);
        }
        let source = self.seat_of_leader(&leaders, round.rank());
        broadcast::binomial(&self.within(round), source, own)
    }

    /// Which of the ranks of a rank's node leads it.
    fn seat_of_leader(&self, leaders: &Leaders, rank: usize) -> usize {
        let node = self.node_of(rank);
        let seat = self.nodes[node]
            .iter()
            .position(|&rank| rank == leaders.ranks[node]);
        seat.unwrap_or_default()
    }

    /// Combines all ranks' values for all; of use only if they are in order.
    pub(super) fn all_reduce<C: Cargo + Clone>(
        &self,
        round: &Round<'_>,
        own: C,
        combine: impl Fn(C, C) -> Result<C, CommError>,
    ) -> Result<C, CommError> {
        let within = self.within(round);
        let mut sum = reduce::binomial(&within, 0, own, &combine)?;
        if let Some(between) = round.among(&self.leaders) {
            sum = sum.map(|sum| doubling(&between, sum, &combine)).transpose()?;
        }
        broadcast::binomial(&within, 0, sum)
    }

    /// Combines all ranks' values for the root; of use only if they are in order.
    pub(super) fn reduce<C: Cargo>(
        &self,
        round: &Round<'_>,
        root: usize,
        own: C,
        combine: impl Fn(C, C) -> Result<C, CommError>,
    ) -> Result<Option<C>, CommError> {
        round.check_root(root)?;
        let mut sum = reduce::binomial(&self.within(round), 0, own, &combine)?;
        let node = self.node_of(root);
        if let (Some(between), Some(own)) = (round.among(&self.leaders), sum.take()) {
            sum = reduce::binomial(&between, node, own, &combine)?;
        }
        let leader = self.leaders[node];
        match sum {
            Some(sum) if leader != root => round.send(root, sum).map(|()| None),
            None if leader != root && round.rank() == root => round.receive(leader).map(Some),
            sum => Ok(sum),
        }
    }
}
