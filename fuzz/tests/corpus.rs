//! The corpora, replayed, and bytes changed from them at random, from fixed seeds.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says which file it was"
)]

use std::path::Path;

use phalanx_fuzz::{TARGETS, Target};

/// Changed copies of each file.
const CHANGES: u64 = 200;

/// A SplitMix64 generator (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Changes a few bytes, cuts, repeats, or writes a number that is about to overflow.
fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
            2 => bytes.insert(at, dice.next() as u8),
            // the length markers of the codec, and what follows them
            3 => {
                let end = (at + 9).min(bytes.len());
                bytes[at..end].fill(0xff);
                if let Some(first) = bytes.get_mut(at) {
                    *first = 251 + dice.below(4) as u8;
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
}

fn replay(name: &str, target: Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 5, "the corpus `{name}` is all but empty");
    for (number, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        let run = |bytes: &[u8]| {
            let ended = std::panic::catch_unwind(|| target(bytes));
            if let Err(panic) = ended {
                eprintln!("from {}: these bytes fail: {bytes:?}", file.display());
                std::panic::resume_unwind(panic);
            }
        };
        run(&bytes);
        let mut dice = Dice(number as u64);
        for _ in 0..CHANGES {
            let mut bytes = bytes.clone();
            change(&mut bytes, &mut dice);
            run(&bytes);
        }
    }
}

#[test]
fn corpora_are_survived_as_they_are_and_changed() {
    for (name, target) in TARGETS {
        replay(name, target);
    }
}
