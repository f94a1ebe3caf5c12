//! What of a grant is not started: one atomic word, from whose front slots claim and from whose end a revoke takes.
//!
//! Both change the same word by the same compare-and-swap, so an index is started or given back, never both.

use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_protocol::limits::GRANT_TASKS_MAX;
use phalanx_protocol::range::IndexRange;

/// The unstarted rest of a grant: the positions `next..end`, counted from the grant's start.
#[derive(Debug)]
pub(super) struct Cursor {
    start: u64,
    /// `next` in the upper half, `end` in the lower.
    packed: AtomicU64,
}

impl Cursor {
    /// A cursor over all of `range`; none if it has more than [`GRANT_TASKS_MAX`] tasks.
    pub(super) fn new(range: IndexRange) -> Option<Self> {
        let len = u32::try_from(range.len()).ok()?;
        debug_assert!(u64::from(len) <= GRANT_TASKS_MAX);
        Some(Self {
            start: range.start,
            packed: AtomicU64::new(pack(0, len)),
        })
    }

    /// Claims tasks from the front, as many as `count` says when it is told how many are left.
    pub(super) fn claim(&self, count: impl Fn(u64) -> u64) -> Option<IndexRange> {
        self.change(|packed| take_front(packed, count(remaining(packed))))
    }

    /// Takes up to `count` tasks from the end; they will not be started. Empty if none are left.
    pub(super) fn revoke(&self, count: u64) -> IndexRange {
        let taken = self.change(|packed| take_back(packed, count));
        taken.unwrap_or_else(|| {
            let (_, end) = unpack(self.packed.load(Ordering::Acquire));
            IndexRange::new(self.start + u64::from(end), self.start + u64::from(end))
        })
    }

    /// How many tasks are not started.
    pub(super) fn remaining(&self) -> u64 {
        remaining(self.packed.load(Ordering::Acquire))
    }

    /// Applies `step` to the word until nobody was faster.
    fn change(&self, step: impl Fn(u64) -> Option<(u64, Positions)>) -> Option<IndexRange> {
        let mut seen = self.packed.load(Ordering::Acquire);
        loop {
            let (new, (from, to)) = step(seen)?;
            match self
                .packed
                .compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    return Some(IndexRange::new(
                        self.start + u64::from(from),
                        self.start + u64::from(to),
                    ));
                }
                Err(newer) => seen = newer,
            }
        }
    }
}

/// Positions `from..to` in a grant.
type Positions = (u32, u32);

const fn pack(next: u32, end: u32) -> u64 {
    (next as u64) << 32 | end as u64
}

const fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

const fn remaining(packed: u64) -> u64 {
    let (next, end) = unpack(packed);
    end.saturating_sub(next) as u64
}

/// The word without up to `count` (at least one) of its first positions, and these.
fn take_front(packed: u64, count: u64) -> Option<(u64, Positions)> {
    let (next, end) = unpack(packed);
    let count = bounded(packed, count.max(1))?;
    Some((pack(next + count, end), (next, next + count)))
}

/// The word without up to `count` of its last positions, and these.
fn take_back(packed: u64, count: u64) -> Option<(u64, Positions)> {
    let (next, end) = unpack(packed);
    let count = bounded(packed, count)?;
    Some((pack(next, end - count), (end - count, end)))
}

/// `count`, at most what is left; none if that is nothing.
fn bounded(packed: u64, count: u64) -> Option<u32> {
    u32::try_from(count.min(remaining(packed)))
        .ok()
        .filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// A participant that runs `claim` or `revoke` in a loop, at the grain of single atomic accesses.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Participant {
        claims: bool,
        count: u64,
        rounds: u32,
        /// What it loaded and has not yet swapped.
        seen: Option<u64>,
        taken: Vec<Positions>,
    }

    /// Visits every interleaving of the participants' loads and swaps, and checks each end.
    fn explore(word: u64, all: Vec<Participant>, len: u32, visited: &mut HashSet<(u64, Vec<Participant>)>) {
        if !visited.insert((word, all.clone())) {
            return;
        }
        let mut ended = true;
        for turn in 0..all.len() {
            let (mut word, mut all) = (word, all.clone());
            let who = &mut all[turn];
            if who.rounds == 0 {
                continue;
            }
            ended = false;
            let Some(seen) = who.seen else {
                who.seen = Some(word);
                explore(word, all, len, visited);
                continue;
            };
            match if who.claims {
                take_front(seen, who.count)
            } else {
                take_back(seen, who.count)
            } {
                None => (who.seen, who.rounds) = (None, who.rounds - 1),
                Some((new, positions)) if seen == word => {
                    word = new;
                    who.taken.push(positions);
                    (who.seen, who.rounds) = (None, who.rounds - 1);
                }
                Some(_) => who.seen = Some(word),
            }
            explore(word, all, len, visited);
        }
        if ended {
            let mut taken: Vec<u32> = all
                .iter()
                .flat_map(|who| &who.taken)
                .flat_map(|&(a, b)| a..b)
                .collect();
            let (next, end) = unpack(word);
            taken.extend(next..end);
            taken.sort_unstable();
            assert_eq!(
                taken,
                (0..len).collect::<Vec<_>>(),
                "each position is claimed, revoked or left, once"
            );
        }
    }

    #[test]
    fn no_interleaving_starts_and_gives_back_the_same_task() {
        let participant = |claims, count, rounds| Participant {
            claims,
            count,
            rounds,
            seen: None,
            taken: vec![],
        };
        let all = vec![
            participant(true, 2, 3),
            participant(true, 1, 3),
            participant(false, 2, 2),
        ];
        let mut visited = HashSet::new();
        explore(pack(0, 7), all, 7, &mut visited);
        assert!(visited.len() > 1000, "{} states", visited.len());
    }

    #[test]
    fn threads_share_a_grant_without_loss() {
        let cursor = Cursor::new(IndexRange::new(100, 60_100)).unwrap();
        let taken: Vec<IndexRange> = std::thread::scope(|scope| {
            let claimer = || std::iter::from_fn(|| cursor.claim(|left| left / 100)).collect::<Vec<_>>();
            let revoker = || (0..50).map(|_| cursor.revoke(17)).collect::<Vec<_>>();
            let threads = [scope.spawn(claimer), scope.spawn(claimer), scope.spawn(revoker)];
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        let all: BTreeSet<u64> = taken.iter().flat_map(|range| range.start..range.end).collect();
        assert_eq!(taken.iter().map(|range| range.len()).sum::<u64>(), 60_000);
        assert_eq!(
            (all.len(), all.first(), all.last()),
            (60_000, Some(&100), Some(&60_099))
        );
    }

    #[test]
    fn a_grant_may_have_as_many_tasks_as_the_limit_says() {
        let cursor = Cursor::new(IndexRange::new(5, 5 + GRANT_TASKS_MAX)).unwrap();
        assert_eq!(cursor.remaining(), GRANT_TASKS_MAX);
        assert_eq!(
            cursor.claim(|left| left),
            Some(IndexRange::new(5, 5 + GRANT_TASKS_MAX))
        );
        assert!(cursor.claim(|_| 1).is_none() && cursor.revoke(9).is_empty());
        assert!(Cursor::new(IndexRange::new(0, GRANT_TASKS_MAX + 1)).is_none());
    }

    proptest! {
        #[test]
        fn claims_come_from_the_front_and_revokes_from_the_end(
            len in 0u64..50,
            steps in prop::collection::vec((any::<bool>(), 0u64..9), 0..40),
        ) {
            let cursor = Cursor::new(IndexRange::new(3, 3 + len)).unwrap();
            let (mut next, mut end) = (3, 3 + len);
            for (claims, count) in steps {
                if claims {
                    let claimed = cursor.claim(|_| count).unwrap_or(IndexRange::new(next, next));
                    prop_assert_eq!(claimed, IndexRange::new(next, (next + count.max(1)).min(end)));
                    next = claimed.end;
                } else {
                    let revoked = cursor.revoke(count);
                    prop_assert_eq!(revoked, IndexRange::new(end - count.min(end - next), end));
                    end = revoked.start;
                }
                prop_assert_eq!(cursor.remaining(), end - next);
            }
        }
    }
}
