//! A job on several nodes: its script runs on the first, which leads, and tasks on the others keep their nodes for it. Here is
//! what the script is told of the others; who ends when is for the scheduler to say.

use std::fs;
use std::io;
use std::path::Path;

use phalanx_protocol::gang::Placement;
use phalanx_protocol::hostlist;

use super::program::Program;

/// One start of such a job.
#[derive(Debug)]
pub(super) struct Members {
    placement: Placement,
}

impl Members {
    pub(super) fn new(placement: Placement) -> Self {
        Self { placement }
    }

    /// Whether a task runs the script.
    pub(super) fn leads(&self, task: u64) -> bool {
        let node = usize::try_from(task)
            .ok()
            .and_then(|task| self.placement.node_of.get(task));
        node == Some(&0)
    }

    fn names(&self) -> Vec<&str> {
        let nodes = self.placement.nodes.iter();
        nodes.map(|node| node.name.as_str()).collect()
    }

    /// Tells the script the nodes of its job.
    pub(super) fn set(&self, program: &mut Program<'_>) {
        let (names, list) = (self.names(), hostlist::compress(&self.names()));
        for name in ["SLURM_JOB_NODELIST", "SLURM_NODELIST"] {
            program.env(name, &list);
        }
        for name in ["SLURM_JOB_NUM_NODES", "SLURM_NNODES", "PHALANX_NODES"] {
            program.env(name, names.len().to_string());
        }
    }

    /// Writes the file of nodes that scripts of PBS read, of `lines` lines, spread evenly.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn list(&self, path: &Path, lines: usize) -> io::Result<()> {
        let names = self.names();
        let (each, more) = (lines / names.len().max(1), lines % names.len().max(1));
        let of_node =
            |(node, name): (usize, &&str)| format!("{name}\n").repeat(each + usize::from(node < more));
        fs::write(path, names.iter().enumerate().map(of_node).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::gang::GangNode;
    use phalanx_protocol::{RangeSet, WorkerId};

    use super::*;

    #[test]
    fn a_job_on_three_nodes_is_led_from_the_first_and_lists_all() {
        let node = |number: u64| GangNode {
            worker: WorkerId(number),
            address: String::new(),
            name: format!("n{number}"),
        };
        let members = Members::new(Placement {
            epoch: 1,
            nodes: [1, 2, 4].map(node).to_vec(),
            node_of: vec![0, 1, 2],
            is_led: true,
            starting: RangeSet::new(),
            respawns: false,
        });
        assert_eq!(
            [0, 1, 2, 3].map(|task| members.leads(task)),
            [true, false, false, false]
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes");
        members.list(&path, 5).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "n1\nn1\nn2\nn2\nn4\n");
    }
}
