//! Records as they lie in the journal. Durable data outlives programs: a variant's layout never changes once it was
//! released, nor does its place in the list; a new need is a new variant at the end. Older ones are read for ever and
//! turned into what this version works with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Outcome, Record, ResultBlock, TaskFailure};
use crate::choice::WorkerChoice;
use crate::dependency::Dependency;
use crate::gang::Gang;
use crate::id::{GrantId, JobId, SubmissionId};
use crate::job::{Feeding, JobSpec, Retries, Work};
use crate::range::IndexRange;
use crate::resources::Request;
use crate::usage::Usage;

/// Every layout that was ever released, to be read.
#[derive(Debug, Deserialize)]
pub(super) enum Read {
    JobSubmittedFirst {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<FirstSpec>,
    },
    /// Nothing was measured; still written then.
    TasksEndedUnmeasured {
        job: JobId,
        done: Vec<IndexRange>,
        results: Vec<ResultBlock>,
        failed: Vec<TaskFailure>,
    },
    JobFinished {
        job: JobId,
        outcome: Outcome,
        finished_unix_millis: u64,
    },
    JobSubmittedSecond {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<SecondSpec>,
    },
    JobStarted {
        job: JobId,
        started_unix_millis: u64,
    },
    JobReopened {
        job: JobId,
        tasks: Vec<IndexRange>,
    },
    JobSubmittedThird {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<ThirdSpec>,
    },
    JobHeld {
        job: JobId,
        held: bool,
    },
    TasksCancelled {
        job: JobId,
        tasks: Vec<IndexRange>,
        by: String,
    },
    TasksRequeued {
        job: JobId,
        tasks: Vec<IndexRange>,
        last: GrantId,
    },
    JobSubmittedFourth {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<FourthSpec>,
    },
    JobSubmittedFifth {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<FifthSpec>,
    },
    TasksEnded {
        job: JobId,
        done: Vec<IndexRange>,
        results: Vec<ResultBlock>,
        failed: Vec<TaskFailure>,
        usage: Usage,
    },
    JobSubmitted {
        job: JobId,
        user: String,
        submitted_unix_millis: u64,
        spec: Box<JobSpec>,
    },
}

/// The newest layout of each record, to be written: the same list.
#[derive(Debug, Serialize)]
pub(super) enum Write<'a> {
    #[expect(dead_code, reason = "keeps the place of a layout that is only read")]
    JobSubmittedFirst,
    TasksEndedUnmeasured {
        job: JobId,
        done: &'a [IndexRange],
        results: &'a [ResultBlock],
        failed: &'a [TaskFailure],
    },
    JobFinished {
        job: JobId,
        outcome: &'a Outcome,
        finished_unix_millis: u64,
    },
    #[expect(dead_code, reason = "keeps the place of a layout that is only read")]
    JobSubmittedSecond,
    JobStarted {
        job: JobId,
        started_unix_millis: u64,
    },
    JobReopened {
        job: JobId,
        tasks: &'a [IndexRange],
    },
    #[expect(dead_code, reason = "keeps the place of a layout that is only read")]
    JobSubmittedThird,
    JobHeld {
        job: JobId,
        held: bool,
    },
    TasksCancelled {
        job: JobId,
        tasks: &'a [IndexRange],
        by: &'a str,
    },
    TasksRequeued {
        job: JobId,
        tasks: &'a [IndexRange],
        last: GrantId,
    },
    #[expect(dead_code, reason = "keeps the place of a layout that is only read")]
    JobSubmittedFourth,
    #[expect(dead_code, reason = "keeps the place of a layout that is only read")]
    JobSubmittedFifth,
    TasksEnded {
        job: JobId,
        done: &'a [IndexRange],
        results: &'a [ResultBlock],
        failed: &'a [TaskFailure],
        usage: &'a Usage,
    },
    JobSubmitted {
        job: JobId,
        user: &'a str,
        submitted_unix_millis: u64,
        spec: &'a JobSpec,
    },
}

/// A job spec as the first version wrote it.
#[derive(Debug, Deserialize)]
pub(super) struct FirstSpec {
    submission: SubmissionId,
    name: String,
    tasks: u64,
    work: Work,
    request: FirstRequest,
    priority: i32,
    feeding: Feeding,
    failures_max: Option<u64>,
}

/// A request as the first three versions wrote it: named resources were counted in whole ones.
#[derive(Debug, Deserialize)]
pub(super) struct FirstRequest {
    cpus: u32,
    memory_bytes: u64,
    named: BTreeMap<String, u64>,
}

/// A job spec as the second version wrote it.
#[derive(Debug, Deserialize)]
pub(super) struct SecondSpec {
    first: FirstSpec,
    retries: Retries,
    task_time_limit_millis: Option<u64>,
    time_limit_millis: Option<u64>,
    idempotent: bool,
}

/// A job spec as the third version wrote it.
#[derive(Debug, Deserialize)]
pub(super) struct ThirdSpec {
    second: SecondSpec,
    slots_max: Option<u32>,
    dependency: Option<Dependency>,
    held: bool,
    begin_unix_millis: Option<u64>,
}

/// A job spec as the fourth version wrote it: named resources in parts, no gangs.
#[derive(Debug, Deserialize)]
pub(super) struct FourthSpec {
    submission: SubmissionId,
    name: String,
    tasks: u64,
    work: Work,
    request: Request,
    priority: i32,
    feeding: Feeding,
    failures_max: Option<u64>,
    retries: Retries,
    task_time_limit_millis: Option<u64>,
    time_limit_millis: Option<u64>,
    idempotent: bool,
    slots_max: Option<u32>,
    dependency: Option<Dependency>,
    held: bool,
    begin_unix_millis: Option<u64>,
}

/// A job spec as the fifth version wrote it: on any workers. Fields are in the order of [`JobSpec`].
#[derive(Debug, Deserialize)]
pub(super) struct FifthSpec {
    submission: SubmissionId,
    name: String,
    tasks: u64,
    work: Work,
    request: Request,
    alternatives: Vec<Request>,
    priority: i32,
    feeding: Feeding,
    failures_max: Option<u64>,
    retries: Retries,
    task_time_limit_millis: Option<u64>,
    time_limit_millis: Option<u64>,
    idempotent: bool,
    slots_max: Option<u32>,
    dependency: Option<Dependency>,
    held: bool,
    begin_unix_millis: Option<u64>,
    gang: Option<Box<Gang>>,
}

impl From<FirstRequest> for Request {
    fn from(first: FirstRequest) -> Self {
        let named = first.named.into_iter();
        Self {
            cpus: first.cpus,
            memory_bytes: first.memory_bytes,
            named: named.map(|(name, count)| (name, count.into())).collect(),
            ..Self::default()
        }
    }
}

impl From<FirstSpec> for JobSpec {
    fn from(first: FirstSpec) -> Self {
        SecondSpec {
            first,
            retries: Retries::default(),
            task_time_limit_millis: None,
            time_limit_millis: None,
            idempotent: false,
        }
        .into()
    }
}

impl From<SecondSpec> for JobSpec {
    fn from(second: SecondSpec) -> Self {
        ThirdSpec {
            second,
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
        }
        .into()
    }
}

impl From<ThirdSpec> for JobSpec {
    fn from(third: ThirdSpec) -> Self {
        let ThirdSpec { second, .. } = third;
        let SecondSpec { first, .. } = second;
        FourthSpec {
            submission: first.submission,
            name: first.name,
            tasks: first.tasks,
            work: first.work,
            request: first.request.into(),
            priority: first.priority,
            feeding: first.feeding,
            failures_max: first.failures_max,
            retries: second.retries,
            task_time_limit_millis: second.task_time_limit_millis,
            time_limit_millis: second.time_limit_millis,
            idempotent: second.idempotent,
            slots_max: third.slots_max,
            dependency: third.dependency,
            held: third.held,
            begin_unix_millis: third.begin_unix_millis,
        }
        .into()
    }
}

impl From<FourthSpec> for JobSpec {
    fn from(fourth: FourthSpec) -> Self {
        FifthSpec {
            submission: fourth.submission,
            name: fourth.name,
            tasks: fourth.tasks,
            work: fourth.work,
            request: fourth.request,
            alternatives: Vec::new(),
            priority: fourth.priority,
            feeding: fourth.feeding,
            failures_max: fourth.failures_max,
            retries: fourth.retries,
            task_time_limit_millis: fourth.task_time_limit_millis,
            time_limit_millis: fourth.time_limit_millis,
            idempotent: fourth.idempotent,
            slots_max: fourth.slots_max,
            dependency: fourth.dependency,
            held: fourth.held,
            begin_unix_millis: fourth.begin_unix_millis,
            gang: None,
        }
        .into()
    }
}

impl From<FifthSpec> for JobSpec {
    fn from(fifth: FifthSpec) -> Self {
        Self {
            submission: fifth.submission,
            name: fifth.name,
            tasks: fifth.tasks,
            work: fifth.work,
            request: fifth.request,
            alternatives: fifth.alternatives,
            priority: fifth.priority,
            feeding: fifth.feeding,
            failures_max: fifth.failures_max,
            retries: fifth.retries,
            task_time_limit_millis: fifth.task_time_limit_millis,
            time_limit_millis: fifth.time_limit_millis,
            idempotent: fifth.idempotent,
            slots_max: fifth.slots_max,
            dependency: fifth.dependency,
            held: fifth.held,
            begin_unix_millis: fifth.begin_unix_millis,
            gang: fifth.gang,
            choice: WorkerChoice::default(),
        }
    }
}

impl From<Read> for Record {
    fn from(read: Read) -> Self {
        match read {
            Read::JobSubmittedFirst {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec: Box::new((*spec).into()),
            },
            Read::TasksEndedUnmeasured {
                job,
                done,
                results,
                failed,
            } => Self::TasksEnded {
                job,
                done,
                results,
                failed,
                usage: Usage::Unknown,
            },
            Read::TasksEnded {
                job,
                done,
                results,
                failed,
                usage,
            } => Self::TasksEnded {
                job,
                done,
                results,
                failed,
                usage,
            },
            Read::JobFinished {
                job,
                outcome,
                finished_unix_millis,
            } => Self::JobFinished {
                job,
                outcome,
                finished_unix_millis,
            },
            Read::JobSubmittedSecond {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec: Box::new((*spec).into()),
            },
            Read::JobSubmittedThird {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec: Box::new((*spec).into()),
            },
            Read::JobSubmittedFourth {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec: Box::new((*spec).into()),
            },
            Read::JobSubmittedFifth {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec: Box::new((*spec).into()),
            },
            Read::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec,
            },
            Read::JobStarted {
                job,
                started_unix_millis,
            } => Self::JobStarted {
                job,
                started_unix_millis,
            },
            Read::JobReopened { job, tasks } => Self::JobReopened { job, tasks },
            Read::JobHeld { job, held } => Self::JobHeld { job, held },
            Read::TasksCancelled { job, tasks, by } => Self::TasksCancelled { job, tasks, by },
            Read::TasksRequeued { job, tasks, last } => Self::TasksRequeued { job, tasks, last },
        }
    }
}

impl<'a> From<&'a Record> for Write<'a> {
    fn from(record: &'a Record) -> Self {
        match record {
            Record::JobSubmitted {
                job,
                user,
                submitted_unix_millis,
                spec,
            } => Self::JobSubmitted {
                job: *job,
                user,
                submitted_unix_millis: *submitted_unix_millis,
                spec,
            },
            Record::TasksEnded {
                job,
                done,
                results,
                failed,
                usage: Usage::Unknown,
            } => Self::TasksEndedUnmeasured {
                job: *job,
                done,
                results,
                failed,
            },
            Record::TasksEnded {
                job,
                done,
                results,
                failed,
                usage,
            } => Self::TasksEnded {
                job: *job,
                done,
                results,
                failed,
                usage,
            },
            Record::JobFinished {
                job,
                outcome,
                finished_unix_millis,
            } => Self::JobFinished {
                job: *job,
                outcome,
                finished_unix_millis: *finished_unix_millis,
            },
            Record::JobStarted {
                job,
                started_unix_millis,
            } => Self::JobStarted {
                job: *job,
                started_unix_millis: *started_unix_millis,
            },
            Record::JobReopened { job, tasks } => Self::JobReopened { job: *job, tasks },
            Record::JobHeld { job, held } => Self::JobHeld {
                job: *job,
                held: *held,
            },
            Record::TasksRequeued { job, tasks, last } => Self::TasksRequeued {
                job: *job,
                tasks,
                last: *last,
            },
            Record::TasksCancelled { job, tasks, by } => Self::TasksCancelled { job: *job, tasks, by },
        }
    }
}
