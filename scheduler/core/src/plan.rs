//! The slow path: which job holds how many slots of which worker. Runs when jobs or workers come and go, never per task.
//!
//! By priority; among equals by max-min fair share of cpus between users; of one user the older job first. Two passes
//! place what was decided: first everybody's share, then backfill: what no share claims goes to whoever can use it. In
//! each, jobs keep what they hold before anybody is given more, the slots that their tasks run on first; only where that
//! would keep a higher priority from its share, the lower ones have to move. A job that loses slots keeps its running
//! tasks; its unstarted ones are taken back. The worker is the last judge: it starts a task only when the slot is really
//! free. Jobs that share their workers with no other are in `owners`, gangs in `reserving`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::gang::Placement;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{JobId, Request, Resources, WorkerChoice, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::planted::PlantedBug;
use crate::worker::Worker;

/// Shortest time between plans, for each worker and job there is: a plan takes about a microsecond for each (see the
/// `placement` benchmark), so planning stays below about a tenth of the time.
const PLAN_INTERVAL_EACH: Duration = Duration::from_micros(10);

/// What a job asks of a plan, and gets.
pub(crate) struct Claim<'a> {
    pub(crate) id: JobId,
    pub(crate) job: &'a Job,
    /// When it will have ended, if its time is limited.
    pub(crate) ends: Option<Duration>,
    /// Slots that it could use.
    wanted: u64,
    /// Slots that are its share.
    share: u64,
    /// Slots given so far.
    given: u64,
    /// It keeps what it has; other slots would be of no use to it.
    keeps_only: bool,
}

/// Slots by worker and job.
pub(crate) type Slots = BTreeMap<(WorkerId, JobId), u32>;

/// The slots of every worker, as far as they are given.
#[derive(Clone)]
pub(crate) struct Board<'a> {
    pub(crate) workers: &'a BTreeMap<WorkerId, Worker>,
    pub(crate) free: BTreeMap<WorkerId, Resources>,
    pub(crate) slots: Slots,
    /// Workers that a job shares with no other.
    pub(crate) owners: BTreeMap<WorkerId, JobId>,
    /// Jobs that have tasks on a worker, with their priorities, if any job shares its workers with no other.
    pub(crate) busy: BTreeMap<WorkerId, Vec<(JobId, i32)>>,
    /// What is free and reserved for a gang.
    pub(crate) reserved: BTreeMap<WorkerId, Resources>,
    /// Workers that some job may not do without.
    pub(crate) sought: BTreeSet<WorkerId>,
    /// When that gang will have its slots, if one reserves any; for ever, if that is not known.
    pub(crate) until: Option<Duration>,
}

/// What tasks of a job may need, and where.
type Wanted<'a> = (Vec<&'a Request>, &'a WorkerChoice);

/// What a plan decides: slots, and where gangs are that were given theirs.
type Decision = (Slots, Vec<(JobId, Placement)>);

impl Core {
    pub(crate) fn plan_interval(&self) -> Duration {
        PLAN_INTERVAL_EACH * u32::try_from(self.workers.len() + self.live.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn plan_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.plan_due && now.elapsed >= self.planned_at + self.plan_interval() {
            self.plan_due = false;
            self.planned_at = now.elapsed;
            let decision = self.plan();
            self.carry_out(now, decision, effects);
        }
    }

    /// Decides; changes nothing but `unmet` and `gang_waits`.
    fn plan(&mut self) -> Decision {
        let mut claims = self.claims();
        let gangs = self.gang_claims();
        let mut board = self.board(&claims);
        board.sought = self.sought(&claims, &gangs);
        let running = match gangs.is_empty() {
            true => BTreeMap::new(),
            false => self.running(),
        };
        let mut placements = Vec::new();
        let mut rest = claims.as_mut_slice();
        for gang in &gangs {
            let higher = rest.partition_point(|claim| claim.priority() > gang.priority());
            let (level, lower) = std::mem::take(&mut rest).split_at_mut(higher);
            rest = lower;
            share_out(&mut board, level);
            let placement = self.place_gang(&mut board, gang, &running);
            placements.extend(placement.map(|placement| (gang.id, placement)));
        }
        share_out(&mut board, rest);
        let slots = board.slots;
        let gang_waits = placements.len() < gangs.len();
        let unmet = gang_waits || claims.iter().any(|claim| claim.given < claim.wanted);
        (self.unmet, self.gang_waits) = (unmet, gang_waits);
        (slots, placements)
    }

    /// All slots that may be given.
    fn board(&self, claims: &[Claim<'_>]) -> Board<'_> {
        let workers = self.workers.iter();
        let staying = workers.filter(|(_, worker)| worker.capacity.cpus > 0 && !worker.draining);
        let mut board = Board {
            workers: &self.workers,
            free: staying
                .map(|(&id, worker)| (id, worker.capacity.clone()))
                .collect(),
            slots: Slots::new(),
            owners: BTreeMap::new(),
            busy: self.busy(claims),
            reserved: BTreeMap::new(),
            sought: BTreeSet::new(),
            until: None,
        };
        self.hold_gangs(&mut board);
        board
    }

    fn claims(&self) -> Vec<Claim<'_>> {
        let mut capacities = BTreeMap::new();
        let live = self.live.iter().map(|&id| (id, &self.jobs[&id]));
        let mut claims: Vec<Claim<'_>> = live
            .filter(|(_, job)| !job.is_gang())
            .map(|(id, job)| Claim {
                id,
                job,
                ends: job.ends(self.clock),
                wanted: self.slots_of_use(id, job).min(self.room(job, &mut capacities)),
                share: 0,
                given: 0,
                keeps_only: job.gate.is_shut(),
            })
            .filter(|claim| claim.wanted > 0)
            .collect();
        // ids count up, so the sort leaves the older job first among equals
        claims.sort_by_key(|claim| Reverse(claim.priority()));
        claims
    }

    /// Slots of a job that the workers it may run on have room for when they are empty; what is known of others like it is kept.
    fn room<'a>(&self, job: &'a Job, known: &mut BTreeMap<Wanted<'a>, u64>) -> u64 {
        let slots = |worker: &Worker| u64::from(job.spec.slots_on(&worker.capacity));
        let choice = &job.spec.choice;
        let workers = self.workers.values();
        let usable = workers.filter(|worker| !worker.draining && choice.admits(&worker.name));
        let wanted = (job.spec.requests().collect(), choice);
        *known.entry(wanted).or_insert_with(|| usable.map(slots).sum())
    }

    /// Slots that a job could use now: as long as nothing more of it is granted, those for what it holds.
    fn slots_of_use(&self, id: JobId, job: &Job) -> u64 {
        let wanted = job.slots_wanted();
        if self.is_reattaching(job) {
            wanted.min(job.holdings.values().map(|holding| holding.open).sum())
        } else if job.gate.is_shut() {
            let in_use = job.holdings.iter().map(|(worker, holding)| {
                let model = self.workers.get(worker);
                match model.is_some_and(|model| model.unplanned.contains(&id)) {
                    true => holding.open,
                    false => holding.open.min(holding.slots.into()),
                }
            });
            wanted.min(in_use.sum())
        } else {
            wanted
        }
    }

    fn carry_out(&mut self, now: Now, (planned, placements): Decision, effects: &mut Vec<Effect>) {
        let placed: Vec<JobId> = placements.iter().map(|&(id, _)| id).collect();
        for (id, placement) in placements {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.gang.placement = Some(placement);
            }
        }
        let mut changed = Vec::new();
        for (&worker, model) in &self.workers {
            let gone = model.slots.keys().chain(&model.unplanned);
            let gone = gone.filter(|&&job| !planned.contains_key(&(worker, job)));
            changed.extend(gone.map(|&job| (worker, job, 0)));
        }
        for (&(worker, job), &slots) in &planned {
            if self.workers[&worker].slots.get(&job) != Some(&slots) {
                changed.push((worker, job, slots));
            }
        }
        for &(worker, job, slots) in &changed {
            self.change_slots(worker, job, slots, effects);
            if slots > 0 {
                self.begin_time(now, job, effects);
            }
        }
        // only now, so that sizes of grants know of all slots
        for (worker, job, slots) in changed {
            if slots > 0 {
                self.feed(job, worker, effects);
            }
        }
        // a gang may have had the slots that its lost ranks are given
        placed.into_iter().for_each(|id| self.start_gang(id, effects));
    }

    pub(crate) fn change_slots(
        &mut self,
        worker: WorkerId,
        id: JobId,
        slots: u32,
        effects: &mut Vec<Effect>,
    ) {
        let newly_opened = self.opened(worker, id);
        let (Some(model), Some(job)) = (self.workers.get_mut(&worker), self.jobs.get_mut(&id)) else {
            return;
        };
        model.unplanned.remove(&id);
        let keeps = model.draining && self.planted.is(PlantedBug::DrainKeepsBacklog);
        let before = model.slots.remove(&id).unwrap_or(0);
        if slots > 0 {
            model.slots.insert(id, slots);
        }
        let mut send = |message| effects.push(Effect::Send { worker, message });
        if newly_opened {
            send(ToWorker::Open {
                job: id,
                user: job.user.clone(),
                work: job.spec.work.clone(),
                request: job.spec.request_on(&model.capacity).clone(),
                task_time_limit_millis: job.spec.task_time_limit_millis,
            });
        }
        send(ToWorker::SetSlots { job: id, slots });
        job.set_slots(worker, slots);
        if slots == 0 {
            let tasks = if keeps { 0 } else { u64::MAX };
            job.revoke(id, worker, tasks, self.clock, effects);
        } else if slots < before {
            let open = u128::from(job.holdings[&worker].open);
            let excess = open * u128::from(before - slots) / u128::from(before);
            let excess = u64::try_from(excess).unwrap_or(u64::MAX);
            job.revoke(id, worker, excess, self.clock, effects);
        }
    }

    /// What tasks of a job need on a worker.
    pub(crate) fn request_on(&self, id: JobId, worker: WorkerId) -> &Request {
        self.jobs[&id].spec.request_on(&self.workers[&worker].capacity)
    }
}

impl Job {
    /// The most cpus that one of its slots may take.
    fn cpus_per_slot(&self) -> u64 {
        let cpus = self.spec.requests().map(|request| u64::from(request.cpus));
        cpus.max().unwrap_or(1)
    }
}

impl Claim<'_> {
    fn priority(&self) -> i32 {
        self.job.spec.priority
    }
}

impl Board<'_> {
    /// Gives every claim slots up to its limit; what jobs hold goes first.
    fn place(&mut self, claims: &mut [Claim<'_>], limit: impl Fn(&Claim<'_>) -> u64) {
        for only_busy in [true, false] {
            for claim in claims.iter_mut() {
                self.keep(claim, only_busy, limit(claim));
            }
        }
        for claim in claims {
            self.top_up(claim, limit(claim));
        }
    }

    /// Lets a claim keep what its job holds, or of that what has tasks to run, up to `limit`.
    fn keep(&mut self, claim: &mut Claim<'_>, only_busy: bool, limit: u64) {
        let holdings = &claim.job.holdings;
        let turns = self.turns(claim).iter();
        let in_turn = turns.flat_map(|turn| holdings.iter().map(move |held| (turn, held)));
        for (turn, (&worker, holding)) in in_turn {
            if claim.given >= limit {
                return;
            }
            if !turn.is_for(&self.sought, worker) {
                continue;
            }
            let unplanned = || self.workers[&worker].unplanned.contains(&claim.id);
            let held = match u64::from(holding.slots) {
                0 if holding.open > 0 && unplanned() => holding.open,
                slots if only_busy => slots.min(holding.open),
                slots => slots,
            };
            if held > 0 {
                let kept = self.slots.get(&(worker, claim.id)).copied().unwrap_or(0);
                self.give(claim, worker, held.saturating_sub(u64::from(kept)), limit);
            }
        }
    }

    /// Takes slots back that a claim was to get on top of tasks that go on without the slots which it is to lose, as far
    /// as more of them would run at a time than its job allows. They follow when those have ended.
    fn keep_to_limit(&mut self, claim: &mut Claim<'_>) {
        let allowed = claim.job.slots_allowed();
        if allowed == u64::MAX {
            return;
        }
        let holdings = &claim.job.holdings;
        let had = |worker| holdings.get(worker).map_or(0, |holding| holding.slots);
        let mut losing = 0;
        for (&worker, holding) in holdings {
            let kept = self
                .slots
                .get(&(worker, claim.id))
                .map_or(0, |&slots| u64::from(slots));
            losing += holding.open.min(holding.slots.into()).saturating_sub(kept);
        }
        let mut excess = (claim.given + losing).saturating_sub(allowed);
        let given = self.slots.iter_mut().filter(|((_, job), _)| *job == claim.id);
        for ((worker, _), slots) in given {
            let taken = excess.min(slots.saturating_sub(had(worker)).into());
            *slots -= u32::try_from(taken).unwrap_or(u32::MAX);
            excess -= taken;
            claim.given -= taken;
        }
        self.slots.retain(|_, slots| *slots > 0);
    }

    /// Gives a claim whatever is free, up to `limit`.
    fn top_up(&mut self, claim: &mut Claim<'_>, limit: u64) {
        for turn in self.turns(claim) {
            let mut from = WorkerId(0);
            while claim.given < limit
                && !claim.keeps_only
                && let Some((&worker, _)) = self.free.range(from..).next()
            {
                if turn.is_for(&self.sought, worker) {
                    self.give(claim, worker, u64::MAX, limit);
                }
                from = WorkerId(worker.0 + 1);
            }
        }
    }

    /// Gives up to `slots` slots of a worker, as long as the claim has less than `limit`.
    fn give(&mut self, claim: &mut Claim<'_>, worker: WorkerId, slots: u64, limit: u64) {
        if !claim.job.may_use(worker, &self.workers[&worker]) {
            return;
        }
        let slots = slots.min(self.allowed(claim, worker));
        let request = claim.job.spec.request_on(&self.workers[&worker].capacity);
        let fitting = match self.free.get(&worker) {
            None => return,
            Some(free) if !self.reserved.contains_key(&worker) => free.slots(request),
            Some(_) => {
                let usable = self.usable(worker, claim.ends);
                usable.map_or(0, |usable| usable.slots(request))
            }
        };
        let given = u64::from(fitting).min(slots);
        let given = given.min(limit.saturating_sub(claim.given));
        let given = u32::try_from(given).unwrap_or(u32::MAX);
        if given > 0 {
            claim.given += u64::from(given);
            self.take(worker, (claim.id, claim.job), given, claim.ends);
        }
    }
}

/// Gives claims their shares of what is free, then what is left over.
fn share_out(board: &mut Board<'_>, claims: &mut [Claim<'_>]) {
    if claims.is_empty() {
        return;
    }
    let cpus = board.free.values().map(|free| u64::from(free.cpus)).sum();
    set_shares(claims, cpus);
    let before = board.clone();
    board.place(claims, |claim| claim.share);
    if is_unjust(claims) {
        *board = before;
        claims.iter_mut().for_each(|claim| claim.given = 0);
        for level in claims.chunk_by_mut(|a, b| a.priority() == b.priority()) {
            board.place(level, |claim| claim.share);
        }
    }
    board.place(claims, |claim| claim.wanted);
    claims.iter_mut().for_each(|claim| board.keep_to_limit(claim));
}

/// Whether somebody lacks slots of their share while a lower priority was given some.
fn is_unjust(claims: &[Claim<'_>]) -> bool {
    let lacking = claims.iter().find(|claim| claim.given < claim.share);
    lacking.is_some_and(|lacking| {
        let lower = |claim: &&Claim<'_>| claim.priority() < lacking.priority();
        claims.iter().filter(lower).any(|claim| claim.given > 0)
    })
}

/// Sets each claim's share. `claims` are sorted by priority, then age; `cpus` is what all workers have.
fn set_shares(claims: &mut [Claim<'_>], mut cpus: u64) {
    for level in claims.chunk_by_mut(|a, b| a.priority() == b.priority()) {
        let mut demands: BTreeMap<&str, u64> = BTreeMap::new();
        for claim in level.iter() {
            let demand = claim.wanted.saturating_mul(claim.job.cpus_per_slot());
            let total = demands.entry(claim.job.user.as_str()).or_default();
            *total = total.saturating_add(demand);
        }
        let mut shares = max_min(&demands, cpus);
        for claim in level {
            let per_slot = claim.job.cpus_per_slot();
            let left = shares
                .get_mut(claim.job.user.as_str())
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
