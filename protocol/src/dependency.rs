//! What must have happened to other jobs before tasks of a job may start.

use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// Conditions that dependencies of one job may have.
pub const CONDITIONS_MAX: usize = 1024;

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// How the conditions belong together.
    pub joined: Joined,
    /// At least one, at most [`CONDITIONS_MAX`].
    pub conditions: Vec<Condition>,
    /// What becomes of the job once its conditions cannot be met any more.
    pub never: Never,
}

/// How conditions belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// All have to be met.
    All,
    /// One is enough.
    Any,
}

/// One condition. A job that is no longer remembered ended long ago, and nothing is known of how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Another job has got slots, that long ago, or is over.
    After {
        /// Which.
        job: JobId,
        /// How long ago, in milliseconds.
        delay_millis: u64,
    },
    /// It is over.
    AfterAny(JobId),
    /// It is over and all its tasks succeeded.
    AfterOk(JobId),
    /// It is over and not all its tasks succeeded.
    AfterNotOk(JobId),
    /// The task of the same index of another job succeeded: met task by task.
    AfterCorresponding(JobId),
    /// No job of the same user and name that was submitted earlier is left.
    Singleton,
    /// One task of another job has ended so, or will never run.
    AfterElement {
        /// Whose.
        job: JobId,
        /// The number that it has outside, if the job is an array; else its index.
        element: u64,
        /// How.
        ending: Ending,
    },
}

/// How a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// One way or the other.
    Any,
    /// It succeeded.
    Ok,
    /// It did not.
    NotOk,
}

impl Condition {
    /// The job that it is about.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::After { job, .. }
            | Self::AfterAny(job)
            | Self::AfterOk(job)
            | Self::AfterNotOk(job)
            | Self::AfterCorresponding(job)
            | Self::AfterElement { job, .. } => Some(*job),
            Self::Singleton => None,
        }
    }
}

/// What becomes of a job whose conditions cannot be met any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {
    /// It stays, and is shown as such, until somebody cancels it.
    Stay,
    /// It is cancelled.
    Cancel,
}
