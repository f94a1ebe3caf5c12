//! The minimum effective task granularity, METG(50 %), of tasks that depend on each other, in the way of Task Bench (Slaughter et
//! al., 2020): in each step each rank runs a task, which needs what tasks of the step before have handed on. Its granularity is
//! the time of a step times the cores over the tasks; METG is the smallest at which half of the cores' time is work. Beside it
//! the same program on the MPI libraries that are installed.
//!
//! `cargo run --release -p phalanx-benches --bin stencil`, or with the names of patterns behind it for these alone. Two workers are
//! processes of a cluster on loopback.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use phalanx::ranks::{CommError, LocalGang};
use phalanx::{Cluster, Communicator};
use phalanx_benches::peers::{Peer, peers};
use phalanx_benches::{ProcessCluster, median, seconds_text, worker_if_asked};
use serde::{Deserialize, Serialize};

const RUNS: usize = 5;
/// How often all measure in turns, since a machine changes from one minute to the next.
const TURNS: usize = 5;
/// How long the steps of one run take together.
const RUN_SECONDS: f64 = 0.03;
const STEPS_MIN: usize = 10;
const STEPS_MAX: usize = 20_000;
/// Seconds of work in a task, descending.
const TASK_SECONDS: [f64; 11] = [1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8, 1e-8];
/// Instead of a METG.
const FAILED: f64 = f64::INFINITY;
/// Doubles that a task hands on.
const OUTPUT: usize = 2;

/// Which tasks of the step before a task needs, besides its own rank's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Pattern {
    /// Those to the left and to the right.
    Stencil,
    /// Two to each side.
    Nearest,
    /// The partner of a butterfly.
    Fft,
    /// That of the parent in a binary tree.
    Tree,
    /// That to the left.
    Sweep,
}

const PATTERNS: [(Pattern, &str); 5] = [
    (Pattern::Stencil, "stencil"),
    (Pattern::Nearest, "nearest"),
    (Pattern::Fft, "fft"),
    (Pattern::Tree, "tree"),
    (Pattern::Sweep, "sweep"),
];

impl Pattern {
    /// Whether the task of rank `to` in that step needs what rank `from` had after the step before.
    fn needs(self, step: usize, n: usize, to: usize, from: usize) -> bool {
        let distance = to.abs_diff(from);
        match self {
            _ if distance == 0 => false,
            Self::Stencil => distance == 1,
            Self::Nearest => distance <= 2,
            Self::Fft => {
                let levels = n.next_power_of_two().trailing_zeros() as usize;
                distance == 1 << (step % levels)
            }
            Self::Tree => to > 0 && from == (to - 1) / 2,
            Self::Sweep => from + 1 == to,
        }
    }
}

/// Work that takes time in proportion to its rounds.
fn work(mut state: u64, rounds: u64) -> u64 {
    for _ in 0..rounds {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    state
}

fn steps(comm: &Communicator, pattern: Pattern, n_steps: usize, rounds: u64) -> Result<u64, CommError> {
    let (n, rank) = (comm.size(), comm.rank());
    let mut state = rank as u64;
    let out = [1.0, 2.0];
    let mut input = [0.0; OUTPUT];
    for step in 0..n_steps {
        for other in (0..n).filter(|&other| pattern.needs(step, n, other, rank)) {
            // it is copied, so that nobody waits for its receipt
            comm.send_slice(other, 0, &out)?;
        }
        for other in (0..n).filter(|&other| pattern.needs(step, n, rank, other)) {
            comm.receive_into(other, 0, &mut input)?;
        }
        state = work(state, rounds);
    }
    Ok(state)
}

/// Median seconds of a step, and of its work alone, at rank 0.
fn measure(comm: &Communicator, pattern: Pattern, rounds: u64) -> Result<(f64, f64), CommError> {
    let timed = |n_steps: usize| -> Result<f64, CommError> {
        comm.barrier()?;
        let start = Instant::now();
        black_box(steps(comm, pattern, n_steps, rounds)?);
        comm.barrier()?;
        let seconds = start.elapsed().as_secs_f64();
        comm.broadcast(0, (comm.rank() == 0).then_some(seconds))
    };
    let trial = timed(STEPS_MIN)? / STEPS_MIN as f64;
    let n_steps = ((RUN_SECONDS / trial) as usize).clamp(STEPS_MIN, STEPS_MAX);
    let mut times = Vec::new();
    let mut works = Vec::new();
    for run in 0..RUNS {
        times.push(timed(n_steps)? / n_steps as f64);
        if comm.rank() == 0 {
            let start = Instant::now();
            black_box(work(run as u64, rounds * 100));
            works.push(start.elapsed().as_secs_f64() / 100.0);
        }
    }
    works.push(0.0);
    Ok((median(&times), median(&works)))
}

/// The same for tasks of all these rounds.
#[phalanx::ranks]
fn measure_all(comm: &Communicator, tasks: (Pattern, Vec<u64>)) -> Result<Vec<(f64, f64)>, CommError> {
    let (pattern, rounds) = tasks;
    rounds
        .into_iter()
        .map(|rounds| measure(comm, pattern, rounds))
        .collect()
}

/// What ranks of one process measure.
fn on_one_node(ranks: usize, pattern: Pattern, rounds: &[u64]) -> Vec<(f64, f64)> {
    let measured = |rounds: &u64| {
        let ends = LocalGang::new(ranks).run(|comm| measure(comm, pattern, *rounds));
        let of_rank_0 = ends.into_iter().next().expect("there is a rank 0");
        of_rank_0.expect("no rank panics").expect("no operation fails")
    };
    rounds.iter().map(measured).collect()
}

/// What ranks on two workers measure.
fn on_two_workers(
    cluster: &Cluster,
    ranks: usize,
    tasks: &(Pattern, Vec<u64>),
) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let gang = cluster.ranks::<measure_all>(ranks as u32, tasks).nodes(2);
    Ok(gang.collect()?.into_iter().next().ok_or("there is no rank")?)
}

/// METG(50 %) out of steps and their work, by descending work: the smallest granularity at which half of the time is work, or
/// between it and the next one, on a logarithmic scale. Not a number if there is none.
fn metg(ranks: usize, cores: usize, measured: &[(f64, f64)]) -> f64 {
    let per_task = ranks.min(cores) as f64 / ranks as f64;
    let point = |&(step, work): &(f64, f64)| {
        let granularity = step * per_task;
        (granularity, work / granularity)
    };
    let points: Vec<(f64, f64)> = measured.iter().map(point).collect();
    let Some(last) = points.iter().rposition(|&(_, efficiency)| efficiency >= 0.5) else {
        return f64::NAN;
    };
    let (longer, better) = points[last];
    match points.get(last + 1) {
        Some(&(granularity, efficiency)) => {
            let part = (better - 0.5) / (better - efficiency);
            longer * (granularity / longer).powf(part)
        }
        None => longer,
    }
}

/// As it is shown.
fn metg_text(metg: f64) -> String {
    match metg {
        FAILED => "failed".to_owned(),
        _ if metg.is_nan() => format!("> {}", seconds_text(TASK_SECONDS[0])),
        _ => seconds_text(metg),
    }
}

fn of_peer(peer: &Peer, name: &str, ranks: usize, rounds: &[u64]) -> Result<Vec<(f64, f64)>, String> {
    let mut words = vec!["pattern".to_owned(), name.to_owned()];
    words.extend(rounds.iter().map(u64::to_string));
    let lines = peer.run(ranks, &words)?;
    Ok(lines
        .iter()
        .filter_map(|line| Some((*line.first()?, *line.get(1)?)))
        .collect())
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    worker_if_asked()?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism()?.get();
    let scratch = tempfile::tempdir()?;
    let peers = peers(scratch.path());
    let start = Instant::now();
    black_box(work(1, 100_000_000));
    let rounds_per_second = 1e8 / start.elapsed().as_secs_f64();
    let rounds = TASK_SECONDS.map(|task| (task * rounds_per_second).max(1.0) as u64);
    println!("{cores} cores; METG(50 %) of a task, median of {TURNS} turns of {RUNS} runs");
    print!(
        "{:>8} {:>8} {:>12} {:>14}",
        "pattern", "ranks", "one worker", "two over QUIC"
    );
    for peer in &peers {
        print!(" {:>16}", peer.name);
    }
    println!();
    for ranks in [cores.max(2), 4 * cores] {
        let members = ProcessCluster::start(2, (ranks / 2) as u32)?;
        let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
        for (pattern, name) in PATTERNS.into_iter().filter(|(_, name)| is_wanted(name)) {
            let tasks = (pattern, rounds.to_vec());
            let mut turns = Vec::new();
            for _ in 0..TURNS {
                let mut turn = vec![
                    metg(ranks, cores, &on_one_node(ranks, pattern, &rounds)),
                    metg(ranks, cores, &on_two_workers(&members.cluster, ranks, &tasks)?),
                ];
                for peer in &peers {
                    let measured = of_peer(peer, name, ranks, &rounds);
                    turn.push(measured.map_or_else(
                        |error| {
                            eprintln!("{error}");
                            FAILED
                        },
                        |measured| metg(ranks, cores, &measured),
                    ));
                }
                turns.push(turn);
            }
            let shown = |column: usize| {
                let over_turns: Vec<f64> = turns.iter().map(|turn| turn[column]).collect();
                metg_text(median(&over_turns))
            };
            print!("{name:>8} {ranks:>8} {:>12} {:>14}", shown(0), shown(1));
            for column in 2..2 + peers.len() {
                print!(" {:>16}", shown(column));
            }
            println!();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_is_work_at_the_metg() {
        // each step costs a microsecond besides its work
        let measured = [1e-4, 1e-5, 2e-6, 5e-7, 1e-7].map(|work| (work + 1e-6, work));
        let found = metg(2, 2, &measured);
        assert!((1.8e-6..2.2e-6).contains(&found), "{found}");
        assert!(metg(2, 2, &[(1.0, 0.1)]).is_nan());
    }

    #[test]
    fn what_one_rank_needs_another_hands_on_and_nobody_needs_itself() {
        for (pattern, name) in PATTERNS {
            let needed =
                (0..3).flat_map(|step| (0..8).flat_map(move |to| (0..8).map(move |from| (step, to, from))));
            let count = needed
                .filter(|&(step, to, from)| pattern.needs(step, 8, to, from))
                .count();
            let expected = match pattern {
                Pattern::Stencil => 3 * 14,
                Pattern::Nearest => 3 * 26,
                Pattern::Fft => 14 + 12 + 8,
                Pattern::Tree | Pattern::Sweep => 3 * 7,
            };
            assert_eq!(count, expected, "{name}");
        }
    }
}
