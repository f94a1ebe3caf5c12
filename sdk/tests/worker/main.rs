//! A real worker with real kernel hosts, between a scheduler that is a listener in the test. The program is the example
//! `mishaps`.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod checkpoints;
mod limits;
mod scheduler;
