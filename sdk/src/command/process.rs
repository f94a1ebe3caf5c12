//! One process from its start to its end, with what it has started: limits are kept here, and its whole process group goes
//! with it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use phalanx_protocol::command::Recipients;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::resources::format_bytes;
use phalanx_protocol::step::STEP_VARIABLE;
use phalanx_protocol::{TaskUsage, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::cgroup::{Cgroup, Cgroups};
use super::memory;
use super::orphans::Running;
use super::program::Program;
use super::ranks::Ranks;
use super::reap::{Used, reap};
use super::rlimits;
use super::tally::used_so_far;
use super::wake::Wake;
use crate::context::TaskContext;

/// How often it is looked at how much memory a process uses, where that is limited.
const MEMORY_INTERVAL: Duration = Duration::from_millis(200);

/// The signal by which the system ends processes that are over its limits.
const KILLED: u8 = Signal::KILL.as_raw() as u8;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, with that status.
    Exit(u8),
    /// By that signal.
    Signal(u8),
    /// It was told to end after that time.
    TimeLimit(Duration),
    /// It was killed when it used that many bytes of the second number.
    Memory(u64, u64),
}

impl Ending {
    /// How a task whose process ended so has failed.
    pub(super) fn cause(self) -> FailureCause {
        match self {
            Self::Exit(status) => FailureCause::Exit(status),
            Self::Signal(signal) => FailureCause::Signal(signal),
            Self::TimeLimit(_) => FailureCause::TimeLimit,
            Self::Memory(..) => FailureCause::Memory,
        }
    }

    /// What else there is to say of it; nothing of a status.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Exit(_) => String::new(),
            // `SIGSEGV`; the number for those without a name
            Self::Signal(number) => signal::name(number.into()).unwrap_or_else(|| number.to_string()),
            Self::TimeLimit(limit) => format!("ran longer than {} s", limit.as_secs_f64()),
            Self::Memory(used, allowed) => {
                format!("used {} of {}", format_bytes(used), format_bytes(allowed))
            }
        }
    }
}

/// How long a process may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// From its start until it is told to end.
    pub(super) time: Option<Duration>,
    /// How much memory it and all that it has started may use, in bytes.
    pub(super) memory: Option<u64>,
    /// When it is told before, with which signal, and who is.
    pub(super) warning: Option<(Duration, i32, Recipients)>,
    /// From then until it is killed.
    pub(super) grace: Duration,
}

/// What one run needs to know.
pub(super) struct Order<'a> {
    pub(super) limits: Limits,
    pub(super) rlimits: &'a rlimits::Changes,
    /// Where the system can be asked to limit memory.
    pub(super) cgroups: Option<&'a Cgroups>,
    /// Raised when the job is ended.
    pub(super) wake: &'a Wake,
    pub(super) running: &'a Running,
    pub(super) task: u64,
    /// If it is a rank of a gang.
    pub(super) ranks: Option<&'a Ranks>,
    pub(super) grant: GrantId,
    /// Knows whether the task is to end.
    pub(super) context: &'a TaskContext,
}

impl Order<'_> {
    /// A group for the process, if its memory is limited and the system can be asked to.
    fn cgroup(&self) -> Option<Cgroup> {
        let (cgroups, bytes) = self.cgroups.zip(self.limits.memory)?;
        cgroups.task(&format!("task-{}-{}", self.task, self.grant), bytes)
    }

    /// How a process ended that nobody here has, given what its group used at most if it was killed for that.
    fn ending(&self, status: ExitStatus, killed_at: Option<u64>) -> Ending {
        match (ending(status), killed_at.zip(self.limits.memory)) {
            (Ending::Signal(KILLED), Some((used, allowed))) => Ending::Memory(used, allowed),
            (ended, _) => ended,
        }
    }
}

/// Runs a process to its end; says what it has used, too.
///
/// # Errors
/// Says why it could not be started.
pub(super) fn run(program: &Program<'_>, order: &Order<'_>) -> io::Result<(Ending, TaskUsage)> {
    let cgroup = order.cgroup();
    let start = || program.start(order.rlimits, cgroup.as_ref());
    let start_in_gang = || match order.ranks {
        Some(ranks) => ranks.start(order.task, start),
        None => start(),
    };
    let started = order.running.start((order.grant, order.task), start_in_gang);
    let (pid, wake) = started?;
    let began = Instant::now();
    // it may have been told so before anybody could know of this process
    if order.context.is_cancelled() {
        let this = IndexRange::new(order.task, order.task.saturating_add(1));
        order.running.end(order.grant, this);
    }
    let mut watch = Watch::begin(pid, order, &wake);
    // the system sees more, and at once
    watch.look_at = watch.look_at.filter(|_| cgroup.is_none());
    let waited = watch.wait();
    let (peak_bytes, so_far) = (watch.peak_bytes, watch.so_far);
    // it is dead but not reaped, so its number is still its group's
    let _ = kill_process_group(pid, Signal::KILL);
    let killed_at = cgroup.as_ref().and_then(Cgroup::killed_at);
    let peak_bytes = cgroup.as_ref().and_then(Cgroup::peak).unwrap_or(peak_bytes);
    if let Some(cgroup) = &cgroup {
        cgroup.kill();
    }
    order.running.ended(order.task);
    let (status, used) = reap(pid)?;
    let used = used.or_more(so_far);
    order.running.sweep();
    let usage = TaskUsage {
        index: order.task,
        ran_millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        user_micros: used.user_micros,
        system_micros: used.system_micros,
        rss_kib: used.rss_kib.max(peak_bytes / 1024),
    };
    Ok((waited?.unwrap_or_else(|| order.ending(status, killed_at)), usage))
}

/// A process that runs, and what is to be done when.
struct Watch<'a> {
    pid: Pid,
    order: &'a Order<'a>,
    /// Raised when this task is to end.
    wake: &'a Wake,
    warning: Option<(Instant, i32, Recipients)>,
    end_at: Option<Instant>,
    kill_at: Option<Instant>,
    look_at: Option<Instant>,
    /// The most that it was seen to use, with what it has started, where that is looked at.
    peak_bytes: u64,
    /// What its group had used when it was last told to end.
    so_far: Used,
    is_cancelled: bool,
    /// How it ends if not by itself.
    over: Option<Ending>,
}

impl<'a> Watch<'a> {
    fn begin(pid: Pid, order: &'a Order<'a>, wake: &'a Wake) -> Self {
        let began = Instant::now();
        let limits = &order.limits;
        let warning = limits.warning;
        Self {
            pid,
            order,
            wake,
            warning: warning.map(|(after, signal, recipients)| (began + after, signal, recipients)),
            end_at: limits.time.map(|time| began + time),
            kill_at: None,
            look_at: limits.memory.map(|_| began + MEMORY_INTERVAL),
            peak_bytes: 0,
            so_far: Used::default(),
            is_cancelled: false,
            over: None,
        }
    }

    /// Waits until the process has ended, and ends it when it is over a limit; says whether that was so.
    fn wait(&mut self) -> io::Result<Option<Ending>> {
        let process = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => {
                let _ = kill_process_group(self.pid, Signal::KILL);
                return Err(error.into());
            }
        };
        loop {
            let mut events = [
                PollFd::new(&process, PollFlags::IN),
                PollFd::from_borrowed_fd(self.order.wake.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            // what was raised stays so, and need not be seen twice
            let watched = if self.is_cancelled {
                &mut events[..1]
            } else {
                &mut events[..]
            };
            poll_until(watched, self.next())?;
            let has_ended = !events[0].revents().is_empty();
            if has_ended {
                return Ok(self.over);
            }
            let now = Instant::now();
            let is_told = events[1..].iter().any(|event| !event.revents().is_empty());
            if !self.is_cancelled && is_told {
                self.is_cancelled = true;
                // it may have been told already
                self.end_at = self.kill_at.is_none().then_some(now);
            }
            self.act(now);
        }
    }

    /// When there is something to do next.
    fn next(&self) -> Option<Instant> {
        let warn_at = self.warning.map(|(at, ..)| at);
        [warn_at, self.end_at, self.kill_at, self.look_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    fn act(&mut self, now: Instant) {
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if let Some((_, signal, recipients)) = self.warning.take_if(|(at, ..)| *at <= now) {
            tell(self.pid, signal, recipients);
        }
        if is_due(&mut self.end_at) {
            if !self.is_cancelled {
                self.over = self.order.limits.time.map(Ending::TimeLimit);
            }
            (self.warning, self.kill_at) = (None, Some(now + self.order.limits.grace));
            self.note_used();
            let _ = kill_process_group(self.pid, Signal::TERM);
            // one that is stopped hears nothing otherwise
            let _ = kill_process_group(self.pid, Signal::CONT);
        }
        if is_due(&mut self.kill_at) {
            self.note_used();
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        if is_due(&mut self.look_at)
            && let Some(allowed) = self.order.limits.memory
        {
            let used = memory::resident_bytes(self.pid, self.order.task, &self.order.running.orphans());
            self.peak_bytes = self.peak_bytes.max(used);
            if used > allowed {
                self.over = Some(Ending::Memory(used, allowed));
                self.note_used();
                let _ = kill_process_group(self.pid, Signal::KILL);
            } else {
                self.look_at = Some(now + MEMORY_INTERVAL);
            }
        }
    }

    /// Looks at what the group has used, of which the system tells only a part if all of it is killed.
    fn note_used(&mut self) {
        let members = others_of_group(self.pid).into_iter().chain([self.pid]);
        self.so_far = used_so_far(members).or_more(self.so_far);
    }
}

/// Sends a signal to the process of a task, to those that it has started in its group, to those of one step, or to all.
pub(super) fn tell(pid: Pid, signal: i32, recipients: Recipients) {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return;
    };
    let told = match recipients {
        Recipients::All => {
            // it may just have ended
            let _ = kill_process_group(pid, signal);
            return;
        }
        Recipients::Leader => vec![pid],
        Recipients::Others => others_of_group(pid),
        Recipients::Step(step) => {
            let mut members = others_of_group(pid);
            members.retain(|&member| is_of_step(member, step));
            members
        }
    };
    for process in told {
        let _ = kill_process(process, signal);
    }
}

/// The members of a process group, without its leader.
fn others_of_group(leader: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others = numbers.filter_map(Pid::from_raw).filter(|&pid| pid != leader);
    let group = leader.as_raw_nonzero().get();
    others.filter(|&pid| group_of(pid) == Some(group)).collect()
}

/// Whether a process was started as one of a step, as its variables say.
fn is_of_step(process: Pid, step: u32) -> bool {
    let variables = fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).unwrap_or_default();
    let wanted = format!("{STEP_VARIABLE}={step}");
    variables
        .split(|&byte| byte == 0)
        .any(|variable| variable == wanted.as_bytes())
}

/// The process group of a process, which is 0 for those of the system: the third field behind its name, which is in
/// parentheses and may have any letters.
fn group_of(process: Pid) -> Option<i32> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = str::from_utf8(&stat[name_end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// Waits for an event, or until then.
pub(super) fn poll_until(events: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
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
