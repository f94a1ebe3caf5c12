//! How many individually described tasks per second: each has its own input, and its own result back at the client.
//!
//! `cargo run --release -p phalanx-benches --bin items`

use std::error::Error;
use std::time::Instant;

use phalanx::Cluster;
use phalanx_benches::median;
use serde::{Deserialize, Serialize};

const RUNS: usize = 5;
const ITEMS: u64 = 2_000_000;

/// What a small parameter study sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    id: u64,
    temperature: f64,
    label: String,
}

#[phalanx::kernel]
fn study(sample: Sample) -> (u64, f64) {
    (sample.id, sample.temperature * sample.label.len() as f64)
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::embedded()?;
    let label = |id: u64| format!("s{id}");
    let samples: Vec<Sample> = (0..ITEMS)
        .map(|id| Sample {
            id,
            temperature: id as f64 * 0.5,
            label: label(id),
        })
        .collect();
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let results = cluster.map_items::<study>(&samples).collect()?;
        rates.push(ITEMS as f64 / start.elapsed().as_secs_f64());
        assert_eq!(results[1000], (1000, 2500.0));
        assert_eq!(results.len() as u64, ITEMS);
    }
    println!(
        "items with input and result:  {:.0} k/s, from the call to the last result",
        median(&rates) / 1e3
    );
    Ok(())
}
