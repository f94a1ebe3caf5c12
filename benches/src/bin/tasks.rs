//! How many tasks per second, end to end with durable progress: empty ones, and ones with an 8-byte result each that
//! arrive in order at the client. Also: what the scheduler uses meanwhile, and what submitting a job of 10^9 tasks costs.
//!
//! `cargo run --release -p phalanx-benches --bin tasks`

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use phalanx::Cluster;
use phalanx_benches::{median, seconds_of_threads, seconds_text};

const RUNS: usize = 5;
const EMPTY_TASKS: u64 = 10_000_000_000;
const VALUE_TASKS: u64 = 40_000_000;

#[phalanx::kernel]
fn empty(index: u64) {
    black_box(index);
}

#[phalanx::kernel]
fn value(index: u64) -> u64 {
    index
}

/// Counts bytes that are allocated and not freed.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::embedded()?;
    let cores: u32 = cluster.workers()?.iter().map(|worker| worker.capacity.cpus).sum();
    cluster.map::<empty>(0..1000).run()?;
    submitting(&cluster)?;
    empty_tasks(&cluster, cores)?;
    values_in_order(&cluster, cores)?;
    Ok(())
}

fn submitting(cluster: &Cluster) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    let mut grown = 0;
    for _ in 0..RUNS {
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let start = Instant::now();
        let job = cluster.map::<empty>(0..1_000_000_000).submit()?;
        times.push(start.elapsed().as_secs_f64());
        while job.view()?.outcome.is_none() {
            grown = grown.max(LIVE_BYTES.load(Ordering::Relaxed).saturating_sub(before));
        }
    }
    println!(
        "submit 10^9 tasks, durable:       {}",
        seconds_text(median(&times))
    );
    println!(
        "heap it takes, whole process:     {} KiB at most (scheduler, worker and client)",
        grown >> 10
    );
    Ok(())
}

fn empty_tasks(cluster: &Cluster, cores: u32) -> Result<(), Box<dyn Error>> {
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let busy = seconds_of_threads(&["scheduler", "journal"]);
        let start = Instant::now();
        let view = cluster.map::<empty>(0..EMPTY_TASKS).run()?;
        assert_eq!(view.done, EMPTY_TASKS);
        let wall = start.elapsed().as_secs_f64();
        rates.push(EMPTY_TASKS as f64 / wall / f64::from(cores));
        shares.push((seconds_of_threads(&["scheduler", "journal"]) - busy) / wall);
    }
    println!(
        "empty tasks per second and core:  {:.0} M on {cores} cores",
        median(&rates) / 1e6
    );
    println!(
        "scheduler and journal meanwhile:  {:.2} % of a core",
        median(&shares) * 100.0
    );
    Ok(())
}

fn values_in_order(cluster: &Cluster, cores: u32) -> Result<(), Box<dyn Error>> {
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut expected = 0;
        for result in cluster.map::<value>(0..VALUE_TASKS).results()? {
            assert_eq!(result?, expected);
            expected += 1;
        }
        assert_eq!(expected, VALUE_TASKS);
        rates.push(VALUE_TASKS as f64 / start.elapsed().as_secs_f64());
    }
    println!(
        "8-byte results in order:          {:.1} M/s at the client, {cores} cores in all",
        median(&rates) / 1e6
    );
    Ok(())
}
