//! Gangs to test with: of several sizes, on one node and on several, pretended and over QUIC, with delays from a seed. One that
//! does not come to an end fails its test.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use phalanx::Communicator;
use phalanx::ranks::{LocalGang, RankFailure};

/// How long a gang may take: far more than any does.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Runs `body` in all ranks of that gang.
///
/// # Panics
/// If it does not come to an end. Its threads stay.
#[track_caller]
pub(crate) fn ends_of<R: Send + 'static>(
    gang: LocalGang,
    body: impl Fn(&Communicator) -> R + Send + Sync + 'static,
) -> Vec<Result<R, RankFailure>> {
    let (sender, ends) = mpsc::channel();
    std::thread::spawn(move || sender.send(gang.run(body)));
    match ends.recv_timeout(PATIENCE) {
        Ok(ends) => ends,
        Err(RecvTimeoutError::Timeout) => panic!("{gang:?} does not end"),
        Err(RecvTimeoutError::Disconnected) => panic!("{gang:?} cannot be run"),
    }
}

/// Runs `body` in all [`gangs_of`] that size, some times with other delays; what fails prints them.
///
/// # Panics
/// If a rank panics, or a gang does not come to an end.
#[track_caller]
pub(crate) fn each_gang_of<R: Send + 'static>(
    n: usize,
    body: impl Fn(&Dawdler<'_>) -> R + Send + Sync + Clone + 'static,
    check: impl Fn(Vec<R>),
) {
    for (turn, seed) in seeds().into_iter().enumerate() {
        let mut gangs = pretended_gangs(n, seed);
        // which take most of the time, to meet
        if turn == 0 {
            gangs.extend(partly_late_over_quic(n, seed));
        }
        for (gang, _) in gangs {
            let body = body.clone();
            let ends = ends_of(gang, move |comm| {
                let random = Random(seed.wrapping_mul(1000) + comm.rank() as u64).into();
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
pub(crate) fn each_gang(body: impl Fn(&Dawdler<'_>) + Send + Sync + Clone + 'static) {
    for n in SIZES {
        each_gang_of(n, body.clone(), |_| {});
    }
}

/// One that is new, and some that are the same in every run.
fn seeds() -> [u64; 5] {
    [fresh_seed(), 0, 1, 2, 3]
}

/// A seed that nobody has tried. Whatever fails with it prints it.
pub(crate) fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is not 1970").as_nanos() as u64 % 1_000_000_000
}

/// Each kind of gang of that size.
pub(crate) fn gangs_of(n: usize, seed: u64) -> Vec<LocalGang> {
    let mut gangs = pretended_gangs(n, seed);
    gangs.extend(gangs_over_quic(n));
    gangs.into_iter().map(|(gang, _)| gang).collect()
}

/// A gang on one node, one on several pretended ones, and some on such between which messages are late; each with how many ranks a
/// node of it has.
pub(crate) fn pretended_gangs(n: usize, seed: u64) -> Vec<(LocalGang, usize)> {
    let mut gangs = vec![(LocalGang::new(n), n)];
    if n > 2 {
        gangs.push(on_nodes(n, 2));
        gangs.push(late(on_nodes(n, 2), seed));
    }
    if n > 1 {
        gangs.push(late(on_nodes(n, 1), seed));
    }
    gangs
}

/// Gangs on two and three hosts that talk over QUIC, likewise.
pub(crate) fn gangs_over_quic(n: usize) -> Vec<(LocalGang, usize)> {
    let mut per_host = vec![n.div_ceil(2), n.div_ceil(3)];
    per_host.dedup();
    let gangs = per_host.into_iter().map(|ranks| on_nodes(n, ranks));
    gangs.map(|(gang, ranks)| (gang.over_quic(), ranks)).collect()
}

/// A gang on two hosts that talk over QUIC, and one on three, or on two again, to which everything comes late besides.
fn partly_late_over_quic(n: usize, seed: u64) -> Vec<(LocalGang, usize)> {
    let mut gangs = gangs_over_quic(n);
    let to_be_late = match gangs.len() {
        1 => gangs.first().copied().filter(|(_, per_host)| *per_host < n),
        _ => gangs.pop(),
    };
    gangs.extend(to_be_late.map(|gang| late(gang, seed)));
    gangs
}

fn on_nodes(n: usize, ranks: usize) -> (LocalGang, usize) {
    let per_node = NonZeroUsize::new(ranks).expect("a node has ranks");
    (LocalGang::new(n).ranks_per_node(per_node), ranks)
}

fn late((gang, ranks): (LocalGang, usize), seed: u64) -> (LocalGang, usize) {
    (gang.delayed(seed), ranks)
}
