//! What operations cost that all ranks do together: barrier, all_reduce and all_to_all, of 2, 4 and 8 ranks on one node and on
//! two over QUIC, beside the MPI libraries that are installed.
//!
//! `cargo run --release -p phalanx-benches --bin collectives`
//!
//! With `cutoffs` and names of operations behind it, each algorithm of these operations over a range of sizes, on one node and on
//! several hosts over QUIC: what the SDK's choices are made by.

mod cutoffs;

use std::error::Error;
use std::num::NonZeroUsize;

use phalanx::ranks::{CommError, LocalGang};
use phalanx_benches::peers::{Peer, peers};
use phalanx_benches::{seconds_text, together};

const RUNS: usize = 5;
/// Of each operation in a run, with few and with many ranks for the cores.
const TIMES: usize = 1_000;
const TIMES_CROWDED: usize = 100;
/// Doubles of the larger all_reduce, and of an all_to_all for each rank.
const COUNT: usize = 1_024;
const OPERATIONS: [&str; 4] = [
    "barrier",
    "all_reduce 8 B",
    "all_reduce 8 KiB",
    "all_to_all 8 KiB",
];

/// Median seconds of each operation.
fn measure(gang: LocalGang, times_each: usize) -> Vec<f64> {
    let ends = gang.run(|comm| -> Result<Vec<f64>, CommError> {
        let mut many = vec![1.0; COUNT];
        let to_all = vec![1.0; COUNT * comm.size()];
        let add = |a: f64, b: f64| a + b;
        Ok(vec![
            together(comm, times_each, |comm| comm.barrier())?,
            together(comm, times_each, |comm| comm.all_reduce_slice(&mut [1.0], add))?,
            together(comm, times_each, |comm| comm.all_reduce_slice(&mut many, add))?,
            together(comm, times_each, |comm| comm.all_to_all_slice(&to_all).map(drop))?,
        ])
    });
    let of_rank_0 = ends.into_iter().next().expect("there is a rank 0");
    of_rank_0.expect("no rank panics").expect("no operation fails")
}

fn of_peer(peer: &Peer, ranks: usize, times_each: usize) -> Result<Vec<f64>, String> {
    let words = [
        "collectives".to_owned(),
        times_each.to_string(),
        COUNT.to_string(),
    ];
    let lines = peer.run(ranks, &words)?;
    lines
        .into_iter()
        .find(|line| line.len() == OPERATIONS.len())
        .ok_or_else(|| format!("{}: printed no figures", peer.name))
}

fn print_row(ranks: usize, name: &str, seconds: &[f64]) {
    print!("{ranks:>5}  {name:<16}");
    for &seconds in seconds {
        print!(" {:>18}", seconds_text(seconds));
    }
    println!();
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, names)) = words.split_first()
        && first == "cutoffs"
    {
        cutoffs::print(names);
        return Ok(());
    }
    let cores = std::thread::available_parallelism()?.get();
    let scratch = tempfile::tempdir()?;
    let peers = peers(scratch.path());
    println!("{cores} cores, median of {RUNS} runs");
    print!("ranks  {:<16}", "");
    for name in OPERATIONS {
        print!(" {name:>18}");
    }
    println!();
    for ranks in [2, 4, 8] {
        let times_each = if ranks <= cores { TIMES } else { TIMES_CROWDED };
        let gang = LocalGang::new(ranks);
        let half = NonZeroUsize::new(ranks / 2).unwrap_or(NonZeroUsize::MIN);
        print_row(ranks, "one node", &measure(gang, times_each));
        let two_nodes = gang.ranks_per_node(half).over_quic();
        print_row(ranks, "two over QUIC", &measure(two_nodes, TIMES_CROWDED));
        for peer in &peers {
            match of_peer(peer, ranks, times_each) {
                Ok(seconds) => print_row(ranks, peer.name, &seconds),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
    Ok(())
}
