//! A task that only keeps its node for the script of its job, which runs elsewhere: it starts what steps of the script want to
//! run here, and sees to it that this ends with whoever wanted it, and with the task.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_protocol::step::{STEPS_VARIABLE, StepProgram};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::orphans::Running;
use super::process::poll_until;
use super::program::Program;
use super::reap::reap;
use super::relay::{Relay, StartOrder, Stream};
use super::wake::Wake;

/// What such a task has to do with.
pub(super) struct Keeper<'a> {
    pub(super) running: &'a Running,
    /// By which steps reach it; nothing is started without.
    pub(super) relay: Option<&'a Relay>,
    /// Raised when its job is to end, and when this task is.
    pub(super) ends: [&'a Wake; 2],
    /// How long what runs for steps may take to end then: whoever wanted it tells it to.
    pub(super) grace: Duration,
    /// Starts a program that has its words and streams, and variables but those that only this node knows.
    pub(super) start: &'a dyn Fn(&mut Program<'_>) -> io::Result<Pid>,
}

/// A program that runs for a step.
struct OfStep {
    pid: Pid,
    process: OwnedFd,
    stream: Arc<Stream>,
    is_killed: bool,
}

impl OfStep {
    fn kill(&mut self) {
        self.is_killed = true;
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

/// What has happened, of programs by their positions.
#[derive(Debug, Default)]
struct Seen {
    is_told: bool,
    is_ordered: bool,
    /// Those that whoever wanted them has left.
    left: Vec<usize>,
    ended: Vec<usize>,
}

fn watch(wake: &Wake) -> PollFd<'_> {
    PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)
}

impl Keeper<'_> {
    /// Keeps its node until it is to end; nothing that it has started runs then.
    ///
    /// # Errors
    /// The system does not tell of events.
    pub(super) fn keep(&self) -> io::Result<()> {
        let mut programs: Vec<OfStep> = Vec::new();
        let mut kill_at = None;
        loop {
            if kill_at.is_some() && programs.is_empty() {
                return Ok(());
            }
            let seen = self.wait(&programs, kill_at).inspect_err(|_| {
                let _ = programs.iter_mut().map(OfStep::kill).count();
            })?;
            seen.left.iter().for_each(|&position| programs[position].kill());
            for &position in seen.ended.iter().rev() {
                self.end(programs.swap_remove(position));
            }
            let now = Instant::now();
            if seen.is_told && kill_at.is_none() {
                kill_at = now.checked_add(self.grace).or(Some(now));
            }
            if kill_at.is_some_and(|at| at <= now) {
                programs.iter_mut().for_each(OfStep::kill);
            }
            while let Some((relay, order)) = seen.is_ordered.then(|| self.next_order()).flatten() {
                match kill_at {
                    None => programs.extend(self.begin(relay, &order)),
                    Some(_) => relay.not_started(&order, "its job is being ended"),
                }
            }
        }
    }

    fn next_order(&self) -> Option<(&Relay, StartOrder)> {
        let relay = self.relay?;
        relay.next_order().map(|order| (relay, order))
    }

    /// Waits until something happens, or until then, if not all are killed.
    fn wait(&self, programs: &[OfStep], kill_at: Option<Instant>) -> io::Result<Seen> {
        let mut events: Vec<PollFd<'_>> = Vec::new();
        // what was raised stays so
        let told: &[&Wake] = if kill_at.is_none() { &self.ends } else { &[] };
        events.extend(told.iter().map(|wake| watch(wake)));
        events.extend(self.relay.map(|relay| watch(relay.ordered())));
        let of_programs = events.len();
        for program in programs {
            let flags = if program.is_killed {
                PollFlags::empty()
            } else {
                PollFlags::IN
            };
            events.push(PollFd::new(&program.process, PollFlags::IN));
            events.push(PollFd::from_borrowed_fd(program.stream.over().as_fd(), flags));
        }
        let are_killed = programs.iter().all(|program| program.is_killed);
        poll_until(&mut events, kill_at.filter(|_| !are_killed))?;
        let is_ready = |event: &PollFd<'_>| !event.revents().is_empty();
        let mut seen = Seen {
            is_told: events[..told.len()].iter().any(is_ready),
            is_ordered: events[told.len()..of_programs].iter().any(is_ready),
            ..Seen::default()
        };
        for (position, pair) in events[of_programs..].chunks_exact(2).enumerate() {
            if is_ready(&pair[0]) {
                seen.ended.push(position);
            }
            if is_ready(&pair[1]) {
                seen.left.push(position);
            }
        }
        Ok(seen)
    }

    /// Starts what a step wants to run here, and says whether it does.
    fn begin(&self, relay: &Relay, order: &StartOrder) -> Option<OfStep> {
        let begun = UnixStream::pair().and_then(|(near, far)| {
            let pid = self.launch(&order.program, &far)?;
            let process = pidfd_open(pid, PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(|process| Ok((process, relay.started(order, near)?)));
            if process.is_err() {
                let _ = kill_process_group(pid, Signal::KILL);
                self.running.ended_of_step(pid);
                let _ = reap(pid);
            }
            let (process, stream) = process?;
            Ok(OfStep {
                pid,
                process,
                stream,
                is_killed: false,
            })
        });
        begun
            .inspect_err(|error| relay.not_started(order, &error.to_string()))
            .ok()
    }

    fn launch(&self, asked: &StepProgram, stream: &UnixStream) -> io::Result<Pid> {
        let os = |bytes: &bytes::Bytes| OsStr::from_bytes(bytes).to_owned();
        let path = asked.words.first().map(os).map(PathBuf::from).unwrap_or_default();
        let path = match path.exists() {
            true => path,
            // it is the same program, which may lie elsewhere on this node
            false => std::env::current_exe()?,
        };
        let directory = PathBuf::from(os(&asked.directory));
        if !directory.is_dir() {
            let missing = format!("the working directory `{}` is not there", directory.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, missing));
        }
        let mut program = Program::new(path, directory);
        asked.words.iter().skip(1).for_each(|word| program.arg(os(word)));
        for (name, value) in &asked.environment {
            program.env(os(name), os(value));
        }
        // its socket is on the node of the script
        program.env_remove(STEPS_VARIABLE);
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        program.lend([stream.as_fd(), nothing.as_fd(), nothing.as_fd()]);
        self.running.start_of_step(|| (self.start)(&mut program))
    }

    /// Leaves nothing of a program that has ended.
    fn end(&self, program: OfStep) {
        // it is dead but not reaped, so its number is still its group's
        let _ = kill_process_group(program.pid, Signal::KILL);
        self.running.ended_of_step(program.pid);
        // it may have been reaped with all others
        let _ = reap(program.pid);
    }
}
