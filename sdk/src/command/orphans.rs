//! What tasks leave behind. A process whose parent has ended becomes this one's child, so that nothing gets out of sight, also
//! what left its task's process group; and whoever ends without it is ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Mutex;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};

use super::lock;
use super::variables::INDEX_VARIABLE;

/// Looks for orphans at most so often after one task: each look finds what was started during the one before.
const LOOKS_MAX: usize = 50;

/// Makes this process the parent of orphans, and lets it outlive its worker by as long as it takes to end its tasks.
pub(super) fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    // the end of the socket tells it too, and leaves the time
    set_parent_process_death_signal(None)?;
    Ok(())
}

/// The tasks that run now, each with the process that leads its group.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<BTreeMap<u64, Pid>>);

impl Running {
    pub(super) fn began(&self, task: u64, leader: Pid) {
        lock(&self.0).insert(task, leader);
    }

    pub(super) fn ended(&self, task: u64) {
        lock(&self.0).remove(&task);
    }

    fn runs(&self, task: u64) -> bool {
        lock(&self.0).contains_key(&task)
    }

    /// Kills all tasks and what they have left behind.
    pub(super) fn kill_all(&self) {
        for leader in std::mem::take(&mut *lock(&self.0)).into_values() {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        sweep(self);
    }
}

/// Kills and reaps orphans whose task does not run any more.
pub(super) fn sweep(running: &Running) {
    for _ in 0..LOOKS_MAX {
        let mut killed = None;
        for orphan in orphans() {
            match waitpid(Some(orphan), WaitOptions::NOHANG) {
                // it lives
                Ok(None) if !task_of(orphan).is_some_and(|task| running.runs(task)) => {
                    let _ = kill_process(orphan, Signal::KILL);
                    killed = Some(orphan);
                }
                Ok(_) | Err(_) => {}
            }
        }
        let Some(last) = killed else { return };
        // it dies at once, and what it has started becomes an orphan then
        let _ = waitpid(Some(last), WaitOptions::empty());
    }
}

/// Children that this process has not started: the system gives orphans to its first thread, which starts none.
fn orphans() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    let numbers = children
        .split_ascii_whitespace()
        .filter_map(|number| number.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

/// The task that has started a process, by its variables.
fn task_of(process: Pid) -> Option<u64> {
    let variables = fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).ok()?;
    let found = variables.split(|&byte| byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(INDEX_VARIABLE.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    std::str::from_utf8(found).ok()?.parse().ok()
}
