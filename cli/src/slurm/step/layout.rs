//! Which rank of a step is on which of its nodes. Pure.

use phalanx_protocol::step::NodeShare;

/// A node of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepNode {
    /// Its position in the job; the script is on the first.
    pub(super) position: u32,
    pub(super) name: String,
    /// Its ranks, ascending.
    pub(super) ranks: Vec<u32>,
}

/// Where all ranks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// At least one.
    pub(super) nodes: Vec<StepNode>,
    /// By rank: the position of its node among those of the step, and its number there.
    places: Vec<(u32, u32)>,
}

/// In which order ranks are dealt out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::slurm) enum Order {
    /// Node after node.
    #[default]
    Block,
    /// Rank after rank on node after node.
    Cyclic,
    /// The node of each rank, by its position in the job, whatever else was given.
    Named(Vec<u32>),
}

impl Order {
    /// Of `--distribution`: its first word is about nodes.
    pub(in crate::slurm) fn parse(text: Option<&str>) -> Self {
        let first = text.unwrap_or_default().split([':', ',']).next();
        match first.unwrap_or_default().to_ascii_lowercase().as_str() {
            "cyclic" => Self::Cyclic,
            _ => Self::Block,
        }
    }
}

impl Layout {
    /// All of so many ranks on one node.
    pub(super) fn on_one(name: &str, ranks: u32) -> Self {
        Self::of(vec![0; ranks as usize], &[name.to_owned()])
    }

    /// The ranks of a step that has these shares of the nodes of its job, whose names these are.
    pub(super) fn new(shares: &[NodeShare], names: &[String], order: &Order) -> Self {
        let block = || {
            shares
                .iter()
                .flat_map(|share| vec![share.node; share.ranks as usize])
        };
        let nodes = match order {
            Order::Block => block().collect(),
            Order::Cyclic => {
                let rounds = 0..shares.iter().map(|share| share.ranks).max().unwrap_or(0);
                let round = |round| shares.iter().filter(move |share| share.ranks > round);
                rounds.flat_map(round).map(|share| share.node).collect()
            }
            Order::Named(nodes) => nodes.clone(),
        };
        Self::of(nodes, names)
    }

    /// Given the node of each rank.
    fn of(node_of: Vec<u32>, names: &[String]) -> Self {
        let mut positions = node_of.clone();
        positions.sort_unstable();
        positions.dedup();
        let name = |position: u32| names.get(position as usize).cloned().unwrap_or_default();
        let mut nodes: Vec<StepNode> = positions
            .iter()
            .map(|&position| StepNode {
                position,
                name: name(position),
                ranks: Vec::new(),
            })
            .collect();
        let mut places = Vec::with_capacity(node_of.len());
        for (rank, position) in (0..).zip(node_of) {
            let at = positions.partition_point(|&other| other < position);
            let ranks = &mut nodes[at].ranks;
            places.push((at as u32, ranks.len() as u32));
            ranks.push(rank);
        }
        Self { nodes, places }
    }

    /// The node of a rank among those of the step, and its number there.
    pub(super) fn place(&self, rank: u32) -> (u32, u32) {
        self.places.get(rank as usize).copied().unwrap_or_default()
    }

    pub(super) fn node(&self, rank: u32) -> &StepNode {
        &self.nodes[self.place(rank).0 as usize]
    }

    /// By rank.
    pub(super) fn node_of(&self) -> Vec<u32> {
        self.places.iter().map(|&(node, _)| node).collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(counts: &[(u32, u32)], order: &Order) -> Layout {
        let share = |&(node, ranks): &(u32, u32)| NodeShare {
            node,
            ranks,
            cpu_count: ranks,
            cpus: Vec::new(),
            gpus: Vec::new(),
        };
        let shares: Vec<NodeShare> = counts.iter().map(share).collect();
        Layout::new(&shares, &["a", "b", "c"].map(str::to_owned), order)
    }

    #[test]
    fn ranks_fill_nodes_or_go_round() {
        let block = layout(&[(0, 2), (2, 1)], &Order::parse(None));
        assert_eq!((block.node_of(), block.names()), (vec![0, 0, 1], vec!["a", "c"]));
        assert_eq!((block.place(1), block.place(2)), ((0, 1), (1, 0)));
        assert_eq!(block.node(2).position, 2);
        let cyclic = layout(&[(0, 3), (1, 1)], &Order::parse(Some("cyclic:block")));
        assert_eq!(cyclic.node_of(), [0, 1, 0, 0]);
        assert_eq!(cyclic.nodes[0].ranks, [0, 2, 3]);
        let named = layout(&[(0, 3)], &Order::Named(vec![1, 0, 1]));
        assert_eq!((named.node_of(), named.place(2)), (vec![1, 0, 1], (1, 1)));
        let one = Layout::on_one("a", 2);
        assert_eq!((one.node_of(), one.names()), (vec![0, 0], vec!["a"]));
    }
}
