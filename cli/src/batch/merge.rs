//! Puts together what the script, the environment and the command line say: what stands later in that order wins.

use std::fmt;

use phalanx_protocol::hostlist::{self, HostListError};
use phalanx_protocol::resources::GPU;

use super::array::{ArrayError, ArraySpec};
use super::begin::{Begin, BeginError};
use super::dependency::{Dependency, DependencyError};
use super::directives::{Dialect, Directive, Directives};
use super::environment::FromEnvironment;
use super::getopt::{self, Given, OnUnknown, OptionError};
use super::memory::{MemoryError, parse_memory};
use super::options::{Command, OptionKind as Kind, OptionSpec};
use super::pbs::{self, PbsError};
use super::settings::{BatchSettings, GpuWish, Memory, Question};
use super::time::{TimeError, parse_time_limit};
use super::values::{self, Gres, ValueError};

/// Where something is said. What is later in this list wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Script { line: usize },
    Variable(&'static str),
    CommandLine,
}

impl Place {
    /// Whether both are the same kind of place, so that neither wins.
    fn equals_in_rank(self, other: Self) -> bool {
        match self {
            Self::Script { .. } => matches!(other, Self::Script { .. }),
            Self::Variable(_) => matches!(other, Self::Variable(_)),
            Self::CommandLine => matches!(other, Self::CommandLine),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { line } => write!(f, "line {line} of the script"),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// Why what is asked for cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    /// The words are no options.
    #[error("{place}: {error}")]
    Words { place: Place, error: OptionError },
    /// A `#PBS` line cannot be read.
    #[error("{place}: {error}")]
    Pbs { place: Place, error: PbsError },
    /// A value is none for its option.
    #[error("{place}: --{option}={value}: {reason}")]
    Value {
        place: Place,
        option: &'static str,
        value: String,
        reason: Reason,
    },
    /// Two options exclude each other.
    #[error("{place}: --{option} and --{other} ({other_place}) exclude each other; keep one of them")]
    Conflict {
        place: Place,
        option: &'static str,
        other: &'static str,
        other_place: Place,
    },
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Array(#[from] ArrayError),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error(transparent)]
    Hosts(#[from] HostListError),
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// The settings, and what is said about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) settings: BatchSettings,
    /// One sentence each; all unknown options of the script are in one.
    pub(crate) warnings: Vec<String>,
}

/// Puts together a script's directives, the environment's variables and the command line's options.
///
/// # Errors
///
/// A directive's words are no options, a value is none for its option, or two options of the same place exclude each other.
pub(crate) fn merge(
    command: Command,
    script: &Directives,
    environment: &[FromEnvironment],
    command_line: &[Given],
) -> Result<Merged, SettingError> {
    let mut merger = Merger::default();
    let by_variables = environment.iter().map(|found| &found.given);
    let ignore_pbs = command_line
        .iter()
        .chain(by_variables)
        .any(|given| given.spec.kind == Kind::IgnorePbs);
    merger.merged.warnings = script.remarks.iter().map(ToString::to_string).collect();
    for dialect in [Dialect::Pbs, Dialect::Slurm, Dialect::Phalanx] {
        if dialect == Dialect::Pbs && ignore_pbs {
            continue;
        }
        let lines = script.directives.iter();
        for directive in lines.filter(|directive| directive.dialect == dialect) {
            merger.directive(command, directive)?;
        }
    }
    for found in environment {
        merger.apply(Place::Variable(found.variable), &found.given)?;
    }
    for given in command_line {
        merger.apply(Place::CommandLine, given)?;
    }
    Ok(merger.finish())
}

#[derive(Default)]
struct Merger {
    merged: Merged,
    /// What said how much memory there must be.
    memory_from: Option<(Place, &'static OptionSpec)>,
    /// Where it was said which gpus a step wants.
    gpus_from: Option<Place>,
    unknown: Vec<String>,
}

impl Merger {
    fn directive(&mut self, command: Command, directive: &Directive) -> Result<(), SettingError> {
        let place = Place::Script { line: directive.line };
        if directive.dialect == Dialect::Pbs {
            let parsed = pbs::parse(&directive.words).map_err(|error| SettingError::Pbs { place, error })?;
            for given in &parsed.given {
                self.apply(place, given)?;
            }
            let settings = &mut self.merged.settings;
            settings.pbs = true;
            settings.joined = parsed.joined.or(settings.joined);
            self.collect(directive.line, parsed.unknown, &parsed.rest);
            return Ok(());
        }
        let parsed = getopt::parse(command, &directive.words, OnUnknown::Collect)
            .map_err(|error| SettingError::Words { place, error })?;
        for given in &parsed.given {
            self.apply(place, given)?;
        }
        self.collect(directive.line, parsed.unknown, &parsed.rest);
        Ok(())
    }

    /// Keeps what is not read of a line, for the warnings.
    fn collect(&mut self, line: usize, unknown: Vec<String>, rest: &[String]) {
        let unknown = unknown.into_iter().map(|option| {
            let name = option.strip_prefix("--");
            match name.and_then(|name| getopt::nearest(Command::Sbatch, name)) {
                Some(nearest) => format!("{option} (line {line}; did you mean --{nearest}?)"),
                None => format!("{option} (line {line})"),
            }
        });
        self.unknown.extend(unknown);
        if let Some(word) = rest.first() {
            if ["hetjob", "packjob"].contains(&word.as_str()) {
                let warning = format!(
                    "line {line} of the script: `{word}`: a job of different parts is not there; all options are read as those of one, \
                     the later ones in place of the earlier"
                );
                self.merged.warnings.push(warning);
                return;
            }
            let warning = format!(
                "line {line} of the script: `{word}` is no option, and what follows on the line is not read; \
                 begin options with - or --, and put values with blanks into quotes"
            );
            self.merged.warnings.push(warning);
        }
    }

    fn apply(&mut self, place: Place, given: &Given) -> Result<(), SettingError> {
        self.exclude_second_memory(place, given)?;
        let text = given.value.as_deref();
        let settings = &mut self.merged.settings;
        set(settings, given.spec, text).map_err(|reason| SettingError::Value {
            place,
            option: given.spec.long,
            value: text.unwrap_or_default().to_owned(),
            reason,
        })?;
        // what the job has said is not said of its steps
        if given.spec.kind == Kind::CpusPerTask && place != Place::Variable("SLURM_CPUS_PER_TASK") {
            settings.step.cpus_per_task = settings.cpus_per_task;
        }
        if let Some(wish) = gpu_wish(settings, given.spec.kind, place) {
            let is_kept = matches!(settings.step.gpus, Some(GpuWish::PerTask(_)))
                && self.gpus_from.is_some_and(|from| from.equals_in_rank(place));
            if !is_kept {
                settings.step.gpus = Some(wish);
                self.gpus_from = Some(place);
            }
        }
        Ok(())
    }

    /// Memory is said in one way only: a later place replaces an earlier one, the same place must not say it twice.
    fn exclude_second_memory(&mut self, place: Place, given: &Given) -> Result<(), SettingError> {
        if !matches!(given.spec.kind, Kind::Mem | Kind::MemPerCpu | Kind::MemPerGpu) {
            return Ok(());
        }
        if let Some((other_place, other)) = self.memory_from
            && other.kind != given.spec.kind
            && other_place.equals_in_rank(place)
        {
            return Err(SettingError::Conflict {
                place,
                option: given.spec.long,
                other: other.long,
                other_place,
            });
        }
        self.memory_from = Some((place, given.spec));
        Ok(())
    }

    fn finish(mut self) -> Merged {
        if !self.unknown.is_empty() {
            let warning = format!(
                "the script has options that are not known here and change nothing: {}",
                self.unknown.join(", ")
            );
            self.merged.warnings.push(warning);
        }
        let settings = &mut self.merged.settings;
        let (gpus, others) = settings.gres.drain(..).partition(|gres| gres.name == "gpu");
        settings.gres = others;
        if settings.gpus_per_node.is_empty() {
            settings.gpus_per_node = gpus;
        }
        self.merged
    }
}

/// What a step wants by that option. How many gpus its job has, and its nodes, says nothing of its steps.
fn gpu_wish(settings: &BatchSettings, kind: Kind, place: Place) -> Option<GpuWish> {
    if kind == Kind::GpusPerTask {
        return Some(GpuWish::PerTask(settings.gpus_per_task.clone()));
    }
    let of_job = ["SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GRES"].map(Place::Variable);
    if of_job.contains(&place) {
        return None;
    }
    if kind == Kind::Gpus {
        return Some(GpuWish::InAll(settings.gpus.clone()));
    }
    if kind == Kind::GpusPerNode {
        return Some(GpuWish::PerNode(settings.gpus_per_node.clone()));
    }
    let gres = (kind == Kind::Gres).then_some(&settings.gres)?;
    let gpus: Vec<Gres> = gres.iter().filter(|gres| gres.name == GPU).cloned().collect();
    // other things say nothing of gpus; nothing at all does
    (gres.is_empty() || !gpus.is_empty()).then_some(GpuWish::PerNode(gpus))
}

/// Sets what one option says.
#[rustfmt::skip] // a table: one option a line
fn set(settings: &mut BatchSettings, spec: &OptionSpec, given: Option<&str>) -> Result<(), Reason> {
    let text = given.unwrap_or_default();
    let owned = || Some(text.to_owned());
    match spec.kind {
        Kind::Array => settings.array = Some(ArraySpec::parse(text)?),
        Kind::Bcast => settings.step.bcast = owned(),
        Kind::Begin => settings.begin = Some(Begin::parse(text)?),
        Kind::Chdir => settings.chdir = Some(filled(text)?),
        Kind::CpuBind => settings.step.cpu_bind = owned(),
        Kind::CpusPerGpu => settings.cpus_per_gpu = Some(values::count(text)?),
        Kind::CpusPerTask => settings.cpus_per_task = Some(values::count(text)?),
        // workflows pass an empty one on where there is nothing to wait for
        Kind::Dependency if text.trim().is_empty() => settings.dependency = None,
        Kind::Dependency => settings.dependency = Some(Dependency::parse(text)?),
        Kind::Error => settings.error = Some(filled(text)?),
        Kind::Exact => settings.step.exact = true,
        Kind::Exclude => settings.exclude = hostlist::expand(text)?,
        Kind::Exclusive => settings.exclusive = Some(values::exclusive(given)?),
        Kind::Export => settings.export = Some(values::export(text)?),
        Kind::ExportFile => settings.export_file = Some(filled(text)?),
        Kind::Gpus => settings.gpus = values::gpus(text)?,
        Kind::GpusPerNode => settings.gpus_per_node = values::gpus(text)?,
        Kind::GpusPerTask => settings.gpus_per_task = values::gpus(text)?,
        Kind::Gres => settings.gres = values::gres(text)?,
        Kind::Help => settings.question = Some(Question::Help),
        Kind::Hint => record(settings, spec.long, text),
        Kind::Hold => settings.hold = true,
        Kind::IgnorePbs => settings.ignore_pbs = true,
        Kind::Immediate => settings.immediate = Some(values::seconds(given.unwrap_or("0"))?),
        Kind::Input => settings.input = Some(filled(text)?),
        Kind::JobId => settings.step.job_id = Some(filled(text)?),
        Kind::JobName => settings.job_name = owned(),
        Kind::KillOnBadExit => settings.step.kill_on_bad_exit = Some(values::yes_no(given.unwrap_or("1"))?),
        Kind::KillOnInvalidDependency => settings.kill_on_invalid_dependency = Some(values::yes_no(text)?),
        Kind::Label => settings.step.label = true,
        Kind::Mem => settings.memory = Some(memory(text, Memory::PerNode)?),
        Kind::MemPerCpu => settings.memory = Some(memory(text, Memory::PerCpu)?),
        Kind::MemPerGpu => settings.memory = Some(memory(text, Memory::PerGpu)?),
        Kind::Mpi => settings.step.mpi = owned(),
        Kind::MultiProg => settings.step.multi_prog = true,
        Kind::Nice => settings.nice = Some(values::nice(given)?),
        Kind::NoRequeue => settings.requeue = Some(false),
        Kind::Nodelist => settings.nodelist = hostlist::expand(text)?,
        Kind::Nodes => settings.nodes = Some(values::nodes(text)?),
        Kind::Ntasks => settings.ntasks = Some(values::count(text)?),
        Kind::NtasksPerGpu => settings.ntasks_per_gpu = Some(values::count(text)?),
        Kind::NtasksPerNode => settings.ntasks_per_node = Some(values::count(text)?),
        Kind::OpenMode => settings.open_mode = Some(values::open_mode(text)?),
        Kind::Output => settings.output = Some(filled(text)?),
        Kind::Distribution => record(settings, spec.long, text),
        Kind::Overcommit => {
            settings.step.overcommit = true;
            record(settings, spec.long, text);
        }
        Kind::Overlap => settings.step.overlap = true,
        Kind::Parsable => settings.parsable = true,
        Kind::Partition => settings.partition = owned(),
        Kind::Priority => settings.priority = Some(values::priority(text)?),
        Kind::Pty => settings.step.pty = true,
        Kind::Quiet => settings.quiet = true,
        Kind::Recorded => record(settings, spec.long, text),
        Kind::Relative => settings.step.relative = Some(values::position(text)?),
        Kind::Requeue => settings.requeue = Some(true),
        Kind::Signal => settings.signal = Some(values::warning_signal(text)?),
        Kind::StepWait => settings.step.wait = Some(values::seconds(text)?),
        Kind::TestOnly => settings.test_only = true,
        Kind::Time => settings.time_limit = Some(parse_time_limit(text)?),
        Kind::Unbuffered => settings.step.unbuffered = true,
        Kind::Usage => settings.question = Some(Question::Usage),
        Kind::Verbose => settings.verbose = true,
        Kind::Version => settings.question = Some(Question::Version),
        Kind::Wait => settings.wait = true,
        Kind::Whole => settings.step.whole = true,
        Kind::Wrap => settings.wrap = owned(),
    }
    Ok(())
}

/// Memory of one of the kinds; 0 is all that there is.
fn memory(text: &str, of: fn(u64) -> Memory) -> Result<Memory, Reason> {
    Ok(match parse_memory(text)? {
        0 => Memory::WholeNode,
        bytes => of(bytes),
    })
}

/// A name of something, which an empty text is not.
fn filled(text: &str) -> Result<String, Reason> {
    match text.is_empty() {
        true => Err(ValueError::Empty.into()),
        false => Ok(text.to_owned()),
    }
}

fn record(settings: &mut BatchSettings, name: &str, value: &str) {
    match settings.recorded.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => settings.recorded.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests;
