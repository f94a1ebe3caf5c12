//! Gangs to test with: of several sizes, on one node and on several, pretended and over QUIC, with delays from a seed.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use phalanx::Communicator;
use phalanx::ranks::LocalGang;

/// Sizes at which every operation is tried.
pub(crate) const SIZES: [usize; 5] = [1, 2, 3, 5, 8];

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Lets other threads run, for some while or not at all.
    pub(crate) fn dawdle(&mut self) {
        for _ in 0..self.below(4) {
            std::thread::yield_now();
        }
    }
}

/// An affine map of numbers; to follow one by the other is associative and does not commute.
pub(crate) type Affine = [u32; 2];

pub(crate) fn then(first: Affine, second: Affine) -> Affine {
    [
        first[0].wrapping_mul(second[0]),
        second[0].wrapping_mul(first[1]).wrapping_add(second[1]),
    ]
}

/// A rank and its random numbers.
pub(crate) struct Dawdler<'a> {
    pub comm: &'a Communicator,
    random: std::cell::RefCell<Random>,
}

impl Dawdler<'_> {
    pub(crate) fn dawdle(&self) {
        self.random.borrow_mut().dawdle();
    }
}

/// Runs `body` in all [`gangs_of`] that size, some times with other delays.
///
/// # Panics
/// If a rank panics.
#[track_caller]
pub(crate) fn each_gang_of<R: Send>(
    n: usize,
    body: impl Fn(&Dawdler<'_>) -> R + Sync,
    check: impl Fn(Vec<R>),
) {
    for seed in 0..4 {
        for gang in gangs_of(n) {
            let ends = gang.run(|comm| {
                let random = Random(seed * 1000 + comm.rank() as u64).into();
                body(&Dawdler { comm, random })
            });
            let values: Vec<R> = ends
                .into_iter()
                .map(|end| end.unwrap_or_else(|failure| panic!("{gang:?}, seed {seed}: {failure}")))
                .collect();
            let checked = catch_unwind(AssertUnwindSafe(|| check(values)));
            assert!(checked.is_ok(), "{gang:?}, seed {seed}");
        }
    }
}

/// [`each_gang_of`] all sizes.
#[track_caller]
pub(crate) fn each_gang(body: impl Fn(&Dawdler<'_>) + Sync) {
    for n in SIZES {
        each_gang_of(n, &body, |_| {});
    }
}

/// A gang on one node, one on several pretended ones, and some on two and three hosts that talk over QUIC.
pub(crate) fn gangs_of(n: usize) -> Vec<LocalGang> {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let mut gangs = vec![LocalGang::new(n), LocalGang::new(n).ranks_per_node(two)];
    let per_host = [n.div_ceil(2), n.div_ceil(3)];
    let hosts = per_host.into_iter().filter_map(NonZeroUsize::new);
    gangs.extend(hosts.map(|ranks| LocalGang::new(n).ranks_per_node(ranks).over_quic()));
    gangs.dedup_by_key(|gang| format!("{gang:?}"));
    gangs
}
