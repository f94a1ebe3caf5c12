//! A cluster in the background: `phalanx up --detach` starts it and leaves once it is up, `phalanx down` ends it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use phalanx_protocol::exit::ExitCode;
use phalanx_storage::ProcessMark;
use rustix::process::{Pid, Signal, kill_process};

use crate::args::GlobalArguments;
use crate::cluster::root;
use crate::ui::Ui;
use crate::ui::error::CliError;

/// Which process the cluster is, in its directory.
const MARK_FILE: &str = "up.json";
/// What its processes log.
const LOG_FILE: &str = "up.log";
/// How long a cluster may take to end.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// Starts `phalanx up` with these arguments in a session of its own and waits until the cluster is up.
pub(crate) fn start(global: &GlobalArguments, arguments: &[String]) -> Result<(), CliError> {
    let internal = |what: String| CliError::new(ExitCode::Internal, what);
    let root = root(global)?;
    if let Some(mark) = running(&root) {
        let what = format!(
            "the cluster `{}` runs in the background already: process {}",
            root.display(),
            mark.pid
        );
        return Err(CliError::usage(what).hint("`phalanx workers` shows it, `phalanx down` ends it"));
    }
    let log_path = beside(&root);
    let log = fs::create_dir_all(root.parent().unwrap_or(Path::new("/"))).and_then(|()| {
        let mut options = File::options();
        options.create(true).append(true).mode(0o600).open(&log_path)
    });
    let log = log.map_err(|error| internal(format!("cannot write `{}`: {error}", log_path.display())))?;
    let program =
        std::env::current_exe().map_err(|error| internal(format!("cannot find this program: {error}")))?;
    let mut child = Command::new(program)
        .args(["--output", "json", "up", "--in-background"])
        .args(arguments)
        .env("PHALANX_CLUSTER", &root)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| internal(format!("the cluster cannot be started: {error}")))?;
    let mut line = String::new();
    let read = child
        .stdout
        .take()
        .map(|pipe| BufReader::new(pipe).read_line(&mut line));
    match read {
        Some(Ok(1..)) => Ok(()),
        Some(Ok(0) | Err(_)) | None => {
            let how = child
                .wait()
                .map_or_else(|error| error.to_string(), |status| status.to_string());
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            let last = log.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev();
            Err(internal(format!("the cluster did not come up ({how})")).details(last.map(str::to_owned)))
        }
    }
}

/// Makes this process one that outlives its terminal, and leaves word in the cluster directory.
pub(super) fn settle(root: &Path) -> Result<(), CliError> {
    let internal = |what: String| CliError::new(ExitCode::Internal, what);
    // fails only for the leader of a group, whose terminal is its own affair
    let _ = rustix::process::setsid();
    let mark = ProcessMark::of_this_process();
    let text = serde_json::to_string(&mark).map_err(|error| internal(error.to_string()))?;
    let path = root.join(MARK_FILE);
    fs::write(&path, text).map_err(|error| internal(format!("cannot write `{}`: {error}", path.display())))
}

/// Ends the cluster in the background, its workers first, and waits until it is gone.
pub(in crate::commands) fn down(global: &GlobalArguments, ui: Ui) -> Result<ExitCode, CliError> {
    let root = root(global)?;
    let Some(mark) = running(&root) else {
        let what = format!("no cluster `{}` runs in the background", root.display());
        return Err(CliError::new(ExitCode::Unreachable, what)
            .hint("one that runs in a terminal ends with Ctrl-C there"));
    };
    let pid = i32::try_from(mark.pid).ok().and_then(Pid::from_raw);
    let told = pid.map(|pid| kill_process(pid, Signal::TERM));
    if let Some(Err(error)) = told {
        return Err(CliError::new(
            ExitCode::Internal,
            format!("cannot end process {}: {error}", mark.pid),
        ));
    }
    let deadline = Instant::now() + DOWN_MAX;
    while running(&root).is_some() {
        if Instant::now() > deadline {
            let what = format!("process {} still runs after {} s", mark.pid, DOWN_MAX.as_secs());
            return Err(CliError::new(ExitCode::Internal, what));
        }
        // its end can only be looked for: it is no child of this process
        std::thread::sleep(Duration::from_millis(20));
    }
    ui.note(&format!(
        "the cluster {} is down; its jobs go on when it is up again",
        root.display()
    ));
    Ok(ExitCode::Success)
}

/// The process of the cluster in the background, if it runs on this machine.
fn running(root: &Path) -> Option<ProcessMark> {
    let text = fs::read_to_string(root.join(MARK_FILE)).ok()?;
    let mark: ProcessMark = serde_json::from_str(&text).ok()?;
    let here = ProcessMark::of_this_process();
    (mark.host == here.host && !mark.is_gone(&here)).then_some(mark)
}

/// The log's path: beside the directory, which may not be there yet.
fn beside(root: &Path) -> PathBuf {
    match root.is_dir() {
        true => root.join(LOG_FILE),
        false => {
            let mut path = root.as_os_str().to_owned();
            path.push(".");
            path.push(LOG_FILE);
            path.into()
        }
    }
}
