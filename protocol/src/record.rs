//! What the journal keeps. How it lies there, also as older versions wrote it, is in `stored`; the golden bytes below
//! hold every layout that was released.

mod stored;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::id::{GrantId, JobId};
use crate::job::JobSpec;
use crate::range::IndexRange;
use crate::usage::Usage;

/// One fact in a shard's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "stored::Read")]
pub enum Record {
    /// A job was accepted.
    JobSubmitted {
        /// Its id.
        job: JobId,
        /// Whose it is.
        user: String,
        /// Milliseconds since 1970.
        submitted_unix_millis: u64,
        /// What was asked for.
        spec: Box<JobSpec>,
    },
    /// Tasks ended. Holds only what no earlier record holds.
    TasksEnded {
        /// Of which job.
        job: JobId,
        /// Tasks that succeeded.
        done: Vec<IndexRange>,
        /// Their results; none for kernels that return nothing.
        results: Vec<ResultBlock>,
        /// Tasks that failed.
        failed: Vec<TaskFailure>,
        /// What these tasks have used, as far as that was measured.
        usage: Usage,
    },
    /// Nothing more will happen to a job.
    JobFinished {
        /// Which.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
        /// Milliseconds since 1970.
        finished_unix_millis: u64,
    },
    /// A job got its first slots: one that has a time limit, or has to do with other jobs.
    JobStarted {
        /// Which.
        job: JobId,
        /// Milliseconds since 1970.
        started_unix_millis: u64,
    },
    /// Tasks of a job wait again: failed ones, and those that were not run when it was over. It goes on.
    JobReopened {
        /// Which.
        job: JobId,
        /// Its tasks.
        tasks: Vec<IndexRange>,
    },
    /// Somebody holds a job, or has released it.
    JobHeld {
        /// Which.
        job: JobId,
        /// Held; else released.
        held: bool,
    },
    /// Tasks of a job were cancelled, without their job: they have ended.
    TasksCancelled {
        /// Of which job.
        job: JobId,
        /// Tasks that had not ended.
        tasks: Vec<IndexRange>,
        /// The user's name.
        by: String,
    },
    /// Tasks of a job start from the top: those that had ended wait again, and it goes on; what runs of them does not count.
    TasksRequeued {
        /// Of which job.
        job: JobId,
        /// Its tasks.
        tasks: Vec<IndexRange>,
        /// Runs of them under this grant and older ones do not count.
        last: GrantId,
    },
}

impl Record {
    /// The job that it is about.
    pub fn job(&self) -> JobId {
        match self {
            Self::JobSubmitted { job, .. }
            | Self::TasksEnded { job, .. }
            | Self::JobFinished { job, .. }
            | Self::JobStarted { job, .. }
            | Self::JobReopened { job, .. }
            | Self::JobHeld { job, .. }
            | Self::TasksCancelled { job, .. }
            | Self::TasksRequeued { job, .. } => *job,
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        stored::Write::from(self).serialize(serializer)
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All tasks succeeded.
    Succeeded,
    /// Some tasks failed.
    Failed,
    /// Somebody cancelled it, or all of its tasks that did not succeed.
    Cancelled {
        /// The user's name.
        by: String,
    },
    /// It could not run at all: no kernel of that name, a program that does not start.
    Broken {
        /// Why, as a sentence.
        reason: String,
    },
    /// It took longer than it might.
    TimeLimit {
        /// The limit, in milliseconds.
        millis: u64,
    },
}

/// Results of neighbouring tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultBlock {
    /// The tasks whose results `data` holds; one merged value if the job reduces.
    pub range: IndexRange,
    /// Those of them that this block decides; the rest was decided by an earlier block and is to be skipped.
    pub keep: Vec<IndexRange>,
    /// The values.
    pub data: ResultData,
}

/// Where results lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultData {
    /// Here.
    Inline(Bytes),
    /// In a file on shared storage, in the job's results folder.
    File {
        /// Its name there.
        name: String,
        /// Where in the file this block's bytes begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
        /// Their checksum (CRC32C).
        crc32c: u32,
    },
}

/// A task that ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// The task's index.
    pub index: u64,
    /// What went wrong.
    pub cause: FailureCause,
    /// The error's or panic's text, cut to [`crate::limits::MESSAGE_BYTES_MAX`].
    pub message: String,
}

impl TaskFailure {
    /// The task, as a range of one.
    pub fn range(&self) -> IndexRange {
        IndexRange::new(self.index, self.index.saturating_add(1))
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureCause {
    /// The kernel returned `Err`.
    Error,
    /// The kernel panicked.
    Panic,
    /// The input could not be read as the kernel's input type.
    Input,
    /// The result was too large or could not be encoded.
    Result,
    /// The kernel host died while it ran the task.
    Crash,
    /// It ran longer than a task of the job may.
    TimeLimit,
    /// Its kernel host used more memory than it may.
    Memory,
    /// Its worker was lost.
    Lost,
    /// Its process ended with that status, which is not 0.
    Exit(u8),
    /// Its process was ended by that signal.
    Signal(u8),
}

impl std::fmt::Display for FailureCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exit(status) => return write!(f, "exit status {status}"),
            Self::Signal(signal) => return write!(f, "killed by signal {signal}"),
            Self::Error => "error",
            Self::Panic => "panicked",
            Self::Input => "bad input",
            Self::Result => "bad result",
            Self::Crash => "crashed",
            Self::TimeLimit => "timed out",
            Self::Memory => "out of memory",
            Self::Lost => "lost with its worker",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::amount::Amount;
    use crate::choice::WorkerChoice;
    use crate::codec;
    use crate::gang::{Gang, OnLoss, RankMap};
    use crate::id::{BlobId, SubmissionId, Term};
    use crate::job::{Encoding, Feeding, Inputs, KernelWork, Payload, Retries, Work};
    use crate::resources::{Pin, Request, Sharing};
    use crate::usage::{TaskUsage, UsageSum};

    #[test]
    fn released_records_keep_their_bytes() {
        let spec = JobSpec {
            submission: SubmissionId(1),
            name: "j".into(),
            tasks: 9,
            work: Work::Kernel(KernelWork {
                program: BlobId([7; 32]),
                kernel: "k".into(),
                parameters: Payload::Inline(Bytes::from_static(b"p")),
                inputs: Inputs::Index { first: 0 },
                encoding: Encoding::Bincode,
                reduce: false,
            }),
            request: Request::default(),
            priority: -1,
            feeding: Feeding::Factoring,
            failures_max: None,
            retries: Retries::default(),
            task_time_limit_millis: None,
            time_limit_millis: None,
            idempotent: false,
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
            gang: None,
            alternatives: Vec::new(),
            choice: WorkerChoice::default(),
        };
        let submitted = Record::JobSubmitted {
            job: JobId(1),
            user: "u".into(),
            submitted_unix_millis: 5,
            spec: Box::new(spec),
        };
        let mut first = vec![0, 1, 1, b'u', 5, 1, 1, b'j', 9, 0];
        first.extend([7; 32]);
        first.extend([1, b'k', 0, 1, b'p', 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        assert_eq!(codec::decode::<Record>(&first).unwrap(), submitted);
        let mut second = first;
        second[0] = 3;
        second.extend([0, 3, 0, 0, 251, 232, 3, 0, 0, 0]);
        assert_eq!(codec::decode::<Record>(&second).unwrap(), submitted);
        let mut third = second;
        third[0] = 6;
        third.extend([0, 0, 0, 0]);
        assert_eq!(codec::decode::<Record>(&third).unwrap(), submitted);
        let mut fourth = third.clone();
        fourth[0] = 10;
        // behind the names of resources, of which there are none: pinning, sharing
        let request_end = 10 + 32 + 12;
        fourth.splice(request_end..request_end, [0, 0]);
        assert_eq!(codec::decode::<Record>(&fourth).unwrap(), submitted);
        let mut fifth = fourth;
        fifth[0] = 11;
        // behind those, what tasks may need instead; at the end, how ranks stand together
        fifth.insert(request_end + 2, 0);
        fifth.push(0);
        assert_eq!(codec::decode::<Record>(&fifth).unwrap(), submitted);
        let mut golden = fifth;
        golden[0] = 13;
        // workers that alone will do, that are all to be used, that are not to be used
        golden.extend([0, 0, 0]);
        assert_eq!(codec::encode(&submitted), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), submitted);

        // what was counted in whole ones is counted in parts now
        third.splice(request_end - 1..request_end, [1, 3, b'g', b'p', b'u', 2]);
        golden.splice(
            request_end - 1..request_end + 2,
            [1, 3, b'g', b'p', b'u', 251, 0x20, 0x4e, 2, 1],
        );
        let mut with_gpus = submitted;
        if let Record::JobSubmitted { spec, .. } = &mut with_gpus {
            spec.request.add("gpu", Amount::whole(2));
            assert_eq!(codec::decode::<Record>(&third).unwrap(), with_gpus);
        }
        if let Record::JobSubmitted { spec, .. } = &mut with_gpus {
            (spec.request.pin, spec.request.sharing) = (Pin::Spread, Sharing::OwnJob);
        }
        assert_eq!(codec::encode(&with_gpus), golden);
        if let Record::JobSubmitted { spec, .. } = &mut with_gpus {
            spec.gang = Some(Box::new(Gang {
                ranks_per_node: Some(2),
                nodes: None,
                map: RankMap::Explicit(vec![0, 1]),
                on_loss: OnLoss::Restart,
            }));
            let names = |name: &str| BTreeSet::from([name.to_owned()]);
            spec.choice = WorkerChoice {
                only: names("a"),
                all_of: names("b"),
                never: names("c"),
            };
        }
        golden.truncate(golden.len() - 4);
        golden.extend([1, 1, 2, 0, 2, 2, 0, 1, 1]);
        golden.extend([1, 1, b'a', 1, 1, b'b', 1, 1, b'c']);
        assert_eq!(codec::encode(&with_gpus), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), with_gpus);

        let with_usage = |usage| Record::TasksEnded {
            job: JobId(1),
            done: vec![IndexRange::new(0, 3)],
            results: vec![ResultBlock {
                range: IndexRange::new(0, 4),
                keep: vec![IndexRange::new(0, 3)],
                data: ResultData::Inline(Bytes::from_static(b"abc")),
            }],
            failed: vec![TaskFailure {
                index: 3,
                cause: FailureCause::Panic,
                message: "m".into(),
            }],
            usage,
        };
        let ended = with_usage(Usage::Unknown);
        let mut golden = vec![
            1, 1, 1, 0, 3, 1, 0, 4, 1, 0, 3, 0, 3, b'a', b'b', b'c', 1, 3, 1, 1, b'm',
        ];
        assert_eq!(codec::encode(&ended), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), ended);
        golden[0] = 12;
        let each = TaskUsage {
            index: 3,
            ran_millis: 4,
            user_micros: 5,
            system_micros: 6,
            rss_kib: 7,
        };
        let each = with_usage(Usage::Each {
            ended_unix_millis: 9,
            tasks: vec![each],
        });
        let mut with_each = golden.clone();
        with_each.extend([1, 9, 1, 3, 4, 5, 6, 7]);
        assert_eq!(codec::encode(&each), with_each);
        assert_eq!(codec::decode::<Record>(&with_each).unwrap(), each);
        let sum = with_usage(Usage::Sum(UsageSum {
            tasks: 1,
            ran_millis: 2,
            user_micros: 3,
            system_micros: 4,
            rss_kib_max: 5,
            rss_task: 6,
            first_start_unix_millis: 7,
            last_end_unix_millis: 8,
        }));
        golden.extend([2, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(codec::encode(&sum), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), sum);

        let small = [
            (
                Record::JobFinished {
                    job: JobId(1),
                    outcome: Outcome::TimeLimit { millis: 9 },
                    finished_unix_millis: 5,
                },
                vec![2, 1, 4, 9, 5],
            ),
            (
                Record::JobStarted {
                    job: JobId(1),
                    started_unix_millis: 5,
                },
                vec![4, 1, 5],
            ),
            (
                Record::JobReopened {
                    job: JobId(1),
                    tasks: vec![IndexRange::new(2, 5)],
                },
                vec![5, 1, 1, 2, 5],
            ),
            (
                Record::JobHeld {
                    job: JobId(1),
                    held: true,
                },
                vec![7, 1, 1],
            ),
            (
                Record::TasksCancelled {
                    job: JobId(1),
                    tasks: vec![IndexRange::new(2, 5)],
                    by: "u".into(),
                },
                vec![8, 1, 1, 2, 5, 1, b'u'],
            ),
            (
                Record::TasksRequeued {
                    job: JobId(1),
                    tasks: vec![IndexRange::new(2, 5)],
                    last: GrantId {
                        term: Term(6),
                        number: 7,
                    },
                },
                vec![9, 1, 1, 2, 5, 6, 7],
            ),
        ];
        for (record, golden) in small {
            assert_eq!(codec::encode(&record), golden);
            assert_eq!(codec::decode::<Record>(&golden).unwrap(), record);
        }
    }
}
