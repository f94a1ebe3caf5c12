//! A kernel program for the tests of the command line: one kernel for each thing that can happen to a task.

use std::thread::sleep;
use std::time::{Duration, Instant};

use phalanx::{Cluster, TaskContext};

/// How often a slow task looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Squares; merged, it is the sum of squares.
#[phalanx::kernel(reduce = u64::wrapping_add)]
fn square(number: u64) -> u64 {
    number * number
}

/// Fails for odd numbers.
#[phalanx::kernel]
fn fail_odd(number: u64) -> Result<u64, String> {
    match number.is_multiple_of(2) {
        true => Ok(number),
        false => Err(format!("{number} is odd")),
    }
}

/// Panics at the number that the parameters name.
#[phalanx::kernel]
fn panic_at(number: u64, place: &u64) -> u64 {
    assert_ne!(number, *place, "{number} is where it panics");
    number
}

/// Kills its process at the number that the parameters name.
#[phalanx::kernel]
fn abort_at(number: u64, place: &u64) -> u64 {
    if number == *place {
        std::process::abort();
    }
    number
}

/// Fails unless the file exists that the parameters name.
#[phalanx::kernel]
fn fail_without(number: u64, path: &String) -> Result<u64, String> {
    match std::fs::exists(path) {
        Ok(true) => Ok(number),
        Ok(false) | Err(_) => Err(format!("{path} is not there")),
    }
}

/// Takes as many milliseconds as the parameters say, unless it is cancelled.
#[phalanx::kernel]
fn slow(number: u64, millis: &u64, context: &TaskContext) -> u64 {
    let end = Instant::now() + Duration::from_millis(*millis);
    while Instant::now() < end && !context.is_cancelled() {
        sleep(LOOK_INTERVAL);
    }
    number
}

/// Measures a text.
#[phalanx::kernel]
fn text(text: String) -> usize {
    text.chars().count()
}

/// Returns as many bytes as it is told to.
#[phalanx::kernel]
fn big(bytes: u64) -> Vec<u8> {
    vec![7; bytes as usize]
}

/// Returns nothing.
#[phalanx::kernel]
fn nothing(_: u64) {}

/// As a driver it hands in a job of its own, as a user's program does, and prints its id.
#[phalanx::main]
#[expect(clippy::print_stdout, reason = "the id is what the test asks for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::connect()?;
    let job = cluster.map::<square>(0..100).submit()?;
    println!("{}", job.id());
    Ok(())
}
