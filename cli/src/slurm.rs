//! Slurm's commands, and PBS's: this same program under another name, as `phalanx shims` installs it.
//!
//! What scripts and the programs that call these commands depend on is printed as Slurm prints it; how a job is read is in
//! [`crate::batch`], how it becomes one of ours in [`spec`]. [`home`] finds the cluster, and starts one for its user where
//! there is none. Lists: [`gather`] asks for jobs and tasks, [`entry`] makes entries of them, [`row`] shows these in columns;
//! nodes are in [`nodes`]. Then one file for each command.

mod clock;
mod elements;
mod entry;
mod gather;
mod help;
mod home;
mod mpiexec;
mod needs;
mod nodes;
mod pbs;
mod people;
#[cfg(test)]
mod reference;
mod row;
mod sacct;
mod salloc;
mod sbatch;
mod sbcast;
mod scancel;
mod scontrol;
mod seff;
mod sinfo;
mod spec;
mod squeue;
mod srun;
mod step;
mod words;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::args::{GlobalArguments, OutputForm};
use crate::ui::Ui;
use crate::ui::style::printable;

/// The commands, by name.
pub(crate) const NAMES: [(&str, Name); 13] = [
    ("qdel", Name::Qdel),
    ("qstat", Name::Qstat),
    ("qsub", Name::Qsub),
    ("sacct", Name::Sacct),
    ("salloc", Name::Salloc),
    ("sbatch", Name::Sbatch),
    ("sbcast", Name::Sbcast),
    ("scancel", Name::Scancel),
    ("scontrol", Name::Scontrol),
    ("seff", Name::Seff),
    ("sinfo", Name::Sinfo),
    ("squeue", Name::Squeue),
    ("srun", Name::Srun),
];

/// Those of MPI's, which are not installed unless asked for: there may be others that users know.
pub(crate) const MPI_NAMES: [(&str, Name); 2] = [("mpiexec", Name::Mpiexec), ("mpirun", Name::Mpiexec)];

/// One of Slurm's commands, or of PBS's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Qdel,
    Qstat,
    Qsub,
    Sacct,
    Salloc,
    Sbatch,
    Sbcast,
    Scancel,
    Scontrol,
    Seff,
    Sinfo,
    Squeue,
    Srun,
    Mpiexec,
}

/// Which command this program was started as.
pub(crate) fn name(program: &OsStr) -> Option<Name> {
    let file = Path::new(program).file_name()?.to_str()?;
    let found = NAMES.iter().chain(&MPI_NAMES).find(|(name, _)| *name == file);
    found.map(|&(_, name)| name)
}

impl Name {
    fn text(self) -> &'static str {
        let mut all = NAMES.iter().chain(&MPI_NAMES);
        let found = all.find(|(_, name)| *name == self);
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
            Name::Qdel => pbs::qdel::run(&words),
            Name::Qstat => pbs::qstat::run(&words),
            Name::Qsub => pbs::qsub::run(&words),
            Name::Sacct => sacct::run(&words),
            Name::Salloc => salloc::run(&words),
            Name::Sbatch => sbatch::run(&words),
            Name::Sbcast => sbcast::run(&words),
            Name::Scancel => scancel::run(&words),
            Name::Scontrol => scontrol::run(&words),
            Name::Seff => seff::run(&words),
            Name::Sinfo => sinfo::run(&words),
            Name::Squeue => squeue::run(&words),
            Name::Srun => srun::run(&words),
            Name::Mpiexec => mpiexec::run(&words),
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

/// `phalanx step-ranks`: starts ranks where the launcher of their step is not. Returns its exit code.
pub(crate) fn keep_ranks() -> u8 {
    step::keep_ranks()
}

/// `phalanx step-file`: receives a file from where `sbcast` runs. Returns its exit code.
pub(crate) fn receive_file() -> u8 {
    sbcast::receive()
}

/// `phalanx mpiexec`: the same as `mpiexec`, for the cluster that is named. Returns its exit code.
pub(crate) fn mpiexec(words: &[String], global: &GlobalArguments) -> u8 {
    mpiexec::told(words, global)
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

    /// The same with what to do next.
    fn with_hint(line: impl Into<String>, hint: &str) -> Self {
        Self {
            lines: vec![line.into(), format!("hint: {hint}")],
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

/// Prints lines of data, however many there are.
fn print_all(lines: impl Iterator<Item = String>) -> Result<(), Complaint> {
    let mut out = Ui::new(OutputForm::Human).stream();
    for line in lines {
        out.write(line.as_bytes())?;
        out.write(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Says how things are, as Slurm's commands do: `srun: ..`.
fn inform(name: Name, line: &str) {
    crate::ui::say_line(&format!("{}: {}", name.text(), printable(line, 0)));
}

/// Says something as Slurm's commands do: `sbatch: error: ..`.
fn say(name: Name, kind: &str, line: &str) {
    crate::ui::say_line(&format!("{}: {kind}: {}", name.text(), printable(line, 0)));
}
