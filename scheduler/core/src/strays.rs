//! *Strays*: tasks that a worker which came back may still run, though others were granted them while it was away.
//!
//! Whoever ends such a task first has ended it. Up to then nobody who runs it is stopped, since nobody knows who is further
//! on; what is not begun on the worker that came back is taken back from it. Once the end is durable the runs that are left
//! are in vain, and are stopped.

use phalanx_protocol::message::worker::Report;
use phalanx_protocol::{GrantId, IndexRange, RangeSet, WorkerId};

use crate::cancelling::Run;
use crate::job::Job;
use crate::report::within;
use crate::trouble::one;

/// What a worker may run of a grant that does not hold it any more.
#[derive(Debug)]
pub(crate) struct Stray {
    worker: WorkerId,
    /// Never empty; may have ended elsewhere since the last report.
    tasks: RangeSet,
}

impl Job {
    /// What of a grant of an earlier session its worker may go on with: what waits, up to where others hold what the worker,
    /// with that many `slots`, cannot have begun. All that is behind has to be given back.
    pub(crate) fn still_free(&self, held: &RangeSet, slots: u64) -> RangeSet {
        let end = match self.is_gang() {
            true => u64::MAX,
            false => self.first_taken(held, slots).unwrap_or(u64::MAX),
        };
        let front = held.pieces(IndexRange::new(0, end)).into_iter();
        front.flat_map(|range| self.waiting.pieces(range)).collect()
    }

    /// The first task behind the `slots` first of `held` that neither waits nor has ended.
    fn first_taken(&self, held: &RangeSet, slots: u64) -> Option<u64> {
        let mut behind = held.clone();
        let mut running = slots;
        while running > 0
            && let Some(range) = behind.take_first(running)
        {
            running -= range.len();
        }
        let gaps = behind.iter().flat_map(|range| self.waiting.gaps(range));
        let mut taken = gaps.flat_map(|range| self.ended.gaps(range));
        taken.next().map(|range| range.start)
    }

    /// Notes what a worker that came back may run besides what its grant holds; returns what of that is in vain already.
    pub(crate) fn strays_come(
        &mut self,
        worker: WorkerId,
        grant: GrantId,
        mut held: RangeSet,
        rest: &RangeSet,
    ) -> Vec<Run> {
        rest.iter().for_each(|range| held.remove(range));
        if !held.is_empty() {
            self.strays.insert(grant, Stray { worker, tasks: held });
        }
        self.strays_in_vain()
    }

    /// Forgets what does not run any more, by what its worker says of it.
    pub(crate) fn strays_end(&mut self, worker: WorkerId, grant: GrantId, range: IndexRange) {
        if let Some(stray) = self.strays.get_mut(&grant)
            && stray.worker == worker
        {
            stray.tasks.remove(range);
            if stray.tasks.is_empty() {
                self.strays.remove(&grant);
            }
        }
    }

    /// The same, of a report.
    pub(crate) fn strays_reported(&mut self, worker: WorkerId, report: &Report) {
        if self.strays.is_empty() {
            return;
        }
        for (grant, range) in within(self.spec.tasks, &report.done) {
            self.strays_end(worker, grant, range);
        }
        for (grant, failures) in &report.failed {
            let failures = failures.iter().filter(|one| one.index < self.spec.tasks);
            let indices: Vec<u64> = failures.map(|failure| failure.index).collect();
            indices
                .into_iter()
                .for_each(|index| self.strays_end(worker, *grant, one(index)));
        }
    }

    /// Forgets what ran on a worker.
    pub(crate) fn strays_leave(&mut self, worker: WorkerId) {
        self.strays.retain(|_, stray| stray.worker != worker);
    }

    /// Takes out what has ended meanwhile, durable or not.
    pub(crate) fn strays_in_vain(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        let ended = &self.ended;
        for (&grant, stray) in &mut self.strays {
            let over: Vec<IndexRange> = stray.tasks.iter().flat_map(|range| ended.pieces(range)).collect();
            for range in over {
                stray.tasks.remove(range);
                let worker = stray.worker;
                runs.push(Run { worker, grant, range });
            }
        }
        self.strays.retain(|_, stray| !stray.tasks.is_empty());
        runs
    }
}
