//! The model of a job: which of its indices wait, are held by grants, or ended, and what each worker holds of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::message::host::HOST_SLOTS_MAX;
use phalanx_protocol::{GrantId, IndexRange, JobId, JobSpec, RangeSet, Term, WorkerId};

use crate::cancelling::Cancelled;
use crate::gang::GangState;
use crate::gate::Gate;
use crate::holding::{Grant, Holding};
use crate::limits::TimeLimit;
use crate::requeues::Requeues;
use crate::seen::Seen;
use crate::strays::Stray;
use crate::tasks::Ends;
use crate::trouble::{Trouble, one};
use crate::twins::Twins;

/// Where a job is in its life. Each phase waits for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For its tasks to end.
    Active,
    /// For its end to be durable.
    Ending,
    /// For nothing.
    Finished,
}

#[derive(Debug)]
pub(crate) struct Job {
    /// The leadership that accepted it. A number is given again if the leader that gave it died before that was durable, so
    /// what workers say under grants of an older term is about another job.
    pub(crate) term: Term,
    pub(crate) user: String,
    pub(crate) spec: JobSpec,
    pub(crate) phase: Phase,
    /// Indices in no grant and not ended.
    pub(crate) waiting: RangeSet,
    /// Indices whose end was accepted, durable or not.
    pub(crate) ended: RangeSet,
    /// Of those, the ones that failed.
    pub(crate) failed: RangeSet,
    /// Of those, the ones that were cancelled.
    pub(crate) cancelled: Cancelled,
    pub(crate) requeues: Requeues,
    /// Tasks that were run in vain; some of them rest or wait apart.
    pub(crate) trouble: Trouble,
    /// Some of its tasks were given another chance.
    pub(crate) reopened: bool,
    pub(crate) grants: BTreeMap<GrantId, Grant>,
    /// Tasks that two grants hold.
    pub(crate) twins: Twins,
    /// Tasks that workers run under grants that do not hold them any more.
    pub(crate) strays: BTreeMap<GrantId, Stray>,
    pub(crate) holdings: BTreeMap<WorkerId, Holding>,
    /// Workers that hold fewer tasks than slots.
    pub(crate) hungry: BTreeSet<WorkerId>,
    /// Holdings by estimated time of their backlog, so that the longest is found at once.
    pub(crate) backlogs: BTreeSet<(u64, WorkerId)>,
    /// Workers that were told of it and not told to close it.
    pub(crate) opened_on: BTreeSet<WorkerId>,
    /// Workers that said that they cannot run it, and why.
    pub(crate) excluded: BTreeMap<WorkerId, String>,
    /// Kernel hosts that died since a task last ended.
    pub(crate) hosts_lost: u32,
    /// Revokes whose answers are waited for.
    pub(crate) revoking: usize,
    /// When its tail is to be looked at.
    pub(crate) look_due: Option<Duration>,
    /// Sum of the holdings' measured rates, in tasks per second.
    pub(crate) rate: u64,
    /// Slots of holdings that have no measured rate yet.
    pub(crate) slots_unmeasured: u64,
    /// Slots that all holdings have.
    pub(crate) slots: u64,
    /// Tasks that may run without a slot, on all holdings.
    pub(crate) overhang: u64,
    pub(crate) gate: Gate,
    pub(crate) gang: GangState,
    /// When it got its first slots; milliseconds since 1970.
    pub(crate) started_unix_millis: Option<u64>,
    /// That is on record, durable or not.
    pub(crate) start_written: bool,
    /// From its first slots on, if its spec limits its time.
    pub(crate) time_limit: Option<TimeLimit>,
    /// Where and when tasks of a command ended.
    pub(crate) ends: Ends,
    pub(crate) seen: Seen,
}

impl Job {
    pub(crate) fn new(term: Term, user: String, spec: JobSpec, submitted_unix_millis: u64) -> Self {
        let held = spec.held;
        Self {
            term,
            user,
            phase: Phase::Active,
            waiting: RangeSet::from(IndexRange::new(0, spec.tasks)),
            spec,
            ended: RangeSet::new(),
            failed: RangeSet::new(),
            cancelled: Cancelled::default(),
            requeues: Requeues::default(),
            trouble: Trouble::default(),
            reopened: false,
            grants: BTreeMap::new(),
            twins: Twins::default(),
            strays: BTreeMap::new(),
            holdings: BTreeMap::new(),
            hungry: BTreeSet::new(),
            backlogs: BTreeSet::new(),
            opened_on: BTreeSet::new(),
            excluded: BTreeMap::new(),
            hosts_lost: 0,
            revoking: 0,
            look_due: None,
            rate: 0,
            slots_unmeasured: 0,
            slots: 0,
            overhang: 0,
            gate: Gate {
                held,
                ..Gate::default()
            },
            gang: GangState::default(),
            started_unix_millis: None,
            start_written: false,
            time_limit: None,
            ends: Ends::default(),
            seen: Seen {
                submitted_unix_millis,
                held,
                ..Seen::default()
            },
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Slots that it could use, and may have beside what still runs without one.
    pub(crate) fn slots_wanted(&self) -> u64 {
        if self.is_active() {
            let may_run = self.spec.tasks - self.ended.len() - self.gate.blocked.len();
            let wanted = may_run + self.twins.slots_wanted;
            wanted.min(self.slots_allowed())
        } else {
            0
        }
    }

    /// Slots that it may have.
    pub(crate) fn slots_allowed(&self) -> u64 {
        let allowed = |max: u32| u64::from(max).saturating_sub(self.overhang);
        self.spec.slots_max.map_or(u64::MAX, allowed)
    }

    /// Drops everything that only a job with tasks to run needs.
    pub(crate) fn settle(&mut self) {
        self.waiting = RangeSet::new();
        self.ended = RangeSet::new();
        self.failed = RangeSet::new();
        self.cancelled = Cancelled::default();
        self.trouble = Trouble::default();
        self.gate.settle();
        self.gang = GangState::default();
        self.grants.clear();
        self.twins = Twins::default();
        self.strays.clear();
        self.holdings.clear();
        self.hungry.clear();
        self.backlogs.clear();
        self.excluded.clear();
        self.revoking = 0;
        self.look_due = None;
        (self.rate, self.slots, self.slots_unmeasured, self.overhang) = (0, 0, 0, 0);
    }

    /// Lets tasks wait that are in no other place; suspects wait apart.
    pub(crate) fn wait_again(&mut self, range: IndexRange) {
        self.waiting.insert(range);
        self.trouble.set_apart(&mut self.waiting, range);
    }

    /// Notes that tasks have ended, which are in no other place.
    pub(crate) fn note_ended(&mut self, range: IndexRange) {
        self.ended.insert(range);
        self.trouble.forget(range);
    }

    /// All that a worker holds.
    pub(crate) fn held_by(&self, worker: WorkerId) -> RangeSet {
        let grants = self
            .holdings
            .get(&worker)
            .into_iter()
            .flat_map(|holding| &holding.grants);
        let grants = grants.filter_map(|grant| self.grants.get(grant));
        grants.flat_map(|grant| grant.rest.iter()).collect()
    }

    /// The first tasks of what a worker holds, one for each slot, as far as they have not ended elsewhere.
    pub(crate) fn front(&self, worker: WorkerId) -> Vec<u64> {
        let Some(holding) = self.holdings.get(&worker) else {
            return Vec::new();
        };
        let grants = holding
            .grants
            .iter()
            .filter_map(|id| Some((*id, self.grants.get(id)?)));
        let indices = grants.flat_map(|(id, grant)| {
            let rest = grant.rest.iter().flat_map(|range| range.start..range.end);
            rest.map(move |index| (id, index))
        });
        let first = indices.take(HOST_SLOTS_MAX.min(holding.slots as usize));
        // runs that do not count are no tasks that run
        let first = first.filter(|&(id, index)| self.requeues.void(id, one(index)).is_empty());
        first
            .map(|(_, index)| index)
            .filter(|&index| !self.ended.contains(index))
            .collect()
    }

    /// Gives back what is left of a grant.
    pub(crate) fn drop_grant(&mut self, id: GrantId) {
        if let Some(grant) = self.grants.remove(&id) {
            if let Some(holding) = self.holdings.get_mut(&grant.worker) {
                holding.grants.remove(&id);
                holding.open -= grant.rest.len();
            }
            self.twins.closed(id);
            grant.rest.iter().for_each(|range| self.let_go(range));
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
            self.twins.closed(id);
        }
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.open -= taken;
            if empty {
                holding.grants.remove(&id);
            }
        }
        self.touch(worker);
    }

    /// Opens a grant, which was never open before, where there is a holding.
    pub(crate) fn open_grant(&mut self, now: Duration, id: GrantId, grant: Grant) {
        let worker = grant.worker;
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        holding.open += grant.rest.len();
        holding.all_started = false;
        holding.heard = now;
        holding.grants.insert(id);
        self.grants.insert(id, grant);
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
        self.strays_leave(worker);
        self.set_slots(worker, 0);
        self.hungry.remove(&worker);
        if let Some(holding) = self.holdings.remove(&worker) {
            self.backlogs.remove(&(holding.backlog_key, worker));
            self.revoking -= holding.awaited();
            self.overhang -= holding.overhang_counted;
        }
    }

    /// Counts a revoke that is on its way to a worker.
    pub(crate) fn revoke_sent(&mut self, now: Duration, worker: WorkerId) {
        if let Some(holding) = self.holdings.get_mut(&worker) {
            self.revoking -= holding.awaited();
            holding.revoking += 1;
            holding.asked = now;
            self.revoking += holding.awaited();
        }
    }

    /// Counts the answer to a revoke.
    pub(crate) fn revoke_answered(&mut self, worker: WorkerId, nothing_left: bool) {
        if let Some(holding) = self
            .holdings
            .get_mut(&worker)
            .filter(|holding| holding.revoking > 0)
        {
            self.revoking -= holding.awaited();
            holding.revoking -= 1;
            holding.all_started |= nothing_left;
            holding.does_not_answer &= holding.revoking > 0;
            self.revoking += holding.awaited();
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
        let (before, after) = (u64::from(holding.slots), u64::from(slots));
        holding.overhang = (holding.overhang + before).saturating_sub(after);
        holding.slots = slots;
        self.touch(worker);
    }

    /// Adds a measurement of a worker's pace: so many tasks ended, before which `overhang` could run there without a slot.
    pub(crate) fn measure(
        &mut self,
        now: Duration,
        worker: WorkerId,
        busy_nanos: u64,
        tasks: u64,
        overhang: u64,
    ) {
        let Some(holding) = self.holdings.get_mut(&worker) else {
            return;
        };
        holding.overhang = overhang.saturating_sub(tasks);
        let was_unmeasured = holding.pace.task_picos().is_none();
        holding.pace.measure(busy_nanos, tasks);
        holding.all_started = false;
        holding.heard = now;
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
        holding.alone &= holding.open > 0;
        let without_slot = holding.open.saturating_sub(u64::from(holding.slots));
        holding.overhang = holding.overhang.min(without_slot);
        self.overhang = self.overhang - holding.overhang_counted + holding.overhang;
        holding.overhang_counted = holding.overhang;
        let rate = holding.rate();
        self.rate = self.rate - holding.rate_counted + rate;
        holding.rate_counted = rate;
        if holding.is_hungry() {
            self.hungry.insert(worker);
        } else {
            self.hungry.remove(&worker);
        }
        let key = holding.backlog_picos();
        if key != holding.backlog_key {
            self.backlogs.remove(&(holding.backlog_key, worker));
            holding.backlog_key = key;
            if key > 0 {
                self.backlogs.insert((key, worker));
            }
        }
    }

    /// How often the tasks of a range were started before, of which the same is to be said; 0 if it is not.
    pub(crate) fn restarts(&self, range: IndexRange) -> u32 {
        if self.is_gang() {
            return self.requeues.most();
        }
        let requeued = match self.requeues.cut(range) == range.end {
            true => self.requeues.count(range.start),
            false => 0,
        };
        self.trouble.restarts(range).saturating_add(requeued)
    }

    /// Where a range is to be cut, so that of what comes first the same is to be said.
    pub(crate) fn cut(&self, range: IndexRange) -> u64 {
        self.trouble.cut(range).min(self.requeues.cut(range))
    }

    /// Asserts ONCE and the sums.
    pub(crate) fn check(&self, id: JobId) {
        if !self.is_active() {
            return;
        }
        let mut seen = self.ended.clone();
        let mut count = seen.len();
        let open = self.check_twins(id);
        let troubled = self.trouble.check(&self.ended);
        let blocked = self.gate.blocked.iter();
        for range in self
            .waiting
            .iter()
            .chain(blocked)
            .chain(open.iter())
            .chain(troubled)
        {
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
            let suspected = |grant: &GrantId| {
                let first = self.grants[grant].rest.first();
                first.is_some_and(|index| self.trouble.is_suspected(index))
            };
            let alone = open == 1 && holding.grants.iter().all(suspected);
            assert!(
                !holding.alone || alone,
                "job {id} does not leave a suspect alone on {worker}"
            );
        }
        for (worker, holding) in &self.holdings {
            assert!(
                self.opened_on.contains(worker),
                "{worker} never heard of job {id}"
            );
            let key = (holding.backlog_picos(), *worker);
            assert!(
                key.0 == 0 || self.backlogs.contains(&key),
                "job {id} misplaces a backlog"
            );
        }
        let hungry = |(_, holding): &(&WorkerId, &Holding)| holding.is_hungry();
        let hungry = self.holdings.iter().filter(hungry).map(|(&worker, _)| worker);
        let same = self.hungry.iter().copied().eq(hungry);
        assert!(same, "job {id} forgets who is hungry");
        let revoking: usize = self.holdings.values().map(Holding::awaited).sum();
        assert_eq!(revoking, self.revoking, "job {id} miscounts its revokes");
        let rate: u64 = self.holdings.values().map(Holding::rate).sum();
        assert_eq!(rate, self.rate, "job {id} miscounts its rate");
        let slots: u64 = self
            .holdings
            .values()
            .map(|holding| u64::from(holding.slots))
            .sum();
        assert_eq!(slots, self.slots, "job {id} miscounts its slots");
        let overhang: u64 = self.holdings.values().map(|holding| holding.overhang).sum();
        assert_eq!(overhang, self.overhang, "job {id} miscounts its overhang");
    }
}
