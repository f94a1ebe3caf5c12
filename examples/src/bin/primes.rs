//! Counts the primes up to a limit, one task for each block of numbers.
//!
//! Each block is sieved on its own: odd numbers only, a bit for each, in segments that fit into the first-level cache.
//! The primes up to the square root of the limit are found once by the driver and shared with every worker; one number
//! comes back for each range of blocks.

use std::error::Error;
use std::sync::LazyLock;
use std::time::Instant;

use clap::Parser;
use phalanx::Cluster;
use serde::{Deserialize, Serialize};

/// Count the primes up to a limit.
#[derive(Parser)]
#[command(after_help = "Example: primes --to 1e9")]
struct Options {
    /// The largest number to look at, such as 1000000, 1e9 or 10^10
    #[arg(long, default_value = "1e10", value_parser = parse_limit)]
    to: u64,
    /// Numbers in one block, the unit of work; a multiple of 16
    #[arg(long, default_value_t = 1 << 24, value_parser = parse_block)]
    block: u64,
}

/// What every block needs to know.
#[derive(Serialize, Deserialize)]
struct Sieve {
    /// The largest number to look at.
    to: u64,
    /// Numbers in one block, a multiple of 16 so that blocks begin with a new byte of the pattern.
    block: u64,
    /// The odd primes whose square is at most `to`.
    primes: Vec<u32>,
}

/// The largest limit: its square root's primes still travel to the workers in one piece.
const LIMIT_MAX: u64 = 100_000_000_000_000;
/// Bytes of one segment; each bit stands for an odd number.
const SEGMENT_BYTES: usize = 32 << 10;
/// Odd primes whose multiples are laid down as a ready-made pattern, not one by one.
const PATTERN_PRIMES: [u64; 5] = [3, 5, 7, 11, 13];
/// Bytes after which that pattern repeats.
const PATTERN_BYTES: usize = 3 * 5 * 7 * 11 * 13;

/// Counts the primes of one block.
#[phalanx::kernel(reduce = add)]
fn count_block(block: u64, sieve: &Sieve) -> u64 {
    let start = block * sieve.block;
    let end = sieve.to.saturating_add(1).min(start + sieve.block);
    // Bit i of the block stands for the number 2 * (first + i) + 1.
    let first = start / 2;
    let bits = (end / 2).saturating_sub(first);
    let primes = &sieve.primes[PATTERN_PRIMES.len().min(sieve.primes.len())..];
    let mut next: Vec<u64> = primes
        .iter()
        .map(|&prime| first_multiple(u64::from(prime), first))
        .collect();

    let mut segment = vec![0_u8; SEGMENT_BYTES];
    let mut found = u64::from(start <= 2 && 2 < end);
    for offset in (0..bits).step_by(SEGMENT_BYTES * 8) {
        let length = (bits - offset).min(SEGMENT_BYTES as u64 * 8);
        let segment = &mut segment[..length.div_ceil(8) as usize];
        lay_pattern(segment, first + offset);
        for (&prime, next) in primes.iter().zip(&mut next) {
            *next = cross_off(segment, *next, u64::from(prime));
        }
        found += unmarked(segment, length as usize);
        if first + offset == 0 {
            // The pattern crosses off its own primes, and leaves 1.
            found += PATTERN_PRIMES.iter().filter(|&&prime| prime / 2 < length).count() as u64;
            found -= 1;
        }
    }
    found
}

/// Adds the counts of two ranges of blocks.
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// Returns how far after bit `first` the first odd multiple of `prime` lies, from its square on: smaller primes cross off
/// what is below.
fn first_multiple(prime: u64, first: u64) -> u64 {
    let square = prime * prime / 2;
    if square >= first {
        square - first
    } else {
        (prime - (first - square) % prime) % prime
    }
}

/// Crosses off every `prime`-th bit from `next` on, and returns where to go on in the segment that follows.
fn cross_off(segment: &mut [u8], next: u64, prime: u64) -> u64 {
    let (mut bit, prime) = (next as usize, prime as usize);
    let bits = segment.len() * 8;
    while bit < bits {
        segment[bit / 8] |= 1 << (bit % 8);
        bit += prime;
    }
    (bit - bits) as u64
}

/// One period of the multiples of `PATTERN_PRIMES`.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pattern = vec![0; PATTERN_BYTES];
    for prime in PATTERN_PRIMES {
        cross_off(&mut pattern, prime / 2, prime);
    }
    pattern
});

/// Fills a segment whose first bit is bit `first` of all with the pattern.
fn lay_pattern(segment: &mut [u8], first: u64) {
    let mut from = (first / 8 % PATTERN_BYTES as u64) as usize;
    let mut rest = segment;
    while !rest.is_empty() {
        let length = rest.len().min(PATTERN_BYTES - from);
        let (filled, unfilled) = rest.split_at_mut(length);
        filled.copy_from_slice(&PATTERN[from..from + length]);
        (rest, from) = (unfilled, 0);
    }
}

/// Counts the bits that are not crossed off among the first `length`, all bits but some of the last byte.
fn unmarked(segment: &[u8], length: usize) -> u64 {
    let zeros: u64 = segment.iter().map(|byte| u64::from(byte.count_zeros())).sum();
    // The last byte's bits from `length` on do not count.
    let beyond = segment.last().map_or(0, |last| match length % 8 {
        0 => 0,
        used => (last >> used).count_zeros() - used as u32,
    });
    zeros - u64::from(beyond)
}

impl Sieve {
    /// Finds the primes that the blocks are sieved with.
    fn new(to: u64, block: u64) -> Sieve {
        let root = to.isqrt() as usize;
        let mut composite = vec![false; root + 1];
        let mut primes = Vec::new();
        for number in (3..=root).step_by(2) {
            if !composite[number] {
                primes.push(number as u32);
                (number * number..=root)
                    .step_by(number)
                    .for_each(|multiple| composite[multiple] = true);
            }
        }
        Sieve { to, block, primes }
    }

    /// Returns how many blocks there are; even a limit of 0 has one.
    fn blocks(&self) -> u64 {
        self.to / self.block + 1
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let Options { to, block } = Options::parse();
    let cluster = Cluster::connect_or_embedded()?;
    let started = Instant::now();
    let sieve = Sieve::new(to, block);
    let primes = cluster
        .map::<count_block>(0..sieve.blocks())
        .parameters(&sieve)
        .progress_bar()
        .reduce()?;
    let seconds = started.elapsed().as_secs_f64();
    let verdict = match known(to) {
        Some(known) if known == primes => ", verified",
        Some(known) => {
            return Err(format!("counted {primes} primes up to {to}, but there are {known}").into());
        }
        None => "",
    };
    println!("pi({to}) = {primes}{verdict} ({seconds:.1} s)");
    Ok(())
}

/// Returns the published number of primes up to a power of ten.
fn known(to: u64) -> Option<u64> {
    // https://oeis.org/A006880
    const PRIMES_TO_POWER_OF_TEN: [u64; 15] = [
        0,
        4,
        25,
        168,
        1_229,
        9_592,
        78_498,
        664_579,
        5_761_455,
        50_847_534,
        455_052_511,
        4_118_054_813,
        37_607_912_018,
        346_065_536_839,
        3_204_941_750_802,
    ];
    let exponent = to.checked_ilog10()?;
    if to == 10_u64.pow(exponent) {
        PRIMES_TO_POWER_OF_TEN.get(exponent as usize).copied()
    } else {
        None
    }
}

/// Parses a whole number, also in the forms `1_000`, `1e9`, `2.5e9` and `10^9`.
fn parse_limit(text: &str) -> Result<u64, String> {
    let usage = "write a whole number such as 1000000, 1e9 or 10^10";
    let plain = text.replace('_', "");
    let limit = if let Some((base, exponent)) = plain.split_once('^') {
        let base: f64 = base.parse().map_err(|_| usage)?;
        base.powi(exponent.parse().map_err(|_| usage)?)
    } else {
        plain.parse().map_err(|_| usage)?
    };
    // Up to LIMIT_MAX a 64-bit float holds every whole number exactly.
    match limit {
        limit if limit.fract() != 0.0 || limit.is_sign_negative() => Err(usage.into()),
        limit if limit > LIMIT_MAX as f64 => Err(format!("the largest limit is {:e}", LIMIT_MAX as f64)),
        limit => Ok(limit as u64),
    }
}

/// Parses the size of a block.
fn parse_block(text: &str) -> Result<u64, String> {
    match parse_limit(text)? {
        block if block > 0 && block.is_multiple_of(16) => Ok(block),
        _ => Err("it must be a multiple of 16, such as 16777216".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts block by block, as the workers do.
    fn pi(to: u64, block: u64) -> u64 {
        let sieve = Sieve::new(to, block);
        (0..sieve.blocks())
            .map(|block| count_block(block, &sieve))
            .fold(0, add)
    }

    /// Decides by division, without a sieve.
    fn is_prime(number: u64) -> bool {
        number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
    }

    #[test]
    fn every_small_limit_agrees_with_trial_division() {
        let mut expected = 0;
        for to in 0..1200 {
            expected += u64::from(is_prime(to));
            for block in [16, 48, 64, 1 << 24] {
                assert_eq!(pi(to, block), expected, "to {to} in blocks of {block}");
            }
        }
    }

    #[test]
    fn known_counts_come_out_whatever_the_block() {
        for (exponent, block) in [
            (4, 1 << 24),
            (5, 1 << 12),
            (6, 999_984),
            (6, 1 << 20),
            (7, 1 << 24),
            (7, 524_288),
        ] {
            let to = 10_u64.pow(exponent);
            assert_eq!(Some(pi(to, block)), known(to), "to {to} in blocks of {block}");
        }
    }

    #[test]
    fn blocks_far_from_zero_agree_with_trial_division() {
        let sieve = Sieve::new(10_000_002_000, 1_000_000);
        assert_eq!(sieve.blocks(), 10_001, "the last block is cut off by the limit");
        let expected = (10_000_000_000..=10_000_002_000)
            .filter(|&number| is_prime(number))
            .count();
        assert_eq!(count_block(10_000, &sieve), expected as u64);
    }

    #[test]
    fn a_limit_that_is_prime_counts() {
        for (to, expected) in [(2, 1), (3, 2), (17, 7), (524_287, 43_390), (524_288, 43_390)] {
            assert_eq!(pi(to, 1 << 24), expected, "to {to}");
        }
    }

    #[test]
    fn limits_are_read_in_the_usual_forms() {
        for (text, limit) in [
            ("0", 0),
            ("1_000", 1000),
            ("1e9", 1_000_000_000),
            ("2.5e3", 2500),
            ("10^10", 10_000_000_000),
        ] {
            assert_eq!(parse_limit(text), Ok(limit), "{text}");
        }
        for text in ["abc", "", "-1", "1.5", "10^x", "nan", "inf", "1e15", "10^99"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
        assert!(parse_block("24").is_err());
        assert!(parse_block("0").is_err());
    }
}
