//! Time limits of jobs: from the first slots on, by the clock of the wall, whoever leads; workers are warned before the end.

use std::collections::BTreeSet;
use std::time::Duration;

use phalanx_protocol::JobId;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{Outcome, Record};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;

/// Longest time between the call to save what there is and the end.
const WARNING_MAX: Duration = Duration::from_secs(30);
/// The same as a part of the limit.
const WARNING_PART: u32 = 10;

/// What is left of a job's time, on the clock of [`Now::elapsed`]: that of the wall may jump while somebody leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimit {
    /// What happens next, and when; its key in `Core::time_limits`.
    due: Duration,
    pub(crate) ends: Duration,
}

impl Core {
    /// A job has got slots: if it has a time limit and had none before, its time begins.
    pub(crate) fn begin_time(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.gate.unbound = true;
        let started = *job.started_unix_millis.get_or_insert(now.unix_millis);
        let limit = job.spec.time_limit_millis.filter(|_| job.time_limit.is_none());
        let of_interest = job.is_gang() || job.spec.dependency.is_some() || self.dependents.contains_key(&id);
        if limit.is_some() || of_interest {
            self.write_start(id, effects);
        }
        if let Some(limit) = limit {
            self.set_time_limit(now, id, started, limit);
        }
    }

    /// Writes down when a job that runs got its first slots, unless that is on record.
    pub(crate) fn write_start(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let job = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.is_active() && !job.start_written);
        let Some((job, started_unix_millis)) = job.and_then(|job| {
            let started = job.started_unix_millis?;
            Some((job, started))
        }) else {
            return;
        };
        job.start_written = true;
        let record = Record::JobStarted {
            job: id,
            started_unix_millis,
        };
        self.durability.append(record, effects);
    }

    /// Goes on with the time of jobs that began under an earlier leader.
    pub(crate) fn resume_times(&mut self, now: Now) {
        let started = |id: &JobId| {
            let job = self.jobs.get(id)?;
            Some((*id, job.seen.started_unix_millis?, job.spec.time_limit_millis?))
        };
        let started: Vec<(JobId, u64, u64)> = self.live.iter().filter_map(started).collect();
        for (id, started, limit) in started {
            self.set_time_limit(now, id, started, limit);
        }
    }

    fn set_time_limit(&mut self, now: Now, id: JobId, started_unix_millis: u64, limit: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // a clock that is behind the one of the leader before does not lengthen it
        let passed = now.unix_millis.saturating_sub(started_unix_millis);
        let ends = now.elapsed + Duration::from_millis(limit.saturating_sub(passed));
        let warning = WARNING_MAX.min(Duration::from_millis(limit) / WARNING_PART);
        let due = ends.saturating_sub(warning).max(now.elapsed);
        job.time_limit = Some(TimeLimit { due, ends });
        self.time_limits.insert((due, id));
    }

    /// Forgets the limit of a job that is over.
    pub(crate) fn drop_time_limit(&mut self, id: JobId) {
        let limit = self.jobs.get_mut(&id).and_then(|job| job.time_limit.take());
        if let Some(limit) = limit {
            self.time_limits.remove(&(limit.due, id));
        }
    }

    /// Warns, then ends, the jobs whose time is up.
    pub(crate) fn keep_time_limits(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(&(due, id)) = self.time_limits.first()
            && due <= now.elapsed
        {
            self.time_limits.pop_first();
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let Some(limit) = &mut job.time_limit else {
                continue;
            };
            if now.elapsed < limit.ends {
                limit.due = limit.ends;
                self.time_limits.insert((limit.ends, id));
                for &worker in &job.opened_on {
                    let message = ToWorker::CheckpointNow { job: id };
                    effects.push(Effect::Send { worker, message });
                }
            } else {
                let millis = job.spec.time_limit_millis.unwrap_or_default();
                self.end_job(now, id, Outcome::TimeLimit { millis }, effects);
            }
        }
    }

    /// Asserts that each limit is watched once.
    pub(crate) fn check_time_limits(&self) {
        let limited = |(&id, job): (&JobId, &Job)| Some((job.time_limit?.due, id));
        let limits: BTreeSet<_> = self.jobs.iter().filter_map(limited).collect();
        assert_eq!(
            limits, self.time_limits,
            "time limits are watched as jobs have them"
        );
        let is_active = |(_, id): &(Duration, JobId)| self.jobs[id].is_active();
        assert!(limits.iter().all(is_active), "a job that is over has time left");
    }
}
