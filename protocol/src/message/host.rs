//! A worker drives a kernel host over a socket pair.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{ArrayIds, TaskSignal};
use crate::gang::Placement;
use crate::id::{GrantId, JobId};
use crate::job::Encoding;
use crate::range::{IndexRange, RangeSet};
use crate::record::TaskFailure;
use crate::resources::{Gpu, Request};
use crate::usage::TaskUsage;

/// The environment variable that makes a kernel program a host: the number of its socket's file descriptor.
pub const HOST_FD_VARIABLE: &str = "PHALANX_HOST_FD";
/// The environment variable that names the host's running board: a file in which each slot keeps, as a `u64` in the
/// machine's byte order at [`BOARD_LINE_BYTES`] times its number, the index that it runs, or [`BOARD_IDLE`].
pub const HOST_BOARD_VARIABLE: &str = "PHALANX_HOST_BOARD";
/// The environment variable that marks everything that a host starts: no other host has the same.
pub const HOST_MARK_VARIABLE: &str = "PHALANX_HOST_MARK";
/// The control group of a host of commands, if it has one: a leaf, beside which it may make others for its tasks.
pub const HOST_CGROUP: &str = "host";
/// Bytes between two slots' words on a running board: each has a cache line of its own, since all are written often.
pub const BOARD_LINE_BYTES: usize = 64;
/// What a slot that runs nothing has on the running board.
pub const BOARD_IDLE: u64 = u64::MAX;
/// Slots of one host, at the most.
pub const HOST_SLOTS_MAX: usize = 4096;
/// The ELF section in which a kernel program lists its kernels, one line each: see [`KernelLine`].
pub const KERNELS_SECTION: &str = ".phalanx.kernels";

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToHost {
    /// Get ready for a job; a host serves one job at a time. Answer: `Ready` or `Refused`.
    Open {
        /// Which.
        job: JobId,
        /// What its tasks do.
        work: HostWork,
        /// Cpus of a slot: the size of its rayon pool.
        cpus: u32,
        /// The root of the shared storage, where its tasks keep their checkpoints.
        storage: PathBuf,
    },
    /// Run at most this many tasks at a time. Answer, as soon as it is true: `Slots`. With none, what slots had claimed and
    /// not started is given back before, by `Returned`.
    SetSlots(u32),
    /// From now on the job's tasks run in places, and these are new; more slots follow.
    AddPlaces(Vec<Place>),
    /// Run these.
    Grant {
        /// The grant's id.
        grant: GrantId,
        /// Which tasks.
        range: IndexRange,
        /// Where their inputs are.
        inputs: HostInputs,
        /// How often these were started before, as far as is known.
        restarts: u32,
    },
    /// Give back unstarted tasks from the grant's end, at most `count`. Answer: `Returned`, for each piece, or for nothing.
    Revoke {
        /// Which.
        grant: GrantId,
        /// How many at the most.
        count: u64,
    },
    /// Send no results for this many bytes more than were acknowledged; the worker's outbox is full.
    Pause(bool),
    /// End the job: started tasks see `cancelled`, unstarted ones are dropped. Answer, once all stopped: `Closed`.
    Close,
    /// Tasks should save what they have: the job, or this worker, will be ended soon.
    CheckpointNow,
    /// Start none of these tasks any more, and end those that run: commands in their grace, kernels see `cancelled`. They are
    /// reported when they have ended, as ever; the rest is answered with `Stopped`.
    Stop {
        /// Of which grant.
        grant: GrantId,
        /// Which tasks.
        range: IndexRange,
    },
    /// What is granted from now on are ranks that start in this epoch of a gang; of an earlier one nothing runs any more but the ranks
    /// that run on.
    Gang(Box<HostGang>),
    /// Send a signal to those of these tasks that run; only to a host of commands.
    Signal {
        /// Of which grant.
        grant: GrantId,
        /// Which tasks.
        range: IndexRange,
        /// What.
        signal: TaskSignal,
    },
    /// This epoch of the gang comes, once there is room for the ranks that it has lost.
    GangWaits {
        /// Which.
        epoch: u32,
    },
    /// Where the hosts of this start of the gang listen.
    GangAddresses {
        /// Which start.
        epoch: u32,
        /// Each as `host:port`, in the order of nodes.
        addresses: Vec<String>,
    },
}

/// A start of a gang, and which part of it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostGang {
    /// Where all ranks are.
    pub placement: Placement,
    /// The position of this worker among its nodes.
    pub node: u32,
    /// What the host shows the others, as PEM; none if there are no others.
    pub credential: Option<String>,
}

/// What a running task has on its worker. No two tasks run in the same place at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number on the worker.
    pub number: u32,
    /// The cpus that the task runs on, by the system's numbers, ascending; any if there are none.
    pub cpus: Vec<u32>,
    /// Its gpus. A part of one is shared with other places.
    pub gpus: Vec<Gpu>,
}

/// What the tasks of a job do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostWork {
    /// Call a kernel of this program.
    Kernel {
        /// Its name.
        kernel: String,
        /// Encoded parameters.
        parameters: HostParameters,
        /// How values are written.
        encoding: Encoding,
        /// Merge neighbouring results.
        reduce: bool,
    },
    /// Run programs.
    Command(Box<HostCommand>),
}

/// What a host needs to run programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCommand {
    /// An encoded [`crate::command::CommandPlan`].
    pub plan: HostParameters,
    /// The numbers that tasks have outside, if the job is an array.
    pub array: Option<ArrayIds>,
    /// Whose job it is.
    pub user: String,
    /// The worker's name.
    pub worker: String,
    /// What each task may use.
    pub request: Request,
    /// Cpus of the worker.
    pub worker_cpus: u32,
    /// The worker has gpus, of which a task is to see its own only.
    pub worker_has_gpus: bool,
    /// How long one run of a task may take, in milliseconds.
    pub task_time_limit_millis: Option<u64>,
    /// An empty folder of this node for files that only this host needs; it outlives neither.
    pub scratch: PathBuf,
}

/// Where a job's encoded parameters are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostParameters {
    /// Here.
    Inline(Bytes),
    /// In a file whose content the worker has checked.
    File(PathBuf),
}

/// Where the inputs of a grant are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostInputs {
    /// Input of task `i` is the number `first + i`.
    Index {
        /// Input of task 0.
        first: u64,
    },
    /// Files in the layout of [`crate::job::InputChunk`] that cover the grant, in order.
    Items(Vec<(IndexRange, PathBuf)>),
}

/// From the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromHost {
    /// The first frame, before any job: the protocol version the program was built with.
    Hello {
        /// [`PROTOCOL_VERSION`] of the SDK in the program.
        version: u32,
    },
    /// The job can start.
    Ready,
    /// The job can't run: no such kernel, wrong parameters, no reduction, ...
    Refused {
        /// Why, as a sentence.
        reason: String,
    },
    /// Places that no task runs in any more, by number; a change of slots is answered behind them.
    GaveUp(Vec<u32>),
    /// How many tasks run at most from now on, after a change.
    Slots(u32),
    /// The answer to a revoke, or tasks that nobody asked for and no slot is left to run.
    Returned {
        /// Which grant.
        grant: GrantId,
        /// What will not be started.
        range: IndexRange,
    },
    /// What ended since the last one.
    Progress(Progress),
    /// The job is closed; the host is free for another.
    Closed,
    /// These were to be stopped before they had started, and will not be started.
    Stopped {
        /// Of which grant.
        grant: GrantId,
        /// Which.
        range: IndexRange,
    },
    /// It listens to the other hosts of this start of the gang.
    GangPort {
        /// Which start.
        epoch: u32,
        /// Where, at the address of its node.
        port: u16,
    },
}

/// What ended since the last progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Tasks that succeeded, by grant.
    pub done: Vec<(GrantId, Vec<IndexRange>)>,
    /// Tasks that failed, by grant.
    pub failed: Vec<(GrantId, Vec<TaskFailure>)>,
    /// Results of the tasks in `done`, in blocks of neighbours.
    pub results: Vec<(IndexRange, Bytes)>,
    /// Slot time spent on them, summed over slots, in nanoseconds.
    pub busy_nanos: u64,
    /// What those tasks have used that were measured: commands.
    pub usage: Vec<TaskUsage>,
    /// Granted tasks that have not started.
    pub backlog: u64,
}

impl Progress {
    /// Takes what `usage` says of the tasks that have ended here.
    pub fn take_usage(&mut self, usage: &mut Vec<TaskUsage>) {
        if usage.is_empty() {
            return;
        }
        let done = self.done.iter().flat_map(|(_, ranges)| ranges.iter().copied());
        let failed = self.failed.iter().flat_map(|(_, failures)| failures);
        let own: RangeSet = done.chain(failed.map(TaskFailure::range)).collect();
        let taken = usage.extract_if(.., |used| own.contains(used.index));
        self.usage.extend(taken);
    }
}

/// Version of the conversations in this module and its siblings.
pub const PROTOCOL_VERSION: u32 = 10;

/// One line of [`KERNELS_SECTION`]: `name<TAB>input type<TAB>output type<TAB>parameter type or -<TAB>reduce or -`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLine {
    /// The kernel's name.
    pub name: String,
    /// Its input type, as written; `u64` can be mapped over an index range.
    pub input: String,
    /// What it returns, as written.
    pub output: String,
    /// Its parameter type, as written.
    pub parameters: Option<String>,
    /// Whether it names a function that merges two results.
    pub reduces: bool,
}

impl KernelLine {
    /// Reads a whole section; lines that are no kernel's are passed over.
    pub fn parse_section(section: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(section);
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim_matches('\0').split('\t');
        let mut field = || fields.next().map(str::to_owned);
        let (name, input, output) = (field()?, field()?, field()?);
        let parameters = field().filter(|text| text != "-");
        let reduces = field()? == "reduce";
        Some(Self {
            name,
            input,
            output,
            parameters,
            reduces,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_lists_its_kernels_and_padding_is_passed_over() {
        let lines =
            KernelLine::parse_section(b"primes\tu64\tu64\t-\treduce\n\0\0count\tString\tu32\tK\t-\n\0\n");
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[0].name.as_str(), lines[0].reduces, &lines[0].parameters),
            ("primes", true, &None)
        );
        assert_eq!(
            (lines[1].input.as_str(), lines[1].parameters.as_deref()),
            ("String", Some("K"))
        );
    }
}
