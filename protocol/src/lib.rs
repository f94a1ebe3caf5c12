//! What Phalanx's processes say to each other, and the words they say it in.
//!
//! No I/O, no clock, no threads: every other crate may depend on this one, this one on none of them.
//! Reading order: [`id`] and [`range`] (the nouns), [`job`], [`command`], [`gang`], [`resources`], [`amount`], [`choice`] and
//! [`dependency`] (what a user asks for), [`message`] and [`step`] (who tells whom what), [`record`] and [`snapshot`] (what the journal
//! keeps), [`usage`] (what tasks have used), [`view`] (what people are shown),
//! [`pattern`] (how output files are named), [`hostlist`] (how nodes are), [`signal`] (their names), [`codec`] and [`limits`] (bytes and bounds).

pub mod amount;
pub mod choice;
pub mod codec;
pub mod command;
pub mod dependency;
pub mod exit;
pub mod gang;
pub mod hostlist;
pub mod id;
pub mod job;
pub mod limits;
pub mod message;
pub mod pattern;
pub mod range;
pub mod record;
pub mod resources;
pub mod signal;
pub mod snapshot;
pub mod step;
pub mod usage;
pub mod view;

pub use amount::Amount;
pub use choice::WorkerChoice;
pub use command::{ArrayIds, CommandPlan, CommandWork};
pub use gang::Gang;
pub use id::{BlobId, GrantId, JobId, SubmissionId, TaskId, Term, WorkerId};
pub use job::{Encoding, Feeding, Inputs, JobSpec, KernelWork, Payload, Retries, Work};
pub use range::{IndexRange, RangeSet};
pub use resources::{Gpu, GpuVendor, Pin, Request, Resources, Sharing};
pub use usage::{TaskUsage, Usage, UsageSum};
