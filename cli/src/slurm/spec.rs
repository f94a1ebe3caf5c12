//! What a batch script asks for, in the words of our own jobs.

mod environment;
mod shape;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use phalanx::Surroundings;
use phalanx_protocol::command::{Action, Dialect, FACT_BYTES_MAX, Output, Recipients, TaskInput, facts};
use phalanx_protocol::dependency::{Condition, Dependency, Ending, Joined, Never};
use phalanx_protocol::gang::{Gang, RankMap};
use phalanx_protocol::pattern::{DEFAULT_ARRAY_PATTERN, DEFAULT_PATTERN};
use phalanx_protocol::{
    ArrayIds, CommandPlan, CommandWork, Feeding, Inputs, JobSpec, Payload, Retries, Work,
};

use self::environment::environment;
pub(super) use self::shape::{Shape, by_node};
use super::nodes::PARTITION;
use super::{Complaint, needs};
use crate::args::job::millis;
use crate::batch::array::ArraySpec;
use crate::batch::dependency as text;
use crate::batch::settings::BatchSettings;
use crate::batch::time::TimeLimit;
use crate::batch::values::{OpenMode, Priority};
use crate::commands::submit::command::CommandDraft;
use crate::commands::submit::{begin_unix_millis, new_submission};

/// How long a script that is to end may take (Slurm's KillWait).
const GRACE: Duration = Duration::from_secs(30);
/// A batch script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// The job's name, unless it has one.
    pub(super) name: String,
    /// What people know it by.
    pub(super) shown: String,
    /// Where it is, absolute; none if it is no file.
    pub(super) place: Option<String>,
    pub(super) content: Vec<u8>,
    pub(super) arguments: Vec<String>,
}

impl Script {
    /// The same with lines that end as on Unix.
    pub(super) fn without_carriage_returns(mut self) -> Self {
        if self.content.windows(2).any(|pair| pair == b"\r\n") {
            let lines = self.content.split(|&byte| byte == b'\n');
            let lines: Vec<&[u8]> = lines
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .collect();
            self.content = lines.join(&b'\n');
        }
        self
    }
}

/// The job of one step, whose output is kept with it.
pub(super) fn step_draft(settings: &BatchSettings, script: Script) -> Result<CommandDraft, Complaint> {
    let (mut draft, _) = draft(settings, script)?;
    draft.plan.output = Output::Packed;
    if let Work::Command(work) = &mut draft.spec.work {
        work.facts.remove(facts::OUTPUT);
        work.facts.remove(facts::SCRIPT);
    }
    Ok(draft)
}

/// The job that holds an allocation: it is no batch script.
pub(super) fn holding_draft(settings: &BatchSettings, script: Script) -> Result<CommandDraft, Complaint> {
    let (mut draft, _) = draft(settings, script)?;
    if let Work::Command(work) = &mut draft.spec.work {
        work.facts.remove(facts::OUTPUT);
        work.facts.remove(facts::SCRIPT);
    }
    Ok(draft)
}

/// The job, and what is to be said about it.
pub(super) fn draft(
    settings: &BatchSettings,
    script: Script,
) -> Result<(CommandDraft, Vec<String>), Complaint> {
    let asked = Shape::of(settings);
    let mut warnings: Vec<String> = asked.fewer_than_asked(settings).into_iter().collect();
    let mut shape = asked;
    if settings.array.is_some() && asked.nodes > 1 {
        // an array of scripts that would each have many nodes is worth more slowly than not at all
        shape = asked.of_one_node();
        warnings.push(format!(
            "each element of the array runs on one node, and has what it would have on one of {}: {} tasks of {}",
            asked.nodes, shape.ranks, asked.ranks
        ));
    }
    let (request, unmet) = needs::request(settings, asked);
    warnings.extend(unmet);
    warnings.extend(unheeded(settings));
    let name = settings.job_name.clone().unwrap_or_else(|| script.name.clone());
    let array = settings.array.as_ref().map(ArraySpec::ids);
    let time = settings.time_limit.and_then(|limit| match limit {
        TimeLimit::Limited(time) => Some(time),
        TimeLimit::Unlimited => None,
    });
    let plan = plan(settings, &script, &name, shape, time)?;
    let limit = settings.array.as_ref().and_then(|array| array.limit);
    let spec = JobSpec {
        submission: new_submission()?,
        name,
        // those beside the first keep the other nodes for it
        tasks: array.as_ref().map_or(shape.nodes.into(), ArrayIds::count),
        work: Work::Command(CommandWork {
            command: std::iter::once(&script.shown)
                .chain(&script.arguments)
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
            plan: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            array,
            facts: facts_of(settings, &script, &plan, shape),
        }),
        request,
        priority: priority(settings),
        feeding: Feeding::default(),
        failures_max: None,
        retries: Retries {
            lost_limit: (settings.requeue == Some(false)).then_some(1),
            ..Retries::default()
        },
        task_time_limit_millis: time.map(millis),
        time_limit_millis: None,
        idempotent: false,
        slots_max: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        dependency: settings
            .dependency
            .as_ref()
            .map(|dependency| self::dependency(dependency, settings.kill_on_invalid_dependency))
            .transpose()?,
        held: settings.hold,
        begin_unix_millis: settings.begin.map(begin_unix_millis).transpose()?,
        gang: (shape.nodes > 1).then(|| {
            Box::new(Gang {
                map: RankMap::Led,
                ..Gang::default()
            })
        }),
        alternatives: Vec::new(),
        choice: needs::choice(settings, shape),
    };
    let mut draft = CommandDraft::new(spec, plan, None)?;
    draft.where_offered = needs::resources(settings);
    Ok((draft, warnings))
}

/// Names what is asked for, would matter, and is not done.
fn unheeded(settings: &BatchSettings) -> Option<String> {
    let asked = [
        ("--cpus-per-gpu", settings.cpus_per_gpu.is_some()),
        ("--ntasks-per-gpu", settings.ntasks_per_gpu.is_some()),
        ("--export-file", settings.export_file.is_some()),
        ("--immediate", settings.immediate.is_some()),
    ];
    let names: Vec<&str> = asked
        .iter()
        .filter(|(_, is_asked)| *is_asked)
        .map(|(name, _)| *name)
        .collect();
    (!names.is_empty()).then(|| format!("what is asked for and not done here: {}", names.join(", ")))
}

fn plan(
    settings: &BatchSettings,
    script: &Script,
    name: &str,
    shape: Shape,
    time: Option<Duration>,
) -> Result<CommandPlan, Complaint> {
    let found = Surroundings::capture()
        .map_err(|error| Complaint::new(format!("the working directory cannot be told: {error}")))?;
    let submitted_in = String::from_utf8_lossy(&found.directory).into_owned();
    let directory = match &settings.chdir {
        Some(directory) => std::path::Path::new(&submitted_in)
            .join(directory)
            .display()
            .to_string(),
        None => submitted_in.clone(),
    };
    let default = match settings.array.is_some() {
        true => DEFAULT_ARRAY_PATTERN,
        false => DEFAULT_PATTERN,
    };
    let arguments = script
        .arguments
        .iter()
        .map(|word| Bytes::copy_from_slice(word.as_bytes()));
    Ok(CommandPlan {
        name: name.to_owned(),
        action: Action::Script {
            content: Bytes::copy_from_slice(&script.content),
            arguments: arguments.collect(),
        },
        placeholders: false,
        environment: environment(settings, &found, name, shape, &submitted_in)?,
        directory: Bytes::from(directory),
        umask: found.umask,
        limits: found.limits,
        input: settings.input.clone().map_or(TaskInput::Empty, TaskInput::File),
        output: Output::Files {
            output: settings.output.clone().unwrap_or_else(|| default.to_owned()),
            error: settings.error.clone().filter(|_| settings.joined != Some(true)),
            append: settings.open_mode == Some(OpenMode::Append),
        },
        dialect: match settings.pbs {
            true => Dialect::Pbs,
            false => Dialect::Slurm,
        },
        warning: settings
            .signal
            .filter(|_| time.is_some())
            .map(|signal| signal.warning(Recipients::Others)),
        grace_millis: millis(GRACE),
    })
}

fn priority(settings: &BatchSettings) -> i32 {
    let nice = settings.nice.unwrap_or(0);
    match settings.priority {
        Some(Priority::Top) => i32::MAX,
        Some(Priority::Number(number)) => i32::try_from(number).unwrap_or(i32::MAX),
        None => i32::try_from(-nice).unwrap_or(i32::MIN),
    }
}

fn dependency(dependency: &text::Dependency, kill: Option<bool>) -> Result<Dependency, Complaint> {
    let conditions = dependency.terms.iter().map(|term| match term {
        text::Term::Singleton => Ok(Condition::Singleton),
        text::Term::Job { condition, on } => match on.element {
            None => Ok(after_job(*condition, on.job)),
            Some(element) => after_element(*condition, on, element),
        },
    });
    Ok(Dependency {
        joined: match dependency.join {
            text::Join::All => Joined::All,
            text::Join::Any => Joined::Any,
        },
        conditions: conditions.collect::<Result<_, _>>()?,
        never: match kill {
            Some(true) => Never::Cancel,
            Some(false) | None => Never::Stay,
        },
    })
}

fn after_job(condition: text::Condition, job: phalanx_protocol::JobId) -> Condition {
    match condition {
        text::Condition::After { delay } => Condition::After {
            job,
            delay_millis: millis(delay),
        },
        text::Condition::AfterAny => Condition::AfterAny(job),
        text::Condition::AfterOk => Condition::AfterOk(job),
        text::Condition::AfterNotOk => Condition::AfterNotOk(job),
        text::Condition::AfterCorr => Condition::AfterCorresponding(job),
    }
}

fn after_element(
    condition: text::Condition,
    on: &text::JobElement,
    element: u64,
) -> Result<Condition, Complaint> {
    let job = on.job;
    let ending = match condition {
        text::Condition::AfterAny => Ending::Any,
        text::Condition::AfterOk => Ending::Ok,
        text::Condition::AfterNotOk => Ending::NotOk,
        text::Condition::After { .. } => {
            return Err(Complaint::with_hint(
                format!(
                    "--dependency: `after:{on}` waits for the start of one element, of which nobody here keeps a note"
                ),
                &format!(
                    "after:{job} waits for the start of its job, afterany:{on} for the end of the element"
                ),
            ));
        }
        text::Condition::AfterCorr => {
            return Err(Complaint::with_hint(
                format!(
                    "--dependency: `aftercorr:{on}` names one element, and pairs each with one of its own number"
                ),
                &format!("aftercorr:{job} names the array, afterok:{on} waits for that element alone"),
            ));
        }
    };
    Ok(Condition::AfterElement { job, element, ending })
}

/// What other commands show of the job: all that is said of it and does nothing too.
fn facts_of(
    settings: &BatchSettings,
    script: &Script,
    plan: &CommandPlan,
    shape: Shape,
) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    let mut note = |name: &str, value: &str| {
        if value.len() <= FACT_BYTES_MAX {
            known.insert(name.to_owned(), value.to_owned());
        }
    };
    for (name, value) in &settings.recorded {
        note(name, value);
    }
    note(facts::DIRECTORY, &String::from_utf8_lossy(&plan.directory));
    if let Output::Files { output, error, .. } = &plan.output {
        note(facts::OUTPUT, output);
        if let Some(error) = error {
            note(facts::ERROR, error);
        }
    }
    note(
        facts::PARTITION,
        settings.partition.as_deref().unwrap_or(PARTITION),
    );
    if shape.nodes > 1 {
        note(facts::NODES, &shape.nodes.to_string());
    }
    note(facts::RANKS, &shape.ranks.to_string());
    note(facts::CPUS_PER_RANK, &shape.cpus_per_rank.to_string());
    note(facts::SCRIPT, script.place.as_deref().unwrap_or("(null)"));
    let line: Vec<String> = std::env::args().collect();
    note(facts::SUBMIT_LINE, &line.join(" "));
    note(
        facts::REQUEUE,
        if settings.requeue == Some(false) { "0" } else { "1" },
    );
    if let Some(input) = &settings.input {
        note(facts::INPUT, input);
    }
    if let Some(dependency) = &settings.dependency {
        note(facts::DEPENDENCY, &dependency.to_string());
    }
    known
}
