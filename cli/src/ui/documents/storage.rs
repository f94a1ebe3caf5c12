//! What programs read about the shared storage.

use phalanx_protocol::JobId;
use phalanx_protocol::record::{Outcome, Record, ResultData};
use phalanx_storage::check::{ShardReport, Tally};
use phalanx_storage::{Card, CheckReport, Damage};
use serde::Serialize;

use super::{FailureShape, RangeText};
use crate::ui::error::chain;

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct CheckShape<'a> {
    path: &'a str,
    cluster: Option<String>,
    shards: Vec<ShardShape>,
    blobs: TallyShape,
    job_files: u64,
    staged: TallyShape,
    schedulers: Vec<CardShape<'a>>,
    strays: &'a [String],
    damaged: Vec<DamageShape<'a>>,
}

impl<'a> CheckShape<'a> {
    pub(crate) fn new(path: &'a str, report: &'a CheckReport, cards: &'a [Card]) -> Self {
        Self {
            path,
            cluster: report.cluster.map(|file| file.cluster.to_string()),
            shards: report.shards.iter().map(ShardShape::from).collect(),
            blobs: report.blobs.into(),
            job_files: report.job_files,
            staged: report.staged.into(),
            schedulers: cards.iter().map(CardShape::from).collect(),
            strays: &report.strays,
            damaged: report.damage.iter().map(DamageShape::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct TallyShape {
    count: u64,
    bytes: u64,
}

impl From<Tally> for TallyShape {
    fn from(tally: Tally) -> Self {
        Self {
            count: tally.objects,
            bytes: tally.bytes,
        }
    }
}

#[derive(Debug, Serialize)]
struct ShardShape {
    slots: TallyShape,
    next_slot: u64,
    term: u64,
    snapshots: TallyShape,
    newest_snapshot: Option<u64>,
    markers: TallyShape,
    /// Behind the newest snapshot.
    records: u64,
}

impl From<&ShardReport> for ShardShape {
    fn from(shard: &ShardReport) -> Self {
        Self {
            slots: shard.slots.into(),
            next_slot: shard.tail,
            term: shard.term.0,
            snapshots: shard.snapshots.into(),
            newest_snapshot: shard.newest_snapshot,
            markers: shard.markers.into(),
            records: shard.records,
        }
    }
}

#[derive(Debug, Serialize)]
struct CardShape<'a> {
    name: &'a str,
    addresses: &'a [String],
    host: &'a str,
    pid: u32,
}

impl<'a> From<&'a Card> for CardShape<'a> {
    fn from(card: &'a Card) -> Self {
        Self {
            name: &card.name,
            addresses: &card.addresses,
            host: &card.process.host,
            pid: card.process.pid,
        }
    }
}

#[derive(Debug, Serialize)]
struct DamageShape<'a> {
    object: &'a str,
    fault: String,
    effect: String,
    next_step: &'static str,
}

impl<'a> From<&'a Damage> for DamageShape<'a> {
    fn from(damage: &'a Damage) -> Self {
        Self {
            object: &damage.key,
            fault: chain(&damage.fault),
            effect: damage.effect.to_string(),
            next_step: damage.effect.next_step(),
        }
    }
}

/// A line of a dump: a record, a slot without any, or one that is damaged.
#[derive(Debug, Serialize)]
pub(crate) struct DumpLine<'a> {
    pub(crate) slot: u64,
    pub(crate) term: Option<u64>,
    pub(crate) kind: Option<&'static str>,
    /// Written by a leader that was deposed already: it does not count.
    pub(crate) void: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) damaged: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<RecordShape<'a>>,
}

impl DumpLine<'_> {
    /// The same slot, to be given another record.
    pub(crate) fn without_record<'b>(&self) -> DumpLine<'b> {
        DumpLine {
            slot: self.slot,
            term: self.term,
            kind: self.kind,
            void: self.void,
            damaged: None,
            record: None,
        }
    }
}

/// A record of the log.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum RecordShape<'a> {
    JobSubmitted {
        job: JobId,
        user: &'a str,
        name: &'a str,
        tasks: u64,
        submitted_unix_millis: u64,
    },
    TasksEnded {
        job: JobId,
        done: Vec<RangeText>,
        results: Vec<BlockShape<'a>>,
        failed: Vec<FailureShape<'a>>,
    },
    JobFinished {
        job: JobId,
        outcome: &'static str,
        reason: Option<&'a str>,
        finished_unix_millis: u64,
    },
    JobStarted {
        job: JobId,
        started_unix_millis: u64,
    },
    JobReopened {
        job: JobId,
        tasks: Vec<RangeText>,
    },
    JobHeld {
        job: JobId,
        held: bool,
    },
    TasksCancelled {
        job: JobId,
        tasks: Vec<RangeText>,
        by: &'a str,
    },
    TasksRequeued {
        job: JobId,
        tasks: Vec<RangeText>,
        last_grant: String,
    },
}

/// Results of neighbouring tasks: their size, and the file that they are in.
#[derive(Debug, Serialize)]
pub(crate) struct BlockShape<'a> {
    range: RangeText,
    bytes: u64,
    file: Option<&'a str>,
}

impl<'a> From<&'a Record> for RecordShape<'a> {
    fn from(record: &'a Record) -> Self {
        let job = record.job();
        match record {
            Record::JobSubmitted {
                user,
                submitted_unix_millis,
                spec,
                ..
            } => Self::JobSubmitted {
                job,
                user,
                name: &spec.name,
                tasks: spec.tasks,
                submitted_unix_millis: *submitted_unix_millis,
            },
            Record::TasksEnded {
                done,
                results,
                failed,
                ..
            } => Self::TasksEnded {
                job,
                done: done.iter().copied().map(RangeText).collect(),
                results: results
                    .iter()
                    .map(|block| {
                        let (bytes, file) = match &block.data {
                            ResultData::Inline(bytes) => (bytes.len() as u64, None),
                            ResultData::File { name, bytes, .. } => (*bytes, Some(name.as_str())),
                        };
                        BlockShape {
                            range: RangeText(block.range),
                            bytes,
                            file,
                        }
                    })
                    .collect(),
                failed: failed.iter().map(FailureShape::from).collect(),
            },
            Record::JobFinished {
                outcome,
                finished_unix_millis,
                ..
            } => {
                let (outcome, reason) = outcome_words(outcome);
                Self::JobFinished {
                    job,
                    outcome,
                    reason,
                    finished_unix_millis: *finished_unix_millis,
                }
            }
            Record::JobStarted {
                started_unix_millis, ..
            } => Self::JobStarted {
                job,
                started_unix_millis: *started_unix_millis,
            },
            Record::JobReopened { tasks, .. } => Self::JobReopened {
                job,
                tasks: tasks.iter().copied().map(RangeText).collect(),
            },
            Record::JobHeld { held, .. } => Self::JobHeld { job, held: *held },
            Record::TasksRequeued { tasks, last, .. } => Self::TasksRequeued {
                job,
                tasks: tasks.iter().copied().map(RangeText).collect(),
                last_grant: last.to_string(),
            },
            Record::TasksCancelled { tasks, by, .. } => Self::TasksCancelled {
                job,
                tasks: tasks.iter().copied().map(RangeText).collect(),
                by,
            },
        }
    }
}

fn outcome_words(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Succeeded => ("succeeded", None),
        Outcome::Failed => ("failed", None),
        Outcome::Cancelled { by } => ("cancelled", Some(by)),
        Outcome::Broken { reason } => ("broken", Some(reason)),
        Outcome::TimeLimit { .. } => ("time_limit", None),
    }
}
