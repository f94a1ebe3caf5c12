//! The fast path: keeps each holding full of grants, and takes work back from the longest backlog when nothing is left.
//!
//! A holding's first grant is a probe of one task per slot. Then it is kept filled to a credit: by weighted factoring
//! (Hummel, Schmidt, Uma and Wein, 1996), a share of half of what waits, in proportion to measured rates, at least
//! [`LOW_WATER_PICOS`] of work so that it never waits for a round trip, at most [`CREDIT_PICOS`]. Tasks longer than the
//! credit are granted one per slot. When nothing waits, an idle slot makes the core revoke half of the longest backlog:
//! the worker gives back what it has not started, by the same atomic step by which it would start it. Workers that do
//! not answer are a matter of `tail`.

use std::time::Duration;

use phalanx_protocol::limits::GRANT_TASKS_MAX;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{Feeding, GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::holding::{Grant, Holding};
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::losses::Loss;
use crate::planted::PlantedBug;

/// Most work that a slot holds, in picoseconds: 2 s.
const CREDIT_PICOS: u64 = 2_000_000_000_000;
/// Least work that a slot is granted while any waits, in picoseconds: 5 ms, ten times a round trip.
pub(crate) const LOW_WATER_PICOS: u64 = 5_000_000_000;
/// A backlog shorter than this is not worth a revoke, in picoseconds: 2 ms.
pub(crate) const STEAL_PICOS_MIN: u64 = 2_000_000_000;
/// Grants made in one go to one worker; fragments beyond that wait for the next report.
const GRANTS_AT_ONCE_MAX: usize = 64;
/// Open grants of one job on one worker, when work is in fragments; workers refuse 16 times as many.
const GRANTS_OPEN_MAX: usize = 4096;

impl Core {
    /// Fills what `worker` holds of a job, or asks others for work for it.
    pub(crate) fn feed(&mut self, id: JobId, worker: WorkerId, effects: &mut Vec<Effect>) {
        let is_kept_back = |job: &Job| self.is_held_back(job) || self.is_unrecorded(job);
        if self.jobs.get(&id).is_some_and(is_kept_back) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        if job.is_gang() {
            return self.start_gang(id, effects);
        }
        let Some(holding) = job.holdings.get(&worker).filter(|holding| holding.slots > 0) else {
            return;
        };
        if holding.alone {
            return;
        }
        let target = target(job, holding);
        let refill_below = u64::from(holding.slots).max(target / 2);
        if holding.open < refill_below {
            let mut wanted = target - holding.open.min(target);
            let grants_left = GRANTS_OPEN_MAX.saturating_sub(holding.grants.len());
            for _ in 0..GRANTS_AT_ONCE_MAX.min(grants_left) {
                let Some(range) = job.take_waiting(wanted.min(GRANT_TASKS_MAX)) else {
                    break;
                };
                wanted -= range.len();
                self.grants_made += 1;
                let grant = GrantId {
                    term: self.term,
                    number: self.grants_made,
                };
                job.grant(id, worker, grant, range, self.clock, effects);
            }
        }
        let idle = job.waiting.is_empty() && job.holdings[&worker].open == 0;
        if idle && let Some(range) = job.trouble.suspects.take_first(1) {
            self.grants_made += 1;
            let grant = GrantId {
                term: self.term,
                number: self.grants_made,
            };
            job.grant(id, worker, grant, range, self.clock, effects);
            job.leave_alone(worker);
        }
        if job.hungry.contains(&worker) {
            self.steal(id, effects);
        }
    }

    /// Feeds the workers that have too little to do, as long as there is something; then takes it from others.
    pub(crate) fn feed_hungry(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let mut from = WorkerId(0);
        while let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.has_waiting() && !self.is_held_back(job) && !self.is_unrecorded(job))
            && let Some(&worker) = job.hungry.range(from..).next()
        {
            from = WorkerId(worker.0 + 1);
            self.feed(id, worker, effects);
        }
        self.steal(id, effects);
    }

    /// Whether nothing of a job is granted for now.
    pub(crate) fn is_held_back(&self, job: &Job) -> bool {
        job.gate.is_shut() || self.is_reattaching(job)
    }

    /// Whether nothing of a job is granted yet because it is not durable: its commands know its number and may ask about it,
    /// and nobody sees it before. A gang waits until its start is.
    fn is_unrecorded(&self, job: &Job) -> bool {
        let is_asked_about = job.spec.work.is_command() && !job.is_gang();
        is_asked_about && !job.seen.accepted && !self.planted.is(PlantedBug::GrantsUnrecorded)
    }

    /// Takes in the answer to a revoke.
    pub(crate) fn returned(
        &mut self,
        now: Now,
        worker: WorkerId,
        id: JobId,
        grant: GrantId,
        range: IndexRange,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        let allowed = job.slots_allowed();
        job.revoke_answered(worker, range.is_empty());
        job.strays_end(worker, grant, range);
        let owned = job.grants.get_mut(&grant);
        let Some(open) = owned.filter(|open| open.worker == worker) else {
            return self.feed_hungry(id, effects);
        };
        if !range.is_empty() {
            open.end = open.end.min(range.start);
        }
        let back = open.rest.pieces(range);
        for piece in back {
            if !self.planted.is(PlantedBug::KeepsReturnedRange) {
                job.take_from_grant(grant, piece);
            }
            job.never_ran(grant, piece);
            job.let_go(piece);
        }
        self.plan_due |= job.slots_allowed() > allowed || job.gate.is_shut();
        self.plan_due |= self.gang_waits || self.has_left(id, worker);
        self.gang_lost(now, id, &Loss::Unstarted, effects);
        self.feed_hungry(id, effects);
    }

    /// Takes work from others for those that have too little, and sees to it that nobody waits for an answer for ever.
    fn steal(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        self.revoke_longest(id, effects);
        self.watch_tail(id);
    }

    /// Revokes half of the longest backlog, one revoke for each hungry worker at the most.
    fn revoke_longest(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.is_active() && !job.is_gang() && job.waiting.is_empty() && !job.gate.is_shut())
        else {
            return;
        };
        for _ in job.revoking..job.hungry.len() {
            let Some(&(backlog_picos, victim)) = job.backlogs.last() else {
                return;
            };
            if backlog_picos < STEAL_PICOS_MIN {
                return;
            }
            let holding = &job.holdings[&victim];
            let half = (holding.open - u64::from(holding.slots)).div_ceil(2);
            job.revoke(id, victim, half, self.clock, effects);
        }
    }
}

impl Job {
    /// Whether any task waits, apart or not.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.trouble.suspects.is_empty()
    }

    /// Grants a worker a range.
    pub(crate) fn grant(
        &mut self,
        id: JobId,
        worker: WorkerId,
        grant: GrantId,
        range: IndexRange,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let open = Grant {
            worker,
            rest: RangeSet::from(range),
            end: range.end,
            since: Some(now),
        };
        self.open_grant(now, grant, open);
        effects.push(Effect::Send {
            worker,
            message: ToWorker::Grant {
                job: id,
                grant,
                range,
                restarts: self.restarts(range),
            },
        });
    }

    /// Grants a worker nothing more until what it has open has ended.
    fn leave_alone(&mut self, worker: WorkerId) {
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.alone = true;
        }
        self.touch(worker);
    }

    /// Asks a worker for up to `count` unstarted tasks, its latest grants first; `u64::MAX` for all, also for those that
    /// others have ended meanwhile.
    pub(crate) fn revoke(
        &mut self,
        id: JobId,
        worker: WorkerId,
        mut count: u64,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(holding) = self.holdings.get(&worker) else {
            return;
        };
        let grants: Vec<GrantId> = holding.grants.iter().rev().copied().collect();
        let is_all = count == u64::MAX;
        for grant in grants {
            if count == 0 {
                break;
            }
            let open = &self.grants[&grant];
            let part = open.rest.len().min(count);
            count -= part;
            // no grant is longer than where it ends
            let tail = if is_all { open.end } else { open.tail(part) };
            self.ask_back(id, worker, (grant, tail), now, effects);
        }
        self.touch(worker);
    }

    /// Asks a worker for that many tasks from the end of a grant, as far as they have not started.
    pub(crate) fn ask_back(
        &mut self,
        id: JobId,
        worker: WorkerId,
        (grant, count): (GrantId, u64),
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let message = ToWorker::Revoke {
            job: id,
            grant,
            count,
        };
        effects.push(Effect::Send { worker, message });
        self.revoke_sent(now, worker);
    }
}

/// How many tasks a holding should have, running ones included.
fn target(job: &Job, holding: &Holding) -> u64 {
    let slots = u64::from(holding.slots);
    let waiting = job.waiting.len();
    let share = |part: u64, whole: u64| {
        let tasks = u128::from(waiting) * u128::from(part) / u128::from(whole.max(1));
        u64::try_from(tasks).unwrap_or(u64::MAX)
    };
    match job.spec.feeding {
        Feeding::Static => {
            // of what is open, too: nobody is to wait until others have taken their share
            let unended = u128::from(job.spec.tasks - job.ended.len());
            let tasks = (unended * u128::from(slots)).div_ceil(u128::from(job.slots.max(1)));
            u64::try_from(tasks).unwrap_or(u64::MAX).max(slots)
        }
        Feeding::Guided => share(slots, job.slots).max(slots),
        Feeding::Factoring => {
            let Some(picos) = holding.pace.task_picos() else {
                return slots;
            };
            let per_slot = holding.rate() / slots.max(1);
            // a worker without a measured rate is taken to be as fast as this one
            let total = job
                .rate
                .saturating_add(job.slots_unmeasured.saturating_mul(per_slot));
            let credit = slots.saturating_mul(CREDIT_PICOS / picos);
            let least = slots.saturating_add(slots.saturating_mul(LOW_WATER_PICOS / picos));
            (share(holding.rate(), total) / 2)
                .min(credit)
                .max(least)
                .max(slots)
        }
    }
}
