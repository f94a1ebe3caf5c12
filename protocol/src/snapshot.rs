//! What a scheduler knew when every record up to some place in its journal was durable, so that a later one need not read
//! what lies before. Like records, snapshots outlive programs: a changed layout gets another number, and this one is
//! still read.

use serde::{Deserialize, Serialize};

use crate::id::{GrantId, JobId, Term};
use crate::range::IndexRange;
use crate::record::{Outcome, Record, TaskFailure};
use crate::usage::{TaskUsage, UsageSum};

/// The layout of [`CoreSnapshot`], written before it. Of layouts 1 to 3, which are read too, the jobs are
/// [`FirstJobSnapshot`], [`SecondJobSnapshot`] and [`ThirdJobSnapshot`].
pub const CORE_SNAPSHOT_VERSION: u32 = 4;

/// Every job that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreSnapshot {
    /// The highest id that was given to a job.
    pub last_job: Option<JobId>,
    /// By id.
    pub jobs: Vec<JobSnapshot>,
    /// Those that are over, the oldest end first.
    pub finished: Vec<JobId>,
}

/// What the records about one job say, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSnapshot {
    /// The leadership that accepted it.
    pub term: Term,
    /// Its [`Record::JobSubmitted`], which is read in every layout.
    pub submitted: Record,
    /// When it got its first slots, if that is on record; milliseconds since 1970.
    pub started_unix_millis: Option<u64>,
    /// Tasks that succeeded.
    pub done: Vec<IndexRange>,
    /// Tasks that failed.
    pub failed: Vec<IndexRange>,
    /// The failures with the lowest indices, at most [`crate::limits::FAILURES_KEPT_MAX`].
    pub failures: Vec<TaskFailure>,
    /// How it ended, and when, in milliseconds since 1970.
    pub end: Option<(Outcome, u64)>,
    /// Somebody holds it.
    pub held: bool,
    /// It need not wait for other jobs again: it has started, or has gone on after its end.
    pub unbound: bool,
    /// Tasks that were cancelled without it.
    pub cancelled: Vec<IndexRange>,
    /// Who cancelled the latest of them.
    pub cancelled_by: String,
    /// Tasks that were requeued.
    pub requeued: Vec<Requeued>,
    /// What its tasks have used together.
    pub usage: UsageSum,
    /// What each has used, by index, and when that it ended was reported, in milliseconds since 1970; of jobs of at most
    /// [`crate::limits::USAGE_TASKS_MAX`] tasks.
    pub tasks_used: Vec<(TaskUsage, u64)>,
}

/// What requeues leave of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requeued {
    /// Which.
    pub range: IndexRange,
    /// How often they were requeued.
    pub count: u32,
    /// Runs of them under this grant and older ones do not count.
    pub last: GrantId,
}

/// A [`JobSnapshot`] as layout 1 has it.
#[derive(Debug, Deserialize)]
pub struct FirstJobSnapshot {
    term: Term,
    submitted: Record,
    started_unix_millis: Option<u64>,
    done: Vec<IndexRange>,
    failed: Vec<IndexRange>,
    failures: Vec<TaskFailure>,
    end: Option<(Outcome, u64)>,
}

/// A [`JobSnapshot`] as layout 2 has it.
#[derive(Debug, Deserialize)]
pub struct SecondJobSnapshot {
    first: FirstJobSnapshot,
    held: bool,
    unbound: bool,
}

/// A [`JobSnapshot`] as layout 3 has it.
#[derive(Debug, Deserialize)]
pub struct ThirdJobSnapshot {
    second: SecondJobSnapshot,
    cancelled: Vec<IndexRange>,
    cancelled_by: String,
    requeued: Vec<Requeued>,
}

impl From<FirstJobSnapshot> for JobSnapshot {
    fn from(first: FirstJobSnapshot) -> Self {
        SecondJobSnapshot {
            first,
            held: false,
            unbound: true,
        }
        .into()
    }
}

impl From<SecondJobSnapshot> for JobSnapshot {
    fn from(second: SecondJobSnapshot) -> Self {
        ThirdJobSnapshot {
            second,
            cancelled: Vec::new(),
            cancelled_by: String::new(),
            requeued: Vec::new(),
        }
        .into()
    }
}

impl From<ThirdJobSnapshot> for JobSnapshot {
    fn from(third: ThirdJobSnapshot) -> Self {
        let SecondJobSnapshot { first, held, unbound } = third.second;
        Self {
            term: first.term,
            submitted: first.submitted,
            started_unix_millis: first.started_unix_millis,
            done: first.done,
            failed: first.failed,
            failures: first.failures,
            end: first.end,
            held,
            unbound,
            cancelled: third.cancelled,
            cancelled_by: third.cancelled_by,
            requeued: third.requeued,
            usage: UsageSum::default(),
            tasks_used: Vec::new(),
        }
    }
}
