//! Memory limits that the system keeps: a cluster in a control group that was delegated to it. Where none can be, as
//! without root or with version 1, these tests say so and see nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::command::{eventually, run, send};
use crate::up::Up;

/// A control group whose children may limit memory, with one for a cluster's processes in it; removed at the end.
struct Delegated(PathBuf);

impl Delegated {
    /// Makes one of that name in this process's own group or the one above; `None` where that cannot be.
    fn make(name: &str) -> Option<Self> {
        let made = Self::try_make(name);
        if made.is_none() {
            eprintln!("skipped: no control group (version 2) that limits memory can be made here");
        }
        made
    }

    fn try_make(name: &str) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = Path::new("/sys/fs/cgroup").join(path);
        let above = own.parent().filter(|_| !path.is_empty()).map(Path::to_owned);
        [Some(own), above].into_iter().flatten().find_map(|place| {
            let controllers = fs::read_to_string(place.join("cgroup.subtree_control")).ok()?;
            controllers.split_whitespace().find(|&name| name == "memory")?;
            let folder = place.join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let made = Self(folder);
            fs::write(made.0.join("cgroup.subtree_control"), "+memory").ok()?;
            fs::create_dir(made.processes()).ok()?;
            made.admits_processes().then_some(made)
        })
    }

    fn processes(&self) -> PathBuf {
        self.0.join("cluster")
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

    /// The groups of kernel hosts.
    fn hosts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let is_host = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("phalanx-")
        };
        entries.filter(is_host).collect()
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
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for group in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let _ = fs::remove_dir(group);
        }
        let _ = fs::remove_dir(&self.0);
    }
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
