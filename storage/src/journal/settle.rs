//! Rule R3: after the fence is put, everything below it gets a content that never changes again.
//!
//! Slots that were never written are filled. But a slot may also be missing because the storage *lost* it, and a fill there,
//! of the new leader's term, would make every record behind it void. What is behind tells the two apart: a leader writes
//! slot *s* only when every slot up to *s* - [`PIPELINE_DEPTH_MAX`] is settled. So below that distance from the last slot
//! that a leader wrote nothing was ever missing, and what is missing now gets a stand-in of the running term, and is told.

use bytes::Bytes;
use phalanx_protocol::Term;

use super::PIPELINE_DEPTH_MAX;
use super::acquire::{AcquireError, Candidate, marked};
use super::follow::{OnDamage, Position, WINDOW_SLOTS, look_ahead, read_each};
use super::replay::{Found, LogError, LogRecord, find_slot, found};
use crate::damage::{Damage, Fault};
use crate::slot::{LogId, SlotHead, SlotKind, encode, slot_key};
use crate::store::{Put, Store};

/// Repeats of one create whose slot is said to exist and cannot be found.
const REPEATS_MAX: u32 = 5;

/// A candidate that has put its fence.
pub(super) struct Settling<'a> {
    store: &'a dyn Store,
    log: LogId,
    term: Term,
    nonce: u128,
    on_damage: OnDamage,
    /// Where reading began.
    first_slot: u64,
    /// Every missing slot below was lost.
    lost_below: u64,
    /// From here on each slot is offered a fill, whether it seems to exist or not: that it exists is durable only once a
    /// create there has said so.
    offer_from: u64,
    fence: u64,
}

impl<'a> Settling<'a> {
    /// Prepares to settle what lies between a position and the fence of `term`. The tail is where the log ended before.
    pub(super) fn new(
        store: &'a dyn Store,
        candidate: &Candidate,
        on_damage: OnDamage,
        term: Term,
        first_slot: u64,
        tail: u64,
        position: Position,
    ) -> Result<Self, LogError> {
        let log = candidate.log;
        let mut lost_below = 0;
        for slot in (position.next_slot + PIPELINE_DEPTH_MAX..tail).rev() {
            if let Found::Whole(there) = find_slot(store, log, slot)?
                && matches!(there.head.kind, SlotKind::Data | SlotKind::NoOp)
            {
                lost_below = slot + 1 - PIPELINE_DEPTH_MAX;
                break;
            }
        }
        Ok(Self {
            store,
            log,
            term,
            nonce: candidate.nonce_seed,
            on_damage,
            first_slot,
            lost_below,
            offer_from: tail.saturating_sub(PIPELINE_DEPTH_MAX).max(lost_below),
            fence: term.0 - 1,
        })
    }

    /// Settles every slot up to the fence, hands out the records that count, and returns what was passed over.
    pub(super) fn run(
        &self,
        position: &mut Position,
        visit: &mut dyn FnMut(LogRecord),
    ) -> Result<Vec<Damage>, AcquireError> {
        self.outdone_by(position.term())?;
        for slot in self.offer_from.max(self.first_slot)..position.next_slot {
            if let Found::Missing = self.offer(slot)? {
                let key = slot_key(self.log.shard, slot);
                return Err(LogError::Vanished { key }.into());
            }
        }
        let mut damage = Vec::new();
        while position.next_slot <= self.fence {
            let window = position.next_slot..(position.next_slot + WINDOW_SLOTS).min(self.fence + 1);
            for there in read_each(window, &|slot| self.settle(slot))? {
                match there {
                    Found::Whole(slot) => {
                        self.outdone_by(slot.head.term)?;
                        position.take(slot, visit);
                    }
                    Found::Missing => damage.extend(self.stand_in(position, visit)?),
                    Found::Damaged { source, records } => {
                        if self.on_damage == OnDamage::Refuse {
                            let key = slot_key(self.log.shard, position.next_slot);
                            return Err(LogError::Damaged { key, source }.into());
                        }
                        let was_fence = self.was_fence(position.next_slot)?;
                        damage.push(position.pass_over(self.log, was_fence, Fault::Slot(source), records));
                    }
                }
            }
        }
        Ok(damage)
    }

    fn outdone_by(&self, term: Term) -> Result<(), AcquireError> {
        match term > self.term {
            true => Err(AcquireError::StoodDown { term }),
            false => Ok(()),
        }
    }

    /// Reads a slot, and fills it where it was never written; missing is then only what was lost.
    fn settle(&self, slot: u64) -> Result<Found, LogError> {
        if slot < self.offer_from {
            let there = find_slot(self.store, self.log, slot)?;
            if slot < self.lost_below || !matches!(there, Found::Missing) {
                return Ok(there);
            }
        }
        match self.offer(slot)? {
            Found::Missing => Ok(found(
                self.object(slot, self.term, SlotKind::Fill),
                self.log,
                slot,
            )),
            there @ (Found::Whole(_) | Found::Damaged { .. }) => Ok(there),
        }
    }

    /// Offers a slot a fill; tells what was there instead.
    fn offer(&self, slot: u64) -> Result<Found, LogError> {
        let object = self.object(slot, self.term, SlotKind::Fill);
        create_or_find(self.store, self.log, slot, &object)
    }

    fn object(&self, slot: u64, term: Term, kind: SlotKind) -> Bytes {
        let head = SlotHead {
            log: self.log,
            slot,
            term,
            nonce: self.nonce,
            kind,
        };
        encode(&head, &[]).0
    }

    /// Like [`look_ahead`]; below the fence all is there but for what was lost.
    fn was_fence(&self, slot: u64) -> Result<bool, LogError> {
        Ok(look_ahead(self.store, self.log, slot)?.unwrap_or(false))
    }

    /// Puts an empty slot of the running term where one was lost, so that no one else can write there.
    fn stand_in(
        &self,
        position: &mut Position,
        visit: &mut dyn FnMut(LogRecord),
    ) -> Result<Option<Damage>, AcquireError> {
        let slot = position.next_slot;
        // deleted, not lost
        if marked(self.store, self.log, slot)? {
            return Err(AcquireError::Outdated);
        }
        if self.on_damage == OnDamage::Refuse {
            let key = slot_key(self.log.shard, slot);
            return Err(LogError::Lost { key }.into());
        }
        let was_fence = self.was_fence(slot)?;
        let term = match was_fence {
            true => Term(slot + 1),
            false => position.term(),
        };
        let kind = match term.0 {
            term if term <= slot => SlotKind::NoOp,
            term if term == slot + 1 => SlotKind::Fence,
            _ => SlotKind::Fill,
        };
        let object = self.object(slot, term, kind);
        match create_or_find(self.store, self.log, slot, &object)? {
            // a listing or a read was late: nothing is lost
            Found::Whole(there) => {
                self.outdone_by(there.head.term)?;
                position.take(there, visit);
                Ok(None)
            }
            Found::Missing => Ok(Some(position.pass_over(
                self.log,
                was_fence,
                Fault::Missing,
                None,
            ))),
            Found::Damaged { source, records } => Ok(Some(position.pass_over(
                self.log,
                was_fence,
                Fault::Slot(source),
                records,
            ))),
        }
    }
}

/// Creates the object, or tells what is there instead; [`Found::Missing`] if nothing was.
pub(super) fn create_or_find(
    store: &dyn Store,
    log: LogId,
    slot: u64,
    object: &[u8],
) -> Result<Found, LogError> {
    let key = slot_key(log.shard, slot);
    for _ in 0..REPEATS_MAX {
        match store.put_if_absent(&key, object) {
            Ok(Put::Created) => return Ok(Found::Missing),
            Ok(Put::Exists) => match find_slot(store, log, slot)? {
                Found::Missing => {}
                there @ (Found::Whole(_) | Found::Damaged { .. }) => return Ok(there),
            },
            Err(source) => return Err(LogError::Store { key, source }),
        }
    }
    Err(LogError::Vanished { key })
}
