//! Ranks on different hosts: the link between processes, over QUIC.
//!
//! Reading order: `wire` (what is said), `account` (how much may be under way), `link` (where ranks and the connection meet),
//! `inlet` (what comes from another host), `session` (one connection), `meeting` (how hosts find each other), `port` (a host's
//! part from beginning to end), `helm` (whose thread all of that runs on).
//!
//! Small messages are sent at once and count against the other host's window until they are received; large ones, and small
//! ones beyond the window, are announced and wait at their sender until a receive has taken them. A host whose
//! connection ends is lost with its ranks; whoever notices tells all others, who then hear nothing of it any more either, so
//! that survivors agree on who is left.

mod account;
#[cfg(feature = "testing")]
mod fuzzing;
mod helm;
mod inlet;
mod link;
mod meeting;
mod port;
mod session;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(feature = "testing")]
pub use fuzzing::{sample_frames, take_frames};
pub(super) use port::Joined;
pub use port::{GangPort, JoinError, Loss};
