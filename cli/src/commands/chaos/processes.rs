//! The processes of a cluster under test: started, killed, made to stand still, and started again; all of them ended
//! with their owner. A process is signalled only while it is ours to wait for, so that its id cannot be another's by then.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use phalanx_protocol::exit::ExitCode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::network::Network;
use super::schedule::Target;
use crate::process::LOG_VARIABLE;
use crate::ui::error::CliError;

/// How long a process may take until it says that it is ready.
const READY_MAX: Duration = Duration::from_secs(30);

/// What a cluster under test is made of.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// This binary.
    pub(super) program: PathBuf,
    /// The cluster directory.
    pub(super) cluster: PathBuf,
    /// Where logs and caches go.
    pub(super) folder: PathBuf,
    pub(super) schedulers: usize,
    pub(super) workers: usize,
}

/// All processes, schedulers first.
#[derive(Debug)]
pub(super) struct Processes {
    layout: Layout,
    network: Option<Network>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    target: Target,
    /// Where a scheduler listens, once that is known: it comes back at the same place.
    address: Option<String>,
    child: Option<Child>,
    is_still: bool,
    starts: u64,
}

impl Processes {
    /// Starts everything, schedulers first, and waits until all are ready.
    ///
    /// # Errors
    /// Says what does not start.
    pub(super) async fn start(layout: Layout, network: Option<Network>) -> Result<Self, CliError> {
        let schedulers = (0..layout.schedulers).map(Target::Scheduler);
        let targets = schedulers.chain((0..layout.workers).map(Target::Worker));
        let member = |target| Member {
            target,
            address: None,
            child: None,
            is_still: false,
            starts: 0,
        };
        let mut processes = Self {
            members: targets.map(member).collect(),
            layout,
            network,
        };
        for number in 0..processes.members.len() {
            processes.spawn(number)?;
            let line = processes.members[number].first_line().await?;
            if let Target::Scheduler(_) = processes.members[number].target {
                processes.members[number].address = address(&line);
            }
        }
        Ok(processes)
    }

    /// Where the schedulers listen.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.members
            .iter()
            .filter_map(|member| member.address.clone())
            .collect()
    }

    /// The namespaces that the processes live in, if they do.
    pub(super) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Kills a process; `false` if it was dead already.
    pub(super) async fn kill(&mut self, target: Target) -> bool {
        let member = self.member(target);
        let Some(mut child) = member.child.take() else {
            return false;
        };
        member.is_still = false;
        let is_alive = matches!(child.try_wait(), Ok(None));
        // fails only if it has ended by itself
        let _ = child.kill().await;
        is_alive
    }

    /// Starts a process that is dead, without waiting until it is ready, and lets one that stands still go on.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn restore(&mut self, target: Target) -> Result<(), CliError> {
        let number = self.number(target);
        let member = &mut self.members[number];
        if member.is_still {
            member.signal(Signal::CONT);
            member.is_still = false;
        }
        if member
            .child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
        {
            return Ok(());
        }
        self.spawn(number)
    }

    /// Makes a process stand still; `false` if it is dead or does already.
    pub(super) fn still(&mut self, target: Target) -> bool {
        let member = self.member(target);
        if member.is_still || !member.signal(Signal::STOP) {
            return false;
        }
        member.is_still = true;
        true
    }

    /// Asks a process to stop; `false` if it is dead or stands still.
    pub(super) fn ask(&mut self, target: Target) -> bool {
        let member = self.member(target);
        !member.is_still && member.signal(Signal::TERM)
    }

    /// Kills a kernel host of a worker; `false` if it has none.
    pub(super) fn kill_host(&mut self, worker: usize) -> bool {
        let member = self.member(Target::Worker(worker));
        let Some(pid) = member.child.as_ref().and_then(Child::id) else {
            return false;
        };
        let children = children(pid);
        // the worker waits for its children on its own: one that has ended since is a zombie, and keeps its number until
        // the worker has seen that; the window in which the number could be another's is a few microseconds
        let host = children.first().copied();
        host.and_then(Pid::from_raw)
            .is_some_and(|host| kill_process(host, Signal::KILL).is_ok())
    }

    fn number(&self, target: Target) -> usize {
        match target {
            Target::Scheduler(number) => number,
            Target::Worker(number) => self.layout.schedulers + number,
        }
    }

    fn member(&mut self, target: Target) -> &mut Member {
        let number = self.number(target);
        &mut self.members[number]
    }

    fn spawn(&mut self, number: usize) -> Result<(), CliError> {
        let member = &self.members[number];
        let name = name(member.target);
        let arguments = self.arguments(member, &name);
        let log = self.layout.folder.join(format!("{name}.log"));
        let mut command = match &self.network {
            Some(network) => network.command(member.target, &self.layout.program),
            None => Command::new(&self.layout.program),
        };
        let opened = File::options().create(true).append(true).open(&log);
        let log = opened.map_err(|error| failed("open", &log, &error))?;
        command
            .args(arguments)
            .env(
                LOG_VARIABLE,
                std::env::var_os(LOG_VARIABLE).unwrap_or_else(|| "info".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|error| failed("start", &self.layout.program, &error))?;
        let member = &mut self.members[number];
        member.child = Some(child);
        member.starts += 1;
        Ok(())
    }

    fn arguments(&self, member: &Member, name: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["--output", "json", "--cluster"].map(OsString::from).to_vec();
        arguments.push(self.layout.cluster.clone().into());
        let host = match &self.network {
            Some(network) => network.address(member.target),
            None => "127.0.0.1".to_owned(),
        };
        match member.target {
            Target::Scheduler(_) => {
                let listen = member.address.clone().unwrap_or_else(|| format!("{host}:0"));
                arguments.extend(["scheduler", "--name", name, "--listen", &listen].map(OsString::from));
            }
            Target::Worker(_) => {
                arguments.extend(["worker", "--name", name, "--cpus", "1", "--cache"].map(OsString::from));
                arguments.push(self.layout.folder.join(name).into());
            }
        }
        arguments.extend(["--with-parent".into(), std::process::id().to_string().into()]);
        arguments
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for member in &mut self.members {
            // what stands still gets nothing but this
            member.signal(Signal::KILL);
        }
    }
}

impl Member {
    /// Sends a signal, if the process lives.
    fn signal(&mut self, signal: Signal) -> bool {
        let Some(child) = self.child.as_mut() else {
            return false;
        };
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// What it prints when it is ready.
    async fn first_line(&mut self) -> Result<String, CliError> {
        let name = name(self.target);
        let stdout = self.child.as_mut().and_then(|child| child.stdout.take());
        let Some(stdout) = stdout else {
            return Err(CliError::new(ExitCode::Internal, format!("{name} is not there")));
        };
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        match timeout(READY_MAX, reader.read_line(&mut line)).await {
            Ok(Ok(bytes)) if bytes > 0 => Ok(line),
            Ok(_) | Err(_) => Err(CliError::new(
                ExitCode::Internal,
                format!("{name} was not ready within {} s", READY_MAX.as_secs()),
            )),
        }
    }
}

/// The processes that any thread of a process has started.
fn children(pid: u32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |text: String| -> Vec<i32> {
        let words = text.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    texts.flat_map(numbers).collect()
}

/// What people call a process.
pub(super) fn name(target: Target) -> String {
    match target {
        Target::Scheduler(number) => format!("s{}", number + 1),
        Target::Worker(number) => format!("w{}", number + 1),
    }
}

/// The address in a scheduler's document.
fn address(line: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    document["scheduler"]["address"].as_str().map(str::to_owned)
}

fn failed(action: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::new(
        ExitCode::Internal,
        format!("cannot {action} `{}`: {error}", path.display()),
    )
}
