//! A program whose kernels come to grief, each in its own way: for the tests of what a worker makes of that.

use std::time::{Duration, Instant};

use phalanx::TaskContext;

/// Takes the process along at the index that the parameters name.
#[phalanx::kernel]
fn abort_at(index: u64, place: &u64) -> u64 {
    if index == *place {
        std::process::abort();
    }
    index
}

/// Goes on for an hour at the index that the parameters name.
#[phalanx::kernel]
fn hang_at(index: u64, place: &u64, context: &TaskContext) -> u64 {
    let end = Instant::now() + Duration::from_secs(3600);
    while index == *place && Instant::now() < end && !context.is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    index
}

/// Uses as many bytes of memory as the parameters say, and keeps them until it is cancelled.
#[phalanx::kernel]
fn hoard(index: u64, bytes: &u64, context: &TaskContext) -> u64 {
    let hoard = vec![1_u8; *bytes as usize];
    while !context.is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    index + u64::from(hoard[0])
}

#[phalanx::main]
fn main() {}
