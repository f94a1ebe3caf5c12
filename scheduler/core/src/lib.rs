//! Phalanx's scheduling decisions as a pure state machine
