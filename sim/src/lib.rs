//! A virtual Phalanx cluster that runs from a seed: the real scheduler core and the real journal, in one to three
//! schedulers, against virtual workers, clients, network, storage and clock. Processes crash, stand still and come back;
//! links are cut, also one way; creates are slow, fail, land late, twice or though they failed; standbys take over too
//! early, deposed leaders go on, and writers that die leave torn objects. Every invariant is checked at every step.
//!
//! The same seed is the same run. A seed also draws which faults there are at all, so that rare combinations are not
//! drowned by frequent faults.
//!
//! Reading order: `weather`, `load`, `fates` and `waits` (what a seed draws), `event` (time), `cluster` (a run), `scheduler`, `driver` and
//! `journal` (a leader), `objects`, `passage`, `past` and `torn` (the storage), `clients` and `places` (who meets whom), `worker`,
//! `leaving`, `network`, `faults`, `reader`, and `invariants`, one file for each.

mod clients;
mod cluster;
mod dice;
mod driver;
mod event;
mod fates;
mod faults;
mod invariants;
mod journal;
mod leaving;
mod load;
mod network;
mod objects;
mod passage;
mod past;
mod places;
mod reader;
mod scheduler;
mod torn;
mod waits;
mod weather;
mod worker;

pub use cluster::{Limits, MakeCore, Summary, run, run_with};
pub use journal::Planted;
pub use weather::Climate;
