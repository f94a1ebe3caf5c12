//! What operations cost that all ranks do together: barrier, all_reduce and all_to_all, of 2, 4 and 8 ranks on one worker and on
//! two, processes of a cluster on loopback, in turns with the MPI libraries that are installed.
//!
//! `cargo run --release -p phalanx-benches --bin collectives`
//!
//! With `cutoffs` and names of operations behind it, each algorithm of these operations over a range of sizes, on one node and on
//! several hosts over QUIC: what the SDK's choices are made by.

mod cutoffs;

use std::error::Error;

use phalanx::ranks::{CommError, LocalGang};
use phalanx::{Cluster, Communicator};
use phalanx_benches::peers::{Peer, peers};
use phalanx_benches::{ProcessCluster, median, seconds_text, together, worker_if_asked};

/// How often all measure in turns, since a machine changes from one minute to the next.
const TURNS: usize = 3;
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
fn measure(comm: &Communicator, times_each: usize) -> Result<Vec<f64>, CommError> {
    let mut many = vec![1.0; COUNT];
    let to_all = vec![1.0; COUNT * comm.size()];
    let add = |a: f64, b: f64| a + b;
    Ok(vec![
        together(comm, times_each, Communicator::barrier)?,
        together(comm, times_each, |comm| comm.all_reduce_slice(&mut [1.0], add))?,
        together(comm, times_each, |comm| comm.all_reduce_slice(&mut many, add))?,
        together(comm, times_each, |comm| comm.all_to_all_slice(&to_all).map(drop))?,
    ])
}

#[phalanx::ranks]
fn measure_ranks(comm: &Communicator, times_each: usize) -> Result<Vec<f64>, CommError> {
    measure(comm, times_each)
}

fn on_one_worker(ranks: usize, times_each: usize) -> Vec<f64> {
    let ends = LocalGang::new(ranks).run(|comm| measure(comm, times_each));
    let of_rank_0 = ends.into_iter().next().expect("there is a rank 0");
    of_rank_0.expect("no rank panics").expect("no operation fails")
}

fn on_two_workers(cluster: &Cluster, ranks: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let gang = cluster
        .ranks::<measure_ranks>(ranks as u32, &TIMES_CROWDED)
        .nodes(2);
    Ok(gang.collect()?.into_iter().next().ok_or("there is no rank")?)
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

/// Prints medians of the turns, each of which has the seconds of each operation.
fn print_row(ranks: usize, name: &str, turns: &[Vec<f64>]) {
    print!("{ranks:>5}  {name:<16}");
    for operation in 0..OPERATIONS.len() {
        let times: Vec<f64> = turns.iter().map(|seconds| seconds[operation]).collect();
        print!(" {:>18}", seconds_text(median(&times)));
    }
    println!();
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    worker_if_asked()?;
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
    println!("{cores} cores, medians of {TURNS} turns");
    print!("ranks  {:<16}", "");
    for name in OPERATIONS {
        print!(" {name:>18}");
    }
    println!();
    for ranks in [2, 4, 8] {
        let times_each = if ranks <= cores { TIMES } else { TIMES_CROWDED };
        let members = ProcessCluster::start(2, (ranks / 2) as u32)?;
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut of_peers = vec![Vec::new(); peers.len()];
        for _ in 0..TURNS {
            one.push(on_one_worker(ranks, times_each));
            two.push(on_two_workers(&members.cluster, ranks)?);
            for (peer, turns) in peers.iter().zip(&mut of_peers) {
                match of_peer(peer, ranks, times_each) {
                    Ok(seconds) => turns.push(seconds),
                    Err(error) => eprintln!("{error}"),
                }
            }
        }
        print_row(ranks, "one worker", &one);
        print_row(ranks, "two over QUIC", &two);
        let told = peers.iter().zip(&of_peers).filter(|(_, turns)| !turns.is_empty());
        told.for_each(|(peer, turns)| print_row(ranks, peer.name, turns));
    }
    Ok(())
}
