//! What a host has started and has outlived it. Commands run in process groups of their own, and may leave even those; each
//! inherits its host's mark among its variables, by which it is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phalanx_protocol::message::host::HOST_MARK_VARIABLE;
use rustix::process::{Pid, Signal};

/// Looks at all processes at most so often: each look finds what was started during the one before.
const LOOKS_MAX: usize = 100;

/// A process without variables is looked at again after so long.
const EXEC_WAIT: Duration = Duration::from_millis(1);

/// How long all looks together wait for such processes.
const EXEC_MAX: Duration = Duration::from_secs(2);

/// Kills every process that has the mark. Blocks; costs some microseconds for each process of the node.
pub(super) fn kill(mark: &str) {
    let wanted = format!("{HOST_MARK_VARIABLE}={mark}");
    let mut patience = EXEC_MAX;
    for _ in 0..LOOKS_MAX {
        let found = marked(wanted.as_bytes());
        if found.is_empty() {
            return;
        }
        for process in found {
            match process {
                // it may have ended meanwhile
                Found::Marked(pid) => drop(rustix::process::kill_process(pid, Signal::KILL)),
                Found::Unknown(process) => {
                    while is_in_exec(&process) && !patience.is_zero() {
                        std::thread::sleep(EXEC_WAIT);
                        patience = patience.saturating_sub(EXEC_WAIT);
                    }
                }
            }
        }
    }
    tracing::warn!("processes that a dead host has started go on starting others");
}

/// What is seen of a process that may have to be killed.
enum Found {
    /// It has the mark.
    Marked(Pid),
    /// It is becoming another program, and has no variables at this moment.
    Unknown(PathBuf),
}

/// Processes that have `wanted` among their variables, or may have it at the next look, and are not dead yet. Those of other
/// users cannot be looked into, and are none of ours.
fn marked(wanted: &[u8]) -> Vec<Found> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let find = |(number, path): (i32, PathBuf)| {
        let variables = fs::read(path.join("environ")).ok()?;
        if variables.is_empty() && is_in_exec(&path) {
            return Some(Found::Unknown(path));
        }
        let mut variables = variables.split(|&byte| byte == 0);
        let is_marked = variables.any(|variable| variable == wanted);
        let pid = is_marked.then(|| Pid::from_raw(number))?;
        pid.map(Found::Marked)
    };
    processes.filter_map(find).collect()
}

/// Whether a process without variables is one that has left its old program and not yet begun with the new: then it has no
/// words of its command either. Neither have a dead one that nobody has reaped and the kernel's own, but those have no program.
fn is_in_exec(process: &Path) -> bool {
    let has_no_words = fs::read(process.join("cmdline")).is_ok_and(|words| words.is_empty());
    has_no_words && fs::read_link(process.join("exe")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};
    use std::time::Instant;

    /// Nothing takes longer, on however busy a machine; sleepers sleep for longer.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A process with the mark. It is begun at once: its program may still be on its way in.
    fn sleeper(mark: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").env(HOST_MARK_VARIABLE, mark);
        command.spawn().unwrap()
    }

    #[test]
    fn processes_with_the_mark_are_killed_and_no_others() {
        let own = format!("test-{}", std::process::id());
        let mut other = sleeper(&format!("{own}-2"));
        let mut stray = sleeper(&own);
        kill(&own);
        assert_eq!(stray.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_just_becoming_another_program_is_found() {
        const ROUNDS: usize = 200;
        let own = format!("test-exec-{}", std::process::id());
        for round in 0..ROUNDS {
            let mut stray = sleeper(&own);
            kill(&own);
            // nothing else ends it within this time
            let until = Instant::now() + DEADLINE;
            let ended = loop {
                let ended = stray.try_wait().unwrap();
                if ended.is_some() || Instant::now() > until {
                    break ended;
                }
                std::thread::sleep(EXEC_WAIT);
            };
            stray.kill().unwrap();
            stray.wait().unwrap();
            let signal = ended.and_then(|status| status.signal());
            assert_eq!(signal, Some(9), "in round {round}");
        }
    }
}
