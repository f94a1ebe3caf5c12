//! The synchronous door to a cluster: one thread with a small tokio runtime serves it, everybody else just calls.
//!
//! The story: [`Cluster::connect_or_embedded`] decides which cluster it is ([`discover`]), [`thread`] runs the async
//! [`Client`], [`Cluster::map`] describes a job ([`crate::Map`]), and a [`JobHandle`] is what a submitted one leaves in
//! the program's hands.

mod discover;
mod job;
mod program;
#[cfg(test)]
mod tests;
mod thread;

use std::borrow::Borrow;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phalanx_protocol::view::{JobView, WorkerView};
use phalanx_protocol::{BlobId, JobId};
use phalanx_transport::{ClusterDirectory, Credential, Role};

use crate::client::{Client, ClientOptions};
use crate::error::{ClientError, ClusterError};
use crate::kernel::{Kernel, RankKernel};
use crate::map::{Map, Ranks};
use discover::Environment;
use thread::ClientThread;

pub use job::JobHandle;
pub(crate) use thread::Running;

/// Long enough to send a packet, and short enough for a program's end; QUIC's own farewell takes some 200 ms.
const GOODBYE: Duration = Duration::from_millis(20);

/// A cluster, for programs that do not use async themselves. Clones are cheap and share everything.
///
/// ```no_run
/// # use phalanx::Cluster;
/// #[phalanx::kernel]
/// fn square(number: u64) -> u64 {
///     number * number
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let cluster = Cluster::connect_or_embedded()?;
///     let squares = cluster.map::<square>(0..1000).progress_bar().collect()?;
///     assert_eq!(squares[31], 961);
///     Ok(())
/// }
/// ```
///
/// Dropping the last clone closes the connection; jobs go on without it, except on an embedded cluster, which ends with
/// it. Calls block; from async code use [`Cluster::client`].
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

/// In the order of their ends: the connection, then the thread that serves it, then the cluster.
#[derive(Debug)]
struct Inner {
    client: Client,
    thread: ClientThread,
    /// Whether the running program is on the cluster's storage, as far as is known.
    has_program: AtomicBool,
    #[cfg(feature = "embedded")]
    _embedded: Option<crate::embedded::Embedded>,
}

impl Cluster {
    /// Connects to the cluster of this machine's user: the directory `$PHALANX_CLUSTER`, else `~/.phalanx`, holds the
    /// credential; `$PHALANX_SCHEDULER` (`host:port`, several separated by commas), else that directory, else the member
    /// cards on the cluster's storage say where its schedulers are.
    ///
    /// ```no_run
    /// let cluster = phalanx::Cluster::connect()?;
    /// println!("{} workers", cluster.workers()?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClusterError`] with the reason, and a hint what to do.
    pub fn connect() -> Result<Self, ClusterError> {
        Self::connect_by(&Environment::of_this_process())
    }

    fn connect_by(environment: &Environment) -> Result<Self, ClusterError> {
        let directory = ClusterDirectory::open(&environment.root()?)?;
        let addresses = environment.addresses(&directory)?;
        let credential = directory.credential(Role::User)?;
        Self::connect_to(&addresses, &credential, ClientOptions::default())
    }

    /// Connects to whichever of `addresses` answers first, as the holder of `credential`.
    ///
    /// ```no_run
    /// use phalanx::{ClientOptions, Cluster};
    /// use phalanx_transport::Credential;
    ///
    /// let credential = Credential::load("lab/credentials/user-ada.pem".as_ref())?;
    /// let cluster = Cluster::connect_to(&["10.0.0.1:7878".parse()?], &credential, ClientOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClusterError::Client`] or [`ClusterError::Thread`].
    pub fn connect_to(
        addresses: &[SocketAddr],
        credential: &Credential,
        options: ClientOptions,
    ) -> Result<Self, ClusterError> {
        let (thread, client) = Self::start_client(addresses, credential, options)?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                thread,
                has_program: AtomicBool::new(false),
                #[cfg(feature = "embedded")]
                _embedded: None,
            }),
        })
    }

    fn start_client(
        addresses: &[SocketAddr],
        credential: &Credential,
        options: ClientOptions,
    ) -> Result<(ClientThread, Client), ClusterError> {
        let thread = ClientThread::start().map_err(ClusterError::Thread)?;
        // the thread needs a credential of its own; its text is the credential
        let credential = Credential::from_pem(credential.to_pem())
            .map_err(|error| ClientError::Credential(error.into()))?;
        let addresses = addresses.to_vec();
        let connecting = async move { Client::connect(&addresses, &credential, options).await };
        let client = thread.run(connecting).ok_or(ClientError::Stopped)??;
        Ok((thread, client))
    }

    /// Starts a whole cluster inside this process with one worker that has all of the machine's cpus: a scheduler, QUIC
    /// on loopback, and a journal in a temporary directory. It ends with the last clone.
    ///
    /// ```no_run
    /// let cluster = phalanx::Cluster::embedded()?;
    /// # Ok::<(), phalanx::ClusterError>(())
    /// ```
    ///
    /// # Errors
    /// [`ClusterError::Embedded`] with the reason.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Result<Self, ClusterError> {
        Self::embedded_with(&crate::embedded::EmbeddedOptions::default())
    }

    /// Starts a whole cluster inside this process, with other settings than [`Cluster::embedded`].
    ///
    /// ```no_run
    /// use phalanx::{Cluster, EmbeddedOptions};
    ///
    /// let options = EmbeddedOptions { workers: 2, cpus: Some(1), ..EmbeddedOptions::default() };
    /// let cluster = Cluster::embedded_with(&options)?;
    /// # Ok::<(), phalanx::ClusterError>(())
    /// ```
    ///
    /// # Errors
    /// [`ClusterError::Embedded`] with the reason.
    #[cfg(feature = "embedded")]
    pub fn embedded_with(options: &crate::embedded::EmbeddedOptions) -> Result<Self, ClusterError> {
        let embedded = crate::embedded::Embedded::start(options)?;
        let credential = embedded.directory().credential(Role::User)?;
        let (thread, client) =
            Self::start_client(&[embedded.address()], &credential, ClientOptions::default())?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                thread,
                has_program: AtomicBool::new(false),
                _embedded: Some(embedded),
            }),
        })
    }

    /// Connects if there is a cluster, else starts one inside this process: what `#[phalanx::main]` does.
    ///
    /// If `$PHALANX_CLUSTER` or `$PHALANX_SCHEDULER` is set, that cluster is meant and nothing else will do. Otherwise a
    /// cluster in `~/.phalanx` is used if it can be reached, else an embedded one.
    ///
    /// # Errors
    /// [`ClusterError`] with the reason.
    pub fn connect_or_embedded() -> Result<Self, ClusterError> {
        Self::connect_or(Self::instead)
    }

    /// Like [`Cluster::connect_or_embedded`], except that a cluster that has to be started is made with these settings: a
    /// program of ranks knows how many cpus, on how many workers, they need.
    ///
    /// ```no_run
    /// use phalanx::{Cluster, EmbeddedOptions};
    ///
    /// let options = EmbeddedOptions { workers: 2, cpus: Some(4), ..EmbeddedOptions::default() };
    /// let cluster = Cluster::connect_or_embedded_with(&options)?;
    /// # Ok::<(), phalanx::ClusterError>(())
    /// ```
    ///
    /// # Errors
    /// [`ClusterError`] with the reason.
    #[cfg(feature = "embedded")]
    pub fn connect_or_embedded_with(
        options: &crate::embedded::EmbeddedOptions,
    ) -> Result<Self, ClusterError> {
        Self::connect_or(|error| Self::embedded_after(&error, options))
    }

    /// Connects, or does something else if no cluster was named and none can be reached.
    fn connect_or(
        instead: impl FnOnce(ClusterError) -> Result<Self, ClusterError>,
    ) -> Result<Self, ClusterError> {
        let environment = Environment::of_this_process();
        match Self::connect_by(&environment) {
            Err(error) if !environment.is_explicit() => instead(error),
            connected => connected,
        }
    }

    #[cfg(feature = "embedded")]
    fn instead(error: ClusterError) -> Result<Self, ClusterError> {
        Self::embedded_after(&error, &crate::embedded::EmbeddedOptions::default())
    }

    #[cfg(feature = "embedded")]
    fn embedded_after(
        error: &ClusterError,
        options: &crate::embedded::EmbeddedOptions,
    ) -> Result<Self, ClusterError> {
        tracing::info!(
            error = error as &dyn std::error::Error,
            "starting an embedded cluster"
        );
        Self::embedded_with(options)
    }

    #[cfg(not(feature = "embedded"))]
    fn instead(error: ClusterError) -> Result<Self, ClusterError> {
        Err(error)
    }

    /// A job that calls `kernel` once for each number in `indices`.
    ///
    /// ```no_run
    /// # use phalanx::Cluster;
    /// # #[phalanx::kernel]
    /// # fn square(number: u64) -> u64 { number * number }
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// for value in cluster.map::<square>(10..20).results()? {
    ///     println!("{}", value?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<K: Kernel<Input = u64>>(&self, indices: Range<u64>) -> Map<K> {
        Map::over_indices(self.clone(), indices)
    }

    /// A job that calls `kernel` once for each item of a list. Items are encoded and uploaded while they are drawn; a
    /// list may be larger than memory.
    ///
    /// ```no_run
    /// # use phalanx::Cluster;
    /// # #[phalanx::kernel]
    /// # fn count(text: String) -> u64 { text.len() as u64 }
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let texts = ["a".to_owned(), "bc".to_owned()];
    /// let lengths = cluster.map_items::<count>(&texts).collect()?;
    /// assert_eq!(lengths, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_items<K: Kernel>(&self, items: impl IntoIterator<Item: Borrow<K::Input>>) -> Map<K> {
        Map::over_items(self.clone(), items)
    }

    /// A job in which so many ranks run a function together: all start, or none. Each is given `input`.
    ///
    /// ```no_run
    /// # use phalanx::{Cluster, Communicator, ranks::CommError};
    /// #[phalanx::ranks]
    /// fn total(comm: &Communicator, factor: u64) -> Result<u64, CommError> {
    ///     comm.all_reduce(comm.rank() as u64 * factor, |a, b| a + b)
    /// }
    ///
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(cluster.ranks::<total>(4, &10).collect()?, [60; 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ranks<K: RankKernel>(&self, ranks: u32, input: &K::Input) -> Ranks<K> {
        Ranks::new(self.clone(), ranks, input)
    }

    /// The async client underneath. Its connection lives on the cluster's thread, its futures run anywhere.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// All jobs that the scheduler remembers, newest last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        self.block_on(|client| async move { client.jobs().await })
    }

    /// One job as it is now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn job(&self, job: JobId) -> Result<JobView, ClientError> {
        self.block_on(move |client| async move { client.job(job).await })
    }

    /// Ends a job, its unstarted tasks unrun.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        self.block_on(move |client| async move { client.cancel(job).await })
    }

    /// All workers as they are now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn workers(&self) -> Result<Vec<WorkerView>, ClientError> {
        self.block_on(|client| async move { client.workers().await })
    }

    /// Runs a request on the cluster's thread and waits for its end.
    pub(crate) fn block_on<T, F>(&self, request: impl FnOnce(Client) -> F) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let client = self.inner.client.clone();
        self.inner
            .thread
            .run(request(client))
            .ok_or(ClientError::Stopped)?
    }

    /// Starts a request on the cluster's thread.
    pub(crate) fn spawn<T, F>(&self, request: impl FnOnce(Client) -> F) -> Running<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let client = self.inner.client.clone();
        self.inner.thread.spawn(request(client))
    }

    /// Makes sure that the running program is on the cluster's storage; asks only the first time, or if in `doubt`.
    pub(crate) fn ensure_own_program(&self, doubt: bool) -> Result<BlobId, ClientError> {
        let (path, blob) = program::own()?;
        if doubt || !self.inner.has_program.load(Ordering::Relaxed) {
            self.block_on(|client| async move { client.ensure_hashed_program(path, *blob).await })?;
            self.inner.has_program.store(true, Ordering::Relaxed);
        }
        Ok(*blob)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let client = self.client.clone();
        // so that the scheduler hears of it; if this is not enough, it finds out by the idle timeout
        let closing = async move { tokio::time::timeout(GOODBYE, client.close()).await };
        let _ = self.thread.run(closing);
    }
}
