//! What a seed has in store for the tasks of a job, and the truth about what came of it: some tasks fail, kill their
//! kernel host or run for too long, in their first runs or in every one.

use std::collections::BTreeMap;

use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{IndexRange, Retries};

use crate::dice::{Dice, mix};

/// Tasks of a job that can do harm, since each of them is looked at.
const TASKS_MAX: u64 = 20_000;
/// Tasks of a job of which many can.
const MANY_TASKS_MAX: u64 = 2_000;

/// What a run of a task does instead of ending well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It fails.
    Error,
    /// It kills its kernel host.
    Death,
    /// It runs on until its kernel host is killed for that.
    Overrun,
}

/// What some tasks of a job do in their first runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) harm: Harm,
    /// In how many of them; `u32::MAX` for all.
    pub(crate) runs: u32,
    /// One in so many tasks does.
    one_in: u64,
}

/// The fates of a job's tasks.
#[derive(Debug)]
pub(crate) struct Fates {
    fates: Vec<Fate>,
    salt: u64,
    /// What is said of hosts that are killed.
    pub(crate) death: FailureCause,
    /// How often each task did harm.
    harms: BTreeMap<u64, u32>,
    /// How many kernel hosts died while they ran each task.
    deaths: BTreeMap<u64, u32>,
    /// How many of the job's kernel hosts died.
    pub(crate) hosts_lost: u32,
}

impl Fates {
    /// Those of tasks that do no harm.
    pub(crate) fn harmless() -> Self {
        Self {
            fates: Vec::new(),
            salt: 0,
            death: FailureCause::Crash,
            harms: BTreeMap::new(),
            deaths: BTreeMap::new(),
            hosts_lost: 0,
        }
    }

    pub(crate) fn draw(dice: &mut Dice, tasks: u64) -> Self {
        let harms: &[Harm] = match dice.within(0..10) {
            0..3 => &[Harm::Error],
            3 | 4 => &[Harm::Death],
            5 => &[Harm::Overrun],
            6 => &[Harm::Overrun, Harm::Death, Harm::Error],
            _ => &[],
        };
        let fates = harms.iter().map(|&harm| Fate {
            harm,
            runs: dice.pick(&[u32::MAX, u32::MAX, 1, 2, 3]),
            one_in: match dice.pick(&[9, 50, 400]) {
                _ if tasks > MANY_TASKS_MAX => 400,
                one_in => one_in,
            },
        });
        let fates = fates.filter(|_| tasks < TASKS_MAX).collect();
        Self {
            fates,
            salt: dice.next(),
            death: dice.pick(&[FailureCause::Crash, FailureCause::Crash, FailureCause::Memory]),
            harms: BTreeMap::new(),
            deaths: BTreeMap::new(),
            hosts_lost: 0,
        }
    }

    /// How often tasks with such fates are to be run again.
    pub(crate) fn draw_retries(&self, dice: &mut Dice) -> Retries {
        let has = |harm: Harm| self.fates.iter().any(|fate| fate.harm == harm);
        let (errors, timeouts) = (dice.pick(&[0, 0, 2]), dice.pick(&[0, 0, 2]));
        Retries {
            errors: if has(Harm::Error) { errors } else { 0 },
            crash_limit: dice.pick(&[3, 3, 2, 1]),
            lost_limit: dice.one_in(3).then(|| dice.within(1..3) as u32),
            timeouts: if has(Harm::Overrun) { timeouts } else { 0 },
            backoff_millis: 50,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    /// Whether some tasks run for too long.
    pub(crate) fn overrun(&self) -> bool {
        self.fates.iter().any(|fate| fate.harm == Harm::Overrun)
    }

    /// Whether some tasks end their kernel hosts, and what else runs there.
    pub(crate) fn end_hosts(&self) -> bool {
        self.fates.iter().any(|fate| fate.harm != Harm::Error)
    }

    /// What a task does.
    pub(crate) fn of(&self, index: u64) -> Option<Fate> {
        let mut fates = (0..).zip(&self.fates);
        let its =
            fates.find(|(number, fate)| mix(mix(index) ^ self.salt ^ number).is_multiple_of(fate.one_in));
        its.map(|(_, fate)| *fate)
    }

    /// What a run of a task that begins now does.
    pub(crate) fn of_next_run(&self, index: u64) -> Option<Harm> {
        let fate = self.of(index)?;
        (self.harms_of(index) < fate.runs).then_some(fate.harm)
    }

    /// Those of the tasks that a worker ran one after the other which fail.
    pub(crate) fn that_fail(&self, range: IndexRange) -> Vec<u64> {
        let indices = (range.start..range.end).take_while(|_| !self.is_empty());
        let fails = |&index: &u64| self.of_next_run(index) == Some(Harm::Error);
        indices.filter(fails).collect()
    }

    /// A task did harm.
    pub(crate) fn did_harm(&mut self, index: u64) {
        *self.harms.entry(index).or_default() += 1;
    }

    /// A kernel host died while it ran these tasks.
    pub(crate) fn host_died(&mut self, ran: &[u64]) {
        self.hosts_lost += 1;
        for &index in ran {
            *self.deaths.entry(index).or_default() += 1;
        }
    }

    pub(crate) fn harms_of(&self, index: u64) -> u32 {
        self.harms.get(&index).copied().unwrap_or(0)
    }

    pub(crate) fn deaths_of(&self, index: u64) -> u32 {
        self.deaths.get(&index).copied().unwrap_or(0)
    }
}
