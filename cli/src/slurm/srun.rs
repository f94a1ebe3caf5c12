//! `srun`: the ranks of a step, started side by side. Inside a job they are this process's own children, on the job's cpus;
//! outside one, the job is submitted first and its output copied here.

use std::path::{Path, PathBuf};

use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::step::STEP_VARIABLE;

use super::step::{Order, Program, Source, Step};
use super::{Complaint, Name, help, home, spec};
use crate::batch::directives::Directives;
use crate::batch::getopt::{self, OnUnknown};
use crate::batch::merge::merge;
use crate::batch::programs::Programs;
use crate::batch::settings::BatchSettings;
use crate::batch::{environment, options};
use crate::commands::run::follow_command;
use crate::commands::run::input::{self, Input};
use crate::interrupts::Interrupts;
use crate::process::runtime;
use crate::ui::{Ui, print_line};

/// What a shell says of a process that was told to end.
const TERMINATED: u8 = 128 + 15;

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let complain = |error: &dyn std::fmt::Display| Complaint::new(error.to_string());
    let command = options::Command::Srun;
    let parsed = getopt::parse(command, words, OnUnknown::Refuse).map_err(|error| complain(&error))?;
    let is_in_step = std::env::var_os(STEP_VARIABLE).is_some();
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        // that is said of the ranks around this process, not of its own
        .filter(|(name, _)| !(is_in_step && name == "SLURM_CPU_BIND"));
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
            let programs = programs(&merged.settings, &parsed.rest)?;
            let order = Order::parse(merged.settings.recorded("distribution"));
            runtime()?.block_on(async {
                Step::new(Name::Srun, merged.settings, programs, &order)?
                    .run()
                    .await
            })
        }
        false => submit(merged.settings, &parsed.rest[0], words),
    }
}

/// Submits a job of this one step, named after its program, and copies what it prints.
fn submit(settings: BatchSettings, program: &str, words: &[String]) -> Result<u8, Complaint> {
    let own = own_path();
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    // the job is there for this step
    let command: Vec<String> = [own.as_str(), "--whole"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .map(quoted)
        .collect();
    let name = Path::new(program).file_name();
    let script = spec::Script {
        name: name.map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned()),
        shown: format!("{} {}", Name::Srun.text(), words.join(" ")),
        place: None,
        content: format!("#!/bin/sh\nexec {}\n", command.join(" ")).into_bytes(),
        arguments: Vec::new(),
    };
    let reads_stream =
        !matches!(Source::of(&settings), Source::Empty | Source::Files(_)) && input::is_there();
    // its ranks read from and write to their files themselves
    let settings = BatchSettings {
        output: None,
        error: None,
        input: None,
        ..settings
    };
    let mut draft = spec::step_draft(&settings, script)?;
    if reads_stream {
        draft.stream_input();
    }
    runtime()?.block_on(async {
        let cluster = home::connected_or_started().await?;
        let ui = Ui::new(crate::args::OutputForm::Human);
        let mut interrupts = Interrupts::listen_to_all()?;
        let job = interrupts
            .while_submitting(draft.send(&cluster.client), ui)
            .await?;
        let input = reads_stream.then(Input::start);
        let ended = follow_command(&cluster.client, job, input, interrupts, ui).await;
        cluster.client.close().await;
        match ended {
            Ok(code) => Ok(code.number()),
            Err(error) => Err(Complaint {
                lines: error.plain_lines(),
                // its ranks are told to end, and what they exit with is what counts
                code: match error.code() == ExitCode::Cancelled {
                    true => TERMINATED,
                    false => error.code().number(),
                },
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

/// All ranks of nodes in Slurm's words, `2(x3),1`; what is no number counts for nothing.
fn sum(text: &str) -> u32 {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let of_nodes = |part: &str| match part.split_once("(x") {
        Some((ranks, nodes)) => number(ranks).saturating_mul(number(nodes.trim_end_matches(')'))),
        None => number(part),
    };
    text.split(',').map(of_nodes).fold(0, u32::saturating_add)
}

/// What each rank runs.
fn programs(settings: &BatchSettings, words: &[String]) -> Result<Vec<Program>, Complaint> {
    let nodes = settings.nodes.map_or(1, |nodes| nodes.least).max(1);
    let of_job = || std::env::var("SLURM_TASKS_PER_NODE").ok().map(|text| sum(&text));
    // the job's own numbers count as ones that were said here
    let ranks = settings
        .ntasks
        .or(settings.ntasks_per_node.map(|each| each.saturating_mul(nodes)))
        .or((nodes > 1).then_some(nodes))
        .or_else(of_job)
        .unwrap_or(1)
        .max(1);
    let one = |words: Vec<String>, section: u32| Program {
        words,
        section,
        ..Program::default()
    };
    let mut programs = match settings.step.multi_prog {
        true => {
            let named = read_programs(Path::new(&words[0]))?;
            let each = (0..ranks).map(|rank| {
                let words = named.of(rank).ok_or_else(|| {
                    Complaint::new(format!(
                        "`{}` names no program for task {rank}; a line that begins with * is for all others",
                        words[0]
                    ))
                })?;
                Ok(one(words, rank))
            });
            each.collect::<Result<Vec<Program>, Complaint>>()?
        }
        false => vec![one(words.to_vec(), 0); ranks as usize],
    };
    let exported = settings.export.iter().flat_map(|export| &export.named);
    let exported: Vec<(String, String)> = exported
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    for program in &mut programs {
        program.environment.clone_from(&exported);
        program.directory = settings.chdir.as_ref().map(PathBuf::from);
    }
    Ok(programs)
}

fn read_programs(path: &Path) -> Result<Programs, Complaint> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Complaint::new(format!("cannot open `{}`: {error}", path.display())))?;
    Programs::parse(&text).map_err(|error| Complaint::new(format!("`{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranks_of_all_nodes_are_counted() {
        for (text, ranks) in [("4", 4), ("2(x3),1", 7), ("1(x2)", 2), ("x", 0)] {
            assert_eq!(super::sum(text), ranks, "{text}");
        }
    }
}
