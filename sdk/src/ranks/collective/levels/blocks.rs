//! The operations in two levels that move blocks, of which each rank gives or gets one or one for each rank: a block crosses the
//! network once, beside those of its neighbours.

use super::super::cargo::List;
use super::super::{Round, all_gather, broadcast, check_length, gather, reduce, reduce_scatter, scatter};
use super::Levels;
use crate::ranks::error::CommError;

impl Levels {
    /// Gives all ranks all ranks' items, of which all have the same number.
    pub(in super::super) fn all_gather<L: List<Item: Clone> + Clone>(
        &self,
        round: &Round<'_>,
        own: Vec<L::Item>,
    ) -> Result<L, CommError> {
        let block = own.len();
        let within = self.within(round);
        let mut all = None;
        let of_node = gather::direct::<L>(&within, 0, own)?;
        if let (Some(between), Some(of_node)) = (round.among(&self.leaders), of_node) {
            let count = |node: usize| self.nodes[node].len() * block;
            let by_node = all_gather::bruck::<L>(&between, of_node, count)?;
            all = Some(L::wrap(self.by_rank(by_node, block)));
        }
        broadcast::binomial(&within, 0, all)
    }

    /// Gives each rank its part of all ranks' items, combined in the order of ranks; of use only if they are in order.
    pub(in super::super) fn reduce_scatter<L: List>(
        &self,
        round: &Round<'_>,
        items: Vec<L::Item>,
        combine: impl Fn(L, L) -> Result<L, CommError>,
    ) -> Result<Vec<L::Item>, CommError> {
        let block = scatter::part_of(items.len(), round.size())?;
        let within = self.within(round);
        let of_node = reduce::binomial(&within, 0, L::wrap(items), &combine)?;
        let mut own = None;
        if let (Some(between), Some(of_node)) = (round.among(&self.leaders), of_node) {
            let mut rest = of_node.items().into_iter();
            let parts = self.nodes.iter().map(|ranks| {
                let part = rest.by_ref().take(ranks.len() * block);
                L::wrap(part.collect())
            });
            let parts = parts.collect();
            own = Some(reduce_scatter::pairwise(&between, parts, &combine)?.items());
        }
        let own = scatter::direct::<L>(&within, 0, own)?;
        check_length(block, own.len())?;
        Ok(own)
    }

    /// Gives each rank its part of each rank's items; all give the same number to all.
    pub(in super::super) fn all_to_all<L: List>(
        &self,
        round: &Round<'_>,
        items: Vec<L::Item>,
    ) -> Result<Vec<L::Item>, CommError> {
        let block = scatter::part_of(items.len(), round.size())?;
        let within = self.within(round);
        let of_node = gather::direct::<L>(&within, 0, self.by_node(items, block))?;
        let mut for_node = None;
        if let (Some(between), Some(of_node)) = (round.among(&self.leaders), of_node) {
            let came = self.exchange::<L>(&between, of_node, block)?;
            for_node = Some(transposed(came, within.size(), block));
        }
        let own = scatter::direct::<L>(&within, 0, for_node)?;
        check_length(round.size() * block, own.len())?;
        Ok(self.by_rank(own, block))
    }

    /// What the ranks of a node give, one after the other to all, for what all give to them.
    fn exchange<L: List>(
        &self,
        between: &Round<'_>,
        of_node: Vec<L::Item>,
        block: usize,
    ) -> Result<Vec<L::Item>, CommError> {
        let own = between.rank();
        let n_here = self.nodes[own].len();
        let mut rest = of_node.into_iter();
        let mut parts: Vec<Vec<L::Item>> = self.nodes.iter().map(|_| Vec::new()).collect();
        for _ in 0..n_here {
            for (part, ranks) in parts.iter_mut().zip(&self.nodes) {
                part.extend(rest.by_ref().take(ranks.len() * block));
            }
        }
        for to in (1..between.size()).map(|step| between.ahead(step)) {
            between.send(to, L::wrap(std::mem::take(&mut parts[to])))?;
        }
        for from in (0..between.size()).filter(|&from| from != own) {
            parts[from] = between.receive::<L>(from)?.items();
            check_length(self.nodes[from].len() * n_here * block, parts[from].len())?;
        }
        Ok(parts.into_iter().flatten().collect())
    }

    /// Blocks that are in the order of nodes, in that of ranks.
    fn by_rank<T>(&self, items: Vec<T>, block: usize) -> Vec<T> {
        if self.in_order {
            return items;
        }
        let mut rest = items.into_iter();
        let mut blocks: Vec<Vec<T>> = (0..self.n_ranks()).map(|_| Vec::new()).collect();
        for &rank in self.nodes.iter().flatten() {
            blocks[rank] = rest.by_ref().take(block).collect();
        }
        blocks.into_iter().flatten().collect()
    }

    /// Blocks that are in the order of ranks, in that of nodes.
    fn by_node<T>(&self, items: Vec<T>, block: usize) -> Vec<T> {
        if self.in_order {
            return items;
        }
        let mut rest = items.into_iter();
        let blocks = (0..self.n_ranks()).map(|_| rest.by_ref().take(block).collect());
        let mut blocks: Vec<Vec<T>> = blocks.collect();
        let ranks = self.nodes.iter().flatten();
        ranks
            .flat_map(|&rank| std::mem::take(&mut blocks[rank]))
            .collect()
    }
}

/// Rows of `width` blocks, column by column.
fn transposed<T>(items: Vec<T>, width: usize, block: usize) -> Vec<T> {
    let mut columns: Vec<Vec<T>> = (0..width).map(|_| Vec::new()).collect();
    let n_rows = items.len() / (width * block).max(1);
    let mut rest = items.into_iter();
    for _ in 0..n_rows {
        for column in &mut columns {
            column.extend(rest.by_ref().take(block));
        }
    }
    columns.into_iter().flatten().collect()
}
