//! What goes wrong and when, drawn from a seed. Pure: the same seed gives the same schedule, whatever it does to the
//! processes.

use std::time::Duration;

/// The shortest pause between two disturbances, in milliseconds.
const PAUSE_MILLIS_MIN: u64 = 200;
/// The longest.
const PAUSE_MILLIS_MAX: u64 = 3_000;
/// How long a killed process stays away at the most, in milliseconds.
const AWAY_MILLIS_MAX: u64 = 2_500;
/// How long a process stands still or is cut off at the most, in milliseconds: longer than silence is borne.
const STILL_MILLIS_MAX: u64 = 7_000;

/// How many processes there are to disturb, and whether they can be cut off from each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets {
    pub(super) schedulers: usize,
    pub(super) workers: usize,
    /// They have networks of their own, which can be cut and slowed down.
    pub(super) have_networks: bool,
    /// And packets can be lost in them.
    pub(super) can_lose: bool,
}

/// A process, by its role and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Scheduler(usize),
    Worker(usize),
}

/// A disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// SIGKILL; it is started again after that long.
    Kill(Target, Duration),
    /// SIGSTOP, and SIGCONT after that long.
    Still(Target, Duration),
    /// SIGTERM; it is started again after that long.
    Ask(Target, Duration),
    /// SIGKILL for a kernel host of a worker.
    KillHost(usize),
    /// Nothing reaches it and nothing it says reaches anybody, for that long.
    CutOff(Target, Duration),
    /// What it says waits in line for up to some 300 ms, for that long.
    Slow(Target, Duration),
    /// That percentage of the packets to and from it is lost, for that long.
    Lossy(Target, u8, Duration),
}

/// Disturbances without end.
#[derive(Debug)]
pub(super) struct Schedule {
    /// State of a SplitMix64 generator (Steele, Lea, Flood 2014).
    random: u64,
    targets: Targets,
}

impl Schedule {
    pub(super) fn new(seed: u64, targets: Targets) -> Self {
        Self {
            random: seed,
            targets,
        }
    }

    /// The next disturbance, and the pause before it.
    pub(super) fn draw(&mut self) -> (Duration, Disturbance) {
        let pause = self.millis(PAUSE_MILLIS_MIN, PAUSE_MILLIS_MAX);
        let target = match self.below(3) {
            0 => Target::Scheduler(self.below(self.targets.schedulers as u64) as usize),
            _ => Target::Worker(self.below(self.targets.workers as u64) as usize),
        };
        let kinds = match (self.targets.have_networks, self.targets.can_lose) {
            (false, _) => 6,
            (true, false) => 8,
            (true, true) => 9,
        };
        let disturbance = match (self.below(kinds), target) {
            (0 | 1, _) => Disturbance::Kill(target, self.millis(0, AWAY_MILLIS_MAX)),
            (2 | 3, _) => Disturbance::Still(target, self.millis(50, STILL_MILLIS_MAX)),
            (4, _) => Disturbance::Ask(target, self.millis(0, AWAY_MILLIS_MAX)),
            (5, Target::Worker(worker)) => Disturbance::KillHost(worker),
            (5, Target::Scheduler(_)) => Disturbance::Kill(target, Duration::ZERO),
            (6, _) => Disturbance::CutOff(target, self.millis(50, STILL_MILLIS_MAX)),
            (7, _) => Disturbance::Slow(target, self.millis(1_000, STILL_MILLIS_MAX)),
            (_, _) => {
                let percent = 5 + self.below(30) as u8;
                Disturbance::Lossy(target, percent, self.millis(1_000, STILL_MILLIS_MAX))
            }
        };
        (pause, disturbance)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: Targets = Targets {
        schedulers: 2,
        workers: 3,
        have_networks: true,
        can_lose: true,
    };

    #[test]
    fn a_seed_is_a_schedule() {
        let draw = |seed| {
            let mut schedule = Schedule::new(seed, TARGETS);
            (0..50).map(|_| schedule.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn every_kind_of_disturbance_comes_and_networks_are_left_alone_where_there_are_none() {
        let kinds = |have_networks| {
            let targets = Targets {
                have_networks,
                ..TARGETS
            };
            let mut schedule = Schedule::new(3, targets);
            let mut seen = [0; 7];
            for _ in 0..500 {
                seen[match schedule.draw().1 {
                    Disturbance::Kill(..) => 0,
                    Disturbance::Still(..) => 1,
                    Disturbance::Ask(..) => 2,
                    Disturbance::KillHost(_) => 3,
                    Disturbance::CutOff(..) => 4,
                    Disturbance::Slow(..) => 5,
                    Disturbance::Lossy(..) => 6,
                }] += 1;
            }
            seen
        };
        assert!(kinds(true).iter().all(|&count| count > 10));
        let without = kinds(false);
        assert!(without[..4].iter().all(|&count| count > 10) && without[4..] == [0, 0, 0]);
    }
}
