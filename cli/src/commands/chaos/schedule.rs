//! What goes wrong and when, drawn from a seed. Pure: the same seed gives the same schedule, whatever it does to the
//! processes.
//!
//! Kinds are dealt like cards: none comes again before all have come, so that a short run has each of them, and those that
//! need a network come first in the first round.

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
    /// What it says is late, for that long.
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
    /// The kinds that are still to come in this round, the next one last.
    round: Vec<Kind>,
}

/// What a disturbance is, before it is said whom it meets and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Still,
    Ask,
    KillHost,
    CutOff,
    Slow,
    Lossy,
}

/// What needs no network, as often as it comes in a round.
const ANYWHERE: [Kind; 6] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Still,
    Kind::Still,
    Kind::Ask,
    Kind::KillHost,
];

impl Schedule {
    pub(super) fn new(seed: u64, targets: Targets) -> Self {
        let mut schedule = Self {
            random: seed,
            targets,
            round: Vec::new(),
        };
        let needs_network = |kind: &Kind| !ANYWHERE.contains(kind);
        let mut first = schedule.new_round();
        // stable: what was shuffled stays so
        first.sort_by_key(needs_network);
        schedule.round = first;
        schedule
    }

    /// Every kind that is possible here, shuffled (Fisher, Yates).
    fn new_round(&mut self) -> Vec<Kind> {
        let mut round = ANYWHERE.to_vec();
        if self.targets.have_networks {
            round.extend([Kind::CutOff, Kind::Slow]);
            round.extend(self.targets.can_lose.then_some(Kind::Lossy));
        }
        for end in (1..round.len()).rev() {
            let other = self.below(end as u64 + 1) as usize;
            round.swap(end, other);
        }
        round
    }

    fn next_kind(&mut self) -> Kind {
        if self.round.is_empty() {
            self.round = self.new_round();
        }
        // a round is never empty
        self.round.pop().unwrap_or(Kind::Kill)
    }

    /// The next disturbance, and the pause before it.
    pub(super) fn draw(&mut self) -> (Duration, Disturbance) {
        let pause = self.millis(PAUSE_MILLIS_MIN, PAUSE_MILLIS_MAX);
        let target = match self.below(3) {
            0 => Target::Scheduler(self.below(self.targets.schedulers as u64) as usize),
            _ => Target::Worker(self.below(self.targets.workers as u64) as usize),
        };
        let disturbance = match (self.next_kind(), target) {
            (Kind::Kill, _) => Disturbance::Kill(target, self.millis(0, AWAY_MILLIS_MAX)),
            (Kind::Still, _) => Disturbance::Still(target, self.millis(50, STILL_MILLIS_MAX)),
            (Kind::Ask, _) => Disturbance::Ask(target, self.millis(0, AWAY_MILLIS_MAX)),
            (Kind::KillHost, Target::Worker(worker)) => Disturbance::KillHost(worker),
            (Kind::KillHost, Target::Scheduler(number)) => {
                Disturbance::KillHost(number % self.targets.workers.max(1))
            }
            (Kind::CutOff, _) => Disturbance::CutOff(target, self.millis(50, STILL_MILLIS_MAX)),
            (Kind::Slow, _) => Disturbance::Slow(target, self.millis(1_000, STILL_MILLIS_MAX)),
            (Kind::Lossy, _) => {
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

    fn number(disturbance: Disturbance) -> usize {
        match disturbance {
            Disturbance::Kill(..) => 0,
            Disturbance::Still(..) => 1,
            Disturbance::Ask(..) => 2,
            Disturbance::KillHost(_) => 3,
            Disturbance::CutOff(..) => 4,
            Disturbance::Slow(..) => 5,
            Disturbance::Lossy(..) => 6,
        }
    }

    #[test]
    fn every_kind_comes_in_the_first_nine_draws_and_networks_first() {
        for seed in 0..100 {
            let mut schedule = Schedule::new(seed, TARGETS);
            let drawn: Vec<usize> = (0..9).map(|_| number(schedule.draw().1)).collect();
            let mut seen = drawn.clone();
            seen.sort_unstable();
            assert_eq!(seen, [0, 0, 1, 1, 2, 3, 4, 5, 6], "seed {seed}: {drawn:?}");
            assert!(drawn[..3].iter().all(|&kind| kind >= 4), "seed {seed}: {drawn:?}");
        }
    }

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
                seen[number(schedule.draw().1)] += 1;
            }
            seen
        };
        assert!(kinds(true).iter().all(|&count| count > 10));
        let without = kinds(false);
        assert!(without[..4].iter().all(|&count| count > 10) && without[4..] == [0, 0, 0]);
    }
}
