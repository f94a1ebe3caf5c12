//! Which algorithm of a collective operation is the fastest from which size on: each of them, over a range of sizes, on gangs of
//! several shapes; beside them what the operation chooses by itself.

use std::num::NonZeroUsize;
use std::time::Instant;

use phalanx::Communicator;
use phalanx::ranks::{Algorithm, CommError, LocalGang};
use phalanx_benches::{median, seconds_text};

const RUNS: usize = 5;
/// How long a run of one algorithm at one size is to take, in seconds.
const RUN_SECONDS: f64 = 0.008;
const TIMES_MIN: usize = 2;
const TIMES_MAX: usize = 500;
const SIZES: [usize; 10] = [
    8,
    64,
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
];
/// Ranks and hosts of each gang; those on one host have no network.
const SHAPES: [(usize, usize); 15] = [
    (2, 1),
    (3, 1),
    (4, 1),
    (6, 1),
    (8, 1),
    (16, 1),
    (2, 2),
    (3, 3),
    (4, 4),
    (3, 2),
    (4, 2),
    (6, 2),
    (8, 2),
    (8, 4),
    (16, 4),
];
/// How much slower than the fastest an algorithm may be before another is worth a change.
const TOLERANCE: f64 = 1.05;

/// An operation, and what there is to compare.
struct Operation {
    name: &'static str,
    algorithms: &'static [Algorithm],
    /// Bytes that a rank gives or gets at the most: those of a block, if `blocks`, as many as there are ranks.
    bytes_max: usize,
    /// Whether each rank has a block for each.
    blocks: bool,
    /// Whether all ranks wait for all others, so that many in a row take as much longer.
    waits: bool,
    act: fn(&Communicator, &mut [f64]) -> Result<(), CommError>,
}

fn add(left: f64, right: f64) -> f64 {
    left + right
}

const OPERATIONS: [Operation; 8] = {
    use Algorithm::{Direct, Doubling, Halving, Levels, Ring, Tree};
    [
        Operation {
            name: "barrier",
            algorithms: &[Doubling, Levels],
            bytes_max: 8,
            blocks: false,
            waits: true,
            act: |comm, _| comm.barrier(),
        },
        Operation {
            name: "broadcast",
            algorithms: &[Tree, Ring, Levels],
            bytes_max: 4 << 20,
            blocks: false,
            waits: false,
            act: |comm, buffer| comm.broadcast_slice(0, buffer),
        },
        Operation {
            name: "reduce",
            algorithms: &[Tree, Halving, Levels],
            bytes_max: 4 << 20,
            blocks: false,
            waits: false,
            act: |comm, buffer| comm.reduce_slice(0, buffer, add),
        },
        Operation {
            name: "all_reduce",
            algorithms: &[Doubling, Halving, Ring, Levels],
            bytes_max: 4 << 20,
            blocks: false,
            waits: true,
            act: |comm, buffer| comm.all_reduce_slice(buffer, add),
        },
        Operation {
            name: "all_gather",
            algorithms: &[Doubling, Ring, Levels],
            bytes_max: 1 << 20,
            blocks: false,
            waits: true,
            act: |comm, buffer| comm.all_gather_slice(buffer).map(drop),
        },
        Operation {
            name: "all_to_all",
            algorithms: &[Direct, Doubling, Levels],
            bytes_max: 256 << 10,
            blocks: true,
            waits: true,
            act: |comm, buffer| comm.all_to_all_slice(buffer).map(drop),
        },
        Operation {
            name: "reduce_scatter",
            algorithms: &[Direct, Halving, Levels],
            bytes_max: 256 << 10,
            blocks: true,
            waits: true,
            act: |comm, buffer| comm.reduce_scatter_slice(buffer, add).map(drop),
        },
        Operation {
            name: "scan",
            algorithms: &[Doubling, Levels],
            bytes_max: 1 << 20,
            blocks: false,
            waits: false,
            act: |comm, buffer| comm.scan_slice(buffer, add),
        },
    ]
};

/// Prints the table of each operation whose name is among `words`, or of all if there are none, on gangs of the shapes among
/// them, which look like `8x2`, or of all.
pub(crate) fn print(words: &[String]) {
    let shape = |word: &String| {
        let (ranks, hosts) = word.split_once('x')?;
        Some((ranks.parse().ok()?, hosts.parse().ok()?))
    };
    let mut shapes: Vec<(usize, usize)> = words.iter().filter_map(shape).collect();
    if shapes.is_empty() {
        shapes.extend(SHAPES);
    }
    let names: Vec<&String> = words.iter().filter(|word| shape(word).is_none()).collect();
    println!("median of {RUNS} runs each; times of rooted operations and of scan with a barrier behind each");
    for operation in &OPERATIONS {
        if names.is_empty() || names.iter().any(|name| *name == operation.name) {
            for &(ranks, hosts) in &shapes {
                print_table(operation, ranks, hosts);
            }
        }
    }
}

fn print_table(operation: &Operation, ranks: usize, hosts: usize) {
    let per_host = NonZeroUsize::new(ranks.div_ceil(hosts)).unwrap_or(NonZeroUsize::MIN);
    let gang = LocalGang::new(ranks).ranks_per_node(per_host);
    let (gang, place) = match hosts {
        1 => (gang, "one node".to_owned()),
        _ => (gang.over_quic(), format!("{hosts} hosts over QUIC")),
    };
    let has_levels = (2..ranks).contains(&hosts);
    let algorithms = operation.algorithms.iter().copied();
    let algorithms = algorithms.filter(|&algorithm| has_levels || algorithm != Algorithm::Levels);
    let algorithms: Vec<Algorithm> = algorithms.collect();
    if algorithms.len() < 2 {
        return;
    }
    let sizes: Vec<usize> = SIZES
        .into_iter()
        .filter(|&size| size <= operation.bytes_max)
        .collect();
    let ends = gang.run(|comm| measure(comm, operation, &algorithms, &sizes));
    let of_rank_0 = ends.into_iter().next().expect("there is a rank 0");
    let rows = of_rank_0.expect("no rank panics").expect("no operation fails");
    println!("\n{}, {ranks} ranks on {place}", operation.name);
    print!("{:>9}", "bytes");
    for algorithm in &algorithms {
        print!(" {:>10}", format!("{algorithm:?}"));
    }
    println!(" {:>10}", "its choice");
    let mut best: Option<usize> = None;
    for (size, row) in sizes.iter().zip(&rows) {
        print!("{size:>9}");
        for &seconds in row {
            print!(" {:>10}", seconds_text(seconds));
        }
        let row = &row[..algorithms.len()];
        let fastest = (0..row.len()).min_by(|&left, &right| row[left].total_cmp(&row[right]));
        let fastest = fastest.expect("there are algorithms");
        if best.is_none_or(|best| row[best] > row[fastest] * TOLERANCE) {
            print!("   {:?} from here", algorithms[fastest]);
            best = Some(fastest);
        }
        println!();
    }
}

/// Median seconds of each algorithm and of what is chosen without being told, by size.
fn measure(
    comm: &Communicator,
    operation: &Operation,
    algorithms: &[Algorithm],
    sizes: &[usize],
) -> Result<Vec<Vec<f64>>, CommError> {
    let algorithms: Vec<Option<Algorithm>> = algorithms.iter().copied().map(Some).chain([None]).collect();
    let mut rows = Vec::new();
    for &size in sizes {
        let blocks = if operation.blocks { comm.size() } else { 1 };
        let mut buffer = vec![1.0; size / size_of::<f64>() * blocks];
        let mut times = Vec::new();
        for &algorithm in &algorithms {
            timed(comm, operation, algorithm, &mut buffer, 1)?;
            let seconds = timed(comm, operation, algorithm, &mut buffer, TIMES_MIN)?;
            let enough = ((RUN_SECONDS / seconds) as usize).clamp(TIMES_MIN, TIMES_MAX);
            times.push(comm.broadcast(0, Some(enough))?);
        }
        let mut runs = vec![Vec::new(); algorithms.len()];
        for _ in 0..RUNS {
            for ((&algorithm, run), &times) in algorithms.iter().zip(&mut runs).zip(&times) {
                run.push(timed(comm, operation, algorithm, &mut buffer, times)?);
            }
        }
        rows.push(runs.iter().map(|run| median(run)).collect());
    }
    Ok(rows)
}

/// Seconds of one operation, of `times` in a row.
fn timed(
    comm: &Communicator,
    operation: &Operation,
    algorithm: Option<Algorithm>,
    buffer: &mut [f64],
    times: usize,
) -> Result<f64, CommError> {
    comm.barrier()?;
    let start = Instant::now();
    for _ in 0..times {
        comm.insist_on(algorithm);
        let done = (operation.act)(comm, buffer);
        comm.insist_on(None);
        done?;
        if !operation.waits {
            comm.barrier()?;
        }
    }
    Ok(start.elapsed().as_secs_f64() / times as f64)
}
