//! Runs seeds: `cargo run --release -p phalanx-sim -- --seeds 1000 [--first 0] [--steps 2000000]`.
#![expect(clippy::print_stdout, reason = "this program prints what it found")]

use std::process::ExitCode;
use std::time::Duration;

use phalanx_sim::{Limits, run};

fn main() -> ExitCode {
    let (mut seeds, mut first, mut limits) = (100, 0, Limits::default());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse().ok());
        match (name.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--first", Some(number)) => first = number,
            ("--steps", Some(number)) => limits.steps_max = number,
            _ => {
                println!("usage: sim [--seeds COUNT] [--first SEED] [--steps EVENTS_MAX]");
                return ExitCode::from(2);
            }
        }
    }
    let (mut elapsed, mut steps, mut terms) = (Duration::ZERO, 0, 0);
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        match std::panic::catch_unwind(|| run(seed, &limits)) {
            Ok(summary) => {
                elapsed += summary.elapsed;
                steps += summary.steps;
                terms += summary.terms;
            }
            Err(_) => {
                println!(
                    "seed {seed} failed; to replay it: cargo run -p phalanx-sim -- --seeds 1 --first {seed}"
                );
                failed.push(seed);
            }
        }
    }
    let hours = elapsed.as_secs_f64() / 3600.0;
    println!(
        "{seeds} seeds, {hours:.1} simulated hours, {steps} events, {terms} leaderships, {} failed",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
