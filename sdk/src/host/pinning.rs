//! Which cpus threads run on. What a pinned task starts, threads or processes, runs there too.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// All cpus that this process may use, as it was started.
#[derive(Debug)]
pub(super) struct AllCpus(Option<CpuSet>);

impl AllCpus {
    /// What the calling thread may use; nothing was pinned yet.
    pub(super) fn of_process() -> Self {
        Self(sched_getaffinity(None).ok())
    }
}

/// Keeps all threads of the rayon pool that this is called in to `cpus`; to any that this process may use if there are
/// none. A cpu that was taken away since leaves them where they are.
pub(super) fn pin_pool(cpus: &[u32], all: &AllCpus) {
    let set = match cpus {
        [] => all.0,
        _ => {
            let mut set = CpuSet::new();
            let numbers = cpus.iter().map(|&cpu| cpu as usize);
            numbers
                .filter(|&cpu| cpu < CpuSet::MAX_CPU)
                .for_each(|cpu| set.set(cpu));
            Some(set)
        }
    };
    if let Some(set) = set {
        rayon::broadcast(|_| {
            let _ = sched_setaffinity(None, &set);
        });
    }
}
