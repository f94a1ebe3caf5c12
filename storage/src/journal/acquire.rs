//! Rules R2 and R3: how a scheduler becomes the leader of a shard.
//!
//! It reads the log from the newest whole snapshot (or on from where it stood by) before it does anything, so that little is
//! left between the fence and the first service. The rest, from the end that it saw to the fence, is `settle`'s.

use phalanx_protocol::Term;

use super::PIPELINE_DEPTH_MAX;
use super::follow::{OnDamage, Position, follow};
use super::replay::{Found, LogError, LogRecord, VoidRule};
use super::settle::{Settling, create_or_find};
use crate::clock::Moment;
use crate::damage::{Damage, Effect, Fault};
use crate::marker::{is_marked, list_markers, marker_prefix};
use crate::slot::{
    CHUNK_SLOTS, LogId, Nonces, SlotHead, SlotKind, encode, log_prefix, slot_key, slot_of_key,
};
use crate::snapshot::{Snapshot, newest_whole, snapshot_prefix};
use crate::store::Store;

/// How far beyond the end the first fence goes: further than a living leader writes while it is put.
const JUMP: u64 = 2 * PIPELINE_DEPTH_MAX;
/// Fences tried, each twice as far ahead, before giving way to a log that runs away.
const FENCES_MAX: u32 = 24;

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
    let log = candidate.log;
    let Base {
        first_slot,
        mut position,
        snapshot,
        resumed,
        mut damage,
    } = Base::choose(store, &candidate)?;
    let mut nonces = Nonces::new(candidate.nonce_seed);
    let mut records = Vec::new();
    let mut keep = |record| records.push(record);
    let on_damage = match resumed {
        true => OnDamage::Refuse,
        false => candidate.on_damage,
    };
    match follow(store, log, &mut position, on_damage, &mut keep) {
        Ok(found) => damage.extend(found),
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
        Ok(found) => damage.extend(found),
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
    fn choose(store: &dyn Store, candidate: &Candidate) -> Result<Self, LogError> {
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
        let (snapshot, mut damage) = newest_whole(store, log).map_err(failed)?;
        let mut position = snapshot.as_ref().map_or_else(Position::start, Position::behind);
        if marked(store, log, position.next_slot)? {
            let first_slot = first_slot_left(store, log)?;
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
