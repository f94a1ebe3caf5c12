//! What a seed has the job of a plan wait for besides free slots: other jobs, somebody who releases it, its time; and how
//! many of its tasks may run at a time.

use phalanx_protocol::JobId;
use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};

use crate::dice::Dice;
use crate::driver::UNIX_START_MILLIS;

/// How a job waits for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bond {
    /// It has started, that many milliseconds ago, or is over.
    After(u64),
    AfterAny,
    AfterOk,
    AfterNotOk,
    AfterCorresponding,
}

/// What the job of a plan waits for.
#[derive(Debug)]
pub(crate) struct Waits {
    /// For the jobs of which plans, all of them submitted before.
    pub(crate) bonds: Vec<(usize, Bond)>,
    pub(crate) joined: Joined,
    /// For all of its user and name that were submitted before.
    pub(crate) alone: bool,
    /// It is submitted held.
    pub(crate) held: bool,
    /// When its user wants it held, in microseconds.
    pub(crate) hold_at: Option<u64>,
    /// From when on they want it released, in microseconds, if it is ever held.
    pub(crate) release_at: Option<u64>,
    /// They have asked for that.
    pub(crate) released: bool,
    pub(crate) begin_unix_millis: Option<u64>,
    pub(crate) slots_max: Option<u32>,
}

impl Waits {
    /// Of the plan of a number, whose job is submitted at a time in microseconds.
    pub(crate) fn draw(dice: &mut Dice, number: u64, submit_at: u64) -> Self {
        let count = match number {
            0 => 0,
            _ => dice.pick(&[0, 0, 0, 1, 2]),
        };
        let bonds = (0..count).map(|_| {
            let bond = dice.pick(&[
                Bond::After(0),
                Bond::After(1500),
                Bond::AfterAny,
                Bond::AfterOk,
                Bond::AfterNotOk,
                Bond::AfterCorresponding,
            ]);
            (dice.within(0..number) as usize, bond)
        });
        let bonds = bonds.collect();
        let held = dice.one_in(10);
        let hold_at = dice.one_in(10).then(|| submit_at + dice.within(0..4_000_000));
        let release_at = submit_at.max(hold_at.unwrap_or(0)) + dice.within(0..6_000_000);
        let begin = UNIX_START_MILLIS + dice.within(0..10_000);
        Self {
            bonds,
            joined: dice.pick(&[Joined::All, Joined::All, Joined::Any]),
            alone: dice.one_in(12),
            held,
            hold_at,
            release_at: (held || hold_at.is_some()).then_some(release_at),
            released: false,
            begin_unix_millis: dice.one_in(10).then_some(begin),
            slots_max: dice.one_in(4).then(|| dice.within(1..5) as u32),
        }
    }

    /// The same, as it is submitted; `job` says which jobs the plans have.
    pub(crate) fn dependency(&self, job: impl Fn(usize) -> JobId) -> Option<Dependency> {
        let of = |&(plan, bond): &(usize, Bond)| match (job(plan), bond) {
            (job, Bond::After(delay_millis)) => Condition::After { job, delay_millis },
            (job, Bond::AfterAny) => Condition::AfterAny(job),
            (job, Bond::AfterOk) => Condition::AfterOk(job),
            (job, Bond::AfterNotOk) => Condition::AfterNotOk(job),
            (job, Bond::AfterCorresponding) => Condition::AfterCorresponding(job),
        };
        let alone = self.alone.then_some(Condition::Singleton);
        let conditions: Vec<Condition> = self.bonds.iter().map(of).chain(alone).collect();
        (!conditions.is_empty()).then_some(Dependency {
            joined: self.joined,
            conditions,
            never: Never::Cancel,
        })
    }
}
