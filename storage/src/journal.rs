//! A shard's log as a journal: who may write it, what counts, and when a record is durable.
//!
//! The log is a sequence of numbered slots, each created once and never changed ([`crate::slot`]). These rules make a
//! journal of it, whatever processes die, sleep or wake up late, and whatever clock they have:
//!
//! - **R1 replay** ([`replay`]): read the slots in order and keep the highest term seen; a slot of a lower term is *void*.
//! - **R2 acquire**, **R3 fill** ([`acquire`]): a new leader creates a fence some slots beyond the end, fills every gap below
//!   it, and reads it all before it serves.
//! - **R4 append**, **R5 acknowledge** ([`appender`], driven by [`writer`]): slots are created in a short pipeline, repeated
//!   with the same bytes while the outcome is unknown, and acknowledged in order.
//! - **R6 self-expiry** ([`appender`]): a leader that was not sure of itself for [`EXPIRY`] does not lead any more; an idle one
//!   appends an empty slot every [`NO_OP_INTERVAL`].
//! - **R7 markers** ([`crate::marker`], [`crate::collect`]): a chunk of the log is marked an hour before it is deleted, and a
//!   leader looks for its chunk's marker after each create, before it acknowledges. R6 and R7 guard a slot's name from being
//!   free a second time: R6 on storage that shows markers late, R7 on machines whose clocks stop. Either alone is enough.
//! - **R11 snapshot** ([`crate::snapshot`]): counts when it was read back; the two newest are kept.
//! - **R12 recover** ([`follow`]): the newest whole snapshot, then the log behind it. A damaged slot is named, all others
//!   are kept, and the start goes on unless told otherwise. Before anything is given up, snapshots that no listing shows are
//!   asked for by their names ([`acquire`]).
//!
//! How a scheduler uses it: a standby reads the newest snapshot ([`crate::snapshot::newest_whole`]), stands at
//! [`follow::Position::behind`] it, and calls [`follow::follow`] whenever it likes: that never writes. To lead it calls
//! [`acquire::acquire`] with that position; if [`acquire::Leadership::resumed`], the leadership's records come on top of what
//! it has, else it begins anew from the leadership's snapshot. It tells of the leadership's damage, starts the
//! [`writer::JournalWriter`] at once (which keeps the lead alive while the records are replayed), and appends. On
//! [`writer::JournalEvent::Expired`] it stops leading and acquires anew. Now and then it writes a snapshot
//! ([`crate::snapshot::write_snapshot`]) and lets a [`crate::collect::Collector`] pass.
//!
//! Why it holds: a slot has one content for ever, so replay is a function of the log. When a leader acknowledges slot
//! *m*, all slots up to *m* are of its term or lower ones, so *m* counts. A later leader has read or filled every slot
//! below its fence before it serves, so it has seen *m*; whatever an older one writes above the fence is void.
//!
//! Slots that an older leader wrote above the fence lie within one pipeline's length of it. A new leader writes these few
//! slots one at a time, so that a void one never makes its records overtake each other: what survives of a
//! leadership is always a prefix of what it appended. `tests/model.rs` checks all this exhaustively on a small model,
//! `tests/model_gc.rs` does so with snapshots and deletion.

use std::time::Duration;

pub mod acquire;
pub mod appender;
pub mod follow;
pub mod replay;
mod settle;
pub mod writer;

/// Creates in flight at a time on a directory.
pub const PIPELINE_DEPTH: u64 = 2;
/// The deepest pipeline that any writer of this format may use, on any storage.
pub const PIPELINE_DEPTH_MAX: u64 = 8;
/// How long a leader may lead without a slot of its own settled in order.
pub const EXPIRY: Duration = Duration::from_secs(30);
/// After how long an idle leader appends an empty slot.
pub const NO_OP_INTERVAL: Duration = Duration::from_secs(10);
