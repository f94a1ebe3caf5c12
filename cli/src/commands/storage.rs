//! `phalanx storage check`, and the way to `phalanx storage dump`: what lies on the shared storage, for those who keep it.
//!
//! Both only read, and ask no scheduler.

mod dump;

use std::sync::Arc;

use phalanx_protocol::exit::ExitCode;
use phalanx_storage::check::Tally;
use phalanx_storage::{Card, CheckError, CheckReport, Directory, Members, Store, StoreError, check};

use crate::args::GlobalArguments;
use crate::args::storage::{StorageArguments, StorageCheckArguments, StorageCommand, StoragePlace};
use crate::cluster::Site;
use crate::ui::Ui;
use crate::ui::documents::storage::CheckShape;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use crate::ui::style::{Style, Tone, printable};
use crate::ui::units::{counted, size};

pub(super) fn run(
    global: &GlobalArguments,
    arguments: StorageArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    match arguments.command {
        StorageCommand::Check(arguments) => run_check(global, &arguments, ui),
        StorageCommand::Dump(arguments) => dump::run(global, &arguments, ui),
    }
}

/// Opens the storage that is meant, as it is.
fn open(global: &GlobalArguments, place: &StoragePlace) -> Result<Arc<Directory>, CliError> {
    let path = match &place.storage {
        Some(path) => path.clone(),
        None => Site::open(global)?.directory.storage_path(),
    };
    Ok(Arc::new(Directory::look_at(&path)?))
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::from_chain(ExitCode::Internal, &error)
    }
}

fn run_check(
    global: &GlobalArguments,
    arguments: &StorageCheckArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let directory = open(global, &arguments.place)?;
    let report = check(&directory).map_err(|error| match error {
        CheckError::Unused => CliError::from_chain(ExitCode::Usage, &error),
        CheckError::Store(source) => source.into(),
    })?;
    let cards = Members::new(Arc::clone(&directory) as Arc<dyn Store>).list()?;
    let root = directory.root().display().to_string();
    let shape = CheckShape::new(&root, &report, &cards);
    ui.data(&Document::new(Content::Storage(shape)), |style| {
        check_text(&root, &report, &cards, style)
    })?;
    match report.damage.len() as u64 {
        0 => Ok(ExitCode::Success),
        count => {
            let verb = if count == 1 { "is" } else { "are" };
            let what = format!("{} of the storage {verb} damaged", counted(count, "object"));
            Err(CliError::new(ExitCode::Internal, what))
        }
    }
}

fn check_text(root: &str, report: &CheckReport, cards: &[Card], style: Style) -> String {
    let mut lines = Vec::new();
    let cluster = report.cluster.map(|file| format!(" of cluster {}", file.cluster));
    lines.push(format!("storage `{root}`{}", cluster.unwrap_or_default()));
    for (number, shard) in report.shards.iter().enumerate() {
        let slots = tally(shard.slots, "log slot");
        lines.push(format!(
            "shard {number}: {slots}, the next is {}, term {}",
            shard.tail, shard.term
        ));
        let behind = match shard.newest_snapshot {
            Some(slot) => format!("; the newest holds the log up to slot {slot}"),
            None => String::new(),
        };
        lines.push(format!("  {}{behind}", tally(shard.snapshots, "snapshot")));
        let records = counted(shard.records, "record");
        lines.push(format!("  {records} to be read by the next scheduler"));
        if shard.markers.objects > 0 {
            let chunks = counted(shard.markers.objects, "part");
            lines.push(format!("  {chunks} of the log given up for deletion"));
        }
    }
    lines.push(format!(
        "{}; {}",
        tally(report.blobs, "program and input file"),
        counted(report.job_files, "job file")
    ));
    if report.staged.objects > 0 {
        lines.push(format!(
            "{} that a writer has not finished",
            tally(report.staged, "file")
        ));
    }
    for card in cards {
        let addresses = printable(&card.addresses.join(", "), 0);
        lines.push(format!("scheduler {} at {addresses}", printable(&card.name, 0)));
    }
    for stray in &report.strays {
        let stray = printable(stray, 0);
        lines.push(format!("`{stray}` is nothing that Phalanx put there"));
    }
    if report.damage.is_empty() {
        lines.push(style.paint(Tone::Good, "everything is whole"));
    }
    for damage in &report.damage {
        let label = style.paint(Tone::Bad, "damaged:");
        lines.push(format!("{label} {}", printable(&damage.key, 0)));
        lines.push(format!("  {}", crate::ui::error::chain(&damage.fault)));
        lines.push(format!("  {}", damage.effect));
        lines.push(format!("  {}", damage.effect.next_step()));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn tally(tally: Tally, noun: &str) -> String {
    match tally.objects {
        0 => format!("no {noun}s"),
        count => format!("{} ({})", counted(count, noun), size(tally.bytes)),
    }
}
