//! A cluster in a folder of its own, started by `phalanx up` and stopped by its process id, also when a test fails.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{DEADLINE, Done, driver, fixture, lines, phalanx, plain, run};

/// A cluster with two workers.
pub(crate) struct Up {
    folder: TempDir,
    child: Child,
    /// What it said when it was up.
    pub(crate) document: serde_json::Value,
    stderr: Receiver<String>,
}

impl Up {
    /// Starts a cluster with two workers of one cpu each.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// The same in a folder that may hold a cluster already.
    pub(crate) fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    /// With two schedulers.
    pub(crate) fn start_with_standby() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &["--schedulers", "2"])
    }

    /// With one worker of four cpus, however many the machine has.
    pub(crate) fn start_wide() -> Self {
        Self::start_as(tempfile::tempdir().unwrap(), &["--workers", "1", "--cpus", "4"])
    }

    /// With one worker that has room for many small jobs at a time, and gpus that only its word is.
    pub(crate) fn start_roomy() -> Self {
        let arguments = [
            "--workers",
            "1",
            "--cpus",
            "16",
            "--memory",
            "16G",
            "--gpus",
            "a100:2,v100:2",
        ];
        Self::start_as(tempfile::tempdir().unwrap(), &arguments)
    }

    /// With workers that offer what these words say.
    pub(crate) fn start_equipped(arguments: &[&str]) -> Self {
        Self::start_as(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        let usual = ["--workers", "2", "--cpus", "1"];
        Self::start_as(folder, &[&usual, arguments].concat())
    }

    /// In a process that a shell has made ready by that line.
    pub(crate) fn start_after(line: &str, arguments: &[&str]) -> Self {
        let phalanx = phalanx();
        let mut shell = plain(Command::new("sh"));
        shell
            .args(["-c", &format!("{line} && exec \"$0\" \"$@\"")])
            .arg(phalanx.get_program());
        Self::start_by(shell, tempfile::tempdir().unwrap(), arguments)
    }

    fn start_as(folder: TempDir, arguments: &[&str]) -> Self {
        Self::start_by(phalanx(), folder, arguments)
    }

    fn start_by(mut command: Command, folder: TempDir, arguments: &[&str]) -> Self {
        command
            .args(["--output", "json", "up"])
            .args(arguments)
            .env("PHALANX_CLUSTER", folder.path().join("lab"))
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let first = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        let mut up = Self {
            folder,
            child,
            document: serde_json::Value::Null,
            stderr,
        };
        // if this fails, `up` is dropped, and stops what was started
        let line = first.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            panic!(
                "the cluster did not come up: {:?}",
                up.stderr.try_iter().collect::<Vec<_>>()
            );
        });
        up.document = serde_json::from_str::<serde_json::Value>(&line).unwrap()["up"].take();
        up
    }

    /// The cluster directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().join("lab")
    }

    /// A file in the test's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command that talks to this cluster.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = phalanx();
        command.env("PHALANX_CLUSTER", self.directory());
        for word in line.split_whitespace() {
            match word {
                "PROGRAM" => command.arg(fixture()),
                _ => command.arg(word),
            };
        }
        command
    }

    /// Runs a command to its end; `PROGRAM` stands for the kernel program.
    pub(crate) fn run(&self, line: &str) -> Done {
        run(self.command(line))
    }

    /// Submits a job by the command and returns its id.
    pub(crate) fn submit(&self, line: &str) -> String {
        let done = self.run(&format!("submit PROGRAM {line}"));
        let lines = done.lines();
        assert_eq!(lines.len(), 1, "{done:?}");
        lines[0].parse::<u64>().expect("an id");
        lines[0].to_owned()
    }

    /// Has the kernel program submit a job by itself.
    pub(crate) fn drive(&self) -> Done {
        let mut command = driver();
        command.env("PHALANX_CLUSTER", self.directory());
        run(command)
    }

    /// A job as JSON.
    pub(crate) fn job(&self, id: &str) -> serde_json::Value {
        self.run(&format!("--output json job {id}")).json()["job"].take()
    }

    /// Whether a job was submitted yet.
    pub(crate) fn job_is_there(&self, id: &str) -> bool {
        self.run(&format!("job {id}")).code == Some(0)
    }

    /// The process of `phalanx up`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of the workers, by their names.
    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        // the document has them by their numbers, which begin anew now and then
        let mut workers = self.document["workers"].as_array().unwrap().clone();
        workers.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        workers.iter().map(|worker| pid(&worker["pid"])).collect()
    }

    /// The process of the scheduler that led when the cluster came up.
    pub(crate) fn scheduler_pid(&self) -> u32 {
        pid(&self.document["scheduler"]["pid"])
    }

    /// The processes of all schedulers.
    pub(crate) fn scheduler_pids(&self) -> Vec<u32> {
        let schedulers = self.document["schedulers"].as_array().unwrap();
        schedulers.iter().map(|one| pid(&one["pid"])).collect()
    }

    /// The processes whose cards say that they lead, with their terms; the highest term last.
    pub(crate) fn leaders(&self) -> Vec<(u64, u32)> {
        let cards = std::fs::read_dir(self.directory().join("storage/members")).unwrap();
        let texts = cards.filter_map(|card| std::fs::read_to_string(card.unwrap().path()).ok());
        let cards = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let mut leaders: Vec<(u64, u32)> = cards
            .filter_map(|card| Some((card["term"].as_u64()?, pid(&card["process"]["pid"]))))
            .collect();
        leaders.sort_unstable();
        leaders
    }

    /// Waits until `phalanx up` says something with these words in it.
    pub(crate) fn hears(&self, words: &str) {
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|line: &String| line.contains(words)) {
            let line = self.stderr.recv_timeout(DEADLINE);
            heard.push(line.unwrap_or_else(|_| panic!("`{words}` was not said: {heard:#?}")));
        }
    }

    /// Stops the cluster by a SIGTERM and returns its exit code and folder.
    pub(crate) fn stop(mut self) -> (Option<i32>, TempDir) {
        crate::command::send(self.pid(), Signal::TERM);
        let code = self.child.wait().unwrap().code();
        let empty = tempfile::tempdir().unwrap();
        (code, std::mem::replace(&mut self.folder, empty))
    }

    /// Waits for its end by itself.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Up {
    /// Whether a process is one that names `phalanx up` as its parent: the number of one that has ended may be another's.
    fn is_member(&self, pid: u32) -> bool {
        let mark = format!("--with-parent\0{}\0", self.child.id());
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.contains(&mark)
    }

    /// Ends what a broken `phalanx up` has left behind, and nothing else.
    fn kill_members(&self) {
        if !self.document.is_object() {
            return;
        }
        for pid in self.worker_pids().into_iter().chain(self.scheduler_pids()) {
            if self.is_member(pid)
                && let Some(pid) = Pid::from_raw(i32::try_from(pid).unwrap_or(0))
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn pid(value: &serde_json::Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

impl Drop for Up {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        // it limits the time for that itself
        let _ = self.child.wait();
        if thread::panicking() {
            let left = self.stderr.try_iter().collect::<Vec<_>>();
            eprintln!("`phalanx up` said: {left:#?}");
            self.kill_members();
        } else if self.document.is_object() {
            for pid in self.worker_pids().into_iter().chain(self.scheduler_pids()) {
                crate::command::eventually("nothing is left running", || !self.is_member(pid));
            }
        }
    }
}
