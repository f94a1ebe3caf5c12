//! What programs read: JSON with a version. These shapes are a promise, apart from the types that travel between our
//! own processes; a change that breaks a reader raises [`VERSION`].

mod explanation;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::record::{FailureCause, Outcome, TaskFailure};
use phalanx_protocol::view::{JobView, WorkerView};
use phalanx_protocol::{Amount, IndexRange, JobId, Request, Resources, UsageSum};
use serde::Serialize;
use serde_json::Number;
use serde_json::value::RawValue;

pub(crate) use self::explanation::ExplanationShape;
use super::error::CliError;
use super::graph::Graph;
use phalanx_protocol::exit::ExitCode;

/// The version in each document.
const VERSION: u32 = 1;

/// A document: its version, and under one name what was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Document<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

impl<T> Document<T> {
    pub(crate) fn new(content: T) -> Self {
        Self {
            version: VERSION,
            content,
        }
    }
}

/// A document as one line of text, with its line feed.
pub(crate) fn line(document: &impl Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string(document);
    let mut text = text.map_err(|error| CliError::from_chain(ExitCode::Internal, &error))?;
    text.push('\n');
    Ok(text)
}

/// What a document holds, by its name in it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content<'a> {
    Submitted {
        job: JobId,
    },
    SubmittedJobs(&'a [SubmittedShape<'a>]),
    WouldSubmit(&'a [DraftShape]),
    Graph(&'a Graph),
    Job(JobShape<'a>),
    Jobs(Vec<JobShape<'a>>),
    Workers(Vec<WorkerShape<'a>>),
    Explanation(ExplanationShape<'a>),
    Kernels(Vec<KernelShape<'a>>),
    Storage(storage::CheckShape<'a>),
    Cluster {
        directory: String,
        id: &'a str,
        storage: String,
        schedulers: &'a [String],
    },
    Scheduler {
        name: &'a str,
        address: String,
        pid: u32,
        role: &'static str,
    },
    Worker {
        id: String,
        name: &'a str,
        capacity: ResourcesShape<'a>,
        pid: u32,
    },
    Drained {
        worker: String,
    },
    Reopened {
        job: JobId,
        tasks: u64,
    },
    Requeued(Vec<RequeuedShape>),
    Chaos {
        seed: u64,
        seconds: f64,
        undisturbed_seconds: f64,
        disturbances: &'a BTreeMap<&'static str, u64>,
        jobs: u64,
        gangs: u64,
        gangs_hit: u64,
        commands: u64,
        results: u64,
        longest_wait_seconds: f64,
        findings: &'a [String],
    },
    Up {
        directory: String,
        address: String,
        scheduler: UpMemberShape,
        schedulers: Vec<UpMemberShape>,
        workers: Vec<UpMemberShape>,
    },
}

/// A job of a file.
#[derive(Debug, Serialize)]
pub(crate) struct SubmittedShape<'a> {
    pub(crate) name: &'a str,
    pub(crate) job: JobId,
}

/// A job that could be submitted.
#[derive(Debug, Serialize)]
pub(crate) struct DraftShape {
    pub(crate) name: String,
    /// The kernel or the command.
    pub(crate) runs: String,
    /// Absent if nobody has counted its inputs yet.
    pub(crate) tasks: Option<u64>,
    #[serde(serialize_with = "request_shape")]
    pub(crate) request: Request,
    /// What each task may need instead.
    #[serde(serialize_with = "request_shapes", skip_serializing_if = "Vec::is_empty")]
    pub(crate) alternatives: Vec<Request>,
    /// As options say it: `afterok 12`; in a job file with names.
    pub(crate) waits_for: Vec<String>,
    /// One of these is enough.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) any_of: bool,
}

fn request_shape<S: serde::Serializer>(request: &Request, serializer: S) -> Result<S::Ok, S::Error> {
    ResourcesShape::from(request).serialize(serializer)
}

fn request_shapes<S: serde::Serializer>(requests: &[Request], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(requests.iter().map(ResourcesShape::from))
}

#[derive(Debug, Serialize)]
pub(crate) struct UpMemberShape {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// How many tasks of a job start from the top.
#[derive(Debug, Serialize)]
pub(crate) struct RequeuedShape {
    pub(crate) job: JobId,
    pub(crate) tasks: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct KernelShape<'a> {
    pub(crate) name: &'a str,
    pub(crate) input: &'a str,
    pub(crate) output: &'a str,
    pub(crate) parameters: Option<&'a str>,
    pub(crate) reduces: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResourcesShape<'a> {
    cpus: u32,
    memory_bytes: u64,
    named: BTreeMap<&'a str, Number>,
}

/// Whole amounts as whole numbers, others with decimals.
fn numbers(named: &BTreeMap<String, Amount>) -> BTreeMap<&str, Number> {
    let number = |amount: &Amount| match amount.is_whole() {
        true => Number::from(amount.wholes()),
        false => Number::from_f64(amount.as_f64()).unwrap_or_else(|| Number::from(amount.wholes())),
    };
    let named = named.iter();
    named
        .map(|(name, amount)| (name.as_str(), number(amount)))
        .collect()
}

impl<'a> From<&'a Resources> for ResourcesShape<'a> {
    fn from(resources: &'a Resources) -> Self {
        Self {
            cpus: resources.cpus,
            memory_bytes: resources.memory_bytes,
            named: numbers(&resources.named),
        }
    }
}

impl<'a> From<&'a Request> for ResourcesShape<'a> {
    fn from(request: &'a Request) -> Self {
        Self {
            cpus: request.cpus,
            memory_bytes: request.memory_bytes,
            named: numbers(&request.named),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct JobShape<'a> {
    id: JobId,
    name: &'a str,
    user: &'a str,
    /// What its tasks call, or else what they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    state: &'static str,
    /// Why a broken job is broken, or who cancelled it.
    reason: Option<&'a str>,
    priority: i32,
    request: ResourcesShape<'a>,
    /// What tasks may need instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<ResourcesShape<'a>>,
    /// Workers that it may run on; any, if absent.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    on: BTreeSet<&'a String>,
    /// Workers that it may not run on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    not_on: BTreeSet<&'a String>,
    tasks: u64,
    done: u64,
    failed: u64,
    cancelled: u64,
    resting: u64,
    slots: u64,
    workers: u64,
    tasks_per_second: f64,
    submitted_unix_millis: u64,
    finished_unix_millis: Option<u64>,
    first_failures: Vec<FailureShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageShape>,
}

/// What commands have used together.
#[derive(Debug, Serialize)]
struct UsageShape {
    tasks: u64,
    ran_millis: u64,
    user_micros: u64,
    system_micros: u64,
    rss_bytes_max: u64,
    rss_task: u64,
    first_start_unix_millis: u64,
    last_end_unix_millis: u64,
}

impl From<&UsageSum> for UsageShape {
    fn from(sum: &UsageSum) -> Self {
        Self {
            tasks: sum.tasks,
            ran_millis: sum.ran_millis,
            user_micros: sum.user_micros,
            system_micros: sum.system_micros,
            rss_bytes_max: sum.rss_kib_max.saturating_mul(1024),
            rss_task: sum.rss_task,
            first_start_unix_millis: sum.first_start_unix_millis,
            last_end_unix_millis: sum.last_end_unix_millis,
        }
    }
}

impl<'a> From<&'a JobView> for JobShape<'a> {
    fn from(view: &'a JobView) -> Self {
        Self {
            id: view.job,
            name: &view.name,
            user: &view.user,
            kernel: view.command.is_none().then_some(&view.kernel),
            command: view.command.is_some().then_some(&view.kernel),
            state: view.state(),
            reason: match &view.outcome {
                Some(Outcome::Broken { reason }) => Some(reason),
                Some(Outcome::Cancelled { by }) => Some(by),
                Some(Outcome::Succeeded | Outcome::Failed | Outcome::TimeLimit { .. }) | None => None,
            },
            priority: view.priority,
            request: (&view.request).into(),
            alternatives: view.alternatives.iter().map(ResourcesShape::from).collect(),
            on: view.choice.wanted().collect(),
            not_on: view.choice.never.iter().collect(),
            tasks: view.tasks,
            done: view.done,
            failed: view.failed,
            cancelled: view.cancelled,
            resting: view.resting,
            slots: view.slots,
            workers: view.workers,
            tasks_per_second: view.tasks_per_second,
            submitted_unix_millis: view.submitted_unix_millis,
            finished_unix_millis: view.finished_unix_millis,
            first_failures: view.first_failures.iter().map(FailureShape::from).collect(),
            usage: view.usage.as_ref().map(UsageShape::from),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct FailureShape<'a> {
    index: u64,
    cause: &'static str,
    message: &'a str,
}

impl<'a> From<&'a TaskFailure> for FailureShape<'a> {
    fn from(failure: &'a TaskFailure) -> Self {
        Self {
            index: failure.index,
            cause: match failure.cause {
                FailureCause::Error => "error",
                FailureCause::Panic => "panic",
                FailureCause::Input => "input",
                FailureCause::Result => "result",
                FailureCause::Crash => "crash",
                FailureCause::TimeLimit => "time_limit",
                FailureCause::Memory => "memory",
                FailureCause::Lost => "lost",
                FailureCause::Exit(_) => "exit",
                FailureCause::Signal(_) => "signal",
            },
            message: &failure.message,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct WorkerShape<'a> {
    id: String,
    name: &'a str,
    address: &'a str,
    capacity: ResourcesShape<'a>,
    free: ResourcesShape<'a>,
    jobs: &'a [JobId],
    tasks_ended: u64,
    draining: bool,
}

impl<'a> From<&'a WorkerView> for WorkerShape<'a> {
    fn from(view: &'a WorkerView) -> Self {
        Self {
            id: view.worker.to_string(),
            name: &view.name,
            address: &view.address,
            capacity: (&view.capacity).into(),
            free: (&view.free).into(),
            jobs: &view.jobs,
            tasks_ended: view.tasks_ended,
            draining: view.draining,
        }
    }
}

/// A line of a stream of results.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ResultLine<'a> {
    Value {
        index: u64,
        value: &'a RawValue,
    },
    /// One merged value of neighbouring tasks.
    Merged {
        range: RangeText,
        value: &'a RawValue,
    },
    Failed {
        index: u64,
        error: FailureText<'a>,
    },
}

/// A range as `0-99`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeText(pub(crate) IndexRange);

impl Serialize for RangeText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A failure in a line that names the index already.
#[derive(Debug, Serialize)]
pub(crate) struct FailureText<'a> {
    cause: &'static str,
    message: &'a str,
}

impl<'a> From<&'a TaskFailure> for FailureText<'a> {
    fn from(failure: &'a TaskFailure) -> Self {
        let FailureShape { cause, message, .. } = failure.into();
        Self { cause, message }
    }
}
