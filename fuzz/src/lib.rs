//! Bytes that nobody may trust, given to whoever reads them: frames of a peer, objects of a damaged storage, jobs of a
//! user. Each function takes any bytes and panics if something is wrong: a panic inside, memory that was promised and not
//! sent, or a value that does not come back as it was written.
//!
//! The ordinary tests replay the corpora in `corpus/`, and bytes changed at random from them; `libfuzzer/` looks for new
//! ones, guided by coverage (CONTRIBUTING.md says how).

mod frame;
mod job;
mod journal;
mod ranks;
mod storage;

pub use frame::frame;
pub use job::job_spec;
pub use journal::{record, slot, snapshot};
pub use ranks::rank_frames;
pub use storage::{card, checkpoint, sample_checkpoints};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("card", card),
    ("checkpoint", checkpoint),
    ("frame", frame),
    ("job_spec", job_spec),
    ("rank_frames", rank_frames),
    ("record", record),
    ("slot", slot),
    ("snapshot", snapshot),
];
