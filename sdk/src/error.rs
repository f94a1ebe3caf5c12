//! What can go wrong between a program and its cluster, as data.
//!
//! Three layers: a [`ClusterError`] before there is a cluster, a [`ClientError`] when one request fails, a [`JobError`]
//! when a job does not give what was asked of it. A failed task by itself is no error but a result: [`TaskError`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use phalanx_protocol::codec::{DecodeError, EncodeError};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::{IndexRange, JobId};
use phalanx_transport::{BindError, ConnectError, DirectoryError, FrameError};

/// Failures that a [`JobError`] lists besides the first.
pub(crate) const FURTHER_FAILURES_MAX: usize = 9;

/// Why a request to the scheduler was not carried out, or its fate is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The credential cannot be used at all.
    #[error("the credential cannot be used")]
    Credential(#[source] BindError),
    /// No scheduler could be reached to begin with.
    #[error(transparent)]
    Connect(ConnectError),
    /// The scheduler said no.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection was lost and did not come back in time. What was asked may have been carried out.
    #[error("the connection to the scheduler was lost, and not restored within {:.0} s", patience.as_secs_f64())]
    Lost {
        /// How long it was tried.
        patience: Duration,
        /// What happened last.
        #[source]
        cause: Interruption,
    },
    /// The two sides do not understand each other.
    #[error("the scheduler and this client do not understand each other")]
    Protocol(#[source] ProtocolError),
    /// The scheduler wants no more of this client: it may not ask, or broke the protocol's rules.
    #[error("the scheduler ended the conversation")]
    Ended(#[source] FrameError),
    /// A file that was to be uploaded cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The thread or runtime that serves this client has ended.
    #[error("the client was stopped")]
    Stopped,
}

/// How an exchange with a scheduler was cut short; another attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    /// No connection could be made.
    #[error(transparent)]
    Connect(ConnectError),
    /// The connection or stream broke.
    #[error(transparent)]
    Stream(FrameError),
    /// The stream ended before the answer did.
    #[error("the scheduler ended the stream without an answer")]
    NoAnswer,
    /// Whoever answered does not lead.
    #[error("no scheduler leads")]
    NoLeader,
}

/// What a peer did that the protocol does not allow.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// An answer to another question.
    #[error("the answer is of the wrong kind")]
    WrongReply,
    /// A merged value for only a part of its tasks.
    #[error("the merged result of tasks {range} is to count for a part of them")]
    SplitReduction {
        /// The tasks.
        range: IndexRange,
    },
    /// A frame that cannot be read or sent.
    #[error(transparent)]
    Frame(FrameError),
}

/// Why there is no cluster to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The cluster directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// An address is none.
    #[error("`{text}` is not the address of a scheduler")]
    BadAddress {
        /// What was given, by `PHALANX_SCHEDULER` or the cluster directory.
        text: String,
        /// What the resolver said.
        #[source]
        cause: io::Error,
    },
    /// Nothing says where a scheduler is.
    #[error("no scheduler of the cluster `{}` is known", root.display())]
    NoScheduler {
        /// The cluster directory.
        root: PathBuf,
    },
    /// No scheduler could be reached, or it refused us.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The thread that serves the cluster's connections cannot be started.
    #[error("the client's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The embedded cluster cannot be started.
    #[cfg(feature = "embedded")]
    #[error("the embedded cluster cannot be started")]
    Embedded(#[from] crate::embedded::EmbeddedError),
}

impl ClusterError {
    /// The next step for the person who reads the error, for a `hint:` line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Directory(error) => Some(error.hint()),
            Self::BadAddress { .. } => Some("give it as host:port; several are separated by commas"),
            Self::NoScheduler { .. } => {
                Some("start one with `phalanx scheduler`, or name one in PHALANX_SCHEDULER")
            }
            Self::Client(ClientError::Connect(error)) => Some(error.hint()),
            Self::Client(_) | Self::Thread(_) => None,
            #[cfg(feature = "embedded")]
            Self::Embedded(_) => None,
        }
    }
}

/// Why a job did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Tasks failed.
    #[error("{failed} of the {tasks} tasks of job {job} failed")]
    Failed {
        /// The job.
        job: JobId,
        /// How many tasks failed.
        failed: u64,
        /// How many tasks it has.
        tasks: u64,
        /// The failure that was seen first.
        #[source]
        first: TaskError,
        /// The next ones, at most nine.
        further: Vec<TaskError>,
    },
    /// Somebody cancelled the job.
    #[error("job {job} was cancelled by {by}")]
    Cancelled {
        /// The job.
        job: JobId,
        /// Who did.
        by: String,
    },
    /// The job could not run at all.
    #[error("job {job} cannot run: {reason}")]
    Broken {
        /// The job.
        job: JobId,
        /// Why, as a sentence.
        reason: String,
    },
    /// The job took longer than it might.
    #[error("job {job} was ended at its time limit of {} s", limit.as_secs_f64())]
    TimeLimit {
        /// The job.
        job: JobId,
        /// The limit.
        limit: Duration,
    },
    /// The job is over and some tasks have neither a result nor a kept failure.
    #[error("job {job} ended with {missing} tasks unaccounted for")]
    Incomplete {
        /// The job.
        job: JobId,
        /// How many.
        missing: u64,
    },
    /// A job without tasks has nothing to reduce.
    #[error("job {job} has no tasks, so there is nothing to reduce")]
    NothingToReduce {
        /// The job.
        job: JobId,
    },
    /// The kernel takes parameters and none were given.
    #[error("kernel `{kernel}` takes parameters: give them with `.parameters(..)`")]
    NoParameters {
        /// The kernel.
        kernel: &'static str,
    },
    /// More than a host would decode.
    #[error(
        "the parameters take {bytes} bytes, more than {}: pass what is larger as files",
        phalanx_protocol::limits::VALUE_BYTES_MAX
    )]
    ParametersTooLarge {
        /// Their encoded length.
        bytes: usize,
    },
    /// An item or the parameters have no byte form.
    #[error("{what} cannot be encoded")]
    Encode {
        /// Which value.
        what: String,
        /// What the encoder said.
        #[source]
        cause: EncodeError,
    },
    /// An item is larger than what a kernel host would read.
    #[error(
        "item {index} takes {bytes} bytes, an item may take {}",
        phalanx_protocol::limits::VALUE_BYTES_MAX
    )]
    ItemTooLarge {
        /// The item's place in the list.
        index: u64,
        /// Its encoded length.
        bytes: usize,
    },
    /// Results are not what the kernel returns.
    #[error("the results of tasks {range} of job {job} cannot be read")]
    Decode {
        /// The job.
        job: JobId,
        /// The tasks of the damaged block.
        range: IndexRange,
        /// What the decoder said.
        #[source]
        cause: DecodeError,
    },
}

/// A task without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {index} {cause}{}", after_colon(message))]
pub struct TaskError {
    /// The task: the number it was mapped over, or the item's place in the list.
    pub index: u64,
    /// The kind of failure.
    pub cause: TaskCause,
    /// The error's or panic's text, or why there is no result.
    pub message: String,
}

/// Why a task has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskCause {
    /// The task ran and failed.
    Failed(FailureCause),
    /// The job ended without this task, and perhaps without more; nothing follows.
    Unfinished,
    /// The result arrived and is not what the kernel returns; nothing follows.
    Unreadable,
    /// The cluster could not be reached any longer; nothing follows.
    Disconnected,
}

impl std::fmt::Display for TaskCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failed(FailureCause::Exit(status)) => return write!(f, "ended with status {status}"),
            Self::Failed(FailureCause::Signal(signal)) => return write!(f, "was killed by signal {signal}"),
            Self::Failed(FailureCause::Error) => "failed",
            Self::Failed(FailureCause::Panic) => "panicked",
            Self::Failed(FailureCause::Input) => "could not read its input",
            Self::Failed(FailureCause::Result) => "gave a result that cannot be kept",
            Self::Failed(FailureCause::Crash) => "crashed",
            Self::Failed(FailureCause::TimeLimit) => "ran too long",
            Self::Failed(FailureCause::Memory) => "used too much memory",
            Self::Failed(FailureCause::Lost) => "was lost with its worker",
            Self::Unfinished => "has no result",
            Self::Unreadable => "has an unreadable result",
            Self::Disconnected => "has an unknown result",
        })
    }
}

impl TaskError {
    /// A failure as users count: the first task's input is `first`.
    pub(crate) fn of(failure: TaskFailure, first: u64) -> Self {
        Self {
            index: first.saturating_add(failure.index),
            cause: TaskCause::Failed(failure.cause),
            message: failure.message,
        }
    }
}

fn after_colon(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!(": {text}"),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
