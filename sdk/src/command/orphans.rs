//! What tasks leave behind. A process whose parent has ended becomes this one's child, so that nothing gets out of sight, also
//! what left its task's process group; and whoever ends without it is ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use phalanx_protocol::command::{INDEX_VARIABLE, TaskSignal};
use phalanx_protocol::id::GrantId;
use phalanx_protocol::range::IndexRange;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, waitid, waitpid,
};

use super::process::tell;
use super::wake::Wake;
use crate::host::lock;

/// Looks for orphans at most so often after one task: each look finds what was started during the one before.
const LOOKS_MAX: usize = 50;

/// A process without variables is looked at again after so long.
const EXEC_WAIT: Duration = Duration::from_millis(1);

/// Signals that are kept for a task whose process is being started.
const SIGNALS_MAX: usize = 16;

/// Bytes of the list of children that are read at a time.
const READ_BYTES: usize = 4096;

/// Makes this process the parent of orphans, and lets it outlive its worker by as long as it takes to end its tasks.
pub(super) fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    // the end of the socket tells it too, and leaves the time
    set_parent_process_death_signal(None)?;
    Ok(())
}

/// A task that runs.
#[derive(Debug)]
struct Leader {
    /// Its process, if it is not one that only keeps its node.
    pid: Option<Pid>,
    grant: GrantId,
    /// Raised when it is to end.
    wake: Arc<Wake>,
    is_told: bool,
}

/// A task whose process is being started.
#[derive(Debug)]
struct Starting {
    grant: GrantId,
    /// What it is to be sent once there is a process.
    signals: Vec<TaskSignal>,
}

/// The tasks that run now, each with the process that leads its group.
#[derive(Debug)]
pub(super) struct Running {
    leaders: Mutex<BTreeMap<u64, Leader>>,
    /// Those that are about to be among them. Locked before them.
    starting: Mutex<BTreeMap<u64, Starting>>,
    /// The processes that run for steps of a task that has none, each the leader of a group.
    of_steps: Mutex<Vec<Pid>>,
    /// Events of tasks that have ended and were not told to; at most one for each slot.
    spare: Mutex<Vec<Arc<Wake>>>,
    /// What the system tells of the children of this process's first thread: it gives it all orphans, and that thread starts
    /// none itself.
    children: File,
    /// Set once no process may be started any more. Held, shared, while one is being started, so that none gets by.
    is_over: RwLock<bool>,
}

impl Running {
    /// No tasks yet.
    ///
    /// # Errors
    /// If the system does not tell of children.
    pub(super) fn new() -> io::Result<Self> {
        let own = getpid().as_raw_nonzero();
        Ok(Self {
            leaders: Mutex::default(),
            starting: Mutex::default(),
            of_steps: Mutex::default(),
            spare: Mutex::default(),
            children: File::open(format!("/proc/self/task/{own}/children"))?,
            is_over: RwLock::default(),
        })
    }

    /// Starts a task's process.
    ///
    /// # Errors
    /// Says why it is not started, which may be that all were killed.
    pub(super) fn start(
        &self,
        (grant, task): (GrantId, u64),
        start: impl FnOnce() -> io::Result<Pid>,
    ) -> io::Result<(Pid, Arc<Wake>)> {
        let is_over = self.is_over.read().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Err(io::Error::other("its job was ended"));
        }
        let wake = self.wake()?;
        let signals = Vec::new();
        lock(&self.starting).insert(task, Starting { grant, signals });
        let started = start();
        let mut starting = lock(&self.starting);
        let missed = starting.remove(&task);
        let pid = started?;
        self.note((grant, task), Some(pid), &wake);
        for signal in missed.into_iter().flat_map(|missed| missed.signals) {
            tell(pid, signal.number, signal.recipients);
        }
        Ok((pid, wake))
    }

    /// Begins a task that has no process; what is raised when it is to end.
    ///
    /// # Errors
    /// Says why it does not begin, which may be that all were ended.
    pub(super) fn keep(&self, (grant, task): (GrantId, u64)) -> io::Result<Arc<Wake>> {
        let is_over = self.is_over.read().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Err(io::Error::other("its job was ended"));
        }
        let wake = self.wake()?;
        self.note((grant, task), None, &wake);
        Ok(wake)
    }

    /// Starts a process for a step of such a task. Whoever waits for it says when it has ended.
    ///
    /// # Errors
    /// Says why it is not started, which may be that all were killed.
    pub(super) fn start_of_step(&self, start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Pid> {
        let is_over = self.is_over.read().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Err(io::Error::other("its job was ended"));
        }
        let pid = start()?;
        lock(&self.of_steps).push(pid);
        Ok(pid)
    }

    /// It has ended, and is to be reaped.
    pub(super) fn ended_of_step(&self, pid: Pid) {
        lock(&self.of_steps).retain(|&other| other != pid);
    }

    /// Calls for each process that runs for a step; none of them is reaped meanwhile.
    pub(super) fn each_of_steps(&self, call: impl FnMut(Pid)) {
        lock(&self.of_steps).iter().copied().for_each(call);
    }

    fn wake(&self) -> io::Result<Arc<Wake>> {
        let spare = lock(&self.spare).pop();
        spare.map_or_else(|| Wake::new().map(Arc::new), Ok)
    }

    fn note(&self, (grant, task): (GrantId, u64), pid: Option<Pid>, wake: &Arc<Wake>) {
        let leader = Leader {
            pid,
            grant,
            wake: Arc::clone(wake),
            is_told: false,
        };
        lock(&self.leaders).insert(task, leader);
    }

    pub(super) fn ended(&self, task: u64) {
        let ended = lock(&self.leaders).remove(&task);
        let unused = ended.filter(|leader| !leader.is_told);
        lock(&self.spare).extend(unused.map(|leader| leader.wake));
    }

    /// Tells those tasks of a grant that run to end.
    pub(super) fn end(&self, grant: GrantId, tasks: IndexRange) {
        let mut leaders = lock(&self.leaders);
        let range = tasks.start..tasks.end.max(tasks.start);
        let of_grant = leaders
            .range_mut(range)
            .filter(|(_, leader)| leader.grant == grant);
        of_grant.for_each(|(_, leader)| {
            leader.is_told = true;
            leader.wake.raise();
        });
    }

    /// Sends a signal to each task of a grant that runs; one that is being started gets it as soon as it is there, since it may
    /// already have been seen to run.
    pub(super) fn signal(&self, grant: GrantId, tasks: IndexRange, signal: TaskSignal) {
        let range = tasks.start..tasks.end.max(tasks.start);
        let mut starting = lock(&self.starting);
        for (_, one) in starting.range_mut(range.clone()) {
            if one.grant == grant && one.signals.len() < SIGNALS_MAX {
                one.signals.push(signal);
            }
        }
        // none of them is reaped meanwhile
        let leaders = lock(&self.leaders);
        let of_grant = leaders.range(range).filter(|(_, leader)| leader.grant == grant);
        let processes = of_grant.filter_map(|(_, leader)| leader.pid);
        processes.for_each(|pid| tell(pid, signal.number, signal.recipients));
    }

    /// Calls for the process of a task that runs; it is not reaped meanwhile.
    pub(super) fn at_leader(&self, task: u64, call: impl FnOnce(Pid)) {
        if let Some(pid) = lock(&self.leaders).get(&task).and_then(|leader| leader.pid) {
            call(pid);
        }
    }

    /// Tells all tasks that run to end.
    pub(super) fn end_all(&self) {
        for leader in lock(&self.leaders).values_mut() {
            leader.is_told = true;
            leader.wake.raise();
        }
    }

    fn runs(&self, task: u64) -> bool {
        lock(&self.leaders).contains_key(&task)
    }

    /// Kills all tasks and what they have left behind; no other is started from then on.
    pub(super) fn kill_all(&self) {
        // at first without waiting for any that is being started: its program may lie on storage that hangs
        self.kill_leaders();
        *self.is_over.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.kill_leaders();
        self.sweep();
    }

    /// Kills and reaps orphans whose task does not run any more.
    pub(super) fn sweep(&self) {
        for _ in 0..LOOKS_MAX {
            let (mut killed, mut is_unsure) = (None, false);
            for orphan in self.orphans() {
                match waitpid(Some(orphan), WaitOptions::NOHANG) {
                    // it lives
                    Ok(None) if is_in_exec(orphan) => is_unsure = true,
                    Ok(None) if !task_of(orphan).is_some_and(|task| self.runs(task)) => {
                        let _ = kill_process(orphan, Signal::KILL);
                        killed = Some(orphan);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            match killed {
                // it dies at once, and what it has started becomes an orphan then
                Some(last) => drop(waitpid(Some(last), WaitOptions::empty())),
                None if is_unsure => std::thread::sleep(EXEC_WAIT),
                None => return,
            }
        }
    }

    /// Children that this process has not started.
    pub(super) fn orphans(&self) -> Vec<Pid> {
        let mut text = Vec::new();
        let mut piece = [0; READ_BYTES];
        // one that fails tells of no more
        while let Ok(read @ 1..) = self.children.read_at(&mut piece, text.len() as u64) {
            text.extend_from_slice(&piece[..read]);
        }
        let numbers = text
            .split(u8::is_ascii_whitespace)
            .filter_map(|number| str::from_utf8(number).ok()?.parse().ok());
        numbers.filter_map(Pid::from_raw).collect()
    }

    fn kill_leaders(&self) {
        let leaders = std::mem::take(&mut *lock(&self.leaders));
        let mut processes: Vec<Pid> = leaders.values().filter_map(|leader| leader.pid).collect();
        processes.append(&mut lock(&self.of_steps));
        for &process in &processes {
            let _ = kill_process_group(process, Signal::KILL);
        }
        let without_process = leaders.values().filter(|leader| leader.pid.is_none());
        without_process.for_each(|leader| leader.wake.raise());
        // what they have started becomes an orphan only when they are dead; whoever started them reaps them
        for process in processes {
            let _ = waitid(
                WaitId::Pid(process),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
        }
    }
}

/// The task that has started a process, by its variables.
pub(super) fn task_of(process: Pid) -> Option<u64> {
    let variables = fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).ok()?;
    let found = variables.split(|&byte| byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(INDEX_VARIABLE.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    std::str::from_utf8(found).ok()?.parse().ok()
}

/// Whether a living process has left its old program and not yet begun with the new: only then it has no words of its command,
/// and no variables either.
fn is_in_exec(process: Pid) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero()));
    words.is_ok_and(|words| words.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use phalanx_protocol::command::Recipients;

    use super::*;

    #[test]
    fn a_signal_that_comes_while_a_process_is_started_reaches_it() {
        let running = Running::new().unwrap();
        let grant = GrantId {
            term: phalanx_protocol::Term(1),
            number: 1,
        };
        let mut child = None;
        let started = running.start((grant, 3), || {
            for (tasks, number) in [(0..3, 9), (3..4, 15)] {
                let signal = TaskSignal {
                    number,
                    recipients: Recipients::Leader,
                };
                running.signal(grant, IndexRange::new(tasks.start, tasks.end), signal);
            }
            let reader = Command::new("cat").stdin(Stdio::piped()).spawn()?;
            let pid = Pid::from_child(&reader);
            child = Some(reader);
            Ok(pid)
        });
        assert!(started.is_ok());
        // else the end of its input ends it
        assert_eq!(child.unwrap().wait().unwrap().signal(), Some(15));
    }

    #[test]
    fn once_all_were_killed_nothing_is_started() {
        let running = Running::new().unwrap();
        running.kill_all();
        let mut was_tried = false;
        let grant = GrantId {
            term: phalanx_protocol::Term(1),
            number: 1,
        };
        let error = running.start((grant, 0), || {
            was_tried = true;
            Ok(getpid())
        });
        assert_eq!(error.unwrap_err().to_string(), "its job was ended");
        assert!(!was_tried && !running.runs(0));
    }
}
