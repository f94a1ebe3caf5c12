//! Frames between hosts of a gang, as they come from a host that is not to be trusted.

/// Takes in frames of another host, each behind its length, with or without ranks that receive what comes.
///
/// # Panics
/// If the host that takes them does.
pub fn rank_frames(bytes: &[u8]) {
    phalanx::ranks::take_frames(bytes);
}
