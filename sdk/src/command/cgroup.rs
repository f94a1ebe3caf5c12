//! Memory limits of tasks that the system keeps: a control group (version 2) for each task that has one, beside the leaf in
//! which this process lives. The worker has made room for them if it could; without that, [`super::memory`] has to do.
//!
//! A task's process enters its group before its program begins, so that nothing is used outside. Everything here is files.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use phalanx_protocol::message::host::HOST_CGROUP;

/// How often and at what interval a group is removed whose processes are dying: the system keeps it until they are dead.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// Where groups lie.
const ROOT: &str = "/sys/fs/cgroup";

/// Where the groups of tasks are made.
#[derive(Debug)]
pub(super) struct Cgroups {
    folder: PathBuf,
    /// Done when it was said that one could not be made.
    complaint: Once,
}

impl Cgroups {
    /// The place that the worker has made for those of this process, if any.
    pub(super) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::find_under(Path::new(ROOT), &own)
    }

    /// Looks under `root`; `own` is what the system says of this process's groups.
    fn find_under(root: &Path, own: &str) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let folder = root.join(Path::new(path).parent()?);
        let is_leaf = Path::new(path).file_name()? == HOST_CGROUP;
        let controllers = fs::read_to_string(folder.join("cgroup.subtree_control")).ok()?;
        let limits_memory = controllers.split_ascii_whitespace().any(|name| name == "memory");
        (is_leaf && limits_memory).then(|| Self::at(folder))
    }

    pub(super) fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            complaint: Once::new(),
        }
    }

    /// A new group whose processes may use so many bytes together; `None` if the system refuses it.
    pub(super) fn task(&self, name: &str, bytes: u64) -> Option<Cgroup> {
        match Cgroup::make(self.folder.join(name), bytes) {
            Ok(group) => Some(group),
            Err(error) => {
                self.complaint.call_once(|| {
                    tracing::warn!(%error, "tasks have no control groups: their memory is only watched");
                });
                None
            }
        }
    }
}

/// A task's group. Dropping it kills what is left in it and removes it, which blocks for half a second at most.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    fn make(folder: PathBuf, bytes: u64) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let group = Self { folder };
        group.write("memory.max", &bytes.to_string())?;
        // systems without swap do not have the file
        if group.folder.join("memory.swap.max").exists() {
            group.write("memory.swap.max", "0")?;
        }
        // a task that has lost one of its processes is over
        group.write("memory.oom.group", "1")?;
        Ok(group)
    }

    /// Has a command's process enter it before its program begins.
    ///
    /// # Errors
    /// The system does not let it.
    pub(super) fn enter(&self, command: &mut Command) -> io::Result<()> {
        let members = File::create(self.folder.join("cgroup.procs"))?;
        enter(command, members.into());
        Ok(())
    }

    /// What it used at most, if the system has killed it for that: not if a group above or the whole node was full.
    pub(super) fn killed_at(&self) -> Option<u64> {
        let events = fs::read_to_string(self.folder.join("memory.events")).ok()?;
        // a kill counts here whoever was full, being full only where it was so
        let has_been = |event: &str| {
            let counts = events.lines().filter_map(|line| line.split_once(' '));
            let mut counts = counts.filter(|&(name, _)| name == event);
            counts.any(|(_, count)| count.trim() != "0")
        };
        if !has_been("oom") || !has_been("oom_kill") {
            return None;
        }
        // else the limit
        self.peak().or_else(|| self.number("memory.max"))
    }

    /// The most that it has used at a time, in bytes; older systems do not keep it.
    pub(super) fn peak(&self) -> Option<u64> {
        self.number("memory.peak")
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse().ok()
    }

    /// Kills all that is in it, also what has left its task's process group.
    pub(super) fn kill(&self) {
        // systems before Linux 5.14 cannot do that
        let _ = self.write("cgroup.kill", "1");
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), text)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for tries in 1..=REMOVAL_TRIES {
            match remove(&self.folder) {
                Ok(()) => return,
                // the worker removes it with its host's
                Err(error) if tries == REMOVAL_TRIES => {
                    tracing::debug!(%error, group = %self.folder.display(), "a control group stays behind");
                }
                Err(_) => {
                    self.kill();
                    thread::sleep(REMOVAL_PAUSE);
                }
            }
        }
    }
}

/// Removes a group, and those that its task has made in it.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[expect(
    unsafe_code,
    reason = "only the process itself can be in its group before its program begins"
)]
fn enter(command: &mut Command, members: OwnedFd) {
    let enter = move || {
        // whoever writes this is meant
        rustix::io::write(&members, b"0")?;
        Ok(())
    };
    // SAFETY: between fork and exec only a system call is made: no memory is allocated, no lock is taken.
    unsafe {
        command.pre_exec(enter);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Instant;

    use phalanx_protocol::Term;
    use phalanx_protocol::id::GrantId;

    use super::super::orphans::Running;
    use super::super::process::{self, Ending, Limits, Order};
    use super::super::program::Program;
    use super::super::rlimits;
    use super::super::wake::Wake;
    use super::*;
    use crate::context::TaskContext;

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    /// Removes the files of a group like the system, which has them go with it.
    fn empty(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn groups_are_made_beside_the_leaf_of_a_host_of_commands_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("service/phalanx-1-2-3");
        fs::create_dir_all(&place).unwrap();
        let find = |own: &str| Cgroups::find_under(root.path(), own).map(|found| found.folder);
        let own = "1:name=systemd:/x\n0::/service/phalanx-1-2-3/host\n";
        assert_eq!(find(own), None);
        fs::write(place.join("cgroup.subtree_control"), "pids\n").unwrap();
        assert_eq!(find(own), None);
        fs::write(place.join("cgroup.subtree_control"), "memory pids\n").unwrap();
        assert_eq!(find(own), Some(place));
        // whoever lives there is not a worker's host
        assert_eq!(find("0::/service/phalanx-1-2-3/worker\n"), None);
        assert_eq!(find("0::/\n"), None);
        assert_eq!(find("4:memory:/service/phalanx-1-2-3/host\n"), None);
    }

    #[test]
    fn a_command_is_in_its_limited_group_when_its_program_begins() {
        let root = tempfile::tempdir().unwrap();
        let group = Cgroups::at(root.path().into()).task("task-7", 64 << 20).unwrap();
        let folder = group.folder.clone();
        assert_eq!(read(&folder, "memory.max"), "67108864");
        assert_eq!(read(&folder, "memory.oom.group"), "1");
        assert!(
            !folder.join("memory.swap.max").exists(),
            "this system has no swap"
        );
        let mut command = Command::new("cat");
        group.enter(&mut command).unwrap();
        command.arg(folder.join("cgroup.procs")).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.stdout, b"0");
        empty(&folder);
        drop(group);
        assert!(!folder.exists());
    }

    #[test]
    fn the_system_has_ended_a_task_only_if_its_own_group_was_full() {
        let root = tempfile::tempdir().unwrap();
        let group = Cgroups::at(root.path().into()).task("task-7", 64 << 20).unwrap();
        let folder = group.folder.clone();
        let events = |text: &str| fs::write(folder.join("memory.events"), text).unwrap();
        assert_eq!(group.killed_at(), None);
        events("low 0\nmax 9\noom 1\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(group.killed_at(), None);
        // a group above it was full
        events("low 0\nmax 0\noom 0\noom_kill 2\noom_group_kill 1\n");
        assert_eq!(group.killed_at(), None);
        events("low 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n");
        assert_eq!(group.killed_at(), Some(64 << 20));
        fs::write(folder.join("memory.peak"), "67100000\n").unwrap();
        assert_eq!(group.killed_at(), Some(67_100_000));
        empty(&folder);
    }

    #[test]
    fn a_group_goes_once_what_is_left_in_it_was_killed() {
        let root = tempfile::tempdir().unwrap();
        let group = Cgroups::at(root.path().into()).task("task-7", 1).unwrap();
        let folder = group.folder.clone();
        // as containers do
        fs::create_dir(folder.join("inner")).unwrap();
        let system = thread::spawn({
            let folder = folder.clone();
            move || {
                let deadline = Instant::now() + Duration::from_secs(60);
                while folder.exists() {
                    assert!(Instant::now() < deadline, "nothing is killed");
                    if folder.join("cgroup.kill").exists() {
                        for file in ["memory.max", "memory.oom.group", "cgroup.kill"] {
                            let _ = fs::remove_file(folder.join(file));
                        }
                    }
                    thread::yield_now();
                }
            }
        });
        drop(group);
        // one that goes does not wait for a system that is slow
        while folder.exists() && !system.is_finished() {
            let folder = folder.clone();
            drop(Cgroup { folder });
        }
        assert!(!folder.exists());
        system.join().unwrap();
    }

    #[test]
    fn a_command_that_the_system_ends_in_its_group_was_over_its_memory() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::at(root.path().into());
        let (running, rlimits) = (Running::new().unwrap(), rlimits::Changes::to(&[]));
        let (wake, context) = (Wake::new().unwrap(), TaskContext::standalone(7));
        let grant = GrantId {
            term: Term(1),
            number: 5,
        };
        let order = |memory: Option<u64>| Order {
            limits: Limits {
                memory,
                ..Limits::default()
            },
            rlimits: &rlimits,
            cgroups: Some(&cgroups),
            wake: &wake,
            running: &running,
            task: 7,
            ranks: None,
            grant,
            context: &context,
        };
        let folder = root.path().join(format!("task-7-{grant}"));
        let run = |script: &str, order: &Order<'_>| {
            let mut program = Program::new("/bin/sh", root.path());
            program.env("GROUP", &folder);
            program.arg("-c");
            program.arg(script);
            process::run(&program, order).unwrap().0
        };
        // a group of plain files stays when it is to go
        let end = |events: &str, end: &str, memory| {
            let ended = run(&format!("{events}; {end}"), &order(memory));
            fs::remove_dir_all(&folder).unwrap();
            ended
        };
        let full = "cd $GROUP; echo 4096 > memory.peak; echo oom 1 > memory.events; echo oom_kill 1 >> memory.events";
        let over = Ending::Memory(4096, 8192);
        assert_eq!(end(full, "kill -9 $$", Some(8192)), over);
        // its user has killed it
        assert_eq!(
            end("true > $GROUP/memory.events", "kill -9 $$", Some(8192)),
            Ending::Signal(9)
        );
        // it has come through
        assert_eq!(end(full, "exit 3", Some(8192)), Ending::Exit(3));
        // without a limit there is no group
        let ended = run("exit 4", &order(None));
        assert_eq!((ended, folder.exists()), (Ending::Exit(4), false));
    }

    #[test]
    fn a_group_that_the_system_refuses_is_done_without() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::at(root.path().join("nowhere"));
        assert!(cgroups.task("task-7", 1).is_none());
    }
}
