//! A job on several nodes: its script runs on the first, which leads, and tasks on the others keep their nodes for it. Here is
//! what the script is told of the others; who ends when is for the scheduler to say.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use phalanx_protocol::gang::Placement;
use phalanx_protocol::hostlist;
use phalanx_protocol::record::FailureCause;

use super::program::Program;
use super::relay::Relay;
use crate::kernel::runner::Failed;

/// One start of such a job.
#[derive(Debug)]
pub(super) struct Members {
    placement: Placement,
    /// By which steps reach its other nodes.
    relay: Option<Arc<Relay>>,
}

impl Members {
    pub(super) fn new(placement: Placement, relay: Option<Arc<Relay>>) -> Self {
        Self { placement, relay }
    }

    pub(super) fn relay(&self) -> Option<Arc<Relay>> {
        self.relay.clone()
    }

    /// What becomes of the script, which has ended like that: nobody's fault who says so, if a node was lost to it.
    pub(super) fn judge(&self, ended: Result<(), Failed>) -> Result<(), Failed> {
        let has_lost_node = self.relay.as_ref().is_some_and(|relay| relay.has_lost_node());
        match ended {
            Err((FailureCause::Exit(status), _)) if has_lost_node => {
                let message = format!("a node of its job was lost, and it exited with {status}");
                Err((FailureCause::Lost, message))
            }
            ended => ended,
        }
    }

    pub(super) fn node_count(&self) -> usize {
        self.placement.nodes.len()
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
        let placement = Placement {
            epoch: 1,
            nodes: [1, 2, 4].map(node).to_vec(),
            node_of: vec![0, 1, 2],
            is_led: true,
            starting: RangeSet::new(),
            respawns: false,
        };
        let members = Members::new(placement, None);
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
