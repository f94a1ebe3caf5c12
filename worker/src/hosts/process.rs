//! Real kernel hosts: processes of the operating system.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};

use phalanx_protocol::message::host::{HOST_BOARD_VARIABLE, HOST_FD_VARIABLE, HOST_MARK_VARIABLE};
use phalanx_protocol::signal;
use rustix::process::{Pid, Signal};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::{Ending, Launched, Launcher, Process, Program};

/// Exit statuses that mean that the program never ran: its loader or interpreter failed.
const NOT_RUN: [i32; 2] = [126, 127];

/// What this process runs, also if its file was replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// What a host of commands is called in lists of processes.
const COMMANDS_HOST_NAME: &str = "phalanx-commands";

/// Starts processes.
#[derive(Debug)]
pub(crate) struct ProcessLauncher;

impl Launcher for ProcessLauncher {
    fn launch(&self, program: &Program, board: &Path, mark: &str) -> io::Result<Launched> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let mut command = match program {
            Program::File(path) => Command::new(path),
            Program::Own => {
                let mut command = Command::new(OWN_PROGRAM);
                command.arg0(COMMANDS_HOST_NAME);
                command
            }
        };
        let child = command
            .env(HOST_FD_VARIABLE, "0")
            .env(HOST_MARK_VARIABLE, mark)
            .env(HOST_BOARD_VARIABLE, board)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(io::stderr()))
            .stderr(Stdio::from(io::stderr()))
            // Ctrl-C at the terminal is for the worker to act on, and a kill is for all that the host started
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Launched {
            socket,
            process: Box::new(ChildProcess(child)),
        })
    }
}

struct ChildProcess(Child);

impl ChildProcess {
    /// Kills the host with all that it has started and that did not leave its group.
    fn kill_group(&self) {
        // no id: it is reaped, and the number may be somebody else's
        let group = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // fails only if all of it has ended already
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill_group();
    }
}

impl Process for ChildProcess {
    fn kill(&mut self) {
        self.kill_group();
    }

    fn id(&self) -> Option<u32> {
        self.0.id()
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Ending> + Send + '_>> {
        Box::pin(async {
            match self.0.wait().await {
                Ok(status) => ending(status),
                Err(error) => Ending {
                    how: format!("unknown ({error})"),
                    by_itself: false,
                },
            }
        })
    }
}

fn ending(status: ExitStatus) -> Ending {
    if let Some(number) = status.signal() {
        let name = signal::name(number)
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        return Ending {
            how: format!("signal {number}{name}"),
            by_itself: false,
        };
    }
    let code = status.code().unwrap_or_default();
    Ending {
        how: format!("exit status {code}"),
        by_itself: !NOT_RUN.contains(&code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_told_by_signal_or_status() {
        let segfault = ending(ExitStatus::from_raw(11));
        assert_eq!(
            (segfault.how.as_str(), segfault.by_itself),
            ("signal 11 (SIGSEGV)", false)
        );
        let status = ending(ExitStatus::from_raw(3 << 8));
        assert_eq!((status.how.as_str(), status.by_itself), ("exit status 3", true));
        let no_library = ending(ExitStatus::from_raw(127 << 8));
        assert!(!no_library.by_itself);
    }
}
