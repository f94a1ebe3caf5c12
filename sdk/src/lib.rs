//! Parallel kernels in Rust on every core you can reach.
//!
//! A program is one file: it names its kernels with the attribute [`macro@kernel`], and its driver with the attribute
//! [`macro@main`]. The same binary is the driver and, when a worker starts it, the host in which its kernels run.
//!
//! Reading order: [`Kernel`] and [`TaskContext`] (what runs, and what it saves to resume from), `host` (how it runs on a worker), `command` (tasks
//! that are processes), `start` (which of the
//! two a process is); then the driver's side: [`Cluster`] (which one, and the way to it), [`Map`] (a job in the making),
//! [`Results`] (what comes of it), and [`Client`], the async client under all of that. Apart from these, [`mod@ranks`]: programs whose
//! parts exchange messages.

// the attributes' expansions say `::phalanx`, also inside this crate
extern crate self as phalanx;

mod checkpoint;
mod client;
mod cluster;
mod command;
mod context;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod host;
mod kernel;
mod map;
#[cfg(feature = "progress")]
mod progress_bar;
pub mod ranks;
mod results;
mod start;

pub use checkpoint::CheckpointError;
pub use client::{Client, ClientOptions, ResultEvent, ResultStream, Watch};
pub use cluster::{Cluster, JobHandle};
pub use command::{Surroundings, tell_own_pid};
pub use context::TaskContext;
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedError, EmbeddedOptions};
pub use error::{ClientError, ClusterError, Interruption, JobError, ProtocolError, TaskCause, TaskError};
pub use kernel::{Kernel, RankKernel, ReduceKernel};
pub use map::{Map, Ranks};
/// ```
/// #[phalanx::kernel]
/// fn square(index: u64) -> u64 {
///     index * index
/// }
/// assert_eq!(square(3), 9);
///
/// #[phalanx::kernel(reduce = longest)]
/// fn word(index: u64, words: &[String]) -> Result<String, std::num::TryFromIntError> {
///     Ok(words[usize::try_from(index)?].clone())
/// }
///
/// fn longest(left: String, right: String) -> String {
///     if right.len() > left.len() { right } else { left }
/// }
/// ```
pub use phalanx_macros::kernel;
/// ```no_run
/// use phalanx::Cluster;
///
/// #[phalanx::kernel(reduce = u64::wrapping_add)]
/// fn square(index: u64) -> u64 {
///     index.wrapping_mul(index)
/// }
///
/// #[phalanx::main]
/// fn main(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
///     println!("{}", cluster.map::<square>(0..1_000_000).reduce()?);
///     Ok(())
/// }
/// ```
pub use phalanx_macros::main;
/// ```
/// use phalanx::Communicator;
/// use phalanx::ranks::CommError;
///
/// #[phalanx::ranks]
/// fn total(comm: &Communicator, factor: u64) -> Result<u64, CommError> {
///     comm.all_reduce(comm.rank() as u64 * factor, |a, b| a + b)
/// }
///
/// let totals = phalanx::ranks::run(3, |comm| total(comm, 10).unwrap());
/// assert!(totals.into_iter().all(|total| total == Ok(30)));
/// ```
pub use phalanx_macros::ranks;
pub use phalanx_protocol::gang::RankMap;
pub use phalanx_protocol::view::{JobView, WorkerView};
pub use phalanx_protocol::{Amount, Feeding, JobId, Pin, Retries, Sharing};
#[cfg(feature = "progress")]
pub use progress_bar::ProgressBar;
pub use ranks::Communicator;
pub use results::{AsCompleted, Results};

/// The programs in the README and the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/guide.md")]
struct Documentation;

#[doc(hidden)]
pub mod __private {
    //! What the attributes' expansions name; no part of the interface.

    pub use linkme;

    pub use crate::host::{HostError, serve};
    pub use crate::kernel::{Fallible, KERNELS, KernelEntry};
    pub use crate::start::{Failure, PrintAsDebug, PrintAsError, start};
}
