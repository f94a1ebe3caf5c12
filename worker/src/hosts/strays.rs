//! What a host has started and has outlived it. Commands run in process groups of their own, and may leave even those; each
//! inherits its host's mark among its variables, by which it is found.

use std::fs;

use phalanx_protocol::message::host::HOST_MARK_VARIABLE;
use rustix::process::{Pid, Signal};

/// Looks at all processes at most so often: each look finds what was started during the one before.
const LOOKS_MAX: usize = 100;

/// Kills every process that has the mark. Blocks; costs some microseconds for each process of the node.
pub(super) fn kill(mark: &str) {
    let wanted = format!("{HOST_MARK_VARIABLE}={mark}");
    for _ in 0..LOOKS_MAX {
        let found = marked(wanted.as_bytes());
        if found.is_empty() {
            return;
        }
        for process in found {
            // it may have ended meanwhile
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
    tracing::warn!("processes that a dead host has started go on starting others");
}

/// Processes that have `wanted` among their variables and are not dead yet. Those of other users cannot be looked into, and
/// are none of ours.
fn marked(wanted: &[u8]) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_mark = |number: &i32| {
        // a dead one that nobody has reaped has no variables any more
        let variables = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        variables
            .split(|&byte| byte == 0)
            .any(|variable| variable == wanted)
    };
    numbers.filter(has_mark).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn processes_with_the_mark_are_killed_and_no_others() {
        let sleeper = |mark: &str| {
            let mut command = Command::new("sleep");
            command.arg("60").env(HOST_MARK_VARIABLE, mark);
            command.spawn().unwrap()
        };
        let own = format!("test-{}", std::process::id());
        let (mut stray, mut other) = (sleeper(&own), sleeper(&format!("{own}-2")));
        kill(&own);
        assert_eq!(stray.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
