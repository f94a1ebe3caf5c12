//! The contract: what the core is told, and what it wants done.

use std::time::Duration;

use phalanx_protocol::command::TaskSignal;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::{Join, Report, ToWorker};
use phalanx_protocol::record::{FailureCause, Record};
use phalanx_protocol::{GrantId, IndexRange, JobId, JobSpec, RangeSet, WorkerId};

use crate::rendezvous::HostPort;

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the driver started; never runs backwards.
    pub elapsed: Duration,
    /// Milliseconds since 1970, for people.
    pub unix_millis: u64,
}

/// Names a client's open request; chosen by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a worker's connection; chosen by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A client sent a job; the blobs that it names are on the storage.
    Submitted {
        /// Which request to answer.
        request: RequestId,
        /// Who sent it.
        user: String,
        /// What was asked for.
        spec: Box<JobSpec>,
    },
    /// A client wants a job to end.
    CancelRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may end anybody's.
        admin: bool,
        /// Which job.
        job: JobId,
    },
    /// A client wants the failed tasks of a job run again.
    RetryRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may do that to anybody's.
        admin: bool,
        /// Which job.
        job: JobId,
    },
    /// A client wants a job held: nothing more of it is to start. Or released.
    HoldRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may do that to anybody's.
        admin: bool,
        /// Which job.
        job: JobId,
        /// Held; else released.
        held: bool,
    },
    /// A client wants tasks of a job to start from the top.
    RequeueRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may do that to anybody's.
        admin: bool,
        /// Of which job.
        job: JobId,
        /// Which; all, if absent.
        tasks: Option<RangeSet>,
    },
    /// A client wants tasks of a job to end, and the others to go on.
    TaskCancelRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may end anybody's.
        admin: bool,
        /// Of which job.
        job: JobId,
        /// Which.
        tasks: RangeSet,
    },
    /// A client wants tasks of a job to be sent a signal.
    SignalRequested {
        /// Which request to answer.
        request: RequestId,
        /// Who.
        user: String,
        /// Whether they may do that to anybody's.
        admin: bool,
        /// Of which job.
        job: JobId,
        /// Which; all, if absent.
        tasks: Option<RangeSet>,
        /// What.
        signal: TaskSignal,
    },
    /// A worker introduced itself.
    WorkerJoined {
        /// Its connection.
        session: SessionId,
        /// Where it came from.
        address: String,
        /// What it said.
        join: Box<Join>,
    },
    /// A worker's connection is gone, or it left.
    WorkerLost(WorkerId),
    /// Tasks ended on a worker.
    Reported {
        /// Where.
        worker: WorkerId,
        /// What.
        report: Box<Report>,
    },
    /// A worker answered a revoke.
    Returned {
        /// Which worker.
        worker: WorkerId,
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// What it will not start.
        range: IndexRange,
    },
    /// A worker did not start what it was told to stop.
    Stopped {
        /// Which worker.
        worker: WorkerId,
        /// Of which job.
        job: JobId,
        /// Of which grant.
        grant: GrantId,
        /// What it will not start.
        range: IndexRange,
    },
    /// A worker cannot run a job.
    CannotRun {
        /// Which worker.
        worker: WorkerId,
        /// Which job.
        job: JobId,
        /// Why.
        reason: String,
        /// Whether it cannot run anywhere.
        fatal: bool,
    },
    /// A job's kernel host died on a worker.
    HostLost {
        /// Which worker.
        worker: WorkerId,
        /// Which job.
        job: JobId,
        /// Tasks that are to blame.
        blamed: Vec<u64>,
        /// What for.
        cause: FailureCause,
        /// How.
        how: String,
    },
    /// A host of a gang listens to the gang's other hosts.
    HostListens {
        /// On which worker.
        worker: WorkerId,
        /// Of which job.
        job: JobId,
        /// Which, and where.
        said: HostPort,
    },
    /// All records up to this one are durable.
    Appended {
        /// The record's sequence number.
        sequence: u64,
    },
    /// Storage began or ceased to fail.
    StorageChanged {
        /// What it says, if it fails.
        error: Option<String>,
    },
    /// A deadline passed.
    Ticked,
    /// Somebody wants a worker to finish what it runs and leave.
    DrainRequested {
        /// Which request to answer.
        request: RequestId,
        /// Which worker.
        worker: WorkerId,
        /// Whether they may ask for that.
        allowed: bool,
    },
    /// A worker said that it finishes what it runs and leaves.
    WorkerDraining(WorkerId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the journal, in this order; later say [`Input::Appended`].
    Append {
        /// Counts records from 1, without gaps.
        sequence: u64,
        /// What to keep.
        record: Record,
    },
    /// The connection belongs to this worker from now on; send it a welcome.
    Admit {
        /// The connection.
        session: SessionId,
        /// The worker.
        worker: WorkerId,
    },
    /// The connection is refused.
    Reject {
        /// The connection.
        session: SessionId,
        /// Why.
        refusal: Refusal,
    },
    /// Tell a worker.
    Send {
        /// Whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
    /// Answer a client.
    Answer {
        /// Which request.
        request: RequestId,
        /// With what.
        reply: Box<Reply>,
    },
    /// This record is durable: its results, and the job's new view, may be shown.
    Publish {
        /// Whose record.
        job: JobId,
        /// Which.
        sequence: u64,
    },
    /// The job and its results leave the memory.
    Forget(JobId),
}
