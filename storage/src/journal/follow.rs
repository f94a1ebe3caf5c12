//! Reading a log as it grows, without ever writing: a standby keeps itself warm with it, and a candidate catches up.
//!
//! Rule R12, *recover*: nothing is skipped in silence. A damaged slot still exists, so nobody can write there, and what it
//! said is lost; whether to go on without it is the operator's choice ([`OnDamage`]), and each one passed over is told.
//! The difficulty is the void rule, since the slot's term cannot be trusted:
//!
//! - If the slot was a data slot, a no-op or a fill, the term in force behind it is that of some other slot as well, or
//!   nothing in the log depends on it: the running term is kept.
//! - If it was a *fence*, keeping the running term would admit void slots right behind it. But a fence's number tells its
//!   term: the fence in slot *s* begins term *s + 1*, and no other slot's leader has that term. So if any slot of term
//!   *s + 1* lies near behind it (its leader begins there), it was a fence, and its term is taken over. (Most fences need
//!   not even that: the fills below them have the same term.)
//! - If it was a fence and its leader wrote nothing, no records of that term exist. Then a slot that was void may count:
//!   a record that was appended and never acknowledged. Nothing acknowledged is misread.
//!
//! The answer is a function of the log: the slots looked at must all be there.

use std::ops::Range;
use std::thread;

use super::PIPELINE_DEPTH_MAX;
use super::replay::{Found, LogError, LogRecord, VoidRule, admit, find_slot};
use crate::damage::{Damage, Effect, Fault};
use crate::slot::{LogId, slot_key};
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Slots behind a damaged one in which its leader's first slot lies, if it was a fence: void ones, then that.
const LOOK_AHEAD: u64 = 2 * PIPELINE_DEPTH_MAX;
/// Threads that read and fill.
const READERS: usize = 4;
/// Slots read before they are replayed, at the most.
pub(super) const WINDOW_SLOTS: u64 = 1024;
/// Slots that are worth threads.
const WINDOW_SLOTS_SHARED: u64 = 16;

/// What to do about a damaged slot in the part of the log that no snapshot covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Go on without it, keep all other records, and tell.
    #[default]
    KeepRest,
    /// Stop with an error that names it.
    Refuse,
    /// As [`OnDamage::KeepRest`]; and begin with what is left of the log when all snapshots of the deleted part are gone.
    AcceptLoss,
}

/// Where somebody stands in a log who has read all that comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The first slot not yet read.
    pub next_slot: u64,
    /// Decides what counts from there on.
    pub(crate) rule: VoidRule,
    /// Records read so far.
    pub(crate) records: u64,
}

impl Position {
    /// Before the first slot.
    pub fn start() -> Self {
        Self::at(0, VoidRule::default())
    }

    /// Behind what a snapshot holds.
    pub fn behind(snapshot: &Snapshot) -> Self {
        Self::at(snapshot.slot + 1, VoidRule::from_term(snapshot.term))
    }

    pub(crate) const fn at(next_slot: u64, rule: VoidRule) -> Self {
        Self {
            next_slot,
            rule,
            records: 0,
        }
    }

    /// The highest term up to here.
    pub fn term(&self) -> phalanx_protocol::Term {
        self.rule.term()
    }

    /// Steps over a whole slot.
    pub(crate) fn take(&mut self, slot: crate::slot::Slot, visit: &mut dyn FnMut(LogRecord)) {
        let records = &mut self.records;
        admit(&mut self.rule, slot, &mut |record| {
            *records += 1;
            visit(record);
        });
        self.next_slot += 1;
    }

    /// Steps over a slot whose content is lost, and tells what that costs.
    pub(crate) fn pass_over(
        &mut self,
        log: LogId,
        was_fence: bool,
        fault: Fault,
        records: Option<u32>,
    ) -> Damage {
        if was_fence {
            self.rule.pass_fence(self.next_slot);
        }
        let damage = Damage {
            key: slot_key(log.shard, self.next_slot),
            fault,
            effect: Effect::RecordsLost {
                records,
                records_before: self.records,
            },
        };
        self.next_slot += 1;
        damage
    }
}

/// Reads on from a position to the first slot that is missing and hands out every record that counts. Writes nothing. A
/// damaged slot is passed over, if at all, once enough lies behind it to judge it; until then the position stays before it.
///
/// Returns what was passed over.
///
/// # Errors
/// Says what could not be read; the position stands there, and calling again goes on.
pub fn follow(
    store: &dyn Store,
    log: LogId,
    position: &mut Position,
    on_damage: OnDamage,
    visit: &mut dyn FnMut(LogRecord),
) -> Result<Vec<Damage>, LogError> {
    let mut damage = Vec::new();
    let mut window_slots = 1;
    loop {
        let window = position.next_slot..position.next_slot + window_slots;
        for found in read_each(window, &|slot| find_slot(store, log, slot))? {
            match found {
                Found::Whole(slot) => position.take(slot, visit),
                Found::Missing => return Ok(damage),
                Found::Damaged { source, .. } if on_damage == OnDamage::Refuse => {
                    let key = slot_key(log.shard, position.next_slot);
                    return Err(LogError::Damaged { key, source });
                }
                Found::Damaged { source, records } => {
                    let Some(was_fence) = look_ahead(store, log, position.next_slot)? else {
                        return Ok(damage);
                    };
                    damage.push(position.pass_over(log, was_fence, Fault::Slot(source), records));
                }
            }
        }
        window_slots = (2 * window_slots).min(WINDOW_SLOTS);
    }
}

/// Whether the slot was a fence, by what lies behind it; `None` while not all of that is there.
pub(super) fn look_ahead(store: &dyn Store, log: LogId, slot: u64) -> Result<Option<bool>, LogError> {
    for behind in slot + 1..=slot + LOOK_AHEAD {
        match find_slot(store, log, behind)? {
            Found::Whole(found) if found.head.term.0 == slot + 1 => return Ok(Some(true)),
            Found::Whole(_) | Found::Damaged { .. } => {}
            Found::Missing => return Ok(None),
        }
    }
    Ok(Some(false))
}

/// Looks at each slot of a window and returns what it found in order.
pub(super) fn read_each<T: Send>(
    window: Range<u64>,
    look: &(impl Fn(u64) -> Result<T, LogError> + Sync),
) -> Result<Vec<T>, LogError> {
    if window.end - window.start < WINDOW_SLOTS_SHARED {
        return window.map(look).collect();
    }
    // reader r takes every READERS-th slot, so that the fills at the end are shared out as well
    let pieces: Vec<Result<Vec<T>, LogError>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let slots = window.clone().skip(reader).step_by(READERS);
                scope.spawn(move || slots.map(look).collect())
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

#[cfg(test)]
mod tests;
