//! Workers that a job shares with no other. Such a job gets slots only where nobody else has any, and keeps others off.
//!
//! It waits until a worker is empty, also of jobs that came later: to take their slots away would end in a deadlock where
//! such a job waits for another that then cannot start. A higher priority takes a worker all the same.

use std::collections::BTreeMap;

use phalanx_protocol::{JobId, Sharing, WorkerId};

use crate::core::Core;
use crate::plan::{Board, Claim};

impl Claim<'_> {
    fn is_exclusive(&self) -> bool {
        self.job.spec.request.sharing != Sharing::Anybody
    }
}

impl Core {
    /// Jobs that have tasks on a worker, with their priorities; none if no claim is exclusive.
    pub(crate) fn busy(&self, claims: &[Claim<'_>]) -> BTreeMap<WorkerId, Vec<(JobId, i32)>> {
        let mut busy: BTreeMap<WorkerId, Vec<(JobId, i32)>> = BTreeMap::new();
        if claims.iter().any(Claim::is_exclusive) {
            for (id, job) in self.live.iter().map(|&id| (id, &self.jobs[&id])) {
                let holdings = job.holdings.iter().filter(|(_, holding)| holding.open > 0);
                for (&worker, _) in holdings {
                    busy.entry(worker).or_default().push((id, job.spec.priority));
                }
            }
        }
        busy
    }

    /// Whether a job has neither slots nor tasks on a worker any more, which somebody may wait for.
    pub(crate) fn has_left(&self, id: JobId, worker: WorkerId) -> bool {
        let holding = self.jobs.get(&id).and_then(|job| job.holdings.get(&worker));
        self.unmet && holding.is_none_or(|holding| holding.slots == 0 && holding.open == 0)
    }
}

impl Board<'_> {
    /// Whether a claim may have slots of a worker, given who else has some.
    fn admits(&self, claim: &Claim<'_>, worker: WorkerId) -> bool {
        let is_own = |owner: &JobId| *owner == claim.id;
        match self.owners.get(&worker) {
            Some(owner) => is_own(owner),
            None if claim.is_exclusive() => {
                let mut there = self.slots.range((worker, JobId(0))..=(worker, JobId(u64::MAX)));
                let mut busy = self.busy.get(&worker).into_iter().flatten();
                let yields =
                    |(job, priority): &(JobId, i32)| is_own(job) || *priority < claim.job.spec.priority;
                there.all(|((_, job), _)| is_own(job)) && busy.all(yields)
            }
            None => true,
        }
    }

    /// How many more slots of a worker a claim may have, for reasons of company.
    pub(crate) fn allowed(&self, claim: &Claim<'_>, worker: WorkerId) -> u64 {
        let is_reserved = self.reserved.contains_key(&worker) && !self.is_in_time(claim.ends);
        if !self.admits(claim, worker) || (claim.is_exclusive() && is_reserved) {
            return 0;
        }
        match claim.job.spec.request.sharing {
            Sharing::Anybody | Sharing::OwnJob => u64::MAX,
            Sharing::Nobody => match self.slots.contains_key(&(worker, claim.id)) {
                true => 0,
                false => 1,
            },
        }
    }
}
