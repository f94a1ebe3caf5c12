//! What one worker holds of a job: slots, open grants, and how fast it is.

use std::collections::BTreeSet;
use std::time::Duration;

use phalanx_protocol::limits::WORKERS_MAX;
use phalanx_protocol::{GrantId, RangeSet, WorkerId};

/// Highest rate that is believed, in tasks per second, so that the sum over all workers fits.
const RATE_MAX: u64 = u64::MAX / (WORKERS_MAX as u64 + 1);

/// A range that a worker was told to run.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) worker: WorkerId,
    /// What of it has neither ended nor been given back; never empty.
    pub(crate) rest: RangeSet,
    /// Where it ends for the worker. It may run more than `rest`: others may have reported some of it meanwhile.
    pub(crate) end: u64,
    /// When it was made; not known of one that was made by an earlier leader or in an earlier session.
    pub(crate) since: Option<Duration>,
}

impl Grant {
    /// How many tasks the worker has to give back from the end, so that `count` of `rest` are among them.
    pub(crate) fn tail(&self, mut count: u64) -> u64 {
        for range in self.rest.iter().rev() {
            if count <= range.len() {
                return self.end.saturating_sub(range.end - count);
            }
            count -= range.len();
        }
        self.end.saturating_sub(self.rest.first().unwrap_or(self.end))
    }
}

/// What one worker holds of a job.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pub(crate) slots: u32,
    /// Tasks in its open grants.
    pub(crate) open: u64,
    /// Its open grants, oldest first.
    pub(crate) grants: BTreeSet<GrantId>,
    pub(crate) pace: Pace,
    /// When it last reported or was granted something.
    pub(crate) heard: Duration,
    /// Revokes without an answer.
    pub(crate) revoking: usize,
    /// When the last of them was sent.
    pub(crate) asked: Duration,
    /// Nobody waits for the answers any more.
    pub(crate) does_not_answer: bool,
    /// A revoke came back empty since the last report: everything there has started.
    pub(crate) all_started: bool,
    /// Tasks that may run there without a slot: it had more slots when they started.
    pub(crate) overhang: u64,
    /// Its part of `Job::overhang`.
    pub(crate) overhang_counted: u64,
    /// What it has open is a suspect, which runs alone.
    pub(crate) alone: bool,
    /// Its key in `Job::backlogs`.
    pub(crate) backlog_key: u64,
    /// Its part of `Job::rate`.
    pub(crate) rate_counted: u64,
}

/// A running measurement of time per task.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pace {
    busy_nanos: u64,
    tasks: u64,
}

impl Pace {
    /// Slot time after which older measurements count half.
    const MEMORY_NANOS: u64 = 4_000_000_000;

    pub(crate) fn measure(&mut self, busy_nanos: u64, tasks: u64) {
        if tasks == 0 {
            return;
        }
        while self.busy_nanos > Self::MEMORY_NANOS && self.tasks > 1 {
            let kept = self.tasks.div_ceil(2);
            let nanos = u128::from(self.busy_nanos) * u128::from(kept) / u128::from(self.tasks);
            self.busy_nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.tasks = kept;
        }
        self.busy_nanos = self.busy_nanos.saturating_add(busy_nanos);
        self.tasks = self.tasks.saturating_add(tasks);
    }

    /// Slot time per task in picoseconds, at least 1; `None` before the first measurement.
    pub(crate) fn task_picos(self) -> Option<u64> {
        (self.tasks > 0).then(|| {
            let picos = u128::from(self.busy_nanos) * 1000 / u128::from(self.tasks);
            u64::try_from(picos).unwrap_or(u64::MAX).max(1)
        })
    }
}

impl Holding {
    /// Whether it has fewer tasks than slots, and may have more.
    pub(crate) fn is_hungry(&self) -> bool {
        self.open < u64::from(self.slots) && !self.alone
    }

    /// Its slots; if it has none any more, the tasks that still run.
    pub(crate) fn in_use(&self) -> u64 {
        match self.slots {
            0 => self.overhang,
            slots => slots.into(),
        }
    }

    /// Revokes whose answers are waited for.
    pub(crate) fn awaited(&self) -> usize {
        if self.does_not_answer { 0 } else { self.revoking }
    }

    /// Measured tasks per second of all its slots.
    pub(crate) fn rate(&self) -> u64 {
        self.pace.task_picos().map_or(0, |picos| {
            let rate = u128::from(self.slots) * 1_000_000_000_000 / u128::from(picos);
            u64::try_from(rate).unwrap_or(u64::MAX).min(RATE_MAX)
        })
    }

    /// How long its slots need for the tasks that it has not started, in picoseconds; 0 if that is not worth a revoke.
    pub(crate) fn backlog_picos(&self) -> u64 {
        let unstarted = self.open.saturating_sub(u64::from(self.slots));
        if unstarted == 0 || self.all_started || self.revoking > 0 {
            return 0;
        }
        let picos = self.pace.task_picos().unwrap_or(1_000_000_000_000);
        unstarted.saturating_mul(picos) / u64::from(self.slots.max(1))
    }
}
