//! `srun`: the ranks of a step, started side by side. Inside a job they are this process's own children, on the job's cpus;
//! outside one, the job is submitted first and its output copied here.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use phalanx_protocol::JobId;
use phalanx_protocol::pattern::{PatternValues, expand, names_each_rank};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Complaint, Name, help, home, say, spec};
use crate::batch::directives::Directives;
use crate::batch::getopt::{self, OnUnknown};
use crate::batch::merge::merge;
use crate::batch::programs::Programs;
use crate::batch::settings::BatchSettings;
use crate::batch::values::OpenMode;
use crate::batch::{environment, options};
use crate::commands::run::follow_command;
use crate::process::runtime;
use crate::ui::{Ui, print_line};

/// What a shell exits with if a program is not there, or cannot be started.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let complain = |error: &dyn std::fmt::Display| Complaint::new(error.to_string());
    let command = options::Command::Srun;
    let parsed = getopt::parse(command, words, OnUnknown::Refuse).map_err(|error| complain(&error))?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = environment::options(command, variables);
    let merged = merge(command, &Directives::default(), &environment, &parsed.given)
        .map_err(|error| complain(&error))?;
    if let Some(question) = merged.settings.question {
        print_line(&help::answer(command, question))?;
        return Ok(0);
    }
    if parsed.rest.is_empty() {
        return Err(Complaint::new(
            "no program is named; write it behind the options, as in srun -n 4 hostname",
        ));
    }
    let is_inside = std::env::var_os("SLURM_JOB_ID").is_some();
    match is_inside {
        true => {
            let step = Step::new(merged.settings, parsed.rest)?;
            runtime()?.block_on(step.run())
        }
        false => submit(merged.settings, words),
    }
}

/// Submits a job of this one step, and copies what it prints.
fn submit(settings: BatchSettings, words: &[String]) -> Result<u8, Complaint> {
    let own = own_path();
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let command: Vec<String> = std::iter::once(own.as_str())
        .chain(words.iter().map(String::as_str))
        .map(quoted)
        .collect();
    let name = Path::new(
        words
            .iter()
            .find(|word| !word.starts_with('-'))
            .map_or("srun", |word| word),
    )
    .file_name();
    let script = spec::Script {
        name: name.map_or_else(|| "srun".to_owned(), |name| name.to_string_lossy().into_owned()),
        shown: format!("srun {}", words.join(" ")),
        content: format!("#!/bin/sh\nexec {}\n", command.join(" ")).into_bytes(),
        arguments: Vec::new(),
    };
    // its ranks write to their files themselves
    let settings = BatchSettings {
        output: None,
        error: None,
        input: None,
        ..settings
    };
    let draft = spec::step_draft(&settings, script)?;
    runtime()?.block_on(async {
        let cluster = home::connected_or_started().await?;
        let job = draft.send(&cluster.client).await?;
        let ended = follow_command(&cluster.client, job, Ui::new(crate::args::OutputForm::Human)).await;
        cluster.client.close().await;
        match ended {
            Ok(code) => Ok(code.number()),
            Err(error) => Err(Complaint {
                lines: error.plain_lines(),
                code: error.code().number(),
            }),
        }
    })
}

/// Where this program is under the name by which it was started.
fn own_path() -> String {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match program.components().count() {
        1 => std::env::split_paths(&path)
            .map(|folder| folder.join(&program))
            .find(|path| path.is_file()),
        _ => std::path::absolute(&program).ok(),
    };
    found.unwrap_or(program).display().to_string()
}

/// The ranks of a step.
struct Step {
    settings: BatchSettings,
    words: Vec<String>,
    /// Which rank runs what, if not all run the same.
    programs: Option<Programs>,
    ranks: u32,
    job: u64,
    node: String,
}

impl Step {
    fn new(settings: BatchSettings, words: Vec<String>) -> Result<Self, Complaint> {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let of_job = number("SLURM_TASKS_PER_NODE").and_then(|ranks| u32::try_from(ranks).ok());
        let programs = match settings.step.multi_prog {
            true => Some(read_programs(Path::new(&words[0]))?),
            false => None,
        };
        Ok(Self {
            programs,
            // the job's own number counts as one that was said here
            ranks: settings
                .ntasks
                .or(settings.ntasks_per_node)
                .or(of_job)
                .unwrap_or(1),
            job: number("SLURM_JOB_ID").unwrap_or_default(),
            node: std::env::var("SLURMD_NODENAME").unwrap_or_default(),
            settings,
            words,
        })
    }

    /// Starts all ranks and waits for them; returns the highest of their codes.
    async fn run(&self) -> Result<u8, Complaint> {
        // what is told to the whole process group is told to the ranks, which are in it; this process waits for them
        let mut told = Vec::new();
        for kind in [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ] {
            told.push(
                signal(kind).map_err(|error| Complaint::new(format!("cannot listen to signals: {error}")))?,
            );
        }
        let mut waiting = JoinSet::new();
        let (kill, killed) = watch::channel(false);
        let mut copying = JoinSet::new();
        let mut highest = 0;
        for rank in 0..self.ranks {
            match self.command(rank)?.spawn() {
                Ok(mut child) => {
                    self.copy(rank, &mut child, &mut copying);
                    let mut killed = killed.clone();
                    waiting.spawn(async move {
                        let ended = tokio::select! {
                            status = child.wait() => Some(status),
                            _ = killed.changed() => None,
                        };
                        match ended {
                            Some(status) => (rank, status),
                            None => {
                                // it may just have ended
                                let _ = child.start_kill();
                                (rank, child.wait().await)
                            }
                        }
                    });
                }
                Err(error) => {
                    say(
                        Name::Srun,
                        "error",
                        &format!("cannot start `{}`: {error}", self.words[0]),
                    );
                    highest = if error.kind() == std::io::ErrorKind::NotFound {
                        NOT_FOUND
                    } else {
                        NOT_STARTED
                    };
                    break;
                }
            }
        }
        let kills = self.settings.step.kill_on_bad_exit == Some(true);
        while let Some(ended) = waiting.join_next().await {
            let Ok((rank, Ok(status))) = ended else { continue };
            let code = code(status);
            if code != 0 {
                say(
                    Name::Srun,
                    "error",
                    &format!("{}: task {rank}: {}", self.node, how(status)),
                );
                if kills {
                    kill.send_replace(true);
                }
            }
            highest = highest.max(code);
        }
        while copying.join_next().await.is_some() {}
        Ok(highest)
    }

    fn command(&self, rank: u32) -> Result<Command, Complaint> {
        let words = match &self.programs {
            Some(programs) => programs.of(rank).ok_or_else(|| {
                Complaint::new(format!(
                    "`{}` names no program for task {rank}; a line that begins with * is for all others",
                    self.words[0]
                ))
            })?,
            None => self.words.clone(),
        };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).kill_on_drop(true);
        if let Some(directory) = &self.settings.chdir {
            command.current_dir(directory);
        }
        for (name, value) in [
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", rank),
            ("SLURM_NODEID", 0),
            ("SLURM_NTASKS", self.ranks),
            ("SLURM_NPROCS", self.ranks),
            ("SLURM_STEP_NUM_TASKS", self.ranks),
            ("SLURM_STEP_NUM_NODES", 1),
            ("SLURM_STEP_ID", 0),
            ("SLURM_STEPID", 0),
        ] {
            command.env(name, value.to_string());
        }
        command.env("SLURM_STEP_NODELIST", &self.node);
        command.env("SLURM_STEP_TASKS_PER_NODE", self.ranks.to_string());
        if let Some(cpus) = self.settings.cpus_per_task {
            command.env("SLURM_CPUS_PER_TASK", cpus.to_string());
        }
        if let Some(export) = &self.settings.export {
            for (name, value) in &export.named {
                if let Some(value) = value {
                    command.env(name, value);
                }
            }
        }
        self.streams(rank, &mut command)?;
        Ok(command)
    }

    fn streams(&self, rank: u32, command: &mut Command) -> Result<(), Complaint> {
        let labelled = self.settings.step.label;
        match &self.settings.input {
            Some(pattern) if pattern != "none" => {
                let path = self.path(pattern, rank);
                let file = std::fs::File::open(&path).map_err(|error| cannot_open(&path, &error))?;
                command.stdin(file);
            }
            // one can read what is typed, and nobody waits for what another reads
            Some(_) => drop(command.stdin(Stdio::null())),
            None if rank > 0 => drop(command.stdin(Stdio::null())),
            None => {}
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
                step: Some(0),
                name: &name,
                user: &user,
                node: &self.node,
                node_index: 0,
                rank,
            },
        ))
    }

    /// Copies the lines of a rank, each with its number.
    fn copy(&self, rank: u32, child: &mut Child, copying: &mut JoinSet<()>) {
        let width = self.ranks.saturating_sub(1).to_string().len();
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

fn read_programs(path: &Path) -> Result<Programs, Complaint> {
    let text = std::fs::read_to_string(path).map_err(|error| cannot_open(path, &error))?;
    Programs::parse(&text).map_err(|error| Complaint::new(format!("`{}`: {error}", path.display())))
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

fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(1),
        (None, signal) => 128_u8.saturating_add(u8::try_from(signal.unwrap_or(0)).unwrap_or(0)),
    }
}

/// As the C library words it, and Slurm with it.
fn signal_text(number: i32) -> String {
    let text = match Signal::from_named_raw(number) {
        Some(Signal::HUP) => "Hangup",
        Some(Signal::INT) => "Interrupt",
        Some(Signal::QUIT) => "Quit",
        Some(Signal::ILL) => "Illegal instruction",
        Some(Signal::ABORT) => "Aborted",
        Some(Signal::BUS) => "Bus error",
        Some(Signal::FPE) => "Floating point exception",
        Some(Signal::KILL) => "Killed",
        Some(Signal::USR1) => "User defined signal 1",
        Some(Signal::SEGV) => "Segmentation fault",
        Some(Signal::USR2) => "User defined signal 2",
        Some(Signal::PIPE) => "Broken pipe",
        Some(Signal::TERM) => "Terminated",
        _ => return format!("Terminated by signal {number}"),
    };
    text.to_owned()
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(number) => signal_text(number),
        None => format!("Exited with exit code {}", status.code().unwrap_or_default()),
    }
}
