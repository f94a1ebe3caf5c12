//! The journal, read back: a new leader's core is told every record before anything else happens.

use std::time::Duration;

use phalanx_protocol::record::{FailureCause, Outcome, Record, TaskFailure};
use phalanx_protocol::{IndexRange, Term};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::{Job, Phase};
use crate::planted::PlantedBug;

/// How long a new leader waits at least for the workers of the one before, which look for it.
pub(crate) const REATTACH_WINDOW_MIN: Duration = Duration::from_secs(3);

impl Core {
    /// Takes in a durable record of an earlier leadership, `term`. To be called in the journal's order, before [`Core::handle`].
    ///
    /// Returns whether it counts. One that contradicts those before it refers to records that are lost, with a slot that was
    /// damaged or never whole, and does not: a job is not over whose tasks have not ended, and tasks do not end twice. What
    /// it said comes to pass again.
    pub fn replay(&mut self, term: Term, record: &Record) -> bool {
        let id = record.job();
        self.only_replayed = true;
        if let Record::JobSubmitted {
            user,
            submitted_unix_millis,
            spec,
            ..
        } = record
        {
            let job = Job::new(term, user.clone(), (**spec).clone(), *submitted_unix_millis);
            self.last_job = self.last_job.max(id);
            self.submissions.insert(spec.submission, id);
            self.jobs.insert(id, job);
            self.live.insert(id);
        }
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.fits(record)) else {
            return false;
        };
        job.see(record);
        match record {
            Record::JobSubmitted { .. } => {}
            Record::JobStarted {
                started_unix_millis, ..
            } => job.note_start(*started_unix_millis),
            Record::JobHeld { held, .. } => job.gate.held = *held,
            Record::TasksEnded { done, failed, .. } => {
                done.iter().for_each(|&range| job.end(range));
                for failure in failed {
                    job.end(failure.range());
                    job.failed.insert(failure.range());
                    job.gang.has_failed |= failure.cause != FailureCause::Lost;
                }
            }
            Record::TasksCancelled { tasks, by, .. } => {
                tasks.iter().for_each(|&range| job.end(range));
                job.cancelled.tasks.extend(tasks.iter().copied());
                job.cancelled.by.clone_from(by);
            }
            Record::TasksRequeued { tasks, last, .. } => {
                job.requeue(tasks, *last);
                self.live.insert(id);
                self.finished.retain(|&over| over != id);
            }
            Record::JobReopened { tasks, .. } => {
                job.reopen(tasks);
                self.live.insert(id);
                self.finished.retain(|&over| over != id);
            }
            Record::JobFinished { .. } => {
                job.phase = Phase::Finished;
                job.settle();
                self.live.remove(&id);
                self.finished.push_back(id);
            }
        }
        true
    }

    /// Takes note of how long workers and schedulers bear silence of each other: workers of a leader that fell silent find the
    /// next one only after that, and what they hold waits for them.
    pub fn bear_silence(&mut self, time: Duration) {
        self.reattach_window = time.max(REATTACH_WINDOW_MIN);
    }

    /// Ends the replay: jobs whose tasks had all ended are finished, the others go on.
    pub fn start(&mut self, now: Now, effects: &mut Vec<Effect>) {
        (self.clock, self.unix_millis) = (now.elapsed, now.unix_millis);
        self.only_replayed = false;
        self.resume_times(now);
        let live: Vec<_> = self.live.iter().copied().collect();
        for id in live {
            self.await_begin(now, id);
            self.tie(now, id, effects);
            self.finish_if_over(now, id, effects);
        }
        // only now: those that somebody waits for stay
        self.forget_oldest(effects);
        if !self.live.is_empty() && !self.planted.is(PlantedBug::AwaitsNobody) {
            self.reattach_until = Some(now.elapsed + self.reattach_window);
        }
        self.plan_due = true;
        self.plan_if_due(now, effects);
    }

    /// Whether what is left of a job may still run on workers that have not come back yet.
    pub(crate) fn is_reattaching(&self, job: &Job) -> bool {
        self.reattach_until.is_some() && job.term < self.term
    }

    /// Ends the wait for workers: what none of them has brought back is granted.
    pub(crate) fn end_reattaching_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.reattach_until.is_none_or(|until| now.elapsed < until) {
            return;
        }
        self.reattach_until = None;
        self.end_gangs_of_last_leader(now, effects);
        self.plan_due = true;
        let live: Vec<_> = self.live.iter().copied().collect();
        live.into_iter().for_each(|id| self.feed_hungry(id, effects));
    }
}

impl Job {
    /// Takes in that its start is on record.
    pub(crate) fn note_start(&mut self, started_unix_millis: u64) {
        self.started_unix_millis = Some(started_unix_millis);
        self.start_written = true;
        self.gate.unbound = true;
    }

    fn end(&mut self, range: IndexRange) {
        self.waiting.remove(range);
        self.ended.insert(range);
    }

    /// Whether a record goes with those before it. All do, unless some are lost.
    fn fits(&self, record: &Record) -> bool {
        let goes_on = self.phase == Phase::Active;
        let ended = |range: IndexRange| !self.ended.pieces(range).is_empty();
        match record {
            Record::JobSubmitted { .. } | Record::JobReopened { .. } | Record::TasksRequeued { .. } => true,
            Record::JobStarted { .. } | Record::JobHeld { .. } => goes_on,
            Record::TasksEnded { done, failed, .. } => {
                let mut ranges = done.iter().copied().chain(failed.iter().map(TaskFailure::range));
                goes_on && !ranges.any(ended)
            }
            Record::TasksCancelled { tasks, .. } => goes_on && !tasks.iter().copied().any(ended),
            Record::JobFinished { outcome, .. } => goes_on && self.may_end_as(outcome),
        }
    }

    /// Whether a job whose tasks ended like this can end like that.
    fn may_end_as(&self, outcome: &Outcome) -> bool {
        let all = self.ended.len() == self.spec.tasks;
        match outcome {
            Outcome::Succeeded => all && !self.has_failed() && self.cancelled.tasks.is_empty(),
            Outcome::Failed => self.has_failed() && (all || self.has_too_many_failures()),
            Outcome::Cancelled { .. } | Outcome::Broken { .. } | Outcome::TimeLimit { .. } => true,
        }
    }
}
