//! What a message between two ranks of one process costs: the time one way and the bandwidth, at 1 B to 16 MiB, for numbers that
//! are moved, that are copied, and that cross to a pretended other node; then barriers, and what remains of all that where
//! ranks exceed cores.
//!
//! `cargo run --release -p phalanx-benches --bin pingpong`
//!
//! With `quic` behind it, between two workers, processes of a cluster on loopback: beside a bare QUIC connection and TCP, and what
//! collective operations cost there. MPI libraries that are installed do the same in turns with ours; a ratio is the median of ours to
//! theirs.

use std::error::Error;
use std::num::NonZeroUsize;

use phalanx::ranks::{CommError, LocalGang, RankFailure};
use phalanx::{Cluster, Communicator};
use phalanx_benches::peers::peers;
use phalanx_benches::wires::{Turns, quic_one_way, tcp_one_way};
use phalanx_benches::{ProcessCluster, median, seconds_text, together, worker_if_asked};
use serde::{Deserialize, Serialize};

const RUNS: usize = 5;
const SIZES: [usize; 9] = [
    1,
    8,
    64,
    1 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    4 << 20,
    16 << 20,
];
/// How often all take their turn at a size.
const ROUNDS: usize = 9;
/// Bytes that one run sends at the most, if that is enough for [`TURNS_MIN`] turns.
const RUN_BYTES_MAX: usize = 1 << 28;
const TURNS_MIN: usize = 8;
const TURNS_MAX: usize = 20_000;
const BARRIERS: usize = 5_000;
/// Most ranks on two workers.
const RANKS_MAX: u32 = 16;
/// How many times less is done over QUIC.
const QUIC_PART: usize = 10;

/// How the bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Moved,
    Copied,
}

/// One turn: there and back.
fn turn(comm: &Communicator, way: Way, bytes: &mut Vec<u8>) -> Result<(), CommError> {
    let other = 1 - comm.rank();
    let first = comm.rank() == 0;
    match way {
        Way::Moved => {
            if first {
                comm.send_vec(other, 0, std::mem::take(bytes))?;
                *bytes = comm.receive_vec(other, 0)?.0;
            } else {
                let bytes = comm.receive_vec::<u8>(other, 0)?.0;
                comm.send_vec(other, 0, bytes)?;
            }
        }
        Way::Copied => {
            if first {
                comm.send_slice(other, 0, bytes)?;
                comm.receive_into(other, 0, bytes)?;
            } else {
                comm.receive_into(other, 0, bytes)?;
                comm.send_slice(other, 0, bytes)?;
            }
        }
    }
    Ok(())
}

/// The median time of a message one way, in seconds, between two ranks of this process.
fn one_way(gang: LocalGang, way: Way, size: usize) -> f64 {
    first(gang.run(|comm| turns(comm, way, size, turns_of(size))))
}

/// Turns of one run.
fn turns_of(size: usize) -> usize {
    (RUN_BYTES_MAX / size / 2).clamp(TURNS_MIN, TURNS_MAX)
}

fn turns_over_quic(size: usize) -> usize {
    (turns_of(size) / QUIC_PART).max(TURNS_MIN)
}

/// The median time of a message one way, in seconds, between the two ranks of `comm`.
fn turns(comm: &Communicator, way: Way, size: usize, turns: usize) -> Result<f64, CommError> {
    let mut bytes = vec![1; size];
    let both_ways = together(comm, turns, |comm| turn(comm, way, &mut bytes))?;
    assert!(comm.rank() != 0 || bytes == vec![1; size]);
    Ok(both_ways / 2.0)
}

/// What ranks on two workers are to measure.
#[derive(Serialize, Deserialize)]
enum Figure {
    OneWay { size: usize, turns: usize },
    Barrier,
    AllReduce { numbers: usize, times: usize },
    Broadcast { numbers: usize },
}

#[phalanx::ranks]
fn measure(comm: &Communicator, figure: Figure) -> Result<f64, CommError> {
    match figure {
        Figure::OneWay { size, turns: n } => turns(comm, Way::Moved, size, n),
        Figure::Barrier => together(comm, BARRIERS / QUIC_PART, Communicator::barrier),
        Figure::AllReduce { numbers, times } => together(comm, times, |comm| {
            comm.all_reduce_slice(&mut vec![1.0; numbers], |a, b| a + b)
        }),
        Figure::Broadcast { numbers } => together(comm, TURNS_MIN, |comm| {
            comm.broadcast_slice(0, &mut vec![1.0; numbers])
        }),
    }
}

/// What `ranks` ranks on two workers measure.
fn on_two_workers(cluster: &Cluster, ranks: u32, figure: &Figure) -> Result<f64, Box<dyn Error>> {
    let measured = cluster.ranks::<measure>(ranks, figure).nodes(2).collect()?;
    Ok(measured.first().copied().ok_or("there is no rank")?)
}

/// What rank 0 measured.
///
/// # Panics
/// If a rank failed.
fn first(ends: Vec<Result<Result<f64, CommError>, RankFailure>>) -> f64 {
    let times: Vec<f64> = ends
        .into_iter()
        .map(|end| end.expect("no rank panics").expect("no operation fails"))
        .collect();
    times[0]
}

/// Tells the ring's neighbours a number each: a step of a 1-D stencil.
fn exchange_with_neighbours(comm: &Communicator) -> Result<(), CommError> {
    let (n, rank) = (comm.size(), comm.rank());
    let (left, right) = ((rank + n - 1) % n, (rank + 1) % n);
    let mut halo = [0.0];
    comm.send_slice(left, 0, &[1.0])?;
    comm.send_slice(right, 1, &[1.0])?;
    comm.receive_into(right, 0, &mut halo)?;
    comm.receive_into(left, 1, &mut halo)?;
    Ok(())
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    worker_if_asked()?;
    match std::env::args().nth(1).as_deref() {
        Some("quic") => over_quic(),
        Some(_) | None => {
            in_one_process();
            beside_peers(|_| true, |size| Ok(one_way(LocalGang::new(2), Way::Copied, size)))
        }
    }
}

/// Messages and collective operations between two workers.
fn over_quic() -> Result<(), Box<dyn Error>> {
    let members = ProcessCluster::start(2, RANKS_MAX / 2)?;
    let on_two = |ranks: u32, figure: Figure| on_two_workers(&members.cluster, ranks, &figure);
    println!(
        "two workers, one way:  ranks                     bare QUIC   ratio            TCP              ratio"
    );
    for size in SIZES {
        let turns = turns_over_quic(size);
        let ours = on_two(2, Figure::OneWay { size, turns })?;
        let bare = Turns { runs: RUNS, turns };
        let (quic, tcp) = (quic_one_way(size, bare), tcp_one_way(size, bare));
        let bandwidth = |seconds: f64| format!("{:.2} GB/s", size as f64 / seconds / 1e9);
        println!(
            "{size:>9} B       {:>10} {:>11}    {:>10} {:>11}   {:>5.2}     {:>10} {:>11}   {:>5.2}",
            seconds_text(ours),
            bandwidth(ours),
            seconds_text(quic),
            bandwidth(quic),
            ours / quic,
            seconds_text(tcp),
            bandwidth(tcp),
            ours / tcp,
        );
    }
    println!();
    println!(
        "ranks on two workers    barrier    all_reduce of 1 number    of 8 KiB     of 1 MiB    broadcast of 1 MiB"
    );
    for n in [2, 4, 8, RANKS_MAX] {
        let all_reduce = |numbers, times| on_two(n, Figure::AllReduce { numbers, times });
        let numbers = 128 << 10;
        println!(
            "{n:>20}   {:>8}    {:>22}  {:>10}   {:>10}    {:>18}",
            seconds_text(on_two(n, Figure::Barrier)?),
            seconds_text(all_reduce(1, BARRIERS / QUIC_PART)?),
            seconds_text(all_reduce(1 << 10, BARRIERS / QUIC_PART)?),
            seconds_text(all_reduce(numbers, TURNS_MIN)?),
            seconds_text(on_two(n, Figure::Broadcast { numbers })?),
        );
    }
    beside_peers(
        |peer| peer.contains("TCP"),
        |size| {
            let turns = turns_over_quic(size);
            on_two(2, Figure::OneWay { size, turns })
        },
    )
}

/// What all measure in turns, since a machine changes from one minute to the next: medians of the rounds, by size.
fn beside_peers(
    which: impl Fn(&str) -> bool,
    mut ours: impl FnMut(usize) -> Result<f64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let mut peers = peers(scratch.path());
    peers.retain(|peer| which(peer.name));
    let words = |size: usize| {
        [
            "pingpong".to_owned(),
            size.to_string(),
            turns_of(size).to_string(),
        ]
    };
    peers.retain(|peer| {
        let tried = peer.run(2, &words(1));
        tried.inspect_err(|error| eprintln!("{error}")).is_ok()
    });
    println!();
    print!("two ranks, one way, in turns:    Phalanx");
    for peer in &peers {
        print!("{:>16}   ratio", peer.name);
    }
    println!();
    for size in SIZES {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let mut round = vec![ours(size)?];
            for peer in &peers {
                let times = peer.run(2, &words(size))?.into_iter().flatten().next();
                round.push(times.ok_or("a peer gave no time")?);
            }
            rounds.push(round);
        }
        let over_rounds =
            |of: &dyn Fn(&[f64]) -> f64| median(&rounds.iter().map(|round| of(round)).collect::<Vec<f64>>());
        let time = |column: usize| seconds_text(over_rounds(&|round| round[column]));
        print!("{size:>9} B                    {:>10}", time(0));
        for column in 1..=peers.len() {
            let ratio = over_rounds(&|round| round[0] / round[column]);
            print!("{:>16}   {ratio:>5.2}", time(column));
        }
        println!();
    }
    Ok(())
}

fn in_one_process() {
    let one_node = LocalGang::new(2);
    let two_nodes = one_node.ranks_per_node(NonZeroUsize::MIN);
    println!("two ranks, one way:  moved            copied                        encoded for another node");
    for size in SIZES {
        let [moved, copied, encoded] = [
            (one_node, Way::Moved),
            (one_node, Way::Copied),
            (two_nodes, Way::Copied),
        ]
        .map(|(gang, way)| one_way(gang, way, size));
        let bandwidth = |seconds: f64| format!("{:.1} GB/s", size as f64 / seconds / 1e9);
        println!(
            "{size:>9} B          {:>10}       {:>10} {:>11}       {:>10} {:>11}",
            seconds_text(moved),
            seconds_text(copied),
            bandwidth(copied),
            seconds_text(encoded),
            bandwidth(encoded),
        );
    }
    println!();
    println!("ranks      barrier    all_reduce of a number    neighbours of a ring exchange a number");
    for n in [2, 4, 8, 16] {
        let all_reduce = |comm: &Communicator| comm.all_reduce_slice(&mut [1.0], |a, b| a + b);
        let gang = LocalGang::new(n);
        println!(
            "{n:>5}   {:>10}    {:>22}    {:>38}",
            seconds_text(first(gang.run(|comm| together(
                comm,
                BARRIERS,
                Communicator::barrier
            )))),
            seconds_text(first(gang.run(|comm| together(comm, BARRIERS, all_reduce)))),
            seconds_text(first(gang.run(|comm| together(
                comm,
                BARRIERS,
                exchange_with_neighbours
            )))),
        );
    }
}
