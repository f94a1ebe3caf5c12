//! A kernel program for the tests of the command line: one kernel for each thing that can happen to a task.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Leaves a line of a file for each thing that happens to it: what, the task, the process of its worker, and when. Takes as
/// many milliseconds as the parameters say, unless it is cancelled or let go by a file beside that one.
#[phalanx::kernel]
fn traced(number: u64, parameters: &(String, u64), context: &TaskContext) -> io::Result<u64> {
    let (path, millis) = parameters;
    trace(path, "started", number, unix_nanos())?;
    let gate = format!("{path}.go");
    let end = Instant::now() + Duration::from_millis(*millis);
    while Instant::now() < end && !context.is_cancelled() && !std::fs::exists(&gate)? {
        sleep(LOOK_INTERVAL);
    }
    let what = if context.is_cancelled() {
        "cancelled"
    } else {
        "ended"
    };
    trace(path, what, number, unix_nanos())?;
    Ok(number)
}

/// Counts to 20 with a checkpoint at each step, and stands where the parameters say, unless it has resumed. Leaves lines like
/// [`traced`], and returns how far it has counted by itself.
#[phalanx::kernel]
fn counted(
    number: u64,
    parameters: &(String, u64),
    context: &TaskContext,
) -> Result<u64, Box<dyn std::error::Error>> {
    let (path, place) = parameters;
    let resumed = context.restore::<u64>()?;
    let begin = resumed.unwrap_or(0);
    trace(path, "started", number, begin.into())?;
    for step in begin..20 {
        if step == *place && resumed.is_none() {
            trace(path, "stands", number, step.into())?;
            while !context.is_cancelled() {
                sleep(LOOK_INTERVAL);
            }
        }
        context.checkpoint(&(step + 1))?;
    }
    Ok(20 - begin)
}

/// Appends a line by a single write, which others' lines do not break up.
fn trace(path: &str, what: &str, number: u64, value: u128) -> io::Result<()> {
    let line = format!("{what} {number} {} {value}\n", parent_id());
    OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(line.as_bytes())
}

fn unix_nanos() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
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

/// As a driver it hands in a job of its own, as a user's program does, and prints its id; told `in_order`, it prints the results
/// of a longer one as they come, and at the end on stderr for how many milliseconds it waited for one at the most.
#[phalanx::main]
#[expect(clippy::print_stdout, reason = "the id is what the test asks for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::connect()?;
    if std::env::args().nth(1).as_deref() == Some("in_order") {
        return in_order(&cluster);
    }
    let job = cluster.map::<square>(0..100).submit()?;
    println!("{}", job.id());
    Ok(())
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "results and times are what the test asks for"
)]
fn in_order(cluster: &Cluster) -> Result<(), Box<dyn std::error::Error>> {
    let results = cluster.map::<slow>(0..600).parameters(&20).results()?;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for value in results {
        println!("{}", value?);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    eprintln!("{}", longest.as_millis());
    Ok(())
}
