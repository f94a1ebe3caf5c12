//! An independent reader of the log: follows it slot by slot with the journal's own code, and asks nobody else.

use phalanx_protocol::Term;
use phalanx_storage::journal::replay::{VoidRule, read_slot};
use phalanx_storage::{LogRecord, Store};

use crate::journal::LOG;

/// How far the log says something, and what it says.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    next_slot: u64,
    rule: VoidRule,
    /// Every record that counts, in order.
    pub(crate) records: Vec<LogRecord>,
}

impl Reader {
    /// The highest term seen.
    pub(crate) fn term(&self) -> Term {
        self.rule.term()
    }

    /// Reads on to the first missing slot; returns how many records were known before.
    pub(crate) fn advance(&mut self, store: &dyn Store) -> usize {
        let known = self.records.len();
        while let Some(slot) = read_slot(store, LOG, self.next_slot).expect("the reader's way has no faults")
        {
            self.next_slot += 1;
            if self.rule.admits(&slot.head) {
                let term = slot.head.term;
                let records = slot.records.into_iter();
                self.records
                    .extend(records.map(|(place, bytes)| LogRecord { place, term, bytes }));
            }
        }
        known
    }
}
