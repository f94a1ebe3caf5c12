//! Slurm's commands: this same program under another name, as `phalanx shims` installs it.
//!
//! What scripts and the programs that call these commands depend on is printed as Slurm prints it; how a job is read is in
//! [`crate::batch`], how it becomes one of ours in [`spec`]. [`home`] finds the cluster, and starts one for its user where
//! there is none.

mod help;
mod home;
#[cfg(test)]
mod reference;
mod sbatch;
mod spec;
mod srun;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::ui::style::printable;

/// The commands, by name.
pub(crate) const NAMES: [(&str, Name); 2] = [("sbatch", Name::Sbatch), ("srun", Name::Srun)];

/// One of Slurm's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Sbatch,
    Srun,
}

/// Which command this program was started as.
pub(crate) fn name(program: &OsStr) -> Option<Name> {
    let file = Path::new(program).file_name()?.to_str()?;
    let found = NAMES.iter().find(|(name, _)| *name == file);
    found.map(|&(_, name)| name)
}

impl Name {
    fn text(self) -> &'static str {
        let found = NAMES.iter().find(|(_, name)| *name == self);
        found.map_or("", |&(text, _)| text)
    }
}

/// Carries a command out and returns its exit code.
pub(crate) fn run(name: Name, words: &[OsString]) -> u8 {
    let texts: Result<Vec<String>, &OsString> = words
        .iter()
        .map(|word| word.to_str().map(str::to_owned).ok_or(word))
        .collect();
    let done = match texts {
        Ok(words) => match name {
            Name::Sbatch => sbatch::run(&words),
            Name::Srun => srun::run(&words),
        },
        Err(word) => Err(Complaint::new(format!("`{}` is not UTF-8", word.display()))),
    };
    match done {
        Ok(code) => code,
        Err(complaint) => {
            complaint.lines.iter().for_each(|line| say(name, "error", line));
            complaint.code
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Complaint {
    lines: Vec<String>,
    code: u8,
}

impl Complaint {
    fn new(line: impl Into<String>) -> Self {
        Self {
            lines: vec![line.into()],
            code: 1,
        }
    }
}

impl From<crate::ui::error::CliError> for Complaint {
    fn from(error: crate::ui::error::CliError) -> Self {
        Self {
            lines: error.plain_lines(),
            code: 1,
        }
    }
}

impl From<phalanx::ClientError> for Complaint {
    fn from(error: phalanx::ClientError) -> Self {
        crate::ui::error::CliError::from(error).into()
    }
}

/// Says something as Slurm's commands do: `sbatch: error: ..`.
fn say(name: Name, kind: &str, line: &str) {
    crate::ui::say_line(&format!("{}: {kind}: {}", name.text(), printable(line, 0)));
}
