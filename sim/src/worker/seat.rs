//! What a virtual worker has of one job: which of its grants are started, held and ended, and what it reports of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use phalanx_protocol::message::worker::{FromWorker, Report};
use phalanx_protocol::record::{ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, Request, TaskUsage};

/// What a worker knows of a job.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) plan: usize,
    pub(super) request: Request,
    /// Its tasks have no results.
    is_command: bool,
    pub(super) slots: u32,
    /// The epoch of a gang that is on several nodes, this one's position, and how many they are.
    pub(super) gang: Option<(u32, u32, u32)>,
    pub(super) grants: BTreeMap<GrantId, Grant>,
    pub(super) done: BTreeMap<GrantId, RangeSet>,
    pub(super) failed: BTreeMap<GrantId, Vec<TaskFailure>>,
    pub(super) busy_nanos: u64,
}

#[derive(Debug)]
pub(super) struct Grant {
    /// Neither started, nor given back, nor stopped.
    pub(super) unstarted: RangeSet,
    /// Neither reported nor given back.
    pub(super) held: RangeSet,
}

/// Tasks of a range of which is said what they used.
const MEASURED_MAX: u64 = 3;

/// What a task has used: something that tells tasks apart.
fn used(index: u64) -> TaskUsage {
    TaskUsage {
        index,
        ran_millis: index % 7,
        user_micros: 3 * index,
        system_micros: 5,
        rss_kib: 1000 + index % 11,
    }
}

/// Where the host of a gang's node listens in an epoch.
pub(crate) fn port_of(epoch: u32, node: u32) -> u16 {
    (epoch % 512 * 64 + node % 64) as u16
}

impl Seat {
    pub(super) fn new(plan: usize, request: Request, is_command: bool) -> Self {
        Self {
            plan,
            request,
            is_command,
            slots: 0,
            gang: None,
            grants: BTreeMap::new(),
            done: BTreeMap::new(),
            failed: BTreeMap::new(),
            busy_nanos: 0,
        }
    }

    /// What it says of its host of a gang. The port shows which host of which epoch it is.
    pub(super) fn gang_port(&self, job: JobId) -> Option<FromWorker> {
        let (epoch, node, nodes) = self.gang?;
        Some(FromWorker::GangPort {
            job,
            epoch,
            node,
            nodes,
            port: port_of(epoch, node),
        })
    }

    pub(super) fn give_back(&mut self, grant: GrantId, mut count: u64) -> Vec<IndexRange> {
        let mut tails = Vec::new();
        let unstarted = self.grants.get(&grant).map(|open| &open.unstarted);
        for range in unstarted.into_iter().flat_map(|unstarted| unstarted.iter().rev()) {
            let tail = IndexRange::new(range.end - range.len().min(count), range.end);
            count -= tail.len();
            tails.extend((!tail.is_empty()).then_some(tail));
        }
        self.drop_unstarted(grant, &tails);
        tails
    }

    /// Starts none of these any more; returns those that were not started.
    pub(super) fn stop(&mut self, grant: GrantId, range: IndexRange) -> Vec<IndexRange> {
        let open = self.grants.get(&grant);
        let stopped = open.map_or_else(Vec::new, |open| open.unstarted.pieces(range));
        self.drop_unstarted(grant, &stopped);
        stopped
    }

    fn drop_unstarted(&mut self, grant: GrantId, ranges: &[IndexRange]) {
        if let Some(open) = self.grants.get_mut(&grant) {
            for &range in ranges {
                open.unstarted.remove(range);
                open.held.remove(range);
            }
        }
        self.grants.retain(|_, open| !open.held.is_empty());
    }

    pub(super) fn report(&mut self, number: u64, job: JobId) -> Report {
        let done = std::mem::take(&mut self.done);
        let failed = std::mem::take(&mut self.failed);
        for (grant, ranges) in &done {
            if let Some(open) = self.grants.get_mut(grant) {
                ranges.iter().for_each(|range| open.held.remove(range));
            }
        }
        for (grant, failures) in &failed {
            if let Some(open) = self.grants.get_mut(grant) {
                let index = |failure: &TaskFailure| IndexRange::new(failure.index, failure.index + 1);
                failures
                    .iter()
                    .map(index)
                    .for_each(|range| open.held.remove(range));
            }
        }
        self.grants.retain(|_, open| !open.held.is_empty());
        let ended = done.values().flat_map(RangeSet::iter);
        // of a range of any length a few are enough
        let few = |range: IndexRange| range.start..range.end.min(range.start.saturating_add(MEASURED_MAX));
        let ended = ended.flat_map(few);
        let broken = failed.values().flatten().map(|failure| failure.index);
        let usage = ended.chain(broken).map(used).collect();
        // neighbours are merged across grants, as the real one does in reducing jobs
        let runs: RangeSet = match self.is_command {
            true => RangeSet::new(),
            false => done.values().flat_map(|ranges| ranges.iter()).collect(),
        };
        let block = |range| ResultBlock {
            range,
            keep: Vec::new(),
            data: ResultData::Inline(Bytes::new()),
        };
        Report {
            number,
            job,
            done: done
                .into_iter()
                .map(|(grant, ranges)| (grant, ranges.into()))
                .collect(),
            failed: failed.into_iter().collect(),
            results: runs.iter().map(block).collect(),
            busy_nanos: std::mem::take(&mut self.busy_nanos),
            usage,
            backlog: self.grants.values().map(|open| open.unstarted.len()).sum(),
        }
    }
}
