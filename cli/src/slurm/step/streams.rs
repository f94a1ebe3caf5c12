//! Where the output of a step's ranks goes, and where their input comes from.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use phalanx_protocol::JobId;
use phalanx_protocol::pattern::{PatternValues, expand, names_each_rank};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, DuplexStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Step;
use super::far::FarInput;
use super::input::{Reads, Source};
use super::words::PIECE_BYTES;
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
        let file = |pattern: &String| self.file(pattern, rank);
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

    fn file(&self, pattern: &str, rank: u32) -> Result<std::fs::File, Complaint> {
        let path = self.path(pattern, rank);
        // one file for all ranks is emptied by the first
        let fresh =
            (rank == 0 || names_each_rank(pattern)) && self.settings.open_mode != Some(OpenMode::Append);
        open(&path, fresh).map_err(|error| cannot_open(&path, &error))
    }

    /// Opens what a rank on another node reads: a file is read here. The second: it is sent what it reads.
    pub(super) fn far_input(&self, rank: u32) -> Result<(Option<std::fs::File>, bool), Complaint> {
        match Source::of(&self.settings).for_rank(rank, self.programs.len()) {
            Reads::Nothing => Ok((None, false)),
            Reads::File(pattern) => {
                let path = self.path(pattern, rank);
                let file = std::fs::File::open(&path).map_err(|error| cannot_open(&path, &error))?;
                Ok((Some(file), true))
            }
            // there is nobody else there who could read it
            Reads::All | Reads::Copy => Ok((None, input::is_there())),
        }
    }

    /// Opens where the output of a rank on another node goes, and its errors.
    pub(super) fn far_sinks(&self, rank: u32) -> Result<[Sink; 2], Complaint> {
        let open = |pattern: &String| match pattern.as_str() {
            "none" => Ok(Sink::Nothing),
            _ => self.file(pattern, rank).map(Sink::File),
        };
        let is_labelled = self.settings.step.label && self.settings.output.is_none();
        let output = self.settings.output.as_ref().map(open).transpose()?;
        let error = match (&self.settings.error, &output) {
            (Some(pattern), _) => open(pattern)?,
            (None, Some(Sink::File(file))) => {
                let shared = file
                    .try_clone()
                    .map_err(|error| Complaint::new(error.to_string()))?;
                Sink::File(shared)
            }
            (None, Some(_) | None) => Sink::Own(is_labelled),
        };
        Ok([output.unwrap_or(Sink::Own(is_labelled)), error])
    }

    /// Copies what a rank on another node writes to where it goes.
    pub(super) fn copy_far(
        &self,
        rank: u32,
        [output, errors]: [DuplexStream; 2],
        sinks: [Sink; 2],
        copying: &mut JoinSet<()>,
    ) {
        let width = (self.programs.len().saturating_sub(1)).to_string().len();
        let label = (rank, width);
        let [to_output, to_errors] = sinks;
        copying.spawn(copy_to(output, to_output, std::io::stdout(), label));
        copying.spawn(copy_to(errors, to_errors, std::io::stderr(), label));
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
                node: &self.layout.node(rank).name,
                node_index: self.layout.place(rank).0,
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

/// Sends a rank on another node all of a file.
pub(super) async fn send_file(file: std::fs::File, mut input: FarInput) {
    let mut file = tokio::fs::File::from_std(file);
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = file.read(&mut piece).await {
        if !input.write_all(&piece[..count]).await {
            return;
        }
    }
}

/// Where the output of a rank on another node goes.
#[derive(Debug)]
pub(super) enum Sink {
    Nothing,
    File(std::fs::File),
    /// To that of this process; each line with the number of its rank, if that is said.
    Own(bool),
}

async fn copy_to(from: impl AsyncRead + Unpin, sink: Sink, own: impl Write, (rank, width): (u32, usize)) {
    match sink {
        Sink::Nothing => copy(from, std::io::sink()).await,
        Sink::File(file) => copy(from, file).await,
        Sink::Own(true) => label(from, own, rank, width).await,
        Sink::Own(false) => copy(from, own).await,
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl Write) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        // nobody is left who would read it
        if to.write_all(&piece[..count]).and_then(|()| to.flush()).is_err() {
            return;
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
