//! `salloc`: an allocation as long as a command runs. The allocation is a job that does nothing but hold its cpus; the
//! command runs here, as it does for Slurm, with the allocation's variables.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use phalanx::{Client, JobView};
use phalanx_protocol::{IndexRange, JobId, WorkerId};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::nodes::node_list;
use super::sbatch::warn_of_few_nodes;
use super::step::{NOT_FOUND, NOT_STARTED, code};
use super::{Complaint, Name, home, say, spec};
use crate::batch::directives::Directives;
use crate::batch::getopt::{self, OnUnknown};
use crate::batch::merge::merge;
use crate::batch::settings::{BatchSettings, Question};
use crate::batch::{environment, options};
use crate::commands::submit::absent::remarks;
use crate::process::{machine_name, runtime};
use crate::ui::{print_line, say_line};

const USAGE: &str = "Usage: salloc [OPTIONS...] [command [args...]]";

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let complain = |error: &dyn std::fmt::Display| Complaint::new(error.to_string());
    let command = options::Command::Salloc;
    let parsed = getopt::parse(command, words, OnUnknown::Refuse).map_err(|error| complain(&error))?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = environment::options(command, variables);
    let merged = merge(command, &Directives::default(), &environment, &parsed.given)
        .map_err(|error| complain(&error))?;
    let settings = merged.settings;
    if let Some(question) = settings.question {
        print_line(match question {
            Question::Help | Question::Usage => USAGE,
            Question::Version => concat!("phalanx ", env!("CARGO_PKG_VERSION")),
        })?;
        return Ok(0);
    }
    if !settings.quiet {
        merged
            .warnings
            .iter()
            .for_each(|warning| say(Name::Salloc, "warning", warning));
    }
    runtime()?.block_on(allocate(settings, parsed.rest))
}

/// A job that holds what it has for as long as process `pid` of this machine runs, or for ever.
fn holder(name: String, pid: Option<u32>) -> spec::Script {
    let watch = pid.map_or_else(String::new, |pid| {
        let host = phalanx_storage::ProcessMark::of_this_process().host;
        format!(
            "if [ \"$(uname -n)\" = '{host}' ] && [ -d /proc/{pid} ]; then\n    \
             while [ -d /proc/{pid} ]; do sleep 2; done\n    exit\nfi\n"
        )
    });
    let content =
        format!("#!/bin/sh\n# holds what salloc has allocated\n{watch}while :; do sleep 3600; done\n");
    spec::Script {
        name,
        shown: "salloc".to_owned(),
        place: None,
        content: content.into_bytes(),
        arguments: Vec::new(),
    }
}

async fn allocate(settings: BatchSettings, command: Vec<String>) -> Result<u8, Complaint> {
    let stays = settings.recorded("no-shell").is_some();
    let pid = (!stays).then(std::process::id);
    let settings = BatchSettings {
        output: Some("/dev/null".to_owned()),
        // with it goes what it holds
        requeue: Some(false),
        ..settings
    };
    let draft = spec::holding_draft(&settings, holder("interactive".to_owned(), pid))?;
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Complaint::new(format!("cannot listen to signals: {error}")))?;
    let cluster = home::connected_or_started().await?;
    if !settings.quiet {
        warn_of_few_nodes(Name::Salloc, &cluster.client, &draft.spec).await?;
    }
    let job = draft.send(&cluster.client).await?;
    let note = |text: &str| {
        if !settings.quiet {
            say_line(&format!("salloc: {text}"));
        }
    };
    note(&format!("Pending job allocation {job}"));
    if !settings.quiet {
        let remarks = remarks(&cluster.client, &draft).await?;
        remarks
            .iter()
            .for_each(|remark| say(Name::Salloc, "warning", remark));
    }
    let granted = tokio::select! {
        granted = granted(&cluster.client, job) => granted?,
        _ = interrupts.recv() => Err("Job aborted due to signal"),
        () = patience(settings.immediate) => Err("Unable to allocate resources: Requested nodes are busy"),
    };
    let node = match granted {
        Ok(node) => node,
        Err(why) => {
            cluster.client.cancel(job).await?;
            cluster.client.close().await;
            return Err(Complaint::new(format!("{why}; job {job} is cancelled")));
        }
    };
    note(&format!("Granted job allocation {job}"));
    if stays {
        cluster.client.close().await;
        return Ok(0);
    }
    let machine = machine_name();
    if node != machine && !node.starts_with(&format!("{machine}-")) {
        let what = format!("the command, and what srun starts in it, runs here, not on {node}");
        say(Name::Salloc, "warning", &what);
    }
    let ended = command_in(
        &settings,
        &draft.plan.environment,
        &command,
        job,
        &node,
        &cluster.client,
    )
    .await;
    note(&format!("Relinquishing job allocation {job}"));
    cluster.client.cancel(job).await?;
    cluster.client.close().await;
    ended
}

/// Waits as long as somebody wants to; for ever if nobody said.
async fn patience(immediate: Option<Duration>) {
    match immediate {
        Some(time) => tokio::time::sleep(time.max(Duration::from_secs(1))).await,
        None => std::future::pending().await,
    }
}

/// The nodes that the job is on, once it is; why it won't be, if it is over before.
async fn granted(client: &Client, job: JobId) -> Result<Result<String, &'static str>, Complaint> {
    let mut watch = client.watch(job);
    while let Some(JobView {
        outcome,
        slots,
        tasks,
        ..
    }) = watch.next().await?
    {
        if outcome.is_some() {
            return Ok(Err("Job allocation has been revoked"));
        }
        if slots == 0 {
            continue;
        }
        let page = client.tasks(job, IndexRange::new(0, tasks)).await?;
        let held: Vec<WorkerId> = page.tasks.iter().filter_map(|task| task.worker).collect();
        if held.len() as u64 == tasks {
            let workers = client.workers().await?;
            let held = workers.iter().filter(|view| held.contains(&view.worker));
            return Ok(Ok(node_list(held)));
        }
    }
    Ok(Err("Job allocation has been revoked"))
}

/// Runs the command, or a shell, and returns its code.
async fn command_in(
    settings: &BatchSettings,
    variables: &[(Bytes, Bytes)],
    words: &[String],
    job: JobId,
    node: &str,
    client: &Client,
) -> Result<u8, Complaint> {
    let is_shell = words.is_empty();
    let shell = || std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
    let words = match words {
        [] => &[shell().unwrap_or_else(|| "/bin/sh".to_owned())][..],
        words => words,
    };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let os = |bytes: &Bytes| OsString::from_vec(bytes.to_vec());
    for (name, value) in variables {
        if name.starts_with(b"SLURM_") || name.starts_with(b"PHALANX_") {
            command.env(os(name), os(value));
        }
    }
    for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
        command.env(name, job.to_string());
    }
    for name in ["SLURM_JOB_NODELIST", "SLURM_NODELIST"] {
        command.env(name, node);
    }
    // what is typed is for the command, which may go on
    let mut ignored = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::quit()] {
        ignored.push(
            signal(kind).map_err(|error| Complaint::new(format!("cannot listen to signals: {error}")))?,
        );
    }
    let child = command.spawn().map_err(|error| Complaint {
        lines: vec![format!("cannot start `{}`: {error}", words[0])],
        code: match error.kind() == std::io::ErrorKind::NotFound {
            true => NOT_FOUND,
            false => NOT_STARTED,
        },
    })?;
    let hangs_up = is_shell || settings.recorded("kill-command").is_some();
    let status = wait(child, client, job, hangs_up).await?;
    drop::<Vec<Signal>>(ignored);
    Ok(code(status))
}

/// Waits for the command; says so if the allocation is over before.
async fn wait(
    mut child: Child,
    client: &Client,
    job: JobId,
    hangs_up: bool,
) -> Result<ExitStatus, Complaint> {
    let failed = |error: std::io::Error| Complaint::new(format!("cannot wait for the command: {error}"));
    let over = async {
        let mut watch = client.watch(job);
        while let Ok(Some(_)) = watch.next().await {}
    };
    tokio::select! {
        status = child.wait() => return status.map_err(failed),
        () = over => {}
    }
    say_line(&format!("salloc: Job allocation {job} has been revoked."));
    if hangs_up
        && let Some(pid) = child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?))
    {
        // it may have ended by itself meanwhile
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
    }
    child.wait().await.map_err(failed)
}
