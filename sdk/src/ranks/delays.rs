//! By how much messages are late that are to be: random times from a seed.

use std::time::Duration;

/// Most are late by so many microseconds at the most ...
const MICROS_MAX: u64 = 60;
/// ... and of this many, one by so many.
const ONE_IN: u64 = 16;
const LONG_MICROS_MAX: u64 = 1_000;

/// The delays of a seed, one after the other.
#[derive(Debug)]
pub(super) struct Delays {
    random: u64,
}

impl Delays {
    pub(super) fn new(seed: u64) -> Self {
        Delays { random: seed }
    }

    /// A number below `limit` (SplitMix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(super) fn next(&mut self) -> Duration {
        let limit = match self.below(ONE_IN) {
            0 => LONG_MICROS_MAX,
            _ => MICROS_MAX,
        };
        Duration::from_micros(self.below(limit))
    }
}
