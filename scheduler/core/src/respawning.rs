//! Gangs whose lost ranks alone start again, while the others run on.
//!
//! That ranks are lost is on record as a requeue of these: their runs are void, and the gang's next epoch begins with them. They are
//! placed like a gang of their own, and granted once they have slots and that record is durable; all workers of the gang are then
//! told where all of its ranks are, and its hosts meet anew. Where the others are is known by what they hold, so a leader that takes
//! over knows it as soon as their workers are back. What is lost meanwhile is on record, and placed with the rest.
//!
//! All start again, as of any gang, if nobody is left, and if a rank has ended: it cannot meet whoever replaces others.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::gang::{Gang, OnLoss, Shape};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{FailureCause, Record};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::input::Effect;
use crate::job::Job;
use crate::losses::Loss;
use crate::planted::PlantedBug;
use crate::rendezvous::Meeting;
use crate::trouble::one;

impl Core {
    /// Lets the ranks of a gang that were lost wait for places of their own, if the others are to run on; whether they are.
    pub(crate) fn respawn_lost(&mut self, id: JobId, loss: &Loss, effects: &mut Vec<Effect>) -> bool {
        let last = GrantId {
            term: self.term,
            number: self.grants_made,
        };
        let can = loss.leaves_others();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| can && job.can_respawn()) else {
            return false;
        };
        let lost = job.newly_lost();
        job.gang.placement = None;
        job.gang.meeting = Meeting::default();
        job.gang.missing.extend(lost.iter());
        let tasks: Vec<IndexRange> = lost.into();
        if !self.planted.is(PlantedBug::ForgetsRespawn) {
            job.requeues.requeued(true, &tasks, last);
            let record = Record::TasksRequeued { job: id, tasks, last };
            self.durability.append(record, effects);
        }
        let epoch = job.epoch();
        let others: BTreeSet<WorkerId> = job.holders().into_values().collect();
        for worker in others {
            let message = ToWorker::GangWaits { job: id, epoch };
            effects.push(Effect::Send { worker, message });
        }
        self.plan_due = true;
        true
    }

    /// Asserts the part of GANG that is about ranks which are to be replaced.
    pub(crate) fn check_missing(&self, id: JobId, job: &Job) {
        let missing = &job.gang.missing;
        let all_wait = missing.iter().all(|range| job.waiting.contains_range(range));
        assert!(
            all_wait,
            "GANG: {missing} of job {id} are to be replaced, and run"
        );
        assert!(
            missing.is_empty() || job.ended.is_empty(),
            "GANG: ranks of job {id} are to be replaced, and others have ended"
        );
    }
}

impl Loss {
    /// Whether it is one that the other ranks may outlive, if their gang is such.
    fn leaves_others(&self) -> bool {
        match self {
            Self::Host { cause, .. } => *cause != FailureCause::TimeLimit,
            Self::Worker(_) | Self::Leader | Self::Unstarted => true,
            Self::Rank(_) | Self::Unmet { .. } | Self::Returned { .. } => false,
        }
    }
}

impl Job {
    /// Whether it is a gang that goes on with replacements for the ranks that it loses.
    pub(crate) fn respawns(&self) -> bool {
        let gang = self.spec.gang.as_ref();
        gang.is_some_and(|gang| gang.on_loss == OnLoss::Respawn)
    }

    /// Ranks that wait, and not for a replacement.
    pub(crate) fn newly_lost(&self) -> RangeSet {
        let mut lost = self.waiting.clone();
        self.gang.missing.iter().for_each(|range| lost.remove(range));
        lost
    }

    fn can_respawn(&self) -> bool {
        let others = self.waiting.len() < self.spec.tasks && !self.grants.is_empty();
        self.respawns() && self.gang.granted && others && self.ended.is_empty()
    }

    /// Whether nothing is known of places for ranks that were lost.
    pub(crate) fn lacks_replacements(&self) -> bool {
        !self.gang.missing.is_empty() && !self.has_placement()
    }

    /// Whether ranks are replaced that others have not met yet.
    pub(crate) fn meets_replacements(&self) -> bool {
        let placement = self.gang.placement.as_ref();
        let replaces = placement.is_some_and(|placement| placement.starting.len() < self.spec.tasks);
        let is_met =
            || placement.is_some_and(|placement| placement.nodes.len() < 2) || self.gang.meeting.is_met();
        !self.gang.missing.is_empty() || (replaces && !is_met())
    }

    /// Whether all that it lost waits, and every other rank runs and counts.
    pub(crate) fn can_replace_missing(&self) -> bool {
        let missing = &self.gang.missing;
        let ranks = self.holders().len() as u64 + missing.len();
        !missing.is_empty() && self.waiting == *missing && ranks == self.spec.tasks
    }

    /// The worker of each rank that runs and counts.
    fn holders(&self) -> BTreeMap<u64, WorkerId> {
        let grants = self.grants.iter();
        let ranks = grants.flat_map(|(&grant, open)| {
            let ranks = open.rest.iter().flat_map(|range| range.start..range.end);
            ranks.map(move |rank| (grant, rank, open.worker))
        });
        let count = ranks.filter(|&(grant, rank, _)| self.requeues.void(grant, one(rank)).is_empty());
        count.map(|(_, rank, worker)| (rank, worker)).collect()
    }

    /// What is lost of each node of the gang, if it has a shape: together again. `gang` is its own.
    fn lost_by_node(&self, gang: &Gang) -> Option<Vec<Vec<u64>>> {
        let Shape::Nodes(counts) = gang.shape(self.spec.tasks) else {
            return None;
        };
        let mut lost: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (rank, node) in (0..).zip(gang.assign(&counts)) {
            if self.gang.missing.contains(rank) {
                lost.entry(node).or_default().push(rank);
            }
        }
        Some(lost.into_values().collect())
    }

    /// How many of the lost ranks are to be on a node. `gang` is its own.
    pub(crate) fn shape_of_missing(&self, gang: &Gang) -> Shape {
        let count = |ranks: Vec<u64>| u32::try_from(ranks.len()).unwrap_or(u32::MAX);
        match self.lost_by_node(gang) {
            Some(lost) => Shape::Nodes(lost.into_iter().map(count).collect()),
            None => Shape::Any,
        }
    }

    /// Workers that are to get no more of its ranks, since its shape is kept. `gang` is its own.
    pub(crate) fn avoided(&self, gang: &Gang) -> BTreeSet<WorkerId> {
        match gang.shape(self.spec.tasks) {
            Shape::Any => BTreeSet::new(),
            Shape::Nodes(_) => self.holders().into_values().collect(),
        }
    }

    /// All workers of the gang and the position of each rank's among them, if those that are lost go to these.
    pub(crate) fn with_replacements(&self, nodes: &[(WorkerId, u32)]) -> (Vec<WorkerId>, Vec<u32>) {
        let mut holders = self.holders();
        let lost = (self.spec.gang.as_ref()).and_then(|gang| self.lost_by_node(gang));
        let lost = lost.map_or_else(
            || {
                let ranges = self.gang.missing.iter();
                ranges.flat_map(|range| range.start..range.end).collect()
            },
            |lost| lost.concat(),
        );
        let places = nodes
            .iter()
            .flat_map(|&(worker, ranks)| std::iter::repeat_n(worker, ranks as usize));
        holders.extend(lost.into_iter().zip(places));
        let mut workers: Vec<WorkerId> = Vec::new();
        let mut node_of = Vec::new();
        for worker in holders.into_values() {
            let known = workers.iter().position(|&other| other == worker);
            let node = known.unwrap_or_else(|| {
                workers.push(worker);
                workers.len() - 1
            });
            node_of.push(u32::try_from(node).unwrap_or(u32::MAX));
        }
        (workers, node_of)
    }
}
