//! Memory limits that the system enforces: a control group (version 2) for each kernel host, where this worker was given a
//! place to make some.
//!
//! The place is this process's own group or the one above, if it lets its children limit memory and we may write there: as
//! an administrator or a batch system sets it up for a service. Without one, [`super::memory`] has to do. Everything here
//! is files; what cannot be written is told once and done without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::agent::HostId;

/// How the names of our groups begin.
const PREFIX: &str = "phalanx-";
/// How often and at what interval a group is removed whose processes are dying: the system keeps it until they are dead.
const REMOVAL_TRIES: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// Where groups lie.
const ROOT: &str = "/sys/fs/cgroup";

/// A place for control groups.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    folder: PathBuf,
}

impl Cgroups {
    /// The place that this process was given, if any.
    pub(crate) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::find_under(Path::new(ROOT), &own)
    }

    /// Looks under `root`; `own` is what the system says of this process's groups.
    fn find_under(root: &Path, own: &str) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = root.join(path);
        let above = own.parent().filter(|_| !path.is_empty()).map(Path::to_owned);
        let found = [Some(own), above]
            .into_iter()
            .flatten()
            .find(|folder| is_ours(folder))?;
        sweep(&found);
        Some(Self { folder: found })
    }

    /// A group for a host, with its process in it.
    pub(super) fn host(&self, host: HostId, process: u32) -> io::Result<Cgroup> {
        let folder = self.folder.join(format!("{PREFIX}{}-{host}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Cgroup { folder };
        // a host that has lost one of its processes is of no use
        group.write("memory.oom.group", "1")?;
        group.write("cgroup.procs", &process.to_string())?;
        Ok(group)
    }
}

/// Whether children of a group may limit memory, and we may make some.
fn is_ours(folder: &Path) -> bool {
    let controllers = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let limits_memory = controllers.split_ascii_whitespace().any(|name| name == "memory");
    limits_memory && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Removes groups of workers that are gone; the system keeps those that have a process.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A host's group. [`Self::end`] removes it; dropping it does if it is empty.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Limits the memory of all that is in it; `None`: as much as there is.
    pub(super) fn limit(&self, bytes: Option<u64>) -> io::Result<()> {
        let text = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
        self.write("memory.max", &text)
    }

    /// What it used at most, if the system has killed it for that: not if a group above or the whole node was full.
    pub(super) fn killed_at(&self) -> Option<u64> {
        let events = fs::read_to_string(self.folder.join("memory.events")).ok()?;
        let count = |name| {
            let counts = events.lines().filter_map(|line| line.split_once(' '));
            let mut counts = counts.filter(|&(event, _)| event == name);
            counts.find_map(|(_, count)| count.trim().parse::<u64>().ok())
        };
        // a kill counts here whoever was full, being full only where it was so
        if count("oom")? == 0 || count("oom_kill")? == 0 {
            return None;
        }
        // older systems do not keep the peak, which is then the limit
        ["memory.peak", "memory.max"].iter().find_map(|file| {
            let text = fs::read_to_string(self.folder.join(file)).ok()?;
            text.trim().parse().ok()
        })
    }

    /// Kills what is left in it and removes it. Blocks until that is dead, a second at most.
    pub(super) fn end(self) {
        // systems before Linux 5.14 cannot do that
        let _ = self.write("cgroup.kill", "1");
        for _ in 1..REMOVAL_TRIES {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        // dropping it tries a last time
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), text)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // if a process is left in it, the next start of a worker tries again
        if let Err(error) = fs::remove_dir(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, group = %self.folder.display(), "a control group stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_place_is_found_where_children_may_limit_memory_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let (above, own) = (root.path().join("service"), root.path().join("service/worker"));
        fs::create_dir_all(&own).unwrap();
        let find = |own: &str| Cgroups::find_under(root.path(), own).map(|found| found.folder);
        fs::write(above.join("cgroup.subtree_control"), "cpu pids\n").unwrap();
        assert_eq!(find("1:name=systemd:/x\n0::/service/worker\n"), None);
        fs::write(above.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        assert_eq!(find("0::/service/worker\n"), Some(above.clone()));
        fs::write(own.join("cgroup.subtree_control"), "memory\n").unwrap();
        assert_eq!(find("0::/service/worker\n"), Some(own));
        assert_eq!(find("4:memory:/service/worker\n"), None);
        // the root group has nothing above it
        assert_eq!(find("0::/\n"), None);
    }

    #[test]
    fn a_host_is_put_into_a_group_of_its_own_and_its_end_is_read_from_there() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups {
            folder: root.path().to_owned(),
        };
        let group = cgroups.host(HostId(3), 4711).unwrap();
        let folder = group.folder.clone();
        assert_eq!(read(&folder, "cgroup.procs"), "4711");
        assert_eq!(read(&folder, "memory.oom.group"), "1");
        group.limit(Some(8 << 30)).unwrap();
        assert_eq!(read(&folder, "memory.max"), "8589934592");
        assert_eq!(group.killed_at(), None);
        fs::write(
            folder.join("memory.events"),
            "low 0\nmax 9\noom 1\noom_kill 0\noom_group_kill 0\n",
        )
        .unwrap();
        assert_eq!(group.killed_at(), None);
        // a group above it was full
        fs::write(folder.join("memory.events"), "low 0\nmax 0\noom 0\noom_kill 2\n").unwrap();
        assert_eq!(group.killed_at(), None);
        fs::write(folder.join("memory.events"), "low 0\nmax 9\noom 1\noom_kill 2\n").unwrap();
        assert_eq!(group.killed_at(), Some(8 << 30));
        fs::write(folder.join("memory.peak"), "8589930000\n").unwrap();
        assert_eq!(group.killed_at(), Some(8_589_930_000));
        group.limit(None).unwrap();
        assert_eq!(read(&folder, "memory.max"), "max");
    }

    #[test]
    fn a_group_is_removed_once_what_it_kills_is_dead() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("phalanx-1-1");
        fs::create_dir(&folder).unwrap();
        let kill = folder.join("cgroup.kill");
        let group = Cgroup {
            folder: folder.clone(),
        };
        // as the system does: what is in it is dead some time after it was told to kill it
        let system = thread::spawn(move || {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while fs::read_to_string(&kill).unwrap_or_default() != "1" {
                assert!(std::time::Instant::now() < deadline, "nothing is killed");
                thread::yield_now();
            }
            fs::remove_file(&kill).unwrap();
        });
        group.end();
        system.join().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn groups_that_were_left_behind_are_swept_if_they_are_empty() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), "memory").unwrap();
        for name in ["phalanx-1-1", "phalanx-2-1", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        // what the system refuses to remove
        fs::write(root.path().join("phalanx-2-1/cgroup.procs"), "5").unwrap();
        Cgroups::find_under(root.path(), "0::/").unwrap();
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there("phalanx-1-1") && is_there("phalanx-2-1") && is_there("other"));
    }
}
