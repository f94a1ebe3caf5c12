//! What the journal keeps. Durable data outlives programs: a record's layout never changes once it was released; a
//! new need is a new variant at the end, and the golden bytes below hold the old ones.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::job::JobSpec;
use crate::range::IndexRange;

/// One fact in a shard's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl Record {
    /// The job that it is about.
    pub fn job(&self) -> JobId {
        match self {
            Self::JobSubmitted { job, .. } | Self::TasksEnded { job, .. } | Self::JobFinished { job, .. } => {
                *job
            }
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All tasks succeeded.
    Succeeded,
    /// Some tasks failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled {
        /// The user's name.
        by: String,
    },
    /// It could not run at all: no kernel of that name, a program that does not start.
    Broken {
        /// Why, as a sentence.
        reason: String,
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
}

impl std::fmt::Display for FailureCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Panic => "panicked",
            Self::Input => "bad input",
            Self::Result => "bad result",
            Self::Crash => "crashed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::id::{BlobId, SubmissionId};
    use crate::job::{Encoding, Feeding, Inputs, KernelWork, Payload, Work};
    use crate::resources::Request;

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
        };
        let submitted = Record::JobSubmitted {
            job: JobId(1),
            user: "u".into(),
            submitted_unix_millis: 5,
            spec: Box::new(spec),
        };
        let mut golden = vec![0, 1, 1, b'u', 5, 1, 1, b'j', 9, 0];
        golden.extend([7; 32]);
        golden.extend([1, b'k', 0, 1, b'p', 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        assert_eq!(codec::encode(&submitted), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), submitted);

        let ended = Record::TasksEnded {
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
        };
        let golden = [
            1, 1, 1, 0, 3, 1, 0, 4, 1, 0, 3, 0, 3, b'a', b'b', b'c', 1, 3, 1, 1, b'm',
        ];
        assert_eq!(codec::encode(&ended), golden);
        assert_eq!(codec::decode::<Record>(&golden).unwrap(), ended);
    }
}
