//! The kernel host, driven over a socket pair as a worker drives it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod commands;
mod driver;
mod grants;
mod jobs;
mod results;
