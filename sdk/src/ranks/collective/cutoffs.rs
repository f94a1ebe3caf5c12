//! From which sizes on which algorithm is taken: measured with 3, 4 and 8 ranks on two cores, on one node and on pretended
//! ones.

/// Bytes from which on an all_reduce of numbers is cut into parts: below, the number of messages counts, above, the bytes that
/// each rank combines.
pub(super) const ALL_REDUCE_PARTS_BYTES_MIN: usize = 64 << 10;

/// Bytes from which on a broadcast or reduce of numbers is cut into parts. Whole ones are faster for longer, since the root
/// or the leaves need not wait for the others.
pub(super) const ROOTED_PARTS_BYTES_MIN: usize = 1 << 20;

/// Bytes of one rank's block from which on an all_gather goes round the ring.
pub(super) const RING_BYTES_MIN: usize = 16 << 10;

/// Bytes of one block up to which an all_to_all takes detours to need fewer messages.
pub(super) const DETOUR_BYTES_MAX: usize = 256;

/// Ranks up to which such detours save nothing.
pub(super) const DIRECT_RANKS_MAX: usize = 4;
