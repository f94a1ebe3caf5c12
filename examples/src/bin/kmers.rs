//! Counts the k-mers of FASTA files: every piece of k bases, how often it occurs, and which occur most.
//!
//! A table of all k-mers can be larger than the files, so it is never sent anywhere. The possible k-mers are divided into
//! buckets, one task for each: a task walks over the sequences, which every worker has, and counts the k-mers of its own
//! bucket. What leaves it is small: how many there were, how many distinct, and the most frequent. Buckets share no
//! k-mer, so merging two of these is exact.

use std::cmp::Reverse;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use flate2::bufread::MultiGzDecoder;
use phalanx::Cluster;
use serde::{Deserialize, Serialize};

/// Count the k-mers of FASTA files.
#[derive(Parser)]
#[command(after_help = "Example: kmers -k 21 --top 5 examples/data/phage_lambda.fa.gz")]
struct Options {
    /// FASTA files, plain or compressed by gzip
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Bases in a k-mer, from 1 to 32
    #[arg(short, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=32))]
    k: u32,
    /// How many of the most frequent k-mers to list
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Count a k-mer and its reverse complement apart, not as one
    #[arg(long)]
    forward_only: bool,
}

/// What every bucket needs to know.
#[derive(Serialize, Deserialize)]
struct Search {
    k: u32,
    top: usize,
    forward_only: bool,
    bucket_count: u64,
    sequences: Sequences,
}

/// Stretches of the letters A, C, G and T. No k-mer reaches over the end of one.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sequences {
    /// Two bits for each base, four bases in a byte, the first in the lowest bits; stretches follow each other.
    packed: Vec<u8>,
    /// How many bases there are.
    base_count: u64,
    /// Where each stretch ends, in bases from the beginning of all.
    ends: Vec<u64>,
}

/// What a bucket, or several, contribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Summary {
    /// K-mers, each as often as it occurs.
    total: u64,
    /// K-mers, each once.
    distinct: u64,
    /// The most frequent ones, as count and code, most frequent first and then in alphabetical order.
    most_frequent: Vec<(u64, u64)>,
    /// How many of those to keep.
    top: usize,
}

/// The bases in the order of their codes; the code of a k-mer is that of its bases, two bits each, first base highest.
const BASES: [u8; 4] = *b"ACGT";
/// Bases that one run can hold: packed, they fit into the largest parameters that a job may have.
const BASES_MAX: u64 = 200_000_000;
/// K-mers that one bucket should have: their codes fit into a second-level cache.
const BUCKET_KMERS: u64 = 1 << 17;
/// More buckets than this would walk over the sequences too often.
const BUCKETS_MAX: u64 = 64;

/// Counts the k-mers of one bucket.
#[phalanx::kernel(reduce = merge)]
fn count_bucket(bucket: u64, search: &Search) -> Summary {
    let mut codes = Vec::new();
    search.sequences.for_each_kmer(search.k, |forward, reverse| {
        let code = if search.forward_only {
            forward
        } else {
            forward.min(reverse)
        };
        if bucket_of(code, search.bucket_count) == bucket {
            codes.push(code);
        }
    });
    codes.sort_unstable();
    let mut most_frequent: Vec<_> = codes
        .chunk_by(|a, b| a == b)
        .map(|run| (run.len() as u64, run[0]))
        .collect();
    let (total, distinct) = (codes.len() as u64, most_frequent.len() as u64);
    keep_most_frequent(&mut most_frequent, search.top);
    Summary {
        total,
        distinct,
        most_frequent,
        top: search.top,
    }
}

/// Merges the summaries of buckets, which have no k-mer in common.
fn merge(mut a: Summary, b: Summary) -> Summary {
    a.total += b.total;
    a.distinct += b.distinct;
    a.most_frequent.extend(b.most_frequent);
    keep_most_frequent(&mut a.most_frequent, a.top);
    a
}

/// Orders k-mers by frequency, then alphabetically, and keeps the first `top`.
fn keep_most_frequent(kmers: &mut Vec<(u64, u64)>, top: usize) {
    let rank = |&(count, code): &(u64, u64)| (Reverse(count), code);
    if top < kmers.len() {
        kmers.select_nth_unstable_by_key(top, rank);
        kmers.truncate(top);
    }
    kmers.sort_unstable_by_key(rank);
}

/// Spreads codes evenly over the buckets, however much the k-mers have in common.
fn bucket_of(code: u64, bucket_count: u64) -> u64 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (code ^ (code >> 32)).wrapping_mul(GOLDEN_RATIO);
    ((u128::from(mixed) * u128::from(bucket_count)) >> 64) as u64
}

/// Returns the k-mer that a code stands for.
fn text(code: u64, k: u32) -> String {
    (0..k)
        .rev()
        .map(|position| char::from(BASES[(code >> (2 * position) & 3) as usize]))
        .collect()
}

impl Search {
    /// Divides the k-mers into as many buckets as their number is worth.
    fn new(options: &Options, sequences: Sequences) -> Search {
        let &Options {
            k, top, forward_only, ..
        } = options;
        let bucket_count = (sequences.kmer_count(k) / BUCKET_KMERS).clamp(8, BUCKETS_MAX);
        Search {
            k,
            top,
            forward_only,
            bucket_count,
            sequences,
        }
    }
}

impl Sequences {
    /// Returns where each stretch begins and ends.
    fn stretches(&self) -> impl Iterator<Item = (u64, u64)> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied())
    }

    /// Returns the number of k-mers, from the lengths alone.
    fn kmer_count(&self, k: u32) -> u64 {
        self.stretches()
            .map(|(start, end)| (end - start + 1).saturating_sub(u64::from(k)))
            .sum()
    }

    /// Calls `visit` with the code of every k-mer and that of its reverse complement.
    fn for_each_kmer(&self, k: u32, mut visit: impl FnMut(u64, u64)) {
        let mask = u64::MAX >> (64 - 2 * k);
        for (start, end) in self.stretches() {
            let (mut forward, mut reverse) = (0, 0);
            for position in start..end {
                let base = u64::from(self.packed[(position / 4) as usize] >> (position % 4 * 2) & 3);
                forward = (forward << 2 | base) & mask;
                reverse = reverse >> 2 | (3 - base) << (2 * (k - 1));
                if position + 1 >= start + u64::from(k) {
                    visit(forward, reverse);
                }
            }
        }
    }

    /// Appends a base to the stretch that is being built.
    fn push(&mut self, code: u8) {
        let shift = self.base_count % 4 * 2;
        match self.packed.last_mut() {
            Some(last) if shift > 0 => *last |= code << shift,
            _ => self.packed.push(code),
        }
        self.base_count += 1;
    }

    /// Ends the stretch that is being built; two in a row are one.
    fn end_stretch(&mut self) {
        if self.ends.last().copied().unwrap_or(0) < self.base_count {
            self.ends.push(self.base_count);
        }
    }

    /// Appends the records of a FASTA file and returns how many they were.
    ///
    /// # Errors
    ///
    /// A sentence for the user, with the line.
    fn read(&mut self, mut fasta: impl BufRead) -> Result<u64, String> {
        let (mut records, mut number, mut line) = (0, 0, Vec::new());
        while fasta
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("line {}: {error}", number + 1))?
            > 0
        {
            number += 1;
            let text = line.trim_ascii();
            if text.starts_with(b">") {
                self.end_stretch();
                records += 1;
            } else if records == 0 && !text.is_empty() {
                let begin = text[..1].escape_ascii();
                return Err(format!(
                    "line {number} begins with `{begin}`, not with the `>` of a FASTA record"
                ));
            } else {
                self.read_bases(text)
                    .map_err(|error| format!("line {number} {error}"))?;
            }
            line.clear();
        }
        self.end_stretch();
        if records > 0 {
            Ok(records)
        } else {
            Err("it has no line with the `>` of a FASTA record".into())
        }
    }

    /// Appends one line of bases. Letters that stand for several bases end a stretch, and so do gaps.
    fn read_bases(&mut self, line: &[u8]) -> Result<(), String> {
        for letter in line {
            match letter.to_ascii_uppercase() {
                b'A' => self.push(0),
                b'C' => self.push(1),
                b'G' => self.push(2),
                b'T' => self.push(3),
                b'U' | b'N' | b'R' | b'Y' | b'S' | b'W' | b'K' | b'M' | b'B' | b'D' | b'H' | b'V' | b'X'
                | b'-' => {
                    self.end_stretch();
                }
                _ => return Err(format!("has `{}`, which is no base", letter.escape_ascii())),
            }
        }
        if self.base_count <= BASES_MAX {
            Ok(())
        } else {
            Err(format!("is beyond the {BASES_MAX} bases of one run"))
        }
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut sequences = Sequences::default();
    for path in &options.files {
        let before = sequences.base_count;
        let records = open(path)
            .and_then(|file| sequences.read(file))
            .map_err(|error| {
                format!(
                    "cannot count {}: {error}\n\n\
                 hint: name FASTA files of nucleotides, such as examples/data/phage_lambda.fa.gz",
                    path.display()
                )
            })?;
        let bases = sequences.base_count - before;
        println!(
            "{}: {bases} bases, {records} record{}",
            path.display(),
            if records == 1 { "" } else { "s" }
        );
    }

    let cluster = Cluster::connect_or_embedded()?;
    let started = Instant::now();
    let search = Search::new(&options, sequences);
    let summary = cluster
        .map::<count_bucket>(0..search.bucket_count)
        .parameters(&search)
        .progress_bar()
        .reduce()?;
    let expected = search.sequences.kmer_count(search.k);
    if summary.total != expected {
        return Err(format!(
            "counted {} k-mers, but stretches this long have {expected}",
            summary.total
        )
        .into());
    }

    let strands = match search.forward_only {
        true => "of the forward strand",
        false => "of both strands",
    };
    println!(
        "{}-mers {strands}: {} in all, {} distinct",
        search.k, summary.total, summary.distinct
    );
    for (count, code) in &summary.most_frequent {
        println!("{count:>10} {}", text(*code, search.k));
    }
    eprintln!("counted in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Opens a file, and decompresses it if it begins as gzip does, whatever its name.
fn open(path: &Path) -> Result<Box<dyn BufRead>, String> {
    let mut file = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    let gzip = file
        .fill_buf()
        .map_err(|error| error.to_string())?
        .starts_with(&[0x1f, 0x8b]);
    if gzip {
        Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))))
    } else {
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    const LAMBDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/phage_lambda.fa.gz");

    fn sequences(fasta: &str) -> Sequences {
        let mut sequences = Sequences::default();
        sequences.read(fasta.as_bytes()).unwrap();
        sequences
    }

    fn search(k: u32, top: usize, forward_only: bool, bucket_count: u64, sequences: Sequences) -> Search {
        Search {
            k,
            top,
            forward_only,
            bucket_count,
            sequences,
        }
    }

    /// Counts bucket by bucket, as the workers do, and merges from the middle outwards.
    fn run(search: &Search) -> Summary {
        let counted: Vec<_> = (0..search.bucket_count)
            .map(|bucket| count_bucket(bucket, search))
            .collect();
        let (left, right) = counted.split_at(counted.len() / 2);
        let fold = |part: &[Summary]| part.iter().cloned().reduce(merge);
        let right = fold(right).unwrap();
        fold(left).map_or(right.clone(), |left| merge(left, right))
    }

    /// The sequence of a FASTA file with one record, read by other means.
    fn letters(path: &str) -> String {
        let mut text = String::new();
        open(Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
        text.lines().filter(|line| !line.starts_with('>')).collect()
    }

    /// Counts with string slices in a tree: no codes, no buckets.
    fn naive(letters: &str, k: usize, forward_only: bool) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for start in 0..(letters.len() + 1).saturating_sub(k) {
            let forward = letters[start..start + k].to_owned();
            let complement = |base| match base {
                'A' => 'T',
                'C' => 'G',
                'G' => 'C',
                _ => 'A',
            };
            let reverse: String = forward.chars().rev().map(complement).collect();
            let kmer = match forward_only {
                true => forward,
                false => forward.min(reverse),
            };
            *counts.entry(kmer).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn phage_lambda_agrees_with_an_independent_count() {
        let letters = letters(LAMBDA);
        assert_eq!(letters.len(), 48_502);
        for (k, forward_only, bucket_count) in [
            (1, true, 3),
            (1, false, 8),
            (2, false, 1),
            (11, false, 8),
            (21, true, 64),
            (31, false, 5),
            (32, false, 8),
        ] {
            let mut expected: Vec<_> = naive(&letters, k as usize, forward_only).into_iter().collect();
            expected.sort_by_key(|(kmer, count)| (Reverse(*count), kmer.clone()));
            let mut sequences = Sequences::default();
            sequences.read(open(Path::new(LAMBDA)).unwrap()).unwrap();
            let search = search(k, 100, forward_only, bucket_count, sequences);
            let summary = run(&search);
            assert_eq!(summary.total, 48_502 - u64::from(k) + 1, "k {k}");
            assert_eq!(summary.distinct, expected.len() as u64, "k {k}");
            let most_frequent: Vec<_> = summary
                .most_frequent
                .iter()
                .map(|&(count, code)| (text(code, k), count))
                .collect();
            assert_eq!(most_frequent, expected[..expected.len().min(100)], "k {k}");
        }
    }

    #[test]
    fn summaries_do_not_depend_on_the_buckets() {
        let with_buckets = |bucket_count| {
            let mut sequences = Sequences::default();
            sequences.read(open(Path::new(LAMBDA)).unwrap()).unwrap();
            run(&search(9, 50, false, bucket_count, sequences))
        };
        let one = with_buckets(1);
        assert_eq!(one.most_frequent.len(), 50);
        for bucket_count in [2, 7, 64, 1000] {
            assert_eq!(with_buckets(bucket_count), one, "{bucket_count} buckets");
        }
    }

    #[test]
    fn no_kmer_crosses_a_record_or_an_unknown_base() {
        let fasta = ">a\nACG\nT\n>b\n\nacgNACG--T\n>empty\n>c\nAC\r\nG\r\n";
        let summary = run(&search(3, 10, true, 2, sequences(fasta)));
        let kmers: Vec<_> = summary
            .most_frequent
            .iter()
            .map(|&(count, code)| (text(code, 3), count))
            .collect();
        assert_eq!(kmers, [("ACG".to_owned(), 4), ("CGT".to_owned(), 1)]);
        assert_eq!((summary.total, sequences(fasta).kmer_count(3)), (5, 5));
    }

    #[test]
    fn sequences_shorter_than_k_have_none() {
        for k in [5, 32] {
            let search = search(k, 10, false, 8, sequences(">a\nACGT\n"));
            assert_eq!(
                run(&search),
                Summary {
                    top: 10,
                    ..Summary::default()
                }
            );
            assert_eq!(search.sequences.kmer_count(k), 0);
        }
    }

    #[test]
    fn a_list_of_none_or_of_more_than_there_are() {
        let listed = |top| run(&search(2, top, false, 3, sequences(">a\nACGT\n"))).most_frequent;
        assert_eq!([0, 99].map(|top| listed(top).len()), [0, 2]);
    }

    #[test]
    fn what_is_no_fasta_is_refused_with_the_line() {
        for (fasta, message) in [
            ("", "no line with the `>`"),
            ("\n\n", "no line with the `>`"),
            ("@read\nACGT\n+\n!!!!\n", "line 1 begins with `@`"),
            ("\nACGT\n", "line 2 begins with `A`"),
            (">protein\nACGT\nMELK\n", "line 3 has `E`"),
            (">a\nAC GT\n", "line 2 has ` `"),
            (">a\n\u{e9}\n", "line 2 has `\\xc3`"),
        ] {
            let error = Sequences::default().read(fasta.as_bytes()).unwrap_err();
            assert!(error.contains(message), "{fasta:?}: {error}");
        }
    }

    #[test]
    fn a_compressed_file_that_is_cut_off_is_refused() {
        let whole = std::fs::read(LAMBDA).unwrap();
        let cut = MultiGzDecoder::new(&whole[..whole.len() / 2]);
        assert!(Sequences::default().read(BufReader::new(cut)).is_err());
    }
}
