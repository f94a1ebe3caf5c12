//! Kernel hosts: processes that run a job's kernels, each at the other end of a socket pair.
//!
//! This module starts them and carries frames both ways; what is said is the agent's business. One task per host owns
//! the process and the socket. The program's own output goes to this process's standard error.

pub(crate) mod board;
pub(crate) mod cgroup;
mod guard;
mod memory;
pub(crate) mod process;
pub(crate) mod program;
mod strays;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use phalanx_protocol::message::host::{FromHost, PROTOCOL_VERSION, ToHost};
use phalanx_protocol::record::FailureCause;
use phalanx_transport::{FrameError, FrameReader, FrameWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use self::board::Board;
use self::cgroup::{Cgroup, Cgroups, Tenant};
use self::guard::{Finding, Guard};
use self::memory::GroupMemory;
use crate::agent::{Death, GRANTS_PER_JOB_MAX, HostId, Input, Limits, Obstacle};

/// Messages to one host that it has not read; a host that reads no more is killed.
pub(crate) const HOST_MESSAGES_MAX: usize = GRANTS_PER_JOB_MAX + 1024;
/// Bytes queued for a host's socket before further messages wait in their channel.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// How long a program may take to say hello.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// How long a process may outlive its socket, and its socket the process.
const PARTING_WAIT: Duration = Duration::from_secs(1);
/// How often and at what interval a program is started that somebody still has open for writing: a process forked at
/// the wrong moment holds the file until it executes its own program.
const BUSY_TRIES: u32 = 500;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Starts kernel hosts.
pub(crate) trait Launcher: Send + Sync + 'static {
    /// Starts the program, connected to a new socket pair and told of its running board. What it starts itself can be told
    /// by `mark`.
    fn launch(&self, program: &Program, board: &Path, mark: &str) -> io::Result<Launched>;
}

/// What a host's process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// A user's program in this node's cache.
    File(PathBuf),
    /// The program that this worker is.
    Own,
}

/// A host's process and this side of its socket pair.
pub(crate) struct Launched {
    pub(crate) socket: UnixStream,
    pub(crate) process: Box<dyn Process>,
}

/// A started process; dropping it kills it.
pub(crate) trait Process: Send {
    /// Kills it, if it lives.
    fn kill(&mut self);

    /// Its number, which is that of its process group too, while it lives and has one.
    fn id(&self) -> Option<u32>;

    /// Waits for its end and says how it ended. Cancel safe.
    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Ending> + Send + '_>>;
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// `signal 11 (SIGSEGV)`, `exit status 3`.
    pub(crate) how: String,
    /// The program ended itself, rather than the system or its loader.
    pub(crate) by_itself: bool,
}

/// What a host's task is told.
#[derive(Debug)]
pub(crate) enum ForHost {
    /// Tell the host.
    Say(ToHost),
    /// See to it that the job that is opened next keeps these, to its end.
    Watch(Limits),
}

/// The agent's handle to a host.
#[derive(Debug)]
pub(crate) struct HostHandle {
    pub(crate) messages: mpsc::Sender<ForHost>,
    /// Taken to kill the host; dropping it does the same.
    pub(crate) kill: Option<oneshot::Sender<()>>,
}

/// What a host's task needs.
pub(crate) struct HostTask {
    pub(crate) host: HostId,
    pub(crate) program: Program,
    /// No other host on any node has this one.
    pub(crate) mark: String,
    pub(crate) launcher: Arc<dyn Launcher>,
    /// The folder of running boards.
    pub(crate) boards: PathBuf,
    /// Where the system can be asked to limit memory.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) messages: mpsc::Receiver<ForHost>,
    pub(crate) kill: oneshot::Receiver<()>,
    pub(crate) facts: mpsc::Sender<Input>,
}

struct Link {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    process: Box<dyn Process>,
    board: Board,
    guard: Guard,
    memory: Option<GroupMemory>,
    cgroup: Option<Cgroup>,
}

impl HostTask {
    /// Starts the host and serves it to its end; every fact goes to the agent, the last one is that it ended.
    pub(crate) async fn run(mut self) {
        let host = self.host;
        let (ended, cgroup) = match self.start().await {
            Ok(mut link) => (self.live(&mut link).await, link.cgroup.take()),
            Err(reason) => (Err(reason), None),
        };
        self.sweep(cgroup).await;
        let last = match ended {
            Ok(death) => Input::HostDied { host, death },
            Err(Some(obstacle)) => Input::HostFailed { host, obstacle },
            Err(None) => Input::HostDied {
                host,
                death: Death::killed("killed"),
            },
        };
        // if nobody listens any more, the worker has ended
        let _ = self.facts.send(last).await;
    }

    /// Hears the hello of a started process and serves it to its end; `None` if it is killed before it is a host.
    async fn live(&mut self, link: &mut Link) -> Result<Death, Option<Obstacle>> {
        self.greet(link).await?;
        if self.facts.send(Input::HostStarted(self.host)).await.is_err() {
            return Ok(link.killed("killed").await);
        }
        Ok(self.serve(link).await)
    }

    /// Kills what a dead host has left behind, and removes its group, which cannot be before.
    async fn sweep(&self, cgroup: Option<Cgroup>) {
        let mark = (self.program == Program::Own).then(|| self.mark.clone());
        if mark.is_none() && cgroup.is_none() {
            return;
        }
        let sweep = move || {
            if let Some(mark) = mark {
                strays::kill(&mark);
            }
            if let Some(cgroup) = cgroup {
                cgroup.end();
            }
        };
        // a panic there is this one's
        if let Err(error) = tokio::task::spawn_blocking(sweep).await {
            tracing::warn!(%error, "what a dead host has started was not looked for");
        }
    }

    /// Starts the process; `None` if it is killed first.
    async fn start(&mut self) -> Result<Link, Option<Obstacle>> {
        let board = Board::create(&self.boards, self.host).map_err(|error| {
            let reason = format!("this worker's cache fails: cannot create a running board: {error}");
            Some(Obstacle { reason, fatal: false })
        })?;
        let launched = self.launch(&board).await?;
        let (reader, writer) = launched.socket.into_split();
        Ok(Link {
            reader: FrameReader::new(reader, DATA_FRAME_BYTES_MAX),
            writer: FrameWriter::new(writer, DATA_FRAME_BYTES_MAX),
            memory: launched.process.id().map(GroupMemory::of),
            cgroup: self.cgroup(launched.process.id()),
            process: launched.process,
            board,
            guard: Guard::default(),
        })
    }

    /// Hears the process's hello; `None` if it is killed first.
    async fn greet(&mut self, link: &mut Link) -> Result<(), Option<Obstacle>> {
        let hello = tokio::select! {
            hello = timeout(HELLO_WAIT, link.reader.recv::<FromHost>()) => hello,
            _ = &mut self.kill => {
                link.parting(true).await;
                return Err(None);
            }
        };
        let obstacle = match hello {
            Ok(Ok(Some(FromHost::Hello { version }))) if version == PROTOCOL_VERSION => return Ok(()),
            Ok(Ok(Some(FromHost::Hello { version }))) => Obstacle {
                reason: format!(
                    "the program speaks version {version} of the host protocol, this worker version {PROTOCOL_VERSION}: \
                     build it with the SDK of the cluster's version"
                ),
                fatal: true,
            },
            Ok(Ok(None)) => {
                let ending = link.parting(false).await;
                let reason = format!("the program ended before it was a kernel host: {}", ending.how);
                return Err(Some(Obstacle {
                    reason,
                    fatal: ending.by_itself,
                }));
            }
            Ok(Ok(Some(_)) | Err(_)) => Obstacle {
                reason: "the program does not speak the host protocol".to_owned(),
                fatal: true,
            },
            Err(_) => Obstacle {
                reason: format!("the program was no kernel host within {} s", HELLO_WAIT.as_secs()),
                fatal: false,
            },
        };
        link.parting(true).await;
        Err(Some(obstacle))
    }

    async fn launch(&mut self, board: &Board) -> Result<Launched, Option<Obstacle>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.launcher.launch(&self.program, board.path(), &self.mark) {
                Ok(launched) => return Ok(launched),
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {}
                Err(error) => {
                    let reason = format!("the program cannot be started: {error}");
                    return Err(Some(Obstacle { reason, fatal: false }));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY_PAUSE) => {}
                _ = &mut self.kill => return Err(None),
            }
        }
    }

    /// A control group for a new process, if there is a place for it.
    fn cgroup(&self, process: Option<u32>) -> Option<Cgroup> {
        let tenant = match self.program {
            Program::File(_) => Tenant::Kernels,
            Program::Own => Tenant::Commands,
        };
        match self.cgroups.as_ref()?.host(tenant, process?) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "a kernel host has no control group: its memory is only watched");
                None
            }
        }
    }

    /// Carries frames until either side ends; says how the host died.
    async fn serve(&mut self, link: &mut Link) -> Death {
        loop {
            let queued = link.writer.queued_bytes();
            let look = link.guard.next_look().map(tokio::time::Instant::from_std);
            tokio::select! {
                _ = &mut self.kill => return link.killed("killed").await,
                heard = link.reader.recv::<FromHost>() => match heard {
                    Ok(Some(message)) => {
                        if self.facts.send(Input::Host(self.host, message)).await.is_err() {
                            return link.killed("killed").await;
                        }
                    }
                    // a host that dies in the middle of a frame is dead rather than wrong
                    Ok(None) | Err(FrameError::Io(_) | FrameError::Truncated { .. }) => return link.died().await,
                    Err(error) => {
                        return link.killed(&format!("it broke the host protocol ({error}) and was killed")).await;
                    }
                },
                message = self.messages.recv(), if queued < QUEUED_BYTES_MAX => match message {
                    Some(message) => if let Err(error) = link.take(message, &mut self.messages) {
                        return link.killed(&format!("it could not be told something ({error}) and was killed")).await;
                    },
                    None => return link.killed("killed").await,
                },
                // what is not taken stays queued; an error shows at the reader too, after what the host said last
                flushed = link.writer.flush(), if queued > 0 => if flushed.is_err() {
                    return self.last_words(link).await;
                },
                Some(()) = async { sleep_until(look?).await; Some(()) } => match link.look() {
                    Finding::Fine => {}
                    // one that cannot be told is about to be found dead
                    Finding::Warn => drop(link.writer.queue(&ToHost::CheckpointNow)),
                    Finding::Over(death) => {
                        link.process.kill();
                        self.last_words(link).await;
                        return death;
                    }
                },
                _ = link.process.ended() => return self.last_words(link).await,
            }
        }
    }

    /// Passes on what a dead host said last.
    async fn last_words(&mut self, link: &mut Link) -> Death {
        let drain = async {
            while let Ok(Some(message)) = link.reader.recv::<FromHost>().await {
                if self.facts.send(Input::Host(self.host, message)).await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(PARTING_WAIT, drain).await;
        link.died().await
    }
}

impl Link {
    /// Takes in a message and those that wait behind it.
    fn take(&mut self, message: ForHost, behind: &mut mpsc::Receiver<ForHost>) -> Result<(), FrameError> {
        self.take_one(message)?;
        while self.writer.queued_bytes() < QUEUED_BYTES_MAX
            && let Ok(message) = behind.try_recv()
        {
            self.take_one(message)?;
        }
        Ok(())
    }

    fn take_one(&mut self, message: ForHost) -> Result<(), FrameError> {
        let allowed_bytes = self.guard.allowed_bytes();
        let queued = match message {
            ForHost::Say(message) => {
                self.guard.told(&message);
                self.writer.queue(&message)
            }
            ForHost::Watch(limits) => {
                self.guard.watch(Instant::now(), limits);
                Ok(())
            }
        };
        if let Some(cgroup) = &self.cgroup
            && self.guard.allowed_bytes() != allowed_bytes
            && let Err(error) = cgroup.limit(self.guard.allowed_bytes())
        {
            tracing::warn!(%error, "a control group takes no limit: memory is only watched");
        }
        queued
    }

    /// Looks whether the host keeps its limits.
    fn look(&mut self) -> Finding {
        let now = Instant::now();
        let memory = self
            .memory
            .as_mut()
            .filter(|_| self.guard.allowed_bytes().is_some());
        let used_bytes = memory.map(|memory| memory.resident_bytes(now));
        let lines = self.board.lines(self.guard.slots());
        self.guard.look(now, &lines, used_bytes)
    }

    /// The death of a host that ended, with those to blame that it was running.
    async fn died(&mut self) -> Death {
        let Ending { how, by_itself } = self.parting(false).await;
        let blamed = self.board.running();
        let over = self.cgroup.as_ref().and_then(Cgroup::killed_at);
        if let Some(death) = over.and_then(|used| self.guard.over_memory(used, blamed.clone())) {
            return death;
        }
        Death {
            how,
            by_itself,
            cause: FailureCause::Crash,
            blamed,
        }
    }

    /// Kills the host, for which none of its tasks is to blame.
    async fn killed(&mut self, how: &str) -> Death {
        self.parting(true).await;
        Death::killed(how)
    }

    /// Waits for the process to end, and kills it at once or if that takes too long.
    async fn parting(&mut self, kill: bool) -> Ending {
        if !kill && let Ok(ending) = timeout(PARTING_WAIT, self.process.ended()).await {
            return ending;
        }
        self.process.kill();
        self.process.ended().await
    }
}

#[cfg(test)]
mod tests;
