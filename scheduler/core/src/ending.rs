//! How jobs end: decided, written down, and, once that is durable, told to the workers.

use phalanx_protocol::JobId;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{Outcome, Record};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::{Job, Phase};

/// Finished jobs that are remembered; the oldest are forgotten first.
const FINISHED_JOBS_MAX: usize = 100_000;

impl Core {
    /// Ends a job whose tasks have all ended, or of which too many failed.
    pub(crate) fn finish_if_over(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        if self.end_if_stranded(now, id, effects) {
            return;
        }
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_active()) else {
            return;
        };
        if job.spec.tasks == 0 && job.gate.is_shut() {
            return;
        }
        if job.has_too_many_failures() || job.ended.len() == job.spec.tasks {
            let cancelled = &job.cancelled;
            let outcome = match (job.has_failed(), cancelled.tasks.is_empty()) {
                (true, _) => Outcome::Failed,
                (false, false) => Outcome::Cancelled {
                    by: cancelled.by.clone(),
                },
                (false, true) => Outcome::Succeeded,
            };
            self.end_job(now, id, outcome, effects);
        }
    }

    /// Writes a job's end down. Its slots are free from now on; workers hear of it once it is durable.
    pub(crate) fn end_job(&mut self, now: Now, id: JobId, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.drop_time_limit(id);
        self.untie(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let record = Record::JobFinished {
            job: id,
            outcome,
            finished_unix_millis: now.unix_millis,
        };
        self.durability.append(record, effects);
        for worker in job.holdings.keys() {
            if let Some(model) = self.workers.get_mut(worker) {
                model.slots.remove(&id);
                model.unplanned.remove(&id);
            }
        }
        job.phase = Phase::Ending;
        job.settle();
        self.plan_due = true;
    }

    /// Closes a job whose end is durable.
    pub(crate) fn job_finished(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.phase = Phase::Finished;
        self.live.remove(&id);
        self.finished.push_back(id);
        for worker in std::mem::take(&mut job.opened_on) {
            if let Some(model) = self.workers.get_mut(&worker) {
                model.opened.remove(&id);
            }
            let message = ToWorker::Close { job: id };
            effects.push(Effect::Send { worker, message });
        }
        self.weigh_dependents(now, id, effects);
        self.forget_oldest(effects);
    }

    /// Forgets finished jobs beyond what is remembered.
    pub(crate) fn forget_oldest(&mut self, effects: &mut Vec<Effect>) {
        while self.finished.len() > FINISHED_JOBS_MAX {
            // one may be about to go on, and others may wait for one
            let over = |id: &JobId| self.jobs.get(id).is_some_and(|job| job.phase == Phase::Finished);
            let idle = |id: &JobId| over(id) && !self.dependents.contains_key(id);
            let oldest = self.finished.iter().position(idle);
            let Some(id) = oldest.and_then(|oldest| self.finished.remove(oldest)) else {
                return;
            };
            if let Some(job) = self.jobs.remove(&id) {
                self.submissions.remove(&job.spec.submission);
            }
            effects.push(Effect::Forget(id));
        }
    }
}

impl Job {
    /// Whether more tasks have failed than it bears; a gang bears none.
    pub(crate) fn has_too_many_failures(&self) -> bool {
        if self.goes_on_without_lost() {
            return self.has_failed();
        }
        let most = self.spec.failures_max.or(self.is_gang().then_some(0));
        most.is_some_and(|most| self.failed.len() > most)
    }
}
