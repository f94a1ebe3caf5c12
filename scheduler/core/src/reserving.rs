//! Gangs in a plan: placed all or none, in the order of priority and age, before jobs of their own priority and lower.
//!
//! A gang that runs keeps its slots until it ends. Of those that wait, the first that finds no room *reserves*: the slots
//! of the workers where it will soonest, by the time limits of gangs and higher jobs. Nobody else gets these, except
//! jobs whose time limits end before (EASY backfill; Lifka, 1995): what lower jobs run there ends, and nothing more is
//! started. Tasks without a limit may end at any moment, so none is counted as being in the way for long.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::gang::{GangNode, Placement, Shape};
use phalanx_protocol::hostlist;
use phalanx_protocol::{Amount, IndexRange, JobId, RangeSet, Resources, Sharing, WorkerId};

use crate::core::Core;
use crate::fitting::{Room, fit};
use crate::job::Job;
use crate::plan::Board;
use crate::planted::PlantedBug;
use crate::worker::Worker;

/// A gang that waits for its slots.
pub(crate) struct GangClaim<'a> {
    pub(crate) id: JobId,
    pub(crate) job: &'a Job,
    /// Ranks that are to be placed: all, or those that it lost.
    ranks: RangeSet,
    shape: Shape,
    /// Where it has ranks already and is to have no more.
    avoided: BTreeSet<WorkerId>,
    /// When it will have ended, if it starts now and has a time limit.
    ends: Option<Duration>,
    /// No run of an earlier epoch is left.
    ready: bool,
}

/// What still runs on workers, by job.
pub(crate) type Running = BTreeMap<WorkerId, Vec<(JobId, u32)>>;

impl Core {
    /// Gangs that wait for slots, in the order in which they get some.
    pub(crate) fn gang_claims(&self) -> Vec<GangClaim<'_>> {
        let live = self.live.iter().map(|&id| (id, &self.jobs[&id]));
        let waiting = live.filter(|(_, job)| job.awaits_placement() && !self.is_held_back(job));
        let mut claims: Vec<GangClaim<'_>> = waiting
            .filter_map(|(id, job)| {
                let gang = job.spec.gang.as_ref()?;
                let ends = job.ends(self.clock);
                Some(match job.gang.granted {
                    false => GangClaim {
                        id,
                        job,
                        ranks: IndexRange::new(0, job.spec.tasks).into(),
                        shape: gang.shape(job.spec.tasks),
                        avoided: BTreeSet::new(),
                        ends,
                        ready: job.grants.is_empty(),
                    },
                    true => GangClaim {
                        id,
                        job,
                        ranks: job.gang.missing.clone(),
                        shape: job.shape_of_missing(gang),
                        avoided: job.avoided(gang),
                        ends,
                        ready: job.can_replace_missing(),
                    },
                })
            })
            .collect();
        claims.sort_by_key(|claim| Reverse(claim.priority()));
        claims
    }

    /// Lets gangs that have started, or are about to, keep their slots.
    pub(crate) fn hold_gangs(&self, board: &mut Board<'_>) {
        for (id, job) in self.live.iter().map(|&id| (id, &self.jobs[&id])) {
            if !job.keeps_placement() || (!job.gang.granted && self.is_held_back(job)) {
                continue;
            }
            for (&worker, holding) in &job.holdings {
                let is_unplanned = self.workers[&worker].unplanned.contains(&id);
                let held = match holding.slots {
                    0 if is_unplanned => u32::try_from(holding.open).unwrap_or(u32::MAX),
                    // what was given to lost ranks, which are placed once more
                    slots if job.awaits_placement() => {
                        slots.min(u32::try_from(holding.open).unwrap_or(u32::MAX))
                    }
                    slots => slots,
                };
                let free = board.free.get(&worker);
                let fitting = free.map_or(0, |free| free.slots(&job.spec.request));
                board.take(worker, (id, job), fitting.min(held), None);
            }
        }
    }

    /// What runs on each worker, with a slot or without.
    pub(crate) fn running(&self) -> Running {
        let mut running = Running::new();
        for (id, job) in self.live.iter().map(|&id| (id, &self.jobs[&id])) {
            for (&worker, holding) in &job.holdings {
                let is_unplanned = self.workers[&worker].unplanned.contains(&id);
                let may_run = match is_unplanned {
                    true => holding.open,
                    false => holding.open.min(holding.overhang + u64::from(holding.slots)),
                };
                if may_run > 0 {
                    let may_run = u32::try_from(may_run).unwrap_or(u32::MAX);
                    running.entry(worker).or_default().push((id, may_run));
                }
            }
        }
        running
    }

    /// Gives a gang all its slots if they are free, or reserves them; returns how many ranks each worker gets.
    pub(crate) fn place_gang(
        &self,
        board: &mut Board<'_>,
        claim: &GangClaim<'_>,
        running: &Running,
    ) -> Option<Placement> {
        let ranks = claim.ranks.len();
        if claim.ready {
            let mut rooms: Vec<Room> = board
                .free
                .keys()
                .map(|&worker| self.room_now(board, claim, worker, running))
                .collect();
            let has_demanded = self.demand(claim, &mut rooms);
            let fitting = || fit(&claim.shape, ranks, rooms.clone());
            let mut nodes = has_demanded.then(fitting).flatten();
            if nodes.is_none() && !claim.job.gang.granted && self.planted.is(PlantedBug::PlacesPartOfGang) {
                let slots = rooms.iter().map(|room| u64::from(room.slots)).sum();
                nodes = fit(&Shape::Any, ranks.min(slots), rooms).filter(|_| slots > 0);
            }
            if let Some(nodes) = nodes {
                for &(worker, slots) in &nodes {
                    board.take(worker, (claim.id, claim.job), slots, claim.ends);
                }
                return Some(self.placement(claim, &nodes));
            }
        }
        if board.until.is_none() {
            self.reserve(board, claim, running);
        }
        None
    }

    /// What a worker can give a gang at once.
    fn room_now(
        &self,
        board: &Board<'_>,
        claim: &GangClaim<'_>,
        worker: WorkerId,
        running: &Running,
    ) -> Room {
        let mut room = Room {
            worker,
            slots: 0,
            running: 0,
            is_demanded: false,
        };
        let Some(mut free) = board.usable(worker, claim.ends) else {
            return room;
        };
        for &(id, may_run) in running.get(&worker).into_iter().flatten() {
            let other = self.request_on(id, worker);
            if claim.is_exclusive() || other.sharing != Sharing::Anybody {
                return room;
            }
            let planned = board.slots.get(&(worker, id)).copied().unwrap_or(0);
            let excess = may_run.saturating_sub(planned);
            let fitting = free.slots(other).min(excess);
            free.take(other, fitting);
            if fitting < excess {
                // more runs than there are slots for
                free.cpus = 0;
            }
        }
        if board.is_company(claim, worker) && claim.may_use(worker, &self.workers[&worker]) {
            room.slots = free.slots(&claim.job.spec.request);
        }
        room
    }

    /// Keeps the slots that a gang will soonest have from those that would hold them for longer.
    fn reserve(&self, board: &mut Board<'_>, claim: &GangClaim<'_>, running: &Running) {
        let mut times: BTreeSet<Duration> = BTreeSet::from([self.clock, Duration::MAX]);
        let holders: BTreeSet<JobId> = board.slots.keys().map(|&(_, id)| id).collect();
        times.extend(holders.iter().filter_map(|id| self.jobs[id].ends(self.clock)));
        let times: Vec<Duration> = times.into_iter().collect();
        let fitting = |&time: &Duration| {
            let mut rooms = self.rooms_at(board, claim, time, running);
            if !self.demand(claim, &mut rooms) {
                return None;
            }
            fit(&claim.shape, claim.ranks.len(), rooms)
        };
        // what fits at one time fits later, too
        let soonest = times.partition_point(|time| fitting(time).is_none());
        let Some((&time, nodes)) = times.get(soonest).and_then(|time| Some((time, fitting(time)?))) else {
            return;
        };
        for (worker, ranks) in nodes {
            let mut beyond = self.free_at(board, worker, time);
            beyond.take(&claim.job.spec.request, ranks);
            if claim.is_exclusive() {
                beyond = Resources::default();
            }
            if let Some(free) = board.free.get_mut(&worker) {
                let left = least(free, &beyond);
                board.reserved.insert(worker, minus(free, &left));
                *free = left;
            }
        }
        board.until = Some(time);
    }

    fn rooms_at(
        &self,
        board: &Board<'_>,
        claim: &GangClaim<'_>,
        time: Duration,
        running: &Running,
    ) -> Vec<Room> {
        let workers = self.workers.iter();
        let staying = workers.filter(|&(&worker, model)| {
            !model.draining && model.capacity.cpus > 0 && claim.may_use(worker, model)
        });
        let room = |(&worker, _): (&WorkerId, _)| {
            let mut others = board.others(worker, claim.id);
            let mut others = others.by_ref().filter(|&(id, _)| !self.is_over_at(id, time));
            let exclusive = |id: JobId| self.jobs[&id].spec.request.sharing != Sharing::Anybody;
            let kept_off = others.any(|(id, _)| claim.is_exclusive() || exclusive(id));
            let free = self.free_at(board, worker, time);
            let there = running.get(&worker).into_iter().flatten();
            let excess = there.map(|&(id, may_run)| {
                let planned = board.slots.get(&(worker, id)).copied().unwrap_or(0);
                may_run.saturating_sub(planned)
            });
            Room {
                worker,
                slots: if kept_off {
                    0
                } else {
                    free.slots(&claim.job.spec.request)
                },
                running: excess.fold(0, u32::saturating_add),
                is_demanded: false,
            }
        };
        staying.map(room).collect()
    }

    /// What of a worker the jobs that have got slots leave, once those have ended that will have.
    fn free_at(&self, board: &Board<'_>, worker: WorkerId, time: Duration) -> Resources {
        let mut free = self.workers[&worker].capacity.clone();
        for (id, slots) in board.others(worker, JobId(0)) {
            if !self.is_over_at(id, time) {
                free.take(self.request_on(id, worker), slots);
            }
        }
        free
    }

    fn is_over_at(&self, id: JobId, time: Duration) -> bool {
        time == Duration::MAX || self.jobs[&id].ends(self.clock).is_some_and(|ends| ends <= time)
    }

    fn placement(&self, claim: &GangClaim<'_>, nodes: &[(WorkerId, u32)]) -> Placement {
        let counts: Vec<u32> = nodes.iter().map(|&(_, ranks)| ranks).collect();
        let gang = claim.job.spec.gang.as_ref();
        let assigned = gang.map(|gang| gang.assign(&counts)).unwrap_or_default();
        let (workers, node_of) = match claim.job.gang.granted {
            false => (nodes.iter().map(|&(worker, _)| worker).collect(), assigned),
            true => claim.job.with_replacements(nodes),
        };
        let node = |worker: WorkerId| GangNode {
            worker,
            address: self.workers[&worker].address.clone(),
            name: self.workers[&worker].name.clone(),
        };
        let is_led = gang.is_some_and(|gang| gang.is_led());
        let mut nodes: Vec<GangNode> = workers.into_iter().map(node).collect();
        if is_led {
            // who leads is on the first of a list that people sort
            nodes.sort_by(|a, b| hostlist::order(&a.name).cmp(&hostlist::order(&b.name)));
        }
        Placement {
            epoch: claim.job.epoch(),
            nodes,
            is_led,
            node_of,
            starting: claim.ranks.clone(),
            respawns: claim.job.respawns(),
        }
    }
}

impl GangClaim<'_> {
    pub(crate) fn priority(&self) -> i32 {
        self.job.spec.priority
    }

    /// Whether ranks of it may be placed there, if there is room.
    fn may_use(&self, id: WorkerId, worker: &Worker) -> bool {
        !self.avoided.contains(&id) && self.job.may_use(id, worker)
    }

    fn is_exclusive(&self) -> bool {
        self.job.spec.request.sharing != Sharing::Anybody
    }
}

impl Board<'_> {
    /// Jobs that were given slots of a worker, but one.
    fn others(&self, worker: WorkerId, but: JobId) -> impl Iterator<Item = (JobId, u32)> {
        let there = self.slots.range((worker, JobId(0))..=(worker, JobId(u64::MAX)));
        let there = there.map(|(&(_, id), &slots)| (id, slots));
        there.filter(move |&(id, _)| id != but)
    }

    /// Whether a gang may be beside those that were given slots of a worker.
    fn is_company(&self, claim: &GangClaim<'_>, worker: WorkerId) -> bool {
        let is_empty = self.others(worker, claim.id).next().is_none();
        match claim.is_exclusive() {
            true => is_empty,
            false => !self.owners.contains_key(&worker),
        }
    }

    /// Whether who ends at that time may have what is reserved.
    pub(crate) fn is_in_time(&self, ends: Option<Duration>) -> bool {
        let until = self.until.unwrap_or(Duration::ZERO);
        ends.is_some_and(|ends| ends <= until)
    }

    /// What of a worker may be given to who ends at that time.
    pub(crate) fn usable(&self, worker: WorkerId, ends: Option<Duration>) -> Option<Resources> {
        let free = self.free.get(&worker)?;
        let reserved = self.reserved.get(&worker).filter(|_| self.is_in_time(ends));
        Some(reserved.map_or_else(|| free.clone(), |reserved| sum(free, reserved)))
    }

    /// Gives a job, which ends at that time, slots that a worker can give it.
    pub(crate) fn take(
        &mut self,
        worker: WorkerId,
        (id, job): (JobId, &Job),
        slots: u32,
        ends: Option<Duration>,
    ) {
        if slots == 0 {
            return;
        }
        let in_time = self.is_in_time(ends);
        let Some(free) = self.free.get_mut(&worker) else {
            return;
        };
        let request = job.spec.request_on(&self.workers[&worker].capacity);
        match self.reserved.get_mut(&worker) {
            Some(reserved) if in_time => {
                let mut both = sum(free, reserved);
                both.take(request, slots);
                *free = least(free, &both);
                *reserved = minus(&both, free);
            }
            Some(_) => free.take(request, slots),
            None => {
                free.take(request, slots);
                if free.cpus == 0 {
                    self.free.remove(&worker);
                }
            }
        }
        *self.slots.entry((worker, id)).or_default() += slots;
        if request.sharing != Sharing::Anybody {
            self.owners.insert(worker, id);
        }
    }
}

impl Job {
    /// When it will have ended, if it goes on or starts now; `None` if nothing limits its time.
    pub(crate) fn ends(&self, now: Duration) -> Option<Duration> {
        let from_now = || Some(now + Duration::from_millis(self.spec.time_limit_millis?));
        self.time_limit.map(|limit| limit.ends).or_else(from_now)
    }
}

/// What each of two has at least.
fn least(a: &Resources, b: &Resources) -> Resources {
    let of = |b: &Resources, name: &String| b.named.get(name).copied().unwrap_or(Amount::ZERO);
    let named = a.named.iter();
    Resources {
        cpus: a.cpus.min(b.cpus),
        memory_bytes: a.memory_bytes.min(b.memory_bytes),
        named: named
            .map(|(name, &amount)| (name.clone(), amount.min(of(b, name))))
            .collect(),
    }
}

/// What `a` has beyond `b`, which has no more of anything.
fn minus(a: &Resources, b: &Resources) -> Resources {
    let of = |name: &String| b.named.get(name).copied().unwrap_or(Amount::ZERO);
    let named = a.named.iter();
    Resources {
        cpus: a.cpus.saturating_sub(b.cpus),
        memory_bytes: a.memory_bytes.saturating_sub(b.memory_bytes),
        named: named
            .map(|(name, amount)| (name.clone(), amount.saturating_sub(of(name))))
            .collect(),
    }
}

/// What two have together.
fn sum(a: &Resources, b: &Resources) -> Resources {
    let mut named = a.named.clone();
    for (name, &amount) in &b.named {
        let have = named.entry(name.clone()).or_default();
        *have = have.saturating_add(amount);
    }
    Resources {
        cpus: a.cpus.saturating_add(b.cpus),
        memory_bytes: a.memory_bytes.saturating_add(b.memory_bytes),
        named,
    }
}
