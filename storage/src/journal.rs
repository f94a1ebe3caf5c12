//! A shard's log as a journal: who may write it, what counts, and when a record is durable.
//!
//! The log is a sequence of numbered slots, each created once and never changed ([`crate::slot`]). Five rules make a
//! journal of it, whatever processes die, sleep or wake up late, and whatever clock they have:
//!
//! - **R1 replay** ([`replay`]): read the slots in order and keep the highest term seen; a slot of a lower term is *void*.
//! - **R2 acquire**, **R3 fill** ([`acquire`]): a new leader creates a fence some slots beyond the end, fills every gap below
//!   it, and reads it all before it serves.
//! - **R4 append**, **R5 acknowledge** ([`appender`], driven by [`writer`]): slots are created in a short pipeline, repeated
//!   with the same bytes while the outcome is unknown, and acknowledged in order.
//! - **R12 recover**: a damaged slot is named and never skipped.
//!
//! Why it holds: a slot has one content for ever, so replay is a function of the log. When a leader acknowledges slot
//! *m*, all slots up to *m* are of its term or lower ones, so *m* counts. A later leader has read or filled every slot
//! below its fence before it serves, so it has seen *m*; whatever an older one writes above the fence is void.
//!
//! Slots that an older leader wrote above the fence lie within one pipeline's length of it. A new leader writes these few
//! slots one at a time, so that a void one never makes its records overtake each other: what survives of a
//! leadership is always a prefix of what it appended. `tests/model.rs` checks all this exhaustively on a small model.
//!
//! Not here yet: snapshots and the deletion of old log, and with them the rules that guard a slot's name from being free
//! a second time (R6 self-expiry, R7 markers). While nothing is deleted they guard nothing; kind numbers are kept.

pub mod acquire;
pub mod appender;
pub mod replay;
pub mod writer;

/// Creates in flight at a time on a directory.
pub const PIPELINE_DEPTH: u64 = 2;
/// The deepest pipeline that any writer of this format may use, on any storage.
pub const PIPELINE_DEPTH_MAX: u64 = 8;
