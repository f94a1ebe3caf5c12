//! Gangs: jobs whose tasks are ranks, which are placed all or none. Rank `r` is task `r`; what each needs is the job's
//! request, as for any task.

mod peers;

use serde::{Deserialize, Serialize};

pub use self::peers::{Peers, PeersError, host_name};
use crate::id::WorkerId;
use crate::range::{IndexRange, RangeSet};

/// Ranks of one gang.
pub const RANKS_MAX: u64 = 4096;

/// How the ranks of a job stand together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    /// Ranks of each node. Of a gang that does not say how many nodes it wants, as many on all but the last; of one that
    /// does, the most that a node may have. As many as there is room for, if absent.
    pub ranks_per_node: Option<u32>,
    /// Nodes that it runs on, with ranks spread evenly over them; as few as have room, if absent.
    pub nodes: Option<u32>,
    /// Which rank is on which node.
    pub map: RankMap,
    /// What becomes of it when a rank or its worker is lost.
    pub on_loss: OnLoss,
}

/// Which rank of a gang is on which of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RankMap {
    /// The first ranks on the first node, the next on the second.
    #[default]
    Block,
    /// Rank after rank on node after node, as long as each has room.
    Cyclic,
    /// The node of each rank, by its position among the gang's nodes.
    Explicit(Vec<u32>),
    /// One on each of as many nodes as there are ranks. The first leads: the gang has ended as it has, and the others only keep
    /// their nodes for it.
    Led,
}

/// What becomes of a gang that loses a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnLoss {
    /// It has failed.
    Fail,
    /// All its ranks start again, in its next epoch, as often as the job's retries allow.
    #[default]
    Restart,
    /// The ranks that are left go on, and what they return is the job's result; the lost ones have failed, the job has not. If none
    /// is left, all start again.
    Shrink,
    /// Only the lost ranks start again, wherever there is room; the others run on and meet them in the gang's next epoch. If none
    /// is left, or some have returned already, all start again.
    Respawn,
}

/// How many ranks each node gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// As there is room.
    Any,
    /// So many on each, in the order of nodes.
    Nodes(Vec<u32>),
}

/// Why a gang is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GangError {
    /// Fewer or more ranks than a gang may have.
    #[error("a gang has 1 to {RANKS_MAX} ranks, this one has {ranks}")]
    Ranks {
        /// How many were asked for.
        ranks: u64,
    },
    /// A part of the shape that is 0.
    #[error("the number of {what} is 0")]
    Zero {
        /// Which part.
        what: String,
    },
    /// More nodes than ranks.
    #[error("{ranks} ranks cannot be spread over {nodes} nodes: some would have none")]
    TooManyNodes {
        /// How many ranks there are.
        ranks: u64,
        /// How many nodes were asked for.
        nodes: u32,
    },
    /// More ranks than may be on the nodes.
    #[error("{ranks} ranks do not fit on {nodes} nodes with at most {ranks_per_node} on each")]
    TooFewNodes {
        /// How many ranks there are.
        ranks: u64,
        /// How many nodes were asked for.
        nodes: u32,
        /// The most that each may have.
        ranks_per_node: u32,
    },
    /// A map that does not say of each rank where it is.
    #[error("the rank map names the nodes of {named} ranks, the gang has {ranks}")]
    MapLength {
        /// How many it names.
        named: usize,
        /// How many there are.
        ranks: u64,
    },
    /// A map that leaves a node without ranks.
    #[error("the rank map puts no rank on node {node}, and some on later ones")]
    MapGap {
        /// Which, from 0.
        node: u32,
    },
    /// A map that contradicts the shape.
    #[error(
        "the rank map uses {mapped} nodes with up to {fullest} ranks, which is not what else was asked for"
    )]
    MapShape {
        /// Nodes that it uses.
        mapped: u32,
        /// Most ranks on one of them.
        fullest: u32,
    },
    /// A led gang that says otherwise where its ranks are.
    #[error("of a gang that is led one rank is on each node: it has no other shape")]
    LedShape,
    /// Kernels lead no others.
    #[error("a gang of kernels is not led: all of its ranks run")]
    LedKernels,
    /// Programs cannot go on without some of their ranks.
    #[error("programs cannot go on when they lose a rank: a gang of commands fails or restarts then")]
    CannotGoOn,
    /// What makes no sense of tasks that run together.
    #[error(
        "the ranks of a gang run together and once, all in one way: {what} is for tasks that run one by one"
    )]
    NotForRanks {
        /// What was asked for.
        what: String,
    },
}

impl Gang {
    /// Checks the shape of a gang of so many ranks.
    ///
    /// # Errors
    /// The first [`GangError`] found.
    pub fn check(&self, ranks: u64) -> Result<(), GangError> {
        if ranks == 0 || ranks > RANKS_MAX {
            return Err(GangError::Ranks { ranks });
        }
        let parts = [("ranks of each node", self.ranks_per_node), ("nodes", self.nodes)];
        if let Some((what, _)) = parts.into_iter().find(|(_, part)| *part == Some(0)) {
            let what = what.to_owned();
            return Err(GangError::Zero { what });
        }
        if let Some(nodes) = self.nodes.filter(|&nodes| u64::from(nodes) > ranks) {
            return Err(GangError::TooManyNodes { ranks, nodes });
        }
        if let (Some(nodes), Some(ranks_per_node)) = (self.nodes, self.ranks_per_node)
            && u64::from(nodes) * u64::from(ranks_per_node) < ranks
        {
            return Err(GangError::TooFewNodes {
                ranks,
                nodes,
                ranks_per_node,
            });
        }
        match &self.map {
            RankMap::Block | RankMap::Cyclic => Ok(()),
            RankMap::Explicit(nodes) => self.check_map(nodes, ranks),
            RankMap::Led if self.nodes.is_some() || self.ranks_per_node.is_some() => Err(GangError::LedShape),
            RankMap::Led => Ok(()),
        }
    }

    /// Whether its first rank leads.
    pub fn is_led(&self) -> bool {
        self.map == RankMap::Led
    }

    fn check_map(&self, nodes: &[u32], ranks: u64) -> Result<(), GangError> {
        let named = nodes.len();
        if named as u64 != ranks {
            return Err(GangError::MapLength { named, ranks });
        }
        let mapped = nodes
            .iter()
            .map(|&node| node.saturating_add(1))
            .max()
            .unwrap_or(0);
        let gap = (0..mapped).find(|node| !nodes.contains(node));
        if let Some(node) = gap {
            return Err(GangError::MapGap { node });
        }
        let fullest = counts(nodes).into_iter().max().unwrap_or(0);
        let other_nodes = self.nodes.is_some_and(|nodes| nodes != mapped);
        if other_nodes || self.ranks_per_node.is_some_and(|most| most < fullest) {
            return Err(GangError::MapShape { mapped, fullest });
        }
        Ok(())
    }

    /// How many of its ranks each node gets; of a gang that was checked.
    pub fn shape(&self, ranks: u64) -> Shape {
        let ranks = u32::try_from(ranks.min(RANKS_MAX)).unwrap_or(u32::MAX);
        if let RankMap::Explicit(nodes) = &self.map {
            return Shape::Nodes(counts(nodes));
        }
        if self.is_led() {
            return Shape::Nodes(vec![1; ranks as usize]);
        }
        match (self.nodes, self.ranks_per_node) {
            (Some(nodes), _) => {
                let (each, more) = (ranks / nodes.max(1), ranks % nodes.max(1));
                Shape::Nodes((0..nodes).map(|node| each + u32::from(node < more)).collect())
            }
            (None, Some(each)) => {
                let starts = (0..ranks).step_by(each.max(1) as usize);
                Shape::Nodes(starts.map(|start| each.min(ranks - start)).collect())
            }
            (None, None) => Shape::Any,
        }
    }

    /// The node of each rank, given how many each has.
    pub fn assign(&self, counts: &[u32]) -> Vec<u32> {
        let nodes = || (0..).zip(counts).map(|(node, &count)| (node, count));
        match &self.map {
            RankMap::Explicit(nodes) => nodes.clone(),
            RankMap::Block | RankMap::Led => nodes()
                .flat_map(|(node, count)| std::iter::repeat_n(node, count as usize))
                .collect(),
            RankMap::Cyclic => {
                let rounds = 0..counts.iter().copied().max().unwrap_or(0);
                let round = |round| nodes().filter(move |&(_, count)| count > round);
                rounds.flat_map(round).map(|(node, _)| node).collect()
            }
        }
    }
}

/// How often each node occurs.
fn counts(nodes: &[u32]) -> Vec<u32> {
    let mut counts = Vec::new();
    for &node in nodes {
        let node = node as usize;
        if counts.len() <= node {
            counts.resize(node + 1, 0);
        }
        counts[node] += 1;
    }
    counts
}

/// Where the ranks of a gang are in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Which start of the gang, or of ranks that it lost, this is, from 1.
    pub epoch: u32,
    /// Its nodes; at most one for each rank.
    pub nodes: Vec<GangNode>,
    /// The node of each rank, by its position in `nodes`; at most [`RANKS_MAX`].
    pub node_of: Vec<u32>,
    /// Whether the first rank leads, and the others only keep their nodes ([`RankMap::Led`]).
    pub is_led: bool,
    /// Ranks that start with this epoch; the others run on from the epoch before.
    pub starting: RangeSet,
    /// Whether the ranks that are left of a loss run on to a later epoch.
    pub respawns: bool,
}

/// A node of a gang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GangNode {
    /// Its worker.
    pub worker: WorkerId,
    /// Where that is, as the scheduler sees it.
    pub address: String,
    /// What people call it.
    pub name: String,
}

impl Placement {
    /// The ranks of each node, in the order of nodes.
    pub fn ranks_by_node(&self) -> Vec<RangeSet> {
        let mut ranks = vec![RangeSet::new(); self.nodes.len()];
        for (rank, &node) in (0..).zip(&self.node_of) {
            if let Some(ranks) = ranks.get_mut(node as usize) {
                ranks.insert(IndexRange::new(rank, rank + 1));
            }
        }
        ranks
    }

    /// How many ranks each worker has, in the order of nodes.
    pub fn counts(&self) -> Vec<(WorkerId, u32)> {
        let counts = counts(&self.node_of).into_iter();
        let nodes = self.nodes.iter().map(|node| node.worker);
        nodes.zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gang(nodes: Option<u32>, ranks_per_node: Option<u32>, map: RankMap) -> Gang {
        Gang {
            ranks_per_node,
            nodes,
            map,
            on_loss: OnLoss::Restart,
        }
    }

    #[test]
    fn ranks_are_spread_evenly_or_fill_node_after_node() {
        let shape = |nodes, each, ranks| gang(nodes, each, RankMap::Block).shape(ranks);
        assert_eq!(shape(Some(2), None, 5), Shape::Nodes(vec![3, 2]));
        assert_eq!(shape(None, Some(2), 5), Shape::Nodes(vec![2, 2, 1]));
        assert_eq!(shape(Some(2), Some(4), 5), Shape::Nodes(vec![3, 2]));
        assert_eq!(shape(None, None, 5), Shape::Any);
    }

    #[test]
    fn of_a_led_gang_one_rank_is_on_each_node() {
        let led = gang(None, None, RankMap::Led);
        assert_eq!(led.check(3), Ok(()));
        assert_eq!(led.shape(3), Shape::Nodes(vec![1, 1, 1]));
        assert_eq!(led.assign(&[1, 1, 1]), [0, 1, 2]);
        for other in [
            gang(Some(2), None, RankMap::Led),
            gang(None, Some(1), RankMap::Led),
        ] {
            assert_eq!(other.check(2), Err(GangError::LedShape));
        }
    }

    #[test]
    fn maps_say_which_rank_is_where() {
        let assign = |map| gang(None, None, map).assign(&[3, 1]);
        assert_eq!(assign(RankMap::Block), [0, 0, 0, 1]);
        assert_eq!(assign(RankMap::Cyclic), [0, 1, 0, 0]);
        let explicit = gang(None, None, RankMap::Explicit(vec![1, 0, 0, 0]));
        assert_eq!(explicit.shape(4), Shape::Nodes(vec![3, 1]));
        assert_eq!(explicit.assign(&[3, 1]), [1, 0, 0, 0]);
        let placement = Placement {
            epoch: 1,
            nodes: [4, 7]
                .map(|worker| GangNode {
                    worker: WorkerId(worker),
                    address: String::new(),
                    name: String::new(),
                })
                .to_vec(),
            node_of: assign(RankMap::Cyclic),
            is_led: false,
            starting: IndexRange::new(0, 4).into(),
            respawns: false,
        };
        assert_eq!(placement.counts(), [(WorkerId(4), 3), (WorkerId(7), 1)]);
        let first: Vec<IndexRange> = placement.ranks_by_node()[0].iter().collect();
        assert_eq!(first, [IndexRange::new(0, 1), IndexRange::new(2, 4)]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let explicit = |nodes: &[u32]| RankMap::Explicit(nodes.to_vec());
        for (gang, ranks, said) in [
            (gang(None, None, RankMap::Block), 0, "1 to 4096 ranks"),
            (gang(Some(0), None, RankMap::Block), 2, "number of nodes is 0"),
            (
                gang(Some(3), None, RankMap::Block),
                2,
                "2 ranks cannot be spread over 3",
            ),
            (
                gang(Some(2), Some(1), RankMap::Block),
                3,
                "3 ranks do not fit on 2 nodes",
            ),
            (gang(None, None, explicit(&[0])), 2, "nodes of 1 ranks"),
            (gang(None, None, explicit(&[0, 2])), 2, "no rank on node 1"),
            (
                gang(Some(2), None, explicit(&[0, 0])),
                2,
                "uses 1 nodes with up to 2",
            ),
        ] {
            let error = gang.check(ranks).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(gang(Some(2), Some(2), explicit(&[1, 0, 1])).check(3), Ok(()));
    }
}
