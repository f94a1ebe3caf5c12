//! What each command does: one file per command, and here the way to the right one.

mod cancel;
mod chaos;
mod explain;
mod graph;
mod hold;
mod init;
mod job;
mod jobs;
mod kernels;
mod logs;
mod output;
mod requeue;
mod results;
mod retry;
pub(crate) mod run;
mod scheduler;
mod shims;
mod signal;
mod storage;
pub(crate) mod submit;
pub(crate) mod up;
mod wait;
mod worker;
mod workers;

use std::time::{SystemTime, UNIX_EPOCH};

use phalanx_protocol::exit::ExitCode;
use phalanx_transport::Role;

use crate::args::daemon::{WorkerAction, WorkerArguments};
use crate::args::job::SubmitCommand;
use crate::args::{Arguments, Command, GlobalArguments};
use crate::cluster::{Connected, Site};
use crate::process::{runtime, start_log};
use crate::slurm;
use crate::ui::Ui;
use crate::ui::error::CliError;
use submit::several::FileDraft;

/// Carries a command out.
pub(crate) fn run(arguments: Arguments, ui: Ui) -> Result<ExitCode, CliError> {
    let Arguments { global, command } = arguments;
    let is_role = matches!(
        command,
        Command::Scheduler(_) | Command::Worker(WorkerArguments { action: None, .. })
    );
    start_log(if is_role { "info" } else { "warn" })?;
    match command {
        Command::Up(arguments) => up::run(&global, &arguments, ui),
        Command::Down => up::detached::down(&global, ui),
        Command::Mpiexec(arguments) => Ok(ExitCode::Command(slurm::mpiexec(&arguments.words, &global))),
        Command::StepFile => Ok(ExitCode::Command(slurm::receive_file())),
        Command::StepRanks => Ok(ExitCode::Command(slurm::keep_ranks())),
        Command::Shims(arguments) => shims::run(&arguments, ui),
        Command::Init(arguments) => init::run(&global, arguments, ui),
        Command::Scheduler(arguments) => scheduler::run(&global, arguments, ui),
        Command::Worker(WorkerArguments {
            action: Some(WorkerAction::Drain(arguments)),
            ..
        }) => with_cluster_as(Role::Admin, &global, async |cluster| {
            worker::drain::run(cluster, arguments.worker, ui).await
        }),
        Command::Worker(arguments) => worker::run(&global, arguments, ui),
        Command::Chaos(arguments) => chaos::run(&arguments, ui),
        Command::Storage(arguments) => storage::run(&global, arguments, ui),
        Command::Kernels(arguments) => kernels::run(&arguments, ui),
        Command::Submit(arguments) => submit_or_run(&global, arguments, Then::Leave, ui),
        Command::Run(arguments) => submit_or_run(&global, arguments, Then::Follow, ui),
        Command::Logs(arguments) => {
            with_cluster(&global, async |cluster| logs::run(cluster, &arguments, ui).await)
        }
        Command::Jobs(arguments) => {
            with_cluster(&global, async |cluster| jobs::run(cluster, &arguments, ui).await)
        }
        Command::Job(arguments) => with_cluster(&global, async |cluster| {
            job::run(cluster, arguments.job, ui).await
        }),
        Command::Wait(arguments) => with_cluster(&global, async |cluster| {
            wait::run(cluster, &arguments.jobs, ui).await
        }),
        Command::Results(arguments) => with_cluster(&global, async |cluster| {
            results::run(cluster, &arguments, ui).await
        }),
        Command::Cancel(arguments) => with_cluster(&global, async |cluster| {
            cancel::run(cluster, &arguments.targets, ui).await
        }),
        Command::Signal(arguments) => with_cluster(&global, async |cluster| {
            signal::run(cluster, &arguments, ui).await
        }),
        Command::Hold(arguments) => with_cluster(&global, async |cluster| {
            hold::run(cluster, &arguments.jobs, hold::Hold::Hold, ui).await
        }),
        Command::Release(arguments) => with_cluster(&global, async |cluster| {
            hold::run(cluster, &arguments.jobs, hold::Hold::Release, ui).await
        }),
        Command::Requeue(arguments) => with_cluster(&global, async |cluster| {
            requeue::run(cluster, &arguments.targets, ui).await
        }),
        Command::Retry(arguments) => with_cluster(&global, async |cluster| {
            retry::run(cluster, arguments.job, ui).await
        }),
        Command::Explain(arguments) => with_cluster(&global, async |cluster| {
            explain::run(cluster, arguments.target, ui).await
        }),
        Command::Graph(arguments) => match graph::subject(&arguments) {
            graph::Subject::File(path) => graph::of_file(path, arguments.format, ui),
            graph::Subject::Job(job) => with_cluster(&global, async |cluster| {
                graph::of_job(cluster, job, arguments.format, ui).await
            }),
        },
        Command::Workers => with_cluster(&global, async |cluster| workers::run(cluster, ui).await),
    }
}

/// What becomes of a job once it is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Leave,
    Follow,
}

/// Checks a job, or those of a file, and submits them unless that is all that was asked.
fn submit_or_run(
    global: &GlobalArguments,
    arguments: SubmitCommand,
    then: Then,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    if let Some(file) = &arguments.file {
        let draft = FileDraft::prepare(file)?;
        if arguments.dry_run {
            return submit::describe(&draft.shapes(), ui);
        }
        return with_cluster(global, async |cluster| match then {
            Then::Leave => submit::several::submit(cluster, draft, ui).await,
            Then::Follow => submit::several::run(cluster, draft, ui).await,
        });
    }
    let draft = submit::Draft::prepare(arguments.job)?;
    if arguments.dry_run {
        return submit::describe(&[draft.shape()], ui);
    }
    with_cluster(global, async |cluster| match then {
        Then::Leave => submit::run(cluster, draft, ui).await,
        Then::Follow => run::run(cluster, draft, ui).await,
    })
}

/// Connects, does the work, and takes leave.
fn with_cluster<T>(
    global: &GlobalArguments,
    work: impl AsyncFnOnce(&Connected) -> Result<T, CliError>,
) -> Result<T, CliError> {
    with_cluster_as(Role::User, global, work)
}

/// The same for what only some may ask.
fn with_cluster_as<T>(
    role: Role,
    global: &GlobalArguments,
    work: impl AsyncFnOnce(&Connected) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let site = Site::open(global)?;
    runtime()?.block_on(async {
        let cluster = site.connect(role).await?;
        let done = work(&cluster).await;
        cluster.client.close().await;
        done
    })
}

/// Milliseconds since 1970.
fn now_unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
