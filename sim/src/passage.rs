//! The storage as a candidate meets it while it takes the lead, which happens in one moment of virtual time. Its calls
//! come from several threads, so what each meets with depends on nothing but the key and how often that was called.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use phalanx_storage::slot::{SlotKind, decode, log_prefix, slot_of_key};
use phalanx_storage::snapshot::slot_of_snapshot_key;
use phalanx_storage::{Put, Store, StoreError};

use crate::dice::{Dice, mix};
use crate::journal::{LOG, Planted};
use crate::objects::Objects;
use crate::torn::taken_for_whole;

/// Keys that a stale listing lacks at the most.
const STALE_KEYS_MAX: u64 = 40;
/// How far ahead of what a listing shows the first fence is put.
const FENCE_JUMP: u64 = 16;

/// What goes wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    Nothing,
    /// The listing lacks what came last.
    StaleListing,
    /// All was read a while ago, just so long that the fence is put where a living leader writes now.
    FenceInTheWay,
    /// No call arrives.
    Unreachable,
    /// No answer comes back.
    Unanswered,
    /// One call in so many fails.
    OneIn(u64),
}

/// One candidate's way through.
#[derive(Debug)]
pub(crate) struct Passage {
    objects: Arc<Objects>,
    seed: u64,
    mishap: Mishap,
    planted: Planted,
    /// Slots and snapshots from here on were not there when the candidate looked.
    unseen_from: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The candidate has put its fence.
    fenced: bool,
    calls: BTreeMap<String, u64>,
    /// Creates that failed for the candidate and land later, by key and call.
    late: BTreeMap<(String, u64), Bytes>,
}

impl Passage {
    pub(crate) fn new(objects: Arc<Objects>, seed: u64, mishap: Mishap, planted: Planted) -> Self {
        let next = objects
            .first_under_way()
            .filter(|_| mishap == Mishap::FenceInTheWay);
        Self {
            unseen_from: next.and_then(|next| slot_of(&next).checked_sub(FENCE_JUMP)),
            objects,
            seed,
            mishap,
            planted,
            state: Mutex::default(),
        }
    }

    /// Creates that are still to land.
    pub(crate) fn take_late(&self) -> Vec<(String, Bytes)> {
        let late = std::mem::take(&mut self.lock().late);
        late.into_iter().map(|((key, _), object)| (key, object)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dice for this call on this key, and its number.
    fn throw(&self, key: &str) -> (Dice, u64) {
        let mut state = self.lock();
        let calls = state.calls.entry(key.to_owned()).or_default();
        *calls += 1;
        let bytes = key.bytes().map(u64::from).chain([*calls]);
        let seed = bytes.fold(self.seed, |seed, byte| mix(seed.rotate_left(8) ^ byte));
        (Dice::new(seed), *calls)
    }

    /// Whether an object was there when the candidate looked.
    fn sees(&self, key: &str) -> bool {
        let number = slot_of_key(LOG.shard, key).or_else(|| slot_of_snapshot_key(LOG.shard, key));
        self.lock().fenced
            || self
                .unseen_from
                .is_none_or(|from| number.is_none_or(|number| number < from))
    }

    fn fails(&self, dice: &mut Dice) -> bool {
        match self.mishap {
            Mishap::Nothing | Mishap::StaleListing | Mishap::FenceInTheWay => false,
            Mishap::Unreachable | Mishap::Unanswered => true,
            Mishap::OneIn(calls) => dice.one_in(calls),
        }
    }
}

impl Store for Passage {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let (mut dice, call) = self.throw(key);
        self.lock().fenced = true;
        let luck = dice.next();
        // creates of others that were under way land before this one or after it
        self.objects
            .land_on(key, |number| mix(luck ^ number).is_multiple_of(2));
        if self.planted == Planted::ServesWithHoles && is_fill(key, bytes) {
            return Ok(self.objects.get(key)?.map_or(Put::Created, |_| Put::Exists));
        }
        if !self.fails(&mut dice) {
            return self.objects.put_if_absent(key, bytes);
        }
        let fate = match self.mishap {
            Mishap::Unreachable => 0,
            Mishap::Unanswered => 1,
            Mishap::Nothing | Mishap::StaleListing | Mishap::FenceInTheWay | Mishap::OneIn(_) => {
                dice.within(0..4)
            }
        };
        match fate {
            // lost on the way there
            0 => {}
            // lost on the way back
            1 => drop(self.objects.put_if_absent(key, bytes)?),
            // late
            2 => {
                let object = Bytes::copy_from_slice(bytes);
                self.lock().late.insert((key.to_owned(), call), object);
            }
            // in conflict with one that failed itself
            _ => return Ok(Put::Exists),
        }
        Err(timed_out("create", key))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut dice, _) = self.throw(key);
        if self.fails(&mut dice) {
            return Err(timed_out("read", key));
        }
        if !self.sees(key) {
            return Ok(None);
        }
        let object = self.objects.get(key)?;
        let whole = self.objects.whole_bytes(key);
        Ok(match (object, whole) {
            (Some(left), Some(whole)) if self.planted == Planted::SkipsChecksums => {
                Some(taken_for_whole(key, &left, whole))
            }
            (object, _) => object,
        })
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.objects.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let (mut dice, _) = self.throw(prefix);
        if self.fails(&mut dice) {
            return Err(timed_out("list", prefix));
        }
        let mut keys = self.objects.list(prefix, after)?;
        keys.retain(|key| self.sees(key));
        match self.mishap {
            Mishap::StaleListing | Mishap::OneIn(_) => {
                let is_log = prefix == log_prefix(LOG.shard);
                let hidden = dice.within(0..if is_log { STALE_KEYS_MAX } else { 2 }) as usize;
                keys.truncate(keys.len().saturating_sub(hidden));
            }
            Mishap::Nothing | Mishap::FenceInTheWay | Mishap::Unreachable | Mishap::Unanswered => {}
        }
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.delete(key)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.objects.replace(key, bytes)
    }
}

fn slot_of(key: &str) -> u64 {
    slot_of_key(LOG.shard, key).unwrap_or(0)
}

fn is_fill(key: &str, bytes: &[u8]) -> bool {
    let slot = decode(Bytes::copy_from_slice(bytes), LOG, slot_of(key));
    slot.is_ok_and(|slot| slot.head.kind == SlotKind::Fill)
}

fn timed_out(action: &'static str, key: &str) -> StoreError {
    StoreError::new(action, Path::new(key), io::ErrorKind::TimedOut.into())
}
