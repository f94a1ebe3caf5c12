//! Ranges of task indices and sets of them: the currency of dispatch, completion, journal, retry and display.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The indices `start..end` of a job's tasks; empty when `start >= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IndexRange {
    /// First index.
    pub start: u64,
    /// One past the last index.
    pub end: u64,
}

impl IndexRange {
    /// The range `start..end`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// How many indices it holds.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds none.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether `index` lies in it.
    pub const fn contains(self, index: u64) -> bool {
        self.start <= index && index < self.end
    }

    /// What both ranges hold.
    pub fn intersection(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }
}

impl From<std::ops::Range<u64>> for IndexRange {
    fn from(range: std::ops::Range<u64>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

impl fmt::Display for IndexRange {
    /// `7` for one index, `0-99` for several, as on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            0 => f.write_str("none"),
            1 => write!(f, "{}", self.start),
            _ => write!(f, "{}-{}", self.start, self.end - 1),
        }
    }
}

/// A set of indices, kept as disjoint ranges that do not touch. Costs grow with the number of ranges, never of indices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IndexRange>", into = "Vec<IndexRange>")]
pub struct RangeSet {
    /// start -> end
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many indices it holds.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many ranges it takes to write it down.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = IndexRange> + '_ {
        self.ranges.iter().map(|(&start, &end)| IndexRange { start, end })
    }

    /// The smallest index.
    pub fn first(&self) -> Option<u64> {
        self.ranges.keys().next().copied()
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: u64) -> bool {
        self.ranges
            .range(..=index)
            .next_back()
            .is_some_and(|(_, &end)| index < end)
    }

    /// Whether the set holds all of `range`.
    pub fn contains_range(&self, range: IndexRange) -> bool {
        range.is_empty()
            || self
                .ranges
                .range(..=range.start)
                .next_back()
                .is_some_and(|(_, &end)| range.end <= end)
    }

    /// The first range at or after `from`: what an in-order reader may take next.
    pub fn next_from(&self, from: u64) -> Option<IndexRange> {
        let before = self
            .ranges
            .range(..=from)
            .next_back()
            .filter(|&(_, &end)| end > from);
        let (&start, &end) = before.or_else(|| self.ranges.range(from..).next())?;
        Some(IndexRange {
            start: start.max(from),
            end,
        })
    }

    /// Adds a range; indices already present stay.
    pub fn insert(&mut self, range: IndexRange) {
        if range.is_empty() {
            return;
        }
        let IndexRange { mut start, mut end } = range;
        if let Some((&s, &e)) = self.ranges.range(..=start).next_back()
            && e >= start
        {
            (start, end) = (s, end.max(e));
            self.take_out(s, e);
        }
        while let Some((&s, &e)) = self.ranges.range(start..=end).next() {
            end = end.max(e);
            self.take_out(s, e);
        }
        self.ranges.insert(start, end);
        self.len += end - start;
    }

    /// Removes a range; indices not present are passed over.
    pub fn remove(&mut self, range: IndexRange) {
        if range.is_empty() {
            return;
        }
        for piece in self.pieces(range) {
            // `piece` lies within one stored range
            if let Some((&s, &e)) = self.ranges.range(..=piece.start).next_back() {
                self.take_out(s, e);
                self.put_back(s, piece.start);
                self.put_back(piece.end, e);
            }
        }
    }

    /// The parts of `range` that are in the set, in order.
    pub fn pieces(&self, range: IndexRange) -> Vec<IndexRange> {
        let before = self.ranges.range(..range.start).next_back();
        let within = self.ranges.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(within)
            .map(|(&start, &end)| IndexRange { start, end }.intersection(range))
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn gaps(&self, range: IndexRange) -> Vec<IndexRange> {
        let mut gaps = Vec::new();
        let mut start = range.start;
        for piece in self.pieces(range) {
            if piece.start > start {
                gaps.push(IndexRange {
                    start,
                    end: piece.start,
                });
            }
            start = piece.end;
        }
        if start < range.end {
            gaps.push(IndexRange {
                start,
                end: range.end,
            });
        }
        gaps
    }

    /// Takes up to `count` indices from the front, as one range.
    pub fn take_first(&mut self, count: u64) -> Option<IndexRange> {
        let (&start, &end) = self.ranges.iter().next()?;
        if count == 0 {
            return None;
        }
        let taken = IndexRange {
            start,
            end: end.min(start.saturating_add(count)),
        };
        self.take_out(start, end);
        self.put_back(taken.end, end);
        Some(taken)
    }

    fn take_out(&mut self, start: u64, end: u64) {
        self.ranges.remove(&start);
        self.len -= end - start;
    }

    fn put_back(&mut self, start: u64, end: u64) {
        if start < end {
            self.ranges.insert(start, end);
            self.len += end - start;
        }
    }
}

impl Extend<IndexRange> for RangeSet {
    fn extend<T: IntoIterator<Item = IndexRange>>(&mut self, ranges: T) {
        ranges.into_iter().for_each(|range| self.insert(range));
    }
}

impl FromIterator<IndexRange> for RangeSet {
    fn from_iter<T: IntoIterator<Item = IndexRange>>(ranges: T) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl From<IndexRange> for RangeSet {
    fn from(range: IndexRange) -> Self {
        Self::from_iter([range])
    }
}

impl From<Vec<IndexRange>> for RangeSet {
    fn from(ranges: Vec<IndexRange>) -> Self {
        Self::from_iter(ranges)
    }
}

impl From<RangeSet> for Vec<IndexRange> {
    fn from(set: RangeSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Display for RangeSet {
    /// `0-99,105`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(start: u64, end: u64) -> IndexRange {
        IndexRange { start, end }
    }

    #[test]
    fn touching_ranges_become_one() {
        let set = RangeSet::from_iter([range(0, 3), range(5, 8), range(3, 5)]);
        assert_eq!((set.range_count(), set.len()), (1, 8));
        assert_eq!(set.to_string(), "0-7");
    }

    #[test]
    fn a_billion_indices_cost_one_range() {
        let mut set = RangeSet::from(range(0, 1_000_000_000));
        assert_eq!(set.take_first(10), Some(range(0, 10)));
        set.remove(range(500, 600));
        assert_eq!((set.range_count(), set.len()), (2, 1_000_000_000 - 110));
    }

    #[test]
    fn an_inverted_range_changes_nothing() {
        let mut set = RangeSet::from(range(0, 10));
        set.insert(range(8, 3));
        set.remove(range(8, 3));
        assert_eq!(set, RangeSet::from(range(0, 10)));
        assert!(set.pieces(range(8, 3)).is_empty() && set.gaps(range(8, 3)).is_empty());
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in prop::collection::vec((0u8..4, 0u64..60, 0u64..12), 0..60)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (step, start, count) in steps {
                let piece = range(start, start + count);
                match step {
                    0 | 1 => { set.insert(piece); model.extend(start..start + count); }
                    2 => { set.remove(piece); model.retain(|&index| !piece.contains(index)); }
                    _ => {
                        let taken = set.take_first(count);
                        for index in taken.into_iter().flat_map(|taken| taken.start..taken.end) {
                            prop_assert_eq!(model.pop_first(), Some(index));
                        }
                    }
                }
                let held: Vec<u64> = set.iter().flat_map(|held| held.start..held.end).collect();
                prop_assert_eq!(&held, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len(), model.len() as u64);
                let window = range(20, 40);
                let inside: Vec<u64> = set.pieces(window).iter().flat_map(|held| held.start..held.end).collect();
                let outside: Vec<u64> = set.gaps(window).iter().flat_map(|held| held.start..held.end).collect();
                prop_assert_eq!(inside, model.range(20..40).copied().collect::<Vec<_>>());
                prop_assert_eq!(outside, (20..40).filter(|index| !model.contains(index)).collect::<Vec<_>>());
                prop_assert_eq!(set.next_from(start).map(|next| next.start), model.range(start..).next().copied());
                let mut starts = set.iter();
                let mut last = starts.next();
                for next in starts { prop_assert!(last.unwrap().end < next.start); last = Some(next); }
            }
        }
    }
}
