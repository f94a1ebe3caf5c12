//! GATE: nothing of a job starts before what it waits for has come to pass; and none is ended because it waits in vain while
//! it does not.

use phalanx_protocol::dependency::Joined;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{IndexRange, JobId};

use crate::driver::UNIX_START_MILLIS;
use crate::invariants::{Entry, Ledger};
use crate::load::Plan;
use crate::waits::Bond;
use crate::weather::{Fault, Weather};
use crate::worker::Chunk;

/// What is known when a chunk starts, or a job ends.
pub(crate) struct Gate<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) load: &'a [Plan],
    pub(crate) weather: &'a Weather,
    /// The job of each plan, once its client was told.
    pub(crate) jobs: &'a [Option<JobId>],
    /// In microseconds.
    pub(crate) now: u64,
}

impl Gate<'_> {
    /// A worker starts tasks.
    pub(crate) fn started(&self, chunk: &Chunk) {
        let (job, range, plan) = (chunk.job, chunk.range, &self.load[chunk.plan]);
        let waits = &plan.waits;
        let is_held = waits.held && !waits.released;
        assert!(
            !is_held,
            "GATE: {range} of job {job} starts, and nobody released it"
        );
        let begin = waits.begin_unix_millis.unwrap_or(0);
        let early = begin > self.unix_millis() && !self.weather.has(Fault::ClockJump);
        assert!(!early, "GATE: {range} of job {job} starts before its time");
        let mut bonds = waits.bonds.iter().map(|&bond| self.is_met(bond, range));
        let met = match waits.joined {
            Joined::All => bonds.all(|met| met) && (!waits.alone || self.is_alone(chunk)),
            Joined::Any => {
                let waits_for_nobody = waits.bonds.is_empty() && !waits.alone;
                waits_for_nobody || bonds.any(|met| met) || (waits.alone && self.is_alone(chunk))
            }
        };
        assert!(met, "GATE: {range} of job {job} starts, and waits for {waits:?}");
    }

    /// A job is ended because of what it waits for.
    pub(crate) fn is_in_vain(&self, plan: &Plan) -> bool {
        let mut bonds = plan.waits.bonds.iter();
        bonds.any(|&(other, bond)| {
            let Some((_, entry)) = self.job(other) else {
                return false;
            };
            let ok = entry.outcome == Some(Outcome::Succeeded);
            let was_over = entry.outcome.is_some() || entry.reopened;
            match bond {
                Bond::After(_) | Bond::AfterAny => false,
                Bond::AfterOk => was_over && (!ok || entry.reopened),
                Bond::AfterNotOk => was_over && (ok || entry.reopened),
                Bond::AfterCorresponding => was_over,
            }
        })
    }

    fn is_met(&self, (plan, bond): (usize, Bond), range: IndexRange) -> bool {
        let Some((_, entry)) = self.job(plan) else {
            return false;
        };
        let was_over = entry.outcome.is_some() || entry.reopened;
        let ok = entry.outcome == Some(Outcome::Succeeded);
        match bond {
            Bond::After(delay) => {
                let clocks_lie =
                    self.weather.has(Fault::ClockJump) || self.weather.has(Fault::SchedulerPause);
                let due = |started: u64| started + delay <= self.unix_millis() || clocks_lie;
                was_over || entry.started_unix_millis.is_some_and(due)
            }
            Bond::AfterAny => was_over,
            Bond::AfterOk => was_over && (ok || entry.reopened),
            Bond::AfterNotOk => was_over && (!ok || entry.reopened),
            Bond::AfterCorresponding => {
                let failed = !entry.failed.pieces(range).is_empty();
                let failed = failed || !entry.cancelled.pieces(range).is_empty();
                entry.ended.contains_range(range) && (!failed || entry.reopened)
            }
        }
    }

    /// Whether no job of the same user and name is left that was submitted before; also if it is not known which one this is.
    fn is_alone(&self, chunk: &Chunk) -> bool {
        let plan = &self.load[chunk.plan];
        if self.jobs[chunk.plan] != Some(chunk.job) {
            return true;
        }
        let older = self.ledger.jobs.range(..chunk.job);
        let mut older = older.filter(|(_, entry)| entry.outcome.is_none() && !entry.reopened);
        older.all(|(_, entry)| {
            let other = &self.load[Plan::number(&entry.spec.work)];
            other.user != plan.user || other.spec.name != plan.spec.name
        })
    }

    fn job(&self, plan: usize) -> Option<(JobId, &Entry)> {
        let job = self.jobs[plan]?;
        Some((job, self.ledger.jobs.get(&job)?))
    }

    fn unix_millis(&self) -> u64 {
        UNIX_START_MILLIS + self.now / 1000
    }
}
