//! Memory limits that the system keeps: a cluster in a control group that was delegated to it. Where none can be, as
//! without root or with version 1, these tests say so and see nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::command::{eventually, finish, phalanx, plain, run, send};
use crate::up::Up;

/// A control group for a cluster; removed at the end.
struct Delegated {
    folder: PathBuf,
    state: State,
}

/// How far whoever made a group has made it ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its children may limit memory, and one of them is for the cluster's processes.
    Ready,
    /// The cluster's processes are put into the group itself, as systemd does.
    Bare,
}

impl Delegated {
    /// Makes one of that name in this process's own group or the one above; `None` where that cannot be.
    fn make(name: &str) -> Option<Self> {
        Self::make_as(State::Ready, name)
    }

    fn make_as(state: State, name: &str) -> Option<Self> {
        let made = Self::try_make(state, name);
        if made.is_none() {
            eprintln!("skipped: no control group (version 2) that limits memory can be made here");
        }
        made
    }

    fn try_make(state: State, name: &str) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = Path::new("/sys/fs/cgroup").join(path);
        let above = own.parent().filter(|_| !path.is_empty()).map(Path::to_owned);
        [Some(own), above].into_iter().flatten().find_map(|place| {
            let controllers = fs::read_to_string(place.join("cgroup.subtree_control")).ok()?;
            controllers.split_whitespace().find(|&name| name == "memory")?;
            let folder = place.join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let made = Self { folder, state };
            match state {
                State::Ready => {
                    fs::write(made.folder.join("cgroup.subtree_control"), "+memory").ok()?;
                    fs::create_dir(made.processes()).ok()?;
                }
                // before Linux 5.7 a group keeps no such mark
                State::Bare => {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::setxattr(&made.folder, "user.delegate", b"1", flags).ok()?;
                }
            }
            made.admits_processes().then_some(made)
        })
    }

    fn processes(&self) -> PathBuf {
        match self.state {
            State::Ready => self.folder.join("cluster"),
            State::Bare => self.folder.clone(),
        }
    }

    /// A line of shell after which its process, and what it executes, is one of the cluster's.
    fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.processes().display())
    }

    fn admits_processes(&self) -> bool {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &self.join()]).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// The groups in it that the cluster has made.
    fn made(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let is_made = |path: &PathBuf| name(path).starts_with("phalanx-");
        entries
            .map(|entry| entry.unwrap().path())
            .filter(is_made)
            .collect()
    }

    /// Those in which processes of the cluster itself live.
    fn leaves(&self) -> Vec<PathBuf> {
        let is_leaf = |path: &PathBuf| name(path).ends_with("-leaf");
        self.made().into_iter().filter(is_leaf).collect()
    }

    /// The groups of kernel hosts.
    fn hosts(&self) -> Vec<PathBuf> {
        let is_host = |path: &PathBuf| !name(path).ends_with("-leaf");
        self.made().into_iter().filter(is_host).collect()
    }

    /// What lets its children limit something.
    fn control(&self) -> String {
        let text = fs::read_to_string(self.folder.join("cgroup.subtree_control"));
        text.unwrap().trim().to_owned()
    }

    /// The hosts' groups, and those of the commands that they run.
    fn groups(&self) -> Vec<PathBuf> {
        let mut groups = self.hosts();
        for host in self.hosts() {
            let entries = fs::read_dir(host).into_iter().flatten().flatten();
            let inner = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
            // that of the host's own process comes first
            let (own, tasks): (Vec<_>, Vec<_>) = inner.partition(|path| path.ends_with("host"));
            groups.extend(own.into_iter().chain(tasks));
        }
        groups
    }

    /// What a file of each group says, where it can be read.
    fn texts(&self, file: &str) -> Vec<String> {
        let files = self.groups().into_iter().map(|group| group.join(file));
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts.map(|text| text.trim().to_owned()).collect()
    }

    /// The memory limits in force.
    fn limits(&self) -> Vec<String> {
        self.texts("memory.max")
    }

    /// The processes in all groups, hosts first.
    fn members(&self) -> Vec<u32> {
        let texts = self.texts("cgroup.procs");
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // nothing is in there unless the test has failed, and then it may still be ending
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for group in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let _ = fs::remove_dir(group);
        }
        let remove = || fs::remove_dir(&self.folder).is_ok();
        match std::thread::panicking() {
            true => drop(remove()),
            false => eventually("what was killed is dead", remove),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn the_system_ends_a_kernel_over_its_memory_and_nothing_else() {
    let Some(delegated) = Delegated::make("over") else {
        return;
    };
    let up = Up::start_after(&delegated.join(), &["--workers", "1", "--cpus", "2"]);
    let slow = up.submit("--kernel slow --range 0..1 --parameters 60000 --cpus 2 --memory 32M");
    eventually("the limit is the system's", || {
        delegated.limits().contains(&(32 << 20).to_string())
    });
    assert_eq!(up.run(&format!("cancel {slow}")).code, Some(0));
    let folder = up.directory();
    let script = format!(
        "until [ -e {}/over ]; do sleep 0.02; done; echo lives",
        folder.display()
    );
    let mut bystander = up.command("submit --memory 64M");
    bystander.args(["--", "sh", "-c", &script]);
    let bystander = run(bystander).lines()[0].to_owned();
    // its result is of so many bytes
    let done = up.run("run PROGRAM --kernel big --range 1073741824..1073741825 --memory 64M --crash-limit 1");
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done
        .stderr
        .lines()
        .find(|line| line.contains(".0 out of memory: used "));
    assert!(line.is_some_and(|line| line.ends_with(" of 64 MiB")), "{done:?}");
    fs::write(folder.join("over"), "").unwrap();
    assert_eq!(up.run(&format!("wait {bystander}")).code, Some(0));
    assert_eq!(up.run(&format!("logs {bystander}")).lines(), ["lives"]);
    let (code, _folder) = up.stop();
    assert_eq!((code, delegated.hosts()), (Some(0), Vec::new()));
}

#[test]
fn the_system_ends_a_command_over_its_memory_and_neither_its_neighbour_nor_its_host() {
    let Some(delegated) = Delegated::make("command") else {
        return;
    };
    let up = Up::start_after(&delegated.join(), &["--workers", "1", "--cpus", "2"]);
    let folder = up.directory();
    // what left the process group is the task's as well, and it is over with one of its processes
    let script = format!(
        "if [ {{}} = 0 ]; then until [ -e {over} ]; do sleep 0.02; done; \
         setsid sh -c 'head -c 300M /dev/zero | tail' & wait; sleep 1000; \
         else until [ -e {end} ]; do sleep 0.02; done; cat /proc/self/cgroup; fi",
        over = folder.join("over").display(),
        end = folder.join("end").display(),
    );
    let mut command = up.command("submit --array 0-1 --memory 64M");
    command.args(["--", "sh", "-c", &script]);
    let job = run(command).lines()[0].to_owned();
    let limit = (64 << 20).to_string();
    let limited = || delegated.limits().into_iter().filter(|text| *text == limit);
    eventually("each has a group", || limited().count() == 2);
    let host = delegated.members()[0];
    fs::write(folder.join("over"), "").unwrap();
    eventually("the group of what was ended is gone", || limited().count() == 1);
    assert_eq!(delegated.members()[0], host);
    fs::write(folder.join("end"), "").unwrap();
    assert_eq!(up.run(&format!("wait {job}")).code, Some(1));
    let shown = up.run(&format!("job {job} --output json"));
    let is_told = shown.stdout.contains("\"memory\"") && shown.stdout.contains(" of 64 MiB\"");
    assert!(is_told, "{shown:?}");
    let logs = up.run(&format!("logs {job}"));
    assert!(logs.stdout.contains("/task-1-"), "{logs:?}");
    let (code, _folder) = up.stop();
    assert_eq!((code, delegated.groups()), (Some(0), Vec::new()));
}

#[test]
fn no_group_stays_behind_with_what_a_command_has_left_in_it() {
    let Some(delegated) = Delegated::make("left") else {
        return;
    };
    let up = Up::start_after(&delegated.join(), &["--workers", "1", "--cpus", "1"]);
    let leave = || {
        let mut command = up.command("submit --crash-limit 1");
        command.args(["--", "sh", "-c", "setsid sleep 1000 & exec sleep 1000"]);
        let job = run(command).lines()[0].to_owned();
        // the host, and both
        eventually("it has left something", || delegated.members().len() >= 3);
        job
    };
    let job = leave();
    let before = delegated.hosts();
    let host = delegated.members()[0];
    send(host, Signal::KILL);
    up.run(&format!("wait {job}"));
    eventually("the dead host's group is gone", || {
        before.iter().all(|group| !group.exists())
    });
    leave();
    let (code, _folder) = up.stop();
    assert_eq!((code, delegated.hosts()), (Some(0), Vec::new()));
}

#[test]
fn a_cluster_makes_room_for_limits_in_a_bare_group_that_is_its_own() {
    let Some(delegated) = Delegated::make_as(State::Bare, "bare") else {
        return;
    };
    let up = Up::start_after(&delegated.join(), &["--workers", "2", "--cpus", "1"]);
    let leaves = delegated.leaves();
    assert_eq!((leaves.len(), delegated.control()), (1, "memory".to_owned()));
    let members = fs::read_to_string(leaves[0].join("cgroup.procs")).unwrap();
    for pid in up.worker_pids().into_iter().chain([up.pid(), up.scheduler_pid()]) {
        assert!(members.lines().any(|line| line == pid.to_string()), "{members}");
    }
    // on both workers
    let mut command = up.command("submit --array 0-1 --memory 64M");
    command.args(["--", "sh", "-c", "cat /proc/self/cgroup; sleep 1000"]);
    let job = run(command).lines()[0].to_owned();
    eventually("each has a limit", || {
        let limits = delegated.limits().into_iter();
        limits.filter(|text| *text == (64 << 20).to_string()).count() == 2
    });
    assert_eq!(up.run(&format!("cancel {job}")).code, Some(0));
    let done = up.run("run PROGRAM --kernel big --range 1073741824..1073741825 --memory 64M --crash-limit 1");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(".0 out of memory: used "), "{done:?}");
    let (code, _folder) = up.stop();
    assert_eq!((code, delegated.made()), (Some(0), Vec::new()));
    assert_eq!(delegated.control(), "");
}

#[test]
fn a_worker_makes_room_for_limits_in_a_bare_group_that_is_its_own() {
    let Some(delegated) = Delegated::make_as(State::Bare, "worker") else {
        return;
    };
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "1"]);
    let phalanx = phalanx();
    let mut shell = plain(Command::new("sh"));
    shell
        .args(["-c", &format!("{} && exec \"$0\" \"$@\"", delegated.join())])
        .arg(phalanx.get_program())
        .args(["worker", "--name", "lone", "--cpus", "2", "--cache"])
        .arg(up.directory().with_file_name("cache"))
        .env("PHALANX_CLUSTER", up.directory());
    let worker = shell.spawn().unwrap();
    let mut command = up.command("submit --cpus 2 --memory 64M");
    command.args(["--", "cat", "/proc/self/cgroup"]);
    eventually("it has joined", || up.run("workers").stdout.contains("lone"));
    let job = run(command).lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {job}")).code, Some(0));
    let logs = up.run(&format!("logs {job}"));
    let is_limited = logs.stdout.contains(&name(&delegated.folder)) && logs.stdout.contains("/task-0-");
    assert!(is_limited, "{logs:?}");
    send(worker.id(), Signal::TERM);
    let ended = finish(worker);
    assert_eq!((ended.code, delegated.made()), (Some(0), Vec::new()), "{ended:?}");
    assert_eq!(delegated.control(), "");
}

#[test]
fn a_bare_group_that_others_live_in_is_left_as_it_is() {
    let Some(delegated) = Delegated::make_as(State::Bare, "shared") else {
        return;
    };
    let line = format!("{} && {{ sleep 1000 >&- 2>&- & }}", delegated.join());
    let up = Up::start_after(&line, &["--workers", "1", "--cpus", "1"]);
    let mut command = up.command("run --memory 64M");
    command.args(["--", "cat", "/proc/self/cgroup"]);
    let done = run(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        (delegated.made(), delegated.control()),
        (Vec::new(), String::new())
    );
    assert_eq!(up.stop().0, Some(0));
}
