//! Which ranks share a node, and how MPI libraries read that.

/// Bytes of a mapping, which leave room in a line for the rest of an answer.
const MAPPING_BYTES_MAX: usize = 900;

/// Which ranks are where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The node of each rank, from 0.
    pub node_of: Vec<u32>,
}

/// Ranks that follow each other: so many on each of so many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: u32,
    nodes: u32,
    ranks: u32,
}

impl Layout {
    /// All ranks on one node.
    pub fn one_node(ranks: u32) -> Self {
        Self {
            node_of: vec![0; ranks as usize],
        }
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.node_of.iter().max().map_or(0, |&last| last as usize + 1)
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        for run in self.node_of.chunk_by(|one, next| one == next) {
            let (node, ranks) = (run[0], run.len() as u32);
            match blocks.last_mut() {
                Some(last) if last.ranks == ranks && last.first + last.nodes == node => last.nodes += 1,
                Some(_) | None => blocks.push(Block {
                    first: node,
                    nodes: 1,
                    ranks,
                }),
            }
        }
        blocks
    }

    /// As MPI libraries read it: `(vector,(first node,nodes,ranks on each),..)`, which begins anew for ranks that are left
    /// over. `None` if no line has room for it: then they compare the names of their nodes.
    pub(crate) fn mapping(&self) -> Option<String> {
        let blocks = self.blocks();
        let repeats = |period: usize| {
            blocks
                .iter()
                .zip(&blocks[period..])
                .all(|(one, next)| one == next)
        };
        let period = (1..=blocks.len()).find(|&period| repeats(period)).unwrap_or(0);
        let text = |block: &Block| format!("({},{},{})", block.first, block.nodes, block.ranks);
        let texts: Vec<String> = blocks[..period].iter().map(text).collect();
        let mapping = format!("(vector,{})", texts.join(","));
        (mapping.len() <= MAPPING_BYTES_MAX).then_some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_says_who_shares_a_node_in_blocks_that_repeat() {
        let mapping = |node_of: &[u32]| {
            let node_of = node_of.to_vec();
            Layout { node_of }.mapping()
        };
        for (node_of, expected) in [
            (&[0, 0, 0, 0][..], "(vector,(0,1,4))"),
            (&[0, 0, 1, 1, 2, 2], "(vector,(0,3,2))"),
            (&[0, 0, 0, 1, 1, 1, 2, 2], "(vector,(0,2,3),(2,1,2))"),
            (&[0, 1, 2, 0, 1, 2], "(vector,(0,3,1))"),
            (&[0, 1, 0, 0], "(vector,(0,2,1),(0,1,2))"),
            (&[1, 0, 0, 1], "(vector,(1,1,1),(0,1,2))"),
        ] {
            assert_eq!(mapping(node_of).as_deref(), Some(expected));
        }
        let unruly: Vec<u32> = (0..2000_u32).map(|rank| rank * rank / 97 % 11).collect();
        assert_eq!(mapping(&unruly), None, "libraries compare names then");
    }
}
