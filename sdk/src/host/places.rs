//! The places of the open job, if its tasks have cpus or gpus to themselves: which slot runs in which, which are free, and
//! which are given back because the worker wants fewer slots. There are at least as many as slots that may run.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_protocol::message::host::Place;

/// All places of the job.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The job's tasks need them.
    needed: bool,
    free: Vec<Arc<Place>>,
    /// By the number of the slot.
    used: BTreeMap<usize, Arc<Place>>,
}

impl Places {
    /// Takes in new ones.
    pub(super) fn add(&mut self, places: Vec<Place>) {
        self.needed = true;
        self.free.extend(places.into_iter().map(Arc::new));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.free.len() + self.used.len()
    }

    /// Whether a slot could run.
    pub(super) fn admit(&self, slot: usize) -> bool {
        !self.needed || self.used.contains_key(&slot) || !self.free.is_empty()
    }

    /// Where a slot runs from now on, if places are needed: where it does already, or at a free one.
    pub(super) fn enter(&mut self, slot: usize) -> Option<Arc<Place>> {
        if !self.used.contains_key(&slot) {
            self.used.insert(slot, self.free.pop()?);
        }
        self.used.get(&slot).cloned()
    }

    /// Frees the place of a slot that has stopped.
    pub(super) fn leave(&mut self, slot: usize) {
        self.free.extend(self.used.remove(&slot));
    }

    /// Gives up free ones until there are no more than `count`, as far as there are any; says which, by number.
    pub(super) fn shrink(&mut self, count: usize) -> Vec<u32> {
        let excess = self.count().saturating_sub(count);
        let kept = self.free.len().saturating_sub(excess);
        self.free.drain(kept..).map(|place| place.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(numbers: &[u32]) -> Places {
        let place = |&number: &u32| Place {
            number,
            cpus: vec![number],
            gpus: Vec::new(),
        };
        let mut places = Places::default();
        places.add(numbers.iter().map(place).collect());
        places
    }

    #[test]
    fn a_slot_stays_in_its_place_and_no_two_are_in_one() {
        let mut places = places(&[1, 2]);
        let first = places.enter(0).unwrap().number;
        let second = places.enter(1).unwrap().number;
        assert_ne!(first, second);
        assert_eq!(places.enter(0).unwrap().number, first);
        assert!(places.admit(1) && !places.admit(2));
        assert_eq!(places.enter(2), None);
        places.leave(0);
        assert_eq!(places.enter(2).unwrap().number, first);
    }

    #[test]
    fn places_in_use_are_given_up_when_their_slots_have_stopped() {
        let mut places = places(&[1, 2, 3]);
        let kept = places.enter(0).unwrap().number;
        let left = places.enter(1).unwrap().number;
        let free = 6 - kept - left;
        assert_eq!(places.shrink(1), [free]);
        assert_eq!(places.shrink(1), [0; 0]);
        places.leave(1);
        assert_eq!(places.shrink(1), [left]);
        places.leave(0);
        assert_eq!(places.shrink(1), [0; 0]);
    }

    #[test]
    fn without_places_everybody_runs() {
        let mut places = Places::default();
        assert!(places.admit(7));
        assert_eq!(places.enter(7), None);
    }
}
