//! Lets a cluster of stars move under their own gravity: every pair of them attracts each other.
//!
//! Each rank owns a block of stars. For the forces the blocks travel round the ring of ranks, one hop after another, until
//! every rank has seen all stars, so none ever holds more than two blocks. The stars begin as a Plummer sphere in equilibrium
//! and move by leapfrog, which keeps the energy up to a small error: how far it drifts shows whether the forces are right.
//!
//! On another number of ranks the forces on a star are added in another order: places and energies agree up to rounding, which
//! grows as the stars go round.
//!
//! ```text
//! $ cargo run --release --bin nbody -- --ranks 4 --nodes 2 --every 50
//!   step         energy      drift   momentum
//!      0   -0.262289469      0.0e0    3.9e-17
//!     50   -0.262289437     1.2e-7    2.7e-17
//!    100   -0.262289868     1.5e-6    3.2e-17
//! ```

use std::error::Error;
use std::f64::consts::{PI, TAU};
use std::time::Instant;

use clap::Parser;
use phalanx::ranks::CommError;
use phalanx::{Cluster, Communicator, EmbeddedOptions};
use serde::{Deserialize, Serialize};

/// Let stars move under their own gravity, by ranks in a ring.
///
/// Shows send_receive round a ring, which every block of stars travels once for each step, and all_reduce for energy and
/// momentum.
#[derive(Parser)]
#[command(after_help = "Example, four ranks on two nodes: nbody --ranks 4 --nodes 2")]
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
    /// Stars of all ranks together
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    bodies: u32,
    /// Steps to take
    #[arg(long, default_value_t = 100)]
    steps: u32,
    /// Time from one step to the next; stars cross their cluster in 2.8
    #[arg(long, default_value_t = 0.01, value_parser = parse_dt)]
    dt: f64,
    /// Steps from one look at the energy to the next
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// The cluster of stars that this number makes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is kept, after a number of steps.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reading {
    step: u32,
    energy: f64,
    /// Length of the sum of all momenta.
    momentum: f64,
}

/// What a rank returns.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    readings: Vec<Reading>,
    seconds: f64,
}

/// Position and velocity at the beginning.
type Star = ([f64; 3], [f64; 3]);

/// Length below which gravity is softened, so that stars that meet do not fling each other away.
const SOFTENING: f64 = 0.05;
/// The largest part of the energy that may be lost or won.
const DRIFT_MAX: f64 = 1e-3;
/// Stars farther out than this many scale lengths are drawn anew.
const RADIUS_MAX: f64 = 10.0;

/// A rank's own stars: a list for each axis, so that the processor handles several stars at once.
struct Block {
    /// Mass of each star; all stars together have 1.
    mass: f64,
    position: [Vec<f64>; 3],
    velocity: [Vec<f64>; 3],
    acceleration: [Vec<f64>; 3],
    potential: Vec<f64>,
}

impl Block {
    /// Takes this rank's share of all stars.
    fn new(comm: &Communicator, stars: &[Star]) -> Self {
        let begin = |rank| stars.len() * rank / comm.size();
        let own = &stars[begin(comm.rank())..begin(comm.rank() + 1)];
        Block {
            mass: 1.0 / stars.len() as f64,
            position: [0, 1, 2].map(|axis| own.iter().map(|(place, _)| place[axis]).collect()),
            velocity: [0, 1, 2].map(|axis| own.iter().map(|(_, velocity)| velocity[axis]).collect()),
            acceleration: [0, 1, 2].map(|_| vec![0.0; own.len()]),
            potential: vec![0.0; own.len()],
        }
    }

    /// Finds acceleration and potential at each star of this block, while all blocks pass by.
    ///
    /// # Errors
    ///
    /// When another rank has ended.
    fn feel(&mut self, comm: &Communicator) -> Result<(), CommError> {
        self.acceleration.iter_mut().for_each(|list| list.fill(0.0));
        // each star will see itself among the visitors, where it pulls nowhere
        self.potential.fill(self.mass / SOFTENING);
        let (rank, size) = (comm.rank(), comm.size());
        let mut visitors = self.position.clone();
        for hop in 1..=size {
            self.attract(&visitors);
            if hop < size {
                visitors = comm.send_receive((rank + 1) % size, visitors, (rank + size - 1) % size, 0)?;
            }
        }
        Ok(())
    }

    /// Adds what visiting stars do to each star of this block.
    fn attract(&mut self, [their_x, their_y, their_z]: &[Vec<f64>; 3]) {
        let n = self.potential.len();
        // equally long slices, which need no checks in the loop
        let [x, y, z] = self.position.each_ref().map(|list| &list[..n]);
        let [ax, ay, az] = self.acceleration.each_mut().map(|list| &mut list[..n]);
        let potential = &mut self.potential[..n];
        for ((their_x, their_y), their_z) in their_x.iter().zip(their_y).zip(their_z) {
            for i in 0..n {
                let (dx, dy, dz) = (their_x - x[i], their_y - y[i], their_z - z[i]);
                let inverse = 1.0 / (dx * dx + dy * dy + dz * dz + SOFTENING * SOFTENING).sqrt();
                let pull = self.mass * inverse;
                potential[i] -= pull;
                let pull = pull * inverse * inverse;
                ax[i] += pull * dx;
                ay[i] += pull * dy;
                az[i] += pull * dz;
            }
        }
    }

    /// Adds up the energy and the momentum of all ranks' stars.
    ///
    /// # Errors
    ///
    /// When another rank has ended.
    fn read(&self, comm: &Communicator, step: u32) -> Result<Reading, CommError> {
        let [u, v, w] = &self.velocity;
        let mut sums = [0.0; 4];
        for (i, potential) in self.potential.iter().enumerate() {
            // a pair's potential is felt by both
            let energy = (u[i] * u[i] + v[i] * v[i] + w[i] * w[i] + potential) / 2.0;
            for (sum, number) in sums.iter_mut().zip([energy, u[i], v[i], w[i]]) {
                *sum += self.mass * number;
            }
        }
        comm.all_reduce_slice(&mut sums, |a, b| a + b)?;
        let [energy, momentum @ ..] = sums;
        let momentum = momentum.iter().map(|part| part * part).sum::<f64>().sqrt();
        Ok(Reading {
            step,
            energy,
            momentum,
        })
    }
}

/// Adds `factor` times the second to the first.
fn add(lists: &mut [Vec<f64>; 3], others: &[Vec<f64>; 3], factor: f64) {
    for (list, others) in lists.iter_mut().zip(others) {
        for (number, other) in list.iter_mut().zip(others) {
            *number += factor * other;
        }
    }
}

/// Moves a block by leapfrog: half a kick, a drift, and half a kick by the forces at the new place.
///
/// # Errors
///
/// When another rank has ended.
fn evolve(comm: &Communicator, block: &mut Block, input: &Input) -> Result<Vec<Reading>, CommError> {
    block.feel(comm)?;
    let mut readings = vec![block.read(comm, 0)?];
    for step in 1..=input.steps {
        add(&mut block.velocity, &block.acceleration, input.dt / 2.0);
        add(&mut block.position, &block.velocity, input.dt);
        block.feel(comm)?;
        add(&mut block.velocity, &block.acceleration, input.dt / 2.0);
        if step % input.every == 0 || step == input.steps {
            readings.push(block.read(comm, step)?);
        }
    }
    Ok(readings)
}

/// What every rank runs.
///
/// # Errors
///
/// When another rank has ended.
#[phalanx::ranks]
fn simulate(comm: &Communicator, input: Input) -> Result<Report, CommError> {
    // each rank makes all stars and takes its own: they are the same in every bit, however many ranks there are
    let mut block = Block::new(comm, &plummer(input.bodies as usize, input.seed));
    comm.barrier()?;
    let started = Instant::now();
    let readings = evolve(comm, &mut block, &input)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Report { readings, seconds })
}

/// Returns stars in Plummer's sphere, in units in which gravity's constant and the mass are 1 and the energy is -1/4, drawn as
/// Aarseth, Henon and Wielen did (1974).
fn plummer(bodies: usize, seed: u64) -> Vec<Star> {
    let mut state = seed;
    let mut draw = move || {
        // SplitMix64 (Steele, Lea and Flood 2014), as a number from 0 to 1
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let unit = 3.0 * PI / 16.0;
    let mut stars = Vec::with_capacity(bodies);
    while stars.len() < bodies {
        let radius = (draw().powf(-2.0 / 3.0) - 1.0).sqrt().recip();
        if radius > RADIUS_MAX {
            continue;
        }
        // by rejection, a part of the velocity that would carry the star away
        let part = loop {
            let (part, height): (f64, f64) = (draw(), 0.1 * draw());
            if height < part * part * (1.0 - part * part).powf(3.5) {
                break part;
            }
        };
        let speed = part * (2.0_f64 / (1.0 + radius * radius).sqrt()).sqrt();
        let mut direct = |length: f64| {
            let (height, angle) = (2.0 * draw() - 1.0, TAU * draw());
            let across = (1.0 - height * height).sqrt();
            [across * angle.cos(), across * angle.sin(), height].map(|part| length * part)
        };
        stars.push((direct(radius * unit), direct(speed / unit.sqrt())));
    }
    // the centre is at the origin, at rest
    for axis in 0..3 {
        let centre = stars.iter().map(|(place, _)| place[axis]).sum::<f64>() / bodies as f64;
        let speed = stars.iter().map(|(_, velocity)| velocity[axis]).sum::<f64>() / bodies as f64;
        for (place, velocity) in &mut stars {
            place[axis] -= centre;
            velocity[axis] -= speed;
        }
    }
    stars
}

/// Parses a time step.
fn parse_dt(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(dt) if dt > 0.0 && dt <= 1.0 => Ok(dt),
        _ => Err("write a number above 0 and up to 1, such as 0.01".into()),
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let Options { ranks, nodes, input } = Options::parse();
    let cluster = Cluster::connect_or_embedded_with(&EmbeddedOptions {
        workers: nodes.unwrap_or(1),
        cpus: Some(ranks.div_ceil(nodes.unwrap_or(1))),
        ..EmbeddedOptions::default()
    })?;
    let mut gang = cluster.ranks::<simulate>(ranks, &input);
    if let Some(nodes) = nodes {
        gang = gang.nodes(nodes);
    }
    let reports = gang.collect()?;
    let Report { readings, seconds } = reports.first().ok_or("no rank has returned")?;

    println!(
        "{:>6} {:>14} {:>10} {:>10}",
        "step", "energy", "drift", "momentum"
    );
    for reading in readings {
        let Reading {
            step,
            energy,
            momentum,
        } = reading;
        let drift = drift(readings, reading);
        println!("{step:>6} {energy:>14.9} {drift:>10.1e} {momentum:>10.1e}");
    }
    // a drift that is no number is more than the bound, too
    if !readings
        .iter()
        .all(|reading| drift(readings, reading) <= DRIFT_MAX)
    {
        return Err(
            format!("the energy drifts by more than {DRIFT_MAX:e} of it\n\nhint: a smaller --dt").into(),
        );
    }
    let pairs = f64::from(input.bodies).powi(2) * (f64::from(input.steps) + 1.0);
    println!(
        "{} stars, {ranks} ranks: verified; {:.1} million pairs/s ({seconds:.1} s)",
        input.bodies,
        pairs / seconds / 1e6
    );
    Ok(())
}

/// Returns by which part of it the energy has changed since the first reading.
fn drift(readings: &[Reading], reading: &Reading) -> f64 {
    (reading.energy / readings[0].energy - 1.0).abs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use phalanx::ranks::LocalGang;

    use super::*;

    /// Moves stars by a gang; returns the readings and where the stars are in the end.
    fn travel(gang: LocalGang, stars: &[Star], input: &Input) -> (Vec<Reading>, Vec<[f64; 3]>) {
        let outcomes = gang.run(|comm| {
            let mut block = Block::new(comm, stars);
            let readings = evolve(comm, &mut block, input).unwrap();
            let [x, y, z] = block.position;
            (readings, x.into_iter().zip(y).zip(z).map(|((x, y), z)| [x, y, z]))
        });
        let (readings, places): (Vec<_>, Vec<_>) = outcomes.into_iter().map(Result::unwrap).unzip();
        (readings[0].clone(), places.into_iter().flatten().collect())
    }

    fn input(steps: u32, dt: f64) -> Input {
        Input {
            bodies: 96,
            steps,
            dt,
            every: 5,
            seed: 7,
        }
    }

    /// A gang on three hosts that talk over QUIC, for one count of ranks: to meet takes most of the time.
    fn over_quic(ranks: usize) -> Option<LocalGang> {
        let per_node = ranks.div_ceil(3).try_into().unwrap();
        (ranks == 5).then(|| LocalGang::new(ranks).ranks_per_node(per_node).over_quic())
    }

    #[test]
    fn stars_move_alike_at_any_number_of_ranks_on_one_node_and_several() {
        let input = input(10, 0.01);
        let stars = plummer(96, 7);
        let (one, expected) = travel(LocalGang::new(1), &stars, &input);
        let moved = expected
            .iter()
            .zip(&stars)
            .map(|(place, (star, _))| (place[0] - star[0]).abs());
        assert!(moved.fold(0.0, f64::max) > 1e-2);
        for ranks in [2_usize, 3, 5, 8] {
            let half = ranks.div_ceil(2).try_into().unwrap();
            let on_two = LocalGang::new(ranks).ranks_per_node(half);
            for gang in [LocalGang::new(ranks), on_two]
                .into_iter()
                .chain(over_quic(ranks))
            {
                let (readings, places) = travel(gang, &stars, &input);
                assert_eq!(places.len(), 96);
                for (place, expected) in places.iter().flatten().zip(expected.iter().flatten()) {
                    assert!(
                        (place - expected).abs() < 1e-10,
                        "{gang:?}: {place}, not {expected}"
                    );
                }
                for (reading, expected) in readings.iter().zip(&one) {
                    assert_eq!(reading.step, expected.step);
                    assert!(
                        (reading.energy - expected.energy).abs() < 1e-12,
                        "{gang:?}: {reading:?}"
                    );
                    assert!(reading.momentum < 1e-14, "{gang:?}: {reading:?}");
                }
            }
        }
    }

    #[test]
    fn half_the_time_step_has_a_quarter_of_the_drift() {
        let stars = plummer(96, 7);
        let after = |steps, dt| {
            let (readings, _) = travel(LocalGang::new(2), &stars, &input(steps, dt));
            drift(&readings, readings.last().unwrap())
        };
        let (long, short) = (after(20, 0.01), after(40, 0.005));
        assert!((3.5..4.5).contains(&(long / short)), "{long:e}, then {short:e}");
    }

    #[test]
    fn two_stars_go_round_each_other_in_the_time_that_they_take() {
        // far enough from each other for the softening not to matter but in the speed
        let distance: f64 = 10.0;
        let pull = distance / (distance * distance + SOFTENING * SOFTENING).powf(1.5) / 2.0;
        let speed = (pull * distance / 2.0).sqrt();
        let at = |side: f64| ([side * distance / 2.0, 0.0, 0.0], [0.0, side * speed, 0.0]);
        let dt = PI * distance / speed / 1000.0;
        let (readings, places) = travel(LocalGang::new(2), &[at(1.0), at(-1.0)], &input(500, dt));
        // half a circle: they have changed places
        assert!(
            (places[0][0] + 5.0).abs() < 1e-3 && places[0][1].abs() < 1e-3,
            "{places:?}"
        );
        assert!(
            (readings[0].energy + 0.25 / distance / 2.0).abs() < 1e-6,
            "{readings:?}"
        );
    }

    #[test]
    fn plummer_sphere_is_in_equilibrium_and_at_rest() {
        let stars = plummer(2000, 3);
        assert_ne!(stars[..10], plummer(10, 4)[..]);
        let input = Input {
            steps: 0,
            ..input(0, 0.01)
        };
        let (readings, _) = travel(LocalGang::new(2), &stars, &input);
        assert!((readings[0].energy + 0.25).abs() < 0.02, "{readings:?}");
        assert!(readings[0].momentum < 1e-14, "{readings:?}");
        // in equilibrium the kinetic energy is minus the whole
        let kinetic = stars
            .iter()
            .map(|(_, velocity)| velocity.iter().map(|v| v * v).sum::<f64>());
        let kinetic = kinetic.sum::<f64>() / 2.0 / 2000.0;
        assert!((kinetic - 0.25).abs() < 0.02, "{kinetic}");
    }
}
