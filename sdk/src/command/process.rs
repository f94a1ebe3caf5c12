//! One process from its start to its end, with what it has started: limits are kept here, and its whole process group goes
//! with it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use phalanx_protocol::command::Recipients;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::orphans::{self, Running};
use super::signals::Wake;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, with that status.
    Exit(u8),
    /// By that signal.
    Signal(u8),
    /// It was told to end after that time.
    TimeLimit(Duration),
}

/// How long a process may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// From its start until it is told to end.
    pub(super) time: Option<Duration>,
    /// When it is told before, with which signal, and who is.
    pub(super) warning: Option<(Duration, i32, Recipients)>,
    /// From then until it is killed.
    pub(super) grace: Duration,
}

/// What one run needs to know.
pub(super) struct Order<'a> {
    pub(super) limits: Limits,
    /// See [`phalanx_protocol::CommandPlan::limits`].
    pub(super) rlimits: &'a [(u32, u64, u64)],
    /// Raised when the job is ended.
    pub(super) wake: &'a Wake,
    pub(super) running: &'a Running,
    pub(super) task: u64,
}

/// Runs a process to its end.
///
/// # Errors
/// Says why it could not be started.
pub(super) fn run(command: &mut Command, order: &Order<'_>) -> io::Result<Ending> {
    command.process_group(0);
    limit(command, order.rlimits);
    let mut child = command.spawn()?;
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else {
        return Err(io::Error::other("the system gave a process no number"));
    };
    order.running.began(order.task, pid);
    let waited = wait(pid, order);
    // it is dead but not reaped, so its number is still its group's
    let _ = kill_process_group(pid, Signal::KILL);
    order.running.ended(order.task);
    let status = child.wait()?;
    orphans::sweep(order.running);
    let is_over = waited?;
    Ok(match order.limits.time.filter(|_| is_over) {
        Some(limit) => Ending::TimeLimit(limit),
        None => ending(status),
    })
}

/// Waits until the process has ended, and ends it when its time is over; says whether it was.
fn wait(pid: Pid, order: &Order<'_>) -> io::Result<bool> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(error) => {
            let _ = kill_process_group(pid, Signal::KILL);
            return Err(error.into());
        }
    };
    let began = Instant::now();
    let Limits { time, warning, grace } = order.limits;
    let mut warning = warning.map(|(after, signal, recipients)| (began + after, signal, recipients));
    let mut end_at = time.map(|time| began + time);
    let mut kill_at = None;
    let mut is_over = false;
    let mut is_cancelled = false;
    loop {
        let next = [warning.map(|(at, ..)| at), end_at, kill_at]
            .into_iter()
            .flatten()
            .min();
        let mut events = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::from_borrowed_fd(order.wake.as_fd(), PollFlags::IN),
        ];
        // what was raised stays so, and need not be seen twice
        let watched = if is_cancelled {
            &mut events[..1]
        } else {
            &mut events[..]
        };
        poll_until(watched, next)?;
        let has_ended = !events[0].revents().is_empty();
        if has_ended {
            return Ok(is_over);
        }
        let now = Instant::now();
        if !is_cancelled && !events[1].revents().is_empty() {
            is_cancelled = true;
            end_at = Some(now);
        }
        if let Some((at, signal, recipients)) = warning
            && at <= now
        {
            warning = None;
            tell(pid, signal, recipients);
        }
        if end_at.is_some_and(|at| at <= now) {
            is_over = !is_cancelled;
            (end_at, warning, kill_at) = (None, None, Some(now + grace));
            let _ = kill_process_group(pid, Signal::TERM);
            // one that is stopped hears nothing otherwise
            let _ = kill_process_group(pid, Signal::CONT);
        }
        if kill_at.is_some_and(|at| at <= now) {
            kill_at = None;
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn tell(pid: Pid, signal: i32, recipients: Recipients) {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return;
    };
    // any of them may just have ended
    match recipients {
        Recipients::Leader => drop(kill_process(pid, signal)),
        Recipients::All => drop(kill_process_group(pid, signal)),
        Recipients::Others => others_of_group(pid).into_iter().for_each(|other| {
            let _ = kill_process(other, signal);
        }),
    }
}

/// The members of a process group, without its leader.
fn others_of_group(leader: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others = numbers.filter_map(Pid::from_raw).filter(|&pid| pid != leader);
    others
        .filter(|&pid| group_of(pid) == Some(leader.as_raw_nonzero().get()))
        .collect()
}

/// The process group of a process: 0 for those of the system, which `getpgid` cannot tell.
fn group_of(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // state, parent and group follow the name, which may hold anything
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Waits for an event, or until then.
fn poll_until(events: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match poll(events, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ending(status: ExitStatus) -> Ending {
    match status.signal() {
        Some(signal) => Ending::Signal(u8::try_from(signal).unwrap_or(u8::MAX)),
        // a status has eight bits
        None => Ending::Exit(status.code().unwrap_or_default() as u8),
    }
}

/// Limits what the process may use, where that differs from what this process may.
fn limit(command: &mut Command, wanted: &[(u32, u64, u64)]) {
    let differing: Vec<rlimits::Change> = wanted
        .iter()
        .filter_map(|&wanted| rlimits::change(wanted))
        .collect();
    if !differing.is_empty() {
        rlimits::apply(command, differing);
    }
}

/// Limits of processes (`setrlimit`).
mod rlimits {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use rustix::process::{Rlimit, getrlimit, setrlimit};

    use super::super::capture::resource;

    /// A limit that is to be set.
    pub(super) type Change = (rustix::process::Resource, Rlimit);

    /// The limit to be set; `None` if it is so already, or no limit that is known.
    pub(super) fn change((number, soft, hard): (u32, u64, u64)) -> Option<Change> {
        let resource = resource(number)?;
        let some = |limit: u64| (limit != u64::MAX).then_some(limit);
        let now = getrlimit(resource);
        // no more than this process may have can be given
        let least = |left: Option<u64>, right: Option<u64>| left.into_iter().chain(right).min();
        let maximum = least(some(hard), now.maximum);
        let wanted = Rlimit {
            current: least(some(soft), maximum),
            maximum,
        };
        (wanted != now).then_some((resource, wanted))
    }

    #[expect(
        unsafe_code,
        reason = "limits belong to the process that is started, and are set before its program begins"
    )]
    pub(super) fn apply(command: &mut Command, changes: Vec<Change>) {
        let set = move || {
            for (resource, limit) in &changes {
                setrlimit(*resource, *limit)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made: no memory is allocated, no lock is taken.
        unsafe {
            command.pre_exec(set);
        }
    }
}
