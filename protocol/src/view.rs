//! What people are shown: the same data for tables, JSON and the SDK.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::choice::WorkerChoice;
use crate::command::ArrayIds;
use crate::dependency::Condition;
use crate::id::{JobId, WorkerId};
use crate::job::Encoding;
use crate::range::IndexRange;
use crate::record::{FailureCause, Outcome, TaskFailure};
use crate::resources::{Request, Resources};
use crate::usage::{TaskUsage, UsageSum};

/// A job at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// The kernel it calls, or the command it runs.
    pub kernel: String,
    /// What it says about its command; `None` for a kernel.
    pub command: Option<Box<CommandView>>,
    /// How its results are written.
    pub encoding: Encoding,
    /// Whether results come as one merged value per range.
    pub reduce: bool,
    /// What each task needs.
    pub request: Request,
    /// What it may need instead, in order of preference.
    pub alternatives: Vec<Request>,
    /// Which workers it may run on.
    pub choice: WorkerChoice,
    /// Its priority.
    pub priority: i32,
    /// `None` while it waits or runs.
    pub outcome: Option<Outcome>,
    /// How many tasks it has.
    pub tasks: u64,
    /// Tasks whose success is durable.
    pub done: u64,
    /// Tasks whose failure is durable.
    pub failed: u64,
    /// Tasks that were run in vain and rest until they are run again.
    pub resting: u64,
    /// Slots it holds now; if they are all kept for others, its tasks that still run.
    pub slots: u64,
    /// Workers it runs on now.
    pub workers: u64,
    /// Measured tasks per second of all its slots together; 0 if unknown.
    pub tasks_per_second: f64,
    /// Milliseconds since 1970.
    pub submitted_unix_millis: u64,
    /// Milliseconds since 1970.
    pub finished_unix_millis: Option<u64>,
    /// The first failures, by index.
    pub first_failures: Vec<TaskFailure>,
    /// At most this many of its tasks run at a time; as many as there is room for, if absent.
    pub slots_max: Option<u32>,
    /// How long one run of a task may take, in milliseconds; for ever, if absent.
    pub task_time_limit_millis: Option<u64>,
    /// How long it may take from its first slots on, in milliseconds; for ever, if absent.
    pub time_limit_millis: Option<u64>,
    /// When it got its first slots, milliseconds since 1970. What no journal keeps, a new leader counts anew: starts are
    /// kept of jobs with a time limit or a dependency, and of those that others wait for to start.
    pub started_unix_millis: Option<u64>,
    /// Somebody holds it back: nothing more of it starts.
    pub held: bool,
    /// Nothing of it starts before; milliseconds since 1970.
    pub begin_unix_millis: Option<u64>,
    /// What it was submitted to wait for, whether that has come to pass or not; at most [`CONDITIONS_SHOWN_MAX`].
    pub conditions: Vec<Condition>,
    /// One of these is enough; else all have to come to pass.
    pub any_of: bool,
    /// Jobs that it waits for now, at most [`WAITS_FOR_MAX`].
    pub waits_for: Vec<JobId>,
    /// What it waits for cannot come to pass any more.
    pub never: bool,
    /// Tasks that were cancelled without it, durably.
    pub cancelled: u64,
    /// What its tasks have used together, those that were run again as often as they ended; `None` if none was measured.
    pub usage: Option<UsageSum>,
}

/// Jobs that a view or an explanation names as those that a job waits for.
pub const WAITS_FOR_MAX: usize = 20;

/// Conditions that a view shows.
pub const CONDITIONS_SHOWN_MAX: usize = 100;

impl JobView {
    /// What tasks may need, in order of preference.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        std::iter::once(&self.request).chain(&self.alternatives)
    }

    /// One word for a table: `waiting`, `running`, `succeeded`, `failed`, `cancelled`, `broken`, `timed out`.
    pub fn state(&self) -> &'static str {
        match &self.outcome {
            None if self.slots > 0 => "running",
            None => "waiting",
            Some(Outcome::Succeeded) => "succeeded",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::Cancelled { .. }) => "cancelled",
            Some(Outcome::Broken { .. }) => "broken",
            Some(Outcome::TimeLimit { .. }) => "timed out",
        }
    }
}

/// What becomes of tasks of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TasksPage {
    /// Ascending, without gaps; at most [`TASKS_PAGE_MAX`].
    pub tasks: Vec<TaskRange>,
    /// The first task that is not in the page; the end of what was asked for, or of the job, if there is none.
    pub next: u64,
}

/// Ranges in a [`TasksPage`].
pub const TASKS_PAGE_MAX: usize = 4096;

/// Neighbouring tasks of which the same is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRange {
    /// Which.
    pub range: IndexRange,
    /// What becomes of them.
    pub state: TaskState,
    /// Who has them, or had them when they ended, as far as is known.
    pub worker: Option<WorkerId>,
    /// When they were given to that worker, milliseconds since 1970: no later than they started. Of tasks that have ended,
    /// this and the end are known of commands: for good if it is known what they used, when they started then; else of a
    /// bounded number of ranges, as long as the same scheduler leads.
    pub started_unix_millis: Option<u64>,
    /// When that they ended was reported; milliseconds since 1970.
    pub ended_unix_millis: Option<u64>,
    /// How often they were started before, as far as is known.
    pub restarts: u32,
    /// What it has used, if it is one that has ended and was measured: a command, in a job of at most
    /// [`crate::limits::USAGE_TASKS_MAX`] tasks.
    pub usage: Option<TaskUsage>,
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// It waits.
    Waiting,
    /// It waits for its counterpart in another job.
    Blocked,
    /// It was run in vain and rests until it is run again.
    Resting,
    /// A worker has it and will run it as soon as a slot is free there.
    Granted,
    /// A worker runs it, as far as is known: it is among the first that the worker has, of as many as it has slots.
    Running,
    /// It has ended, which is not durable yet.
    Ending,
    /// It succeeded.
    Succeeded,
    /// It failed; of many failures the causes of those with the lowest indices are known.
    Failed(Option<FailureCause>),
    /// It was cancelled alone, without its job.
    Cancelled,
    /// The job was over before it ran to its end.
    Unrun,
}

/// What a command job says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandView {
    /// The numbers that its tasks have outside, if it is an array.
    pub array: Option<ArrayIds>,
    /// By the words of [`crate::command::facts`].
    pub facts: BTreeMap<String, String>,
}

/// A worker at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its id.
    pub worker: WorkerId,
    /// Its name, the node's unless given.
    pub name: String,
    /// Its address, as the scheduler sees it.
    pub address: String,
    /// What it has.
    pub capacity: Resources,
    /// What no job holds.
    pub free: Resources,
    /// Jobs that hold slots on it.
    pub jobs: Vec<JobId>,
    /// Tasks that it has ended since it joined.
    pub tasks_ended: u64,
    /// It takes nothing more on, and leaves once what runs has ended.
    pub draining: bool,
}

/// Why a job is where it is, as data; the command line words it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job.
    pub job: JobView,
    /// The reason.
    pub verdict: Verdict,
    /// Tasks that wait while others of the job run, by what they wait for.
    pub idle: Vec<Idle>,
    /// What each worker offers it, the best first, at most 20.
    pub offers: Vec<Offer>,
}

/// Tasks that wait while others of their job run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How many, at least 1.
    pub tasks: u64,
    /// For what.
    pub why: Verdict,
}

/// What one worker offers a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The worker.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// What it has.
    pub capacity: Resources,
    /// Slots that would fit if it were empty.
    pub slots_capacity: u32,
    /// Slots that fit now.
    pub slots_free: u32,
    /// Slots that the job holds there; if they are all kept for others, its tasks that still run.
    pub slots_held: u32,
}

/// The one reason that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is over.
    Finished,
    /// It runs.
    Running,
    /// No worker has joined.
    NoWorkers,
    /// No worker that it may run on has joined.
    Elsewhere {
        /// Those of them that are known by name, at most [`WAITS_FOR_MAX`]; none if it may run on any but the excluded.
        missing: Vec<String>,
    },
    /// No worker could hold even one task; what the largest that it may run on has.
    TooLarge {
        /// By cpus, then memory.
        largest: Option<Resources>,
    },
    /// Others come first, by priority, fair share or age.
    Behind {
        /// Jobs that hold slots which it could use, at most 20.
        jobs: Vec<JobId>,
    },
    /// Its tasks that are left were run in vain and rest before they are run again.
    Resting,
    /// A new leader waits for the workers of the one before to say what they still run.
    Reattaching,
    /// Its submission is not durable yet, or storage fails.
    Storage {
        /// What storage says, if it fails.
        error: Option<String>,
    },
    /// All workers that could run it are about to leave.
    Draining,
    /// It wants no more of its tasks to run at a time.
    SlotsMax {
        /// How many.
        slots_max: u32,
    },
    /// Somebody holds it.
    Held,
    /// It is to begin later.
    NotYet {
        /// When; milliseconds since 1970.
        begin_unix_millis: u64,
    },
    /// It waits for other jobs.
    Dependency {
        /// Which, at most [`WAITS_FOR_MAX`].
        jobs: Vec<JobId>,
    },
    /// It waits for what cannot come to pass any more, unless a job that is over is run again.
    DependencyNeverSatisfied {
        /// The jobs that ended otherwise, or so long ago that nothing is known of how; at most [`WAITS_FOR_MAX`].
        jobs: Vec<JobId>,
    },
    /// Others have all of something that it needs beside cpus.
    Scarce {
        /// What: `gpu`, `memory`.
        resource: String,
        /// Jobs that hold some of it where it could run, at most 20.
        jobs: Vec<JobId>,
    },
    /// It shares its workers with no other job, and others use all that could run it.
    NotAlone {
        /// Which, at most 20.
        jobs: Vec<JobId>,
    },
    /// A gang waits until there is room for all of its ranks.
    Gang {
        /// Slots that it needs.
        slots: u64,
        /// On how many nodes, if that was asked for.
        nodes: Option<u32>,
        /// Slots that are free, wherever.
        slots_free: u64,
        /// Slots that fit on all workers if they were empty.
        slots_capacity: u64,
        /// Jobs that hold slots where it could run, at most 20.
        jobs: Vec<JobId>,
    },
    /// Jobs that share their workers with no other have those where there is room.
    KeptOff {
        /// Which, at most 20.
        jobs: Vec<JobId>,
    },
}
