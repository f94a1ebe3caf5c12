//! What ended: a report becomes a record of what is new in it (invariant ONCE), is acknowledged once that is durable,
//! and makes room for more grants.

use phalanx_protocol::message::worker::{Report, ToWorker};
use phalanx_protocol::record::{Record, ResultBlock, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;

impl Core {
    pub(crate) fn reported(&mut self, now: Now, worker: WorkerId, report: Report, effects: &mut Vec<Effect>) {
        let (number, id) = (report.number, report.job);
        if self.jobs.get(&id).is_some_and(Job::is_active) {
            self.take_in(worker, report, effects);
            self.finish_if_over(now, id, effects);
            self.feed(id, worker, effects);
            self.feed_hungry(id, effects);
            let job = &self.jobs[&id];
            // slots that its last tasks leave empty are of use to somebody else
            self.plan_due |= self.unmet && job.waiting.is_empty();
        }
        let message = ToWorker::Acknowledge { number };
        self.durability
            .after_appended(Effect::Send { worker, message }, effects);
    }

    fn take_in(&mut self, worker: WorkerId, report: Report, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&report.job) else {
            return;
        };
        let ended_before = job.ended.len();
        let lone = lone_values(job, &report);
        let mut fresh = RangeSet::new();
        for (grant, ranges) in &report.done {
            for &range in ranges {
                let range = range.intersection(IndexRange::new(0, job.spec.tasks));
                let pieces = job.ended.gaps(range).into_iter();
                let pieces = pieces
                    .filter(|&piece| lone.pieces(piece).is_empty())
                    .collect::<Vec<_>>();
                for piece in pieces {
                    job.account(*grant, piece);
                    fresh.insert(piece);
                }
            }
        }
        let mut failed = Vec::new();
        for (grant, failures) in report.failed {
            for failure in failures {
                if failure.index < job.spec.tasks && !job.ended.contains(failure.index) {
                    job.account(grant, IndexRange::new(failure.index, failure.index + 1));
                    failed.push(failure);
                }
            }
        }
        job.failed_count += failed.len() as u64;
        job.measure(worker, report.busy_nanos, job.ended.len() - ended_before);
        if let Some(model) = self.workers.get_mut(&worker) {
            model.tasks_ended += job.ended.len() - ended_before;
        }
        if fresh.is_empty() && failed.is_empty() {
            return;
        }
        job.hosts_lost = 0;
        self.append_ended(report.job, &fresh, report.results, failed, effects);
    }

    fn append_ended(
        &mut self,
        job: JobId,
        fresh: &RangeSet,
        results: Vec<ResultBlock>,
        failed: Vec<TaskFailure>,
        effects: &mut Vec<Effect>,
    ) {
        let results = results
            .into_iter()
            .map(|block| ResultBlock {
                keep: fresh.pieces(block.range),
                ..block
            })
            .filter(|block| !block.keep.is_empty())
            .collect();
        let record = Record::TasksEnded {
            job,
            done: fresh.iter().collect(),
            results,
            failed,
        };
        self.durability.append(record, effects);
    }
}

/// Ranges of a reducing job whose one merged value also covers tasks that had ended before. It cannot be taken apart,
/// so its other tasks are not done: whoever holds them has to run them again.
fn lone_values(job: &Job, report: &Report) -> RangeSet {
    if !job.spec.kernel().reduce {
        return RangeSet::new();
    }
    let overlapping = |block: &&ResultBlock| !job.ended.pieces(block.range).is_empty();
    report
        .results
        .iter()
        .filter(overlapping)
        .map(|block| block.range)
        .collect()
}

impl Job {
    /// Moves `range`, of which nothing had ended, to `ended`, wherever it was: most likely in `grant`.
    fn account(&mut self, grant: GrantId, range: IndexRange) {
        let mut elsewhere = range.len();
        if let Some(open) = self.grants.get(&grant) {
            elsewhere -= open
                .rest
                .pieces(range)
                .iter()
                .map(|piece| piece.len())
                .sum::<u64>();
            self.take_from_grant(grant, range);
        }
        if elsewhere > 0 {
            // a worker that was given up reports after all
            self.waiting.remove(range);
            let others: Vec<GrantId> = self.grants.keys().copied().collect();
            others
                .into_iter()
                .for_each(|other| self.take_from_grant(other, range));
        }
        self.ended.insert(range);
    }
}
