//! Runs seeds: `cargo run --release -p phalanx-sim -- --seeds 1000 [--first 0] [--climate any] [--steps 2000000]`, or
//! `--minutes 60` or `--seconds 20` for as many as fit into that.
#![expect(clippy::print_stdout, reason = "this program prints what it found")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use phalanx_sim::{Climate, Limits, Summary, run};

const USAGE: &str = "usage: sim [--seeds COUNT | --minutes MINUTES | --seconds SECONDS] [--first SEED] \
                     [--climate any|takeovers|deletion] [--steps EVENTS_MAX]";

/// What was asked for.
struct Wanted {
    seeds: u64,
    first: u64,
    lasts: Option<Duration>,
    limits: Limits,
}

/// What came out.
#[derive(Default)]
struct Tally {
    seeds: u64,
    elapsed: Duration,
    steps: u64,
    terms: u64,
    failed: Vec<u64>,
}

fn main() -> ExitCode {
    let Some(wanted) = wanted(std::env::args().skip(1)) else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let mut tally = Tally::default();
    let goes_on = |tally: &Tally| match wanted.lasts {
        Some(lasts) => started.elapsed() < lasts,
        None => tally.seeds < wanted.seeds,
    };
    while goes_on(&tally) {
        let seed = wanted.first + tally.seeds;
        tally.seeds += 1;
        let how = match std::panic::catch_unwind(|| run(seed, &wanted.limits)) {
            Ok(summary) => {
                tally.add(&summary);
                (summary.steps >= wanted.limits.steps_max).then_some("does not come to an end")
            }
            Err(_) => Some("failed"),
        };
        if let Some(how) = how {
            let climate = wanted.limits.climate;
            println!(
                "seed {seed} {how}; to replay it: cargo run -p phalanx-sim -- --seeds 1 --first {seed} --climate {climate}"
            );
            tally.failed.push(seed);
        }
    }
    println!(
        "{} seeds from {} on, climate {}: {:.1} simulated hours, {} events, {} leaderships, {} failed {:?}",
        tally.seeds,
        wanted.first,
        wanted.limits.climate,
        tally.elapsed.as_secs_f64() / 3600.0,
        tally.steps,
        tally.terms,
        tally.failed.len(),
        tally.failed
    );
    if tally.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Reads the arguments; `None` if they make no sense.
fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted {
        seeds: 100,
        first: 0,
        lasts: None,
        limits: Limits::default(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        let number = || value.parse::<u64>().ok();
        match name.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--minutes" => wanted.lasts = Some(Duration::from_secs(number()?.checked_mul(60)?)),
            "--seconds" => wanted.lasts = Some(Duration::from_secs(number()?)),
            "--first" => wanted.first = number()?,
            "--steps" => wanted.limits.steps_max = number()?,
            "--climate" => {
                wanted.limits.climate = Climate::ALL
                    .into_iter()
                    .find(|climate| climate.to_string() == value)?;
            }
            _ => return None,
        }
    }
    Some(wanted)
}

impl Tally {
    fn add(&mut self, summary: &Summary) {
        self.elapsed += summary.elapsed;
        self.steps += summary.steps;
        self.terms += summary.terms;
    }
}
