//! The scheduler's decisions, told as stories: somebody submits, workers come and go, and this is what the core does.
//!
//! `story` is the narrator; each other module is a subject, and its tests' names are the claims.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges are meant, also of one"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a story looks for one kind of effect and passes over the others"
)]

mod alternatives;
mod cancelling;
mod choosing;
mod dependencies;
mod draining;
mod elements;
mod ending;
mod exclusive;
mod explaining;
mod feeding;
mod gang_losses;
mod gangs;
mod gates;
mod led_gangs;
mod limits;
mod nonsense;
mod rendezvous;
mod reopening;
mod replaying;
mod reports;
mod requeuing;
mod respawning;
mod retrying;
mod returning;
mod sharing;
mod shrinking;
mod signalling;
mod snapshots;
mod story;
mod submitting;
mod tail;
mod tasks;
mod workers;
