//! `phalanx worker`: the worker's role, in the foreground.

pub(super) mod drain;

use std::path::PathBuf;
use std::time::Duration;

use phalanx_protocol::Resources;
use phalanx_protocol::exit::ExitCode;
use phalanx_transport::Role;
use phalanx_worker::{
    AddressSource, CgroupLeaf, Equipment, NotReady, Worker, WorkerConfig, WorkerError, detect_capacity,
};

use crate::args::GlobalArguments;
use crate::args::daemon::WorkerArguments;
use crate::args::placement::{MachinePart, is_gpus, offered_gpus};
use crate::cluster::Site;
use crate::process::{
    StopSignals, Woken, limit_stopping, machine_name, runtime, tie_to_parent, wait_for_end,
};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;

pub(super) fn run(
    global: &GlobalArguments,
    arguments: WorkerArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    tie_to_parent(arguments.parent)?;
    // this process is nothing but a worker, and may move
    let _leaf = CgroupLeaf::settle();
    let site = Site::open(global)?;
    let name = arguments.name.clone().unwrap_or_else(machine_name);
    let (capacity, equipment) = offer(&arguments)?;
    let cache = match arguments.cache {
        Some(cache) => cache,
        None => default_cache(&site.directory.config.cluster, &name)?,
    };
    // a wrong address is told now, not looked for again and again
    site.addresses()?;
    let source = site.clone();
    let config = WorkerConfig {
        schedulers: AddressSource::new(move || source.addresses().unwrap_or_default()),
        credential: site.credential(Role::Worker)?,
        storage: site.directory.storage_path(),
        cache,
        name: name.clone(),
        capacity: capacity.clone(),
        equipment,
        rejoin_for: arguments.rejoin_for,
        grace: arguments.grace,
    };
    let runtime = runtime()?;
    let _context = runtime.enter();
    let mut signals = StopSignals::listen()?;
    let worker = Worker::start(config).map_err(|error| CliError::from_chain(ExitCode::Internal, &error))?;
    // told once it has joined; until then it looks for a scheduler
    let joined = || !matches!(worker.ready(Duration::ZERO), Err(NotReady::Timeout));
    let mut woken = runtime.block_on(wait_for_end(&mut signals, joined));
    if woken == Woken::Over
        && let Ok(id) = worker.ready(Duration::ZERO)
    {
        let document = Document::new(Content::Worker {
            id: id.to_string(),
            name: &name,
            capacity: (&capacity).into(),
            pid: std::process::id(),
        });
        ui.data(&document, |_| format!("worker {id} ({name}) offers {capacity}"))?;
        let is_over = || worker.ready(Duration::ZERO) == Err(NotReady::Ended);
        woken = runtime.block_on(wait_for_end(&mut signals, is_over));
    }
    if woken == Woken::Signal {
        tracing::info!(grace_seconds = arguments.grace.as_secs_f64(), "stopping");
        limit_stopping(arguments.grace);
        worker.stop();
        let is_over = || worker.ready(Duration::ZERO) == Err(NotReady::Ended);
        if runtime.block_on(wait_for_end(&mut signals, is_over)) == Woken::Signal {
            tracing::info!("stopping at once");
            worker.stop_now();
        }
    }
    match worker.join() {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => Err(of_end(&error)),
    }
}

/// What is offered: what this machine has, unless told otherwise.
fn offer(arguments: &WorkerArguments) -> Result<(Resources, Equipment), CliError> {
    let detected = detect_capacity();
    let mut capacity = Resources {
        cpus: arguments.cpus.unwrap_or(detected.cpus),
        memory_bytes: arguments.memory.unwrap_or(detected.memory_bytes),
        ..Resources::default()
    };
    for resource in arguments.resources.iter().filter(|resource| !is_gpus(resource)) {
        capacity.add(&resource.name, resource.amount);
    }
    let mut equipment = Equipment::detect();
    let whole = MachinePart { index: 0, count: 1 };
    let part = arguments.part.unwrap_or(whole);
    let counts = offered_gpus(arguments.gpus.as_deref(), &arguments.resources)
        .map_err(|error| CliError::from_chain(ExitCode::Usage, &error))?;
    if let Some(counts) = counts {
        // as many for each part
        equipment = equipment.with_gpus(&vec![counts; part.count].concat());
    }
    let equipment = equipment.part(part.index, part.count);
    capacity.set_gpus(equipment.gpus());
    Ok((capacity, equipment))
}

/// A place that nobody else can write to: programs are started from it.
fn default_cache(cluster: &str, name: &str) -> Result<PathBuf, CliError> {
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    let caches = match set("XDG_CACHE_HOME") {
        Some(caches) => Some(PathBuf::from(caches)),
        None => std::env::home_dir().map(|home| home.join(".cache")),
    };
    match caches {
        // a name may have any letters, a folder of that name should not
        Some(caches) => Ok(caches
            .join("phalanx")
            .join(cluster)
            .join(name.replace(['/', '.'], "_"))),
        None => Err(
            CliError::usage("no directory for programs is known: there is no home directory")
                .hint("name one with --cache DIR"),
        ),
    }
}

fn of_end(error: &WorkerError) -> CliError {
    match error {
        WorkerError::Unreachable { cause, .. } => {
            CliError::from_chain(ExitCode::Unreachable, error).hint(cause.hint())
        }
        WorkerError::StorageGone { .. } => CliError::from_chain(ExitCode::Unreachable, error)
            .hint("what it held runs again if the cluster's storage comes back"),
        WorkerError::Endpoint(_) | WorkerError::NotTaken | WorkerError::Refused { .. } => {
            CliError::from_chain(ExitCode::Unreachable, error)
        }
        WorkerError::Panicked => CliError::from_chain(ExitCode::Internal, error),
    }
}
