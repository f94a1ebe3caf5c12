//! What must hold whatever happens, one file for each claim. A violation panics with the claim's name.

mod keep;
mod live;
mod once;
mod slot;

use phalanx_protocol::Term;
use phalanx_protocol::record::Record;

pub(crate) use keep::Keep;
pub(crate) use live::Live;
pub(crate) use once::{Ledger, Once};
pub(crate) use slot::Slot;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    pub(crate) ledger: Ledger,
    pub(crate) once: Once,
    pub(crate) keep: Keep,
    pub(crate) slot: Slot,
    pub(crate) live: Live,
}

impl Invariants {
    /// Takes in a record of a term that has become durable.
    pub(crate) fn durable(&mut self, term: Term, record: &Record) {
        self.ledger.enter(term, record);
    }
}
