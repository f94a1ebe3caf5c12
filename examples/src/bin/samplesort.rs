//! Sorts numbers that are spread over ranks, by sampling.
//!
//! Each rank sorts its own keys and shows the others a few of them; from all samples every rank finds the same splitters,
//! which cut the keys into as many buckets as there are ranks; bucket i goes to rank i. Each key moves once. Regular samples
//! of sorted keys keep the buckets even (Shi and Schaeffer 1992).
//!
//! ```text
//! $ cargo run --release --bin samplesort -- --ranks 4 --nodes 2
//! 10000000 keys in order, verified; at most 1.01 times the mean at one of 4 ranks
//! ```

use std::error::Error;
use std::time::Instant;

use clap::Parser;
use phalanx::ranks::CommError;
use phalanx::{Cluster, Communicator, EmbeddedOptions};
use serde::{Deserialize, Serialize};

/// Sort numbers that are spread over ranks.
///
/// Shows all_gather of samples, all_to_all of buckets, and all_reduce for the check that the keys are in order and the same
/// as before.
#[derive(Parser)]
#[command(after_help = "Example, four ranks on two nodes: samplesort --ranks 4 --nodes 2")]
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
#[derive(clap::Args, Debug, Clone, Copy, Serialize, Deserialize)]
struct Input {
    /// Keys of all ranks together
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// How many different keys there are at most
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    distinct: u64,
}

/// What a rank returns; its keys stay where they are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Report {
    /// How many keys the rank has in the end.
    keys: usize,
    /// What all ranks found out about all keys.
    verdict: Verdict,
    seconds: f64,
}

/// Whether the sort was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Verdict {
    /// The keys are those from before, in order.
    Correct,
    /// Some key is before a smaller one.
    OutOfOrder,
    /// The keys are not those from before.
    OtherKeys,
}

/// Samples that each rank shows.
const SAMPLES: usize = 256;

/// Returns the key at a place among all keys: the numbers of SplitMix64 (Steele, Lea and Flood 2014).
fn key(index: u64, distinct: u64) -> u64 {
    mix(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) % distinct
}

/// Returns a number that depends on every bit of another.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Count, sum, and exclusive or of the mixed bits of keys: the same in any order.
fn fingerprint(keys: &[u64]) -> [u64; 3] {
    let (sum, bits) = keys.iter().fold((0_u64, 0), |(sum, bits), &key| {
        (sum.wrapping_add(mix(key)), bits ^ mix(!key))
    });
    [keys.len() as u64, sum, bits]
}

/// Sorts the keys of all ranks: those of a rank are in order, and none is less than one of a rank before.
///
/// # Errors
///
/// When another rank has ended.
fn sort(comm: &Communicator, mut keys: Vec<u64>) -> Result<Vec<u64>, CommError> {
    keys.sort_unstable();
    let sample = |index| keys.get(keys.len() * (2 * index + 1) / (2 * SAMPLES));
    // a rank without keys has nothing to show, yet all must show equally many
    let own: Vec<u64> = (0..SAMPLES)
        .map(|index| sample(index).copied().unwrap_or(u64::MAX))
        .collect();
    let mut samples = comm.all_gather_slice(&own)?;
    samples.sort_unstable();

    let mut buckets = Vec::with_capacity(comm.size());
    let mut rest = keys.as_slice();
    for rank in 1..comm.size() {
        let splitter = samples[rank * SAMPLES];
        let (bucket, others) = rest.split_at(rest.partition_point(|&key| key < splitter));
        buckets.push(bucket.to_vec());
        rest = others;
    }
    buckets.push(rest.to_vec());
    let mut keys = comm.all_to_all(buckets)?.concat();
    // the stable sort finds the sorted runs and merges them
    keys.sort();
    Ok(keys)
}

/// Checks that the keys of all ranks are in order, and have the fingerprint of those before.
///
/// # Errors
///
/// When another rank has ended.
fn check(comm: &Communicator, before: [u64; 3], keys: &[u64]) -> Result<Verdict, CommError> {
    let ends = comm.all_gather(keys.first().copied().zip(keys.last().copied()))?;
    let ends: Vec<u64> = ends
        .into_iter()
        .flatten()
        .flat_map(|(first, last)| [first, last])
        .collect();
    let in_order = comm.all_reduce(keys.is_sorted(), |a, b| a && b)? && ends.is_sorted();
    let [mut before, mut after] = [before, fingerprint(keys)];
    for fingerprint in [&mut before, &mut after] {
        *fingerprint = comm.all_reduce(*fingerprint, |a, b| {
            [a[0] + b[0], a[1].wrapping_add(b[1]), a[2] ^ b[2]]
        })?;
    }
    Ok(match (in_order, before == after) {
        (true, true) => Verdict::Correct,
        (false, _) => Verdict::OutOfOrder,
        (true, false) => Verdict::OtherKeys,
    })
}

/// Makes this rank's share of the keys, sorts and checks.
///
/// # Errors
///
/// When another rank has ended.
fn make_and_sort(comm: &Communicator, input: Input) -> Result<(Vec<u64>, Verdict), CommError> {
    let (rank, size) = (comm.rank() as u64, comm.size() as u64);
    let share = input.keys * rank / size..input.keys * (rank + 1) / size;
    let own: Vec<u64> = share.map(|index| key(index, input.distinct)).collect();
    let before = fingerprint(&own);
    let keys = sort(comm, own)?;
    let verdict = check(comm, before, &keys)?;
    Ok((keys, verdict))
}

/// What every rank runs.
///
/// # Errors
///
/// When another rank has ended.
#[phalanx::ranks]
fn simulate(comm: &Communicator, input: Input) -> Result<Report, CommError> {
    comm.barrier()?;
    let started = Instant::now();
    let (keys, verdict) = make_and_sort(comm, input)?;
    Ok(Report {
        keys: keys.len(),
        verdict,
        seconds: started.elapsed().as_secs_f64(),
    })
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
    for (rank, Report { verdict, .. }) in reports.iter().enumerate() {
        if *verdict != Verdict::Correct {
            return Err(format!("rank {rank} found the keys wrong: {verdict:?}").into());
        }
    }
    let most = reports.iter().map(|report| report.keys).max().unwrap_or(0) as f64;
    let seconds = reports.iter().map(|report| report.seconds).fold(0.0, f64::max);
    println!(
        "{} keys in order, verified; at most {:.2} times the mean at one of {ranks} ranks",
        input.keys,
        most * f64::from(ranks) / input.keys as f64
    );
    println!(
        "{:.1} million keys/s, made, sorted and checked ({seconds:.1} s)",
        input.keys as f64 / seconds / 1e6
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use phalanx::ranks::{self, LocalGang};

    use super::*;

    /// The keys of each rank, which found them correct.
    fn keys(gang: LocalGang, input: Input) -> Vec<Vec<u64>> {
        let outcomes = gang.run(|comm| make_and_sort(comm, input).unwrap());
        let keys = |outcome: Result<_, _>| {
            let (keys, verdict) = outcome.unwrap();
            assert_eq!(verdict, Verdict::Correct);
            keys
        };
        outcomes.into_iter().map(keys).collect()
    }

    /// A gang on three hosts that talk over QUIC, for one count of ranks: to meet takes most of the time.
    fn over_quic(ranks: usize) -> Option<LocalGang> {
        let per_node = ranks.div_ceil(3).try_into().unwrap();
        (ranks == 5).then(|| LocalGang::new(ranks).ranks_per_node(per_node).over_quic())
    }

    #[test]
    fn keys_of_all_ranks_are_those_that_one_rank_sorts_on_one_node_and_several() {
        for (count, distinct) in [(20_000, u64::MAX), (20_000, 3), (3, u64::MAX), (1, 1)] {
            let mut expected: Vec<u64> = (0..count).map(|index| key(index, distinct)).collect();
            expected.sort_unstable();
            let input = Input {
                keys: count,
                distinct,
            };
            for ranks in [1_usize, 2, 3, 5, 8] {
                let half = ranks.div_ceil(2).try_into().unwrap();
                let on_two = LocalGang::new(ranks).ranks_per_node(half);
                for gang in [LocalGang::new(ranks), on_two]
                    .into_iter()
                    .chain(over_quic(ranks))
                {
                    let found = keys(gang, input).concat();
                    assert!(found == expected, "{count} keys, {distinct} distinct, {gang:?}");
                }
            }
        }
    }

    #[test]
    fn no_rank_gets_many_more_keys_than_others() {
        for ranks in [2, 3, 5, 8] {
            let input = Input {
                keys: 100_000,
                distinct: u64::MAX,
            };
            let keys = keys(LocalGang::new(ranks), input);
            let most = keys.iter().map(Vec::len).max().unwrap();
            assert!(most * ranks < 110_000, "{most} at one of {ranks} ranks");
        }
    }

    #[test]
    fn check_finds_keys_out_of_order_and_other_keys() {
        let verdicts = |keys: [&'static [u64]; 2], before: [&'static [u64]; 2]| {
            let outcomes = ranks::run(2, |comm| {
                check(comm, fingerprint(before[comm.rank()]), keys[comm.rank()]).unwrap()
            });
            outcomes.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        let before: [&[u64]; 2] = [&[4, 1], &[3, 2]];
        assert_eq!(verdicts([&[1, 2, 3, 4], &[]], before), [Verdict::Correct; 2]);
        assert_eq!(verdicts([&[1, 3], &[2, 4]], before), [Verdict::OutOfOrder; 2]);
        assert_eq!(verdicts([&[2, 1], &[3, 4]], before), [Verdict::OutOfOrder; 2]);
        assert_eq!(verdicts([&[1, 2], &[2, 4]], before), [Verdict::OtherKeys; 2]);
        assert_eq!(verdicts([&[1, 2, 3], &[]], before), [Verdict::OtherKeys; 2]);
    }
}
