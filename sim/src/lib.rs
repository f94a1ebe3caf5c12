//! A virtual Phalanx cluster that runs from a seed: the real scheduler core against virtual workers, network, storage and
//! clock, with crashes, stalls, lost connections and failing storage, and every invariant checked at every step.
//!
//! The same seed is the same run. A seed also draws which faults there are at all, so that rare combinations are not
//! drowned by frequent faults. The journal's own code joins the simulation with a later issue; here storage is virtual.
//!
//! Reading order: `weather` and `load` (what a seed draws), `event` (time), `cluster` (a run), `driver`, `clients` and
//! `places` (who meets whom), `worker`, `network`, `storage`, `faults`, and `invariants`, one file for each.

mod clients;
mod cluster;
mod dice;
mod driver;
mod event;
mod faults;
mod invariants;
mod load;
mod network;
mod places;
mod storage;
mod weather;
mod worker;

pub use cluster::{Limits, Summary, run, run_with};
