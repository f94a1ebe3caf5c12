//! The ranks of `mpiexec` outside of a job: a gang, whose output is copied here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use phalanx::Surroundings;
use phalanx_protocol::command::{self, Action, Dialect, Output, TaskInput, facts};
use phalanx_protocol::gang::{Gang, OnLoss, RankMap};
use phalanx_protocol::{
    CommandPlan, CommandWork, Feeding, Inputs, JobSpec, Payload, Request, Retries, Work, WorkerChoice,
};

use super::{Launch, Section};
use crate::args::job::millis;
use crate::args::{GlobalArguments, OutputForm};
use crate::commands::run::{input, run_ranks};
use crate::commands::submit::command::{CommandDraft, shown_words};
use crate::commands::submit::new_submission;
use crate::process::runtime;
use crate::slurm::{Complaint, Name, home};
use crate::ui::Ui;

/// How long ranks that were told to end may take.
const GRACE: Duration = Duration::from_secs(5);

type Variable = (Bytes, Bytes);

/// Submits the gang, and copies what its ranks print.
pub(super) fn run(launch: &Launch, words: &[String], global: &GlobalArguments) -> Result<u8, Complaint> {
    let mut draft = draft(launch, words)?;
    let reads_stream = match launch.input.as_str() {
        "0" => input::is_there(),
        "none" => false,
        other => {
            return Err(Complaint::with_hint(
                format!(
                    "`-stdin {other}`: outside of a job rank 0 reads what mpiexec is given, and no other"
                ),
                "write -stdin none, or leave it out",
            ));
        }
    };
    if reads_stream {
        draft.stream_input();
    }
    runtime()?.block_on(async {
        let cluster = home::connected_or_started_by(global).await?;
        let ui = Ui::new(OutputForm::Human);
        let ended = run_ranks(&cluster.client, &draft, reads_stream, ui).await;
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

fn draft(launch: &Launch, words: &[String]) -> Result<CommandDraft, Complaint> {
    let found = Surroundings::capture()
        .map_err(|error| Complaint::new(format!("the working directory cannot be told: {error}")))?;
    let program = launch
        .sections
        .first()
        .and_then(|section| section.program.words.first());
    let program = Path::new(program.map_or("", String::as_str));
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    let (environment, sections) = programs(&launch.sections, &found.environment);
    let directory = String::from_utf8_lossy(&found.directory).into_owned();
    let plan = CommandPlan {
        name: name.clone(),
        action: Action::Sections(sections),
        placeholders: false,
        environment,
        directory: found.directory,
        umask: found.umask,
        limits: found.limits,
        input: TaskInput::Empty,
        output: Output::Packed,
        dialect: Dialect::Phalanx,
        warning: None,
        grace_millis: millis(GRACE),
    };
    let line = std::iter::once(Name::Mpiexec.text()).chain(words.iter().map(String::as_str));
    let line: Vec<OsString> = line.map(OsString::from).collect();
    let spec = JobSpec {
        submission: new_submission()?,
        name,
        tasks: launch.ranks().into(),
        work: Work::Command(CommandWork {
            command: shown_words(line.iter().map(OsString::as_os_str)),
            plan: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            array: None,
            facts: BTreeMap::from([(facts::DIRECTORY.to_owned(), directory)]),
        }),
        request: Request {
            cpus: launch.cpus_per_rank.unwrap_or(1),
            pin: launch.pin.unwrap_or_default(),
            ..Request::default()
        },
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
        priority: 0,
        feeding: Feeding::default(),
        failures_max: None,
        retries: Retries::default(),
        task_time_limit_millis: None,
        time_limit_millis: launch.time_limit.map(millis),
        idempotent: false,
        slots_max: None,
        dependency: None,
        held: false,
        begin_unix_millis: None,
        gang: Some(Box::new(gang(launch))),
    };
    let mut draft = CommandDraft::new(spec, plan, None)?;
    draft.is_labelled = launch.is_labelled;
    Ok(draft)
}

/// Where the ranks are.
fn gang(launch: &Launch) -> Gang {
    let on_loss = OnLoss::Restart;
    match launch.nodes() {
        Some(nodes) if nodes.iter().any(|&node| node > 0) => Gang {
            map: RankMap::Explicit(nodes),
            on_loss,
            ..Gang::default()
        },
        Some(_) => Gang {
            nodes: Some(1),
            on_loss,
            ..Gang::default()
        },
        None => Gang {
            ranks_per_node: launch.ranks_per_node,
            nodes: None,
            map: match launch.is_cyclic {
                true => RankMap::Cyclic,
                false => RankMap::Block,
            },
            on_loss,
        },
    }
}

/// The variables that all programs have, and the programs with those that not all have.
fn programs(sections: &[Section], found: &[Variable]) -> (Vec<Variable>, Vec<command::Section>) {
    let has = |section: &Section, (name, _): &&Variable| section.program.passed.has(name);
    let (common, rest): (Vec<&Variable>, Vec<&Variable>) = found
        .iter()
        .partition(|variable| sections.iter().all(|section| has(section, variable)));
    let bytes = |text: &OsStr| Bytes::copy_from_slice(text.as_encoded_bytes());
    let each = sections.iter().map(|section| {
        let program = &section.program;
        let own = program.environment.iter();
        let own = own.map(|(name, value)| (bytes(name.as_ref()), bytes(value.as_ref())));
        let passed = rest
            .iter()
            .copied()
            .filter(|variable| has(section, variable))
            .cloned();
        command::Section {
            ranks: section.ranks,
            words: program.words.iter().map(|word| bytes(word.as_ref())).collect(),
            environment: passed.chain(own).collect(),
            directory: program
                .directory
                .as_ref()
                .map(|directory| bytes(directory.as_os_str())),
        }
    });
    let each = each.collect();
    (common.into_iter().cloned().collect(), each)
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::launch;
    use super::*;

    fn variables(pairs: &[(&'static str, &'static str)]) -> Vec<Variable> {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        pairs
            .iter()
            .map(|&(name, value)| (bytes(name), bytes(value)))
            .collect()
    }

    #[test]
    fn variables_that_not_all_programs_have_are_those_of_some() {
        let found = variables(&[("HOME", "/h"), ("USER", "eve"), ("LANG", "C")]);
        let launch = launch("-env USER bob ./a : -envlist HOME,LANG -n 2 ./b : -envlist HOME -wdir sub ./c");
        let (common, programs) = programs(&launch.sections, &found);
        assert_eq!(common, variables(&[("HOME", "/h")]));
        assert_eq!(
            programs[0].environment,
            variables(&[("USER", "eve"), ("LANG", "C"), ("USER", "bob")]),
            "the last one counts"
        );
        assert_eq!(programs[1].environment, variables(&[("LANG", "C")]));
        assert_eq!(
            (programs[1].ranks, &programs[2].environment),
            (2, &variables(&[]))
        );
        assert_eq!(programs[2].directory.as_deref(), Some(&b"sub"[..]));
    }

    #[test]
    fn ranks_are_where_hosts_and_options_say() {
        let gang = |line: &str| super::gang(&launch(line));
        assert_eq!(gang("-n 4 ./a"), Gang::default());
        assert_eq!(gang("-H here -n 4 ./a").nodes, Some(1));
        let map = gang("-hosts a:2,b -n 3 ./a").map;
        assert_eq!(map, RankMap::Explicit(vec![0, 0, 1]));
        let cyclic = gang("-n 4 -ppn 2 --map-by node ./a");
        assert_eq!((cyclic.ranks_per_node, cyclic.map), (Some(2), RankMap::Cyclic));
    }
}
