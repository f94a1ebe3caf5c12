//! A worker reports, the scheduler grants.

use serde::{Deserialize, Serialize};

use crate::command::TaskSignal;
use crate::gang::Placement;
use crate::id::{GrantId, JobId, Term, WorkerId};
use crate::job::Work;
use crate::range::IndexRange;
use crate::record::{FailureCause, ResultBlock, TaskFailure};
use crate::resources::{Request, Resources};
use crate::usage::TaskUsage;

/// From the worker, on the control stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first frame.
    Join(Join),
    /// The answer to a revoke: these will not be started here; empty if all were started already.
    Returned {
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// What is given back, at the grant's end.
        range: IndexRange,
    },
    /// The job cannot run here, whatever the task.
    CannotRun {
        /// Which.
        job: JobId,
        /// Why, as a sentence.
        reason: String,
        /// Whether it is the job's fault: it then cannot run anywhere.
        fatal: bool,
    },
    /// Its kernel host died. Nothing that was granted and not reported will be; everything else goes on.
    HostLost {
        /// Whose host.
        job: JobId,
        /// Tasks that are to blame: those that were running, if it crashed; those that ran too long.
        blamed: Vec<u64>,
        /// What for.
        cause: FailureCause,
        /// How it died: `signal 11 (SIGSEGV)`, `used 9.1 GiB of 8 GiB`.
        how: String,
    },
    /// It will take no more grants; what is reported counts.
    Leaving,
    /// It was asked to stop: it finishes what runs and leaves; what has not started is to be taken back.
    Draining,
    /// These were to be stopped before they had started, and will not be started here.
    Stopped {
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// Which.
        range: IndexRange,
    },
    /// Its host of a gang listens to the other hosts of the gang's epoch. Said again to each leader, as long as ranks are held.
    GangPort {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: u32,
        /// The position of this worker among the gang's nodes.
        node: u32,
        /// How many nodes there are.
        nodes: u32,
        /// The port, at the worker's address.
        port: u16,
    },
}

/// A worker introduces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Random, chosen when the process started.
    pub instance: u128,
    /// The id it had, when it comes back to a scheduler.
    pub worker: Option<WorkerId>,
    /// For people.
    pub name: String,
    /// What it offers.
    pub capacity: Resources,
    /// Grants that it still works on.
    pub held: Vec<HeldGrant>,
}

/// A grant of an earlier session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldGrant {
    /// Of which job.
    pub job: JobId,
    /// Which.
    pub grant: GrantId,
    /// What of it is neither reported nor given back; reports that were sent but not acknowledged come again.
    pub range: IndexRange,
}

/// From the worker, on the report stream: what ended since the last report of this job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Counts this worker's reports, from 1.
    pub number: u64,
    /// Of which job.
    pub job: JobId,
    /// Tasks that succeeded, by grant.
    pub done: Vec<(GrantId, Vec<IndexRange>)>,
    /// Tasks that failed, by grant.
    pub failed: Vec<(GrantId, Vec<TaskFailure>)>,
    /// Results of the tasks in `done`; none for kernels that return nothing.
    pub results: Vec<ResultBlock>,
    /// Time that slots spent on these tasks, summed over slots, in nanoseconds.
    pub busy_nanos: u64,
    /// What those of these tasks have used that were measured: commands.
    pub usage: Vec<TaskUsage>,
    /// Granted tasks of this job that have not started.
    pub backlog: u64,
}

/// From the scheduler, on the control stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to `Join`.
    Welcome {
        /// The worker's id.
        worker: WorkerId,
        /// The leader's term.
        term: Term,
    },
    /// A job will use slots here.
    Open {
        /// Which.
        job: JobId,
        /// Whose: a host serves one user's jobs only.
        user: String,
        /// What its tasks do.
        work: Work,
        /// What each takes.
        request: Request,
        /// How long one run of a task may take, in milliseconds.
        task_time_limit_millis: Option<u64>,
    },
    /// Run up to this many of the job's tasks at a time, from now on.
    SetSlots {
        /// Which.
        job: JobId,
        /// How many.
        slots: u32,
    },
    /// Run these.
    Grant {
        /// Of which job.
        job: JobId,
        /// The grant's id.
        grant: GrantId,
        /// Which tasks; at most [`crate::limits::GRANT_TASKS_MAX`].
        range: IndexRange,
        /// How often these were started before, as far as is known.
        restarts: u32,
    },
    /// Give back unstarted tasks from the grant's end, at most `count`; answer with `Returned`.
    Revoke {
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// How many at the most.
        count: u64,
    },
    /// Reports up to this number are durable; forget them.
    Acknowledge {
        /// The report's number.
        number: u64,
    },
    /// The job is over here: stop its tasks, drop its grants, keep nothing.
    Close {
        /// Which.
        job: JobId,
    },
    /// The job will be ended soon: its tasks should save what they have.
    CheckpointNow {
        /// Which.
        job: JobId,
    },
    /// Take nothing more on, finish what runs, then leave.
    Drain,
    /// Where the cluster's schedulers are, each as `host:port`; at most [`crate::limits::SCHEDULER_ADDRESSES_MAX`].
    Schedulers(Vec<String>),
    /// Start none of these tasks any more, and end those that run. What runs is reported when it has ended, as ever; the
    /// rest is answered with `Stopped`.
    Stop {
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// Which tasks.
        range: IndexRange,
    },
    /// What is granted of this job from now on are the ranks of one start of a gang, or those that it lost. Comes before their
    /// grants, and also to workers whose ranks run on.
    Gang {
        /// Which job.
        job: JobId,
        /// Where all of its ranks are.
        placement: Box<Placement>,
        /// A credential as PEM by the authority of this start of the gang, in the name of the worker's host: see
        /// [`crate::gang`]. Whoever sends the message issues it; none if there is one node only.
        credential: Option<String>,
    },
    /// Where all hosts of a gang listen. Comes once all have said so, and again after each that says so again.
    GangAddresses {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: u32,
        /// Each as `host:port`, in the order of nodes; at most [`crate::limits::GANG_HOSTS_MAX`].
        addresses: Vec<String>,
    },
    /// Some ranks of a gang are lost: the others, which run on, wait for its next epoch, which begins once there is room for
    /// those that are to replace them. Only said of a gang that respawns.
    GangWaits {
        /// Of which job.
        job: JobId,
        /// Which epoch comes.
        epoch: u32,
    },
    /// Send a signal to those of these tasks that run.
    Signal {
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// Which tasks.
        range: IndexRange,
        /// What.
        signal: TaskSignal,
    },
    /// How long this scheduler bears silence of a worker before others are given what it holds. Follows `Welcome`; nobody answers.
    SilenceLimit {
        /// In milliseconds, [`crate::limits::WORKER_TIMEOUT_MILLIS_MIN`] to [`crate::limits::WORKER_TIMEOUT_MILLIS_MAX`].
        millis: u32,
    },
}
