//! Jobs that are over and go on, and failed tasks that get another chance, because somebody asks for it.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{IndexRange, JobId, RangeSet};

use crate::core::Core;
use crate::input::{Effect, Now, RequestId};
use crate::job::{Job, Phase};
use crate::planted::PlantedBug;
use crate::submission::refuse;

impl Core {
    pub(crate) fn retry_requested(
        &mut self,
        now: Now,
        request: RequestId,
        user: &str,
        admin: bool,
        id: JobId,
        effects: &mut Vec<Effect>,
    ) {
        let allowed = match self.not_yours(id, user).filter(|_| !admin) {
            Some(refusal) => Err(refusal),
            None => self.jobs.get(&id).ok_or(Refusal::NoSuchJob(id)).and_then(|job| {
                let nothing = |why: &str| Refusal::NothingToRetry {
                    job: id,
                    why: why.to_owned(),
                };
                job.retriable().map_err(nothing)
            }),
        };
        let tasks = match allowed {
            Ok(tasks) => tasks,
            Err(refusal) => {
                return refuse(request, refusal, effects);
            }
        };
        if self.jobs.get(&id).is_some_and(Job::is_gang) {
            // all ranks start again, in another epoch
            return self.requeue_requested(now, (request, user, admin), id, None, effects);
        }
        let count = tasks.iter().map(|range| range.len()).sum();
        if let Some(job) = self.jobs.get_mut(&id) {
            let forgotten = usize::from(self.planted.is(PlantedBug::ReopenForgetsTask));
            job.reopen(&tasks[..tasks.len().saturating_sub(forgotten)]);
            job.reopened = true;
        }
        // among the finished it stays until that is durable
        self.live.insert(id);
        self.durability
            .append(Record::JobReopened { job: id, tasks }, effects);
        self.answer_when_durable(request, Reply::Reopened { tasks: count }, effects);
        self.plan_due = true;
        self.weigh_after_reopening(now, id, effects);
        self.feed_hungry(id, effects);
    }
}

impl Job {
    /// Tasks that can be run again: failed ones, and of a job that is over those that never ran and were not cancelled; else
    /// why there are none.
    fn retriable(&self) -> Result<Vec<IndexRange>, &'static str> {
        let tasks = match (self.phase, &self.seen.outcome) {
            (Phase::Active, _) => self.failed.clone(),
            (Phase::Ending, _) => return Err("it is just ending"),
            (Phase::Finished, Some(Outcome::Failed | Outcome::TimeLimit { .. })) => {
                let all = IndexRange::new(0, self.spec.tasks);
                let undone = self.seen.done.gaps(all).into_iter();
                let cancelled = &self.seen.cancelled.tasks;
                undone.flat_map(|range| cancelled.gaps(range)).collect()
            }
            (Phase::Finished, Some(Outcome::Cancelled { .. })) => return Err("it was cancelled"),
            (Phase::Finished, Some(Outcome::Broken { .. })) => {
                return Err("its program cannot run; submit it with one that can");
            }
            (Phase::Finished, Some(Outcome::Succeeded) | None) => RangeSet::new(),
        };
        match tasks.is_empty() {
            true => Err("none failed"),
            false => Ok(tasks.into()),
        }
    }

    /// Lets tasks that failed, or were not run before the end, wait again.
    pub(crate) fn reopen(&mut self, tasks: &[IndexRange]) {
        self.awaken();
        tasks.iter().for_each(|&range| self.end_no_more(range));
    }

    /// Lets a job go on that was over, with all of its tasks ended.
    pub(crate) fn awaken(&mut self) {
        if self.phase == Phase::Finished {
            self.phase = Phase::Active;
            self.gate.unbound = true;
            let all = IndexRange::new(0, self.spec.tasks);
            self.waiting = RangeSet::new();
            self.ended = RangeSet::from(all);
            self.failed = self.seen.failed.clone();
            self.cancelled = self.given_up();
            self.hosts_lost = 0;
            self.started_unix_millis = None;
            self.start_written = false;
        }
    }

    /// Lets tasks wait that had ended; those that a loser still runs are with that.
    pub(crate) fn end_no_more(&mut self, range: IndexRange) {
        self.ended.remove(range);
        self.failed.remove(range);
        self.cancelled.tasks.remove(range);
        self.ends.forget(range);
        self.waiting.insert(range);
        self.losers_go_on(range);
    }
}
