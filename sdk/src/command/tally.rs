//! What processes have used up to now, as `/proc` tells. What the system counts for the leader of a group when it ends lacks
//! those that are killed with it, before anybody has waited for them.

use std::fs;

use rustix::process::Pid;

use super::reap::Used;

/// Where the cpu times are among the fields of `stat`, from the first behind the name on: of the process in its programs and in the
/// system, then of children that it waited for.
const TIMES: [usize; 4] = [11, 12, 13, 14];

/// What processes have used that still are there, with their children that they waited for.
pub(super) fn used_so_far(processes: impl IntoIterator<Item = Pid>) -> Used {
    let mut all = Used::default();
    for process in processes {
        let Some([user, system, of_children_user, of_children_system]) = times(process) else {
            continue;
        };
        all.user_micros += user + of_children_user;
        all.system_micros += system + of_children_system;
        all.rss_kib = all.rss_kib.max(peak_kib(process).unwrap_or(0));
    }
    all
}

/// In microseconds.
fn times(process: Pid) -> Option<[u64; 4]> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // the name is in parentheses and may have any letters
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = str::from_utf8(&stat[name_end + 1..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let each_second = rustix::param::clock_ticks_per_second();
    let mut times = [0; 4];
    for (time, at) in times.iter_mut().zip(TIMES) {
        let ticks: u64 = fields.get(at)?.parse().ok()?;
        *time = ticks.saturating_mul(1_000_000) / each_second.max(1);
    }
    Some(times)
}

/// The most that a process had resident.
fn peak_kib(process: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_living_process_has_used_is_told_and_of_a_dead_one_nothing() {
        let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' a); echo ready; read -r _";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let printed = child.stdout.take().unwrap();
        BufReader::new(printed).read_line(&mut line).unwrap();
        let pid = Pid::from_child(&child);
        let used = used_so_far([pid]);
        assert!(used.rss_kib > 19_000, "{used:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(used_so_far([pid]), Used::default());
    }
}
