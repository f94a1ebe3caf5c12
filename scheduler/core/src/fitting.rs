//! On which workers a gang finds room: a pure choice, the same for the same offers.
//!
//! Of workers that will do, those with the least running that would have to end first, then those with the least room to
//! spare, then the first by id.

use std::collections::{BTreeMap, VecDeque};

use phalanx_protocol::WorkerId;
use phalanx_protocol::gang::Shape;

/// What a worker could give a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) worker: WorkerId,
    pub(crate) slots: u32,
    /// Tasks that still run there and have to end before.
    pub(crate) running: u32,
    /// The gang is to have ranks there by all means.
    pub(crate) is_demanded: bool,
}

/// The workers that take a gang of so many ranks, and how many each, in the order of nodes; `None` if there is no room.
pub(crate) fn fit(shape: &Shape, ranks: u64, mut rooms: Vec<Room>) -> Option<Vec<(WorkerId, u32)>> {
    rooms.retain(|room| room.slots > 0);
    match shape {
        Shape::Any => fit_any(ranks, rooms),
        Shape::Nodes(counts) => fit_nodes(counts, rooms),
    }
}

/// One worker if one has room for all, else as few as possible; in any case those that are demanded.
fn fit_any(ranks: u64, mut rooms: Vec<Room>) -> Option<Vec<(WorkerId, u32)>> {
    let ranks = u32::try_from(ranks).ok()?;
    let demanded = rooms.iter().filter(|room| room.is_demanded).count();
    if demanded == 0
        && let Some(position) = tightest(&rooms, ranks)
    {
        return Some(vec![(rooms[position].worker, ranks)]);
    }
    rooms.sort_by_key(|room| {
        (
            !room.is_demanded,
            room.running,
            u32::MAX - room.slots,
            room.worker,
        )
    });
    let mut left = ranks.checked_sub(u32::try_from(demanded).ok()?)?;
    let mut nodes = BTreeMap::new();
    for room in rooms {
        let first = u32::from(room.is_demanded);
        let more = left.min(room.slots - first);
        left -= more;
        if first + more > 0 {
            nodes.insert(room.worker, first + more);
        }
    }
    (left == 0).then(|| nodes.into_iter().collect())
}

/// A worker for each count. The largest counts choose first: whoever has room for them has room for less. Those that are
/// demanded are chosen before others.
fn fit_nodes(counts: &[u32], mut rooms: Vec<Room>) -> Option<Vec<(WorkerId, u32)>> {
    let mut largest_first = counts.to_vec();
    largest_first.sort_unstable_by_key(|&count| u32::MAX - count);
    let mut chosen: BTreeMap<u32, VecDeque<WorkerId>> = BTreeMap::new();
    for count in largest_first {
        let room = rooms.swap_remove(tightest(&rooms, count)?);
        chosen.entry(count).or_default().push_back(room.worker);
    }
    if rooms.iter().any(|room| room.is_demanded) {
        return None;
    }
    for workers in chosen.values_mut() {
        workers.make_contiguous().sort_unstable();
    }
    let mut next = |count: &u32| Some((chosen.get_mut(count)?.pop_front()?, *count));
    counts.iter().map(&mut next).collect()
}

/// The position of the best worker with room for `slots`.
fn tightest(rooms: &[Room], slots: u32) -> Option<usize> {
    let enough = rooms.iter().enumerate().filter(|(_, room)| room.slots >= slots);
    let best = enough.min_by_key(|(_, room)| (!room.is_demanded, room.running, room.slots, room.worker));
    best.map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(slots: &[u32]) -> Vec<Room> {
        let workers = (1..).zip(slots);
        let room = |(worker, &slots)| Room {
            worker: WorkerId(worker),
            slots,
            running: 0,
            is_demanded: false,
        };
        workers.map(room).collect()
    }

    fn nodes(shape: &Shape, ranks: u64, slots: &[u32]) -> Option<Vec<(u64, u32)>> {
        let nodes = fit(shape, ranks, rooms(slots))?;
        Some(
            nodes
                .into_iter()
                .map(|(worker, count)| (worker.0, count))
                .collect(),
        )
    }

    #[test]
    fn a_gang_takes_the_smallest_worker_that_is_large_enough_or_the_fewest() {
        assert_eq!(nodes(&Shape::Any, 4, &[8, 4, 6]), Some(vec![(2, 4)]));
        assert_eq!(nodes(&Shape::Any, 9, &[2, 4, 6]), Some(vec![(2, 3), (3, 6)]));
        assert_eq!(nodes(&Shape::Any, 13, &[2, 4, 6]), None);
    }

    #[test]
    fn each_count_finds_a_worker_even_if_small_ones_come_first() {
        let shape = Shape::Nodes(vec![1, 4, 1]);
        assert_eq!(nodes(&shape, 6, &[4, 1, 1]), Some(vec![(2, 1), (1, 4), (3, 1)]));
        assert_eq!(nodes(&shape, 6, &[3, 3, 3]), None);
        assert_eq!(nodes(&Shape::Nodes(vec![2, 2]), 4, &[4, 1]), None);
    }

    #[test]
    fn workers_where_less_runs_come_first() {
        let mut rooms = rooms(&[4, 4, 4]);
        rooms[0].running = 2;
        let shape = Shape::Nodes(vec![2, 2]);
        assert_eq!(
            fit(&shape, 4, rooms),
            Some(vec![(WorkerId(2), 2), (WorkerId(3), 2)])
        );
    }

    #[test]
    fn demanded_workers_have_ranks_whatever_fits_better() {
        let fitted = |shape: &Shape, ranks| {
            let mut rooms = rooms(&[4, 8, 2, 3]);
            rooms[0].is_demanded = true;
            rooms[2].is_demanded = true;
            let nodes = fit(shape, ranks, rooms)?;
            Some(
                nodes
                    .into_iter()
                    .map(|(worker, ranks)| (worker.0, ranks))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(fitted(&Shape::Any, 3), Some(vec![(1, 2), (3, 1)]));
        assert_eq!(fitted(&Shape::Any, 9), Some(vec![(1, 4), (2, 3), (3, 2)]));
        assert_eq!(fitted(&Shape::Any, 1), None);
        let nodes = |counts: &[u32]| Shape::Nodes(counts.to_vec());
        assert_eq!(fitted(&nodes(&[3, 2, 2]), 7), Some(vec![(1, 3), (3, 2), (4, 2)]));
        assert_eq!(fitted(&nodes(&[3, 3]), 6), None);
    }
}
