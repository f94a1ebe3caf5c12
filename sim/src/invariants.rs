//! What must hold whatever happens, one file for each claim. A violation panics with the claim's name.

mod blame;
pub(crate) mod gang;
mod gate;
mod keep;
mod live;
mod once;
mod slot;
mod term;

pub(crate) use blame::Blame;
pub(crate) use gang::Gangs;
pub(crate) use gate::Gate;
pub(crate) use keep::Keep;
pub(crate) use live::Live;
pub(crate) use once::{Entry, Ledger, Once};
pub(crate) use slot::Slot;
pub(crate) use term::Terms;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    pub(crate) ledger: Ledger,
    pub(crate) once: Once,
    pub(crate) keep: Keep,
    pub(crate) slot: Slot,
    pub(crate) gangs: Gangs,
    pub(crate) terms: Terms,
    pub(crate) live: Live,
    pub(crate) blame: Blame,
}
