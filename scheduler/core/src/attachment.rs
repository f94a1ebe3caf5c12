//! Workers come, go and come back, and say what they cannot run.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::limits::WORKERS_MAX;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::message::worker::{HeldGrant, Join, ToWorker};
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::holding::Grant;
use crate::input::{Effect, Now, SessionId};
use crate::job::{Job, Phase};
use crate::losses::Loss;
use crate::planted::PlantedBug;
use crate::trouble::HostDeath;
use crate::worker::Worker;

/// Kernel hosts of one job that may die in a row with no task to blame, and without one ending in between, before the job
/// is given up.
const HOSTS_LOST_MAX: u32 = 3;
/// Workers that were to leave and are gone of which that is remembered, in case they never heard it.
const DRAINS_LOST_MAX: usize = 1024;
/// Highest id that a worker may claim to have had, so that there is always a next one.
const WORKER_ID_CLAIMED_MAX: u64 = 1 << 53;

impl Core {
    pub(crate) fn joined(
        &mut self,
        now: Now,
        session: SessionId,
        address: String,
        join: Join,
        effects: &mut Vec<Effect>,
    ) {
        let claimed = join
            .worker
            .filter(|id| (1..=WORKER_ID_CLAIMED_MAX).contains(&id.0));
        let mine = |worker: Option<&Worker>| worker.is_none_or(|worker| worker.instance == join.instance);
        let claimed = claimed.filter(|id| mine(self.workers.get(id)));
        let known = claimed.is_some_and(|id| self.workers.contains_key(&id));
        if !known && self.workers.len() >= WORKERS_MAX {
            let what = format!("{WORKERS_MAX} workers have joined");
            let refusal = Refusal::Full { what };
            return effects.push(Effect::Reject { session, refusal });
        }
        let id = claimed.unwrap_or(WorkerId(self.last_worker.0 + 1));
        self.last_worker = self.last_worker.max(id);
        let draining = self.drains_lost.contains(&join.instance)
            || self.workers.get(&id).is_some_and(|worker| worker.draining);
        self.drains_lost.retain(|&instance| instance != join.instance);
        // what its last session held waits again, before what it still holds is taken out
        let mut concerned = self.forget(id);
        concerned.extend(self.count_found(join.instance));
        let worker = Worker {
            name: join.name,
            address,
            instance: join.instance,
            capacity: join.capacity,
            slots: BTreeMap::new(),
            unplanned: BTreeSet::new(),
            opened: BTreeSet::new(),
            tasks_ended: 0,
            draining,
        };
        self.workers.insert(id, worker);
        let term = self.term;
        effects.push(Effect::Admit { session, worker: id });
        effects.push(Effect::Send {
            worker: id,
            message: ToWorker::Welcome { worker: id, term },
        });
        if draining {
            // its last session may have broken before it heard of that
            let message = ToWorker::Drain;
            effects.push(Effect::Send { worker: id, message });
        }
        self.reattach_all(id, join.held, effects);
        for &job in &concerned {
            // it is not lost: of the ranks that it does not bring back it may never have heard
            let loss = match self.jobs.get(&job).is_some_and(Job::can_go_on) {
                true => Loss::Worker(id),
                false => Loss::Unstarted,
            };
            self.gangs_lost(now, [job], &loss, effects);
        }
        concerned
            .into_iter()
            .for_each(|job| self.feed_hungry(job, effects));
        self.plan_due = true;
    }

    fn reattach_all(&mut self, worker: WorkerId, held: Vec<HeldGrant>, effects: &mut Vec<Effect>) {
        let mut grants: BTreeMap<JobId, BTreeMap<GrantId, RangeSet>> = BTreeMap::new();
        for held in held {
            let of_job = grants.entry(held.job).or_default();
            of_job.entry(held.grant).or_default().insert(held.range);
        }
        for (id, grants) in grants {
            let phase = self.jobs.get(&id).map_or(Phase::Finished, |job| job.phase);
            // the worker runs another job under this number
            let stranger = |job: &Job| grants.keys().any(|grant| grant.term < job.term);
            if phase == Phase::Finished || self.jobs.get(&id).is_some_and(stranger) {
                let message = ToWorker::Close { job: id };
                effects.push(Effect::Send { worker, message });
                continue;
            }
            self.opened(worker, id);
            if phase == Phase::Active {
                for (grant, held) in grants {
                    self.reattach(worker, id, grant, &held, effects);
                }
            }
        }
    }

    /// Takes a grant of an earlier session up again, up to where others have what the worker cannot have begun; what is
    /// behind is taken back, and what has ended is stopped, so that the worker does not run it for nothing.
    fn reattach(
        &mut self,
        worker: WorkerId,
        id: JobId,
        grant: GrantId,
        held: &RangeSet,
        effects: &mut Vec<Effect>,
    ) {
        // ranks of which it is not known with whom they run, run in vain, as do those that are to be replaced
        let is_current =
            |job: &Job| job.gang.granted && grant.term == self.term && !job.requeues.voids(grant, held);
        let fits = |job: &Job| !job.is_gang() || self.is_reattaching(job) || is_current(job);
        let fits = self.jobs.get(&id).is_some_and(fits);
        let (Some(job), Some(model)) = (self.jobs.get_mut(&id), self.workers.get_mut(&worker)) else {
            return;
        };
        let last = GrantId {
            term: self.term,
            number: self.grants_made,
        };
        let valid =
            fits && grant <= last && !job.grants.contains_key(&grant) && !job.excluded.contains_key(&worker);
        let slots = model.capacity.slots(&job.spec.request);
        let rest = match valid {
            true => job.still_free(held, slots.into()),
            false => RangeSet::new(),
        };
        let stale_from = rest.iter().next_back().map_or(0, |range| range.end);
        let stale = held
            .iter()
            .map(|range| range.end - range.start.max(stale_from).min(range.end));
        let stale: u64 = stale.sum();
        let may_stray = valid && !job.is_gang();
        let in_vain = match may_stray {
            true => job.strays_come(worker, grant, held.clone(), &rest),
            false => Vec::new(),
        };
        // of strays the cancelled ones are among what has ended
        for range in job.unheard_stops(grant, held, fits, !may_stray) {
            let message = ToWorker::Stop {
                job: id,
                grant,
                range,
            };
            effects.push(Effect::Send { worker, message });
        }
        // others go on without them
        let lost = if fits {
            job.lost_of(worker, grant, held)
        } else {
            Vec::new()
        };
        if !rest.is_empty() {
            rest.iter().for_each(|range| job.waiting.remove(range));
            job.set_slots(worker, 0);
            let end = held.iter().next_back().map_or(0, |range| range.end);
            let open = Grant {
                worker,
                rest,
                end,
                since: None,
            };
            job.gang.granted |= job.is_gang() && !job.requeues.voids(grant, &open.rest);
            job.open_grant(self.clock, grant, open);
            if job.gate.is_shut() && !job.is_gang() {
                job.revoke(id, worker, u64::MAX, self.clock, effects);
            }
        }
        // it has slots for the job from before, whatever the next plan says
        model.unplanned.insert(id);
        if stale > 0 {
            job.revoke_sent(self.clock, worker);
            effects.push(Effect::Send {
                worker,
                message: ToWorker::Revoke {
                    job: id,
                    grant,
                    count: stale,
                },
            });
        }
        self.stop_when_durable(id, in_vain, effects);
        self.stop_when_durable(id, lost, effects);
    }

    pub(crate) fn worker_lost(&mut self, now: Now, worker: WorkerId, effects: &mut Vec<Effect>) {
        let ran = self.may_run(worker);
        let model = self.workers.get(&worker);
        let instance = model.map_or(0, |model| model.instance);
        if model.is_some_and(|model| model.draining) {
            self.drains_lost.truncate(DRAINS_LOST_MAX - 1);
            self.drains_lost.push_front(instance);
        }
        let concerned = self.forget(worker);
        self.plan_due = true;
        self.count_lost(now, instance, ran, effects);
        self.gangs_lost(now, concerned.iter().copied(), &Loss::Worker(worker), effects);
        concerned
            .into_iter()
            .for_each(|job| self.feed_hungry(job, effects));
    }

    /// Gives back all that a worker holds; returns the jobs that it was told of.
    fn forget(&mut self, worker: WorkerId) -> BTreeSet<JobId> {
        let Some(model) = self.workers.remove(&worker) else {
            return BTreeSet::new();
        };
        for id in &model.opened {
            if let Some(job) = self.jobs.get_mut(id) {
                if self.planted.is(PlantedBug::RequeuesTwins) {
                    job.twins.running = RangeSet::new();
                }
                let waited = self.planted.is(PlantedBug::ForgetsLostTasks);
                let waited = waited.then(|| job.waiting.clone());
                job.drop_holding(worker);
                job.opened_on.remove(&worker);
                if let Some(waited) = waited {
                    job.waiting = waited;
                }
            }
        }
        model.opened
    }

    pub(crate) fn cannot_run(
        &mut self,
        now: Now,
        worker: WorkerId,
        id: JobId,
        reason: String,
        fatal: bool,
        effects: &mut Vec<Effect>,
    ) {
        if !self.closed_there(worker, id) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.excluded.insert(worker, reason.clone());
        let is_gang = job.is_gang();
        let mut workers = self.workers.iter();
        let nowhere = workers
            .all(|(&worker, model)| !job.may_use(worker, model) || job.spec.slots_on(&model.capacity) == 0);
        if fatal || nowhere {
            return self.end_job(now, id, Outcome::Broken { reason }, effects);
        }
        self.plan_due = true;
        if is_gang {
            self.gang_lost(now, id, &Loss::Unstarted, effects);
        }
        self.feed_hungry(id, effects);
    }

    pub(crate) fn host_lost(
        &mut self,
        now: Now,
        worker: WorkerId,
        id: JobId,
        death: &HostDeath,
        effects: &mut Vec<Effect>,
    ) {
        let held = self.jobs.get(&id).map(|job| job.held_by(worker));
        if !self.closed_there(worker, id) {
            return;
        }
        if self.jobs.get(&id).is_some_and(Job::is_gang) {
            return self.gang_lost(now, id, &death.into(), effects);
        }
        let blamed = self.blame(now, id, &held.unwrap_or_default(), death, effects);
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.hosts_lost += u32::from(!blamed);
        if job.hosts_lost > HOSTS_LOST_MAX {
            let deaths = HOSTS_LOST_MAX + 1;
            let how = &death.how;
            let reason = format!("its kernel host died {deaths} times in a row: {how}");
            return self.end_job(now, id, Outcome::Broken { reason }, effects);
        }
        self.plan_due = true;
        self.feed_hungry(id, effects);
    }

    /// Notes that a job is open on a worker; `false` if that was known.
    pub(crate) fn opened(&mut self, worker: WorkerId, id: JobId) -> bool {
        let (Some(model), Some(job)) = (self.workers.get_mut(&worker), self.jobs.get_mut(&id)) else {
            return false;
        };
        job.opened_on.insert(worker);
        model.opened.insert(id)
    }

    /// Notes that a worker closed a job by itself and runs nothing of it any more; `false` if it was not open there.
    fn closed_there(&mut self, worker: WorkerId, id: JobId) -> bool {
        let (Some(model), Some(job)) = (self.workers.get_mut(&worker), self.jobs.get_mut(&id)) else {
            return false;
        };
        model.slots.remove(&id);
        model.unplanned.remove(&id);
        job.drop_holding(worker);
        job.opened_on.remove(&worker);
        model.opened.remove(&id)
    }
}

impl Job {
    /// What of a grant was stopped, which its worker may not have heard of: its last session may have broken before.
    fn unheard_stops(
        &self,
        grant: GrantId,
        held: &RangeSet,
        fits: bool,
        with_cancelled: bool,
    ) -> Vec<IndexRange> {
        let cancelled = held.iter().filter(|_| with_cancelled);
        let cancelled = cancelled.flat_map(|range| self.seen.cancelled.tasks.pieces(range));
        let void = held.iter().filter(|_| fits);
        let void = void.flat_map(|range| self.seen.requeues.void(grant, range));
        let unfit = held.iter().filter(|_| !fits);
        cancelled.chain(void).chain(unfit).collect()
    }
}
