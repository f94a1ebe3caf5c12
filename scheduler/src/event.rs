//! What the driver is told: by sessions, by the journal, by whoever started the scheduler.

use std::sync::Arc;

use phalanx_protocol::command::TaskSignal;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::{FromWorker, Join, Report, ToWorker};
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, WorkerId};
use phalanx_scheduler_core::SessionId;
use tokio::sync::{mpsc, oneshot};

use crate::feed::Feed;

/// Messages to one worker that may wait for its connection; a worker that lags more is given up.
pub(crate) const WORKER_QUEUE_MAX: usize = 65_536;
/// Events of all workers' sessions that may wait for the driver.
pub(crate) const EVENT_QUEUE_MAX: usize = 4096;
/// Events of all clients' sessions that may wait for the driver.
pub(crate) const REQUEST_QUEUE_MAX: usize = 1024;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client asks for something that the core decides.
    Command {
        user: String,
        admin: bool,
        command: Command,
        reply: oneshot::Sender<Reply>,
    },
    /// A client asks for something that the core knows.
    Query {
        query: Query,
        reply: oneshot::Sender<Reply>,
    },
    /// A client wants to follow a job.
    Follow {
        job: JobId,
        reply: oneshot::Sender<Result<Arc<Feed>, Refusal>>,
    },
    /// A worker introduced itself.
    Joined {
        session: SessionId,
        address: String,
        join: Box<Join>,
        link: WorkerLink,
    },
    /// A worker said something.
    Said { session: SessionId, message: FromWorker },
    /// A worker reported.
    Reported { session: SessionId, report: Box<Report> },
    /// A worker's session is over; `orderly` if the worker said so.
    Gone { session: SessionId, orderly: bool },
}

/// Changes.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<JobSpec>),
    Cancel(JobId),
    CancelTasks {
        job: JobId,
        tasks: RangeSet,
    },
    Requeue {
        job: JobId,
        tasks: Option<RangeSet>,
    },
    Retry(JobId),
    Hold {
        job: JobId,
        held: bool,
    },
    Drain(WorkerId),
    Signal {
        job: JobId,
        tasks: Option<RangeSet>,
        signal: TaskSignal,
    },
}

/// Questions.
#[derive(Debug)]
pub(crate) enum Query {
    Jobs,
    Job(JobId),
    Workers,
    Explain(JobId),
    Tasks { job: JobId, tasks: IndexRange },
}

/// How the driver reaches a worker's session.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    /// Messages, in order. Dropping it ends the session.
    pub(crate) messages: mpsc::Sender<ToWorker>,
    /// Why the worker was not let in, if it was not.
    pub(crate) refused: oneshot::Sender<Refusal>,
}

/// A worker that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) worker: WorkerId,
    pub(crate) messages: mpsc::Sender<ToWorker>,
}
