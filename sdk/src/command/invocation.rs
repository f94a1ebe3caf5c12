//! What a task runs: the program, found as a shell finds it, and its arguments with the task's item in them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use phalanx_protocol::CommandPlan;
use phalanx_protocol::command::{Action, Dialect, Section};
use phalanx_protocol::record::FailureCause;
use rustix::io::Errno;

use super::program::Program;
use crate::kernel::runner::Failed;

/// What stands for a task's item in arguments.
const PLACE: &[u8] = b"{}";
/// Where programs are looked for if the submission had no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a shell exits with if it does not find a program, and if it cannot start one.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;
/// What runs a program that does not say what runs it.
const SHELL: &str = "/bin/sh";
/// Bytes that tell text from a program for another kind of machine.
const TEXT_BYTES: u64 = 128;

/// How tasks of a job are invoked.
#[derive(Debug)]
pub(super) struct Invocation {
    /// At least one; of several, each is for the next tasks.
    commands: Vec<Command>,
    placeholders: bool,
    is_script: bool,
}

/// A program with its arguments.
#[derive(Debug)]
struct Command {
    /// How many tasks run it.
    tasks: u32,
    program: PathBuf,
    /// The name that was asked for.
    name: OsString,
    arguments: Vec<Vec<u8>>,
    directory: PathBuf,
    /// Variables beside those of all tasks.
    variables: Vec<(OsString, OsString)>,
    /// The program is text without a first line that says what runs it, so that a shell does.
    by_shell: AtomicBool,
}

impl Command {
    /// One that is looked for as a shell does, given the variables and the directory of all tasks.
    fn new(section: &Section, plan: &CommandPlan) -> Self {
        let directory = PathBuf::from(owned(&plan.directory));
        let directory = match &section.directory {
            Some(own) => directory.join(owned(own)),
            None => directory,
        };
        let variables = plan.environment.iter().chain(&section.environment);
        let path = variables.rev().find(|(name, _)| &name[..] == b"PATH");
        let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, path)| OsStr::from_bytes(path));
        let name = section.words.first().map(owned).unwrap_or_default();
        let own = section.environment.iter();
        Self {
            tasks: section.ranks,
            program: find(&name, path, &directory),
            name,
            arguments: all(section.words.get(1..).unwrap_or_default()),
            directory,
            variables: own.map(|(name, value)| (owned(name), owned(value))).collect(),
            by_shell: AtomicBool::new(false),
        }
    }
}

/// The same bytes as text of the system's.
fn owned(bytes: &bytes::Bytes) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn all(arguments: &[bytes::Bytes]) -> Vec<Vec<u8>> {
    arguments.iter().map(|argument| argument.to_vec()).collect()
}

impl Invocation {
    /// Reads how tasks are invoked; a script is written to `scratch`.
    ///
    /// # Errors
    /// If the script cannot be written.
    pub(super) fn open(plan: &CommandPlan, scratch: &Path) -> io::Result<Self> {
        let of_all = |words: &[bytes::Bytes]| {
            let section = Section {
                ranks: u32::MAX,
                words: words.to_vec(),
                environment: Vec::new(),
                directory: None,
            };
            Command::new(&section, plan)
        };
        let commands = match &plan.action {
            Action::Program(words) => vec![of_all(words)],
            Action::Sections(sections) if !sections.is_empty() => sections
                .iter()
                .map(|section| Command::new(section, plan))
                .collect(),
            Action::Sections(_) => vec![of_all(&[])],
            Action::Script { content, arguments } => {
                let program = scratch.join(match plan.dialect {
                    Dialect::Phalanx => "script",
                    // scripts tell by it whether they are in a job
                    Dialect::Slurm | Dialect::Pbs => "slurm_script",
                });
                let mut file = fs::File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o700)
                    .open(&program)?;
                file.write_all(content)?;
                vec![Command {
                    tasks: u32::MAX,
                    name: program.clone().into_os_string(),
                    program,
                    arguments: all(arguments),
                    directory: PathBuf::from(owned(&plan.directory)),
                    variables: Vec::new(),
                    by_shell: AtomicBool::new(false),
                }]
            }
        };
        Ok(Self {
            commands,
            placeholders: plan.placeholders,
            is_script: matches!(plan.action, Action::Script { .. }),
        })
    }

    /// Which of several programs each task runs, from 0: of the first so many tasks.
    pub(super) fn sections(&self, tasks: usize) -> Vec<u32> {
        let each = (0..).zip(&self.commands);
        let by_task =
            each.flat_map(|(section, command)| std::iter::repeat_n(section, command.tasks as usize));
        let last = self.commands.len().saturating_sub(1) as u32;
        by_task.chain(std::iter::repeat(last)).take(tasks).collect()
    }

    /// What the task `index` runs.
    fn command(&self, index: u64) -> &Command {
        let mut before = 0;
        let has_it = |command: &&Command| {
            before += u64::from(command.tasks);
            index < before
        };
        let last = self.commands.last();
        let found = self.commands.iter().find(has_it).or(last);
        found.expect("there is at least one")
    }

    /// The program of the task `index`, whose number and item are these, with its arguments and variables of its own.
    ///
    /// # Errors
    /// A sentence if the item cannot be an argument.
    pub(super) fn program(
        &self,
        index: u64,
        number: u64,
        item: Option<&[u8]>,
    ) -> Result<Program<'_>, String> {
        let command = self.command(index);
        let mut program = match command.by_shell.load(Ordering::Relaxed) {
            false => Program::new(&command.program, &command.directory),
            true => {
                let mut program = Program::new(SHELL, &command.directory);
                program.arg(&command.program);
                program
            }
        };
        for (name, value) in &command.variables {
            program.env(name, value);
        }
        if !self.placeholders {
            for argument in &command.arguments {
                program.arg(OsStr::from_bytes(argument));
            }
            return Ok(program);
        }
        let digits = number.to_string();
        let text = item.unwrap_or(digits.as_bytes());
        if text.contains(&0) {
            return Err("its item has a zero byte, which no argument can have".to_owned());
        }
        let mut is_named = false;
        for argument in &command.arguments {
            let filled = fill(argument, text);
            is_named |= filled.is_some();
            program.arg(OsStr::from_bytes(filled.as_deref().unwrap_or(argument)));
        }
        if let Some(item) = item
            && !is_named
        {
            program.arg(OsStr::from_bytes(item));
        }
        Ok(program)
    }

    /// Whether to try the task `index` again, by a shell this time, after its process could not be started: as shells do with
    /// programs that are text and do not say what runs them.
    pub(super) fn try_by_shell(&self, index: u64, error: &io::Error) -> bool {
        let command = self.command(index);
        let is_text = !self.is_script
            && error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())
            && looks_like_text(&command.program);
        is_text && {
            command.by_shell.store(true, Ordering::Relaxed);
            true
        }
    }

    /// What to say of the task `index`, whose process could not be started.
    pub(super) fn not_started(&self, index: u64, error: &io::Error) -> Failed {
        let command = self.command(index);
        let directory = command.directory.display();
        if !command.directory.is_dir() {
            let message = format!("its working directory `{directory}` is not there on this worker");
            return (FailureCause::Exit(NOT_STARTED), message);
        }
        let name = command.name.display();
        if self.is_script && error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
            let message = "the script does not begin with `#!` and what runs it, as in `#!/bin/sh`";
            return (FailureCause::Exit(NOT_STARTED), message.to_owned());
        }
        if error.kind() != io::ErrorKind::NotFound {
            return (
                FailureCause::Exit(NOT_STARTED),
                format!("cannot start `{name}`: {error}"),
            );
        }
        let message = match command.program.exists() {
            true => format!("cannot start `{name}`: the interpreter that its first line names is not there"),
            false => format!("there is no program `{name}` on this worker"),
        };
        (FailureCause::Exit(NOT_FOUND), message)
    }
}

/// Whether a file has no zero byte where it begins.
fn looks_like_text(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(TEXT_BYTES).read_to_end(&mut start));
    read.is_ok() && !start.contains(&0)
}

/// The argument with `text` wherever it has a place for it; `None` if it has none.
fn fill(argument: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut filled = Vec::with_capacity(argument.len() + text.len());
    let mut rest = argument;
    while let Some(at) = rest.windows(PLACE.len()).position(|window| window == PLACE) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(text);
        rest = &rest[at + PLACE.len()..];
    }
    (rest.len() < argument.len()).then(|| {
        filled.extend_from_slice(rest);
        filled
    })
}

/// Finds a program as a shell in `directory` does. One that is not found is looked for again when it is started.
fn find(name: &OsStr, path: &OsStr, directory: &Path) -> PathBuf {
    if name.as_bytes().contains(&b'/') {
        return directory.join(name);
    }
    let is_program = |path: &PathBuf| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::split_paths(path);
    let mut found = folders
        .map(|folder| directory.join(folder).join(name))
        .filter(is_program);
    found.next().unwrap_or_else(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_with_the_item_wherever_they_are() {
        assert_eq!(fill(b"{}", b"x y").unwrap(), b"x y");
        assert_eq!(fill(b"in/{}.txt-{}", b"7").unwrap(), b"in/7.txt-7");
        assert_eq!(fill(b"none {", b"7"), None);
        assert_eq!(fill(b"", b"7"), None);
    }

    #[test]
    fn tasks_run_programs_in_turn_and_those_that_are_left_over_the_last() {
        let section = |tasks: u32| Command {
            tasks,
            program: PathBuf::new(),
            name: OsString::new(),
            arguments: Vec::new(),
            directory: PathBuf::new(),
            variables: Vec::new(),
            by_shell: AtomicBool::new(false),
        };
        let sections = |tasks: &[u32]| Invocation {
            commands: tasks.iter().copied().map(section).collect(),
            placeholders: false,
            is_script: false,
        };
        assert_eq!(sections(&[2, 0, 1]).sections(5), [0, 0, 2, 2, 2]);
        assert_eq!(sections(&[u32::MAX]).sections(3), [0, 0, 0]);
    }

    #[test]
    fn a_program_is_looked_for_in_path_and_a_path_in_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        fs::write(&tool, "").unwrap();
        let path = OsString::from(format!("/nowhere:{}", folder.path().display()));
        let here = Path::new("/desk");
        assert_eq!(
            find(OsStr::new("tool"), &path, here),
            here.join("tool"),
            "it cannot be run"
        );
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(OsStr::new("tool"), &path, here), tool);
        assert_eq!(find(OsStr::new("./tool"), &path, here), Path::new("/desk/./tool"));
        assert_eq!(find(OsStr::new("/bin/true"), &path, here), Path::new("/bin/true"));
    }
}
