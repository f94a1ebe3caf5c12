//! What a batch script, the environment and a command line ask for together, as values. How they are put together is in
//! [`super::merge`]; what becomes of them is not known here.

use std::time::Duration;

use super::array::ArraySpec;
use super::begin::Begin;
use super::dependency::Dependency;
use super::time::TimeLimit;
use super::values::{Exclusive, Export, Gres, NodeCount, OpenMode, Priority, WarningSignal};

/// Memory that a job wants, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// All that a node has: `--mem=0`.
    WholeNode,
    PerNode(u64),
    PerCpu(u64),
    PerGpu(u64),
}

/// What is asked instead of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Help,
    Usage,
    Version,
}

/// All that is asked for. What nobody mentioned is none, false or empty: defaults are the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchSettings {
    pub(crate) job_name: Option<String>,
    /// Patterns of files: see [`phalanx_protocol::pattern`].
    pub(crate) output: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) input: Option<String>,
    /// Whether the script speaks PBS, and expects PBS's variables.
    pub(crate) pbs: bool,
    /// Whether standard error goes where standard output does, whatever `error` says (`#PBS -j`).
    pub(crate) joined: Option<bool>,
    pub(crate) open_mode: Option<OpenMode>,
    pub(crate) chdir: Option<String>,
    pub(crate) export: Option<Export>,
    /// A file of variables.
    pub(crate) export_file: Option<String>,

    pub(crate) time_limit: Option<TimeLimit>,
    pub(crate) ntasks: Option<u32>,
    pub(crate) ntasks_per_node: Option<u32>,
    pub(crate) ntasks_per_gpu: Option<u32>,
    pub(crate) cpus_per_task: Option<u32>,
    pub(crate) cpus_per_gpu: Option<u32>,
    pub(crate) nodes: Option<NodeCount>,
    pub(crate) memory: Option<Memory>,
    /// GPUs of the whole job.
    pub(crate) gpus: Vec<Gres>,
    /// GPUs of each node, also those that `--gres` names.
    pub(crate) gpus_per_node: Vec<Gres>,
    pub(crate) gpus_per_task: Vec<Gres>,
    /// What else each node must have.
    pub(crate) gres: Vec<Gres>,
    pub(crate) exclusive: Option<Exclusive>,
    pub(crate) partition: Option<String>,
    /// Nodes that the job must have.
    pub(crate) nodelist: Vec<String>,
    /// Nodes that it must not have.
    pub(crate) exclude: Vec<String>,

    pub(crate) array: Option<ArraySpec>,
    pub(crate) dependency: Option<Dependency>,
    pub(crate) kill_on_invalid_dependency: Option<bool>,
    pub(crate) signal: Option<WarningSignal>,
    pub(crate) requeue: Option<bool>,
    pub(crate) hold: bool,
    pub(crate) begin: Option<Begin>,
    pub(crate) nice: Option<i64>,
    pub(crate) priority: Option<Priority>,

    /// A command line instead of a script.
    pub(crate) wrap: Option<String>,
    /// The id alone is printed.
    pub(crate) parsable: bool,
    pub(crate) wait: bool,
    pub(crate) test_only: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) ignore_pbs: bool,
    /// To wait no longer than this for resources.
    pub(crate) immediate: Option<Duration>,
    pub(crate) question: Option<Question>,
    pub(crate) step: StepSettings,

    /// What is accepted without a meaning here, each name once: `account`, `mail-user`; flags have an empty value.
    pub(crate) recorded: Vec<(String, String)>,
}

impl BatchSettings {
    /// What was said with an option that has no meaning here.
    pub(crate) fn recorded(&self, name: &str) -> Option<&str> {
        let found = self.recorded.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Gpus that a step asks for; none if all counts are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GpuWish {
    PerTask(Vec<Gres>),
    PerNode(Vec<Gres>),
    InAll(Vec<Gres>),
}

/// What only `srun` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StepSettings {
    /// The job that the step belongs to.
    pub(crate) job_id: Option<String>,
    /// Each line with its task's rank.
    pub(crate) label: bool,
    pub(crate) unbuffered: bool,
    /// Whether one failed task ends the step.
    pub(crate) kill_on_bad_exit: Option<bool>,
    /// After the first task has ended, the others have this long; 0 is no bound.
    pub(crate) wait: Option<Duration>,
    pub(crate) mpi: Option<String>,
    /// Only the cpus that it asks for.
    pub(crate) exact: bool,
    /// It shares its cpus with other steps.
    pub(crate) overlap: bool,
    /// All cpus of its nodes, whatever else says otherwise.
    pub(crate) whole: bool,
    /// Its ranks may be more than its cpus.
    pub(crate) overcommit: bool,
    /// Cpus of each rank, if that is said of the step and not of its job.
    pub(crate) cpus_per_task: Option<u32>,
    pub(crate) cpu_bind: Option<String>,
    /// Gpus that it asks for itself, or of which its job has said how many each rank has; else it shares all of its job's.
    pub(crate) gpus: Option<GpuWish>,
    /// The argument is a file with a program for each rank.
    pub(crate) multi_prog: bool,
    pub(crate) pty: bool,
    /// The first node's position in the job, from 0.
    pub(crate) relative: Option<u64>,
    /// The program is copied to each node first; to this path if one is given.
    pub(crate) bcast: Option<String>,
}
