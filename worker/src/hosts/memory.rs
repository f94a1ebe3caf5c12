//! How much memory a host uses, with all that it has started: what its process group has resident, as `/proc` tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the group's members are looked for; that reads something of every process of the node.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(1);

/// Measures one process group.
#[derive(Debug)]
pub(super) struct GroupMemory {
    proc: PathBuf,
    /// The group's number, which is that of its first process.
    group: u32,
    members: Vec<u32>,
    members_due: Option<Instant>,
}

impl GroupMemory {
    /// Of the group that the process `leader` leads.
    pub(super) fn of(leader: u32) -> Self {
        Self::under("/proc".into(), leader)
    }

    fn under(proc: PathBuf, group: u32) -> Self {
        Self {
            proc,
            group,
            members: Vec::new(),
            members_due: None,
        }
    }

    /// Resident bytes of all members.
    pub(super) fn resident_bytes(&mut self, now: Instant) -> u64 {
        if self.members_due.is_none_or(|due| due <= now) {
            self.members = members(&self.proc, self.group);
            self.members_due = Some(now + MEMBERS_INTERVAL);
        }
        let page_bytes = rustix::param::page_size() as u64;
        let pages = self
            .members
            .iter()
            .filter_map(|pid| resident_pages(&self.proc, *pid));
        pages.sum::<u64>() * page_bytes
    }
}

fn members(proc: &Path, group: u32) -> Vec<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| group_of(proc, pid) == Some(group)).collect()
}

/// The process group of a process: the third field behind its name, which is in parentheses and may have any letters.
fn group_of(proc: &Path, pid: u32) -> Option<u32> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = str::from_utf8(&stat[name_end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

fn resident_pages(proc: &Path, pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(proc.join(pid.to_string()).join("statm")).ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_group_is_that_of_its_members() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, name: &str, group: u32, pages: u64| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} ({name}) S 1 {group} 1 0")).unwrap();
            fs::write(folder.join("statm"), format!("999 {pages} 3 1 0 4 0")).unwrap();
        };
        fs::write(proc.path().join("meminfo"), "").unwrap();
        process(10, "host", 10, 5);
        process(11, "a) S 1 99 (b", 10, 7);
        process(12, "other", 99, 1000);
        let mut memory = GroupMemory::under(proc.path().into(), 10);
        let (page, now) = (rustix::param::page_size() as u64, Instant::now());
        assert_eq!(memory.resident_bytes(now), 12 * page);
        process(13, "late", 10, 1);
        assert_eq!(memory.resident_bytes(now), 12 * page);
        assert_eq!(memory.resident_bytes(now + MEMBERS_INTERVAL), 13 * page);
    }

    #[test]
    fn this_process_uses_some() {
        let group = group_of(Path::new("/proc"), std::process::id()).unwrap();
        assert!(GroupMemory::of(group).resident_bytes(Instant::now()) > 1 << 20);
    }
}
