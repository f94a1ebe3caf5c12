//! A job that runs a program or a script: what is said of it on the command line, and what this process finds around it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use phalanx::{Client, Surroundings, WorkerView};
use phalanx_protocol::command::{Action, Dialect, Output, Recipients, TaskInput, facts};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::limits::{
    COMMAND_GRACE_MILLIS_MAX, COMMAND_PLAN_BYTES_MAX, PARAMETERS_INLINE_BYTES_MAX,
};
use phalanx_protocol::{
    Amount, ArrayIds, CommandPlan, CommandWork, Feeding, Inputs, JobId, JobSpec, Payload, Work, codec,
};

use super::items::Items;
use super::{begin_unix_millis, new_submission};
use crate::args::command::{CommandArguments, PrintingArguments};
use crate::args::job::{SubmitArguments, millis};
use crate::batch::array::ArraySpec;
use crate::ui::error::CliError;

/// Letters of a command that people are shown.
const SHOWN_LETTERS_MAX: usize = 200;
/// Bytes of a script that is copied.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;

/// A command, checked. `spec` is the job but for what storage will call its parts.
#[derive(Debug)]
pub(crate) struct CommandDraft {
    pub(crate) spec: JobSpec,
    pub(crate) plan: CommandPlan,
    items: Option<Items>,
    /// Lines that it prints are to begin with the number of their rank.
    pub(crate) is_labelled: bool,
    /// How `run` is to show the output of several tasks.
    pub(crate) printing: PrintingArguments,
    /// Resources that each task needs of those that some worker offers; the others are not counted.
    pub(crate) where_offered: Vec<(String, Amount)>,
}

impl CommandDraft {
    /// Checks what is said of a command.
    pub(super) fn prepare(arguments: SubmitArguments) -> Result<Self, CliError> {
        let command = &arguments.command;
        if arguments.program().extension() == Some(OsStr::new("toml")) && arguments.program().is_file() {
            let program = arguments.program().display();
            let what = format!("`{program}` is no program");
            return Err(CliError::usage(what).hint(format!("a file of jobs is given by --file {program}")));
        }
        if command.gang.goes_on() {
            let what = "ranks of a program cannot run on where others are lost: only a #[phalanx::ranks] function can provide for that";
            return Err(CliError::usage(what)
                .hint("leave --on-loss out, and all start again; or name the function by --kernel"));
        }
        let mut plan = surrounded(command)?;
        plan.action = action(&arguments)?;
        let others = match plan.action {
            Action::Program(_) | Action::Sections(_) => Recipients::All,
            // a shell that does not expect it would end of it
            Action::Script { .. } => Recipients::Others,
        };
        plan.warning = command.signal.map(|signal| signal.warning(others));
        let array = command.array.as_deref().map(ArraySpec::parse).transpose();
        let array = array.map_err(|error| CliError::from_chain(ExitCode::Usage, &error))?;
        let items = match (&command.each_line, &command.from_json) {
            (Some(path), _) => Some(Items::Lines(path.clone())),
            (None, Some(path)) => Some(Items::Json(path.clone())),
            (None, None) => None,
        };
        if let Some(items) = &items {
            items.check()?;
        }
        plan.placeholders = array.is_some() || items.is_some();
        let program = arguments.program();
        let program = program.file_name().unwrap_or(program.as_os_str());
        let name = arguments.name.clone().unwrap_or_else(|| shown(program));
        plan.name.clone_from(&name);
        let limit = array.as_ref().and_then(|array| array.limit);
        let ids = array.as_ref().map(ArraySpec::ids);
        let spec = JobSpec {
            submission: new_submission()?,
            name,
            tasks: match command.gang.ranks {
                Some(ranks) => ranks.into(),
                None => ids.as_ref().map_or(1, ArrayIds::count),
            },
            work: Work::Command(CommandWork {
                command: text_of(&arguments),
                plan: Payload::Inline(Bytes::new()),
                inputs: Inputs::Index { first: 0 },
                array: ids,
                facts: facts_of(&plan),
            }),
            request: arguments.request(),
            alternatives: arguments.alternatives(),
            choice: arguments.choice(),
            priority: arguments.priority,
            feeding: Feeding::default(),
            failures_max: arguments.failures_max,
            retries: arguments.limits.retries(),
            task_time_limit_millis: arguments.limits.task_time_limit_millis(),
            time_limit_millis: arguments.limits.time_limit_millis(),
            idempotent: false,
            slots_max: command
                .at_most
                .or(limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))),
            dependency: arguments.waiting.dependency(&[]),
            held: arguments.waiting.hold,
            begin_unix_millis: arguments.waiting.begin.map(begin_unix_millis).transpose()?,
            gang: command.gang.gang(),
        };
        Ok(Self {
            is_labelled: command.gang.label,
            printing: command.printing,
            ..Self::new(spec, plan, items)?
        })
    }

    /// A draft of a job that is made of other words.
    pub(crate) fn new(spec: JobSpec, plan: CommandPlan, items: Option<Items>) -> Result<Self, CliError> {
        spec.check()
            .map_err(|error| CliError::from_chain(ExitCode::Usage, &error))?;
        let bytes = codec::encode(&plan).len();
        if bytes > COMMAND_PLAN_BYTES_MAX {
            let what = format!(
                "the command's variables, arguments and script take {bytes} bytes together, more than \
                 {COMMAND_PLAN_BYTES_MAX}"
            );
            return Err(CliError::usage(what).hint("pass fewer variables on: --clean-env and --env NAME"));
        }
        Ok(Self {
            spec,
            plan,
            items,
            is_labelled: false,
            printing: PrintingArguments::default(),
            where_offered: Vec::new(),
        })
    }

    /// How many tasks there are, if that is known without reading their items.
    pub(crate) fn tasks(&self) -> Option<u64> {
        self.items.is_none().then_some(self.spec.tasks)
    }

    /// Whether one process is all that the job is.
    pub(crate) fn is_single(&self) -> bool {
        let Work::Command(work) = &self.spec.work else {
            return false;
        };
        work.array.is_none() && self.items.is_none() && self.spec.gang.is_none()
    }

    /// Whether a program that fails runs again.
    pub(crate) fn repeats_errors(&self) -> bool {
        self.spec.retries.errors > 0
    }

    /// How many ranks there are, if it is a gang.
    pub(crate) fn ranks(&self) -> Option<u64> {
        self.spec.gang.as_ref().map(|_| self.spec.tasks)
    }

    /// Whether this process's own input is all that its one task could read.
    pub(crate) fn takes_input(&self) -> bool {
        self.is_single() && self.plan.input == TaskInput::Empty
    }

    /// Has its task read what is sent to it while it runs.
    pub(crate) fn stream_input(&mut self) {
        self.plan.input = TaskInput::Streamed;
    }

    /// What each task needs of what some worker offers, and what of it none does.
    async fn offers(&self, client: &Client) -> Result<Split<'_>, CliError> {
        match self.where_offered.is_empty() {
            true => Ok(Split::default()),
            false => Ok(split(&self.where_offered, &client.workers().await?)),
        }
    }

    /// What is asked for and not counted, since no worker offers it, as a sentence.
    pub(crate) async fn unoffered(&self, client: &Client) -> Result<Option<String>, CliError> {
        let (_, unoffered) = self.offers(client).await?;
        let names: Vec<&str> = unoffered.iter().map(|(name, _)| name.as_str()).collect();
        Ok((!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!("no worker offers {names}: that is recorded only (`phalanx worker --resource NAME=N` offers some)")
        }))
    }

    /// Uploads what storage lacks and submits the job.
    pub(crate) async fn send(&self, client: &Client) -> Result<JobId, CliError> {
        let mut spec = self.spec.clone();
        let (offered, _) = self.offers(client).await?;
        for (name, amount) in offered {
            spec.request.add(name, *amount);
        }
        let plan = codec::encode(&self.plan);
        let plan = match plan.len() {
            0..=PARAMETERS_INLINE_BYTES_MAX => Payload::Inline(Bytes::from(plan)),
            _ => Payload::Blob(client.ensure_blob(&plan).await?),
        };
        let sent = match &self.items {
            Some(items) => Some(items.send(client).await?),
            None => None,
        };
        if let Work::Command(work) = &mut spec.work {
            work.plan = plan;
            if let Some((inputs, tasks)) = sent {
                (work.inputs, spec.tasks) = (inputs, tasks);
            }
        }
        Ok(client.submit(spec).await?)
    }
}

/// Resources that are offered, and those that are not.
type Split<'a> = (Vec<&'a (String, Amount)>, Vec<&'a (String, Amount)>);

fn split<'a>(wanted: &'a [(String, Amount)], workers: &[WorkerView]) -> Split<'a> {
    let is_offered = |name: &String| {
        let offered = workers.iter().map(|worker| worker.capacity.named.get(name));
        offered.flatten().any(|&amount| amount > Amount::ZERO)
    };
    wanted.iter().partition(|(name, _)| is_offered(name))
}

/// A plan of what is around this process, with what the command line says otherwise.
fn surrounded(command: &CommandArguments) -> Result<CommandPlan, CliError> {
    let found = Surroundings::capture()
        .map_err(|error| CliError::usage(format!("the working directory cannot be told: {error}")))?;
    let directory = match &command.chdir {
        Some(directory) => {
            let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            Bytes::copy_from_slice(absolute.as_os_str().as_bytes())
        }
        None => found.directory,
    };
    let grace_millis = millis(command.grace);
    if grace_millis > COMMAND_GRACE_MILLIS_MAX {
        let most = Duration::from_millis(COMMAND_GRACE_MILLIS_MAX).as_secs();
        return Err(CliError::usage(format!("--grace is at most {most} s")));
    }
    Ok(CommandPlan {
        name: String::new(),
        action: Action::Program(Vec::new()),
        placeholders: false,
        environment: environment(found.environment, command)?,
        directory,
        umask: found.umask,
        limits: found.limits,
        input: command.stdin.clone().map_or(TaskInput::Empty, TaskInput::File),
        output: match &command.stdout {
            Some(output) => Output::Files {
                output: output.clone(),
                error: command.stderr.clone(),
                append: command.append,
            },
            None => Output::Packed,
        },
        dialect: Dialect::Phalanx,
        warning: None,
        grace_millis,
    })
}

/// The variables that tasks get: `found`, unless they are not wanted, and those that are named.
fn environment(
    found: Vec<(Bytes, Bytes)>,
    command: &CommandArguments,
) -> Result<Vec<(Bytes, Bytes)>, CliError> {
    let mut variables: BTreeMap<Bytes, Bytes> = match command.clean_env {
        true => BTreeMap::new(),
        false => found.iter().cloned().collect(),
    };
    for text in &command.env {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(Bytes::copy_from_slice(value.as_bytes()))),
            None => (text.as_str(), None),
        };
        if name.is_empty() {
            return Err(CliError::usage(format!("`--env {text}` names no variable")));
        }
        let name = Bytes::copy_from_slice(name.as_bytes());
        let now = || {
            found
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone())
        };
        match value.or_else(now) {
            Some(value) => drop(variables.insert(name, value)),
            None => {
                let what = format!("the variable of `--env {text}` is not set");
                return Err(CliError::usage(what).hint(format!("give a value, as in --env {text}=1")));
            }
        }
    }
    Ok(variables.into_iter().collect())
}

/// What tasks run: a script is copied now.
fn action(arguments: &SubmitArguments) -> Result<Action, CliError> {
    let words = |words: &[std::ffi::OsString]| -> Vec<Bytes> {
        words
            .iter()
            .map(|word| Bytes::copy_from_slice(word.as_bytes()))
            .collect()
    };
    let rest = words(&arguments.arguments);
    if let Some(content) = script(arguments.program())? {
        return Ok(Action::Script {
            content: Bytes::from(content),
            arguments: rest,
        });
    }
    let program = Bytes::copy_from_slice(arguments.program().as_os_str().as_bytes());
    Ok(Action::Program([vec![program], rest].concat()))
}

/// The content of a script; `None` if there is no file of that name here, or it is something else.
fn script(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(None);
    };
    // what is looked for in PATH is not what happens to lie here
    if !metadata.is_file() || !path.as_os_str().as_bytes().contains(&b'/') && which(path.as_os_str()) {
        return Ok(None);
    }
    if metadata.len() > SCRIPT_BYTES_MAX {
        return Ok(None);
    }
    let content = fs::read(path)
        .map_err(|error| CliError::usage(format!("cannot read `{}`: {error}", path.display())))?;
    Ok(content.starts_with(b"#!").then_some(content))
}

/// Whether a program of that name is in PATH.
fn which(name: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn facts_of(plan: &CommandPlan) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    known.insert(
        facts::DIRECTORY.to_owned(),
        String::from_utf8_lossy(&plan.directory).into_owned(),
    );
    if let Output::Files { output, error, .. } = &plan.output {
        known.insert(facts::OUTPUT.to_owned(), output.clone());
        if let Some(error) = error {
            known.insert(facts::ERROR.to_owned(), error.clone());
        }
    }
    known
}

/// The command as people see it.
fn text_of(arguments: &SubmitArguments) -> String {
    let program = arguments.program().as_os_str();
    shown_words(std::iter::once(program).chain(arguments.arguments.iter().map(AsRef::as_ref)))
}

/// Words of a command as people see them.
pub(crate) fn shown_words<'a>(words: impl Iterator<Item = &'a OsStr>) -> String {
    let words: Vec<String> = words.map(shown).collect();
    let text = words.join(" ");
    match text.char_indices().nth(SHOWN_LETTERS_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

fn shown(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
