//! Workers that a job shares with no other. Such a job gets slots only where nobody else has any, and keeps others off.
//!
//! So that it is not kept waiting by whatever smaller jobs come after it, the share of an older one comes first: of the
//! workers that no older job uses it takes as many as it needs, and who came later gives up the slots there.

use std::collections::BTreeSet;

use phalanx_protocol::{JobId, Sharing, WorkerId};

use crate::plan::{Board, Claim};

impl Claim<'_> {
    fn is_exclusive(&self) -> bool {
        self.job.spec.request.sharing != Sharing::Anybody
    }

    /// The workers that its job holds slots of, or has tasks on that no plan knew.
    fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        let in_use = self.job.holdings.iter().filter(|(_, holding)| holding.slots > 0);
        in_use.map(|(&worker, _)| worker)
    }
}

impl Board<'_> {
    /// Reserves workers for the shares of claims that share them with nobody; claims are in order of age.
    pub(crate) fn reserve(&mut self, claims: &[Claim<'_>]) {
        if !claims.iter().any(Claim::is_exclusive) {
            return;
        }
        let mut used = BTreeSet::new();
        for claim in claims.iter().filter(|claim| claim.share > 0) {
            if claim.is_exclusive() {
                self.reserve_for(claim, &used);
            } else {
                used.extend(claim.workers());
            }
        }
    }

    /// Reserves what a claim has already, then workers that none of the `used` ones are.
    fn reserve_for(&mut self, claim: &Claim<'_>, used: &BTreeSet<WorkerId>) {
        let own: BTreeSet<WorkerId> = claim.workers().collect();
        let others = self
            .free
            .keys()
            .filter(|worker| !claim.keeps_only && !own.contains(worker) && !used.contains(worker));
        let wanted: Vec<WorkerId> = own.iter().chain(others).copied().collect();
        let mut slots = claim.given;
        for worker in wanted {
            if slots >= claim.share {
                return;
            }
            let excluded = claim.job.excluded.contains_key(&worker);
            let fitting = self
                .free
                .get(&worker)
                .map_or(0, |free| free.slots(&claim.job.spec.request));
            if fitting > 0 && !excluded && self.admits(claim, worker) {
                self.owners.insert(worker, claim.id);
                slots += u64::from(fitting);
            }
        }
    }

    /// Whether a claim may have slots of a worker, given who else has some.
    pub(crate) fn admits(&self, claim: &Claim<'_>, worker: WorkerId) -> bool {
        let is_own = |owner: &JobId| *owner == claim.id;
        match self.owners.get(&worker) {
            Some(owner) => is_own(owner),
            None if claim.is_exclusive() => {
                let mut there = self.slots.range((worker, JobId(0))..=(worker, JobId(u64::MAX)));
                there.all(|((_, job), _)| is_own(job))
            }
            None => true,
        }
    }

    /// How many more slots of a worker a claim may have, for reasons of company.
    pub(crate) fn allowed(&self, claim: &Claim<'_>, worker: WorkerId) -> u64 {
        if !self.admits(claim, worker) {
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

    /// Notes that a claim was given slots of a worker.
    pub(crate) fn note_owner(&mut self, claim: &Claim<'_>, worker: WorkerId) {
        if claim.is_exclusive() {
            self.owners.insert(worker, claim.id);
        }
    }
}
