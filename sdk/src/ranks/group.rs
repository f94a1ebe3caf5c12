//! An ordered set of a gang's ranks. A *place* is a rank's number in the whole gang, from 0; its *rank* is its number in
//! the group.

/// Who belongs to a communicator, in the order of their ranks.
#[derive(Debug)]
pub(super) struct Group {
    places: Vec<u32>,
    /// `(place, rank)`, ascending.
    by_place: Vec<(u32, u32)>,
}

impl Group {
    /// The group of these places, which are all different.
    pub(super) fn new(places: Vec<u32>) -> Self {
        let mut by_place: Vec<(u32, u32)> = (0..).zip(&places).map(|(rank, &place)| (place, rank)).collect();
        by_place.sort_unstable();
        Group { places, by_place }
    }

    pub(super) fn size(&self) -> usize {
        self.places.len()
    }

    /// Places in the order of ranks.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    pub(super) fn place(&self, rank: usize) -> Option<u32> {
        self.places.get(rank).copied()
    }

    pub(super) fn rank(&self, place: u32) -> Option<usize> {
        let found = self
            .by_place
            .binary_search_by_key(&place, |&(place, _)| place)
            .ok()?;
        Some(self.by_place[found].1 as usize)
    }
}
