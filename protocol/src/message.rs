//! Who tells whom what. A stream carries one kind of message each way; one variant is one frame.
//!
//! Three conversations: a client asks the scheduler ([`client`], one bidirectional stream per request), a worker and
//! the scheduler keep each other informed ([`worker`], one control and one report stream per session), a worker drives
//! the kernel host that it started ([`host`], one socket pair).

/// A client asks, the scheduler answers; each request has its own stream.
pub mod client {
    use bytes::Bytes;
    use serde::{Deserialize, Serialize};

    use crate::id::{BlobId, GrantId, JobId, Term, WorkerId};
    use crate::job::JobSpec;
    use crate::range::{IndexRange, RangeSet};
    use crate::record::TaskFailure;
    use crate::view::{Explanation, JobView, WorkerView};

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
        /// That many tasks of the job wait again, and that is durable.
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
        #[error("each task needs {need}, the largest worker has {largest}")]
        TooLarge {
            /// What was asked for.
            need: crate::resources::Request,
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
    }
}

/// A worker reports, the scheduler grants.
pub mod worker {
    use serde::{Deserialize, Serialize};

    use crate::id::{GrantId, JobId, Term, WorkerId};
    use crate::job::Work;
    use crate::range::IndexRange;
    use crate::record::{FailureCause, ResultBlock, TaskFailure};
    use crate::resources::{Request, Resources};

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
    }
}

/// A worker drives a kernel host over a socket pair.
pub mod host {
    use std::path::PathBuf;

    use bytes::Bytes;
    use serde::{Deserialize, Serialize};

    use crate::command::ArrayIds;
    use crate::id::{GrantId, JobId};
    use crate::job::Encoding;
    use crate::range::IndexRange;
    use crate::record::TaskFailure;
    use crate::resources::Request;

    /// The environment variable that makes a kernel program a host: the number of its socket's file descriptor.
    pub const HOST_FD_VARIABLE: &str = "PHALANX_HOST_FD";
    /// The environment variable that names the host's running board: a file in which each slot keeps, as a `u64` in the
    /// machine's byte order at [`BOARD_LINE_BYTES`] times its number, the index that it runs, or [`BOARD_IDLE`].
    pub const HOST_BOARD_VARIABLE: &str = "PHALANX_HOST_BOARD";
    /// The environment variable that marks everything that a host starts: no other host has the same.
    pub const HOST_MARK_VARIABLE: &str = "PHALANX_HOST_MARK";
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
        /// Run at most this many tasks at a time. Answer, as soon as it is true: `Slots`.
        SetSlots(u32),
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
        /// Give back unstarted tasks from the grant's end, at most `count`. Answer: `Returned`.
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
        Command(HostCommand),
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
        /// How many tasks run at most from now on, after a change.
        Slots(u32),
        /// The answer to a revoke.
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
        /// Granted tasks that have not started.
        pub backlog: u64,
    }

    /// Version of the conversations in this module and its siblings.
    pub const PROTOCOL_VERSION: u32 = 3;

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
}
