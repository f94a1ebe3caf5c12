//! The scheduler's decisions, told as stories: somebody submits, workers come and go, and this is what the core does.
//!
//! `story` is the narrator; each other module is a subject, and its tests' names are the claims.

mod ending;
mod explaining;
mod feeding;
mod nonsense;
mod replaying;
mod reports;
mod sharing;
mod story;
mod submitting;
mod workers;
