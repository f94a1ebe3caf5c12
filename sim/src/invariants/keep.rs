//! KEEP: what was answered, acknowledged or published is in the records that an independent reader finds, and every
//! later leader knows it.

use phalanx_protocol::message::client::Reply;
use phalanx_protocol::message::worker::Report;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::snapshot::CoreSnapshot;
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, SubmissionId};
use phalanx_scheduler_core::Core;

use crate::invariants::Ledger;
use crate::scheduler::Leader;

#[derive(Debug, Default)]
pub(crate) struct Keep;

impl Keep {
    /// A leader says that a record is durable.
    pub(crate) fn published(&self, leader: &mut Leader, sequence: u64) {
        assert!(
            sequence <= leader.durable,
            "KEEP: record {sequence} is published before it is durable"
        );
        assert!(
            sequence > leader.published,
            "KEEP: record {sequence} is published twice"
        );
        leader.published = sequence;
    }

    /// A worker is to run tasks of a job; its commands may ask about it.
    pub(crate) fn granted(&self, job: JobId, spec: &JobSpec, ledger: &Ledger) {
        let kept = ledger.jobs.contains_key(&job) || !spec.work.is_command();
        assert!(kept, "KEEP: job {job} is granted and not durable");
    }

    /// The scheduler answers a submission.
    pub(crate) fn submitted(&self, submission: SubmissionId, reply: &Reply, ledger: &Ledger) {
        if let Reply::Submitted(job) = reply {
            let entry = ledger.jobs.get(job);
            let kept = entry.is_some_and(|entry| entry.spec.submission == submission);
            assert!(kept, "KEEP: job {job} is accepted and not durable");
        }
    }

    /// The scheduler answers a cancellation.
    pub(crate) fn cancelled(&self, job: JobId, reply: &Reply, ledger: &Ledger) {
        if *reply == Reply::Done {
            let over = ledger.jobs.get(&job).is_some_and(|entry| entry.outcome.is_some());
            assert!(over, "KEEP: job {job} is cancelled and that is not durable");
        }
    }

    /// The scheduler answers that some tasks are cancelled.
    pub(crate) fn tasks_cancelled(
        &self,
        job: JobId,
        tasks: Option<&RangeSet>,
        reply: &Reply,
        ledger: &Ledger,
    ) {
        let Some(entry) = ledger.jobs.get(&job) else {
            return;
        };
        if matches!(reply, Reply::Cancelled { .. }) && entry.outcome.is_none() {
            let mut tasks = tasks.into_iter().flat_map(RangeSet::iter);
            let kept = tasks.all(|range| entry.ended.contains_range(range));
            assert!(
                kept,
                "KEEP: tasks of job {job} are cancelled and that is not durable"
            );
        }
    }

    /// The scheduler answers that a job is held, or released.
    pub(crate) fn held(&self, job: JobId, held: bool, reply: &Reply, ledger: &Ledger) {
        if *reply == Reply::Done {
            let kept = ledger
                .jobs
                .get(&job)
                .is_some_and(|entry| entry.was_held.contains(&held));
            assert!(kept, "KEEP: job {job} is held, or not, and that is not durable");
        }
    }

    /// The scheduler answers that tasks wait again.
    pub(crate) fn reopened(&self, job: JobId, reply: &Reply, ledger: &Ledger) {
        if matches!(reply, Reply::Reopened { .. }) {
            let kept = ledger.jobs.get(&job).is_some_and(|entry| entry.reopened);
            assert!(kept, "KEEP: job {job} goes on and that is not durable");
        }
    }

    /// A worker forgets a report, since it was told that it is durable.
    pub(crate) fn forgotten(&self, report: &Report, ledger: &Ledger) {
        let Some(entry) = ledger
            .jobs
            .get(&report.job)
            .filter(|entry| entry.outcome.is_none() && !entry.reopened)
        else {
            return;
        };
        // grants of an older term were of another job, which was lost with its leader before anybody was told of it
        let done = report.done.iter().filter(|(grant, _)| grant.term >= entry.term);
        let done = done.flat_map(|(_, ranges)| ranges.iter().copied());
        let failed = report.failed.iter().filter(|(grant, _)| grant.term >= entry.term);
        let failed = failed.flat_map(|(_, failures)| failures);
        let failed = failed.map(|failure| IndexRange::new(failure.index, failure.index + 1));
        // tasks that are run again fail without a record
        let retries = &entry.spec.retries;
        let failed = failed.filter(|_| retries.errors == 0 && retries.timeouts == 0);
        // merged values that overlap others are dropped, and their tasks run again
        let done = done.filter(|_| !entry.spec.work.reduces());
        // what ranks returned is kept until all have ended, and a leader that is lost takes it along
        let is_gang_of_kernels = entry.spec.gang.is_some() && !entry.spec.work.is_command();
        let done = done.filter(|_| !is_gang_of_kernels);
        for range in done.chain(failed) {
            let kept = entry.ended.contains_range(range);
            let number = report.number;
            assert!(
                kept,
                "KEEP: report {number} of {range} of job {} is lost",
                report.job
            );
        }
    }

    /// A scheduler has read the records of those before it.
    pub(crate) fn restarted(&self, core: &Core, ledger: &Ledger) {
        for (&id, entry) in &ledger.jobs {
            let view = core
                .job(id)
                .expect("KEEP: a durable job is known after a restart");
            let cancelled = entry.cancelled.len();
            assert_eq!(
                (view.done, view.failed),
                (
                    entry.ended.len() - entry.failed.len() - cancelled,
                    entry.failed.len()
                ),
                "KEEP: ended tasks of job {id}, of which {cancelled} were cancelled"
            );
            assert_eq!(view.outcome, entry.outcome, "KEEP: the outcome of job {id}");
            assert_eq!(view.held, entry.held, "KEEP: whether job {id} is held");
        }
    }

    /// A core that read a snapshot and the records behind it knows what one knows that read them all.
    pub(crate) fn restored(&self, restored: &CoreSnapshot, replayed: &CoreSnapshot) {
        let jobs = restored.jobs.iter().zip(&replayed.jobs);
        let same = jobs.take_while(|(one, other)| one == other).count();
        assert!(
            restored == replayed,
            "KEEP: a snapshot says something else than its records from job {same} on"
        );
    }

    /// What people see is never ahead of what is durable.
    pub(crate) fn seen(&self, core: &Core, job: JobId, ledger: &Ledger) {
        let (Some(view), Some(entry)) = (core.job(job), ledger.jobs.get(&job)) else {
            return;
        };
        // what is durable took back some of what people saw
        if entry.reopened {
            return;
        }
        let ahead = view.done + view.failed > entry.ended.len();
        let over: Option<&Outcome> = view.outcome.as_ref().filter(|_| entry.outcome.is_none());
        assert!(
            !ahead && over.is_none(),
            "KEEP: people see more of job {job} than is durable"
        );
    }
}
