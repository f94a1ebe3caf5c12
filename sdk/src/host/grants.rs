//! The grants of the open job that still have unstarted tasks, in the order in which they came.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use phalanx_protocol::id::GrantId;
use phalanx_protocol::message::host::{HostInputs, Place};
use phalanx_protocol::range::IndexRange;

use super::cursor::Cursor;
use super::stops::Stops;

/// Grants that may wait; a worker keeps far fewer.
pub(super) const GRANTS_MAX: usize = 1 << 16;

/// A range of tasks that this host may start.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) id: GrantId,
    pub(super) cursor: Cursor,
    pub(super) inputs: Arc<HostInputs>,
    /// How often its tasks were started before.
    pub(super) restarts: u32,
}

impl Grant {
    /// A grant of `range`; none if it has too many tasks.
    pub(super) fn new(id: GrantId, range: IndexRange, inputs: HostInputs, restarts: u32) -> Option<Self> {
        let cursor = Cursor::new(range)?;
        Some(Self {
            id,
            cursor,
            inputs: Arc::new(inputs),
            restarts,
        })
    }

    /// The same grant of a part of its tasks.
    fn part(&self, range: IndexRange) -> Option<Self> {
        Some(Self {
            id: self.id,
            cursor: Cursor::new(range)?,
            inputs: Arc::clone(&self.inputs),
            restarts: self.restarts,
        })
    }

    /// The file with the item of task `index`, and which items it holds.
    pub(super) fn file(files: &[(IndexRange, impl AsRef<Path>)], index: u64) -> Option<(IndexRange, &Path)> {
        let position = files.partition_point(|(items, _)| items.end <= index);
        let (items, path) = files.get(position)?;
        items.contains(index).then(|| (*items, path.as_ref()))
    }
}

/// Something to do for a slot.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) grant: Arc<Grant>,
    /// Tasks that are claimed already; else the slot claims from the grant.
    pub(super) claimed: Option<IndexRange>,
    /// How often tasks had been stopped when it was given out.
    pub(super) stops: u64,
    /// Where they run, if the job's tasks run in places.
    pub(super) place: Option<Arc<Place>>,
}

/// The open job's grants.
#[derive(Debug, Default)]
pub(super) struct Grants {
    queue: VecDeque<Arc<Grant>>,
    /// Parts of chunks that were claimed and not started, because the slot was wanted elsewhere or one of its tasks
    /// took far longer than those before.
    leftovers: VecDeque<(Arc<Grant>, IndexRange)>,
}

impl Grants {
    /// Adds a grant behind the others.
    pub(super) fn push(&mut self, grant: Grant) {
        self.queue.push_back(Arc::new(grant));
    }

    /// How many grants wait; those that were used up may still be among them.
    pub(super) fn count(&self) -> usize {
        self.queue.len()
    }

    /// What a slot should do next: up to `count` tasks of what was left over, else the oldest grant. Tasks were stopped
    /// `stops` times up to now.
    pub(super) fn next(&mut self, count: u64, stops: u64) -> Option<Turn> {
        if let Some((grant, range)) = self.leftovers.pop_front() {
            let middle = range.end.min(range.start.saturating_add(count.max(1)));
            if middle < range.end {
                let rest = IndexRange::new(middle, range.end);
                self.leftovers.push_front((Arc::clone(&grant), rest));
            }
            let claimed = Some(IndexRange::new(range.start, middle));
            return Some(Turn {
                grant,
                claimed,
                stops,
                place: None,
            });
        }
        while let Some(grant) = self.queue.front() {
            if grant.cursor.remaining() > 0 {
                return Some(Turn {
                    grant: Arc::clone(grant),
                    claimed: None,
                    stops,
                    place: None,
                });
            }
            self.queue.pop_front();
        }
        None
    }

    /// Takes tasks of a grant that was stopped in part out of what is not claimed; returns them.
    pub(super) fn take_stopped(&mut self, id: GrantId, stops: &Stops) -> Vec<IndexRange> {
        let mut taken = Vec::new();
        for grant in std::mem::take(&mut self.queue) {
            // nobody claims from it any more, so what is left comes as grants of its parts
            let left = (grant.id == id).then(|| grant.cursor.claim(|left| left));
            let Some(left) = left else {
                self.queue.push_back(grant);
                continue;
            };
            let (stopped, rest) = left.map(|left| stops.sift(id, left)).unwrap_or_default();
            taken.extend(stopped);
            let parts = rest.into_iter().filter_map(|range| grant.part(range));
            self.queue.extend(parts.map(Arc::new));
        }
        for (grant, range) in std::mem::take(&mut self.leftovers) {
            let (stopped, rest) = match grant.id == id {
                true => stops.sift(id, range),
                false => (Vec::new(), vec![range]),
            };
            taken.extend(stopped);
            let rest = rest.into_iter().map(|range| (Arc::clone(&grant), range));
            self.leftovers.extend(rest);
        }
        taken
    }

    /// Takes back tasks that a slot claimed and did not start.
    pub(super) fn put_back(&mut self, grant: &Arc<Grant>, range: IndexRange) {
        self.leftovers.push_back((Arc::clone(grant), range));
    }

    /// Takes out all that was taken back and that nobody has begun since.
    pub(super) fn take_leftovers(&mut self) -> impl Iterator<Item = (GrantId, IndexRange)> + use<> {
        let leftovers = std::mem::take(&mut self.leftovers).into_iter();
        leftovers.map(|(grant, range)| (grant.id, range))
    }

    /// Whether there is anything that [`Self::next`] would give out.
    pub(super) fn has_work(&self) -> bool {
        self.has_leftovers() || self.queue.iter().any(|grant| grant.cursor.remaining() > 0)
    }

    pub(super) fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }

    /// Gives back up to `count` tasks from a grant's end, as pieces of it; none if nothing is left or the grant is not here.
    pub(super) fn revoke(&mut self, id: GrantId, mut count: u64) -> Vec<IndexRange> {
        let mut taken = Vec::new();
        for part in self.queue.iter().rev().filter(|grant| grant.id == id) {
            let range = part.cursor.revoke(count);
            count -= range.len();
            taken.push(range);
        }
        for (_, range) in self
            .leftovers
            .iter_mut()
            .rev()
            .filter(|(grant, _)| grant.id == id)
        {
            let tail = IndexRange::new(range.end - range.len().min(count), range.end);
            count -= tail.len();
            range.end = tail.start;
            taken.push(tail);
        }
        self.leftovers.retain(|(_, range)| !range.is_empty());
        taken.retain(|range| !range.is_empty());
        taken
    }

    /// How many granted tasks have not started.
    pub(super) fn backlog(&self) -> u64 {
        let queued: u64 = self.queue.iter().map(|grant| grant.cursor.remaining()).sum();
        queued + self.leftovers.iter().map(|(_, range)| range.len()).sum::<u64>()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.leftovers.clear();
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::Term;

    use super::*;

    fn id(number: u64) -> GrantId {
        GrantId {
            term: Term(1),
            number,
        }
    }

    fn grants(ranges: &[IndexRange]) -> Grants {
        let mut grants = Grants::default();
        for (number, &range) in ranges.iter().enumerate() {
            let inputs = HostInputs::Index { first: 0 };
            grants.push(Grant::new(id(number as u64), range, inputs, 0).unwrap());
        }
        grants
    }

    #[test]
    fn grants_are_worked_off_in_order_and_leftovers_first() {
        let mut grants = grants(&[IndexRange::new(0, 4), IndexRange::new(10, 12)]);
        let turn = grants.next(1, 0).unwrap();
        assert_eq!((turn.grant.id, turn.claimed), (id(0), None));
        turn.grant.cursor.claim(|left| left).unwrap();
        grants.put_back(&turn.grant, IndexRange::new(1, 4));
        assert_eq!(grants.backlog(), 5);
        assert_eq!(grants.next(2, 0).unwrap().claimed, Some(IndexRange::new(1, 3)));
        assert_eq!(grants.next(2, 0).unwrap().claimed, Some(IndexRange::new(3, 4)));
        assert_eq!(grants.next(2, 0).unwrap().grant.id, id(1));
    }

    #[test]
    fn an_unknown_grant_gives_nothing_back() {
        let mut grants = grants(&[IndexRange::new(0, 4)]);
        assert_eq!(grants.revoke(id(7), 9), []);
        assert_eq!(grants.revoke(id(0), 3), [IndexRange::new(1, 4)]);
        assert_eq!(grants.backlog(), 1);
    }

    #[test]
    fn what_is_stopped_of_a_grant_is_not_given_out_and_the_rest_is_in_order() {
        let mut grants = grants(&[IndexRange::new(0, 10), IndexRange::new(20, 22)]);
        let turn = grants.next(1, 0).unwrap();
        turn.grant.cursor.claim(|_| 2).unwrap();
        grants.put_back(&turn.grant, IndexRange::new(1, 2));
        let stops = Stops::default();
        stops.stop(id(0), IndexRange::new(1, 4));
        stops.stop(id(0), IndexRange::new(7, 8));
        let taken = grants.take_stopped(id(0), &stops);
        let range = IndexRange::new;
        assert_eq!(taken, [range(2, 4), range(7, 8), range(1, 2)]);
        assert_eq!(grants.backlog(), 7);
        // the old grant, which a slot may still look at, has nothing left
        assert_eq!(turn.grant.cursor.remaining(), 0);
        let mut claim = || grants.next(9, 0).unwrap().grant.cursor.claim(|left| left);
        assert_eq!([claim(), claim()], [Some(range(4, 7)), Some(range(8, 10))]);
        assert_eq!(grants.next(9, 0).unwrap().grant.id, id(1));
    }

    #[test]
    fn a_revoke_takes_from_the_end_of_what_stops_have_cut() {
        let mut grants = grants(&[IndexRange::new(0, 10)]);
        let stops = Stops::default();
        stops.stop(id(0), IndexRange::new(4, 6));
        grants.take_stopped(id(0), &stops);
        let range = IndexRange::new;
        assert_eq!(grants.revoke(id(0), 3), [range(7, 10)]);
        assert_eq!(grants.revoke(id(0), 3), [range(6, 7), range(2, 4)]);
        assert_eq!(grants.backlog(), 2);
    }

    #[test]
    fn a_revoke_of_all_reaches_what_was_claimed_and_not_started() {
        let mut grants = grants(&[IndexRange::new(0, 10)]);
        let turn = grants.next(1, 0).unwrap();
        turn.grant.cursor.claim(|_| 4).unwrap();
        let range = IndexRange::new;
        grants.put_back(&turn.grant, range(1, 4));
        assert_eq!(grants.revoke(id(0), 8), [range(4, 10), range(2, 4)]);
        assert_eq!(grants.backlog(), 1);
        assert_eq!(grants.revoke(id(0), 8), [range(1, 2)]);
        assert!(!grants.has_leftovers());
    }

    #[test]
    fn the_file_of_an_item_is_found() {
        let files = [
            (IndexRange::new(0, 5), "a"),
            (IndexRange::new(5, 9), "b"),
            (IndexRange::new(12, 13), "c"),
        ];
        let found = |index| Grant::file(&files, index).map(|(_, path)| path.to_str().unwrap());
        assert_eq!(
            [found(4), found(5), found(10), found(12), found(13)],
            [Some("a"), Some("b"), None, Some("c"), None]
        );
    }
}
