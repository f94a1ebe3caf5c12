//! What a seed draws for the cluster: its schedulers and workers, how long messages and appends take, and which faults there are.

use std::collections::BTreeMap;
use std::ops::Range;

use phalanx_protocol::Resources;

use crate::dice::{Dice, mix};

/// From what a seed draws its weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Climate {
    /// From all there is.
    #[default]
    Any,
    /// Three schedulers that stand still, are cut off and overtake each other.
    Takeovers,
    /// The same on an old log whose beginning is deleted meanwhile.
    Deletion,
}

impl Climate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Any, Self::Takeovers, Self::Deletion];
}

impl std::fmt::Display for Climate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Takeovers => "takeovers",
            Self::Deletion => "deletion",
        })
    }
}

/// Faults that may happen while the weather lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    SessionLost,
    WorkerCrash,
    WorkerStall,
    HostDeath,
    /// An operator wants a worker to leave; no harm comes of that.
    WorkerDrain,
    /// A worker's process is ended in good order.
    WorkerStop,
    SchedulerCrash,
    SchedulerPause,
    StorageFailure,
    StorageSlowness,
    LinkCut,
    Isolation,
    ClockJump,
    /// An object is damaged of whose content there is another copy.
    Rot,
    /// Standbys try to take over from leaders that live.
    Haste,
    /// Leaders die while they write, and leave torn objects.
    TornWrite,
}

const FAULTS: [Fault; 16] = [
    Fault::SessionLost,
    Fault::WorkerCrash,
    Fault::WorkerStall,
    Fault::HostDeath,
    Fault::WorkerDrain,
    Fault::WorkerStop,
    Fault::SchedulerCrash,
    Fault::SchedulerPause,
    Fault::StorageFailure,
    Fault::StorageSlowness,
    Fault::LinkCut,
    Fault::Isolation,
    Fault::ClockJump,
    Fault::Rot,
    Fault::Haste,
    Fault::TornWrite,
];

const TAKEOVER_FAULTS: [Fault; 7] = [
    Fault::SchedulerCrash,
    Fault::SessionLost,
    Fault::SchedulerPause,
    Fault::StorageSlowness,
    Fault::LinkCut,
    Fault::Isolation,
    Fault::Haste,
];

/// How long a run lasts in which old log is deleted, in microseconds: three and a half hours.
const LONG_MICROS: u64 = 12_600_000_000;

#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) faults: Vec<Fault>,
    /// One create in so many ends in an error, landed or not, and one in so many is sent twice; 0 for none.
    pub(crate) ambiguous_one_in: u64,
    pub(crate) schedulers: usize,
    /// How often a leader writes a snapshot, in microseconds.
    pub(crate) snapshot_every: u64,
    /// Slots that are left in the chunk that the log stands in, if it is an old one.
    pub(crate) slots_left: Option<u64>,
    /// Mean time between faults, in microseconds.
    pub(crate) fault_every: u64,
    /// When the last fault may happen, in microseconds.
    pub(crate) ends_at: u64,
    /// The run goes on up to there, in microseconds, though all jobs have ended.
    pub(crate) lasts_until: u64,
    /// How long a message takes, in microseconds.
    pub(crate) delay: Range<u64>,
    /// How long an append takes, in microseconds.
    pub(crate) append: Range<u64>,
    /// One in how many pairs of worker and job is impossible; 0 for none.
    pub(crate) cannot_run_one_in: u64,
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) capacity: Resources,
    /// Of the usual speed.
    pub(crate) speed_percent: u64,
}

impl Weather {
    pub(crate) fn draw(dice: &mut Dice, climate: Climate) -> Self {
        let mut faults = match dice.within(0..13) {
            0 => Vec::new(),
            1 => FAULTS.to_vec(),
            2 => vec![Fault::WorkerDrain],
            3 => vec![Fault::WorkerDrain, Fault::SchedulerCrash],
            _ => FAULTS.into_iter().filter(|_| dice.one_in(3)).collect(),
        };
        let ambiguous_one_in = if faults.iter().all(|&fault| is_gentle(fault)) {
            0
        } else {
            dice.pick(&[0, 0, 5, 30])
        };
        let usual = climate == Climate::Any;
        if !usual {
            faults = TAKEOVER_FAULTS.to_vec();
            faults.extend(dice.one_in(2).then_some(Fault::Rot));
            faults.extend(dice.one_in(2).then_some(Fault::TornWrite));
            faults.extend(dice.one_in(3).then_some(Fault::WorkerDrain));
        }
        let is_old = climate == Climate::Deletion || (usual && dice.one_in(6));
        let slots_left = is_old.then(|| dice.within(if usual { 30..300 } else { 30..80 }));
        if slots_left.is_some() && !faults.is_empty() && !faults.contains(&Fault::SchedulerPause) {
            faults.push(Fault::SchedulerPause);
        }
        let lasts_until = if slots_left.is_some() && !faults.is_empty() {
            LONG_MICROS
        } else {
            0
        };
        let slow_network = dice.one_in(4);
        let slow_storage = !usual || dice.one_in(4);
        Self {
            faults,
            ambiguous_one_in,
            schedulers: if usual { dice.pick(&[1, 2, 3, 3]) } else { 3 },
            snapshot_every: match usual {
                true => dice.pick(&[1_000_000, 5_000_000, 60_000_000]),
                false => dice.pick(&[5_000_000, 60_000_000]),
            },
            slots_left,
            lasts_until,
            fault_every: dice.pick(&[150_000, 500_000, 2_000_000]),
            ends_at: dice.within(5_000_000..20_000_000),
            delay: if slow_network { 1_000..80_000 } else { 50..500 },
            append: if slow_storage { 5_000..400_000 } else { 200..2_000 },
            cannot_run_one_in: if dice.one_in(6) { 4 } else { 0 },
            nodes: (0..dice.within(1..6)).map(|place| node(dice, place)).collect(),
        }
    }

    /// Whether the worker in a place cannot run the job of a plan.
    pub(crate) fn cannot_run(&self, place: usize, plan: usize) -> bool {
        let one_in = self.cannot_run_one_in;
        one_in > 0 && mix((place * 100 + plan) as u64).is_multiple_of(one_in)
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether nothing goes wrong at all.
    pub(crate) fn is_calm(&self) -> bool {
        self.is_gentle() && !self.has(Fault::SchedulerCrash)
    }

    /// Whether nothing goes wrong but that schedulers die, which is noticed soon.
    pub(crate) fn is_gentle(&self) -> bool {
        let gentle = self.faults.iter().all(|&fault| is_gentle(fault));
        gentle && self.ambiguous_one_in == 0 && self.cannot_run_one_in == 0
    }
}

/// Whether workers go on with what they run.
fn is_gentle(fault: Fault) -> bool {
    matches!(fault, Fault::WorkerDrain | Fault::SchedulerCrash)
}

fn node(dice: &mut Dice, place: u64) -> Node {
    let cpus = dice.within(1..7);
    let gpus = if dice.one_in(3) { 2 } else { 0 };
    Node {
        name: format!("node{place}"),
        capacity: Resources {
            cpus: cpus as u32,
            memory_bytes: cpus << 30,
            named: BTreeMap::from([("gpu".to_owned(), gpus.into())]),
        },
        speed_percent: dice.pick(&[30, 100, 100, 100, 200]),
    }
}
