//! `phalanx up`: a whole cluster on this machine, as processes of this same binary, in the foreground.
//!
//! The story: make the directory if there is none, [`plan`] the processes, start the schedulers, then the workers, say
//! where it is, and wait ([`running`]). A process that ends is told of and started again; a scheduler comes back at the
//! same address. [`member`] minds one process. Nothing outlives this process: members are tied to it by the system, also if it
//! is killed.

pub(crate) mod detached;
mod member;
mod plan;
mod running;

use std::path::Path;

use phalanx_protocol::exit::ExitCode;
use phalanx_transport::{ClusterDirectory, DirectoryError, NewCluster};
use phalanx_worker::{CgroupLeaf, detect_capacity};

use super::init;
use crate::args::GlobalArguments;
use crate::args::daemon::UpArguments;
use crate::cluster::root;
use crate::process::runtime;
use crate::ui::Ui;
use crate::ui::error::CliError;
use plan::{Plan, share};
use running::Up;

pub(super) fn run(global: &GlobalArguments, arguments: &UpArguments, ui: Ui) -> Result<ExitCode, CliError> {
    // before anything is started, which is born there then
    let _leaf = CgroupLeaf::settle();
    if arguments.detach {
        detached::start(global, &arguments.words())?;
        let root = root(global)?;
        ui.note(&format!(
            "the cluster {} is up in the background; `phalanx down` ends it",
            root.display()
        ));
        return Ok(ExitCode::Success);
    }
    let directory = open_or_make(&root(global)?, ui)?;
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(ExitCode::Internal, format!("cannot find this program: {error}")))?;
    if arguments.in_background {
        detached::settle(&directory.root)?;
    }
    let share = share(&detect_capacity(), arguments);
    let plan = Plan {
        program,
        directory,
        share,
        arguments,
    };
    // members are tied to the thread that starts them, which is this one, and it waits here to the end
    runtime()?.block_on(async {
        let mut up = Up::new(ui)?;
        let ended = up.go(&plan).await;
        up.stop().await;
        ended
    })
}

fn open_or_make(root: &Path, ui: Ui) -> Result<ClusterDirectory, CliError> {
    match ClusterDirectory::open(root) {
        Err(DirectoryError::Absent { .. }) => {
            let made = init::make(root, &NewCluster::default())?;
            ui.note(&format!("made the cluster directory {}", made.root.display()));
            Ok(made)
        }
        opened => Ok(opened?),
    }
}
