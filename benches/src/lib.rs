//! What the benchmarks share: medians, time of named threads, and clusters whose members are processes.
//!
//! Each benchmark is a program in `src/bin` that prints its figures as a table. They compare ratios within one run and
//! assert nothing about time: machines differ.

mod cluster;
mod figures;
pub mod peers;
pub mod wires;

pub use cluster::{MortalCluster, ProcessCluster, member_if_asked, wait_for_workers, worker_if_asked};
pub use figures::{median, percentile, seconds_of_threads, seconds_text, together};
