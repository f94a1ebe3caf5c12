//! BLAME: every bad end has its cause. A task fails only for what it did as often as it may not, and never for what
//! others did; a job is given up, stopped or cancelled only if there was reason to.

use std::collections::BTreeSet;

use phalanx_protocol::record::{FailureCause, Outcome, Record, TaskFailure};
use phalanx_protocol::{IndexRange, JobId};

use crate::fates::{Fate, Harm};
use crate::invariants::once::shrinks;
use crate::invariants::{Entry, Gate};
use crate::load::Plan;
use crate::weather::{Fault, Weather};
use crate::worker::Chunk;

/// How much later than at its time limit a job may end where nothing goes wrong, in milliseconds.
const LATE_MILLIS_MAX: u64 = 5;

#[derive(Debug, Default)]
pub(crate) struct Blame {
    /// Workers that leaders took for lost.
    workers_lost: u32,
    /// A worker that a leader had not lost came on another connection: of what the leader last gave it, it may never have heard.
    came_anew: bool,
    /// How tasks failed and jobs ended, for people.
    pub(crate) endings: BTreeSet<String>,
}

impl Blame {
    pub(crate) fn worker_lost(&mut self) {
        self.workers_lost += 1;
    }

    pub(crate) fn worker_came_anew(&mut self) {
        self.came_anew = true;
    }

    /// A record that was entered says that something ended.
    pub(crate) fn check(&mut self, record: &Record, gate: &Gate<'_>) {
        let Gate {
            ledger,
            load,
            weather,
            ..
        } = gate;
        let entry = &ledger.jobs[&record.job()];
        let plan = &load[Plan::number(&entry.spec.work)];
        match record {
            Record::TasksEnded {
                job, done, failed, ..
            } => {
                failed
                    .iter()
                    .for_each(|failure| self.check_failure(*job, failure, plan, weather));
                if shrinks(&plan.spec) && !failed.is_empty() {
                    self.endings.insert("gang shrank".to_owned());
                }
                let causes = failed.iter().map(|failure| failure.cause.to_string());
                self.endings.extend(causes);
                let done = done.iter().filter(|_| !plan.fates.is_empty());
                for index in done.flat_map(|range| range.start..range.end) {
                    let hopeless = plan.fates.of(index).is_some_and(|fate| fate.runs == u32::MAX);
                    assert!(!hopeless, "BLAME: {index} of job {job} cannot be done, and is");
                }
            }
            Record::JobFinished {
                job,
                outcome,
                finished_unix_millis,
            } => {
                self.endings.insert(name(outcome).to_owned());
                check_outcome(*job, outcome, plan, gate);
                check_time(*job, outcome, *finished_unix_millis, entry, weather);
            }
            Record::JobReopened { .. } => drop(self.endings.insert("reopened".to_owned())),
            Record::JobSubmitted { .. } | Record::JobStarted { .. } | Record::JobHeld { .. } => {}
            Record::TasksRequeued { tasks, .. } => {
                let all = tasks.iter().map(|range| range.len()).sum::<u64>() == plan.spec.tasks;
                let what = if all { "gang restarted" } else { "gang respawned" };
                self.endings.insert(what.to_owned());
            }
            Record::TasksCancelled { job, tasks, .. } => {
                self.endings.insert("tasks cancelled".to_owned());
                let wanted = plan.tasks_cancelled.as_ref();
                let right =
                    |&range: &IndexRange| wanted.is_some_and(|(_, wanted)| wanted.contains_range(range));
                assert!(
                    tasks.iter().all(right),
                    "BLAME: {tasks:?} of job {job} are cancelled for no reason"
                );
            }
        }
    }

    /// Where nothing goes wrong, nothing that has done harm as often as it may is started again, but for a twin that starts
    /// before this is known.
    pub(crate) fn started_in_calm(&self, started: &Chunk, plan: &Plan) {
        let (fates, retries) = (&plan.fates, &plan.spec.retries);
        let wanted_again = plan.retried || fates.is_empty();
        let range = started.range;
        for index in (range.start..range.end).take_while(|_| !wanted_again) {
            let did = fates.harms_of(index);
            let may = fates.of(index).map_or(0, |fate| match fate.harm {
                // its kernel host may die before that is heard of
                Harm::Error if fates.end_hosts() => u32::MAX - 1,
                Harm::Error => retries.errors,
                Harm::Death => retries.crash_limit - 1,
                Harm::Overrun => retries.timeouts,
            });
            let job = started.job;
            assert!(
                did <= may + u32::from(plan.spec.idempotent),
                "BLAME: {index} of job {job} did harm {did} times and runs again"
            );
        }
    }

    fn check_failure(&self, job: JobId, failure: &TaskFailure, plan: &Plan, weather: &Weather) {
        let (index, fates, retries) = (failure.index, &plan.fates, &plan.spec.retries);
        // at least so often; no task does harm more often than is its fate
        let did = |harm: Harm, times: u32| {
            let its = |fate: Fate| fate.harm == harm && fate.runs >= times;
            fates.of(index).is_some_and(its) && fates.harms_of(index) >= times
        };
        let right = match failure.cause {
            // all were lost as often as they may be
            FailureCause::Error if shrinks(&plan.spec) => {
                retries.lost_limit.is_some_and(|limit| self.workers_lost >= limit)
            }
            FailureCause::Error => did(Harm::Error, retries.errors + 1),
            FailureCause::TimeLimit => did(Harm::Overrun, retries.timeouts + 1),
            // of a gang it is counted for all ranks together
            FailureCause::Crash | FailureCause::Memory if plan.spec.gang.is_some() => {
                fates.hosts_lost >= retries.crash_limit
            }
            FailureCause::Crash | FailureCause::Memory => {
                let limit = retries.crash_limit;
                // from the first of them on, which may be another's deed, it runs alone; at a limit of 1 it never does
                let alone = limit > 1 && !weather.has(Fault::HostDeath);
                fates.deaths_of(index) >= limit && (!alone || did(Harm::Death, limit - 1))
            }
            FailureCause::Lost if shrinks(&plan.spec) => {
                self.workers_lost > 0 || self.came_anew || fates.hosts_lost > 0
            }
            FailureCause::Lost => retries.lost_limit.is_some_and(|limit| self.workers_lost >= limit),
            FailureCause::Panic
            | FailureCause::Input
            | FailureCause::Result
            | FailureCause::Exit(_)
            | FailureCause::Signal(_) => false,
        };
        let (did, died) = (fates.harms_of(index), fates.deaths_of(index));
        assert!(
            right,
            "BLAME: {index} of job {job} fails with {failure:?}; it is to {:?} and did so {did} times, {died} hosts died \
             with it, and its job has {retries:?}",
            fates.of(index)
        );
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "job succeeded",
        Outcome::Failed => "job failed",
        Outcome::Cancelled { by } if by.starts_with("its dependency") => "job waits in vain",
        Outcome::Cancelled { .. } => "job cancelled",
        Outcome::TimeLimit { .. } => "job out of time",
        Outcome::Broken { .. } => "job given up",
    }
}

fn check_outcome(job: JobId, outcome: &Outcome, plan: &Plan, gate: &Gate<'_>) {
    let weather = gate.weather;
    let right = match outcome {
        Outcome::Succeeded | Outcome::Failed => true,
        Outcome::Cancelled { by } if by.starts_with("its dependency") => gate.is_in_vain(plan),
        Outcome::Cancelled { .. } => plan.cancel_at.is_some() || plan.tasks_cancelled.is_some(),
        Outcome::TimeLimit { .. } => plan.spec.time_limit_millis.is_some(),
        // some host died with nobody to blame, or every worker refused it
        Outcome::Broken { .. } => weather.has(Fault::HostDeath) || weather.cannot_run_one_in > 0,
    };
    assert!(right, "BLAME: job {job} is {outcome:?} for no reason");
}

/// A job with a time limit ends by it when its time is up, and not later.
fn check_time(job: JobId, outcome: &Outcome, finished: u64, entry: &Entry, weather: &Weather) {
    let (Some(limit), Some(started)) = (entry.spec.time_limit_millis, entry.started_unix_millis) else {
        return;
    };
    let took = finished.saturating_sub(started);
    let clocks_lie = weather.has(Fault::ClockJump) || weather.has(Fault::SchedulerPause);
    let early = matches!(outcome, Outcome::TimeLimit { .. }) && took < limit && !clocks_lie;
    let late = took > limit + LATE_MILLIS_MAX && weather.is_calm();
    assert!(
        !early && !late,
        "BLAME: job {job} ends after {took} ms of {limit}: {outcome:?}"
    );
}
