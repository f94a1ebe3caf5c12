//! `sbatch`: a batch script becomes a job.

use std::io::Read;
use std::path::PathBuf;

use phalanx::{Client, JobView, WorkerView};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::{JobId, JobSpec, Request, WorkerChoice};

use super::nodes::node_list;
use super::spec::{Script, draft};
use super::{Complaint, Name, help, home, say};
use crate::batch::directives::{Directives, Remark, read_directives};
use crate::batch::environment;
use crate::batch::getopt::{self, OnUnknown};
use crate::batch::merge::{Merged, merge};
use crate::batch::options::Command;
use crate::batch::settings::BatchSettings;
use crate::commands::submit::absent::remarks;
use crate::process::runtime;
use crate::ui::error::CliError;
use crate::ui::print_line;

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let complain = |error: &dyn std::fmt::Display| Complaint::new(error.to_string());
    let parsed =
        getopt::parse(Command::Sbatch, words, OnUnknown::Refuse).map_err(|error| complain(&error))?;
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // what is no text is no option's value
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let environment = environment::options(Command::Sbatch, variables);
    // where the script is does not depend on what it says
    let before = merge(
        Command::Sbatch,
        &Directives::default(),
        &environment,
        &parsed.given,
    )
    .map_err(|error| complain(&error))?;
    if let Some(question) = before.settings.question {
        print_line(&help::answer(Command::Sbatch, question))?;
        return Ok(0);
    }
    let script = script(&before.settings, &parsed.rest)?;
    let directives = read_directives(&script.content).map_err(|error| complain(&error))?;
    if directives.interpreter.is_none() {
        return Err(Complaint {
            lines: vec![
                format!(
                    "`{}` does not look like a batch script: its first line must be",
                    script.shown
                ),
                "#! and the path of an interpreter, as in #!/bin/bash; one command needs --wrap".to_owned(),
            ],
            code: 1,
        });
    }
    let script = script.without_carriage_returns();
    let Merged { settings, warnings } =
        merge(Command::Sbatch, &directives, &environment, &parsed.given).map_err(|error| complain(&error))?;
    let carriage = |line: &Remark| matches!(line, Remark::CarriageReturns { .. });
    for warning in &warnings {
        let is_mended = directives
            .remarks
            .iter()
            .any(|remark| carriage(remark) && remark.to_string() == *warning);
        match is_mended {
            true => say(
                Name::Sbatch,
                "warning",
                "its lines end as on Windows; the copy that runs has these ends removed",
            ),
            false => say(Name::Sbatch, "warning", warning),
        }
    }
    submit(&settings, script)
}

fn submit(settings: &BatchSettings, script: Script) -> Result<u8, Complaint> {
    let (draft, warnings) = draft(settings, script)?;
    if !settings.quiet {
        warnings
            .iter()
            .for_each(|warning| say(Name::Sbatch, "warning", warning));
    }
    if settings.test_only {
        return test(&draft.spec);
    }
    runtime()?.block_on(async {
        let cluster = home::connected_or_started().await?;
        if !settings.quiet {
            warn_of_few_nodes(Name::Sbatch, &cluster.client, &draft.spec).await?;
        }
        let job = draft.send(&cluster.client).await?;
        if !settings.quiet {
            let remarks = remarks(&cluster.client, &draft).await?;
            remarks
                .iter()
                .for_each(|remark| say(Name::Sbatch, "warning", remark));
        }
        match (settings.parsable, settings.quiet) {
            (true, _) => print_line(&match settings.recorded("clusters") {
                Some(cluster) => format!("{job};{cluster}"),
                None => job.to_string(),
            })?,
            (false, true) => {}
            (false, false) => print_line(&format!("Submitted batch job {job}"))?,
        }
        let code = match settings.wait {
            true => wait(&cluster.client, job).await?,
            false => 0,
        };
        cluster.client.close().await;
        Ok(code)
    })
}

/// Says what would become of a job whose tasks need this, as far as somebody can be asked; starts no cluster for it.
fn test(spec: &JobSpec) -> Result<u8, Complaint> {
    let asked = runtime()?.block_on(async {
        let cluster = home::connected().await?;
        let workers = cluster.client.workers().await?;
        cluster.client.close().await;
        Ok::<_, CliError>(workers)
    });
    let workers = match asked {
        Ok(workers) => workers,
        Err(error) if error.code() == ExitCode::Unreachable => {
            let what = "the script says what a job can be, but no cluster runs that could be asked whether it has room for it";
            say(Name::Sbatch, "info", what);
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    let nodes = able(&workers, &spec.request, &spec.choice, node_count(spec))?;
    say(
        Name::Sbatch,
        "info",
        &format!("the job would be accepted and could run on {nodes}"),
    );
    Ok(0)
}

/// On how many nodes the job is.
fn node_count(spec: &JobSpec) -> u64 {
    spec.gang.as_ref().map_or(1, |_| spec.tasks)
}

/// Says of a job on several nodes that it waits for workers that are not there, if it does.
pub(super) async fn warn_of_few_nodes(name: Name, client: &Client, spec: &JobSpec) -> Result<(), Complaint> {
    let nodes = node_count(spec);
    if nodes > 1 {
        let workers = client.workers().await?;
        let staying = workers.iter().filter(|worker| !worker.draining).count();
        if (staying as u64) < nodes {
            let what = format!(
                "the job needs {nodes} nodes at a time and the cluster has {staying}: it waits for more workers; with --nodes=1 all its tasks are on one"
            );
            say(name, "warning", &what);
        }
    }
    Ok(())
}

/// The workers that could run such a task if nothing else ran there, as a list of nodes.
fn able(
    workers: &[WorkerView],
    request: &Request,
    choice: &WorkerChoice,
    nodes: u64,
) -> Result<String, Complaint> {
    let admitted = |worker: &&WorkerView| !worker.draining && choice.admits(&worker.name);
    let staying: Vec<&WorkerView> = workers.iter().filter(admitted).collect();
    let able = staying
        .iter()
        .copied()
        .filter(|worker| worker.capacity.slots(request) > 0);
    let able: Vec<&WorkerView> = able.collect();
    if able.len() as u64 >= nodes {
        return Ok(node_list(able));
    }
    if nodes > 1 {
        return Err(Complaint::new(format!(
            "the job would wait: it needs {nodes} nodes with {request} each, and there are {} of these",
            able.len()
        )));
    }
    let largest = staying
        .iter()
        .max_by_key(|worker| (worker.capacity.cpus, worker.capacity.memory_bytes));
    Err(Complaint::new(match largest {
        None => "the job would wait: no worker is there that takes it on".to_owned(),
        Some(worker) => format!(
            "the job would wait: no worker could hold it; it needs {request}, and the largest, {}, has {}",
            worker.name, worker.capacity
        ),
    }))
}

/// The job's code once it is over: its script's, 1 if that was ended by a signal; of an array the highest.
pub(super) async fn wait(client: &Client, job: JobId) -> Result<u8, Complaint> {
    let mut watch = client.watch(job);
    let mut last = None;
    while let Some(view) = watch.next().await? {
        last = Some(view);
    }
    Ok(last.as_ref().map_or(0, code))
}

fn code(view: &JobView) -> u8 {
    let of_failure = |cause: FailureCause| match cause {
        FailureCause::Exit(status) => status,
        FailureCause::Signal(_)
        | FailureCause::Error
        | FailureCause::Panic
        | FailureCause::Input
        | FailureCause::Result
        | FailureCause::Crash
        | FailureCause::TimeLimit
        | FailureCause::Memory
        | FailureCause::Lost => 1,
    };
    match &view.outcome {
        None | Some(Outcome::Succeeded) => 0,
        Some(_) => {
            let codes = view
                .first_failures
                .iter()
                .map(|failure| of_failure(failure.cause));
            codes.max().unwrap_or(1)
        }
    }
}

/// The script that is meant: a file, standard input, or a command to wrap.
fn script(settings: &BatchSettings, rest: &[String]) -> Result<Script, Complaint> {
    if let Some(command) = &settings.wrap {
        if let Some(file) = rest.first() {
            return Err(Complaint::new(format!(
                "--wrap and the script `{file}` exclude each other; keep one of them"
            )));
        }
        let content = format!("#!/bin/sh\n# This script was made by sbatch --wrap.\n\n{command}\n");
        return Ok(Script {
            name: "wrap".to_owned(),
            shown: "--wrap".to_owned(),
            place: None,
            content: content.into_bytes(),
            arguments: Vec::new(),
        });
    }
    let mut content = Vec::new();
    let Some(name) = rest.first() else {
        let read = std::io::stdin().read_to_end(&mut content);
        read.map_err(|error| Complaint::new(format!("cannot read the script from standard input: {error}")))?;
        return Ok(Script {
            name: "sbatch".to_owned(),
            shown: "standard input".to_owned(),
            place: None,
            content,
            arguments: Vec::new(),
        });
    };
    let path = find(name);
    let content = std::fs::read(&path).map_err(|error| {
        Complaint::new(format!(
            "Unable to open file {name}: {error}; looked for `{}`",
            path.display()
        ))
    })?;
    Ok(Script {
        name: path
            .file_name()
            .map_or_else(|| name.clone(), |file| file.to_string_lossy().into_owned()),
        shown: name.clone(),
        place: std::path::absolute(&path)
            .ok()
            .map(|path| path.display().to_string()),
        content,
        arguments: rest[1..].to_vec(),
    })
}

/// Where a script is: as its path says, in the working directory, else in PATH.
pub(super) fn find(name: &str) -> PathBuf {
    let here = PathBuf::from(name);
    if name.contains('/') || here.is_file() {
        return here;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|place| place.is_file()).unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::worker_view;

    #[test]
    fn a_test_names_who_could_run_it_when_all_is_free_and_passes_over_who_leaves() {
        let mut workers = ["n1", "n2", "n3"].map(|name| {
            let mut worker = worker_view();
            worker.name = name.to_owned();
            worker
        });
        workers[0].capacity.cpus = 4;
        workers[1].free.cpus = 0;
        workers[2].draining = true;
        let mut choice = WorkerChoice::default();
        let able = |cpus: u32, choice: &WorkerChoice| {
            let request = Request {
                cpus,
                ..Request::default()
            };
            super::able(&workers, &request, choice, 1).map_err(|complaint| complaint.lines)
        };
        assert_eq!(able(4, &choice).unwrap(), "n[1-2]");
        assert_eq!(able(8, &choice).unwrap(), "n2");
        let refused = able(9, &choice).unwrap_err();
        assert!(refused[0].contains("the largest, n2, has 8 cpus"), "{refused:?}");
        choice.never.insert("n1".to_owned());
        assert_eq!(able(4, &choice).unwrap(), "n2");
        choice.only.insert("n1".to_owned());
        assert!(able(4, &choice).is_err());
        assert!(super::able(&[], &Request::default(), &WorkerChoice::default(), 1).is_err());
        let on = |nodes| super::able(&workers, &Request::default(), &WorkerChoice::default(), nodes);
        assert_eq!(on(2).unwrap(), "n[1-2]");
        assert!(on(3).unwrap_err().lines[0].contains("needs 3 nodes with"));
    }
}
