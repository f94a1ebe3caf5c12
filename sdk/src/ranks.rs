//! Ranks that exchange messages, in MPI's manner.
//!
//! A rank is a thread that runs the same function as the other ranks of its gang, and has a [`Communicator`]. Ranks of one
//! process move values to each other; what goes to another process is encoded, except numbers.
//!
//! ```
//! use phalanx::ranks::{self, Source, Tags};
//!
//! let greetings = ranks::run(3, |comm| {
//!     if comm.rank() > 0 {
//!         comm.send(0, 7, format!("hello from {}", comm.rank()))?;
//!         return Ok(Vec::new());
//!     }
//!     let greetings = (1..comm.size()).map(|_| comm.receive::<String>(Source::Any, 7));
//!     greetings.collect::<Result<Vec<String>, ranks::CommError>>()
//! });
//! assert_eq!(greetings[0].as_ref().unwrap().as_ref().unwrap().len(), 2);
//! ```
//!
//! # How it is built
//!
//! ```text
//!  Communicator   point_to_point, request, collective, agreement: what users call
//!       │ envelope (context, source, tag) + payload (tiny | few | moved | encoded)
//!       ▼
//!     Gang        where each place lives, who has ended; notices about ends and revocations
//!       │ Route::Near                       │ Route::Far
//!       ▼                                   ▼
//!    Mailbox ◄── Gang of the other ◄──    Link       (quic: another host; loopback: a pretended one in this process)
//!       │        process
//!   FastBox for each neighbour, Matching, Bell
//! ```
//!
//! - A **context** is a communicator's id and a kind of traffic: the user's messages, collective operations, and agreements
//!   never match each other. Ids of new communicators are computed by all ranks alike from the old one's, without a message.
//! - The **mailbox** of a rank matches arriving messages with posted receives under one short lock; a message goes to the first
//!   receive that takes it, a receive takes the first message that it can: messages between two ranks do not overtake. A
//!   rank of the same process leaves its message in a **fast box**, a cache line each, which whoever takes the lock next brings in. If
//!   the box is full or the receiver sleeps, the sender takes the lock itself, so progress never depends on the receiver.
//! - A rank that **waits** listens for a few microseconds, if each rank has a core, and then sleeps until it is rung for.
//!   Where it is the only rank of a process among several it waits in the network, which it runs meanwhile (`quic/helm`).
//! - A **payload** between ranks of a process is the value itself, in a box, or a number or two in place. Only what a `Gang`
//!   routes to another process is encoded. A `Link` carries encoded messages and notices; everything above the gang is the same
//!   whatever lies below. Between hosts that is QUIC (`quic`, which has its own essay): large messages are announced, and their
//!   bytes stay at the sender until a receive has taken them. A gang that meets its peers is a `RemoteGang` (`remote`).
//!   Between pretended nodes messages arrive at once, or late, by a thread that delivers them (`loopback/courier`); over QUIC a
//!   session can hold back what comes (`quic/session`).
//! - **Collective operations** are messages like others. Each has several algorithms, and takes the one that was measured to suit the
//!   size, the number of ranks and where they live; on several nodes mostly one rank of each speaks for it (`collective/levels`).
//! - **Failure**: a rank that returns, panics or is lost has *ended*. The notice of it comes after all that it has sent. It ends the
//!   receives that need that rank, and later ones fail at once. A collective operation that fails at one rank *breaks*
//!   everywhere. A communicator can be revoked; agreements go on despite all that.
//! - **Replacements** (`respawn`) meet those that are left in another gang, which has the same ranks.
//! - **Checkpoints** (`checkpoint`) are collective: what each rank has saved counts once all have, and all resume from the same.

mod agreement;
mod bell;
mod checkpoint;
mod collective;
mod communicator;
mod delays;
mod envelope;
mod error;
mod fast_box;
mod gang;
mod group;
mod local;
mod loopback;
mod mailbox;
mod matching;
mod payload;
mod point_to_point;
mod quic;
mod remote;
mod request;
mod respawn;

#[doc(hidden)]
pub use collective::Algorithm;
pub use communicator::Communicator;
pub use envelope::{Source, Status, Tag, Tags};
pub use error::{CommError, Ending};
pub(crate) use local::Hosted;
pub use local::{LocalGang, RankFailure, run};
pub use matching::LANE_MESSAGES_MAX;
pub use payload::{Message, Plain};
#[doc(hidden)]
pub use quic::{GangPort, JoinError, Loss};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use quic::{sample_frames, take_frames};
#[cfg(test)]
pub(crate) use remote::on_loopback;
#[doc(hidden)]
pub use remote::{HostOutcome, RemoteGang};
pub use request::{Request, wait_all, wait_any};
pub(crate) use respawn::{Standing, Succession};
