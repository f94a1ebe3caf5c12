//! Answers to people: jobs, workers, and why a job is where it is.

use std::collections::BTreeSet;

use phalanx_protocol::gang::Shape;
use phalanx_protocol::view::{Explanation, Idle, JobView, Offer, Verdict, WorkerView};
use phalanx_protocol::{JobId, Request, Resources, Sharing, WorkerId};

use crate::core::Core;
use crate::gate::Standing;
use crate::job::{Job, Phase};

/// Workers and jobs that an explanation names.
const NAMED_MAX: usize = 20;
/// Jobs that a list names.
const LISTED_MAX: usize = 10_000;

impl Core {
    /// One job, as far as it is durable.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.jobs
            .get(&id)
            .filter(|job| job.seen.accepted)
            .map(|job| job.view(id))
    }

    /// The newest jobs that are durable, oldest first, without their failures: a list has to fit one frame.
    pub fn jobs(&self) -> Vec<JobView> {
        let bare = |job: JobView| JobView {
            first_failures: Vec::new(),
            ..job
        };
        let views = self.jobs.keys().rev().filter_map(|&id| self.job(id).map(bare));
        let mut newest: Vec<JobView> = views.take(LISTED_MAX).collect();
        newest.reverse();
        newest
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.workers
            .iter()
            .map(|(&id, worker)| worker.view(id, self.free(id), self.users(id)))
            .collect()
    }

    /// Why a job is where it is.
    pub fn explain(&self, id: JobId) -> Option<Explanation> {
        let job = self.jobs.get(&id)?;
        let mut offers: Vec<Offer> = self
            .workers
            .keys()
            .map(|&worker| self.offer(job, worker))
            .collect();
        offers.sort_by_key(|offer| {
            std::cmp::Reverse((offer.slots_held, offer.slots_free, offer.slots_capacity))
        });
        let verdict = self.verdict(id, job, &offers);
        let runs = matches!(verdict, Verdict::Running | Verdict::SlotsMax { .. });
        let idle = match runs && !job.is_gang() {
            true => self.idle(id, job, &offers),
            false => Vec::new(),
        };
        offers.truncate(NAMED_MAX);
        Some(Explanation {
            job: job.view(id),
            verdict,
            idle,
            offers,
        })
    }

    /// What tasks wait for while others of their job run.
    fn idle(&self, id: JobId, job: &Job, offers: &[Offer]) -> Vec<Idle> {
        let jobs = job.gate.waits_for.clone();
        let in_vain = job.gate.lost.min(job.gate.blocked.len());
        let waiting = job.waiting.len() + job.trouble.suspects.len();
        let why = match (job.kept_back(), job.spec.slots_max) {
            (Some(verdict), _) => verdict,
            (None, Some(slots_max)) if job.slots >= job.slots_allowed() => Verdict::SlotsMax { slots_max },
            (None, _) => self.without_slots(id, job, offers),
        };
        let all = [
            (waiting, why),
            (
                job.gate.blocked.len() - in_vain,
                Verdict::Dependency { jobs: jobs.clone() },
            ),
            (in_vain, Verdict::DependencyNeverSatisfied { jobs }),
            (job.trouble.resting(), Verdict::Resting),
        ];
        let some = all.into_iter().filter(|&(tasks, _)| tasks > 0);
        some.map(|(tasks, why)| Idle { tasks, why }).collect()
    }

    fn verdict(&self, id: JobId, job: &Job, offers: &[Offer]) -> Verdict {
        match job.phase {
            Phase::Finished => return Verdict::Finished,
            Phase::Active if job.seen.accepted => {}
            Phase::Active | Phase::Ending => {
                return Verdict::Storage {
                    error: self.storage_error.clone(),
                };
            }
        }
        if self.is_reattaching(job) {
            return Verdict::Reattaching;
        }
        if let Some(verdict) = job.kept_back().filter(|_| job.grants.is_empty()) {
            return verdict;
        }
        if job.trouble.resting() > 0 && job.grants.is_empty() && !job.has_waiting() {
            return Verdict::Resting;
        }
        let may_not_have_more = job.slots >= job.slots_allowed() && job.has_waiting();
        if let Some(slots_max) = job.spec.slots_max.filter(|_| may_not_have_more) {
            return Verdict::SlotsMax { slots_max };
        }
        if job.slots + job.overhang > 0 && !job.lacks_replacements() {
            return Verdict::Running;
        }
        self.without_slots(id, job, offers)
    }

    /// Why it has no slots for what waits.
    fn without_slots(&self, id: JobId, job: &Job, offers: &[Offer]) -> Verdict {
        if self.workers.is_empty() {
            return Verdict::NoWorkers;
        }
        let fits_nowhere = offers.iter().all(|offer| offer.slots_capacity == 0);
        if let Some(missing) = self.elsewhere(&job.spec.choice, fits_nowhere) {
            return Verdict::Elsewhere { missing };
        }
        if fits_nowhere {
            return Verdict::TooLarge {
                largest: self.largest_worker(&job.spec.choice).cloned(),
            };
        }
        let usable = offers.iter().filter(|offer| offer.slots_capacity > 0);
        if usable.clone().all(|offer| self.workers[&offer.worker].draining) {
            return Verdict::Draining;
        }
        let usable: Vec<WorkerId> = usable.map(|offer| offer.worker).collect();
        if job.is_gang() {
            return self.gang_waiting(id, job, offers, &usable);
        }
        self.behind(id, job, &usable)
    }

    /// What a gang needs and what there is of it.
    fn gang_waiting(&self, id: JobId, job: &Job, offers: &[Offer], usable: &[WorkerId]) -> Verdict {
        let missing = &job.gang.missing;
        let gang = job.spec.gang.as_ref();
        let shape = gang.map(|gang| match missing.is_empty() {
            true => gang.shape(job.spec.tasks),
            false => job.shape_of_missing(gang),
        });
        let slots = match missing.is_empty() {
            true => job.spec.tasks,
            false => missing.len(),
        };
        let nodes = match shape {
            Some(Shape::Nodes(counts)) => u32::try_from(counts.len()).ok(),
            Some(Shape::Any) | None => None,
        };
        let sum = |of: &dyn Fn(&Offer) -> u32| offers.iter().map(|offer| u64::from(of(offer))).sum();
        let holders = usable.iter().flat_map(|&worker| self.users(worker));
        let holders: BTreeSet<JobId> = holders.filter(|&holder| holder != id).collect();
        Verdict::Gang {
            slots,
            nodes,
            slots_free: sum(&|offer| offer.slots_free),
            slots_capacity: sum(&|offer| offer.slots_capacity),
            jobs: holders.into_iter().take(NAMED_MAX).collect(),
        }
    }

    /// Who keeps a job from its slots on the workers that could run it.
    fn behind(&self, id: JobId, job: &Job, usable: &[WorkerId]) -> Verdict {
        let request = &job.spec.request;
        let others = |&worker: &WorkerId| {
            let holders = self.users(worker).into_iter();
            holders.filter(|&holder| holder != id)
        };
        let holders = |is_meant: &dyn Fn(&Request) -> bool| -> Vec<JobId> {
            let all = usable.iter().flat_map(others);
            let meant = all.filter(|holder| is_meant(&self.jobs[holder].spec.request));
            let meant: BTreeSet<JobId> = meant.collect();
            meant.into_iter().take(NAMED_MAX).collect()
        };
        let is_exclusive = |request: &Request| request.sharing != Sharing::Anybody;
        if is_exclusive(request) && usable.iter().all(|worker| others(worker).next().is_some()) {
            let jobs = holders(&|_| true);
            return Verdict::NotAlone { jobs };
        }
        let frees = usable
            .iter()
            .map(|&worker| (self.free(worker), self.request_on(id, worker)));
        let frees: Vec<(Resources, &Request)> = frees.collect();
        if frees.iter().any(|(free, request)| free.slots(request) > 0) {
            let jobs = holders(&is_exclusive);
            return match jobs.is_empty() {
                true => Verdict::Behind { jobs },
                false => Verdict::KeptOff { jobs },
            };
        }
        let lacking = frees.iter().map(|(free, request)| free.lacking(request));
        let everywhere = lacking.reduce(|all, more| &all & &more).unwrap_or_default();
        // of what is said twice, the type
        if let Some(resource) = everywhere.into_iter().next_back() {
            let jobs = holders(&|holder| holder.asks_for(&resource));
            return match jobs.is_empty() {
                true => Verdict::Behind { jobs },
                false => Verdict::Scarce { resource, jobs },
            };
        }
        let jobs = holders(&|_| true);
        Verdict::Behind { jobs }
    }

    fn offer(&self, job: &Job, id: WorkerId) -> Offer {
        let worker = &self.workers[&id];
        let request = job.spec.request_on(&worker.capacity);
        let may_use = job.may_use(id, worker);
        let slots = |resources: &Resources| if may_use { resources.slots(request) } else { 0 };
        Offer {
            worker: id,
            name: worker.name.clone(),
            slots_capacity: slots(&worker.capacity),
            slots_free: match worker.draining || self.is_kept_off(job, id) {
                true => 0,
                false => slots(&self.free(id)),
            },
            slots_held: job
                .holdings
                .get(&id)
                .map_or(0, |holding| u32::try_from(holding.in_use()).unwrap_or(u32::MAX)),
            capacity: worker.capacity.clone(),
        }
    }

    /// Whether another job's company keeps a job from a worker.
    fn is_kept_off(&self, job: &Job, worker: WorkerId) -> bool {
        let exclusive = |job: &Job| job.spec.request.sharing != Sharing::Anybody;
        let others = self.users(worker).into_iter().map(|id| &self.jobs[&id]);
        let mut others = others.filter(|other| !std::ptr::eq(*other, job));
        others.any(|other| exclusive(other) || exclusive(job))
    }

    /// What of a worker is neither given to a job nor taken by what still runs without a slot.
    fn free(&self, worker: WorkerId) -> Resources {
        let mut free = self.workers[&worker].free(|job| self.request_on(job, worker));
        for (job, tasks) in self.overhanging(worker) {
            let request = self.request_on(job, worker);
            let fitting = u64::from(free.slots(request)).min(tasks);
            free.take(request, u32::try_from(fitting).unwrap_or(u32::MAX));
        }
        free
    }

    /// Jobs that have slots of a worker or tasks that still run there without one.
    fn users(&self, worker: WorkerId) -> BTreeSet<JobId> {
        let holders = self.workers[&worker].slots.keys().copied();
        holders
            .chain(self.overhanging(worker).map(|(job, _)| job))
            .collect()
    }

    /// How many tasks still run on a worker without a slot, by job: their slots are kept for others.
    fn overhanging(&self, worker: WorkerId) -> impl Iterator<Item = (JobId, u64)> {
        let opened = self.workers[&worker].opened.iter();
        let overhangs = opened.filter_map(move |id| {
            let holding = self.jobs.get(id)?.holdings.get(&worker)?;
            Some((*id, holding.overhang))
        });
        overhangs.filter(|&(_, tasks)| tasks > 0)
    }
}

impl Job {
    /// Why nothing of it is granted, if that is for reasons of its own.
    fn kept_back(&self) -> Option<Verdict> {
        if self.gate.held {
            return Some(Verdict::Held);
        }
        if let Some(begin_unix_millis) = self.spec.begin_unix_millis.filter(|_| self.gate.begins.is_some()) {
            return Some(Verdict::NotYet { begin_unix_millis });
        }
        let all_wait = self.gate.blocked.is_empty() || self.has_waiting();
        if self.gate.standing == Standing::Met && all_wait {
            return None;
        }
        let jobs = self.gate.waits_for.clone();
        Some(match self.gate.is_in_vain() {
            true => Verdict::DependencyNeverSatisfied { jobs },
            false => Verdict::Dependency { jobs },
        })
    }
}
