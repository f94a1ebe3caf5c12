//! The attribute macros of the phalanx crate
