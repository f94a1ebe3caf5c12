//! What of the open job is to end: all of it, or some tasks of some grants. Asked before each chunk and by tasks that run, so
//! that it costs one load of an atomic word as long as nothing is to end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phalanx_protocol::id::GrantId;
use phalanx_protocol::range::{IndexRange, RangeSet};

use super::lock;

/// Grants of which it is kept what was stopped; of more, the newest.
const STOPPED_GRANTS_MAX: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    all: AtomicBool,
    /// How often tasks were stopped.
    count: AtomicU64,
    tasks: Mutex<BTreeMap<GrantId, RangeSet>>,
}

impl Stops {
    /// Stops everything.
    pub(super) fn stop_all(&self) {
        self.all.store(true, Ordering::Relaxed);
    }

    /// Stops tasks of a grant.
    pub(super) fn stop(&self, grant: GrantId, range: IndexRange) {
        let mut tasks = lock(&self.tasks);
        tasks.entry(grant).or_default().insert(range);
        if tasks.len() > STOPPED_GRANTS_MAX {
            tasks.pop_first();
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// How often tasks were stopped: what was looked up before it changed is to be looked up again.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether everything is to end.
    #[inline]
    pub(crate) fn is_all(&self) -> bool {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether any tasks were stopped.
    #[inline]
    pub(crate) fn are_some(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Whether a task of a grant was stopped.
    pub(crate) fn has(&self, grant: GrantId, index: u64) -> bool {
        let tasks = lock(&self.tasks);
        tasks.get(&grant).is_some_and(|stopped| stopped.contains(index))
    }

    /// The pieces of a range that were stopped, and those that were not.
    pub(super) fn sift(&self, grant: GrantId, range: IndexRange) -> (Vec<IndexRange>, Vec<IndexRange>) {
        match lock(&self.tasks).get(&grant) {
            Some(stopped) => (stopped.pieces(range), stopped.gaps(range)),
            None => (Vec::new(), vec![range]),
        }
    }
}
