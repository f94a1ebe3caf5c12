//! Jobs and elements of arrays as the entries of Slurm's lists: what each is called, what it is doing, and since when.
//!
//! An array is one job here and many there: those of its elements that have begun are entries of their own, those that wait
//! are one together, unless they are asked for one by one. Pure: what the scheduler said goes in, entries come out.

use std::time::Duration;

use phalanx::JobView;
use phalanx_protocol::command::{element_number, facts};
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::view::{TaskRange, TaskState};
use phalanx_protocol::{ArrayIds, IndexRange, TaskUsage, UsageSum, WorkerId};

use super::elements::{numbers, spec};
use crate::batch::array::ArraySpec;
use crate::batch::states::JobState;

/// One line of a list.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) view: &'a JobView,
    pub(super) part: Part,
    pub(super) state: JobState,
    /// Why it failed.
    pub(super) cause: Option<FailureCause>,
    /// Who runs it, or has run it, if that is one and known.
    pub(super) worker: Option<WorkerId>,
    /// Who runs it, in the order of its nodes, if it has several.
    pub(super) members: Vec<WorkerId>,
    /// Milliseconds since 1970.
    pub(super) started: Option<u64>,
    /// Milliseconds since 1970.
    pub(super) ended: Option<u64>,
    pub(super) restarts: u32,
    /// What it has used, if that is known.
    pub(super) used: Option<UsageSum>,
}

/// Which part of a job it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The task `index` of an array, which the user knows as `number`.
    Element {
        index: u64,
        number: u64,
    },
    /// Elements that wait.
    Waiting(ArraySpec),
}

/// Whether elements of an array that wait are one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    Together,
    OneByOne,
}

/// The state of a task that failed for this reason.
fn failed(cause: Option<FailureCause>) -> JobState {
    match cause {
        Some(FailureCause::TimeLimit) => JobState::Timeout,
        Some(FailureCause::Memory) => JobState::OutOfMemory,
        Some(FailureCause::Lost) => JobState::NodeFail,
        Some(
            FailureCause::Error
            | FailureCause::Panic
            | FailureCause::Input
            | FailureCause::Result
            | FailureCause::Crash
            | FailureCause::Exit(_)
            | FailureCause::Signal(_),
        )
        | None => JobState::Failed,
    }
}

/// The state of a job that is over, or of what of it did not come to its turn.
fn ended(outcome: &Outcome, cause: Option<FailureCause>) -> JobState {
    match outcome {
        Outcome::Succeeded => JobState::Completed,
        Outcome::Failed => failed(cause),
        Outcome::Cancelled { .. } => JobState::Cancelled,
        Outcome::Broken { .. } => JobState::Failed,
        Outcome::TimeLimit { .. } => JobState::Timeout,
    }
}

/// The state of a task, and why it failed.
fn of_task(view: &JobView, state: TaskState) -> (JobState, Option<FailureCause>) {
    let state = match state {
        TaskState::Waiting | TaskState::Blocked | TaskState::Resting | TaskState::Granted => {
            JobState::Pending
        }
        TaskState::Running => JobState::Running,
        TaskState::Ending => JobState::Completing,
        TaskState::Succeeded => JobState::Completed,
        TaskState::Failed(cause) => return (failed(cause), cause),
        TaskState::Cancelled => JobState::Cancelled,
        TaskState::Unrun => match &view.outcome {
            // it was spared because others failed
            Some(Outcome::Failed | Outcome::Succeeded) | None => JobState::Cancelled,
            Some(outcome) => ended(outcome, None),
        },
    };
    (state, None)
}

/// The entries of a job, whose tasks are where `tasks` says; that may be empty where nobody asked.
pub(super) fn entries<'a>(view: &'a JobView, tasks: &[TaskRange], grouping: Grouping) -> Vec<Entry<'a>> {
    match array(view) {
        Some(array) if !tasks.is_empty() => elements(view, array, tasks, grouping),
        Some(_) | None => vec![whole(view, tasks)],
    }
}

/// The numbers of an array's elements.
pub(super) fn array(view: &JobView) -> Option<&ArrayIds> {
    view.command.as_ref()?.array.as_ref()
}

/// How many nodes a job has.
pub(super) fn node_count(view: &JobView) -> u64 {
    let said = view
        .command
        .as_ref()
        .and_then(|command| command.facts.get(facts::NODES));
    said.and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn whole<'a>(view: &'a JobView, tasks: &[TaskRange]) -> Entry<'a> {
    // only of a single one is it the same as of the job
    let nodes = node_count(view);
    // of a job on several, the first runs its script
    let task = tasks.first().filter(|_| view.tasks == 1 || nodes > 1);
    // lists of jobs leave failures out
    let mut own = tasks.iter().filter(|_| task.is_some());
    // what keeps a node may have been lost, and the script spared
    let cause_of_task = own.find_map(|task| of_task(view, task.state).1);
    let first_cause = view
        .first_failures
        .first()
        .map(|failure| failure.cause)
        .or(cause_of_task);
    let (state, cause) = match (&view.outcome, task) {
        (Some(outcome), _) => (ended(outcome, first_cause), first_cause),
        (None, Some(task)) => of_task(view, task.state),
        (None, None) if view.slots > 0 => (JobState::Running, None),
        (None, None) => (JobState::Pending, None),
    };
    let is_pending = state == JobState::Pending;
    let started = task
        .and_then(|task| task.started_unix_millis)
        .or(view.started_unix_millis);
    Entry {
        view,
        part: Part::Whole,
        state,
        cause,
        worker: task.and_then(|task| task.worker).filter(|_| !is_pending),
        members: match nodes > 1 && !is_pending {
            true => tasks.iter().filter_map(|task| task.worker).collect(),
            false => Vec::new(),
        },
        started: started.filter(|_| !is_pending),
        ended: view.finished_unix_millis,
        restarts: task.map_or(0, |task| task.restarts),
        // of one that was run again, the last run counts
        used: match task {
            Some(task) => task.usage.as_ref().map(alone),
            None => view.usage,
        },
    }
}

/// What one task has used; when is said otherwise.
fn alone(usage: &TaskUsage) -> UsageSum {
    let mut sum = UsageSum::default();
    sum.add(usage, usage.ran_millis);
    sum
}

fn elements<'a>(
    view: &'a JobView,
    array: &ArrayIds,
    tasks: &[TaskRange],
    grouping: Grouping,
) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    let mut waiting: Vec<IndexRange> = Vec::new();
    for task in tasks {
        let (state, cause) = of_task(view, task.state);
        if state == JobState::Pending && grouping == Grouping::Together {
            match waiting.last_mut() {
                Some(last) if last.end == task.range.start => last.end = task.range.end,
                Some(_) | None => waiting.push(task.range),
            }
            continue;
        }
        let is_pending = state == JobState::Pending;
        for (index, number) in (task.range.start..).zip(numbers(array, task.range)) {
            entries.push(Entry {
                view,
                part: Part::Element { index, number },
                state,
                cause,
                worker: task.worker.filter(|_| !is_pending),
                members: Vec::new(),
                started: task.started_unix_millis.filter(|_| !is_pending),
                ended: task.ended_unix_millis.filter(|_| state.has_ended()),
                restarts: task.restarts,
                used: task.usage.as_ref().map(alone),
            });
        }
    }
    if let Some(spec) = spec(array, &waiting, view.slots_max) {
        entries.push(Entry {
            view,
            part: Part::Waiting(spec),
            state: JobState::Pending,
            cause: None,
            worker: None,
            members: Vec::new(),
            started: None,
            ended: None,
            restarts: 0,
            used: None,
        });
    }
    entries
}

impl Entry<'_> {
    /// `42`, `42_3`, `42_[4-9%2]`.
    pub(super) fn id(&self) -> String {
        let job = self.view.job;
        match &self.part {
            Part::Whole => job.to_string(),
            Part::Element { number, .. } => format!("{job}_{number}"),
            Part::Waiting(spec) => format!("{job}_[{spec}]"),
        }
    }

    /// The number by which its script knows it.
    pub(super) fn number(&self) -> u64 {
        match &self.part {
            Part::Whole | Part::Waiting(_) => self.view.job.0,
            Part::Element { index, .. } => element_number(self.view.job, *index),
        }
    }

    /// Its number in the array, or those that it stands for.
    pub(super) fn array_task(&self) -> Option<String> {
        match &self.part {
            Part::Whole => array(self.view).map(|array| {
                let all = IndexRange::new(0, array.count());
                spec(array, &[all], self.view.slots_max).map_or_else(String::new, |spec| spec.to_string())
            }),
            Part::Element { number, .. } => Some(number.to_string()),
            Part::Waiting(spec) => Some(spec.to_string()),
        }
    }

    /// What its submission said of it.
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        let facts = &self.view.command.as_ref()?.facts;
        facts.get(name).map(String::as_str)
    }

    /// The partition that was asked for.
    pub(super) fn partition(&self) -> &str {
        self.fact(facts::PARTITION).unwrap_or(super::nodes::PARTITION)
    }

    /// How long it has run; none if that is not known.
    pub(super) fn elapsed(&self, now_millis: u64) -> Option<Duration> {
        let Some(started) = self.started else {
            let has_begun = self.state != JobState::Pending && self.state != JobState::Cancelled;
            return (!has_begun).then_some(Duration::ZERO);
        };
        let end = match self.state.has_ended() {
            true => self.ended?,
            false => now_millis,
        };
        Some(Duration::from_millis(end.saturating_sub(started)))
    }

    /// How long its cpus were there for it; none if that is not known.
    pub(super) fn core_time(&self, now_millis: u64) -> Option<Duration> {
        let ran = match (&self.part, &self.used) {
            // its tasks side by side
            (Part::Whole, Some(used)) if self.view.tasks > 1 && self.nodes() == 1 => {
                let cpus = u64::from(self.view.request.cpus);
                return Some(Duration::from_millis(used.ran_millis.saturating_mul(cpus)));
            }
            (Part::Whole | Part::Element { .. } | Part::Waiting(_), _) => self.elapsed(now_millis)?,
        };
        Some(ran.saturating_mul(u32::try_from(self.cpus()).unwrap_or(u32::MAX)))
    }

    /// How long it may run.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        let limit = self.view.task_time_limit_millis.or(self.view.time_limit_millis);
        limit.map(Duration::from_millis)
    }

    /// Its exit code, and the signal that ended it.
    pub(super) fn exit(&self) -> (u8, u8) {
        match (self.state, self.cause) {
            (_, Some(FailureCause::Exit(code))) => (code, 0),
            (_, Some(FailureCause::Signal(signal))) => (0, signal),
            (JobState::OutOfMemory, _) => (0, 125),
            (JobState::Timeout, _) => (0, 15),
            (JobState::Cancelled, _) if self.started.is_some() => (0, 15),
            (JobState::Failed | JobState::NodeFail, _) => (1, 0),
            (_, _) => (0, 0),
        }
    }

    /// Cpus that it has, or wants.
    pub(super) fn cpus(&self) -> u64 {
        let each = u64::from(self.view.request.cpus);
        match &self.part {
            Part::Whole if self.nodes() > 1 => each.saturating_mul(self.nodes()),
            Part::Whole if self.view.slots > 1 => each.saturating_mul(self.view.slots),
            Part::Whole | Part::Element { .. } | Part::Waiting(_) => each,
        }
    }

    /// How many nodes it has, or wants.
    pub(super) fn nodes(&self) -> u64 {
        node_count(self.view)
    }

    /// Whether a script was submitted, by `sbatch` or as it would be.
    pub(super) fn is_batch(&self) -> bool {
        self.fact(facts::SCRIPT).is_some()
    }

    /// Why it waits or how it ended, in Slurm's words; `waits` tells what only the list as a whole knows.
    pub(super) fn reason(&self, now_millis: u64, waits: Waits) -> &'static str {
        let view = self.view;
        match self.state {
            JobState::Pending => {
                let has_begun = view.begin_unix_millis.is_none_or(|begin| begin <= now_millis);
                let is_full = view.slots_max.is_some_and(|max| view.slots >= u64::from(max));
                match waits {
                    _ if view.held => "JobHeldUser",
                    _ if view.never => "DependencyNeverSatisfied",
                    _ if !view.waits_for.is_empty() => "Dependency",
                    _ if !has_begun || view.resting > 0 => "BeginTime",
                    _ if is_full => "JobArrayTaskLimit",
                    Waits::Elsewhere => "ReqNodeNotAvail",
                    Waits::First => "Resources",
                    Waits::Behind => "Priority",
                }
            }
            JobState::Failed | JobState::OutOfMemory | JobState::NodeFail | JobState::Timeout => {
                match (self.state, &view.outcome) {
                    (_, Some(Outcome::Broken { .. })) => "JobLaunchFailure",
                    (JobState::OutOfMemory, _) => "OutOfMemory",
                    (JobState::NodeFail, _) => "NodeDown",
                    (JobState::Timeout, _) => "TimeLimit",
                    (_, _) if self.exit().1 > 0 => "RaisedSignal",
                    (_, _) => "NonZeroExitCode",
                }
            }
            JobState::Configuring
            | JobState::Running
            | JobState::Completing
            | JobState::Suspended
            | JobState::Stopped
            | JobState::Requeued
            | JobState::Completed
            | JobState::Cancelled
            | JobState::BootFail
            | JobState::Deadline
            | JobState::Preempted => "None",
        }
    }
}

/// Whether others come before a job that waits for nothing but its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    First,
    Behind,
    /// No node that it may run on is there.
    Elsewhere,
}

#[cfg(test)]
pub(super) mod tests;
