//! Workers that a job is to run on, or not, by their names; see [`WorkerChoice`]. What its tasks need there is no matter
//! here.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::view::WAITS_FOR_MAX;
use phalanx_protocol::{Resources, WorkerChoice, WorkerId};

use crate::core::Core;
use crate::fitting::Room;
use crate::job::Job;
use crate::plan::{Board, Claim};
use crate::reserving::GangClaim;
use crate::worker::Worker;

/// A turn through the workers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    All,
    Unsought,
    Sought,
}

impl Turn {
    /// Whether a worker is looked at in this turn.
    pub(crate) fn is_for(self, sought: &BTreeSet<WorkerId>, worker: WorkerId) -> bool {
        match self {
            Self::All => true,
            Self::Unsought => !sought.contains(&worker),
            Self::Sought => sought.contains(&worker),
        }
    }
}

impl Job {
    /// Whether it may run on a worker, which has not said that it cannot run it.
    pub(crate) fn may_use(&self, id: WorkerId, worker: &Worker) -> bool {
        self.spec.choice.admits(&worker.name) && !self.excluded.contains_key(&id)
    }
}

impl Core {
    /// Workers that some job needs because it may run on few others: who has the choice leaves them to it.
    pub(crate) fn sought(&self, claims: &[Claim<'_>], gangs: &[GangClaim<'_>]) -> BTreeSet<WorkerId> {
        let choices = claims.iter().map(|claim| &claim.job.spec.choice);
        let choices = choices.chain(gangs.iter().map(|gang| &gang.job.spec.choice));
        let wanted: BTreeSet<&str> = choices
            .flat_map(|choice| choice.wanted().map(String::as_str))
            .collect();
        if wanted.is_empty() {
            return BTreeSet::new();
        }
        let workers = self.workers.iter();
        let sought = workers.filter(|(_, worker)| wanted.contains(worker.name.as_str()));
        sought.map(|(&id, _)| id).collect()
    }

    /// The worker with the most cpus, then memory, of those that will do.
    pub(crate) fn largest_worker(&self, choice: &WorkerChoice) -> Option<&Resources> {
        let admitted = self.workers.values().filter(|worker| choice.admits(&worker.name));
        let capacities = admitted.map(|worker| &worker.capacity);
        capacities.max_by_key(|capacity| (capacity.cpus, capacity.memory_bytes))
    }

    /// Workers that are asked for by name and have not joined, the first ones.
    pub(crate) fn missing(&self, choice: &WorkerChoice) -> Vec<String> {
        if choice.wanted().next().is_none() {
            return Vec::new();
        }
        let names = self.workers.values().map(|worker| worker.name.as_str());
        let here: BTreeSet<&str> = names.collect();
        let missing = choice.wanted().filter(|name| !here.contains(name.as_str()));
        missing.take(WAITS_FOR_MAX).cloned().collect()
    }

    /// What a job waits for that waits for workers to join, whatever those that have joined are busy with; `fits_nowhere`
    /// says that none of these could ever hold a task of it.
    pub(crate) fn elsewhere(&self, choice: &WorkerChoice, fits_nowhere: bool) -> Option<Vec<String>> {
        let missing = self.missing(choice);
        let lacks_one = missing.iter().any(|name| choice.all_of.contains(name));
        let nobody = || self.largest_worker(choice).is_none();
        let waits = lacks_one || fits_nowhere && (!missing.is_empty() || nobody());
        waits.then_some(missing)
    }

    /// Marks the rooms that a gang is to use by all means; `false` if one of its workers has none. Ranks that start again
    /// beside others go where there is room.
    pub(crate) fn demand(&self, claim: &GangClaim<'_>, rooms: &mut [Room]) -> bool {
        let choice = &claim.job.spec.choice;
        if choice.all_of.is_empty() || claim.job.gang.granted {
            return true;
        }
        // of several workers of one name the largest room
        let mut best: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, room) in rooms.iter().enumerate().filter(|(_, room)| room.slots > 0) {
            let name = self.workers[&room.worker].name.as_str();
            if choice.all_of.contains(name) {
                let known = best.entry(name).or_insert(position);
                if room.slots > rooms[*known].slots {
                    *known = position;
                }
            }
        }
        let all = best.len() == choice.all_of.len();
        best.into_values()
            .for_each(|position| rooms[position].is_demanded = true);
        all
    }
}

impl Board<'_> {
    /// In which order a claim goes through the workers: who has the choice leaves those for last that others need.
    pub(crate) fn turns(&self, claim: &Claim<'_>) -> &'static [Turn] {
        match self.sought.is_empty() || !claim.job.spec.choice.only.is_empty() {
            true => &[Turn::All],
            false => &[Turn::Unsought, Turn::Sought],
        }
    }
}
