//! PMI-1.1, by which an MPI library asks whoever started its process: which rank am I, of how many, and where are the
//! others? MPICH and Intel MPI speak it themselves, Open MPI 4 through a small library.
//!
//! The story: a rank inherits one end of a socket pair and writes lines (`wire.rs`). [`Exchange`] is what the ranks of one
//! program know of each other, as a pure state machine: keys that they put, the barrier after which all can get them, and
//! how each of them left. [`Server`] connects the two, with a thread for each rank, and tells when a rank went
//! without a farewell, or others wait for one that has gone in peace ([`Departure`]): they would wait for it for ever, and are
//! to be ended. [`OpenMpi`] is what that library needs.
//!
//! Must not start or end processes, and must not know of jobs.

mod departure;
mod exchange;
mod layout;
mod open_mpi;
mod server;
mod wire;

pub use departure::{Absence, Departure, Missed};
pub use exchange::{Entry, Exchange};
pub use layout::Layout;
pub use open_mpi::OpenMpi;
pub use server::{Connected, Event, Inlet, Server};
