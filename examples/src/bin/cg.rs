//! Solves a system of linear equations by conjugate gradients, on a grid that is spread over ranks in slabs.
//!
//! The matrix is that of the HPCG benchmark: each point has 26 on the diagonal and -1 for each of its neighbours in the cube
//! of 27 points around it. It is never stored. The right side is chosen so that the solution is 1 everywhere. Each step
//! multiplies by the matrix once, for which a rank needs the planes next to its slab; while they travel it does the planes
//! inside. Two numbers for each step are summed over all ranks, those of lower ranks first: another number of ranks adds in
//! another grouping, so residuals agree up to rounding and not in every bit.
//!
//! The matrix stretches any vector by its smallest eigenvalue at least, which is known; so what the solution is off by is at
//! most its residual divided by that. Who is further off has multiplied by another matrix.
//!
//! ```text
//! $ cargo run --release --bin cg -- --ranks 4 --nodes 2
//! iteration   residual
//!         0      1.0e0
//!        50     1.7e-2
//!       100     6.8e-4
//!       150     5.2e-7
//!       200    2.3e-10
//! 204 iterations, residual 9.2e-11
//! at most 6.3e-10 from the exact solution, bound 1.6e-5: verified
//! ```

use std::error::Error;
use std::f64::consts::PI;
use std::ops::Range;
use std::time::Instant;

use clap::Parser;
use phalanx::ranks::CommError;
use phalanx::{Cluster, Communicator, EmbeddedOptions};
use serde::{Deserialize, Serialize};

/// Solve linear equations on a grid by conjugate gradients.
///
/// Shows isend and ireceive of planes between neighbours while both compute, and all_reduce for dot products.
#[derive(Parser)]
#[command(after_help = "Example, three ranks on two nodes: cg --nx 48 --ny 48 --nz 48 --ranks 3 --nodes 2")]
struct Options {
    /// Ranks, of one cpu each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    ranks: u32,
    /// Nodes to spread them over; as few as have room unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: Option<u32>,
    #[command(flatten)]
    input: Input,
}

/// What all ranks are given.
#[derive(clap::Args, Debug, Clone, Serialize, Deserialize)]
struct Input {
    /// Points along x
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1024))]
    nx: u32,
    /// Points along y
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1024))]
    ny: u32,
    /// Points along z; each rank has some of these planes
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1024))]
    nz: u32,
    /// Iterations after which to give up
    #[arg(long, default_value_t = 1000)]
    iterations: u32,
    /// Iterations from one residual that is printed to the next
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
}

/// What every rank returns.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Iterations, and the relative residual after them.
    history: Vec<(u32, f64)>,
    iterations: u32,
    /// The relative residual of the solution.
    residual: f64,
    /// The largest distance from the exact solution.
    error: f64,
    /// How large it may be.
    bound: f64,
    seconds: f64,
}

/// Operations of an iteration at each point, as they are done: 12 for the matrix, which takes three sums one after the other
/// rather than 27 products, 4 for the two dot products, and 6 for the three vectors.
const OPERATIONS: f64 = 22.0;
/// The relative residual to reach.
const TOLERANCE: f64 = 1e-10;
/// What rounding may add to the distance from the exact solution.
const ROUNDING: f64 = 1e-10;

/// The planes of a rank. Each is framed by zeros, which stay, so that no point has to ask whether it is at an edge; what is
/// multiplied has a plane of halo more below and above.
struct Slab {
    planes: Range<usize>,
    size: [usize; 3],
    /// Points of a row and of a plane, with their frames.
    row: usize,
    plane: usize,
}

impl Slab {
    /// Returns this rank's slab.
    fn new(comm: &Communicator, input: &Input) -> Slab {
        let size = [input.nx, input.ny, input.nz].map(|n| n as usize);
        let begin = |rank| size[2] * rank / comm.size();
        let planes = begin(comm.rank())..begin(comm.rank() + 1);
        let row = size[0] + 2;
        let plane = row * (size[1] + 2);
        Slab {
            planes,
            size,
            row,
            plane,
        }
    }

    /// Makes a vector of a value for each point, and zeros in the frames.
    fn fill(&self, value: impl Fn([usize; 3]) -> f64) -> Vec<f64> {
        let mut vector = vec![0.0; self.plane * self.planes.len()];
        for z in 0..self.planes.len() {
            for y in 0..self.size[1] {
                for x in 0..self.size[0] {
                    let point = z * self.plane + (y + 1) * self.row + x + 1;
                    vector[point] = value([x, y, self.planes.start + z]);
                }
            }
        }
        vector
    }

    /// Returns the right side of the equations: the sum of each row of the matrix, by how many neighbours a point has.
    fn right_side(&self) -> Vec<f64> {
        self.fill(|place| {
            let near = |axis: usize| {
                1 + usize::from(place[axis] > 0) + usize::from(place[axis] + 1 < self.size[axis])
            };
            27.0 - (near(0) * near(1) * near(2)) as f64
        })
    }

    /// Multiplies the matrix by `from`, whose halo comes from the neighbours meanwhile.
    ///
    /// # Errors
    ///
    /// When another rank has ended.
    fn multiply(&self, comm: &Communicator, from: &mut [f64], to: &mut [f64]) -> Result<(), CommError> {
        const DOWN: u32 = 0;
        const UP: u32 = 1;
        let (plane, last) = (self.plane, self.planes.len());
        let below = comm.rank().checked_sub(1).map(|rank| (rank, DOWN, UP, 1, 0));
        let above = (comm.rank() + 1 < comm.size()).then_some((comm.rank() + 1, UP, DOWN, last, last + 1));
        let (mut sent, mut arriving) = (Vec::new(), Vec::new());
        for (rank, there, back, edge, halo) in below.into_iter().chain(above) {
            arriving.push((halo, comm.ireceive_vec(rank, back)?));
            sent.push(comm.isend_slice(rank, there, &from[edge * plane..][..plane])?);
        }
        (2..last).for_each(|z| self.multiply_plane(z, from, to));
        for (halo, request) in arriving {
            let (numbers, _) = request.wait()?;
            from[halo * plane..][..plane].copy_from_slice(&numbers);
        }
        self.multiply_plane(1, from, to);
        if last > 1 {
            self.multiply_plane(last, from, to);
        }
        sent.into_iter().try_for_each(|request| request.wait())
    }

    /// Multiplies the plane between two others: 27 times each point less the sum of the cube around it, first of its columns across rows and
    /// planes, then of three of these.
    fn multiply_plane(&self, z: usize, from: &[f64], to: &mut [f64]) {
        let (row, plane) = (self.row, self.plane);
        let mut columns = vec![0.0; row];
        for y in 1..=self.size[1] {
            let corner = (z - 1) * plane + (y - 1) * row;
            let line = |dz: usize, dy: usize| &from[corner + dz * plane + dy * row..][..row];
            let [a, b, c] = [line(0, 0), line(0, 1), line(0, 2)];
            let [d, e, f] = [line(1, 0), line(1, 1), line(1, 2)];
            let [g, h, i] = [line(2, 0), line(2, 1), line(2, 2)];
            for (x, column) in columns.iter_mut().enumerate() {
                *column = (a[x] + b[x] + c[x]) + (d[x] + e[x] + f[x]) + (g[x] + h[x] + i[x]);
            }
            let points = &mut to[corner + row + 1..][..row - 2];
            for ((point, sums), old) in points.iter_mut().zip(columns.windows(3)).zip(&e[1..]) {
                *point = 27.0 * old - (sums[0] + sums[1] + sums[2]);
            }
        }
    }

    /// Returns the smallest eigenvalue of the matrix: it stretches any vector by so much at least.
    fn smallest_eigenvalue(&self) -> f64 {
        let along = |n: &usize| 1.0 + 2.0 * (PI / (n + 1) as f64).cos();
        27.0 - self.size.iter().map(along).product::<f64>()
    }
}

/// Returns the dot product of vectors that are spread over all ranks.
///
/// # Errors
///
/// When another rank has ended.
fn dot(comm: &Communicator, a: &[f64], b: &[f64]) -> Result<f64, CommError> {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    comm.all_reduce(lanes.iter().sum::<f64>() + rest, |a, b| a + b)
}

/// Adds `factor` times the second vector to the first.
fn add(vector: &mut [f64], factor: f64, other: &[f64]) {
    vector
        .iter_mut()
        .zip(other)
        .for_each(|(point, other)| *point += factor * other);
}

/// What every rank runs.
///
/// # Errors
///
/// When another rank has ended.
#[phalanx::ranks]
fn solve(comm: &Communicator, input: Input) -> Result<Report, CommError> {
    let slab = Slab::new(comm, &input);
    let right = slab.right_side();
    let own = slab.plane..slab.plane + right.len();
    comm.barrier()?;
    let started = Instant::now();

    let mut solution = vec![0.0; right.len()];
    let mut residual = right.clone();
    let mut direction = vec![0.0; right.len() + 2 * slab.plane];
    direction[own.clone()].copy_from_slice(&right);
    let mut image = vec![0.0; right.len()];
    let start = dot(comm, &residual, &residual)?;
    let relative = |squared: f64| (squared / start).sqrt();
    let (mut squared, mut iterations) = (start, 0);
    let mut history = vec![(0, 1.0)];
    while relative(squared) > TOLERANCE && iterations < input.iterations {
        slab.multiply(comm, &mut direction, &mut image)?;
        let step = squared / dot(comm, &direction[own.clone()], &image)?;
        add(&mut solution, step, &direction[own.clone()]);
        add(&mut residual, -step, &image);
        let before = squared;
        squared = dot(comm, &residual, &residual)?;
        for (point, residual) in direction[own.clone()].iter_mut().zip(&residual) {
            *point = residual + squared / before * *point;
        }
        iterations += 1;
        if iterations % input.every == 0 {
            history.push((iterations, relative(squared)));
        }
    }
    let seconds = started.elapsed().as_secs_f64();

    // not the residual that was carried along, but that of the solution
    direction[own].copy_from_slice(&solution);
    slab.multiply(comm, &mut direction, &mut image)?;
    residual.copy_from_slice(&right);
    add(&mut residual, -1.0, &image);
    let squared = dot(comm, &residual, &residual)?;
    let ones = slab.fill(|_| 1.0);
    let off = ones.iter().zip(&solution).map(|(one, found)| (one - found).abs());
    // not f64::max, which would let a NaN pass
    let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
    let error = comm.all_reduce(off.fold(0.0, larger), larger)?;
    let bound = squared.sqrt() / slab.smallest_eigenvalue() + ROUNDING;
    Ok(Report {
        history,
        iterations,
        residual: relative(squared),
        error,
        bound,
        seconds,
    })
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let Options { ranks, nodes, input } = Options::parse();
    if ranks > input.nz {
        return Err(format!(
            "{ranks} ranks cannot share {} planes\n\nhint: a larger --nz",
            input.nz
        )
        .into());
    }
    let cluster = Cluster::connect_or_embedded_with(&EmbeddedOptions {
        workers: nodes.unwrap_or(1),
        cpus: Some(ranks.div_ceil(nodes.unwrap_or(1))),
        ..EmbeddedOptions::default()
    })?;
    let mut gang = cluster.ranks::<solve>(ranks, &input);
    if let Some(nodes) = nodes {
        gang = gang.nodes(nodes);
    }
    let reports = gang.collect()?;
    let report = reports.first().ok_or("no rank has returned")?;

    println!("iteration   residual");
    for (iteration, residual) in &report.history {
        println!("{iteration:>9} {residual:>10.1e}");
    }
    let Report {
        iterations,
        residual,
        error,
        bound,
        seconds,
        ..
    } = report;
    // false also of what is no number
    let is_converged = *residual <= 2.0 * TOLERANCE;
    let is_exact = error <= bound;
    if !is_converged {
        return Err(format!(
            "after {iterations} iterations the residual is {residual:.1e}\n\nhint: more --iterations"
        )
        .into());
    }
    if !is_exact {
        return Err(format!("{error:.1e} from the exact solution, more than {bound:.1e}").into());
    }
    println!("{iterations} iterations, residual {residual:.1e}");
    println!("at most {error:.1e} from the exact solution, bound {bound:.1e}: verified");
    let points = f64::from(input.nx) * f64::from(input.ny) * f64::from(input.nz);
    let operations = OPERATIONS * points * f64::from(*iterations);
    println!(
        "{:.2} GFLOP/s on {ranks} ranks ({seconds:.1} s)",
        operations / seconds / 1e9
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use phalanx::ranks::LocalGang;

    use super::*;

    fn input(nx: u32, ny: u32, nz: u32) -> Input {
        Input {
            nx,
            ny,
            nz,
            iterations: 1000,
            every: 5,
        }
    }

    /// What all ranks report, which is the same.
    fn report(gang: LocalGang, input: &Input) -> Report {
        let mut reports: Vec<Report> = gang
            .run(|comm| solve(comm, input.clone()).unwrap())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let report = reports.swap_remove(0);
        for other in reports {
            assert_eq!((&other.history, other.error), (&report.history, report.error));
        }
        report
    }

    /// A gang on three hosts that talk over QUIC, for one count of ranks: to meet takes most of the time.
    fn over_quic(ranks: usize) -> Option<LocalGang> {
        let per_node = ranks.div_ceil(3).try_into().unwrap();
        (ranks == 5).then(|| LocalGang::new(ranks).ranks_per_node(per_node).over_quic())
    }

    #[test]
    fn solution_is_the_exact_one_at_any_number_of_ranks_on_one_node_and_several() {
        // 8 ranks of 9 planes: some have one, and send the same plane both ways
        let input = input(14, 11, 9);
        let one = report(LocalGang::new(1), &input);
        assert!(one.iterations > 5, "{one:?}");
        for ranks in [1_usize, 2, 3, 5, 8] {
            let half = ranks.div_ceil(2).try_into().unwrap();
            let on_two = LocalGang::new(ranks).ranks_per_node(half);
            for gang in [LocalGang::new(ranks), on_two]
                .into_iter()
                .chain(over_quic(ranks))
            {
                let found = report(gang, &input);
                assert!(
                    found.residual <= 2.0 * TOLERANCE && found.error <= found.bound,
                    "{gang:?}: {found:?}"
                );
                assert!(found.bound < 1e-8, "{gang:?}: {found:?}");
                assert_eq!(found.iterations, one.iterations);
                for ((_, residual), (_, expected)) in found.history.iter().zip(&one.history) {
                    assert!(
                        (residual / expected - 1.0).abs() < 1e-6,
                        "{gang:?}: {residual}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn grids_without_inner_points_are_solved_too() {
        for (nx, ny, nz) in [(1, 1, 1), (1, 1, 3), (2, 1, 2), (5, 1, 8)] {
            let found = report(LocalGang::new(nz as usize), &input(nx, ny, nz));
            assert!(
                found.error <= found.bound && found.bound < 1e-8,
                "{nx} {ny} {nz}: {found:?}"
            );
        }
    }

    #[test]
    fn matrix_is_that_of_the_definition() {
        let input = input(4, 3, 5);
        let points = |z: usize| (0..12).map(move |i| [i % 4, i / 4, z]);
        let value = |[x, y, z]: [usize; 3]| ((7 * x + 5 * y + 3 * z) % 11) as f64;
        let outcomes = LocalGang::new(2).run(|comm| {
            let slab = Slab::new(comm, &input);
            let own = slab.fill(value);
            let halo = vec![0.0; slab.plane];
            let mut from = [&halo[..], &own, &halo].concat();
            let mut to = vec![0.0; own.len()];
            slab.multiply(comm, &mut from, &mut to).unwrap();
            let expected = slab.fill(|here| {
                let near = |there: &[usize; 3]| here.iter().zip(there).all(|(a, b)| a.abs_diff(*b) < 2);
                let around = (0..5).flat_map(points).filter(near).map(value).sum::<f64>();
                27.0 * value(here) - around
            });
            to == expected
        });
        assert_eq!(outcomes, [Ok(true), Ok(true)]);
    }

    #[test]
    fn run_that_ends_too_early_has_not_converged() {
        let found = report(
            LocalGang::new(2),
            &Input {
                iterations: 3,
                ..input(14, 11, 9)
            },
        );
        assert_eq!(found.iterations, 3);
        assert!(found.residual > 1e-3, "{found:?}");
    }
}
