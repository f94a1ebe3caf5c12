//! An independent reader of the log: follows it slot by slot with the journal's own code, and asks nobody else.

use std::collections::BTreeSet;

use phalanx_storage::{LogRecord, OnDamage, Position, Snapshot, Store, follow};

use crate::journal::LOG;
use crate::scheduler::is_needed;

/// How far the log says something, and what it says.
#[derive(Debug)]
pub(crate) struct Reader {
    position: Position,
    /// Every record that counts, in order.
    pub(crate) records: Vec<LogRecord>,
}

impl Reader {
    /// Begins behind a snapshot that says nothing, or with the log.
    pub(crate) fn new(behind: Option<&Snapshot>) -> Self {
        Self {
            position: behind.map_or_else(Position::start, Position::behind),
            records: Vec::new(),
        }
    }

    /// The first slot that was missing when it last looked.
    pub(crate) fn next_slot(&self) -> u64 {
        self.position.next_slot
    }

    /// Slots of records that nobody will ask for one by one.
    pub(crate) fn unneeded_slots(&self) -> impl Iterator<Item = u64> {
        let slots = |needed: bool| {
            let records = self
                .records
                .iter()
                .filter(move |record| is_needed(record) == needed);
            records.map(|record| record.place.slot).collect::<BTreeSet<u64>>()
        };
        let needed = slots(true);
        slots(false)
            .into_iter()
            .filter(move |slot| !needed.contains(slot))
    }

    /// Reads on to the first missing slot; returns how many records were known before.
    pub(crate) fn advance(&mut self, store: &dyn Store) -> usize {
        let known = self.records.len();
        let mut keep = |record| self.records.push(record);
        follow(store, LOG, &mut self.position, OnDamage::Refuse, &mut keep)
            .expect("the reader's way has no faults");
        known
    }
}
