//! The Phalanx worker agent
