//! `phalanx storage dump`: the records of a log, in order, as they lie there.

use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::{Outcome, Record, ResultData};
use phalanx_protocol::{IndexRange, JobId, codec};
use phalanx_storage::journal::replay::{VoidRule, read_slot};
use phalanx_storage::slot::{Slot, SlotKind, log_prefix, slot_of_key};
use phalanx_storage::{LogError, LogId, Store, cluster};

use super::open;
use crate::args::GlobalArguments;
use crate::args::storage::StorageDumpArguments;
use crate::ui::Ui;
use crate::ui::documents::storage::{DumpLine, RecordShape};
use crate::ui::documents::{Document, line};
use crate::ui::error::{CliError, chain};
use crate::ui::style::printable;
use crate::ui::units::{counted, size};

pub(super) fn run(
    global: &GlobalArguments,
    arguments: &StorageDumpArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let store = open(global, &arguments.place)?;
    let file = cluster::read(&*store).map_err(|error| {
        CliError::from_chain(ExitCode::Internal, &error)
            .hint("`phalanx storage check` says what else is damaged")
    })?;
    let Some(file) = file else {
        return Err(CliError::usage(
            "no cluster's storage is there: it has no `cluster.json`",
        ));
    };
    let log = LogId {
        cluster: file.cluster,
        shard: arguments.shard,
    };
    let printer = Printer {
        job: arguments.job,
        is_json: ui.is_json(),
    };
    let mut rule = VoidRule::default();
    let mut stream = ui.stream();
    for key in store.list(&log_prefix(log.shard), None)? {
        let Some(slot) = slot_of_key(log.shard, &key) else {
            continue;
        };
        let text = match read_slot(&*store, log, slot) {
            // deleted meanwhile
            Ok(None) => continue,
            Ok(Some(there)) => {
                let is_void = !rule.admits(&there.head);
                printer.slot(&there, is_void)?
            }
            Err(error) => printer.damaged(slot, &error)?,
        };
        if slot >= arguments.from_slot {
            stream.write(text.as_bytes())?;
        }
    }
    stream.flush()?;
    Ok(ExitCode::Success)
}

/// Turns slots into lines.
struct Printer {
    job: Option<JobId>,
    is_json: bool,
}

impl Printer {
    fn slot(&self, slot: &Slot, is_void: bool) -> Result<String, CliError> {
        let head = DumpLine {
            slot: slot.head.slot,
            term: Some(slot.head.term.0),
            kind: Some(kind_word(slot.head.kind)),
            void: is_void,
            damaged: None,
            record: None,
        };
        let mut text = String::new();
        if slot.records.is_empty() && self.job.is_none() {
            text += &self.line(&head, "")?;
        }
        for (place, bytes) in &slot.records {
            match codec::decode::<Record>(bytes) {
                Ok(record) if self.job.is_none_or(|job| record.job() == job) => {
                    let shape = RecordShape::from(&record);
                    let told = told(&record);
                    let record = DumpLine {
                        record: Some(shape),
                        ..head.without_record()
                    };
                    text += &self.line(&record, &told)?;
                }
                Ok(_) => {}
                Err(error) => {
                    let damaged = format!("the record at {place} cannot be decoded: {}", chain(&error));
                    let record = DumpLine {
                        damaged: Some(damaged.clone()),
                        ..head.without_record()
                    };
                    text += &self.line(&record, &damaged)?;
                }
            }
        }
        Ok(text)
    }

    fn damaged(&self, slot: u64, error: &LogError) -> Result<String, CliError> {
        let damaged = match error {
            LogError::Damaged { source, .. } => source.to_string(),
            LogError::Store { .. }
            | LogError::DamagedRecord { .. }
            | LogError::Lost { .. }
            | LogError::BeginningGone { .. }
            | LogError::Vanished { .. } => chain(error),
        };
        let line = DumpLine {
            slot,
            term: None,
            kind: None,
            void: false,
            damaged: Some(damaged.clone()),
            record: None,
        };
        self.line(&line, &damaged)
    }

    fn line(&self, shape: &DumpLine<'_>, told: &str) -> Result<String, CliError> {
        if self.is_json {
            return line(&Document::new(shape));
        }
        let mut text = format!("slot {}", shape.slot);
        if let (Some(term), Some(kind)) = (shape.term, shape.kind) {
            text += &format!(" t{term} {kind}");
        }
        if shape.void {
            text += " void";
        }
        if shape.damaged.is_some() {
            text += " damaged";
        }
        if !told.is_empty() {
            text += &format!(": {}", printable(told, 0));
        }
        text.push('\n');
        Ok(text)
    }
}

fn kind_word(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Data => "data",
        SlotKind::Fence => "fence",
        SlotKind::Fill => "fill",
        SlotKind::NoOp => "no-op",
    }
}

/// A record for people.
fn told(record: &Record) -> String {
    let job = record.job();
    match record {
        Record::JobSubmitted { user, spec, .. } => {
            let tasks = counted(spec.tasks, "task");
            format!("job {job} submitted by {user}: `{}`, {tasks}", spec.name)
        }
        Record::TasksEnded {
            done,
            results,
            failed,
            ..
        } => {
            let mut parts = Vec::new();
            if !done.is_empty() {
                parts.push(format!("done {}", ranges(done)));
            }
            parts.extend(results.iter().map(|block| match &block.data {
                ResultData::Inline(bytes) => format!("{} of results", size(bytes.len() as u64)),
                ResultData::File { name, bytes, .. } => format!("{} of results in `{name}`", size(*bytes)),
            }));
            parts.extend(failed.iter().map(|failure| {
                let (index, cause) = (failure.index, failure.cause);
                format!("failed {index} ({cause}: {})", failure.message)
            }));
            format!("job {job}: {}", parts.join(", "))
        }
        Record::JobFinished { outcome, .. } => match outcome {
            Outcome::Succeeded => format!("job {job} succeeded"),
            Outcome::Failed => format!("job {job} failed"),
            Outcome::Cancelled { by } => format!("job {job} cancelled by {by}"),
            Outcome::Broken { reason } => format!("job {job} broken: {reason}"),
            Outcome::TimeLimit { millis } => format!("job {job} took longer than {millis} ms"),
        },
        Record::JobStarted { .. } => format!("job {job} started"),
        Record::JobReopened { tasks, .. } => format!("job {job} reopened: {} wait again", ranges(tasks)),
        Record::JobHeld { held: true, .. } => format!("job {job} held"),
        Record::JobHeld { held: false, .. } => format!("job {job} released"),
        Record::TasksRequeued { tasks, last, .. } => {
            format!(
                "job {job}: {} requeued, runs up to grant {last} do not count",
                ranges(tasks)
            )
        }
        Record::TasksCancelled { tasks, by, .. } => format!("job {job}: {} cancelled by {by}", ranges(tasks)),
    }
}

fn ranges(ranges: &[IndexRange]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    texts.join(",")
}
