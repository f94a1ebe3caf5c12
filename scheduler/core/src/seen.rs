//! What people may see of a job, which is only what is durable; a snapshot holds the same.

use std::collections::BTreeMap;

use phalanx_protocol::limits::FAILURES_KEPT_MAX;
use phalanx_protocol::record::{FailureCause, Outcome, Record, TaskFailure};
use phalanx_protocol::{IndexRange, RangeSet};

use crate::cancelling::Cancelled;
use crate::job::Job;
use crate::requeues::Requeues;
use crate::usage::Used;

/// What is durable, and therefore visible.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Its submission.
    pub(crate) accepted: bool,
    /// Somebody holds it.
    pub(crate) held: bool,
    /// See [`crate::gate::Gate::unbound`].
    pub(crate) unbound: bool,
    pub(crate) done: RangeSet,
    pub(crate) failed: RangeSet,
    pub(crate) cancelled: Cancelled,
    pub(crate) requeues: Requeues,
    pub(crate) started_unix_millis: Option<u64>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) submitted_unix_millis: u64,
    pub(crate) finished_unix_millis: Option<u64>,
    pub(crate) failures: BTreeMap<u64, TaskFailure>,
    pub(crate) used: Used,
}

impl Job {
    /// Makes a durable record visible.
    pub(crate) fn see(&mut self, record: &Record) {
        match record {
            Record::JobSubmitted { .. } => self.seen.accepted = true,
            Record::TasksEnded {
                done, failed, usage, ..
            } => {
                self.seen.used.add(usage);
                self.seen.done.extend(done.iter().copied());
                for failure in failed {
                    self.seen.failed.insert(failure.range());
                    self.seen.failures.insert(failure.index, failure.clone());
                    self.keep_first_failures();
                }
            }
            Record::JobFinished {
                outcome,
                finished_unix_millis,
                ..
            } => {
                self.seen.outcome = Some(outcome.clone());
                self.seen.finished_unix_millis = Some(*finished_unix_millis);
            }
            Record::JobStarted {
                started_unix_millis, ..
            } => {
                self.seen.started_unix_millis = Some(*started_unix_millis);
                self.seen.unbound = true;
            }
            Record::JobHeld { held, .. } => self.seen.held = *held,
            Record::TasksCancelled { tasks, by, .. } => {
                self.seen.cancelled.tasks.extend(tasks.iter().copied());
                self.seen.cancelled.by.clone_from(by);
            }
            Record::JobReopened { tasks, .. } => self.see_reopened(tasks),
            Record::TasksRequeued { tasks, last, .. } => {
                self.see_reopened(tasks);
                let are_ranks = self.is_gang();
                self.seen.requeues.requeued(are_ranks, tasks, *last);
            }
        }
    }

    /// Drops the failure of the last task if there are too many. Of a gang that goes on without what it loses, what it failed
    /// of stays: else nothing would say that it has.
    fn keep_first_failures(&mut self) {
        if self.seen.failures.len() <= FAILURES_KEPT_MAX {
            return;
        }
        let shrinks = self.goes_on_without_lost();
        let failures = &mut self.seen.failures;
        let mut last = failures.iter().rev();
        let last = last.find(|(_, failure)| !shrinks || failure.cause == FailureCause::Lost);
        if let Some(index) = last.map(|(&index, _)| index) {
            failures.remove(&index);
        }
    }

    fn see_reopened(&mut self, tasks: &[IndexRange]) {
        self.seen.cancelled = self.given_up();
        for &range in tasks {
            self.seen.done.remove(range);
            self.seen.failed.remove(range);
            self.seen.used.run_again(range);
            self.seen.cancelled.tasks.remove(range);
        }
        let failed = &self.seen.failed;
        self.seen.failures.retain(|&index, _| failed.contains(index));
        self.seen.outcome = None;
        // one that goes on again has its whole time, and waits for nobody; one that was going on keeps what is left
        if self.seen.finished_unix_millis.take().is_some() {
            self.seen.unbound = true;
            self.seen.started_unix_millis = None;
        }
    }

    /// Tasks that were cancelled; of a job that is over, those that never ran to their end are so from when it goes on.
    pub(crate) fn given_up(&self) -> Cancelled {
        let mut cancelled = self.seen.cancelled.clone();
        let Some(outcome) = &self.seen.outcome else {
            return cancelled;
        };
        let mut unrun = RangeSet::from(IndexRange::new(0, self.spec.tasks));
        let ended = self.seen.done.iter().chain(self.seen.failed.iter());
        ended
            .chain(self.seen.cancelled.tasks.iter())
            .for_each(|range| unrun.remove(range));
        if !unrun.is_empty() {
            cancelled.tasks.extend(unrun.iter());
            cancelled.by = match outcome {
                Outcome::Cancelled { by } => by.clone(),
                Outcome::Succeeded | Outcome::Failed | Outcome::Broken { .. } | Outcome::TimeLimit { .. } => {
                    self.user.clone()
                }
            };
        }
        cancelled
    }
}
