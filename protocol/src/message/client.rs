//! A client asks, the scheduler answers; each request has its own stream.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::TaskSignal;
use crate::id::{BlobId, GrantId, JobId, TaskId, Term, WorkerId};
use crate::job::JobSpec;
use crate::range::{IndexRange, RangeSet};
use crate::record::TaskFailure;
use crate::view::{Explanation, JobView, TasksPage, WorkerView};

/// The first frame of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Which of these blobs does the storage lack? Answer: [`Reply::Missing`].
    FindMissing(Vec<BlobId>),
    /// Keep a blob; its bytes follow as raw frames up to the end of the stream. Answer: [`Reply::Done`].
    PutBlob {
        /// The hash that the bytes must have.
        blob: BlobId,
        /// How many bytes follow.
        bytes: u64,
    },
    /// Accept a job. Answer, once durable: [`Reply::Submitted`].
    Submit(Box<JobSpec>),
    /// End a job, its unstarted tasks unrun. Answer, once durable: [`Reply::Done`].
    Cancel(JobId),
    /// All jobs the scheduler remembers, newest last. Answer: [`Reply::Jobs`].
    Jobs,
    /// One job. Answer: [`Reply::Job`].
    Job(JobId),
    /// One job, again at each change until it is over. Answers: [`Reply::Job`] each.
    Watch(JobId),
    /// Results. Answers: [`Reply::Results`] or [`Reply::Failed`] each, then [`Reply::Job`] once all are out.
    Results {
        /// Whose.
        job: JobId,
        /// By index; else as they become durable.
        in_order: bool,
        /// What the client already has.
        have: RangeSet,
    },
    /// All workers. Answer: [`Reply::Workers`].
    Workers,
    /// Why a job is where it is. Answer: [`Reply::Explanation`].
    Explain(JobId),
    /// Run the failed tasks of a job again, and those that were not run because it was stopped. Answer, once durable:
    /// [`Reply::Reopened`].
    Retry(JobId),
    /// Give a worker nothing more, let it finish what runs, and have it leave. Answer: [`Reply::Done`].
    Drain(WorkerId),
    /// Where the cluster's schedulers are; a standby answers too. Answer: [`Reply::Schedulers`].
    Schedulers,
    /// What tasks of a command job have written, as far as it is packed. Answer: [`Reply::Output`].
    Output(OutputQuery),
    /// Start nothing more of a job until it is released. Answer, once durable: [`Reply::Done`].
    Hold(JobId),
    /// Let a job that is held go on. Answer, once durable: [`Reply::Done`].
    Release(JobId),
    /// What becomes of the tasks of a job, a page from the first one on. Answer: [`Reply::Tasks`].
    Tasks {
        /// Whose.
        job: JobId,
        /// Which.
        tasks: IndexRange,
    },
    /// Start tasks of a job from the top: those that have ended, and those that run. Answer, once durable: [`Reply::Reopened`].
    Requeue {
        /// Whose.
        job: JobId,
        /// Which; all of the job, if absent.
        tasks: Option<RangeSet>,
    },
    /// End tasks of a job, those that run too; its other tasks go on. Answer, once durable: [`Reply::Cancelled`].
    CancelTasks {
        /// Whose.
        job: JobId,
        /// Which; those that have ended stay as they are.
        tasks: RangeSet,
    },
    /// A piece of what a command job reads while it runs; the same piece may come again. Answer, once durable:
    /// [`Reply::Done`].
    Input(InputPiece),
    /// Send a signal to tasks of a command job that run; the others never hear of it. Answer: [`Reply::Done`].
    Signal {
        /// Whose.
        job: JobId,
        /// Which; all of the job, if absent.
        tasks: Option<RangeSet>,
        /// What.
        signal: TaskSignal,
    },
}

/// A piece of a job's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPiece {
    /// The job.
    pub job: JobId,
    /// Bytes that lie before it.
    pub offset: u64,
    /// At most [`crate::limits::INPUT_PIECE_BYTES_MAX`].
    pub bytes: Bytes,
    /// Nothing comes behind it.
    pub is_last: bool,
}

/// Whose output, and what of it the client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputQuery {
    /// The job.
    pub job: JobId,
    /// The tasks, in order.
    pub tasks: IndexRange,
    /// How much of the first task's the client has.
    pub had: OutputPosition,
    /// How many bytes are wanted at the most, beside [`crate::limits::OUTPUT_PAGE_BYTES_MAX`].
    pub bytes_max: u64,
}

/// A place in the output of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPosition {
    /// Of which attempt; `None` before the first.
    pub attempt: Option<GrantId>,
    /// Bytes of standard output.
    pub output: u64,
    /// Bytes of standard error.
    pub error: u64,
}

/// A piece of what a task has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPiece {
    /// Which task.
    pub task: u64,
    /// It was written to standard error; else to standard output.
    pub is_error: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// An answer to an [`OutputQuery`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPage {
    /// What there is, by task.
    pub pieces: Vec<OutputPiece>,
    /// The first task that is not in the page to its end; the query's end if there is none.
    pub next: u64,
    /// How far the page reaches in its output.
    pub position: OutputPosition,
    /// Its latest attempt has ended, so that this attempt writes no more than there is now.
    pub has_ended: bool,
}

/// A frame of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, and durable where that matters.
    Done,
    /// The job is accepted, and durable.
    Submitted(JobId),
    /// These are not there.
    Missing(Vec<BlobId>),
    /// All jobs.
    Jobs(Vec<JobView>),
    /// One job.
    Job(JobView),
    /// All workers.
    Workers(Vec<WorkerView>),
    /// The reason.
    Explanation(Explanation),
    /// Results of `range`; `bytes` follow as one raw frame. Only `keep` counts, the rest is to be skipped.
    Results {
        /// The tasks whose results follow; one merged value if the job reduces.
        range: IndexRange,
        /// Those of them that are new.
        keep: Vec<IndexRange>,
    },
    /// These tasks are done and have no result.
    NoResults(Vec<IndexRange>),
    /// These tasks failed.
    Failed(Vec<TaskFailure>),
    /// The request was not carried out.
    Refused(Refusal),
    /// That many tasks of the job wait again, or will as soon as what runs of them has ended, and that is durable.
    Reopened {
        /// How many.
        tasks: u64,
    },
    /// The cluster's schedulers, each as `host:port`.
    Schedulers {
        /// Of the one that leads, as far as is known.
        leader: Vec<String>,
        /// Of all that seem to be alive.
        all: Vec<String>,
        /// The highest term that is known.
        term: Term,
    },
    /// What tasks have written.
    Output(OutputPage),
    /// What becomes of tasks.
    Tasks(TasksPage),
    /// That many tasks are cancelled, and that is durable.
    Cancelled {
        /// How many.
        tasks: u64,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// Someone else's job.
    #[error("job {job} belongs to {owner}, and you are {user}")]
    NotYours {
        /// The job.
        job: JobId,
        /// Whose it is.
        owner: String,
        /// Who asked.
        user: String,
    },
    /// The spec is wrong in itself.
    #[error("the job is malformed")]
    Spec(#[source] crate::job::SpecError),
    /// No worker could hold even one task.
    #[error(
        "each task needs {}, the largest worker has {largest}",
        crate::resources::either(needs)
    )]
    TooLarge {
        /// What was asked for, in order of preference.
        needs: Vec<crate::resources::Request>,
        /// What the largest worker has when it is empty.
        largest: crate::resources::Resources,
    },
    /// A blob that the spec names is not on the storage.
    #[error("blob {0} was not uploaded")]
    BlobMissing(BlobId),
    /// The bytes do not have the hash.
    #[error("the upload of blob {0} was damaged on the way")]
    BlobDamaged(BlobId),
    /// Storage fails; what was asked may still be carried out when it recovers.
    #[error("shared storage fails: {error}")]
    Storage {
        /// What it says.
        error: String,
    },
    /// A bound was reached.
    #[error("the scheduler is full: {what}")]
    Full {
        /// Which bound.
        what: String,
    },
    /// This role may not ask this.
    #[error("a {role} credential may not do this, a user's may")]
    Role {
        /// The role that asked.
        role: String,
    },
    /// The scheduler is no longer, or not yet, the leader.
    #[error("this scheduler does not lead")]
    NotLeader {
        /// Where the one is that does, as `host:port`; empty if that is not known.
        leader: Vec<String>,
    },
    /// No such worker.
    #[error("there is no worker {0}")]
    NoSuchWorker(WorkerId),
    /// There is nothing to run again.
    #[error("no task of job {job} can be run again: {why}")]
    NothingToRetry {
        /// The job.
        job: JobId,
        /// Why, as the second half of a sentence.
        why: String,
    },
    /// Only an admin may ask this.
    #[error("only an admin may do this")]
    AdminOnly,
    /// The job is over.
    #[error("job {0} is over")]
    Over(JobId),
    /// A dependency names a job that there never was.
    #[error("it waits for job {0}, which there never was")]
    NoSuchDependency(JobId),
    /// A dependency names an element that an array does not have.
    #[error("it waits for element {element} of job {job}, which has none of that number")]
    NoSuchElement {
        /// The job.
        job: JobId,
        /// The number.
        element: u64,
    },
    /// Elements of an array wait for those of another one, task by task, of which one stands at another place.
    #[error(
        "its element {element} is at another place among those of job {job}: aftercorr pairs arrays that begin with the same numbers"
    )]
    Unpaired {
        /// The other job.
        job: JobId,
        /// The number.
        element: u64,
    },
    /// There is nothing to start from the top.
    #[error("no task of job {job} can be requeued: {why}")]
    NothingToRequeue {
        /// The job.
        job: JobId,
        /// Why, as the second half of a sentence.
        why: String,
    },
    /// The job has no such task.
    #[error("there is no task {task}: {} has {}", .task.job, tasks_of(*.tasks))]
    NoSuchTask {
        /// The task.
        task: TaskId,
        /// How many the job has.
        tasks: u64,
    },
    /// Kernels are no processes of their own.
    #[error("job {0} runs kernels, which take no signals")]
    NoSignals(JobId),
    /// There is nothing to send a signal to.
    #[error("no signal was sent: {} runs now", what_of(*.job, *.all))]
    NothingRuns {
        /// The job.
        job: JobId,
        /// All of it was meant; else some of its tasks.
        all: bool,
    },
    /// There is no signal of that number.
    #[error("there is no signal {0}")]
    NoSuchSignal(i32),
}

fn what_of(job: JobId, all: bool) -> String {
    match all {
        true => format!("no task of job {job}"),
        false => format!("none of these tasks of job {job}"),
    }
}

fn tasks_of(count: u64) -> String {
    match count {
        0 => "none".to_owned(),
        1 => "one, 0".to_owned(),
        _ => format!("{count}, 0 to {}", count - 1),
    }
}
