//! The Phalanx scheduler daemon
