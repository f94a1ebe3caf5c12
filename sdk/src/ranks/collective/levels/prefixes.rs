//! Prefixes in two levels: of the ranks of each node, and what comes before the node. Of use only if they are in order.

use super::super::cargo::Cargo;
use super::super::{Round, broadcast, scan};
use super::Levels;
use crate::ranks::error::CommError;

impl Levels {
    /// Combines for each rank the values of the ranks up to and with it.
    pub(in super::super) fn scan<C: Cargo + Clone>(
        &self,
        round: &Round<'_>,
        own: C,
        combine: impl Fn(C, C) -> Result<C, CommError>,
    ) -> Result<C, CommError> {
        let sum = scan::inclusive(&self.within(round), own, &combine)?;
        match self.before_node(round, &sum, &combine)? {
            Some(before) => combine(before, sum),
            None => Ok(sum),
        }
    }

    /// Combines for each rank the values of the ranks before it; nothing at rank 0.
    pub(in super::super) fn exscan<C: Cargo + Clone>(
        &self,
        round: &Round<'_>,
        own: C,
        combine: impl Fn(C, C) -> Result<C, CommError>,
    ) -> Result<Option<C>, CommError> {
        let (before, sum) = scan::both(&self.within(round), own, &combine)?;
        match (self.before_node(round, &sum, &combine)?, before) {
            (Some(before_node), Some(before)) => combine(before_node, before).map(Some),
            (before_node, before) => Ok(before_node.or(before)),
        }
    }

    /// What the ranks before those of this node give, combined, if there are some. `sum` is that of the ranks of the node up to and
    /// with this one.
    fn before_node<C: Cargo + Clone>(
        &self,
        round: &Round<'_>,
        sum: &C,
        combine: impl Fn(C, C) -> Result<C, CommError>,
    ) -> Result<Option<C>, CommError> {
        // the last of a node has the node's sum
        let last: Vec<usize> = self
            .nodes
            .iter()
            .filter_map(|ranks| ranks.last().copied())
            .collect();
        let mut before = None;
        if let Some(between) = round.among(&last) {
            before = scan::exclusive(&between, sum.clone(), combine)?;
        }
        if self.node_of(round.rank()) == 0 {
            return Ok(None);
        }
        let within = self.within(round);
        broadcast::binomial(&within, within.size() - 1, before).map(Some)
    }
}
