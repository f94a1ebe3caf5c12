//! The cluster that a command of Slurm's means: that of `phalanx`; and if the user has none that runs, one of their own on this
//! machine, in the background.

use std::fs::{self, File};
use std::io;

use phalanx_protocol::exit::ExitCode;
use phalanx_transport::Role;
use rustix::fs::{FlockOperation, flock};

use crate::args::{GlobalArguments, OutputForm};
use crate::cluster::{Connected, Site, root};
use crate::commands::up::detached;
use crate::ui::error::CliError;

/// What is meant without any option.
pub(super) fn global() -> GlobalArguments {
    let text = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    GlobalArguments {
        cluster: text("PHALANX_CLUSTER").map(Into::into),
        scheduler: text("PHALANX_SCHEDULER")
            .map(|list| list.to_string_lossy().split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        output: OutputForm::Human,
    }
}

/// The cluster directory, absolute, so that what a job starts finds the same.
pub(super) fn directory() -> Result<String, CliError> {
    Ok(root(&global())?.display().to_string())
}

/// Connects to the cluster.
pub(super) async fn connected() -> Result<Connected, CliError> {
    connected_by(&global()).await
}

async fn connected_by(global: &GlobalArguments) -> Result<Connected, CliError> {
    Site::open(global)?.connect(Role::User).await
}

/// The same, and starts one if none runs and nobody has said where one would be.
pub(super) async fn connected_or_started() -> Result<Connected, CliError> {
    connected_or_started_by(&global()).await
}

/// The same for what was said of the cluster.
pub(super) async fn connected_or_started_by(global: &GlobalArguments) -> Result<Connected, CliError> {
    match connected_by(global).await {
        Err(error) if error.code() == ExitCode::Unreachable && global.scheduler.is_empty() => {}
        done => return done,
    }
    let root = root(global)?;
    // of two that want to start one, the second finds the first one's
    let lock = lock(&root).map_err(|error| {
        let what = format!("cannot lock `{}.lock`: {error}", root.display());
        CliError::new(ExitCode::Internal, what)
    })?;
    if let Ok(connected) = connected_by(global).await {
        return Ok(connected);
    }
    detached::start(global, &[])?;
    drop(lock);
    connected_by(global).await
}

fn lock(root: &std::path::Path) -> io::Result<File> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut path = root.as_os_str().to_owned();
    path.push(".lock");
    let file = File::options().create(true).append(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
