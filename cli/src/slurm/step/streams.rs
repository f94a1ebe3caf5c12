//! Where the output of a step's ranks goes, and where their input comes from.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use phalanx_protocol::JobId;
use phalanx_protocol::pattern::{PatternValues, expand, names_each_rank};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Step;
use super::input::{Reads, Source};
use crate::batch::values::OpenMode;
use crate::commands::run::input;
use crate::slurm::Complaint;

impl Step {
    /// Opens what a rank reads and writes.
    pub(super) fn streams(&self, rank: u32, command: &mut Command) -> Result<(), Complaint> {
        let labelled = self.settings.step.label;
        match Source::of(&self.settings).for_rank(rank, self.programs.len()) {
            Reads::Nothing => drop(command.stdin(Stdio::null())),
            Reads::File(pattern) => {
                let path = self.path(pattern, rank);
                let file = std::fs::File::open(&path).map_err(|error| cannot_open(&path, &error))?;
                command.stdin(file);
            }
            Reads::All => {}
            // whoever reads from a terminal in the background is stopped
            Reads::Copy if input::is_there() => drop(command.stdin(Stdio::piped())),
            Reads::Copy => drop(command.stdin(Stdio::null())),
        }
        let file = |pattern: &String| {
            let path = self.path(pattern, rank);
            // one file for all ranks is emptied by the first
            let fresh =
                (rank == 0 || names_each_rank(pattern)) && self.settings.open_mode != Some(OpenMode::Append);
            open(&path, fresh).map_err(|error| cannot_open(&path, &error))
        };
        match &self.settings.output {
            Some(pattern) if pattern == "none" => drop(command.stdout(Stdio::null())),
            Some(pattern) => {
                let output = file(pattern)?;
                if self.settings.error.is_none() {
                    let shared = output
                        .try_clone()
                        .map_err(|error| Complaint::new(error.to_string()))?;
                    command.stderr(shared);
                }
                command.stdout(output);
            }
            None if labelled => drop(command.stdout(Stdio::piped())),
            None => {}
        }
        match &self.settings.error {
            Some(pattern) if pattern == "none" => drop(command.stderr(Stdio::null())),
            Some(pattern) => drop(command.stderr(file(pattern)?)),
            None if labelled && self.settings.output.is_none() => drop(command.stderr(Stdio::piped())),
            None => {}
        }
        Ok(())
    }

    fn path(&self, pattern: &str, rank: u32) -> PathBuf {
        let name = std::env::var("SLURM_JOB_NAME").unwrap_or_default();
        let user = std::env::var("SLURM_JOB_USER").unwrap_or_default();
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        PathBuf::from(expand(
            pattern,
            &PatternValues {
                job: JobId(number("SLURM_ARRAY_JOB_ID").unwrap_or(self.job)),
                number: self.job,
                element: number("SLURM_ARRAY_TASK_ID"),
                step: Some(self.step.into()),
                name: &name,
                user: &user,
                node: &self.node,
                node_index: 0,
                rank,
            },
        ))
    }

    /// Copies the lines of a rank, each with its number.
    pub(super) fn copy(&self, rank: u32, child: &mut Child, copying: &mut JoinSet<()>) {
        let width = (self.programs.len().saturating_sub(1)).to_string().len();
        if let Some(output) = child.stdout.take() {
            copying.spawn(label(output, std::io::stdout(), rank, width));
        }
        if let Some(error) = child.stderr.take() {
            copying.spawn(label(error, std::io::stderr(), rank, width));
        }
    }
}

async fn label(from: impl AsyncRead + Unpin, mut to: impl Write, rank: u32, width: usize) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend(format!("{rank:>width$}: ").bytes());
        let read = lines.read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        // nobody is left who would read it
        if to.write_all(&line).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

fn open(path: &Path, fresh: bool) -> std::io::Result<std::fs::File> {
    let file = std::fs::File::options().append(true).create(true).open(path)?;
    if fresh && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Complaint {
    Complaint::new(format!("cannot open `{}`: {error}", path.display()))
}
