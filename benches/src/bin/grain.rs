//! The minimum effective task granularity (METG, Slaughter et al., 2020): efficiency against task length at fixed total
//! work. Efficiency is the time of the same loops on plain threads over the time here, in the same run.
//!
//! `cargo run --release -p phalanx-benches --bin grain`

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use phalanx::Cluster;
use phalanx_benches::{ProcessCluster, median, seconds_text, worker_if_asked};

const RUNS: usize = 5;
/// Total work of a row, in core-seconds.
const WORK_SECONDS: f64 = 1.0;
const TASK_SECONDS: [f64; 13] = [
    0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7,
];

/// Spins for a number of rounds.
#[phalanx::kernel]
fn spin(index: u64, rounds: &u64) {
    let mut state = index;
    for _ in 0..*rounds {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    worker_if_asked()?;
    let cores = std::thread::available_parallelism()?.get() as u32;
    let rounds_per_second = calibrate();
    println!("{cores} cores, {WORK_SECONDS} core-seconds a row, median of {RUNS} runs");
    {
        let one = ProcessCluster::start(1, cores)?;
        sweep("1 worker process", &one.cluster, cores, rounds_per_second)?;
    }
    if cores >= 2 {
        let two = ProcessCluster::start(2, cores / 2)?;
        sweep("2 worker processes", &two.cluster, cores, rounds_per_second)?;
    }
    Ok(())
}

fn calibrate() -> f64 {
    let rounds = 100_000_000;
    let start = Instant::now();
    spin(1, &rounds);
    rounds as f64 / start.elapsed().as_secs_f64()
}

fn sweep(title: &str, cluster: &Cluster, cores: u32, rounds_per_second: f64) -> Result<(), Box<dyn Error>> {
    println!("\n{title}\n{:>10}{:>12}{:>14}", "task", "tasks", "efficiency");
    cluster.map::<spin>(0..100).parameters(&1).run()?;
    let mut previous: Option<(f64, f64)> = None;
    let mut metg = None;
    for task in TASK_SECONDS {
        let rounds = (task * rounds_per_second).max(1.0) as u64;
        let tasks = (WORK_SECONDS / task).round() as u64;
        let mut efficiencies = Vec::new();
        for _ in 0..RUNS {
            let plain = plain_threads(tasks, rounds, cores);
            let start = Instant::now();
            cluster.map::<spin>(0..tasks).parameters(&rounds).run()?;
            efficiencies.push(plain / start.elapsed().as_secs_f64());
        }
        let efficiency = median(&efficiencies);
        println!(
            "{:>10}{tasks:>12}{:>12.1} %",
            seconds_text(task),
            efficiency * 100.0
        );
        if let Some((longer, before)) = previous
            && before >= 0.5
            && efficiency < 0.5
        {
            // between the two, on a logarithmic scale
            let part = (before - 0.5) / (before - efficiency);
            metg = Some(longer * (task / longer).powf(part));
        }
        previous = Some((task, efficiency));
    }
    match metg {
        Some(metg) => println!("METG(50 %) = {}", seconds_text(metg)),
        None => println!(
            "METG(50 %) < {}",
            seconds_text(TASK_SECONDS[TASK_SECONDS.len() - 1])
        ),
    }
    Ok(())
}

/// The same loops, split evenly between plain threads.
fn plain_threads(tasks: u64, rounds: u64, cores: u32) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for core in 0..u64::from(cores) {
            let (first, last) = (
                tasks * core / u64::from(cores),
                tasks * (core + 1) / u64::from(cores),
            );
            scope.spawn(move || (first..last).for_each(|index| spin(index, &rounds)));
        }
    });
    start.elapsed().as_secs_f64()
}
