//! Memory limits that the system enforces: a control group (version 2) for each kernel host, where this worker was given a
//! place to make some. A host of commands has a group of groups, with a leaf for itself, since each of its tasks may get one
//! from it (`command/cgroup.rs` in the sdk): a group whose children limit memory may have no process itself.
//!
//! The place is this process's own group or the one above, if it lets its children limit memory and we may write there: as
//! an administrator or a batch system sets it up for a service, or this program itself where its group was delegated to it
//! ([`leaf`]). Without one, [`super::memory`] has to do. Everything here is files; what cannot be written is told once and
//! done without.

pub(crate) mod leaf;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use phalanx_protocol::message::host::HOST_CGROUP;
use phalanx_storage::members::start_time;

/// How the names of our groups begin: then come the worker's process, when that was started, and a number.
const PREFIX: &str = "phalanx-";
/// How often and at what interval a group is removed whose processes are dying: the system keeps it until they are dead.
const REMOVAL_TRIES: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// Where groups lie.
const ROOT: &str = "/sys/fs/cgroup";

/// How many groups this process has made: several workers may live in it.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A place for control groups.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    folder: PathBuf,
    /// When this process was started, in ticks of the system's clock.
    started: u64,
}

/// Who lives in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenant {
    /// A host of kernels, which runs all of its tasks itself.
    Kernels,
    /// A host of commands, which may want groups for them.
    Commands,
}

impl Cgroups {
    /// The place that this process was given, if any.
    pub(crate) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::find_under(Path::new(ROOT), &own)
    }

    /// Looks under `root`; `own` is what the system says of this process's groups.
    fn find_under(root: &Path, own: &str) -> Option<Self> {
        let found = place(root, own_group(own)?)?;
        sweep(&found);
        let started = start_time(std::process::id())?;
        Some(Self {
            folder: found,
            started,
        })
    }

    /// A group for a host, with its process in it.
    pub(super) fn host(&self, tenant: Tenant, process: u32) -> io::Result<Cgroup> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{}-{number}", std::process::id(), self.started);
        let folder = self.folder.join(name);
        fs::create_dir(&folder)?;
        let group = Cgroup { folder };
        let members = match tenant {
            Tenant::Kernels => {
                // a host that has lost one of its processes is of no use
                group.write("memory.oom.group", "1")?;
                "cgroup.procs".to_owned()
            }
            // what ends one of its tasks must not end the others
            Tenant::Commands => {
                group.write("cgroup.subtree_control", "+memory")?;
                fs::create_dir(group.folder.join(HOST_CGROUP))?;
                format!("{HOST_CGROUP}/cgroup.procs")
            }
        };
        group.write(&members, &process.to_string())?;
        Ok(group)
    }
}

/// The path of this process's group of version 2 below the root, from what the system says of all its groups.
fn own_group(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// Where a process whose group has that path may make groups that limit memory: there or above.
fn place(root: &Path, path: &str) -> Option<PathBuf> {
    let own = root.join(path);
    let above = own.parent().filter(|_| !path.is_empty()).map(Path::to_owned);
    let mut places = [Some(own), above].into_iter().flatten();
    places.find(|folder| is_ours(folder))
}

/// Whether children of a group may limit memory, and we may make some.
fn is_ours(folder: &Path) -> bool {
    has_memory(&folder.join("cgroup.subtree_control"))
        && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Whether a file that lists controllers names that of memory.
fn has_memory(file: &Path) -> bool {
    let controllers = fs::read_to_string(file).unwrap_or_default();
    controllers.split_ascii_whitespace().any(|name| name == "memory")
}

/// Removes groups of workers that are gone, unless a process is left in them. Those of a worker that lives may be so new
/// that theirs is still to come.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_left = is_left_behind(&entry.file_name().to_string_lossy());
        let events = || fs::read_to_string(entry.path().join("cgroup.events")).unwrap_or_default();
        if is_left && !events().lines().any(|line| line == "populated 1") {
            let _ = remove(&entry.path());
        }
    }
}

/// Whether a group of that name is one of a worker that is gone.
fn is_left_behind(name: &str) -> bool {
    let maker = || {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    maker().is_some_and(|(process, started): (u32, u64)| start_time(process) != Some(started))
}

/// Removes a group and those in it, which the system refuses if one of them has a process.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// A host's group. [`Self::end`] removes it; dropping it does if it is empty.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Limits the memory of all that is in it, none of which is swapped out then; `None`: as much as there is.
    pub(super) fn limit(&self, bytes: Option<u64>) -> io::Result<()> {
        // systems without swap do not have the file
        if self.folder.join("memory.swap.max").exists() {
            self.write("memory.swap.max", bytes.map_or("max", |_| "0"))?;
        }
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
            if remove(&self.folder).is_ok() {
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
        if let Err(error) = remove(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, group = %self.folder.display(), "a control group stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path) -> Cgroups {
        Cgroups {
            folder: folder.to_owned(),
            started: 7,
        }
    }

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
        let group = place(root.path()).host(Tenant::Kernels, 4711).unwrap();
        let folder = group.folder.clone();
        assert_eq!(read(&folder, "cgroup.procs"), "4711");
        assert_eq!(read(&folder, "memory.oom.group"), "1");
        group.limit(Some(8 << 30)).unwrap();
        assert_eq!(read(&folder, "memory.max"), "8589934592");
        assert!(!folder.join("memory.swap.max").exists());
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
        fs::write(folder.join("memory.swap.max"), "max\n").unwrap();
        group.limit(Some(4 << 30)).unwrap();
        assert_eq!(read(&folder, "memory.swap.max"), "0");
        group.limit(None).unwrap();
        let limits = ["memory.max", "memory.swap.max"].map(|file| read(&folder, file));
        assert_eq!(limits, ["max", "max"]);
    }

    #[test]
    fn a_host_of_commands_lives_in_a_leaf_of_a_group_that_has_room_for_more() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = place(root.path());
        let group = cgroups.host(Tenant::Commands, 4711).unwrap();
        let folder = group.folder.clone();
        assert_eq!(read(&folder, "cgroup.subtree_control"), "+memory");
        assert_eq!(read(&folder, "host/cgroup.procs"), "4711");
        // the system would refuse one, and end all tasks with one of them
        assert!(!folder.join("cgroup.procs").exists() && !folder.join("memory.oom.group").exists());
        let next = cgroups.host(Tenant::Commands, 4712).unwrap();
        assert_ne!(next.folder, folder);
    }

    #[test]
    fn a_group_is_removed_once_what_it_kills_is_dead() {
        let root = tempfile::tempdir().unwrap();
        let is_removed = |number: u32| {
            let folder = root.path().join(format!("phalanx-1-{number}"));
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
                thread::sleep(3 * REMOVAL_PAUSE);
                fs::remove_file(&kill).unwrap();
            });
            group.end();
            system.join().unwrap();
            !folder.exists()
        };
        // the system of a busy machine may take longer than the second that is waited for it
        assert!((1..20).any(is_removed));
    }

    #[test]
    fn groups_that_were_left_behind_are_swept_if_they_are_empty() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), "memory").unwrap();
        // no process has the number 0
        for name in [
            "phalanx-0-1-1",
            "phalanx-0-1-2/host",
            "phalanx-0-1-2/task-1",
            "other",
        ] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        fs::create_dir_all(root.path().join("phalanx-0-1-3/host")).unwrap();
        fs::write(
            root.path().join("phalanx-0-1-3/cgroup.events"),
            "populated 1\nfrozen 0\n",
        )
        .unwrap();
        Cgroups::find_under(root.path(), "0::/").unwrap();
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there("phalanx-0-1-1") && !is_there("phalanx-0-1-2"));
        assert!(is_there("phalanx-0-1-3/host") && is_there("other"));
    }

    #[test]
    fn a_worker_that_lives_keeps_its_new_groups_when_another_starts() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), "memory").unwrap();
        let (process, started) = (std::process::id(), start_time(std::process::id()).unwrap());
        let own = root.path().join(format!("phalanx-{process}-{started}-5"));
        // of one that had the number before
        let before = root.path().join(format!("phalanx-{process}-{}-5", started - 1));
        for group in [&own, &before] {
            fs::create_dir(group).unwrap();
        }
        Cgroups::find_under(root.path(), "0::/").unwrap();
        assert!(own.exists() && !before.exists());
    }
}
