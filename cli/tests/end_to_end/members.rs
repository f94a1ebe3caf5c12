//! A cluster of processes that this test starts itself, and that nobody starts again: who is killed stays dead.
//!
//! [`crate::up::Up`] is for what people see; this is for what becomes of work whose worker does not come back.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command};
use std::thread;

use tempfile::TempDir;

use crate::command::{Done, fixture, phalanx, run};

/// How the scheduler is started, but for further options.
const SCHEDULER: [&str; 5] = ["scheduler", "--listen", "127.0.0.1:0", "--name", "s1"];

/// One scheduler and some workers, each a child of this process.
pub(crate) struct Members {
    folder: TempDir,
    /// How the scheduler is started.
    options: Vec<String>,
    scheduler: Child,
    workers: Vec<Child>,
}

impl Members {
    /// Starts that many workers, called w1, w2, .., of that many cpus each, and waits until they have joined.
    pub(crate) fn start(workers: usize, cpus: u32) -> Self {
        Self::start_with(workers, cpus, &[], &[])
    }

    /// The same with further options of the scheduler and of each worker.
    pub(crate) fn start_with(
        workers: usize,
        cpus: u32,
        scheduler_options: &[&str],
        worker_options: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut init = phalanx();
        init.arg("init").arg(folder.path().join("lab"));
        assert_eq!(run(init).code, Some(0));
        let options = [&SCHEDULER, scheduler_options].concat();
        let scheduler = start(folder.path(), "s1", &options);
        // whoever does not start must not leave the others behind
        let mut members = Self {
            folder,
            options: options.into_iter().map(str::to_owned).collect(),
            scheduler,
            workers: Vec::new(),
        };
        is_ready("s1", members.scheduler.stdout.take());
        for number in 1..=workers {
            let name = format!("w{number}");
            let cache = members.folder.path().join(&name).display().to_string();
            let words = [
                "worker",
                "--name",
                &name,
                "--cpus",
                &cpus.to_string(),
                "--cache",
                &cache,
            ];
            let mut child = start(members.folder.path(), &name, &[&words, worker_options].concat());
            let stdout = child.stdout.take();
            members.workers.push(child);
            is_ready(&name, stdout);
        }
        members
    }

    /// Kills the scheduler and waits until it is gone.
    pub(crate) fn kill_scheduler(&mut self) {
        self.scheduler.kill().unwrap();
        self.scheduler.wait().unwrap();
    }

    /// Starts the scheduler again, on another port.
    pub(crate) fn start_scheduler(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.scheduler = start(self.folder.path(), "s1", &options);
        is_ready("s1", self.scheduler.stdout.take());
    }

    /// The processes of the workers, w1 first.
    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        self.workers.iter().map(Child::id).collect()
    }

    /// The process of the scheduler.
    pub(crate) fn scheduler_pid(&self) -> u32 {
        self.scheduler.id()
    }

    /// A file in the test's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command that talks to this cluster; `PROGRAM` stands for the kernel program.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = phalanx();
        command.env("PHALANX_CLUSTER", self.folder.path().join("lab"));
        for word in line.split_whitespace() {
            match word {
                "PROGRAM" => command.arg(fixture()),
                _ => command.arg(word),
            };
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &str) -> Done {
        run(self.command(line))
    }

    /// Submits a job of a kernel, which is told where to leave its traces and how many milliseconds to take.
    pub(crate) fn submit_traced(&self, line: &str, traces: &Path, millis: u64) -> String {
        let mut command = self.command(&format!("submit PROGRAM {line} --parameters"));
        command.arg(serde_json::to_string(&(traces, millis)).unwrap());
        run(command).lines()[0].to_owned()
    }

    /// A job as JSON.
    pub(crate) fn job(&self, id: &str) -> serde_json::Value {
        self.run(&format!("--output json job {id}")).json()["job"].take()
    }

    /// Whether a process, s1 or w1, w2, .., has logged these words.
    pub(crate) fn has_logged(&self, name: &str, words: &str) -> bool {
        let log = self.folder.path().join(format!("{name}.log"));
        std::fs::read_to_string(log).is_ok_and(|text| text.contains(words))
    }

    /// How many workers the scheduler knows.
    pub(crate) fn worker_count(&self) -> usize {
        let workers = self.run("--output json workers").json();
        workers["workers"].as_array().unwrap().len()
    }
}

/// Waits until a process says that it is ready.
fn is_ready(name: &str, stdout: Option<ChildStdout>) {
    let mut line = String::new();
    BufReader::new(stdout.unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{name} did not start");
}

fn start(folder: &Path, name: &str, words: &[&str]) -> Child {
    let log = File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = phalanx();
    command
        .args(["--output", "json"])
        .args(words)
        .args(["--with-parent", &std::process::id().to_string()])
        .env("PHALANX_CLUSTER", folder.join("lab"))
        .stderr(log);
    command.spawn().unwrap()
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.scheduler]) {
            // one that has ended already needs no end
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                if entry.path().extension().is_some_and(|kind| kind == "log") {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    eprintln!("{}:\n{text}", entry.path().display());
                }
            }
        }
    }
}
