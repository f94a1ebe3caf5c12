//! How much memory a task uses: what its process has resident, with all that this one has started, as `/proc` tells. Pages
//! that several processes share count once for each.

use std::fs;

use rustix::process::Pid;

use super::orphans::task_of;

/// Resident bytes of the task `task`, whose process is `leader` and to which some of the `orphans` may belong.
pub(super) fn resident_bytes(leader: Pid, task: u64, orphans: &[Pid]) -> u64 {
    let own = orphans.iter().filter(|&&orphan| task_of(orphan) == Some(task));
    let mut waiting: Vec<Pid> = std::iter::once(&leader).chain(own).copied().collect();
    let mut pages = 0;
    while let Some(process) = waiting.pop() {
        pages += resident_pages(process).unwrap_or_default();
        waiting.extend(children(process));
    }
    pages * rustix::param::page_size() as u64
}

/// `None` if it has ended.
fn resident_pages(process: Pid) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{}/statm", process.as_raw_nonzero())).ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The children of all threads of a process.
fn children(process: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = lists.flat_map(|list| -> Vec<i32> {
        list.split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect()
    });
    numbers.filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_process_has_started_is_found_and_a_dead_one_uses_nothing() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(children(rustix::process::getpid()).contains(&pid));
        assert!(resident_bytes(pid, 0, &[]) > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(resident_bytes(pid, 0, &[]), 0);
    }
}
