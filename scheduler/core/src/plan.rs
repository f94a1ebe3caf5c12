//! The slow path: which job holds how many slots of which worker. Runs when jobs or workers come and go, never per task.
//!
//! By priority; among equals by max-min fair share of cpus between users; of one user the older job first. Two passes
//! place what was decided: first everybody's share, then backfill: what no share claims goes to whoever can use it. In
//! each, jobs keep what they hold before anybody is given more. A job that loses slots keeps its running tasks; its unstarted ones are taken back. The worker is the last
//! judge: it starts a task only when the slot is really free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{JobId, Request, Resources, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;

/// Shortest time between plans, for each worker and job there is: planning stays below about a tenth of the time.
const PLAN_INTERVAL_EACH: Duration = Duration::from_micros(2);

/// What a job asks of a plan, and gets.
struct Claim<'a> {
    job: JobId,
    user: &'a str,
    priority: i32,
    request: &'a Request,
    excluded: BTreeSet<WorkerId>,
    /// Slots that it could use.
    wanted: u64,
    /// Slots that are its share.
    share: u64,
    /// Slots given so far.
    given: u64,
}

/// The slots of every worker, as far as they are given.
struct Board {
    free: BTreeMap<WorkerId, Resources>,
    slots: BTreeMap<(WorkerId, JobId), u32>,
}

impl Core {
    pub(crate) fn plan_interval(&self) -> Duration {
        PLAN_INTERVAL_EACH * u32::try_from(self.workers.len() + self.live.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn plan_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.plan_due && now.elapsed >= self.planned_at + self.plan_interval() {
            self.plan_due = false;
            self.planned_at = now.elapsed;
            let slots = self.plan();
            self.carry_out(slots, effects);
        }
    }

    /// Decides; changes nothing but `unmet`.
    fn plan(&mut self) -> BTreeMap<(WorkerId, JobId), u32> {
        let mut claims = self.claims();
        let free = self
            .workers
            .iter()
            .map(|(&id, worker)| (id, worker.capacity.clone()))
            .collect();
        let mut board = Board {
            free,
            slots: BTreeMap::new(),
        };
        set_shares(
            &mut claims,
            board.free.values().map(|free| u64::from(free.cpus)).sum(),
        );
        for limit in [|claim: &Claim<'_>| claim.share, |claim: &Claim<'_>| claim.wanted] {
            for claim in &mut claims {
                board.keep(claim, &self.jobs[&claim.job], limit(claim));
            }
            for claim in &mut claims {
                board.top_up(claim, limit(claim));
            }
        }
        self.unmet = claims.iter().any(|claim| claim.given < claim.wanted);
        board.slots
    }

    fn claims(&self) -> Vec<Claim<'_>> {
        let mut claims: Vec<Claim<'_>> = self
            .live
            .iter()
            .map(|&id| (id, &self.jobs[&id]))
            .filter(|(_, job)| job.slots_wanted() > 0)
            .map(|(id, job)| Claim {
                job: id,
                user: &job.user,
                priority: job.spec.priority,
                request: &job.spec.request,
                excluded: job.excluded.keys().copied().collect(),
                wanted: job.slots_wanted(),
                share: 0,
                given: 0,
            })
            .collect();
        // ids count up, so the sort leaves the older job first among equals
        claims.sort_by_key(|claim| Reverse(claim.priority));
        claims
    }

    fn carry_out(&mut self, planned: BTreeMap<(WorkerId, JobId), u32>, effects: &mut Vec<Effect>) {
        let mut changed = Vec::new();
        for (&worker, model) in &self.workers {
            let jobs: BTreeSet<JobId> = model.slots.keys().copied().collect();
            let gone = jobs
                .into_iter()
                .filter(|&job| !planned.contains_key(&(worker, job)));
            changed.extend(gone.map(|job| (worker, job, 0)));
        }
        let held = |worker, job| {
            self.workers
                .get(&worker)
                .and_then(|model| model.slots.get(&job).copied())
        };
        let news = planned
            .iter()
            .filter(|&(&(worker, job), &slots)| held(worker, job) != Some(slots));
        changed.extend(news.map(|(&(worker, job), &slots)| (worker, job, slots)));
        for &(worker, job, slots) in &changed {
            self.change_slots(worker, job, slots, effects);
        }
        // only now, so that sizes of grants know of all slots
        for (worker, job, slots) in changed {
            if slots > 0 {
                self.feed(job, worker, effects);
            }
        }
    }

    fn change_slots(&mut self, worker: WorkerId, id: JobId, slots: u32, effects: &mut Vec<Effect>) {
        let (Some(model), Some(job)) = (self.workers.get_mut(&worker), self.jobs.get_mut(&id)) else {
            return;
        };
        if slots > 0 {
            model.slots.insert(id, slots);
        } else {
            model.slots.remove(&id);
        }
        if model.opened.insert(id) {
            let (user, request) = (job.user.clone(), job.spec.request.clone());
            let work = job.spec.kernel().clone();
            effects.push(Effect::Send {
                worker,
                message: ToWorker::Open {
                    job: id,
                    user,
                    work,
                    request,
                },
            });
        }
        effects.push(Effect::Send {
            worker,
            message: ToWorker::SetSlots { job: id, slots },
        });
        if job.is_active() {
            job.set_slots(worker, slots);
            if slots == 0 {
                job.hungry.remove(&worker);
                job.revoke(id, worker, u64::MAX, effects);
            }
        }
    }

    /// The worker with the most cpus, then memory.
    pub(crate) fn largest_worker(&self) -> Option<&Resources> {
        let capacities = self.workers.values().map(|worker| &worker.capacity);
        capacities.max_by_key(|capacity| (capacity.cpus, capacity.memory_bytes))
    }
}

impl Board {
    /// Gives up to `slots` slots of a worker, as long as the claim has less than `limit`.
    fn give(&mut self, claim: &mut Claim<'_>, worker: WorkerId, slots: u64, limit: u64) {
        let Some(free) = self
            .free
            .get_mut(&worker)
            .filter(|_| !claim.excluded.contains(&worker))
        else {
            return;
        };
        let fitting = u64::from(free.slots(claim.request))
            .min(slots)
            .min(limit - claim.given.min(limit));
        let given = u32::try_from(fitting).unwrap_or(u32::MAX);
        if given > 0 {
            free.take(claim.request, given);
            claim.given += u64::from(given);
            *self.slots.entry((worker, claim.job)).or_default() += given;
            if free.cpus == 0 {
                self.free.remove(&worker);
            }
        }
    }

    /// Lets a claim keep what its job holds, up to `limit`.
    fn keep(&mut self, claim: &mut Claim<'_>, job: &Job, limit: u64) {
        for (&worker, holding) in &job.holdings {
            let kept = self.slots.get(&(worker, claim.job)).copied().unwrap_or(0);
            self.give(
                claim,
                worker,
                u64::from(holding.slots.saturating_sub(kept)),
                limit,
            );
        }
    }

    /// Gives a claim whatever is free, up to `limit`.
    fn top_up(&mut self, claim: &mut Claim<'_>, limit: u64) {
        if claim.given >= limit || self.free.is_empty() {
            return;
        }
        let workers: Vec<WorkerId> = self.free.keys().copied().collect();
        for worker in workers {
            if claim.given >= limit {
                return;
            }
            self.give(claim, worker, u64::MAX, limit);
        }
    }
}

/// Sets each claim's share. `claims` are sorted by priority, then age; `cpus` is what all workers have.
fn set_shares(claims: &mut [Claim<'_>], mut cpus: u64) {
    for level in claims.chunk_by_mut(|a, b| a.priority == b.priority) {
        let mut demands: BTreeMap<&str, u64> = BTreeMap::new();
        for claim in level.iter() {
            let demand = claim.wanted.saturating_mul(u64::from(claim.request.cpus));
            let total = demands.entry(claim.user).or_default();
            *total = total.saturating_add(demand);
        }
        let mut shares = max_min(&demands, cpus);
        for claim in level {
            let per_slot = u64::from(claim.request.cpus);
            let left = shares
                .get_mut(claim.user)
                .expect("every user of the level has a share");
            claim.share = claim.wanted.min(*left / per_slot);
            *left -= claim.share * per_slot;
            cpus -= claim.share * per_slot;
        }
    }
}

/// Max-min fair shares: nobody gets more than they ask for, and nobody could get more without one who has no more than
/// they losing (Bertsekas and Gallager, Data Networks, 1992, 6.5.2). What does not divide goes to the first by name.
fn max_min<'a>(demands: &BTreeMap<&'a str, u64>, mut cpus: u64) -> BTreeMap<&'a str, u64> {
    let mut by_demand: Vec<(&str, u64)> = demands.iter().map(|(&user, &demand)| (user, demand)).collect();
    by_demand.sort_by_key(|&(_, demand)| demand);
    let mut shares = BTreeMap::new();
    let mut users_left = by_demand.len() as u64;
    for (user, demand) in by_demand {
        let share = demand.min(cpus.div_ceil(users_left));
        shares.insert(user, share);
        cpus -= share;
        users_left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_little_gets_it_and_the_rest_is_split_evenly() {
        let demands = BTreeMap::from([("ada", 2), ("bob", 100), ("cy", 100)]);
        assert_eq!(
            max_min(&demands, 12),
            BTreeMap::from([("ada", 2), ("bob", 5), ("cy", 5)])
        );
        assert_eq!(
            max_min(&demands, 0),
            BTreeMap::from([("ada", 0), ("bob", 0), ("cy", 0)])
        );
    }
}
