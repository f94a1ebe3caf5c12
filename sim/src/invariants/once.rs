//! ONCE: each index's end is published exactly once, and results cover exactly what is done. Where nothing goes wrong
//! but that leaders die, no task is even started twice, unless its job is idempotent: then not three times.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::record::{FailureCause, Outcome, Record, ResultBlock, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, Term};

/// What the durable records say, taken together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) jobs: BTreeMap<JobId, Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// Of the leader that accepted it.
    pub(crate) term: Term,
    pub(crate) spec: JobSpec,
    pub(crate) ended: RangeSet,
    pub(crate) failed: RangeSet,
    /// Of those, ranks that were lost to a gang that goes on.
    pub(crate) lost: RangeSet,
    pub(crate) cancelled: RangeSet,
    pub(crate) outcome: Option<Outcome>,
    /// Tasks of it were let wait again.
    pub(crate) reopened: bool,
    /// Which of its tasks were requeued, record by record, and by the leader of which term.
    pub(crate) requeues: Vec<(Term, RangeSet)>,
    /// Somebody holds it.
    pub(crate) held: bool,
    /// Whether anybody ever held it, and whether nobody ever did.
    pub(crate) was_held: BTreeSet<bool>,
    /// From when on its time counts.
    pub(crate) started_unix_millis: Option<u64>,
}

impl Ledger {
    /// Enters a record of a term, which must say something new. With gaps before it, one that contradicts what is left
    /// says nothing; returns whether it does.
    pub(crate) fn enter(&mut self, term: Term, record: &Record, with_gaps: bool) -> bool {
        if with_gaps && !self.fits(record) {
            return false;
        }
        self.enter_all_of(term, record, with_gaps);
        true
    }

    /// Whether a record goes with those before it.
    fn fits(&self, record: &Record) -> bool {
        let is_new = matches!(record, Record::JobSubmitted { .. });
        let Some(entry) = self.jobs.get(&record.job()) else {
            return is_new;
        };
        let goes_on = entry.outcome.is_none();
        let ended = |range: IndexRange| !entry.ended.pieces(range).is_empty();
        match record {
            Record::JobSubmitted { .. } | Record::JobReopened { .. } | Record::TasksRequeued { .. } => true,
            Record::JobStarted { .. } | Record::JobHeld { .. } => goes_on,
            Record::TasksEnded { done, failed, .. } => {
                let mut ranges = done.iter().copied().chain(failed.iter().map(TaskFailure::range));
                goes_on && !ranges.any(ended)
            }
            Record::TasksCancelled { tasks, .. } => goes_on && !tasks.iter().copied().any(ended),
            Record::JobFinished { outcome, .. } => goes_on && entry.may_be(outcome),
        }
    }

    fn enter_all_of(&mut self, term: Term, record: &Record, with_gaps: bool) {
        let id = record.job();
        match record {
            Record::JobSubmitted { spec, .. } => {
                let known = self
                    .jobs
                    .values()
                    .any(|entry| entry.spec.submission == spec.submission);
                assert!(!known, "ONCE: job {id} was submitted before");
                let spec = (**spec).clone();
                let held = spec.held;
                let entry = Entry {
                    held,
                    was_held: BTreeSet::from([held]),
                    term,
                    spec,
                    ended: RangeSet::new(),
                    failed: RangeSet::new(),
                    lost: RangeSet::new(),
                    cancelled: RangeSet::new(),
                    outcome: None,
                    reopened: false,
                    requeues: Vec::new(),
                    started_unix_millis: None,
                };
                assert!(
                    self.jobs.insert(id, entry).is_none(),
                    "ONCE: there are two jobs {id}"
                );
            }
            Record::TasksEnded {
                done,
                results,
                failed,
                ..
            } => {
                self.open(id).enter(id, done, results, failed);
            }
            Record::JobFinished { outcome, .. } => {
                let entry = self.open(id);
                entry.outcome = Some(outcome.clone());
                entry.check_outcome(id);
            }
            Record::JobReopened { tasks, .. } => {
                let entry = self.jobs.get_mut(&id);
                let entry = entry.expect("ONCE: a record is about a job that was submitted");
                tasks.iter().for_each(|&range| entry.reopen(id, range, with_gaps));
            }
            Record::TasksRequeued { tasks, .. } => {
                let entry = self.jobs.get_mut(&id);
                let entry = entry.expect("ONCE: a record is about a job that was submitted");
                tasks.iter().for_each(|&range| entry.requeue(range));
                entry.requeues.push((term, tasks.clone().into()));
            }
            Record::TasksCancelled { tasks, .. } => {
                let entry = self.open(id);
                for &range in tasks {
                    entry.end(id, range);
                    entry.cancelled.insert(range);
                }
            }
            Record::JobStarted {
                started_unix_millis, ..
            } => self.open(id).started_unix_millis = Some(*started_unix_millis),
            Record::JobHeld { held, .. } => {
                let entry = self.open(id);
                entry.held = *held;
                entry.was_held.insert(*held);
            }
        }
    }

    fn open(&mut self, id: JobId) -> &mut Entry {
        let entry = self
            .jobs
            .get_mut(&id)
            .expect("ONCE: a record is about a job that was submitted");
        assert_eq!(entry.outcome, None, "ONCE: job {id} is over, and goes on");
        entry
    }
}

impl Entry {
    fn enter(&mut self, id: JobId, done: &[IndexRange], results: &[ResultBlock], failed: &[TaskFailure]) {
        let failures = failed.iter().map(TaskFailure::range);
        for range in done.iter().copied().chain(failures) {
            self.end(id, range);
        }
        self.failed.extend(failed.iter().map(TaskFailure::range));
        let lost = failed
            .iter()
            .filter(|failure| shrinks(&self.spec) && failure.cause == FailureCause::Lost);
        self.lost.extend(lost.map(TaskFailure::range));
        if self.spec.work.is_command() {
            assert!(results.is_empty(), "ONCE: commands of job {id} have results");
            return;
        }
        let mut uncovered: RangeSet = done.iter().copied().collect();
        for block in results {
            for &range in &block.keep {
                let covers = uncovered.contains_range(range) && range.intersection(block.range) == range;
                assert!(
                    covers,
                    "ONCE: results of {range} of job {id} count, and should not"
                );
                uncovered.remove(range);
            }
            if self.spec.work.reduces() {
                assert_eq!(
                    block.keep,
                    [block.range],
                    "ONCE: job {id} has a merged value taken apart"
                );
            }
        }
        assert!(
            uncovered.is_empty(),
            "ONCE: job {id} has no results of {uncovered}"
        );
    }

    fn end(&mut self, id: JobId, range: IndexRange) {
        let tasks = IndexRange::new(0, self.spec.tasks);
        let inside = !range.is_empty() && range.intersection(tasks) == range;
        assert!(inside, "ONCE: job {id} has no tasks {range}");
        assert!(
            self.ended.pieces(range).is_empty(),
            "ONCE: {range} of job {id} ended before"
        );
        self.ended.insert(range);
    }

    /// Tasks that failed, or were not run before the end, wait again.
    fn reopen(&mut self, id: JobId, range: IndexRange, with_gaps: bool) {
        let done = self
            .ended
            .pieces(range)
            .iter()
            .any(|&piece| !self.failed.contains_range(piece));
        let goes_on = self.outcome.is_none() && !self.reopened;
        let unended = goes_on && !self.ended.contains_range(range);
        assert!(
            (!done && !unended) || with_gaps,
            "ONCE: {range} of job {id} waits again, and did not fail"
        );
        self.ended.remove(range);
        self.failed.remove(range);
        if self.outcome.take().is_some() {
            self.started_unix_millis = None;
        }
        self.reopened = true;
    }

    /// Tasks start from the top, however they stand.
    fn requeue(&mut self, range: IndexRange) {
        self.ended.remove(range);
        self.failed.remove(range);
        self.lost.remove(range);
        self.cancelled.remove(range);
        (self.outcome, self.reopened) = (None, true);
    }

    /// Whether a job whose tasks ended like this can end like that.
    fn may_be(&self, outcome: &Outcome) -> bool {
        let all = self.ended.len() == self.spec.tasks;
        let failures_max = self.spec.failures_max.or(self.spec.gang.is_some().then_some(0));
        // somebody is left of a gang that has succeeded without the others
        let failures = self.failed.len() - self.lost.len();
        let too_many = failures_max.is_some_and(|max| failures > max);
        let somebody = self.spec.tasks == 0 || self.lost.len() < self.spec.tasks;
        match outcome {
            Outcome::Succeeded => all && somebody && failures == 0 && self.cancelled.is_empty(),
            Outcome::Failed => failures > 0 && (all || too_many),
            Outcome::Cancelled { .. } | Outcome::Broken { .. } | Outcome::TimeLimit { .. } => true,
        }
    }

    fn check_outcome(&self, id: JobId) {
        let right = self.outcome.as_ref().is_none_or(|outcome| self.may_be(outcome));
        let (ended, failed) = (&self.ended, self.failed.len());
        assert!(
            right,
            "ONCE: job {id} is {:?}, {ended} ended, {failed} failed",
            self.outcome
        );
    }
}

/// Whether it is a gang that goes on without the ranks that it loses.
pub(crate) fn shrinks(spec: &JobSpec) -> bool {
    let gang = spec.gang.as_ref();
    gang.is_some_and(|gang| gang.on_loss == OnLoss::Shrink)
}

/// What was started where workers go on with what they run.
#[derive(Debug, Default)]
pub(crate) struct Once {
    started: BTreeMap<JobId, RangeSet>,
    /// Of idempotent jobs.
    started_twice: BTreeMap<JobId, RangeSet>,
}

impl Once {
    pub(crate) fn started(&mut self, job: JobId, range: IndexRange, idempotent: bool) {
        let started = self.started.entry(job).or_default();
        let again = started.pieces(range);
        assert!(
            again.is_empty() || idempotent,
            "ONCE: {range} of job {job} starts twice for no reason"
        );
        started.insert(range);
        let twice = self.started_twice.entry(job).or_default();
        for range in again {
            assert!(
                twice.pieces(range).is_empty(),
                "ONCE: {range} of job {job} starts three times for no reason"
            );
            twice.insert(range);
        }
    }
}
