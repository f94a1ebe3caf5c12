//! A program whose kernels come to grief, each in its own way: for the tests of what a worker makes of that.

use std::time::{Duration, Instant};

use phalanx::{CheckpointError, TaskContext};
use rustix::process::{Signal, getpid, kill_process};

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

/// Counts to 20 with a checkpoint at each step, and kills its own process at 12 unless it has resumed. Returns where it
/// resumed.
#[phalanx::kernel]
fn count(_: u64, context: &TaskContext) -> Result<u64, CheckpointError> {
    let resumed = context.restore::<u64>()?;
    for step in resumed.unwrap_or(0)..20 {
        if step == 12 && resumed.is_none() {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        context.checkpoint(&(step + 1))?;
    }
    Ok(resumed.unwrap_or(0))
}

/// Waits until it should save its state, and returns whether it was told to: by itself it would wait for 10 s.
#[phalanx::kernel]
fn save_when_told(_: u64, context: &TaskContext) -> Result<bool, CheckpointError> {
    let began = Instant::now();
    while !context.checkpoint_due() && !context.is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let waited = began.elapsed();
    context.checkpoint(&"saved")?;
    Ok(waited < Duration::from_secs(9) && !context.is_cancelled())
}

#[phalanx::main]
fn main() {}
