//! LIVE: when faults stop, every job that somebody wanted is accepted and ends.

use phalanx_protocol::JobId;

use crate::invariants::Ledger;

#[derive(Debug, Default)]
pub(crate) struct Live {
    /// The job of each plan, once its client was told.
    pub(crate) jobs: Vec<Option<JobId>>,
}

impl Live {
    pub(crate) fn all_ended(&self, ledger: &Ledger) -> bool {
        let over = |job: JobId| ledger.jobs.get(&job).is_some_and(|entry| entry.outcome.is_some());
        self.jobs.iter().all(|job| job.is_some_and(over))
    }

    /// Nothing has gone wrong for a long time. What every worker refuses to run may wait for another: the jobs of such plans
    /// are stuck.
    pub(crate) fn patience_ended(&self, ledger: &Ledger, stuck: &[bool]) {
        for (plan, job) in self.jobs.iter().enumerate() {
            let job = job.unwrap_or_else(|| panic!("LIVE: plan {plan} was never accepted"));
            if stuck[plan] {
                continue;
            }
            let entry = &ledger.jobs[&job];
            let (ended, tasks) = (&entry.ended, entry.spec.tasks);
            assert!(
                entry.outcome.is_some(),
                "LIVE: job {job} does not end; of {tasks} tasks {ended} did"
            );
        }
    }
}
