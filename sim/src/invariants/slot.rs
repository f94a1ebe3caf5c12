//! SLOT: a worker never runs more than it has, nor two tasks in one slot; and the slots that the scheduler has it give
//! to jobs fit into it together. A job has no more of them than it allows, and none where
//! it may not run.

use std::collections::BTreeMap;

use phalanx_protocol::{GrantId, IndexRange, JobId, Sharing, Term, WorkerId};

use crate::scheduler::Leader;
use crate::weather::Node;
use crate::worker::Worker;

#[derive(Debug, Default)]
pub(crate) struct Slot {
    told: BTreeMap<(Term, WorkerId), BTreeMap<JobId, u32>>,
}

impl Slot {
    /// A worker begins a session, or ends one.
    pub(crate) fn admitted(&mut self, term: Term, worker: WorkerId) {
        self.told.remove(&(term, worker));
    }

    /// A leader sets a worker's slots for a job.
    pub(crate) fn told(&mut self, term: Term, worker: WorkerId, job: JobId, slots: u32) {
        self.told.entry((term, worker)).or_default().insert(job, slots);
    }

    /// A worker runs nothing of a job any more, or the job is over.
    pub(crate) fn ended(&mut self, term: Term, worker: Option<WorkerId>, job: JobId) {
        let there = |told: &(Term, WorkerId)| told.0 == term && worker.is_none_or(|worker| worker == told.1);
        for (_, jobs) in self.told.iter_mut().filter(|(told, _)| there(told)) {
            jobs.remove(&job);
        }
    }

    /// A leader has said what it had to say.
    pub(crate) fn check_told(&self, leader: &Leader, worker: WorkerId, node: &Node) {
        let capacity = &node.capacity;
        let Some(jobs) = self.told.get(&(leader.term, worker)) else {
            return;
        };
        let mut free = capacity.clone();
        let in_use = || jobs.iter().filter(|&(_, &slots)| slots > 0);
        for (job, &slots) in in_use() {
            assert!(
                leader.specs[job].choice.admits(&node.name),
                "SLOT: {worker} is to give slots to job {job}, which may not run there"
            );
            let alone = match leader.specs[job].request.sharing {
                Sharing::Anybody => true,
                Sharing::OwnJob => in_use().count() == 1,
                Sharing::Nobody => in_use().count() == 1 && slots == 1,
            };
            assert!(
                alone,
                "SLOT: {worker} is to give slots beside those of exclusive job {job}"
            );
        }
        for (job, &slots) in jobs {
            let request = leader.specs[job].request_on(capacity);
            assert!(
                free.slots(request) >= slots,
                "SLOT: {worker} is to give {slots} slots to job {job}"
            );
            free.take(request, slots);
            let max = leader.specs[job].slots_max.unwrap_or(u32::MAX);
            let all: u32 = self.of_job(leader.term, *job).sum();
            assert!(all <= max, "SLOT: job {job} has {all} slots, and allows {max}");
        }
    }

    /// The slots of a job, by worker.
    fn of_job(&self, term: Term, job: JobId) -> impl Iterator<Item = u32> + '_ {
        let told = self.told.iter().filter(move |((of, _), _)| *of == term);
        told.filter_map(move |(_, jobs)| jobs.get(&job).copied())
    }

    /// A worker has started what fits. It may run a task twice, if it was given up in between, but not of one grant.
    pub(crate) fn check_running(&self, worker: &Worker) {
        let mut free = worker.node.capacity.clone();
        let mut seen: BTreeMap<(JobId, GrantId), Vec<IndexRange>> = BTreeMap::new();
        for chunk in worker.running.values() {
            let mut others = worker
                .running
                .values()
                .filter(|other| !std::ptr::eq(*other, chunk));
            let alone = match chunk.request.sharing {
                Sharing::Anybody => true,
                Sharing::OwnJob => others.all(|other| other.job == chunk.job),
                Sharing::Nobody => others.next().is_none(),
            };
            assert!(alone, "SLOT: exclusive job {} has company", chunk.job);
            assert!(
                free.slots(&chunk.request) > 0,
                "SLOT: a worker runs more than it has"
            );
            free.take(&chunk.request, 1);
            let ranges = seen.entry((chunk.job, chunk.grant)).or_default();
            let apart = ranges
                .iter()
                .all(|&range| chunk.range.intersection(range).is_empty());
            assert!(
                apart,
                "SLOT: {} of job {} runs in two slots",
                chunk.range, chunk.job
            );
            ranges.push(chunk.range);
        }
    }
}
