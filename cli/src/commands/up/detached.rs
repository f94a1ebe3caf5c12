//! A cluster in the background: `phalanx up --detach` starts it and leaves once it is up, `phalanx down` ends it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use phalanx_protocol::exit::ExitCode;
use phalanx_storage::ProcessMark;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::args::GlobalArguments;
use crate::cluster::root;
use crate::ui::Ui;
use crate::ui::error::CliError;

/// Which process the cluster is, in its directory.
const MARK_FILE: &str = "up.json";
/// How long a cluster may take to end.
const DOWN_MAX: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

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
    let log_path = log_path(&root);
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
    let failed = |error: Errno| {
        let what = format!("cannot end process {}: {error}", mark.pid);
        CliError::new(ExitCode::Internal, what)
    };
    let pid = i32::try_from(mark.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(Errno::SRCH))?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    // the number may have become another's before the line above
    if running(&root).is_some() {
        pidfd_send_signal(&process, Signal::TERM).map_err(failed)?;
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        if poll(&mut ended, Some(&DOWN_MAX)).map_err(failed)? == 0 {
            let what = format!("process {} still runs after {} s", mark.pid, DOWN_MAX.tv_sec);
            return Err(CliError::new(ExitCode::Internal, what));
        }
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

/// What its processes log: beside the directory, which may not be there yet.
fn log_path(root: &Path) -> PathBuf {
    let mut path = root.as_os_str().to_owned();
    path.push(".log");
    path.into()
}
