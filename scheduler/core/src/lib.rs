//! The scheduler's decisions, as a pure state machine: facts in, effects out.
//!
//! One entry point, [`Core::handle`]: it is told what happened ([`Input`], past tense) and when ([`Now`]), changes its
//! model, and queues what is to be done ([`Effect`], imperative). No clock, thread, socket, file, randomness or hash-map
//! iteration in here (`clippy.toml` bans them by name), so the same inputs give the same effects, byte for byte: in
//! production, in the simulator, and in tests that replay a seed.
//!
//! Invariants, asserted by [`Core::check`] after every step in tests and simulation:
//!
//! - **ONCE**: a job's indices are each in exactly one of: waiting, waiting apart as a suspect or for a counterpart in
//!   another job, resting, held by one open grant, ended. A task's end enters the journal once, and again only after a
//!   record that reopened it. Of idempotent jobs two grants may hold an index, and one may still hold what has ended in the
//!   other (`twins`).
//! - **SLOT**: the slots that jobs hold on a worker never ask for more than the worker has; one that is to leave
//!   has none of them, and beside a job that shares its workers with no other there is none, and a job has some of those only that it may run on. No more than 5 % of a job's slots, but one at least, run what others run.
//! - **GANG**: of a gang, all ranks run or have ended, or all wait; none runs twice in one epoch. Of one that shrinks, ranks that are
//!   lost have ended: it has failed only if another rank has, and no worker goes on with what was taken for lost. Of one that
//!   respawns, ranks that are lost wait alone, once it is on record that their runs do not count.
//! - **KEEP**: nothing is answered, acknowledged or published before the record that says it is durable, and no command granted
//!   before its job is: it may ask about it. All such effects pass through `durability`.
//!
//! Reading order: `input` (the contract), `core` (dispatch of inputs), `job`, `seen`, `usage`, `holding` and `worker` (the model),
//! `submission`, `attachment` and `draining` (jobs and workers come and go), `plan`, `owners` and `choosing` (the slow path: who holds
//! which slots, beside whom, and on which workers), `feed` (the fast path: grants and revokes), `fitting`, `reserving`, `gang`, `losses`, `shrinking`, `respawning` and `rendezvous` (ranks, which are placed all or none and find each other), `gate`, `dependency` and `element` (jobs that are not to go on yet), `tail` and
//! `twins` (who does not answer, and what is run twice therefore), `report` (what ended), `trouble` and `again` (what is run
//! again), `limits`, `ending`, `reopening`, `cancelling`, `requeues` and `requeuing`, `durability`, `replay`, `snapshot`,
//! `view`, `tasks`, `explain`.

mod again;
mod attachment;
mod cancelling;
mod choosing;
mod core;
mod dependency;
mod draining;
mod durability;
mod element;
mod ending;
mod explain;
mod feed;
mod fitting;
mod gang;
mod gate;
mod holding;
mod input;
mod job;
mod limits;
mod losses;
mod owners;
mod plan;
mod planted;
mod rendezvous;
mod reopening;
mod replay;
mod report;
mod requeues;
mod requeuing;
mod reserving;
mod respawning;
mod seen;
mod shrinking;
mod signalling;
mod snapshot;
mod strays;
mod submission;
mod tail;
mod tasks;
mod trouble;
mod twins;
mod usage;
mod view;
mod worker;

pub use crate::core::Core;
pub use crate::input::{Effect, Input, Now, RequestId, SessionId};
#[cfg(feature = "planted-bugs")]
pub use crate::planted::PlantedBug;
pub use crate::rendezvous::HostPort;
