//! The leaf: where a process lives whose control group was delegated to it, as by `Delegate=yes` in a unit of systemd. Nobody
//! has let the children of such a group limit memory, and the system refuses that as long as a process is in the group itself.
//! So the process makes a group below, moves there, and lets the children limit memory; then [`super::Cgroups`] finds the
//! place above its own group, also in the processes that it starts.
//!
//! Only a program that is nothing but a worker or a cluster may do that: one that has an embedded cluster is its user's, and
//! nobody else moves it. At its end the last process in a leaf undoes everything. Whatever fails leaves things as they were.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use phalanx_storage::members::start_time;
use rustix::fs::Access;

use super::{PREFIX, ROOT, has_memory, own_group, place, sweep};

/// How the name of a leaf ends, behind the process that made it and when that was started: [`sweep`] knows it by these.
const SUFFIX: &str = "-leaf";
/// What systemd writes on groups that it delegates.
const MARKS: [&str; 2] = ["trusted.delegate", "user.delegate"];
/// Is there if systemd manages the groups of this system.
const SYSTEMD: &str = "/run/systemd/system";

/// The leaf in which this process lives. Dropping it moves the process back and removes the leaf, unless another process
/// lives there too.
#[derive(Debug)]
pub struct CgroupLeaf {
    /// The group above.
    group: PathBuf,
    folder: PathBuf,
}

/// What is known of groups that this process may write.
#[derive(Debug, Clone, Copy)]
struct Signs {
    /// Somebody has given them to this user, or nobody manages the groups of this system. Root may write everywhere, also
    /// where systemd wants to be alone.
    is_writing_enough: bool,
    /// Whether one says itself that it is delegated.
    is_marked: fn(&Path) -> bool,
}

impl CgroupLeaf {
    /// Moves this process into a leaf if its control group is delegated to it and nobody else lives there. A group that does
    /// not say so itself is only taken if memory can be limited nowhere else. One that has been started in a leaf gets that;
    /// `None` if there is none.
    pub fn settle() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let is_root = rustix::process::geteuid().is_root();
        let signs = Signs {
            is_writing_enough: !is_root || !Path::new(SYSTEMD).exists(),
            is_marked,
        };
        Self::settle_under(Path::new(ROOT), &own, signs)
    }

    /// Looks under `root`; `own` is what the system says of this process's groups.
    fn settle_under(root: &Path, own: &str, signs: Signs) -> Option<Self> {
        let path = own_group(own)?;
        let group = root.join(path);
        let name = Path::new(path).file_name()?.to_str()?;
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let above = group.parent()?.to_owned();
            return Some(Self {
                group: above,
                folder: group,
            });
        }
        // what systemd has above is not ours even where we may write
        let is_delegated =
            (signs.is_marked)(&group) || (signs.is_writing_enough && place(root, path).is_none());
        let may_settle = is_delegated
            && is_writable(&group)
            && has_memory(&group.join("cgroup.controllers"))
            && members(&group) == [std::process::id()];
        if !may_settle {
            return None;
        }
        match Self::make(group) {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                tracing::warn!(%error, "the delegated control group is of no use: memory is only watched");
                None
            }
        }
    }

    fn make(group: PathBuf) -> io::Result<Self> {
        let process = std::process::id();
        let started = start_time(process).ok_or(io::ErrorKind::NotFound)?;
        let folder = group.join(format!("{PREFIX}{process}-{started}{SUFFIX}"));
        fs::create_dir(&folder)?;
        // dropped if something fails
        let leaf = Self { group, folder };
        fs::write(leaf.folder.join("cgroup.procs"), process.to_string())?;
        fs::write(leaf.group.join("cgroup.subtree_control"), "+memory")?;
        Ok(leaf)
    }

    fn leave(&self) -> io::Result<()> {
        sweep(&self.group);
        let groups = fs::read_dir(&self.group)?.flatten();
        let mut groups = groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // others would lose their limits
        if groups.all(|entry| entry.path() == self.folder) {
            // if it fails, so does what comes next
            let _ = fs::write(self.group.join("cgroup.subtree_control"), "-memory");
        }
        let process = std::process::id().to_string();
        fs::write(self.group.join("cgroup.procs"), process)?;
        fs::remove_dir(&self.folder)
    }
}

impl Drop for CgroupLeaf {
    fn drop(&mut self) {
        let own = std::process::id();
        // the last one does it
        if members(&self.folder).iter().any(|&process| process != own) {
            return;
        }
        if let Err(error) = self.leave() {
            tracing::debug!(%error, leaf = %self.folder.display(), "a control group stays behind");
        }
    }
}

/// The processes in a group.
fn members(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn is_writable(folder: &Path) -> bool {
    let files = ["cgroup.procs", "cgroup.subtree_control"].map(|file| folder.join(file));
    let mut needed = files.iter().map(PathBuf::as_path).chain([folder]);
    needed.all(|path| rustix::fs::access(path, Access::WRITE_OK).is_ok())
}

fn is_marked(folder: &Path) -> bool {
    MARKS.iter().any(|&name| {
        let mut value = [0; 1];
        let read = rustix::fs::getxattr(folder, name, &mut value);
        read == Ok(1) && &value == b"1"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of that name as the system shows it to its only process, which is this one.
    fn group(root: &Path, name: &str) -> PathBuf {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        write(&folder, "cgroup.controllers", "cpu memory pids\n");
        write(&folder, "cgroup.subtree_control", "\n");
        write(&folder, "cgroup.procs", &format!("{}\n", std::process::id()));
        folder
    }

    fn write(folder: &Path, file: &str, text: &str) {
        fs::write(folder.join(file), text).unwrap();
    }

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    const WRITABLE: Signs = Signs {
        is_writing_enough: true,
        is_marked: |_| false,
    };
    const UNMARKED: Signs = Signs {
        is_writing_enough: false,
        ..WRITABLE
    };
    const MARKED: Signs = Signs {
        is_marked: |folder| folder.ends_with("scope"),
        ..UNMARKED
    };

    fn settle(root: &Path, name: &str) -> Option<CgroupLeaf> {
        CgroupLeaf::settle_under(root, &format!("0::/{name}\n"), WRITABLE)
    }

    fn groups_in(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.path().is_dir()).count()
    }

    #[test]
    fn a_process_moves_below_its_delegated_group_and_back_at_its_end() {
        let root = tempfile::tempdir().unwrap();
        let group = group(root.path(), "scope");
        let leaf = settle(root.path(), "scope").unwrap();
        let own = std::process::id().to_string();
        assert_eq!(leaf.folder.parent(), Some(&*group));
        assert_eq!(read(&leaf.folder, "cgroup.procs"), own);
        assert_eq!(read(&group, "cgroup.subtree_control"), "+memory");
        let folder = leaf.folder.clone();
        // the system has files go with their group
        fs::remove_file(folder.join("cgroup.procs")).unwrap();
        write(&group, "cgroup.procs", "");
        // of a worker that was killed: no process has the number 0
        fs::create_dir(group.join("phalanx-0-1-1")).unwrap();
        drop(leaf);
        assert_eq!(groups_in(&group), 0);
        assert_eq!(read(&group, "cgroup.subtree_control"), "-memory");
        assert_eq!(read(&group, "cgroup.procs"), own);
    }

    #[test]
    fn a_group_that_is_not_plainly_its_own_is_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let changed = |file: &str, text: &str| {
            let group = group(root.path(), "scope");
            write(&group, file, text);
            let settled = settle(root.path(), "scope").is_some();
            let made = groups_in(&group);
            fs::remove_dir_all(group).unwrap();
            settled || made > 0
        };
        // somebody else lives there
        assert!(changed("cgroup.procs", &format!("{own}\n")));
        assert!(!changed("cgroup.procs", &format!("1\n{own}\n")));
        assert!(!changed("cgroup.controllers", "cpu pids\n"));
        // there is a place already
        assert!(!changed("cgroup.subtree_control", "memory\n"));
        let inner = group(root.path(), "service/inner");
        write(&root.path().join("service"), "cgroup.subtree_control", "memory\n");
        assert!(settle(root.path(), "service/inner").is_none());
        assert_eq!(groups_in(&inner), 0);
        // the root, another version, and one in which nothing may be written
        group(root.path(), "");
        assert!(settle(root.path(), "").is_none());
        group(root.path(), "scope");
        let older = CgroupLeaf::settle_under(root.path(), "4:memory:/scope\n", MARKED);
        assert!(older.is_none());
        let unmarked = CgroupLeaf::settle_under(root.path(), "0::/scope\n", UNMARKED);
        assert!(unmarked.is_none());
        assert!(settle(root.path(), "nowhere").is_none());
    }

    #[test]
    fn a_group_that_says_it_is_delegated_goes_before_a_place_above() {
        let root = tempfile::tempdir().unwrap();
        // the slice in which systemd has the scope, which its user may write
        let group = group(root.path(), "slice/scope");
        write(&root.path().join("slice"), "cgroup.subtree_control", "memory\n");
        let settle = |signs| CgroupLeaf::settle_under(root.path(), "0::/slice/scope\n", signs);
        assert!(settle(WRITABLE).is_none() && settle(UNMARKED).is_none());
        assert_eq!(groups_in(&group), 0);
        let leaf = settle(MARKED).unwrap();
        assert_eq!(leaf.folder.parent(), Some(&*group));
        // not if another lives there
        write(&group, "cgroup.procs", "1\n");
        assert!(settle(MARKED).is_none());
    }

    #[test]
    fn who_is_started_in_a_leaf_removes_it_only_as_the_last() {
        let root = tempfile::tempdir().unwrap();
        let group = group(root.path(), "scope");
        let name = "phalanx-4711-12-leaf";
        let folder = group.join(name);
        fs::create_dir(&folder).unwrap();
        write(&group, "cgroup.subtree_control", "memory\n");
        let join = || settle(root.path(), &format!("scope/{name}")).unwrap();
        write(&folder, "cgroup.procs", &format!("1\n{}\n", std::process::id()));
        drop(join());
        assert_eq!(read(&group, "cgroup.subtree_control"), "memory\n");
        let last = join();
        fs::remove_file(folder.join("cgroup.procs")).unwrap();
        drop(last);
        assert!(!folder.exists());
    }

    #[test]
    fn groups_of_others_keep_their_limits_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let group = group(root.path(), "scope");
        let leaf = settle(root.path(), "scope").unwrap();
        fs::create_dir(group.join("other")).unwrap();
        drop(leaf);
        assert_eq!(read(&group, "cgroup.subtree_control"), "+memory");
    }

    #[test]
    fn a_process_goes_back_from_a_leaf_that_is_of_no_use() {
        let root = tempfile::tempdir().unwrap();
        let group = group(root.path(), "scope");
        // a folder of its name takes no text, whoever writes
        fs::remove_file(group.join("cgroup.subtree_control")).unwrap();
        fs::create_dir(group.join("cgroup.subtree_control")).unwrap();
        assert!(CgroupLeaf::make(group.clone()).is_err());
        assert_eq!(read(&group, "cgroup.procs"), std::process::id().to_string());
    }
}
