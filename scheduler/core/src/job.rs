//! The model of a job: which of its indices wait, are held by grants, or ended; what each worker holds of it; and what
//! people may see of it, which is only what is durable.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::limits::FAILURES_KEPT_MAX;
use phalanx_protocol::record::{Outcome, Record, TaskFailure};
use phalanx_protocol::view::JobView;
use phalanx_protocol::{GrantId, IndexRange, JobId, JobSpec, RangeSet, WorkerId};

/// Failures that a view lists.
const FAILURES_SHOWN_MAX: usize = 10;

/// Where a job is in its life. Each phase waits for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For its submission to be durable.
    Submitting,
    /// For its tasks to end.
    Active,
    /// For its end to be durable.
    Ending,
    /// For nothing.
    Finished,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) user: String,
    pub(crate) spec: JobSpec,
    pub(crate) phase: Phase,
    /// Indices in no grant and not ended.
    pub(crate) waiting: RangeSet,
    /// Indices whose end was accepted, durable or not.
    pub(crate) ended: RangeSet,
    /// Of those, how many failed.
    pub(crate) failed_count: u64,
    pub(crate) grants: BTreeMap<GrantId, Grant>,
    pub(crate) holdings: BTreeMap<WorkerId, Holding>,
    /// Workers with slots that nothing is left for.
    pub(crate) hungry: BTreeSet<WorkerId>,
    /// Holdings by estimated time of their backlog, so that the longest is found at once.
    pub(crate) backlogs: BTreeSet<(u64, WorkerId)>,
    /// Workers that said that they cannot run it, and why.
    pub(crate) excluded: BTreeMap<WorkerId, String>,
    /// Kernel hosts that died since a task last ended.
    pub(crate) hosts_lost: u32,
    /// Revokes without an answer.
    pub(crate) revoking: usize,
    /// Sum of the holdings' measured rates, in tasks per second.
    pub(crate) rate: u64,
    /// Slots of holdings that have no measured rate yet.
    pub(crate) slots_unmeasured: u64,
    /// Slots that all holdings have.
    pub(crate) slots: u64,
    pub(crate) seen: Seen,
}

/// What is durable, and therefore visible.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) submitted_unix_millis: u64,
    pub(crate) finished_unix_millis: Option<u64>,
    pub(crate) failures: BTreeMap<u64, TaskFailure>,
}

/// A range that a worker was told to run.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) worker: WorkerId,
    /// What of it has neither ended nor been given back; never empty.
    pub(crate) rest: RangeSet,
}

/// What one worker holds of a job.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pub(crate) slots: u32,
    /// Tasks in its open grants.
    pub(crate) open: u64,
    /// Its open grants, oldest first.
    pub(crate) grants: BTreeSet<GrantId>,
    pub(crate) pace: Pace,
    /// Revokes without an answer.
    pub(crate) revoking: usize,
    /// A revoke came back empty since the last report: everything there has started.
    pub(crate) all_started: bool,
    /// Its key in `Job::backlogs`.
    backlog_key: u64,
    /// Its part of `Job::rate`.
    rate_counted: u64,
}

/// A running measurement of time per task.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pace {
    busy_nanos: u64,
    tasks: u64,
}

impl Pace {
    /// Slot time after which older measurements count half.
    const MEMORY_NANOS: u64 = 4_000_000_000;

    pub(crate) fn measure(&mut self, busy_nanos: u64, tasks: u64) {
        if tasks == 0 {
            return;
        }
        while self.busy_nanos > Self::MEMORY_NANOS {
            self.busy_nanos /= 2;
            self.tasks = (self.tasks / 2).max(1);
        }
        self.busy_nanos = self.busy_nanos.saturating_add(busy_nanos);
        self.tasks = self.tasks.saturating_add(tasks);
    }

    /// Slot time per task in picoseconds, at least 1; `None` before the first measurement.
    pub(crate) fn task_picos(self) -> Option<u64> {
        (self.tasks > 0).then(|| {
            let picos = u128::from(self.busy_nanos) * 1000 / u128::from(self.tasks);
            u64::try_from(picos).unwrap_or(u64::MAX).max(1)
        })
    }
}

impl Job {
    pub(crate) fn new(user: String, spec: JobSpec, submitted_unix_millis: u64) -> Self {
        Self {
            user,
            phase: Phase::Submitting,
            waiting: RangeSet::from(IndexRange::new(0, spec.tasks)),
            spec,
            ended: RangeSet::new(),
            failed_count: 0,
            grants: BTreeMap::new(),
            holdings: BTreeMap::new(),
            hungry: BTreeSet::new(),
            backlogs: BTreeSet::new(),
            excluded: BTreeMap::new(),
            hosts_lost: 0,
            revoking: 0,
            rate: 0,
            slots_unmeasured: 0,
            slots: 0,
            seen: Seen {
                submitted_unix_millis,
                ..Seen::default()
            },
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Slots that it could use.
    pub(crate) fn slots_wanted(&self) -> u64 {
        if self.is_active() {
            self.spec.tasks - self.ended.len()
        } else {
            0
        }
    }

    /// Drops everything that only a job with tasks to run needs.
    pub(crate) fn settle(&mut self) {
        self.waiting = RangeSet::new();
        self.ended = RangeSet::new();
        self.grants.clear();
        self.holdings.clear();
        self.hungry.clear();
        self.backlogs.clear();
        self.excluded.clear();
        self.revoking = 0;
        (self.rate, self.slots, self.slots_unmeasured) = (0, 0, 0);
    }

    /// Gives a grant's rest back to `waiting`.
    pub(crate) fn drop_grant(&mut self, id: GrantId) {
        if let Some(grant) = self.grants.remove(&id) {
            if let Some(holding) = self.holdings.get_mut(&grant.worker) {
                holding.grants.remove(&id);
                holding.open -= grant.rest.len();
            }
            self.waiting.extend(grant.rest.iter());
            self.touch(grant.worker);
        }
    }

    /// Takes `range` out of a grant, which ends with its last index.
    pub(crate) fn take_from_grant(&mut self, id: GrantId, range: IndexRange) {
        let Some(grant) = self.grants.get_mut(&id) else {
            return;
        };
        let before = grant.rest.len();
        grant.rest.remove(range);
        let (worker, taken, empty) = (grant.worker, before - grant.rest.len(), grant.rest.is_empty());
        if empty {
            self.grants.remove(&id);
        }
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.open -= taken;
            if empty {
                holding.grants.remove(&id);
            }
        }
        self.touch(worker);
    }

    /// Opens a grant on a worker that has a holding.
    pub(crate) fn open_grant(&mut self, id: GrantId, worker: WorkerId, rest: RangeSet) {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        holding.open += rest.len();
        holding.grants.insert(id);
        self.grants.insert(id, Grant { worker, rest });
        self.touch(worker);
    }

    /// Ends all that a worker holds; what it had not ended waits again.
    pub(crate) fn drop_holding(&mut self, worker: WorkerId) {
        let grants: Vec<GrantId> = self
            .holdings
            .get(&worker)
            .map(|holding| holding.grants.iter().copied().collect())
            .unwrap_or_default();
        grants.into_iter().for_each(|grant| self.drop_grant(grant));
        self.set_slots(worker, 0);
        self.hungry.remove(&worker);
        if let Some(holding) = self.holdings.remove(&worker) {
            self.backlogs.remove(&(holding.backlog_key, worker));
            self.revoking -= holding.revoking;
        }
    }

    /// Counts a revoke that is on its way to a worker.
    pub(crate) fn revoke_sent(&mut self, worker: WorkerId) {
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.revoking += 1;
            self.revoking += 1;
        }
    }

    /// Counts the answer to a revoke.
    pub(crate) fn revoke_answered(&mut self, worker: WorkerId, nothing_left: bool) {
        if let Some(holding) = self
            .holdings
            .get_mut(&worker)
            .filter(|holding| holding.revoking > 0)
        {
            holding.revoking -= 1;
            holding.all_started |= nothing_left;
            self.revoking -= 1;
        }
        self.touch(worker);
    }

    /// Sets how many slots a worker has for it.
    pub(crate) fn set_slots(&mut self, worker: WorkerId, slots: u32) {
        let holding = self.holdings.entry(worker).or_default();
        self.slots = self.slots - u64::from(holding.slots) + u64::from(slots);
        if holding.pace.task_picos().is_none() {
            self.slots_unmeasured = self.slots_unmeasured - u64::from(holding.slots) + u64::from(slots);
        }
        holding.slots = slots;
        self.touch(worker);
    }

    /// Adds a measurement of a worker's pace.
    pub(crate) fn measure(&mut self, worker: WorkerId, busy_nanos: u64, tasks: u64) {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        let was_unmeasured = holding.pace.task_picos().is_none();
        holding.pace.measure(busy_nanos, tasks);
        holding.all_started = false;
        if was_unmeasured && holding.pace.task_picos().is_some() {
            self.slots_unmeasured -= u64::from(holding.slots);
        }
        self.touch(worker);
    }

    /// Brings the sums over holdings up to date after a change of one.
    pub(crate) fn touch(&mut self, worker: WorkerId) {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        let rate = holding.rate();
        self.rate = self.rate - holding.rate_counted + rate;
        holding.rate_counted = rate;
        let key = holding.backlog_picos();
        if key != holding.backlog_key {
            self.backlogs.remove(&(holding.backlog_key, worker));
            holding.backlog_key = key;
            if key > 0 {
                self.backlogs.insert((key, worker));
            }
        }
    }

    /// Makes a durable record visible.
    pub(crate) fn see(&mut self, record: &Record) {
        match record {
            Record::JobSubmitted { .. } => {}
            Record::TasksEnded { done, failed, .. } => {
                self.seen.done += done.iter().map(|range| range.len()).sum::<u64>();
                self.seen.failed += failed.len() as u64;
                for failure in failed {
                    self.seen.failures.insert(failure.index, failure.clone());
                    if self.seen.failures.len() > FAILURES_KEPT_MAX {
                        self.seen.failures.pop_last();
                    }
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
        }
    }

    /// Asserts ONCE and the sums.
    pub(crate) fn check(&self, id: JobId) {
        if !matches!(self.phase, Phase::Submitting | Phase::Active) {
            return;
        }
        let mut seen = self.ended.clone();
        let mut count = seen.len();
        let open = self.grants.values().flat_map(|grant| grant.rest.iter());
        for range in self.waiting.iter().chain(open) {
            assert!(seen.pieces(range).is_empty(), "ONCE: job {id} has {range} twice");
            seen.insert(range);
            count += range.len();
        }
        assert_eq!(count, self.spec.tasks, "ONCE: job {id} lost tasks");
        for (worker, holding) in &self.holdings {
            let open: u64 = holding
                .grants
                .iter()
                .map(|grant| self.grants[grant].rest.len())
                .sum();
            assert_eq!(open, holding.open, "job {id} miscounts what {worker} holds");
        }
        let rate: u64 = self.holdings.values().map(Holding::rate).sum();
        assert_eq!(rate, self.rate, "job {id} miscounts its rate");
        let slots: u64 = self
            .holdings
            .values()
            .map(|holding| u64::from(holding.slots))
            .sum();
        assert_eq!(slots, self.slots, "job {id} miscounts its slots");
    }

    /// What people see.
    pub(crate) fn view(&self, job: JobId) -> JobView {
        JobView {
            job,
            name: self.spec.name.clone(),
            user: self.user.clone(),
            kernel: self.spec.kernel().kernel.clone(),
            request: self.spec.request.clone(),
            priority: self.spec.priority,
            outcome: self.seen.outcome.clone(),
            tasks: self.spec.tasks,
            done: self.seen.done,
            failed: self.seen.failed,
            slots: self.slots,
            workers: self.holdings.values().filter(|holding| holding.slots > 0).count() as u64,
            tasks_per_second: self.rate as f64,
            submitted_unix_millis: self.seen.submitted_unix_millis,
            finished_unix_millis: self.seen.finished_unix_millis,
            first_failures: self
                .seen
                .failures
                .values()
                .take(FAILURES_SHOWN_MAX)
                .cloned()
                .collect(),
        }
    }
}

impl Holding {
    /// Whether it was never granted anything.
    pub(crate) fn is_new(&self) -> bool {
        self.open == 0 && self.pace.task_picos().is_none()
    }

    /// Measured tasks per second of all its slots.
    pub(crate) fn rate(&self) -> u64 {
        self.pace
            .task_picos()
            .map_or(0, |picos| u64::from(self.slots) * 1_000_000_000_000 / picos)
    }

    /// How long its slots need for the tasks that it has not started, in picoseconds; 0 if that is not worth a revoke.
    fn backlog_picos(&self) -> u64 {
        let unstarted = self.open.saturating_sub(u64::from(self.slots));
        if unstarted == 0 || self.all_started || self.revoking > 0 {
            return 0;
        }
        let picos = self.pace.task_picos().unwrap_or(1_000_000_000_000);
        unstarted.saturating_mul(picos) / u64::from(self.slots.max(1))
    }
}
