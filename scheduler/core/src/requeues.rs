//! How often tasks of a job were requeued, and which of their runs do not count any more, by ranges.

use std::collections::BTreeMap;

use phalanx_protocol::snapshot::Requeued;
use phalanx_protocol::{GrantId, IndexRange, RangeSet, Term};

/// What a requeue leaves of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// How often it was requeued, or started before it last ended, whichever is more.
    count: u32,
    /// Runs under this grant and older ones do not count.
    last: GrantId,
}

/// How often tasks were requeued, by ranges.
#[derive(Debug, Default, Clone)]
pub(crate) struct Requeues {
    /// First index -> end and what is to be known; ranges that touch differ.
    ranges: BTreeMap<u64, (u64, Mark)>,
}

impl Requeues {
    /// Counts a requeue of tasks, whose runs up to `last` do not count from now on.
    fn add(&mut self, range: IndexRange, last: GrantId) {
        self.change(range, |mark| Mark {
            count: mark.map_or(0, |mark| mark.count).saturating_add(1),
            last,
        });
    }

    /// Counts a requeue as a record has it. Of ranks, what starts with them has a number that nothing of their gang had before.
    pub(crate) fn requeued(&mut self, are_ranks: bool, tasks: &[IndexRange], last: GrantId) {
        let count = self.most().saturating_add(1);
        for &range in tasks {
            match are_ranks {
                true => self.change(range, |_| Mark { count, last }),
                false => self.add(range, last),
            }
        }
    }

    /// Takes back what was counted for runs that never began.
    pub(crate) fn uncount(&mut self, range: IndexRange) {
        for (range, mark) in self.pieces(range) {
            let count = mark.count.saturating_sub(1);
            self.change(range, |_| Mark { count, ..mark });
        }
    }

    /// Counts at least so many starts.
    pub(crate) fn raise(&mut self, range: IndexRange, starts: u32) {
        let nobodys = GrantId {
            term: Term(0),
            number: 0,
        };
        self.change(range, |mark| Mark {
            count: mark.map_or(0, |mark| mark.count).max(starts),
            last: mark.map_or(nobodys, |mark| mark.last),
        });
    }

    fn change(&mut self, range: IndexRange, to: impl Fn(Option<Mark>) -> Mark) {
        if range.is_empty() {
            return;
        }
        let known = self.pieces(range);
        self.cut_at(range.start);
        self.cut_at(range.end);
        let mut from = range.start;
        for (piece, mark) in known {
            self.put(IndexRange::new(from, piece.start), to(None));
            self.put(piece, to(Some(mark)));
            from = piece.end;
        }
        self.put(IndexRange::new(from, range.end), to(None));
        self.join_at(range.end);
    }

    /// Sets a range, which no other one overlaps in part, and joins it to the one before.
    fn put(&mut self, range: IndexRange, mark: Mark) {
        if !range.is_empty() {
            self.ranges.insert(range.start, (range.end, mark));
            self.join_at(range.start);
        }
    }

    /// Makes two ranges of the one that goes on over an index.
    fn cut_at(&mut self, index: u64) {
        if let Some((_, (end, mark))) = self.ranges.range_mut(..index).next_back()
            && *end > index
        {
            let behind = (std::mem::replace(end, index), *mark);
            self.ranges.insert(index, behind);
        }
    }

    /// Makes one range of two that meet at an index and say the same.
    fn join_at(&mut self, index: u64) {
        let Some(&(end, mark)) = self.ranges.get(&index) else {
            return;
        };
        if let Some((_, (before, of))) = self.ranges.range_mut(..index).next_back()
            && *before == index
            && *of == mark
        {
            *before = end;
            self.ranges.remove(&index);
        }
    }

    /// The parts of a range of which something is known.
    fn pieces(&self, range: IndexRange) -> Vec<(IndexRange, Mark)> {
        let before = self.ranges.range(..range.start).next_back();
        let inside = self.ranges.range(range.start..range.end.max(range.start));
        let known = before.into_iter().chain(inside);
        let pieces =
            known.map(|(&start, &(end, mark))| (range.intersection(IndexRange { start, end }), mark));
        pieces.filter(|(piece, _)| !piece.is_empty()).collect()
    }

    /// How often a task was requeued.
    pub(crate) fn count(&self, index: u64) -> u32 {
        let known = self.ranges.range(..=index).next_back();
        let known = known.filter(|(_, (end, _))| *end > index);
        known.map_or(0, |(_, (_, mark))| mark.count)
    }

    /// How often the task was requeued that was most often.
    pub(crate) fn most(&self) -> u32 {
        let counts = self.ranges.values().map(|(_, mark)| mark.count);
        counts.max().unwrap_or(0)
    }

    /// Up to where the same is known of the tasks of a range as of its first.
    pub(crate) fn cut(&self, range: IndexRange) -> u64 {
        let before = self.ranges.range(..=range.start).next_back();
        let over = before.map(|(_, (end, _))| *end).filter(|&end| end > range.start);
        let next = self.ranges.range(range.start.saturating_add(1)..).next();
        let next = next.map_or(range.end, |(&start, _)| start);
        over.unwrap_or(next).min(range.end)
    }

    /// The parts of a range that do not count if they ran under that grant.
    pub(crate) fn void(&self, grant: GrantId, range: IndexRange) -> Vec<IndexRange> {
        if self.ranges.is_empty() {
            return Vec::new();
        }
        let void = self
            .pieces(range)
            .into_iter()
            .filter(|(_, mark)| grant <= mark.last);
        void.map(|(piece, _)| piece).collect()
    }

    /// Whether nothing of that counts if it ran under that grant.
    pub(crate) fn voids(&self, grant: GrantId, ranges: &RangeSet) -> bool {
        let void = ranges.iter().flat_map(|range| self.void(grant, range));
        void.map(IndexRange::len).sum::<u64>() == ranges.len()
    }

    /// Of how many ranges something is known.
    pub(crate) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// As a snapshot has it.
    pub(crate) fn to_snapshot(&self) -> Vec<Requeued> {
        let known = self.ranges.iter();
        let known = known.map(|(&start, &(end, Mark { count, last }))| Requeued {
            range: IndexRange { start, end },
            count,
            last,
        });
        known.collect()
    }

    /// The same, read back.
    pub(crate) fn restore(known: Vec<Requeued>) -> Self {
        let mut requeues = Self::default();
        for Requeued { range, count, last } in known {
            requeues.change(range, |_| Mark { count, last });
        }
        requeues
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(number: u64) -> GrantId {
        GrantId {
            term: Term(1),
            number,
        }
    }

    proptest! {
        #[test]
        fn ranges_say_of_each_task_what_was_said_of_it(
            steps in prop::collection::vec((0u8..3, 0u64..40, 0u64..12), 0..40)
        ) {
            let mut requeues = Requeues::default();
            let mut each = [(0_u32, 0_u64); 64];
            for (number, (kind, start, length)) in (1..).zip(steps) {
                let range = IndexRange::new(start, start + length);
                let tasks = &mut each[start as usize..(start + length) as usize];
                match kind {
                    0 => requeues.add(range, grant(number)),
                    1 => requeues.uncount(range),
                    _ => requeues.raise(range, 2),
                }
                for (count, last) in tasks {
                    match kind {
                        0 => (*count, *last) = (*count + 1, number),
                        1 => *count = count.saturating_sub(1),
                        _ => *count = (*count).max(2),
                    }
                }
                let mut ranges = requeues.ranges.iter();
                if let Some((_, mut before)) = ranges.next() {
                    for (&start, next) in ranges {
                        let apart = before.0 < start || (before.0 == start && before.1 != next.1);
                        prop_assert!(apart, "{:?}", requeues);
                        before = next;
                    }
                }
            }
            for (index, &(count, last)) in (0..).zip(&each) {
                prop_assert_eq!(requeues.count(index), count);
                for number in [last.saturating_sub(1), last, last + 1] {
                    let void = requeues.void(grant(number), IndexRange::new(index, index + 1));
                    prop_assert_eq!(!void.is_empty(), last > 0 && number <= last);
                }
                let cut = requeues.cut(IndexRange::new(index, 64)) as usize;
                prop_assert!(cut > index as usize);
                let same = |task: &(u32, u64)| task.0 == count;
                prop_assert!(each[index as usize..cut].iter().all(same));
            }
            let restored = Requeues::restore(requeues.to_snapshot());
            prop_assert_eq!(restored.ranges, requeues.ranges);
        }
    }
}
