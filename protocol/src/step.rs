//! What the launcher of a step (`srun`, `mpiexec` in a script) and the host that runs the script say to each other.
//!
//! Over a stream socket, in frames of a length (`u32`, little-endian) and that many bytes. The launcher sends one
//! [`FromStep::Request`]; the host answers with [`ToStep::Waiting`] if the cpus are in use, and with [`ToStep::Granted`] or
//! [`ToStep::Refused`] in the end. The connection is the lease: at its end the cpus are free for the next step. A launcher that says
//! [`FromStep::Done`] before has seen all its ranks end; those of one that does not are ended.
//!
//! A connection that begins with [`FromStep::Reach`] instead starts a program on another node of the job. Once that is answered
//! with [`ToStep::Reached`], it is the program's standard input, both ways; at its end the program is ended, with its group.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Tells the launchers in a script the socket at which they ask; absent where nobody listens.
pub const STEPS_VARIABLE: &str = "PHALANX_STEPS_SOCKET";
/// The variable in which the ranks of a step find its number, with all that they start.
pub const STEP_VARIABLE: &str = "SLURM_STEP_ID";
/// Bytes of one frame from a launcher, after its length field.
pub const STEP_REQUEST_BYTES_MAX: usize = 4 << 20;
/// Bytes of one frame to a launcher, after its length field; it goes into the socket at once.
pub const STEP_ANSWER_BYTES_MAX: usize = 128 << 10;
/// Steps of one script that run or wait at a time.
pub const STEPS_MAX: usize = 16_384;

/// The signals that a launcher passes on to its ranks on other nodes when its own group is sent them: those that it can wait for,
/// by the system's numbers (SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM).
pub const PASSED_ON: [i32; 5] = [1, 2, 10, 12, 15];

/// From a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromStep {
    /// Asks for cpus; the first frame.
    Request(StepRequest),
    /// Starts a program elsewhere; the first frame, and the last.
    Reach(Box<StepReach>),
    /// All ranks have ended; the last frame.
    Done,
}

/// To a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToStep {
    /// Others have what it needs; another answer follows.
    Waiting,
    /// It may begin.
    Granted(StepGrant),
    /// It will not.
    Refused(StepRefusal),
    /// The program runs. No other frame follows.
    Reached,
}

/// A program on another node, for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReach {
    /// The task whose script asks.
    pub task: u64,
    /// The node's position in the job, from 0; not that of the script.
    pub node: u32,
    /// What runs there.
    pub program: StepProgram,
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgram {
    /// An absolute path, and arguments.
    pub words: Vec<Bytes>,
    /// Variables. What only the other node knows is set there.
    pub environment: Vec<(Bytes, Bytes)>,
    /// The working directory, absolute.
    pub directory: Bytes,
}

/// What a step needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
    /// The task whose script asks.
    pub task: u64,
    /// The step of which a rank asks, if it is not the script itself.
    pub inside: Option<u32>,
    /// How many ranks, at least 1.
    pub ranks: u32,
    /// Cpus of each, at least 1.
    pub cpus_per_rank: u32,
    /// Nodes that it is on at least; no more than it has ranks.
    pub nodes_min: u32,
    /// Ranks on one node at most; any number if 0.
    pub ranks_per_node_max: u32,
    /// The nodes that it may be on, by their positions in the job; any if there are none.
    pub only: Vec<u32>,
    /// Gpus that it has; no other step that asks for some has these.
    pub gpus: StepGpus,
    /// Which cpus it gets.
    pub extent: Extent,
    /// It neither waits for others nor do others wait for it.
    pub overlap: bool,
    /// It is refused if it would have to wait.
    pub immediate: bool,
}

/// Gpus that a step asks for; none if nothing is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepGpus {
    /// Each rank has so many; else the step on each of its nodes.
    pub per_rank: bool,
    /// How many of that type, in small letters, or of any; each at least 1.
    pub counts: Vec<(Option<String>, u32)>,
}

impl StepGpus {
    /// How many a rank has, or a node.
    pub fn count(&self) -> u32 {
        let counts = self.counts.iter().map(|&(_, count)| count);
        counts.fold(0, u32::saturating_add)
    }
}

impl fmt::Display for StepGpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (kind, count)) in self.counts.iter().enumerate() {
            let kind = kind.as_ref().map(|kind| format!(":{kind}")).unwrap_or_default();
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{count} gpu{kind}")?;
        }
        f.write_str(match self.per_rank {
            true => " for each task",
            false => " on each node",
        })
    }
}

/// Which cpus of its nodes a step gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Extent {
    /// As many as its ranks need.
    Exact,
    /// All that the job has there.
    Whole,
}

/// What a step has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepGrant {
    /// Its number in the job.
    pub step: u32,
    /// What it has on each of its nodes, ascending.
    pub shares: Vec<NodeShare>,
    /// It needs more cpus than the job has, of which it has all there are.
    pub is_overcommitted: bool,
}

/// What a step has on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node's position in the job, from 0.
    pub node: u32,
    /// Its ranks there: those that follow the ranks of the shares before.
    pub ranks: u32,
    /// How many cpus it has there, at least 1.
    pub cpu_count: u32,
    /// Which these are, by the system's numbers, ascending; empty if the job was not told which cpus it has.
    pub cpus: Vec<u32>,
    /// The gpus that it has asked for, by their positions among those of the job there; if each rank has some, rank after rank.
    pub gpus: Vec<u32>,
}

/// Why a step gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepRefusal {
    /// No such script runs here.
    #[error("task {0} does not run here")]
    NoSuchTask(u64),
    /// The job has fewer nodes.
    #[error("the step asks for {asked} nodes, and its job has {there}")]
    Nodes {
        /// So many were asked for.
        asked: u32,
        /// So many are there.
        there: u32,
    },
    /// Its nodes cannot have so many ranks, as it says itself.
    #[error("{ranks} ranks, at most {per_node} on a node, need more nodes than the {there} of the job")]
    RanksPerNode {
        /// So many were asked for.
        ranks: u32,
        /// So many on each node.
        per_node: u32,
        /// Nodes of the job.
        there: u32,
    },
    /// The job has fewer gpus, or none of that type.
    #[error("the step asks for {asked} (tasks: {ranks}), and its job has {there} gpu in all")]
    Gpus {
        /// So many were asked for.
        asked: StepGpus,
        /// For so many ranks.
        ranks: u32,
        /// So many are there that it could have.
        there: u32,
    },
    /// It would have to wait, and says that it does not.
    #[error("other steps have what it needs, and it is not to wait")]
    Busy,
    /// Nothing can be started on that node.
    #[error("node {node} of the job cannot be reached: {why}")]
    Unreachable {
        /// Its position.
        node: u32,
        /// A sentence.
        why: String,
    },
    /// Too many run and wait.
    #[error("{STEPS_MAX} steps of the job run or wait, and there may be no more")]
    TooMany,
    /// It asks for no ranks, or for ranks without cpus.
    #[error("a step has at least one rank, and each rank a cpu")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_largest_request_fits_its_frame() {
        let request = FromStep::Request(StepRequest {
            task: u64::MAX,
            inside: Some(u32::MAX),
            ranks: u32::MAX,
            cpus_per_rank: u32::MAX,
            nodes_min: u32::MAX,
            ranks_per_node_max: u32::MAX,
            only: (0..4096).collect(),
            gpus: StepGpus {
                per_rank: true,
                counts: vec![(Some("a".repeat(256)), u32::MAX)],
            },
            extent: Extent::Whole,
            overlap: true,
            immediate: true,
        });
        let bytes = codec::encode(&request);
        assert!(bytes.len() <= STEP_REQUEST_BYTES_MAX);
        assert_eq!(codec::decode::<FromStep>(&bytes).unwrap(), request);
    }

    #[test]
    fn a_grant_of_many_cpus_fits_its_frame() {
        let share = |node| NodeShare {
            node,
            ranks: u32::MAX,
            cpu_count: 256,
            cpus: (0..256).collect(),
            gpus: (0..16).collect(),
        };
        let granted = ToStep::Granted(StepGrant {
            step: u32::MAX,
            shares: (0..256).map(share).collect(),
            is_overcommitted: false,
        });
        assert!(codec::encode(&granted).len() <= STEP_ANSWER_BYTES_MAX);
    }
}
