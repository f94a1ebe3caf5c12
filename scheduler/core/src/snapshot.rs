//! What is durable, taken together: the same that replaying every durable record would give, in one piece.
//!
//! A snapshot holds nothing that is not durable: it is made of what people may see (`Seen`), never of the model, which runs
//! ahead of that.

use phalanx_protocol::record::{FailureCause, Record};
use phalanx_protocol::snapshot::{CoreSnapshot, JobSnapshot};
use phalanx_protocol::{JobId, RangeSet, Term};

use crate::cancelling::Cancelled;
use crate::core::Core;
use crate::job::{Job, Phase};
use crate::planted::PlantedBug;
use crate::requeues::Requeues;
use crate::seen::Seen;
use crate::usage::Used;

impl Core {
    /// Everything that is durable now. Costs time and memory in proportion to jobs and their ranges.
    pub fn snapshot(&self) -> CoreSnapshot {
        let durable = self.jobs.iter().filter(|(_, job)| job.seen.accepted);
        let forgotten = usize::from(self.planted.is(PlantedBug::SnapshotLosesJob));
        let durable = durable.skip(forgotten);
        let jobs: Vec<JobSnapshot> = durable.map(|(&id, job)| job.snapshot(id)).collect();
        CoreSnapshot {
            last_job: jobs.last().map(|job| job.submitted.job()),
            jobs,
            finished: self.finished.iter().copied().collect(),
        }
    }

    /// A core that leads `term` and knows what a snapshot holds. Records behind it follow by [`Core::replay`].
    pub fn restore(term: Term, snapshot: CoreSnapshot) -> Self {
        let mut core = Self::new(term);
        core.only_replayed = true;
        for job in snapshot.jobs {
            let id = job.submitted.job();
            let Some(job) = Job::restore(job) else { continue };
            core.submissions.insert(job.spec.submission, id);
            if job.phase != Phase::Finished {
                core.live.insert(id);
            }
            core.jobs.insert(id, job);
            core.last_job = core.last_job.max(id);
        }
        core.last_job = core.last_job.max(snapshot.last_job.unwrap_or(JobId(0)));
        let known = snapshot
            .finished
            .into_iter()
            .filter(|id| core.jobs.contains_key(id));
        core.finished = known.collect();
        core
    }

    /// Whether a job is known, so that its records are still of use to somebody.
    pub fn remembers(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }
}

impl Job {
    fn snapshot(&self, job: JobId) -> JobSnapshot {
        let seen = &self.seen;
        let (usage, tasks_used) = seen.used.to_snapshot();
        JobSnapshot {
            term: self.term,
            submitted: Record::JobSubmitted {
                job,
                user: self.user.clone(),
                submitted_unix_millis: seen.submitted_unix_millis,
                spec: Box::new(self.spec.clone()),
            },
            started_unix_millis: seen.started_unix_millis,
            done: seen.done.iter().collect(),
            failed: seen.failed.iter().collect(),
            failures: seen.failures.values().cloned().collect(),
            end: seen.outcome.clone().zip(seen.finished_unix_millis),
            held: seen.held,
            unbound: seen.unbound,
            cancelled: seen.cancelled.tasks.iter().collect(),
            cancelled_by: seen.cancelled.by.clone(),
            requeued: seen.requeues.to_snapshot(),
            usage,
            tasks_used,
        }
    }

    /// `None` if what should be the submission is another record.
    fn restore(snapshot: JobSnapshot) -> Option<Self> {
        let Record::JobSubmitted {
            user,
            submitted_unix_millis,
            spec,
            ..
        } = snapshot.submitted
        else {
            return None;
        };
        let mut job = Self::new(snapshot.term, user, *spec, submitted_unix_millis);
        let (done, failed): (RangeSet, RangeSet) = (snapshot.done.into(), snapshot.failed.into());
        let cancelled = Cancelled {
            tasks: snapshot.cancelled.into(),
            by: snapshot.cancelled_by,
        };
        for range in done.iter().chain(failed.iter()).chain(cancelled.tasks.iter()) {
            job.waiting.remove(range);
            job.ended.insert(range);
        }
        job.failed = failed.clone();
        job.gang.has_failed = snapshot
            .failures
            .iter()
            .any(|failure| failure.cause != FailureCause::Lost);
        job.cancelled = cancelled.clone();
        let requeues = Requeues::restore(snapshot.requeued);
        job.requeues = requeues.clone();
        job.gate.held = snapshot.held;
        if let Some(started) = snapshot.started_unix_millis {
            job.note_start(started);
        }
        job.gate.unbound = snapshot.unbound;
        let (outcome, finished_unix_millis) = snapshot.end.unzip();
        let is_over = outcome.is_some();
        let failures = snapshot.failures.into_iter();
        job.seen = Seen {
            accepted: true,
            held: snapshot.held,
            unbound: snapshot.unbound,
            done,
            failed,
            cancelled,
            requeues,
            started_unix_millis: snapshot.started_unix_millis,
            outcome,
            submitted_unix_millis,
            finished_unix_millis,
            failures: failures.map(|failure| (failure.index, failure)).collect(),
            used: Used::restore(snapshot.usage, snapshot.tasks_used),
        };
        if is_over {
            job.phase = Phase::Finished;
            job.settle();
        }
        Some(job)
    }
}
