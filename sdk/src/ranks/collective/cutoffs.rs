//! Which algorithm is taken for a communicator of which shape, and from which size on.
//!
//! Measured by `cargo run --release -p phalanx-benches --bin collectives -- cutoffs`, which takes each algorithm in turn and prints
//! from which size on which is the fastest: 2 to 16 ranks on one node, and on 2 to 4 hosts over QUIC with one and with several
//! ranks each (with `8x8 32x4 64x8 64x1` behind it, more). All hosts were on the loopback of one machine with two cores. What
//! counts there is therefore the work of all hosts together; where each has cores and a link of its own, ways that spread a large
//! buffer over the links, like a broadcast by scatter and ring, may win where they did not here.
//!
//! A gather and a scatter have one algorithm. Their blocks go straight to their rank, which was no slower than a binomial tree
//! for small ones and up to three times as fast for large ones, also among 64 ranks on one node and on 8 hosts. In two levels only a
//! gather of small blocks was faster, from 16 ranks on 4 hosts on, in 0.6 of the time; but which way suits a scatter only its root
//! knows, and with two ways of a gather a rank whose length differs would be waited for, where the root now notices it.
//!
//! Nobody knows the bytes of values, which only their encoding tells; where it matters, they are taken for large ones, with which a
//! wrong choice costs more.

use super::choice::{Algorithm, Shape};

/// Bytes of all ranks' copies together from which on a broadcast within a node is cut into parts: more than caches hold.
const BROADCAST_COPIES_BYTES_MIN: usize = 8 << 20;
/// Bytes from which on a reduce within a node is cut into parts, if each rank has a core to combine one.
const REDUCE_PARTS_BYTES_MIN: usize = 256 << 10;
/// Bytes from which on an all_reduce is cut into parts within a node: below, the number of messages counts, above, the bytes that
/// each rank combines.
const ALL_REDUCE_PARTS_BYTES_MIN: usize = 64 << 10;
/// Likewise between nodes of one rank each.
const ALL_REDUCE_NODES_PARTS_BYTES_MIN: usize = 256 << 10;
/// Likewise between nodes of several ranks, if they are a power of two: below, two levels need fewer messages.
const ALL_REDUCE_LEVELS_PARTS_BYTES_MIN: usize = 1 << 20;
/// Bytes of a block from which on an all_gather within a node goes round the ring.
const RING_BYTES_MIN: usize = 16 << 10;
/// Bytes of a block up to which an all_to_all between nodes takes detours to need fewer messages. Within a node they never pay.
const DETOUR_BYTES_MAX: usize = 1 << 10;
/// Ranks up to which such detours save nothing where each is on its own node.
const DIRECT_RANKS_MAX: usize = 3;
/// Bytes of a block from which on a reduce_scatter between nodes of one rank each sends each block at once to its rank.
const REDUCE_SCATTER_DIRECT_BYTES_MIN: usize = 64 << 10;

pub(super) fn barrier(shape: Shape) -> Algorithm {
    shape.levels_or(Algorithm::Doubling)
}

/// Of a buffer of so many bytes, or of a value.
pub(super) fn broadcast(shape: Shape, bytes: Option<usize>) -> Algorithm {
    let large = |bytes: usize| bytes.saturating_mul(shape.ranks) >= BROADCAST_COPIES_BYTES_MIN;
    if shape.is_one_node() && shape.ranks > 2 && bytes.is_some_and(large) {
        Algorithm::Ring
    } else {
        shape.levels_or(Algorithm::Tree)
    }
}

/// Of a buffer of so many bytes, or of a value.
pub(super) fn reduce(shape: Shape, bytes: Option<usize>) -> Algorithm {
    let in_parts = bytes.is_some_and(|bytes| bytes >= REDUCE_PARTS_BYTES_MIN);
    if shape.is_one_node() && shape.core_each && in_parts {
        Algorithm::Halving
    } else {
        shape.levels_or(Algorithm::Tree)
    }
}

/// Of a buffer of so many bytes, or of a value.
pub(super) fn all_reduce(shape: Shape, bytes: Option<usize>) -> Algorithm {
    let parts = match shape.ranks.is_power_of_two() {
        true => Algorithm::Halving,
        false => Algorithm::Ring,
    };
    let bytes_min = match shape.levels {
        true if parts == Algorithm::Ring => usize::MAX,
        true => ALL_REDUCE_LEVELS_PARTS_BYTES_MIN,
        false if shape.is_one_node() => ALL_REDUCE_PARTS_BYTES_MIN,
        false => ALL_REDUCE_NODES_PARTS_BYTES_MIN,
    };
    if bytes.is_some_and(|bytes| bytes >= bytes_min) {
        parts
    } else {
        shape.levels_or(Algorithm::Doubling)
    }
}

/// Of blocks of so many bytes, or of values.
pub(super) fn all_gather(shape: Shape, bytes: Option<usize>) -> Algorithm {
    if shape.is_one_node() && bytes.is_some_and(|bytes| bytes >= RING_BYTES_MIN) {
        Algorithm::Ring
    } else {
        shape.levels_or(Algorithm::Doubling)
    }
}

/// Of blocks of so many bytes, or of values.
pub(super) fn all_to_all(shape: Shape, bytes: Option<usize>) -> Algorithm {
    let small = bytes.is_some_and(|bytes| bytes <= DETOUR_BYTES_MAX);
    match small && !shape.is_one_node() {
        true if shape.levels || shape.ranks <= DIRECT_RANKS_MAX => shape.levels_or(Algorithm::Direct),
        true => Algorithm::Doubling,
        false => Algorithm::Direct,
    }
}

/// Of blocks of so many bytes, or of values.
pub(super) fn reduce_scatter(shape: Shape, bytes: Option<usize>) -> Algorithm {
    let small = bytes.is_some_and(|bytes| bytes < REDUCE_SCATTER_DIRECT_BYTES_MIN);
    if small && !shape.is_one_node() && shape.ranks > 2 && shape.ranks.is_power_of_two() {
        shape.levels_or(Algorithm::Halving)
    } else {
        shape.levels_or(Algorithm::Direct)
    }
}

/// Of numbers and of values.
pub(super) fn scan(shape: Shape) -> Algorithm {
    shape.levels_or(Algorithm::Doubling)
}

#[cfg(test)]
mod tests {
    use super::Algorithm::{Direct, Doubling, Halving, Levels, Ring, Tree};
    use super::*;

    fn shape(ranks: usize, nodes: usize) -> Shape {
        Shape {
            ranks,
            nodes,
            levels: (2..ranks).contains(&nodes),
            core_each: false,
        }
    }

    const LARGE: Option<usize> = Some(4 << 20);

    #[test]
    fn small_things_cross_the_network_by_one_rank_of_each_node() {
        let (small, shape) = (Some(8), shape(8, 2));
        let chosen = [
            barrier(shape),
            broadcast(shape, small),
            reduce(shape, small),
            all_reduce(shape, small),
            all_gather(shape, small),
            all_to_all(shape, small),
            reduce_scatter(shape, small),
            scan(shape),
        ];
        assert_eq!(chosen, [Levels; 8]);
    }

    #[test]
    fn large_things_go_straight_or_in_parts() {
        let chosen = |shape| {
            [
                broadcast(shape, LARGE),
                reduce(shape, LARGE),
                all_reduce(shape, LARGE),
                all_gather(shape, LARGE),
                all_to_all(shape, LARGE),
                reduce_scatter(shape, LARGE),
            ]
        };
        let one_node = [Ring, Tree, Halving, Ring, Direct, Direct];
        let one_each = [Tree, Tree, Halving, Doubling, Direct, Direct];
        let two_levels = [Levels, Levels, Halving, Levels, Direct, Levels];
        assert_eq!(
            [chosen(shape(8, 1)), chosen(shape(8, 8)), chosen(shape(8, 2))],
            [one_node, one_each, two_levels]
        );
    }

    #[test]
    fn parts_of_an_all_reduce_go_round_a_ring_if_ranks_are_no_power_of_two() {
        let chosen = [(6, 1), (6, 6), (6, 2)].map(|(ranks, nodes)| all_reduce(shape(ranks, nodes), LARGE));
        assert_eq!(chosen, [Ring, Ring, Levels]);
    }

    #[test]
    fn a_large_reduce_is_shared_by_ranks_with_cores_of_their_own() {
        let crowded = shape(4, 1);
        let free = Shape {
            core_each: true,
            ..crowded
        };
        let chosen = [reduce(free, LARGE), reduce(free, Some(8)), reduce(crowded, LARGE)];
        assert_eq!(chosen, [Halving, Tree, Tree]);
    }
}
