//! Rules R2 and R3: how a scheduler becomes the leader of a shard.

use std::thread;

use bytes::Bytes;
use phalanx_protocol::Term;

use super::PIPELINE_DEPTH_MAX;
use super::replay::{LogError, LogRecord, VoidRule, admit, read_slot};
use crate::slot::{LogId, Nonces, Slot, SlotHead, SlotKind, encode, log_prefix, slot_key, slot_of_key};
use crate::store::{Put, Store};

/// How far beyond the end the first fence goes: further than a living leader writes while it is put.
const JUMP: u64 = 2 * PIPELINE_DEPTH_MAX;
/// Fences tried, each twice as far ahead, before giving way to a log that runs away.
const FENCES_MAX: u32 = 24;
/// Repeats of one create whose slot is said to exist and cannot be found.
const REPEATS_MAX: u32 = 5;
/// Threads that read and fill.
const READERS: usize = 4;
/// Slots read before they are replayed.
const WINDOW_SLOTS: u64 = 1024;

/// Who wants to lead what.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The log.
    pub log: LogId,
    /// 128 random bits, fresh for every attempt.
    pub nonce_seed: u128,
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
    /// Every record that counts, in order.
    pub records: Vec<LogRecord>,
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
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Takes the lead of a log and replays it.
///
/// # Errors
/// [`AcquireError::StoodDown`] if someone leads with a higher term. After any error it may be called again, with a fresh
/// nonce seed.
pub fn acquire(store: &dyn Store, candidate: Candidate) -> Result<Leadership, AcquireError> {
    let mut nonces = Nonces::new(candidate.nonce_seed);
    let log = candidate.log;
    let tail = tail_hint(store, log)?;
    let fence = put_fence(store, log, tail, &mut nonces)?;
    let term = Term(fence + 1);
    let fill = |slot| {
        encode(
            &SlotHead {
                log,
                slot,
                term,
                nonce: candidate.nonce_seed,
                kind: SlotKind::Fill,
            },
            &[],
        )
        .0
    };
    // the last slot found is offered a fill too: that it exists is durable only once a create there has said so
    let fill_from = tail.saturating_sub(1);
    let mut rule = VoidRule::default();
    let mut records = Vec::new();
    let mut start = 0;
    while start <= fence {
        let end = (start + WINDOW_SLOTS).min(fence + 1);
        for slot in settle_window(store, log, start..end, fill_from, &fill)? {
            if slot.head.term > term {
                return Err(AcquireError::StoodDown { term: slot.head.term });
            }
            admit(&mut rule, slot, &mut |record| records.push(record));
        }
        start = end;
    }
    Ok(Leadership {
        log,
        term,
        next_slot: fence + 1,
        nonces,
        records,
    })
}

/// The slot behind the last one that a listing shows. Only a hint: a stale one costs a longer search.
fn tail_hint(store: &dyn Store, log: LogId) -> Result<u64, LogError> {
    let prefix = log_prefix(log.shard);
    let keys = store
        .list(&prefix, None)
        .map_err(|source| LogError::Store { key: prefix, source })?;
    Ok(keys
        .iter()
        .rev()
        .find_map(|key| slot_of_key(log.shard, key))
        .map_or(0, |last| last + 1))
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
        let there = match create_or_read(store, log, slot, &object)? {
            None => return Ok(slot),
            Some(there) => there.head,
        };
        if there.nonce == head.nonce && there.term == head.term {
            return Ok(slot);
        }
        if there.term >= head.term {
            return Err(AcquireError::StoodDown { term: there.term });
        }
        tail = slot + 1;
        jump *= 2;
    }
    Err(AcquireError::RanAway)
}

/// Creates the object, or reads what is there instead.
fn create_or_read(store: &dyn Store, log: LogId, slot: u64, object: &[u8]) -> Result<Option<Slot>, LogError> {
    let key = slot_key(log.shard, slot);
    for _ in 0..REPEATS_MAX {
        match store.put_if_absent(&key, object) {
            Ok(Put::Created) => return Ok(None),
            Ok(Put::Exists) => {
                if let Some(there) = read_slot(store, log, slot)? {
                    return Ok(Some(there));
                }
            }
            Err(source) => return Err(LogError::Store { key, source }),
        }
    }
    Err(LogError::Vanished { key })
}

/// Reads the slots of a window in order, and fills those that are missing.
fn settle_window(
    store: &dyn Store,
    log: LogId,
    window: std::ops::Range<u64>,
    fill_from: u64,
    fill: &(impl Fn(u64) -> Bytes + Sync),
) -> Result<Vec<Slot>, LogError> {
    let settle = |slot: u64| -> Result<Slot, LogError> {
        if slot < fill_from
            && let Some(there) = read_slot(store, log, slot)?
        {
            return Ok(there);
        }
        let object = fill(slot);
        match create_or_read(store, log, slot, &object)? {
            Some(there) => Ok(there),
            None => slot_of(object, log, slot),
        }
    };
    // reader r takes every READERS-th slot, so that the fills at the end are shared out as well
    let pieces: Vec<Result<Vec<Slot>, LogError>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let slots = window.clone().skip(reader).step_by(READERS);
                scope.spawn(move || slots.map(settle).collect())
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut pieces = pieces
        .into_iter()
        .map(|piece| piece.map(Vec::into_iter))
        .collect::<Result<Vec<_>, LogError>>()?;
    let count = usize::try_from(window.end - window.start).unwrap_or(usize::MAX);
    Ok((0..count)
        .filter_map(|index| pieces[index % READERS].next())
        .collect())
}

fn slot_of(object: Bytes, log: LogId, slot: u64) -> Result<Slot, LogError> {
    crate::slot::decode(object, log, slot).map_err(|source| LogError::Damaged {
        key: slot_key(log.shard, slot),
        source,
    })
}

#[cfg(test)]
mod tests;
