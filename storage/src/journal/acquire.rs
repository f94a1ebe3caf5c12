//! Rules R2 and R3: how a scheduler becomes the leader of a shard.
//!
//! It reads the log from the newest whole snapshot (or on from where it stood by) before it does anything, so that little is
//! left between the fence and the first service. The rest, from the end that it saw to the fence, is `settle`'s.

use std::ops::Range;

use phalanx_protocol::Term;

use super::PIPELINE_DEPTH_MAX;
use super::follow::{OnDamage, Position, WINDOW_SLOTS, follow, read_each};
use super::replay::{Found, LogError, LogRecord, VoidRule};
use super::settle::{Settling, create_or_find};
use crate::clock::Moment;
use crate::damage::{Damage, Effect, Fault};
use crate::marker::{is_marked, list_markers, marker_prefix};
use crate::slot::{
    CHUNK_SLOTS, LogId, Nonces, SlotHead, SlotKind, encode, log_prefix, slot_key, slot_of_key,
};
use crate::snapshot::{Snapshot, newest_whole, read_snapshot, snapshot_key, snapshot_prefix};
use crate::store::Store;

/// How far beyond the end the first fence goes: further than a living leader writes while it is put.
const JUMP: u64 = 2 * PIPELINE_DEPTH_MAX;
/// Fences tried, each twice as far ahead, before giving way to a log that runs away.
const FENCES_MAX: u32 = 24;

/// Names of snapshots that are asked for when a listing may have hidden one: what a minute brings at the most, which is how
/// far apart they are, on storage that takes a millisecond for a slot.
const NAMES_ASKED_MAX: u64 = 1 << 16;

/// Who wants to lead what.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The log.
    pub log: LogId,
    /// 128 random bits, fresh for every attempt.
    pub nonce_seed: u128,
    /// Where it stood by; it has the records up to there.
    pub from: Option<Position>,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl Candidate {
    /// One that has read nothing yet, and keeps all that is not damaged.
    pub fn new(log: LogId, nonce_seed: u128) -> Self {
        Self {
            log,
            nonce_seed,
            from: None,
            on_damage: OnDamage::default(),
        }
    }
}

/// What a leader knows when it begins.
#[derive(Debug)]
pub struct Leadership {
    /// The log.
    pub log: LogId,
    /// The term: higher than that of everyone before.
    pub term: Term,
    /// Where the leader writes first.
    pub next_slot: u64,
    /// Where its nonces go on.
    pub nonces: Nonces,
    /// Whether `records` go on from where the candidate stood by. Else what it had read there is to be forgotten, and the
    /// journal begins with `snapshot`.
    pub resumed: bool,
    /// The snapshot that the records come behind; none if they begin with the log, or if `resumed`.
    pub snapshot: Option<Snapshot>,
    /// Every record that counts, in order.
    pub records: Vec<LogRecord>,
    /// What was passed over. Whoever leads should tell, and take a snapshot soon: then no later start meets it again.
    pub damage: Vec<Damage>,
    /// When the candidate was last sure of itself (rule R6).
    pub sure_since: Moment,
}

/// Why a candidate does not lead.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Someone else leads, with a term at least as high as the one tried.
    #[error("another scheduler leads with term {term}")]
    StoodDown {
        /// Its term.
        term: Term,
    },
    /// The log grew faster than fences could be put in front of it.
    #[error("the log ran away from {FENCES_MAX} fences")]
    RanAway,
    /// What the candidate read was deleted meanwhile: it slept too long in between.
    #[error("the log was deleted under the candidate's hands")]
    Outdated,
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Takes the lead of a log and reads what it says.
///
/// # Errors
/// [`AcquireError::StoodDown`] if someone leads with a higher term. After any error it may be called again, with a fresh
/// nonce seed.
pub fn acquire(store: &dyn Store, candidate: Candidate) -> Result<Leadership, AcquireError> {
    acquire_behind(store, candidate, None)
}

/// The same, for one that was shown the snapshot of that slot by its name, if by nothing else.
fn acquire_behind(
    store: &dyn Store,
    candidate: Candidate,
    shown: Option<u64>,
) -> Result<Leadership, AcquireError> {
    let log = candidate.log;
    let Base {
        first_slot,
        mut position,
        snapshot,
        resumed,
        mut damage,
    } = Base::choose(store, &candidate, shown)?;
    let mut nonces = Nonces::new(candidate.nonce_seed);
    let mut records = Vec::new();
    let mut keep = |record| records.push(record);
    let on_damage = match resumed {
        true => OnDamage::Refuse,
        false => candidate.on_damage,
    };
    match follow(store, log, &mut position, on_damage, &mut keep) {
        Ok(found) => {
            if let Some(hidden) = covering(store, log, &found, position.next_slot)? {
                return acquire_behind(store, candidate, Some(hidden));
            }
            damage.extend(found);
        }
        // a snapshot may hold what cannot be read any more where it stood by
        Err(LogError::Damaged { .. }) if resumed => return acquire(store, anew(candidate)),
        Err(error) => return Err(error.into()),
    }
    // before the end is looked for: whoever sleeps from here on will know it (rule R6)
    let sure_since = Moment::now();
    let tail = tail_hint(store, log, position.next_slot)?;
    let fence = put_fence(store, log, tail, &mut nonces)?;
    let term = Term(fence + 1);
    let settling = Settling::new(store, &candidate, on_damage, term, first_slot, tail, position)?;
    match settling.run(&mut position, &mut keep) {
        Ok(found) => {
            if let Some(hidden) = covering(store, log, &found, position.next_slot)? {
                return acquire_behind(store, candidate, Some(hidden));
            }
            damage.extend(found);
        }
        Err(AcquireError::Log(LogError::Damaged { .. } | LogError::Lost { .. })) if resumed => {
            return acquire(store, anew(candidate));
        }
        Err(error) => return Err(error),
    }
    for slot in [first_slot, fence] {
        if marked(store, log, slot)? {
            return Err(AcquireError::Outdated);
        }
    }
    Ok(Leadership {
        log,
        term,
        next_slot: fence + 1,
        nonces,
        resumed,
        snapshot,
        records,
        damage,
        sure_since,
    })
}

/// The same candidate, which forgets what it has read.
fn anew(candidate: Candidate) -> Candidate {
    Candidate {
        from: None,
        ..candidate
    }
}

/// Where a candidate begins to read.
struct Base {
    /// From here on the candidate vouches that slots are there.
    first_slot: u64,
    position: Position,
    snapshot: Option<Snapshot>,
    resumed: bool,
    damage: Vec<Damage>,
}

impl Base {
    fn choose(store: &dyn Store, candidate: &Candidate, shown: Option<u64>) -> Result<Self, LogError> {
        let log = candidate.log;
        if let Some(position) = candidate.from
            && !marked(store, log, position.next_slot)?
        {
            let close_behind = position.next_slot.saturating_sub(PIPELINE_DEPTH_MAX);
            return Ok(Self {
                first_slot: match marked(store, log, close_behind)? {
                    true => position.next_slot,
                    false => close_behind,
                },
                position,
                snapshot: None,
                resumed: true,
                damage: Vec::new(),
            });
        }
        let failed = |source| LogError::Store {
            key: snapshot_prefix(log.shard),
            source,
        };
        let (mut snapshot, mut damage) = newest_whole(store, log).map_err(failed)?;
        let is_newer = |slot: &u64| snapshot.as_ref().is_none_or(|listed| listed.slot < *slot);
        if let Some(slot) = shown.filter(is_newer)
            && let Some(Ok(whole)) = read_snapshot(store, log, slot).map_err(failed)?
        {
            snapshot = Some(whole);
        }
        let mut position = snapshot.as_ref().map_or_else(Position::start, Position::behind);
        if marked(store, log, position.next_slot)? {
            let first_slot = first_slot_left(store, log)?;
            let tail = tail_hint(store, log, first_slot)?;
            if shown.is_none()
                && let Some(hidden) = find_snapshot(store, log, first_slot.saturating_sub(1)..tail)?
            {
                return Self::choose(store, candidate, Some(hidden));
            }
            if candidate.on_damage != OnDamage::AcceptLoss {
                return Err(LogError::BeginningGone {
                    key: snapshot_prefix(log.shard),
                    first_slot,
                    damage,
                });
            }
            damage.push(Damage {
                key: slot_key(log.shard, position.next_slot),
                fault: Fault::Missing,
                effect: Effect::BeginningLost { first_slot },
            });
            position = Position::at(first_slot, VoidRule::default());
        }
        Ok(Self {
            first_slot: position.next_slot,
            position,
            snapshot,
            resumed: false,
            damage,
        })
    }
}

/// The slot of a snapshot that holds the first of what seems lost, if there is one; the log has been read up to `end`. None
/// that was listed does, so the listing was stale.
fn covering(store: &dyn Store, log: LogId, damage: &[Damage], end: u64) -> Result<Option<u64>, LogError> {
    let lost = damage
        .iter()
        .find(|damage| matches!(damage.effect, Effect::RecordsLost { .. }));
    match lost.and_then(|damage| slot_of_key(log.shard, &damage.key)) {
        Some(first) => find_snapshot(store, log, first..end),
        None => Ok(None),
    }
}

/// The newest whole snapshot of one of these slots, whatever listings show: each is asked for by its name. That takes a
/// while, and is done only when something would be given up otherwise.
fn find_snapshot(store: &dyn Store, log: LogId, slots: Range<u64>) -> Result<Option<u64>, LogError> {
    let first = slots.start.max(slots.end.saturating_sub(NAMES_ASKED_MAX));
    let look = |slot| match read_snapshot(store, log, slot) {
        Ok(found) => Ok(matches!(found, Some(Ok(_))).then_some(slot)),
        Err(source) => Err(LogError::Store {
            key: snapshot_key(log.shard, slot),
            source,
        }),
    };
    let mut end = slots.end;
    while end > first {
        let start = first.max(end.saturating_sub(WINDOW_SLOTS));
        if let Some(newest) = read_each(start..end, &look)?.into_iter().flatten().max() {
            return Ok(Some(newest));
        }
        end = start;
    }
    Ok(None)
}

pub(super) fn marked(store: &dyn Store, log: LogId, slot: u64) -> Result<bool, LogError> {
    is_marked(store, log.shard, slot).map_err(|source| LogError::Store {
        key: marker_prefix(log.shard),
        source,
    })
}

/// The first slot of the first chunk behind all marked ones.
fn first_slot_left(store: &dyn Store, log: LogId) -> Result<u64, LogError> {
    let chunks = list_markers(store, log.shard).map_err(|source| LogError::Store {
        key: marker_prefix(log.shard),
        source,
    })?;
    Ok(chunks.last().map_or(0, |chunk| (chunk + 1) * CHUNK_SLOTS))
}

/// The slot behind the last one that a listing shows, but not before `known_tail`. Only a hint: a stale one costs a longer
/// search.
fn tail_hint(store: &dyn Store, log: LogId, known_tail: u64) -> Result<u64, LogError> {
    let prefix = log_prefix(log.shard);
    let after = known_tail.checked_sub(1).map(|last| slot_key(log.shard, last));
    let keys = store
        .list(&prefix, after.as_deref())
        .map_err(|source| LogError::Store { key: prefix, source })?;
    Ok(keys
        .iter()
        .rev()
        .find_map(|key| slot_of_key(log.shard, key))
        .map_or(known_tail, |last| known_tail.max(last + 1)))
}

/// Creates the fence and returns its slot.
fn put_fence(store: &dyn Store, log: LogId, mut tail: u64, nonces: &mut Nonces) -> Result<u64, AcquireError> {
    let mut jump = JUMP;
    for _ in 0..FENCES_MAX {
        let slot = tail + jump;
        let head = SlotHead {
            log,
            slot,
            term: Term(slot + 1),
            nonce: nonces.draw(),
            kind: SlotKind::Fence,
        };
        let (object, _) = encode(&head, &[]);
        match create_or_find(store, log, slot, &object)? {
            Found::Missing => return Ok(slot),
            Found::Whole(there) if there.head.nonce == head.nonce && there.head.term == head.term => {
                return Ok(slot);
            }
            Found::Whole(there) if there.head.term >= head.term => {
                return Err(AcquireError::StoodDown {
                    term: there.head.term,
                });
            }
            // whose it was cannot be known; in front of it there is room
            Found::Whole(_) | Found::Damaged { .. } => {}
        }
        tail = slot + 1;
        jump *= 2;
    }
    Err(AcquireError::RanAway)
}

#[cfg(test)]
mod tests;
