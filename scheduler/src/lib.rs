//! The scheduler daemon: the pure core with a network, a journal and a clock around it.
//!
//! One thread with a tokio runtime serves all connections and the core; the journal writes on threads of its own. The
//! core decides everything (`phalanx-scheduler-core`); here is only carried out what it says.
//!
//! Reading order: `daemon` (how a scheduler starts and stops), `role` (when it leads and when it stands by), `roster` (who else
//! there is), `contact` (whether the leader answers), `lead` (what a leader begins with), `driver` (the one task that owns the core), `session` (a task per
//! connection: `session/client`, `session/worker`), `feed` (what became durable, for those who wait for it), `snapshots` and
//! `state` (so that the journal need not be kept and read for ever).

mod config;
mod contact;
mod daemon;
mod driver;
mod event;
mod feed;
mod gang_hosts;
mod lead;
mod role;
mod roster;
mod session;
mod snapshots;
mod state;
mod strain;

pub use config::{EndError, JournalOptions, SchedulerConfig, StartError, StoreLayer};
pub use daemon::{RunningScheduler, Scheduler};
pub use state::StateError;
