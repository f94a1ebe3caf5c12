//! Deletion of old log (rule R7): in whole chunks, an hour after they were marked, and never a slot that is not covered.
//!
//! A chunk may go when all of it lies below the *older* of the two newest whole snapshots, so that either of them may be
//! damaged later. It is marked first; whoever leads looks for the marker before it acknowledges, so that one who slept for
//! longer than [`GRACE`] finds out that its slots' names are free again. Slots in which results or failure texts rest stay
//! as long as the scheduler says that it needs them; a later pass deletes them.
//!
//! [`Schedule`] decides, without clock or storage; [`Collector`] looks and deletes. Nothing is deleted without a [`Cover`],
//! which is made only by reading both snapshots through, and is used up by one chunk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::marker::{list_markers, put_marker};
use crate::slot::{CHUNK_SLOTS, LogId, chunk_prefix, slot_of_key};
use crate::snapshot::{SNAPSHOTS_KEPT, delete_old_snapshots, kept_snapshots};
use crate::store::{Store, StoreError};

/// How long this process must have seen a chunk's marker before it deletes the chunk. A hundred times
/// [`crate::journal::EXPIRY`], and far longer than any file system caches a listing.
pub const GRACE: Duration = Duration::from_secs(3600);

/// Which slots a scheduler still needs.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// The last slot that the scheduler has applied. It cannot know what is needed behind it, so nothing there is deleted:
    /// a deposed one that wakes up late does no harm.
    pub through: u64,
    /// Slots up to there in which results or failure texts rest that somebody may ask for.
    pub slots: BTreeSet<u64>,
}

/// Decides which chunks are marked and which may go.
#[derive(Debug, Clone)]
pub struct Schedule {
    chunk_slots: u64,
    grace: Duration,
    /// When the marker of a chunk was first seen.
    seen: BTreeMap<u64, Moment>,
    /// Chunks of which nothing is left.
    gone: BTreeSet<u64>,
}

impl Schedule {
    /// Knows of no marker yet.
    ///
    /// # Panics
    /// If a chunk has no slots.
    pub fn new(chunk_slots: u64, grace: Duration) -> Self {
        assert!(chunk_slots > 0, "a chunk has slots");
        Self {
            chunk_slots,
            grace,
            seen: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// A marker is there.
    pub fn mark_seen(&mut self, chunk: u64, now: Moment) {
        self.seen.entry(chunk).or_insert(now);
    }

    /// A chunk has nothing left that could be deleted, now or later.
    pub fn mark_gone(&mut self, chunk: u64) {
        self.gone.insert(chunk);
    }

    /// The chunks to be marked, first ones first, if all slots below `covered` are in a snapshot.
    pub fn unmarked(&self, covered: u64) -> impl Iterator<Item = u64> {
        (0..covered / self.chunk_slots).filter(|chunk| !self.seen.contains_key(chunk))
    }

    /// The chunks whose slots may be deleted now.
    pub fn ripe(&self, covered: u64, now: Moment) -> impl Iterator<Item = u64> {
        (0..covered / self.chunk_slots).filter(move |chunk| {
            let seen = self.seen.get(chunk);
            !self.gone.contains(chunk) && seen.is_some_and(|seen| now.since(*seen) >= self.grace)
        })
    }
}

/// Proof that whole snapshots hold what the slots below `slots_below` said, as of a moment ago.
#[derive(Debug)]
pub struct Cover {
    slots_below: u64,
}

impl Cover {
    /// Reads the snapshots through; `None` unless [`SNAPSHOTS_KEPT`] are whole.
    ///
    /// # Errors
    /// Says why they could not be read.
    pub fn verify(store: &dyn Store, log: LogId) -> Result<Option<Self>, StoreError> {
        let kept = kept_snapshots(store, log)?;
        // of the older one's own slot nothing is gained, and something is left to see
        Ok(kept
            .get(SNAPSHOTS_KEPT - 1)
            .map(|&slots_below| Self { slots_below }))
    }
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Chunks that were marked.
    pub chunks_marked: u64,
    /// Slots that were deleted.
    pub slots_deleted: u64,
    /// Slots that stay because they are needed.
    pub slots_kept: u64,
    /// Snapshots that were deleted.
    pub snapshots_deleted: usize,
}

/// Deletes what is old from one log. One per leader; it must not be older than the process, which has to see each marker for
/// the grace itself.
pub struct Collector {
    store: Arc<dyn Store>,
    log: LogId,
    schedule: Schedule,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector")
            .field("log", &self.log)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// Knows of no marker yet.
    pub fn new(store: Arc<dyn Store>, log: LogId) -> Self {
        Self::with_grace(store, log, GRACE)
    }

    /// The same with another grace than [`GRACE`], which is for tests: they have less time.
    pub fn with_grace(store: Arc<dyn Store>, log: LogId, grace: Duration) -> Self {
        Self {
            store,
            log,
            schedule: Schedule::new(CHUNK_SLOTS, grace),
        }
    }

    /// One pass: marks what is newly covered, deletes what has been marked for long enough and is not needed, and deletes
    /// snapshots older than the two newest whole ones. Blocks; some thousand deletions are usual. `clock` tells the time,
    /// which is [`Moment::now`] but in tests; it is asked after each look, so that no marker seems older than it is.
    ///
    /// # Errors
    /// Says what failed; the next pass goes on.
    pub fn run(&mut self, needed: &Needed, clock: &dyn Fn() -> Moment) -> Result<Collected, StoreError> {
        let mut done = Collected::default();
        let store = &*self.store;
        let Some(cover) = Cover::verify(store, self.log)? else {
            return Ok(done);
        };
        let covered = cover.slots_below.min(needed.through);
        let markers = list_markers(store, self.log.shard)?;
        let now = clock();
        for chunk in markers {
            self.schedule.mark_seen(chunk, now);
        }
        let unmarked: Vec<u64> = self.schedule.unmarked(covered).collect();
        for chunk in unmarked {
            put_marker(store, self.log, chunk)?;
            self.schedule.mark_seen(chunk, clock());
            done.chunks_marked += 1;
        }
        let ripe: Vec<u64> = self.schedule.ripe(covered, now).collect();
        for chunk in ripe {
            let Some(cover) = Cover::verify(store, self.log)? else {
                return Ok(done);
            };
            let kept = self.delete_chunk(chunk, cover, needed, &mut done)?;
            done.slots_kept += kept;
            if kept == 0 {
                self.schedule.mark_gone(chunk);
            }
        }
        done.snapshots_deleted = delete_old_snapshots(store, self.log)?;
        Ok(done)
    }

    /// Deletes the slots of a chunk that are not needed; returns how many are.
    fn delete_chunk(
        &self,
        chunk: u64,
        cover: Cover,
        needed: &Needed,
        done: &mut Collected,
    ) -> Result<u64, StoreError> {
        let mut kept = 0;
        for key in self.store.list(&chunk_prefix(self.log.shard, chunk), None)? {
            let Some(slot) = slot_of_key(self.log.shard, &key) else {
                continue;
            };
            if needed.slots.contains(&slot) || slot >= cover.slots_below.min(needed.through) {
                kept += 1;
                continue;
            }
            self.store.delete(&key)?;
            done.slots_deleted += 1;
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
