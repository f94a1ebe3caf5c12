//! What one submission asks for.

mod check;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::check::SpecError;
use crate::choice::WorkerChoice;
use crate::command::CommandWork;
use crate::dependency::Dependency;
use crate::gang::Gang;
use crate::id::{BlobId, SubmissionId};
use crate::range::IndexRange;
use crate::resources::{Request, Resources};

/// A job, as a client submits it and the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Chosen at random by the client: submitting the same twice gives the same job.
    pub submission: SubmissionId,
    /// For people; the kernel's name unless given.
    pub name: String,
    /// How many tasks: indices `0..tasks`.
    pub tasks: u64,
    /// What every task does.
    pub work: Work,
    /// What every task needs while it runs.
    pub request: Request,
    /// What it may need instead, in order of preference: see [`JobSpec::request_on`].
    pub alternatives: Vec<Request>,
    /// Higher goes first; 0 unless given.
    pub priority: i32,
    /// How grants are sized.
    pub feeding: Feeding,
    /// Stop the job once more than this many tasks have failed; never, if absent.
    pub failures_max: Option<u64>,
    /// How often a task is run again, by what went wrong.
    pub retries: Retries,
    /// How long one run of a task may take, in milliseconds; for ever, if absent.
    pub task_time_limit_millis: Option<u64>,
    /// How long the job may take from its first slot on, in milliseconds; for ever, if absent.
    pub time_limit_millis: Option<u64>,
    /// A task may run twice at the same time without harm: what a straggler holds at the end of the job is run elsewhere
    /// too, and whichever ends first counts.
    pub idempotent: bool,
    /// At most this many of its tasks run at a time; as many as there is room for, if absent.
    pub slots_max: Option<u32>,
    /// What it waits for before any task starts.
    pub dependency: Option<Dependency>,
    /// It was submitted held: nothing of it starts until somebody releases it.
    pub held: bool,
    /// Nothing of it starts before; milliseconds since 1970.
    pub begin_unix_millis: Option<u64>,
    /// Its tasks are the ranks of a gang.
    pub gang: Option<Box<Gang>>,
    /// Which workers it may run on.
    pub choice: WorkerChoice,
}

/// How often a task is run again before it is failed, counted apart for each cause, and how long it rests before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Runs after an `Err` or a panic; 0 unless given.
    pub errors: u32,
    /// Kernel hosts that may die while they run the task, until it is failed as poisoned; at least 1, 3 unless given.
    pub crash_limit: u32,
    /// Workers that may be lost while they run the task, until it is failed; however many, if absent.
    pub lost_limit: Option<u32>,
    /// Runs after one that took too long; 0 unless given.
    pub timeouts: u32,
    /// The rest before the first retry after an error or a timeout, in milliseconds; it doubles with each that follows, up
    /// to [`BACKOFF_MILLIS_MAX`](crate::limits::BACKOFF_MILLIS_MAX). 1000 unless given.
    pub backoff_millis: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            errors: 0,
            crash_limit: 3,
            lost_limit: None,
            timeouts: 0,
            backoff_millis: 1000,
        }
    }
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Calls a Rust function.
    Kernel(KernelWork),
    /// Runs a program.
    Command(CommandWork),
}

impl From<KernelWork> for Work {
    fn from(work: KernelWork) -> Self {
        Self::Kernel(work)
    }
}

impl Work {
    /// The kernel, if it is one.
    pub fn kernel(&self) -> Option<&KernelWork> {
        match self {
            Self::Kernel(work) => Some(work),
            Self::Command(_) => None,
        }
    }

    /// What has to be read before tasks can run, beside the program.
    pub fn parameters(&self) -> &Payload {
        match self {
            Self::Kernel(work) => &work.parameters,
            Self::Command(work) => &work.plan,
        }
    }

    /// Where each task's input comes from.
    pub fn inputs(&self) -> &Inputs {
        match self {
            Self::Kernel(work) => &work.inputs,
            Self::Command(work) => &work.inputs,
        }
    }

    /// The executable that holds the kernel; commands bring none.
    pub fn program(&self) -> Option<BlobId> {
        match self {
            Self::Kernel(work) => Some(work.program),
            Self::Command(_) => None,
        }
    }

    /// Whether results of neighbouring tasks are merged on the workers.
    pub fn reduces(&self) -> bool {
        match self {
            Self::Kernel(work) => work.reduce,
            Self::Command(_) => false,
        }
    }

    /// Whether tasks run programs.
    pub fn is_command(&self) -> bool {
        match self {
            Self::Kernel(_) => false,
            Self::Command(_) => true,
        }
    }

    /// The index of the task that has that number outside, of `tasks`: in the array, if it is one.
    pub fn index_of(&self, element: u64, tasks: u64) -> Option<u64> {
        let array = match self {
            Self::Kernel(_) => None,
            Self::Command(work) => work.array.as_ref(),
        };
        let index = array.map_or(Some(element), |array| array.index(element));
        index.filter(|&index| index < tasks)
    }

    /// How results are written; commands have none.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Kernel(work) => work.encoding,
            Self::Command(_) => Encoding::Json,
        }
    }

    /// For people: the kernel's name, or the command.
    pub fn label(&self) -> &str {
        match self {
            Self::Kernel(work) => &work.kernel,
            Self::Command(work) => &work.command,
        }
    }

    /// All blobs that have to be on the storage.
    pub fn blobs(&self) -> Vec<BlobId> {
        let mut blobs = Vec::from_iter(self.program());
        if let Payload::Blob(blob) = self.parameters() {
            blobs.push(*blob);
        }
        if let Inputs::Items { table } = self.inputs() {
            blobs.push(*table);
        }
        blobs
    }
}

/// A call of a registered Rust function for each index or item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelWork {
    /// The executable that holds the kernel.
    pub program: BlobId,
    /// The kernel's name in it.
    pub kernel: String,
    /// Sent once to each kernel host.
    pub parameters: Payload,
    /// Where each task's input comes from.
    pub inputs: Inputs,
    /// How parameters, items and results are written.
    pub encoding: Encoding,
    /// Results of neighbouring tasks are merged on the workers: one value per range crosses the wire.
    pub reduce: bool,
}

/// Bytes that ride along when they are few, and lie in a blob when they are many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// At most [`PARAMETERS_INLINE_BYTES_MAX`](crate::limits::PARAMETERS_INLINE_BYTES_MAX).
    Inline(Bytes),
    /// On shared storage.
    Blob(BlobId),
}

/// Where the input of task `i` comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inputs {
    /// It is the number `first + i`.
    Index {
        /// Input of task 0.
        first: u64,
    },
    /// It is item `i` of a list; the blob is an encoded [`InputTable`].
    Items {
        /// The table.
        table: BlobId,
    },
}

/// The chunks of an input list, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTable {
    /// Neighbouring chunks; the first begins at item 0.
    pub chunks: Vec<InputChunk>,
}

/// Items that lie in one blob: each as its length (`u32`, little-endian) followed by its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChunk {
    /// Which items.
    pub items: IndexRange,
    /// The blob.
    pub blob: BlobId,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// [`crate::codec`], between Rust programs; results of a range lie back to back.
    Bincode,
    /// For the command line; results of a range are lines.
    Json,
}

/// How grants are sized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Feeding {
    /// Weighted factoring: a share of half of what remains, by measured rates (Hummel et al., 1996).
    #[default]
    Factoring,
    /// Guided self-scheduling: an equal share of what remains per slot (Polychronopoulos and Kuck, 1987).
    Guided,
    /// All tasks split evenly at once; nothing is left for balancing except revokes.
    Static,
}

impl JobSpec {
    /// What tasks may need, in order of preference.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        std::iter::once(&self.request).chain(&self.alternatives)
    }

    /// What tasks need on a worker of that capacity, whatever else it has to do: the first that it could give at all.
    pub fn request_on(&self, capacity: &Resources) -> &Request {
        let mut fitting = self.requests().filter(|request| capacity.slots(request) > 0);
        fitting.next().unwrap_or(&self.request)
    }

    /// How many of its tasks a worker of that capacity has room for.
    pub fn slots_on(&self, capacity: &Resources) -> u32 {
        capacity.slots(self.request_on(capacity))
    }
}
