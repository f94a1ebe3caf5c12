//! The kernels that run while things go wrong. Their results are known beforehand: calling them here gives the same.

use std::thread::sleep;
use std::time::Duration;

/// Takes some milliseconds, then returns a number that is the index's alone.
#[phalanx::kernel(reduce = u64::wrapping_add)]
pub(super) fn chaos_digest(number: u64, millis: &u64) -> u64 {
    sleep(Duration::from_millis(*millis));
    digest(number)
}

/// What [`chaos_digest`] returns: SplitMix64's mixing function (Steele, Lea, Flood 2014).
pub(super) fn digest(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
