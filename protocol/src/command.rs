//! Tasks that are processes: any program, or a script, run once per task in its own process group.
//!
//! What the scheduler and people need is a [`CommandWork`]; what only the process needs is a [`CommandPlan`], which travels
//! as a payload like a kernel's parameters.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::job::{Inputs, Payload};

/// A program or script for each task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandWork {
    /// For people: the program with its arguments, or the script's name.
    pub command: String,
    /// An encoded [`CommandPlan`].
    pub plan: Payload,
    /// Where each task's item comes from; the index of a task stands for itself.
    pub inputs: Inputs,
    /// The numbers that tasks have outside, if the job is an array.
    pub array: Option<ArrayIds>,
    /// What else people and other tools want to see, by the words of [`facts`]; at most [`FACTS_MAX`].
    pub facts: BTreeMap<String, String>,
}

/// The variable in which a task's process finds its index, with all that it starts.
pub const INDEX_VARIABLE: &str = "PHALANX_TASK_INDEX";
/// Facts of one command job, and bytes of each name and value.
pub const FACTS_MAX: usize = 64;
/// Bytes of one fact's name or value.
pub const FACT_BYTES_MAX: usize = 4096;

/// The words for a command's facts.
pub mod facts {
    /// The working directory.
    pub const DIRECTORY: &str = "directory";
    /// The pattern of the files that take standard output; absent if output is packed.
    pub const OUTPUT: &str = "output";
    /// The pattern of the files that take standard error; absent if it goes where output goes.
    pub const ERROR: &str = "error";
    /// The partition that was asked for.
    pub const PARTITION: &str = "partition";
    /// The account that was asked for.
    pub const ACCOUNT: &str = "account";
    /// A remark.
    pub const COMMENT: &str = "comment";
    /// Where the batch script was, absolute; `(null)` if it was no file. Absent if what runs is no batch script.
    pub const SCRIPT: &str = "script";
    /// The words of the submission.
    pub const SUBMIT_LINE: &str = "submit-line";
    /// The pattern of the file that is standard input.
    pub const INPUT: &str = "input";
    /// Whether tasks of lost workers run again: `1` or `0`.
    pub const REQUEUE: &str = "requeue";
    /// What it waits for, as `squeue` shows it.
    pub const DEPENDENCY: &str = "dependency";
    /// How many nodes it has, if these are several: the first task runs there what was submitted, and one on each other node
    /// keeps it.
    pub const NODES: &str = "nodes";
    /// How many ranks each task has, or all nodes together.
    pub const RANKS: &str = "ntasks";
    /// Cpus of each rank.
    pub const CPUS_PER_RANK: &str = "cpus-per-task";
}

/// Everything about a task's process that is the same for all tasks of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandPlan {
    /// The job's name.
    pub name: String,
    /// What runs.
    pub action: Action,
    /// `{}` in arguments stands for the task's item, or its number; an item that no argument names is appended.
    pub placeholders: bool,
    /// Variables, as they were at submission; each task gets its own in addition.
    pub environment: Vec<(Bytes, Bytes)>,
    /// The working directory.
    pub directory: Bytes,
    /// Permissions that new files do not get; the worker's if absent.
    pub umask: Option<u32>,
    /// Limits of the process (`setrlimit`), by the system's number of the resource: soft and hard, for no limit `u64::MAX`.
    pub limits: Vec<(u32, u64, u64)>,
    /// What is standard input.
    pub input: TaskInput,
    /// Where output goes.
    pub output: Output,
    /// Whose variables a task finds beside ours.
    pub dialect: Dialect,
    /// What a task is told before its time is over.
    pub warning: Option<Warning>,
    /// How long a task that was told to end (SIGTERM) may take until it is killed, in milliseconds.
    pub grace_millis: u64,
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A program, looked for as a shell does, with its arguments.
    Program(Vec<Bytes>),
    /// A script as it was at submission, run by what its first line names.
    Script {
        /// All of it.
        content: Bytes,
        /// What follows its name.
        arguments: Vec<Bytes>,
    },
    /// Programs side by side, each for the next ranks of a gang; the last for those that are left over.
    Sections(Vec<Section>),
}

/// One of the programs that ranks of a gang run side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// How many ranks run it.
    pub ranks: u32,
    /// The program, looked for as a shell does, with its arguments.
    pub words: Vec<Bytes>,
    /// Variables beside those of all tasks, or instead of them.
    pub environment: Vec<(Bytes, Bytes)>,
    /// The working directory, if it is not that of all; seen from there unless absolute.
    pub directory: Option<Bytes>,
}

/// What a task reads as its standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskInput {
    /// Nothing.
    #[default]
    Empty,
    /// A file, by the pattern of its name.
    File(String),
    /// What clients send to the job while it runs: [`crate::message::client::InputPiece`]. Its first task gets it.
    Streamed,
}

/// Where the output of tasks goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Into few files for the whole job on shared storage, from where any client reads it.
    Packed,
    /// Into files of the user's, whose names may contain patterns (`%j`, `%a`); relative to the working directory.
    Files {
        /// Standard output.
        output: String,
        /// Standard error; it goes with standard output if absent.
        error: Option<String>,
        /// Append to what is there; else it is overwritten.
        append: bool,
    },
}

/// Whose variables a task finds beside `PHALANX_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dialect {
    /// Nobody's.
    Phalanx,
    /// `SLURM_*`.
    Slurm,
    /// `PBS_*`, and `SLURM_*` too.
    Pbs,
}

/// A signal before the time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The signal's number.
    pub signal: i32,
    /// How long before the limit, in milliseconds.
    pub before_millis: u64,
    /// Who gets it.
    pub recipients: Recipients,
}

/// Who of a task's processes gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Recipients {
    /// The process that was started.
    Leader,
    /// Its group without itself: what a batch shell has started, but not the shell.
    Others,
    /// Its whole group.
    All,
    /// Those of its group that a step of a batch script has started: who find this number in [`crate::step::STEP_VARIABLE`].
    Step(u32),
}

/// A signal for tasks that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskSignal {
    /// Its number; one that has a name ([`crate::signal::name`]).
    pub number: i32,
    /// Who gets it.
    pub recipients: Recipients,
}

/// The numbers of an array's tasks: task `i` has the `i`th number, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayIds {
    /// Ascending, without overlap.
    parts: Vec<ArrayPart>,
}

/// Numbers at equal distances: `first`, `first + step`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayPart {
    /// The lowest.
    pub first: u64,
    /// How many, at least 1.
    pub count: u64,
    /// Their distance, at least 1.
    pub step: u64,
}

impl ArrayPart {
    /// The highest number; `None` if it is beyond what fits.
    fn last(self) -> Option<u64> {
        self.step
            .checked_mul(self.count.checked_sub(1)?)?
            .checked_add(self.first)
    }

    /// What is left of it behind its first `count` numbers, if anything is.
    fn behind(self, count: u64) -> Option<Self> {
        (count < self.count).then(|| Self {
            first: self.first + count * self.step,
            count: self.count - count,
            ..self
        })
    }
}

impl ArrayIds {
    /// The numbers of `parts`; `None` if these are empty, overlap, descend or are too large.
    pub fn new(parts: Vec<ArrayPart>) -> Option<Self> {
        let ids = Self { parts };
        ids.is_valid().then_some(ids)
    }

    /// Whether the parts are what they should be; what was decoded may not be.
    pub fn is_valid(&self) -> bool {
        let mut lowest = Some(0);
        let mut total = 0u64;
        for part in &self.parts {
            let fits = part.step > 0 && lowest.is_some_and(|lowest| part.first >= lowest);
            let (Some(last), Some(sum)) = (part.last(), total.checked_add(part.count)) else {
                return false;
            };
            if !fits {
                return false;
            }
            (lowest, total) = (last.checked_add(1), sum);
        }
        total > 0
    }

    /// Its parts, ascending.
    pub fn parts(&self) -> &[ArrayPart] {
        &self.parts
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.parts.iter().map(|part| part.count).sum()
    }

    /// The lowest and the highest number.
    pub fn bounds(&self) -> (u64, u64) {
        let first = self.parts.first().map_or(0, |part| part.first);
        let last = self.parts.last().and_then(|part| part.last());
        (first, last.unwrap_or(first))
    }

    /// The distance between neighbours, if it is the same everywhere; else 1.
    pub fn step(&self) -> u64 {
        match self.parts.as_slice() {
            [part] => part.step,
            _ => 1,
        }
    }

    /// The number of the task `index`.
    pub fn id(&self, mut index: u64) -> Option<u64> {
        for part in &self.parts {
            if index < part.count {
                return Some(part.first + index * part.step);
            }
            index -= part.count;
        }
        None
    }

    /// The first of its own numbers that another array does not have at the same place.
    pub fn first_unlike(&self, other: &Self) -> Option<u64> {
        let (mut own, mut others) = (self.parts.iter(), other.parts.iter());
        let (mut left, mut right) = (own.next().copied(), others.next().copied());
        while let Some(part) = left {
            let Some(like) = right.filter(|like| like.first == part.first) else {
                return Some(part.first);
            };
            let alike = match part.step == like.step {
                true => part.count.min(like.count),
                false => 1,
            };
            left = part.behind(alike).or_else(|| own.next().copied());
            right = like.behind(alike).or_else(|| others.next().copied());
        }
        None
    }

    /// The task that has the number `id`.
    pub fn index(&self, id: u64) -> Option<u64> {
        let mut before = 0;
        for part in &self.parts {
            if let Some(distance) = id.checked_sub(part.first)
                && distance % part.step == 0
                && distance / part.step < part.count
            {
                return Some(before + distance / part.step);
            }
            before += part.count;
        }
        None
    }
}

/// Elements of arrays have numbers of their own where a job's is expected: this many times the element's index plus one,
/// plus the job's. Decimal, so that people see both.
const ELEMENT_FACTOR: u64 = 1_000_000_000;

/// The number that the task `index` of an array has where a job's is expected.
pub fn element_number(job: JobId, index: u64) -> u64 {
    index
        .saturating_add(1)
        .saturating_mul(ELEMENT_FACTOR)
        .saturating_add(job.0)
}

/// The job that a number stands for, and which task of it if it is that of an array's element.
pub fn of_element_number(number: u64) -> (JobId, Option<u64>) {
    (
        JobId(number % ELEMENT_FACTOR),
        (number / ELEMENT_FACTOR).checked_sub(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u64, count: u64, step: u64) -> ArrayPart {
        ArrayPart { first, count, step }
    }

    #[test]
    fn tasks_and_their_numbers_find_each_other() {
        let ids = ArrayIds::new(vec![part(1, 1, 1), part(3, 1, 1), part(5, 3, 2)]).unwrap();
        let numbers: Vec<u64> = (0..ids.count()).filter_map(|index| ids.id(index)).collect();
        assert_eq!(numbers, [1, 3, 5, 7, 9]);
        for (index, &number) in (0..).zip(&numbers) {
            assert_eq!(ids.index(number), Some(index));
        }
        assert_eq!((ids.id(5), ids.index(2), ids.index(6)), (None, None, None));
        assert_eq!((ids.bounds(), ids.step()), ((1, 9), 1));
    }

    #[test]
    fn arrays_are_alike_as_far_as_they_have_the_same_numbers_at_the_same_places() {
        let unlike = |own: &[(u64, u64, u64)], other: &[(u64, u64, u64)]| {
            let ids = |parts: &[(u64, u64, u64)]| {
                let parts = parts.iter().map(|&(first, count, step)| part(first, count, step));
                ArrayIds::new(parts.collect()).unwrap()
            };
            ids(own).first_unlike(&ids(other))
        };
        assert_eq!(unlike(&[(1, 3, 1)], &[(1, 3, 1)]), None);
        assert_eq!(unlike(&[(1, 3, 1)], &[(1, 9, 1)]), None);
        assert_eq!(unlike(&[(1, 9, 1)], &[(1, 3, 1)]), Some(4));
        assert_eq!(unlike(&[(1, 3, 1)], &[(0, 4, 1)]), Some(1));
        assert_eq!(
            unlike(&[(1, 1, 1), (2, 2, 1)], &[(1, 1, 1), (2, 1, 5), (3, 7, 1)]),
            None
        );
        assert_eq!(unlike(&[(1, 3, 2)], &[(1, 3, 1)]), Some(3));
    }

    #[test]
    fn numbers_that_overlap_descend_or_do_not_fit_are_none() {
        assert_eq!(ArrayIds::new(Vec::new()), None);
        assert_eq!(ArrayIds::new(vec![part(0, 0, 1)]), None);
        assert_eq!(ArrayIds::new(vec![part(0, 2, 0)]), None);
        assert_eq!(ArrayIds::new(vec![part(0, 5, 1), part(4, 1, 1)]), None);
        assert_eq!(ArrayIds::new(vec![part(u64::MAX, 2, 1)]), None);
        assert!(ArrayIds::new(vec![part(0, 5, 1), part(5, 1, 1)]).is_some());
    }

    #[test]
    fn an_element_has_a_number_that_tells_its_job() {
        for (job, index, number) in [(42, 0, 1_000_000_042), (7, 4, 5_000_000_007)] {
            assert_eq!(element_number(JobId(job), index), number);
            assert_eq!(of_element_number(number), (JobId(job), Some(index)));
        }
        assert_eq!(of_element_number(42), (JobId(42), None));
    }
}
