//! Lets heat flow through a square plate whose edges are kept cold, one strip of rows for each rank.
//!
//! Each step of the explicit method needs the rows next to a rank's strip, which neighbours exchange. The plate starts as a
//! sum of sine modes, of which each fades at a rate of its own: the answer is known, and checked everywhere. The state does
//! not depend on the number of ranks in any bit, so a run may go on from a checkpoint with another number.
//!
//! ```text
//! $ cargo run --release --bin heat -- --ranks 4 --nodes 2
//! 256 x 256 points, steps 0 to 10000, 4 ranks (0.7 s)
//! at most 1.1e-5 from the exact solution, bound 6.5e-5: verified
//! ```

use std::error::Error;
use std::f64::consts::PI;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind};
use std::ops::Range;
use std::path::{self, Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use phalanx::ranks::CommError;
use phalanx::{Cluster, Communicator, EmbeddedOptions};
use serde::{Deserialize, Serialize};

/// Let heat flow through a plate with cold edges, a strip for each rank.
///
/// Shows a halo exchange between neighbours, gather for pictures and checkpoints and scatter to go on from one, and
/// all_reduce for the check against the exact solution.
#[derive(Parser)]
#[command(
    after_help = "Example, stopped and gone on with: heat --checkpoint plate --steps 5000; heat --checkpoint plate --ranks 3 --nodes 2"
)]
struct Options {
    /// Ranks, of one cpu each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    ranks: u32,
    /// Nodes to spread them over; as few as have room unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: Option<u32>,
    /// Points along each side of the plate, edges not counted
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=8192))]
    side: u32,
    /// The step to end at
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Steps from one picture and checkpoint to the next
    #[arg(long, default_value_t = 2500, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Pictures are written to PREFIX-STEP.png, in a directory that all nodes share
    #[arg(long, default_value = "heat", value_name = "PREFIX")]
    pictures: PathBuf,
    /// The file to keep the state in, and to go on from if it exists; in a directory that all nodes share
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// What all ranks are given. Rank 0 alone uses files.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Input {
    side: usize,
    steps: u64,
    every: u64,
    pictures: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
}

/// The whole plate: `side` rows of `side` temperatures, after a number of steps.
struct State {
    step: u64,
    plate: Vec<f64>,
}

/// How far the plate is from the exact solution in the end, at most, and how far the method may be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Check {
    /// The step of the checkpoint.
    from: u64,
    deviation: f64,
    bound: f64,
}

/// Half waves along x and y, and amplitude, of the sine modes that the plate starts as.
const MODES: [(f64, f64, f64); 3] = [(1.0, 1.0, 1.0), (3.0, 2.0, 0.8), (4.0, 5.0, 0.6)];
/// Time step in units of the squared distance of points; the method is stable up to 0.25.
const RATIO: f64 = 0.2;
/// What rounding may add to the deviation.
const ROUNDING: f64 = 1e-10;
/// Opens every checkpoint.
const MAGIC: &[u8; 8] = b"heat  01";

/// Returns the distance between points.
fn spacing(side: usize) -> f64 {
    1.0 / (side + 1) as f64
}

/// Returns the exact temperatures of some rows at a time.
fn exact(side: usize, rows: Range<usize>, time: f64) -> Vec<f64> {
    let wave = |waves: f64, index: usize| (PI * waves * (index + 1) as f64 * spacing(side)).sin();
    let mut plate = vec![0.0; rows.len() * side];
    for (across, down, amplitude) in MODES {
        let amplitude = amplitude * (-PI * PI * (across * across + down * down) * time).exp();
        let columns: Vec<f64> = (0..side).map(|column| wave(across, column)).collect();
        for (line, row) in plate.chunks_exact_mut(side).zip(rows.clone()) {
            let factor = amplitude * wave(down, row);
            for (point, column) in line.iter_mut().zip(&columns) {
                *point += factor * column;
            }
        }
    }
    plate
}

/// Returns how far the method may be from the exact solution: twice the leading terms, in space and in time, of the error
/// of each mode's rate.
fn error_bound(side: usize, time: f64) -> f64 {
    let h2 = spacing(side).powi(2);
    let of_mode = |(across, down, amplitude): (f64, f64, f64)| {
        let rate = PI * PI * (across * across + down * down);
        let space = h2 * PI.powi(4) * (across.powi(4) + down.powi(4)) / 12.0;
        let error = time * (space + RATIO * h2 * rate * rate / 2.0);
        amplitude * (-rate * time).exp() * 2.0 * error
    };
    MODES.into_iter().map(of_mode).sum::<f64>() + ROUNDING
}

/// A rank's rows with a row of halo above and below, and a cold point at both ends of each.
struct Strip {
    rows: Range<usize>,
    width: usize,
    now: Vec<f64>,
    next: Vec<f64>,
}

impl Strip {
    /// Returns which rows a rank has.
    fn rows(comm: &Communicator, side: usize, rank: usize) -> Range<usize> {
        side * rank / comm.size()..side * (rank + 1) / comm.size()
    }

    /// Makes a rank's strip of the temperatures of its rows.
    fn new(comm: &Communicator, side: usize, points: &[f64]) -> Self {
        let rows = Strip::rows(comm, side, comm.rank());
        let width = side + 2;
        let mut now = vec![0.0; (rows.len() + 2) * width];
        let lines = now[width..].chunks_exact_mut(width);
        for (line, own) in lines.zip(points.chunks_exact(side)) {
            line[1..=side].copy_from_slice(own);
        }
        let next = now.clone();
        Strip {
            rows,
            width,
            now,
            next,
        }
    }

    /// Gets the rows next to the strip from the neighbours; beyond the plate it stays cold.
    fn exchange(&mut self, comm: &Communicator) -> Result<(), CommError> {
        const UP: u32 = 0;
        const DOWN: u32 = 1;
        let (width, last) = (self.width, self.rows.len() * self.width);
        let above = comm.rank().checked_sub(1);
        let below = Some(comm.rank() + 1).filter(|&below| below < comm.size());
        let mut sent = Vec::new();
        if let Some(above) = above {
            sent.push(comm.isend_slice(above, UP, &self.now[width..2 * width])?);
        }
        if let Some(below) = below {
            sent.push(comm.isend_slice(below, DOWN, &self.now[last..last + width])?);
        }
        if let Some(above) = above {
            comm.receive_into(above, DOWN, &mut self.now[..width])?;
        }
        if let Some(below) = below {
            comm.receive_into(below, UP, &mut self.now[last + width..])?;
        }
        sent.into_iter().try_for_each(|request| request.wait())
    }

    /// Takes one step; the halo must be that of now.
    fn step(&mut self) {
        let width = self.width;
        for row in 1..=self.rows.len() {
            let here = row * width;
            let above = &self.now[here - width..here];
            let line = &self.now[here..here + width];
            let below = &self.now[here + width..here + 2 * width];
            let next = &mut self.next[here..here + width];
            for i in 1..width - 1 {
                let around = (above[i] + below[i]) + (line[i - 1] + line[i + 1]);
                next[i] = line[i] + RATIO * (around - 4.0 * line[i]);
            }
        }
        std::mem::swap(&mut self.now, &mut self.next);
    }

    /// Returns the temperatures of the strip alone.
    fn points(&self) -> Vec<f64> {
        let lines = self.now.chunks_exact(self.width).skip(1).take(self.rows.len());
        lines.flat_map(|line| &line[1..self.width - 1]).copied().collect()
    }
}

/// What every rank runs.
///
/// # Errors
///
/// When a file cannot be read or written, or another rank has failed.
#[phalanx::ranks]
fn simulate(comm: &Communicator, input: Input) -> Result<Check, Box<dyn Error + Send + Sync>> {
    let side = input.side;
    let (from, mut strip) = begin(comm, &input)?;
    for step in from..=input.steps {
        if step % input.every == 0 || step == input.steps {
            // none but rank 0 gets the strips
            if let Some(strips) = comm.gather(0, strip.points())? {
                let plate = strips.concat();
                save(&input, &State { step, plate })?;
            }
        }
        if step < input.steps {
            strip.exchange(comm)?;
            strip.step();
        }
    }
    let time = input.steps as f64 * RATIO * spacing(side).powi(2);
    let solution = exact(side, strip.rows.clone(), time);
    let off = strip
        .points()
        .into_iter()
        .zip(solution)
        .map(|(found, exact)| (found - exact).abs());
    // not f64::max, which would let a NaN pass
    let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
    let deviation = comm.all_reduce(off.fold(0.0, larger), larger)?;
    let bound = error_bound(side, time);
    Ok(Check {
        from,
        deviation,
        bound,
    })
}

/// Deals out the plate that rank 0 has found; returns its step, and this rank's strip.
///
/// # Errors
///
/// When the checkpoint cannot be read, or another rank has failed.
fn begin(comm: &Communicator, input: &Input) -> Result<(u64, Strip), Box<dyn Error + Send + Sync>> {
    let mut strips = None;
    if comm.rank() == 0 {
        let State { step, plate } = start(input.side, input.checkpoint.as_deref())?;
        if step > input.steps {
            return Err(format!("the checkpoint is of step {step}, after step {}", input.steps).into());
        }
        let of = |rank| {
            let rows = Strip::rows(comm, input.side, rank);
            (
                step,
                plate[rows.start * input.side..rows.end * input.side].to_vec(),
            )
        };
        strips = Some((0..comm.size()).map(of).collect());
    }
    let (step, points) = comm.scatter(0, strips)?;
    Ok((step, Strip::new(comm, input.side, &points)))
}

/// Writes the picture and the checkpoint that were asked for.
fn save(input: &Input, state: &State) -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(prefix) = &input.pictures {
        let mut path = prefix.clone().into_os_string();
        path.push(format!("-{:06}.png", state.step));
        draw(path.as_ref(), input.side, &state.plate)?;
    }
    if let Some(path) = &input.checkpoint {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((input.side as u64).to_le_bytes());
        bytes.extend(state.step.to_le_bytes());
        bytes.extend(state.plate.iter().flat_map(|point| point.to_le_bytes()));
        let partial = path.with_added_extension("partial");
        fs::write(&partial, bytes).map_err(|error| format!("cannot write {}: {error}", partial.display()))?;
        // a run that is killed meanwhile leaves the checkpoint before it
        fs::rename(&partial, path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Draws the plate, cold blue over white to warm red.
fn draw(path: &Path, side: usize, plate: &[f64]) -> Result<(), Box<dyn Error + Send + Sync>> {
    const COLD: [f64; 3] = [24.0, 70.0, 160.0];
    const MILD: [f64; 3] = [245.0, 243.0, 236.0];
    const WARM: [f64; 3] = [178.0, 24.0, 32.0];
    let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), side as u32, side as u32);
    encoder.set_color(png::ColorType::Rgb);
    let colour = |&temperature: &f64| {
        let end = if temperature < 0.0 { COLD } else { WARM };
        let blend = (temperature.abs() / 1.5).min(1.0).sqrt();
        [0, 1, 2].map(|channel| (MILD[channel] + (end[channel] - MILD[channel]) * blend).round() as u8)
    };
    let pixels: Vec<u8> = plate.iter().flat_map(colour).collect();
    let mut picture = encoder.write_header()?;
    picture.write_image_data(&pixels)?;
    picture.finish()?;
    Ok(())
}

/// Returns the state in a checkpoint, or the one at the beginning if there is none.
fn start(side: usize, checkpoint: Option<&Path>) -> Result<State, String> {
    let beginning = || State {
        step: 0,
        plate: exact(side, 0..side, 0.0),
    };
    let Some(path) = checkpoint else {
        return Ok(beginning());
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(beginning()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let (words, rest) = bytes.as_chunks::<8>();
    match words {
        [magic, sides, step, plate @ ..]
            if magic == MAGIC
                && u64::from_le_bytes(*sides) == side as u64
                && plate.len() == side * side
                && rest.is_empty() =>
        {
            let plate = plate.iter().map(|point| f64::from_le_bytes(*point)).collect();
            Ok(State {
                step: u64::from_le_bytes(*step),
                plate,
            })
        }
        _ => Err(format!(
            "{} is no checkpoint of a plate with {side} points along each side\n\nhint: --checkpoint FILE names another",
            path.display()
        )),
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let Options {
        ranks, nodes, steps, ..
    } = options;
    let cluster = Cluster::connect_or_embedded_with(&EmbeddedOptions {
        workers: nodes.unwrap_or(1),
        cpus: Some(ranks.div_ceil(nodes.unwrap_or(1))),
        ..EmbeddedOptions::default()
    })?;
    let side = options.side as usize;
    let input = Input {
        side,
        steps,
        every: options.every,
        // ranks run in another directory
        pictures: Some(path::absolute(options.pictures)?),
        checkpoint: options.checkpoint.map(path::absolute).transpose()?,
    };
    let started = Instant::now();
    let mut gang = cluster.ranks::<simulate>(ranks, &input);
    if let Some(nodes) = nodes {
        gang = gang.nodes(nodes);
    }
    let checks = gang.collect()?;
    let Check {
        from,
        deviation,
        bound,
    } = checks.first().ok_or("no rank has returned")?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{side} x {side} points, steps {from} to {steps}, {ranks} ranks ({seconds:.1} s)");
    if deviation <= bound {
        println!("at most {deviation:.1e} from the exact solution, bound {bound:.1e}: verified");
        return Ok(());
    }
    Err(format!("{deviation:.1e} from the exact solution, more than {bound:.1e}").into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use phalanx::ranks::LocalGang;

    use super::*;

    const SIDE: usize = 67;

    /// Goes on from `checkpoint` to a step; returns the check and the checkpoint then.
    fn go_on(gang: LocalGang, steps: u64, checkpoint: &Path) -> (Check, Vec<u8>) {
        let input = Input {
            side: SIDE,
            steps,
            every: 100,
            pictures: None,
            checkpoint: Some(checkpoint.to_owned()),
        };
        let outcomes = gang.run(|comm| simulate(comm, input.clone()).unwrap());
        (outcomes[0].clone().unwrap(), fs::read(checkpoint).unwrap())
    }

    /// A gang on three hosts that talk over QUIC, for one count of ranks: to meet takes most of the time.
    fn over_quic(ranks: usize) -> Option<LocalGang> {
        let per_node = ranks.div_ceil(3).try_into().unwrap();
        (ranks == 5).then(|| LocalGang::new(ranks).ranks_per_node(per_node).over_quic())
    }

    #[test]
    fn plate_is_exact_within_the_bound_and_the_same_in_every_bit_on_any_ranks_and_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let (_, expected) = go_on(LocalGang::new(1), 250, &directory.path().join("one"));
        for ranks in [1_usize, 2, 3, 5, 8] {
            let half = ranks.div_ceil(2).try_into().unwrap();
            let on_two = LocalGang::new(ranks).ranks_per_node(half);
            let gangs = [LocalGang::new(ranks), on_two]
                .into_iter()
                .chain(over_quic(ranks));
            for (nodes, gang) in (1..).zip(gangs) {
                let (check, plate) = go_on(gang, 250, &directory.path().join(format!("{ranks}-{nodes}")));
                assert!(
                    check.deviation <= check.bound && check.bound < 0.05,
                    "{gang:?}: {check:?}"
                );
                assert!(plate == expected, "{gang:?}");
            }
        }
    }

    #[test]
    fn run_that_goes_on_with_another_number_of_ranks_ends_the_same_in_every_bit() {
        let directory = tempfile::tempdir().unwrap();
        let (_, whole) = go_on(LocalGang::new(2), 250, &directory.path().join("whole"));
        let parts = directory.path().join("parts");
        let (_, half) = go_on(LocalGang::new(3), 130, &parts);
        assert_ne!(half, whole);
        assert_eq!(start(SIDE, Some(&parts)).unwrap().step, 130);
        let (check, rest) = go_on(LocalGang::new(5), 250, &parts);
        assert!(check.from == 130 && rest == whole, "{check:?}");
    }

    #[test]
    fn torn_checkpoint_and_one_of_another_plate_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plate");
        let (_, bytes) = go_on(LocalGang::new(1), 1, &path);
        assert!(start(SIDE + 1, Some(&path)).is_err());
        let longer = [&bytes[..], &[0]].concat();
        for torn in [&bytes[..bytes.len() - 8], &bytes[..bytes.len() - 1], &longer, &[]] {
            fs::write(&path, torn).unwrap();
            assert!(start(SIDE, Some(&path)).is_err(), "{} bytes", torn.len());
        }
    }
}
