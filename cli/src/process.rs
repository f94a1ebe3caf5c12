//! What a long-running process does besides its work: it logs, obeys signals, and ends with its parent.

use std::io::{self, IsTerminal};
use std::time::Duration;

use phalanx_protocol::exit::ExitCode;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::daemon::ParentArguments;
use crate::ui::error::CliError;

/// Says how much is logged, in tracing's filter language.
pub(crate) const LOG_VARIABLE: &str = "PHALANX_LOG";
/// How often a role is asked whether it has ended by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a role may take to stop; then it ends like after a crash, which loses nothing that was acknowledged.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(8);

/// Starts to log to stderr: what PHALANX_LOG asks for, else `default`.
pub(crate) fn start_log(default: &str) -> Result<(), CliError> {
    let wanted = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = match &wanted {
        Some(text) => EnvFilter::try_new(text).map_err(|error| {
            CliError::usage(format!("{LOG_VARIABLE} is `{text}`: {error}"))
                .hint("use error, warn, info, debug or trace")
        })?,
        None => EnvFilter::new(default),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color);
    log.try_init()
        .map_err(|error| CliError::new(ExitCode::Internal, format!("cannot log: {error}")))
}

/// Makes this process get a SIGTERM when the one that started it ends, however that happens.
pub(crate) fn tie_to_parent(parent: ParentArguments) -> Result<(), CliError> {
    let Some(expected) = parent.with_parent else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| {
        CliError::new(
            ExitCode::Internal,
            format!("cannot be tied to process {expected}: {error}"),
        )
    })?;
    // it may have ended before the line above, and its signal then never comes
    let is_there = getppid()
        .map(Pid::as_raw_nonzero)
        .map(|pid| pid.get().unsigned_abs())
        == Some(expected);
    match is_there {
        true => Ok(()),
        false => Err(CliError::silent(ExitCode::Interrupted)),
    }
}

/// The signals that ask a process to stop.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl StopSignals {
    /// Begins to listen; a tokio runtime must be there.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                CliError::new(ExitCode::Internal, format!("cannot listen to signals: {error}"))
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A signal asks to stop.
    Signal,
    /// The role has ended by itself.
    Over,
}

/// Waits until a signal asks to stop, or `is_over` says that there is nothing left to wait for.
pub(crate) async fn wait_for_end(signals: &mut StopSignals, is_over: impl Fn() -> bool) -> Woken {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            () = signals.next() => return Woken::Signal,
            _ = looks.tick() => {
                if is_over() {
                    return Woken::Over;
                }
            }
        }
    }
}

/// Sees to it that stopping ends: if it takes longer than [`STOP_MAX`] after `grace`, the process ends anyhow.
pub(crate) fn limit_stopping(grace: Duration) {
    let limit = move || {
        std::thread::sleep(STOP_MAX + grace);
        tracing::error!("stopping took longer than {} s", (STOP_MAX + grace).as_secs());
        std::process::exit(ExitCode::Internal.number().into());
    };
    if let Err(error) = std::thread::Builder::new()
        .name("stop-limit".to_owned())
        .spawn(limit)
    {
        tracing::warn!(%error, "no thread to limit how long stopping takes");
    }
}

/// A runtime for what this process waits for.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| {
        CliError::new(
            ExitCode::Internal,
            format!("the system gives no event queue: {error}"),
        )
    })
}

/// The machine's name, as far as it may stand in names of ours.
pub(crate) fn machine_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let name: String = text
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|&l| plain(l))
        .collect();
    match name.is_empty() {
        true => "node".to_owned(),
        false => name,
    }
}
