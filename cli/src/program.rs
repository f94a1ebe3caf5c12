//! A program's file, read without running it: is it one for this machine, and which kernels are in it?
//!
//! Only headers and the section of kernels are read, however large the program is. The story: [`Program::open`] looks at
//! the file, [`Program::check`] compares a kernel with what it is to be given.

mod elf;

use std::io;
use std::path::{Path, PathBuf};

use phalanx_protocol::message::host::KernelLine;

use crate::ui::error::CliError;

/// The type of input that an index range gives.
const INDEX_TYPE: &str = "u64";
/// What stands for the input of functions that ranks run.
const RANKS_TYPE: &str = "&Communicator";
/// The type of parameters that are always the same.
const UNIT_TYPE: &str = "()";

/// A kernel program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) kernels: Vec<KernelLine>,
}

/// What a kernel is to be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) inputs: CallInputs,
    pub(crate) parameters: bool,
    pub(crate) reduce: bool,
}

/// What each call of a kernel is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallInputs {
    /// A number of a range.
    Indices,
    /// A line of a file.
    Lines,
    /// The other ranks.
    Ranks,
}

/// Why a file cannot be submitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("cannot read the program `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` is no program: {what}", path.display())]
    NotElf { path: PathBuf, what: &'static str },
    #[error("`{}` is a program for {found}, this machine is {own}", path.display())]
    OtherArchitecture {
        path: PathBuf,
        found: String,
        own: &'static str,
    },
    #[error("`{}` is a damaged program", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        cause: object::Error,
    },
    #[error("`{}` is no kernel program: it has no #[phalanx::kernel] function", path.display())]
    NoKernels { path: PathBuf },
    #[error("`{}` has no kernel `{kernel}`", path.display())]
    NoSuchKernel {
        path: PathBuf,
        kernel: String,
        known: Vec<String>,
    },
    #[error("kernel `{kernel}` takes `{input}`, a range gives `u64`")]
    NotForRange { kernel: String, input: String },
    #[error("`{kernel}` is run by ranks, together, and nothing says by how many")]
    RanksMissing { kernel: String },
    #[error("kernel `{kernel}` takes one `{input}` at a time, and is not run by ranks")]
    NotForRanks { kernel: String, input: String },
    #[error("kernel `{kernel}` takes parameters of type `{parameters}`, and none are given")]
    ParametersMissing { kernel: String, parameters: String },
    #[error("kernel `{kernel}` takes no parameters")]
    ParametersUnwanted { kernel: String },
    #[error("kernel `{kernel}` has no function that merges two results")]
    NoReduction { kernel: String },
}

impl Program {
    /// Reads the list of kernels from a program's file.
    pub(crate) fn open(path: &Path) -> Result<Self, ProgramError> {
        let section = elf::kernels_section(path)?;
        let mut kernels = KernelLine::parse_section(&section.unwrap_or_default());
        kernels.sort_by(|left, right| left.name.cmp(&right.name));
        match kernels.is_empty() {
            true => Err(ProgramError::NoKernels {
                path: path.to_owned(),
            }),
            false => Ok(Self {
                path: path.to_owned(),
                kernels,
            }),
        }
    }

    /// Finds a kernel that can be called so.
    pub(crate) fn check(&self, call: Call<'_>) -> Result<&KernelLine, ProgramError> {
        let kernel = call.kernel.to_owned();
        let Some(line) = self.kernels.iter().find(|line| line.name == kernel) else {
            return Err(ProgramError::NoSuchKernel {
                path: self.path.clone(),
                kernel,
                known: self.kernels.iter().map(|line| line.name.clone()).collect(),
            });
        };
        let input = line.input.clone();
        match (call.inputs, input == RANKS_TYPE) {
            (CallInputs::Ranks, false) => return Err(ProgramError::NotForRanks { kernel, input }),
            (CallInputs::Indices | CallInputs::Lines, true) => {
                return Err(ProgramError::RanksMissing { kernel });
            }
            (CallInputs::Indices, false) if input != INDEX_TYPE => {
                return Err(ProgramError::NotForRange { kernel, input });
            }
            _ => {}
        }
        match (&line.parameters, call.parameters) {
            (Some(parameters), false) if parameters != UNIT_TYPE => {
                let parameters = parameters.clone();
                return Err(ProgramError::ParametersMissing { kernel, parameters });
            }
            (None, true) => return Err(ProgramError::ParametersUnwanted { kernel }),
            (Some(_), _) | (None, false) => {}
        }
        match call.reduce && !line.reduces {
            true => Err(ProgramError::NoReduction { kernel }),
            false => Ok(line),
        }
    }
}

impl ProgramError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File { .. } | Self::Damaged { .. } => return None,
            Self::NotElf { .. } => "give the executable that cargo built, as in target/release/NAME",
            Self::OtherArchitecture { .. } => "build it on, or for, the machines of the cluster",
            Self::NoKernels { .. } => {
                "mark a function with #[phalanx::kernel] and `main` with #[phalanx::main], and build again"
            }
            Self::NoSuchKernel { kernel, known, .. } => {
                return Some(match nearest(kernel, known) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => "`phalanx kernels PROGRAM` lists them with their types".to_owned(),
                });
            }
            Self::NotForRange { .. } => "give one JSON value per line with --inputs FILE",
            Self::RanksMissing { .. } => {
                "say how many start together with --ranks N, instead of --range and --inputs"
            }
            Self::NotForRanks { .. } => "leave --ranks out, and call it with --range A..B or --inputs FILE",
            Self::ParametersMissing { .. } => "give them with --parameters '<JSON>' or --parameters @FILE",
            Self::ParametersUnwanted { .. } => "leave --parameters out",
            Self::NoReduction { .. } => {
                "leave --reduce out, or name a function with #[phalanx::kernel(reduce = ..)]"
            }
        };
        Some(hint.to_owned())
    }
}

impl From<ProgramError> for CliError {
    fn from(error: ProgramError) -> Self {
        let hint = error.hint();
        let told =
            Self::from_chain(phalanx_protocol::exit::ExitCode::Usage, &error).maybe_hint(hint.as_deref());
        let ProgramError::NoSuchKernel { known, .. } = error else {
            return told;
        };
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        told.detail(format!("it has {}", known.join(", ")))
    }
}

/// The name that was probably meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(wanted: &str, known: &'a [String]) -> Option<&'a str> {
    let distances = known.iter().map(|name| (edit_distance(wanted, name), name));
    let (distance, name) = distances.min()?;
    (distance * 3 <= wanted.chars().count().max(3)).then_some(name)
}

/// How many letters must be put in, taken out or replaced (Levenshtein, by rows as Wagner and Fischer, 1974).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, &other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
