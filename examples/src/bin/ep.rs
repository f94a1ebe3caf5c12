//! The "embarrassingly parallel" kernel of the NAS Parallel Benchmarks: Gaussian deviates by the million.
//!
//! Pairs of uniform numbers come from one long sequence of a linear congruential generator. Each task jumps to its own
//! place in that sequence, turns the pairs of its block into Gaussian ones (Marsaglia's polar method) and returns their
//! sums and how they are distributed. The sums are checked against the published ones.
//!
//! Source: D. Bailey et al., The NAS Parallel Benchmarks, RNR-94-007, 1994, sections 2.2.1 and 2.3.

use std::error::Error;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use phalanx::Cluster;
use serde::{Deserialize, Serialize};

/// Run the EP benchmark of the NAS Parallel Benchmarks.
#[derive(Parser)]
#[command(after_help = "Example: ep --class S")]
struct Options {
    /// Size of the problem: S is 2^24 pairs, W 2^25, A 2^28, B 2^30
    #[arg(long, value_enum, ignore_case = true, default_value = "A")]
    class: Class,
}

/// A published problem size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Class {
    S,
    W,
    A,
    B,
}

/// What a block, or several, contribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    /// Sum of the first deviates of all pairs.
    sx: f64,
    /// Sum of the second deviates of all pairs.
    sy: f64,
    /// How many pairs have their larger absolute value in [0, 1), [1, 2), ..
    counts: [u64; 10],
}

/// Pairs in one block, as in the reference implementation: 2^16.
const BLOCK_PAIRS_LOG2: u32 = 16;
/// The generator is x -> `MULTIPLIER` * x modulo 2^46.
const MULTIPLIER: u64 = 1_220_703_125;
const MODULUS_MASK: u64 = (1 << 46) - 1;
const SEED: u64 = 271_828_183;
/// What the sums may differ by, relative to the published ones.
const TOLERANCE: f64 = 1e-8;

/// Turns one block of uniform pairs into Gaussian ones, and tallies them.
#[phalanx::kernel(reduce = add)]
fn gaussians(block: u64) -> Tally {
    let mut tally = Tally::default();
    let mut state = jump(SEED, block << (BLOCK_PAIRS_LOG2 + 1));
    for _ in 0..1_u32 << BLOCK_PAIRS_LOG2 {
        let x = 2.0 * uniform(&mut state) - 1.0;
        let y = 2.0 * uniform(&mut state) - 1.0;
        let t = x * x + y * y;
        if t <= 1.0 {
            let scale = (-2.0 * t.ln() / t).sqrt();
            let (x, y) = (x * scale, y * scale);
            tally.counts[x.abs().max(y.abs()) as usize] += 1;
            tally.sx += x;
            tally.sy += y;
        }
    }
    tally
}

/// Adds two tallies. Floating-point sums depend on the order in the last digits, far below `TOLERANCE`.
fn add(mut a: Tally, b: Tally) -> Tally {
    a.sx += b.sx;
    a.sy += b.sy;
    for (a, b) in a.counts.iter_mut().zip(b.counts) {
        *a += b;
    }
    a
}

/// Steps the generator and returns its value in (0, 1).
fn uniform(state: &mut u64) -> f64 {
    *state = times(MULTIPLIER, *state);
    *state as f64 / (1_u64 << 46) as f64
}

/// Multiplies modulo 2^46. What overflows 64 bits would be cut off anyway.
fn times(a: u64, b: u64) -> u64 {
    a.wrapping_mul(b) & MODULUS_MASK
}

/// Returns the generator's state after `steps` more steps, in as many multiplications as `steps` has binary digits.
fn jump(mut state: u64, mut steps: u64) -> u64 {
    let mut power = MULTIPLIER;
    while steps > 0 {
        if steps % 2 == 1 {
            state = times(power, state);
        }
        power = times(power, power);
        steps /= 2;
    }
    state
}

impl Class {
    /// Returns the binary logarithm of the number of pairs.
    fn pairs_log2(self) -> u32 {
        match self {
            Class::S => 24,
            Class::W => 25,
            Class::A => 28,
            Class::B => 30,
        }
    }

    /// Returns the published sums.
    fn sums(self) -> (f64, f64) {
        match self {
            Class::S => (-3.24783465203474e3, -6.958407078382297e3),
            Class::W => (-2.863319731645753e3, -6.320053679109499e3),
            Class::A => (-4.295875165629892e3, -1.580732573678431e4),
            Class::B => (4.033815542441498e4, -2.660669192809235e4),
        }
    }

    /// Tells whether the sums are the published ones.
    fn verifies(self, tally: &Tally) -> bool {
        let (sx, sy) = self.sums();
        let close = |sum: f64, published: f64| ((sum - published) / published).abs() <= TOLERANCE;
        close(tally.sx, sx) && close(tally.sy, sy)
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let Options { class } = Options::parse();
    let cluster = Cluster::connect_or_embedded()?;
    let blocks = 1 << (class.pairs_log2() - BLOCK_PAIRS_LOG2);
    let started = Instant::now();
    let tally = cluster.map::<gaussians>(0..blocks).progress_bar().reduce()?;
    let seconds = started.elapsed().as_secs_f64();

    let numbers = 2.0_f64.powf(f64::from(class.pairs_log2() + 1));
    println!("EP benchmark results (NAS Parallel Benchmarks)\n");
    println!(" class              = {class:?}");
    println!(" pairs              = 2^{}", class.pairs_log2());
    println!(" Gaussian pairs     = {}", tally.counts.iter().sum::<u64>());
    println!(" sums               = {:.15e} {:.15e}", tally.sx, tally.sy);
    println!(" counts");
    for (index, count) in tally.counts.iter().enumerate() {
        println!(" {index:>6} {count:>13}");
    }
    println!(" time in seconds    = {seconds:.2}");
    println!(" Mop/s total        = {:.2}", numbers / seconds / 1e6);
    if class.verifies(&tally) {
        println!(" VERIFICATION SUCCESSFUL");
        Ok(())
    } else {
        let (sx, sy) = class.sums();
        println!(" VERIFICATION FAILED");
        Err(format!("class {class:?} must sum up to {sx:.15e} and {sy:.15e} within {TOLERANCE:e}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_bit_exact_with_wide_arithmetic() {
        let mut wide = u128::from(SEED);
        let mut state = SEED;
        for step in 1..=10_000 {
            wide = wide * u128::from(MULTIPLIER) % (1 << 46);
            let value = uniform(&mut state);
            assert_eq!(u128::from(state), wide, "step {step}");
            assert_eq!(jump(SEED, step), state, "jump by {step}");
            assert!(value > 0.0 && value < 1.0);
        }
    }

    #[test]
    fn jumps_add_up() {
        assert_eq!(jump(SEED, 0), SEED);
        assert_eq!(jump(jump(SEED, 3 << 40), 12_345), jump(SEED, (3 << 40) + 12_345));
        assert_eq!(jump(SEED, 1 << 44), SEED, "the period is 2^44");
    }

    #[test]
    fn class_s_has_the_published_sums() {
        let mut tally = Tally::default();
        for block in 0..1 << (24 - BLOCK_PAIRS_LOG2) {
            tally = add(tally, gaussians(block));
        }
        assert!(Class::S.verifies(&tally), "{tally:?}");
        assert_eq!(tally.counts.iter().sum::<u64>(), 13_176_389);
    }

    #[test]
    fn a_lost_block_or_a_repeated_one_does_not_verify() {
        let mut tally = Tally {
            sx: Class::S.sums().0,
            sy: Class::S.sums().1,
            ..Tally::default()
        };
        assert!(Class::S.verifies(&tally));
        tally = add(tally, gaussians(7));
        assert!(!Class::S.verifies(&tally));
        assert!(!Class::A.verifies(&Tally {
            sx: f64::NAN,
            ..Tally::default()
        }));
    }
}
