//! `phalanx scheduler`: the scheduler's role, in the foreground.

use std::time::Duration;

use phalanx_protocol::exit::ExitCode;
use phalanx_scheduler::{JournalOptions, Scheduler, SchedulerConfig, StartError};
use phalanx_storage::OnDamage;
use phalanx_transport::Role;

use crate::args::GlobalArguments;
use crate::args::daemon::SchedulerArguments;
use crate::cluster::Site;
use crate::process::{
    StopSignals, Woken, limit_stopping, machine_name, runtime, tie_to_parent, wait_for_end,
};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;

pub(super) fn run(
    global: &GlobalArguments,
    arguments: SchedulerArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    tie_to_parent(arguments.parent)?;
    let site = Site::open(global)?;
    let name = arguments.name.unwrap_or_else(machine_name);
    let config = SchedulerConfig {
        listen: arguments.listen,
        credential: site.credential(Role::Scheduler)?,
        storage: site.directory.storage_path(),
        name: name.clone(),
        cluster: site.directory.config.cluster.clone(),
        keys: Some(
            site.directory
                .root
                .join(format!("credentials/scheduler-{name}.keys")),
        ),
        takeover_after: arguments.takeover_after,
        worker_timeout: arguments.worker_timeout,
        journal: JournalOptions {
            on_damage: match arguments.accept_loss {
                true => OnDamage::AcceptLoss,
                false => OnDamage::default(),
            },
            ..JournalOptions::default()
        },
    };
    let runtime = runtime()?;
    let _context = runtime.enter();
    let mut signals = StopSignals::listen()?;
    let scheduler = Scheduler::start(config).map_err(|error| of_start(&error))?;
    let address = scheduler.address().to_string();
    let (role, does) = match scheduler.is_leader() {
        true => ("leader", "leads"),
        false => ("standby", "stands by"),
    };
    let document = Document::new(Content::Scheduler {
        name: &name,
        address: address.clone(),
        pid: std::process::id(),
        role,
    });
    ui.data(&document, |_| {
        format!("scheduler {name} listens on {address} and {does}")
    })?;
    match runtime.block_on(wait_for_end(&mut signals, || scheduler.is_over())) {
        Woken::Signal => {
            tracing::info!("stopping");
            limit_stopping(Duration::ZERO);
            scheduler.stop();
            Ok(ExitCode::Success)
        }
        Woken::Over => match scheduler.join() {
            Ok(()) => Ok(ExitCode::Success),
            Err(error) => Err(CliError::from_chain(ExitCode::Internal, &error)),
        },
    }
}

fn of_start(error: &StartError) -> CliError {
    let code = match error {
        StartError::Bind(_) | StartError::WorkerTimeout { .. } => ExitCode::Usage,
        StartError::ClusterId(_)
        | StartError::Storage { .. }
        | StartError::Cluster { .. }
        | StartError::Probe { .. }
        | StartError::Name(_)
        | StartError::Acquire { .. }
        | StartError::Record { .. }
        | StartError::Snapshot { .. }
        | StartError::Keys(_)
        | StartError::System(_) => ExitCode::Internal,
    };
    CliError::from_chain(code, error).maybe_hint(error.hint())
}
