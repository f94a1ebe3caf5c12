//! How ranks leave, as far as it concerns the others.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Runs of ranks that are named; more are counted.
const RUNS_NAMED_MAX: usize = 8;

/// How a rank left in a way that concerns the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Departure {
    /// It asked for all to be ended, with this exit code.
    Aborted {
        /// Which.
        rank: u32,
        /// As it wishes; any number.
        code: i32,
    },
    /// It ended in the middle of things, or spoke nonsense.
    Lost {
        /// Which.
        rank: u32,
        /// What it said, if that was the reason.
        nonsense: Option<String>,
    },
    /// It did nothing wrong by itself, but others wait at a barrier that it will never enter.
    Missed(Missed),
}

/// A rank that enters no barrier any more, and left in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Which.
    pub rank: u32,
    /// Whether it has said farewell; else it has ended without a word, as programs do that are none of MPI.
    pub has_finalized: bool,
}

/// A rank that others wait for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Which, and how it left.
    pub absence: Absence,
    /// Those who wait, as far as they are on the node that noticed it; ascending.
    pub waiting: Vec<u32>,
}

impl Missed {
    /// What has happened, in words: no sentence's end. Ranks are called `noun`, as `rank` or `task`.
    pub fn story(&self, noun: &str) -> String {
        let Absence { rank, has_finalized } = self.absence;
        let (how, wait) = match has_finalized {
            true => ("called MPI_Finalize", "still wait"),
            false => ("ended without MPI_Init", "wait"),
        };
        let (plural, wait) = match self.waiting.len() {
            1 => ("", wait.replace("wait", "waits")),
            _ => ("s", wait.to_owned()),
        };
        let waiting = Runs(&self.waiting);
        format!("{noun} {rank} {how}, and {noun}{plural} {waiting} {wait} for it")
    }

    /// What the user can do about it.
    pub fn next_step(&self) -> &'static str {
        match self.absence.has_finalized {
            true => {
                "build all programs of an MPI job with the same MPI library, and have all ranks call MPI_Finalize last"
            }
            false => {
                "have all ranks of an MPI job call MPI_Init, and start programs that do not as a job or step of their own"
            }
        }
    }
}

/// Ranks as `0-2, 5`.
struct Runs<'a>(&'a [u32]);

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|one, next| one + 1 == *next);
        let mut named = 0;
        for (index, run) in runs.take(RUNS_NAMED_MAX).enumerate() {
            f.write_str(if index > 0 { ", " } else { "" })?;
            match run {
                [one] => write!(f, "{one}")?,
                _ => write!(f, "{}-{}", run[0], run[run.len() - 1])?,
            }
            named += run.len();
        }
        match self.0.len() - named {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missed_and_who_waits_is_said_in_few_words() {
        let story = |has_finalized, waiting: &[u32]| {
            let absence = Absence {
                rank: 3,
                has_finalized,
            };
            let waiting = waiting.to_vec();
            Missed { absence, waiting }.story("rank")
        };
        assert_eq!(
            story(false, &[1]),
            "rank 3 ended without MPI_Init, and rank 1 waits for it"
        );
        assert_eq!(
            story(true, &[0, 1, 2, 5]),
            "rank 3 called MPI_Finalize, and ranks 0-2, 5 still wait for it"
        );
        let every_second: Vec<u32> = (5..30).step_by(2).collect();
        assert_eq!(
            story(false, &every_second),
            "rank 3 ended without MPI_Init, and ranks 5, 7, 9, 11, 13, 15, 17, 19 and 5 more wait for it"
        );
    }
}
