//! The model of a worker: what it has, and which jobs hold slots on it.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::view::WorkerView;
use phalanx_protocol::{JobId, Request, Resources, WorkerId};

/// A worker that is connected.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) instance: u128,
    pub(crate) capacity: Resources,
    /// Slots by job, as last planned; never 0.
    pub(crate) slots: BTreeMap<JobId, u32>,
    /// Jobs whose grants it brought with it, and which no plan has given slots or refused them since.
    pub(crate) unplanned: BTreeSet<JobId>,
    /// Jobs that the worker was told of and not told to close.
    pub(crate) opened: BTreeSet<JobId>,
    pub(crate) tasks_ended: u64,
    /// It gets nothing more, and leaves once what runs has ended.
    pub(crate) draining: bool,
}

impl Worker {
    /// What no job holds, given each job's request.
    pub(crate) fn free<'a>(&self, request: impl Fn(JobId) -> &'a Request) -> Resources {
        let mut free = self.capacity.clone();
        self.slots
            .iter()
            .for_each(|(&job, &slots)| free.take(request(job), slots));
        free
    }

    /// What people see, given what nobody uses and which jobs use the rest.
    pub(crate) fn view(&self, worker: WorkerId, free: Resources, jobs: BTreeSet<JobId>) -> WorkerView {
        WorkerView {
            worker,
            name: self.name.clone(),
            address: self.address.clone(),
            capacity: self.capacity.clone(),
            free,
            jobs: jobs.into_iter().collect(),
            tasks_ended: self.tasks_ended,
            draining: self.draining,
        }
    }
}
