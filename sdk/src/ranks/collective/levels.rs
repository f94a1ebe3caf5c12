//! Operations in two levels: among the ranks of each node, and among the *leaders*, one rank of each node. A message between
//! nodes costs a hundred times what one within a node does, so that the fewest between nodes win: over QUIC on two hosts of
//! four and of eight ranks, a barrier or an all_reduce of a number took 0.7 and 0.4 of the time that one level took. Large numbers are cut
//! into parts on one level instead, where each rank moves its share.

use super::all_reduce::doubling;
use super::cargo::{Cargo, Vector};
use super::{Round, broadcast, disseminate, reduce};
use crate::ranks::communicator::Communicator;
use crate::ranks::error::CommError;

/// Which ranks of a communicator share a node, if there are several nodes and one of them has several ranks.
#[derive(Debug)]
pub(in crate::ranks) struct Levels {
    /// The ranks of each node, ascending; nodes in the order of their first rank.
    nodes: Vec<Vec<usize>>,
    /// The first rank of each node.
    leaders: Vec<usize>,
    /// Whether each node's ranks are neighbours, so that to combine node by node keeps the order of ranks.
    in_order: bool,
}

impl Levels {
    pub(in crate::ranks) fn of(comm: &Communicator) -> Option<Self> {
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
        let is_of_use = (2..comm.size()).contains(&nodes.len());
        is_of_use.then_some(Levels {
            nodes,
            leaders,
            in_order,
        })
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

    /// Gives all ranks the root's value: first the leaders, of which the root is one in place of its node's.
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
        let root_node = self.node_of(root);
        let mut leaders = self.leaders.clone();
        leaders[root_node] = root;
        if let Some(between) = round.among(&leaders) {
            own = Some(broadcast::binomial(&between, root_node, own)?);
        }
        let node = self.node_of(round.rank());
        let ranks = &self.nodes[node];
        let source = ranks.iter().position(|&rank| rank == leaders[node]);
        broadcast::binomial(&self.within(round), source.unwrap_or_default(), own)
    }

    /// Combines all ranks' values for all; of use only if [`Levels::keeps_order`].
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

    /// Combines all ranks' values for the root; of use only if [`Levels::keeps_order`].
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

    /// Whether values may be combined node by node.
    pub(super) fn keeps_order(&self) -> bool {
        self.in_order
    }
}

impl Round<'_> {
    /// The levels of the communicator, if two are of use.
    pub(super) fn levels(&self) -> Option<&Levels> {
        self.comm.levels()
    }

    /// The levels, if two are of use to combine values in the order of ranks.
    pub(super) fn levels_in_order(&self) -> Option<&Levels> {
        self.levels().filter(|levels| levels.keeps_order())
    }
}
