//! What a scheduler is started with, and why it does not start or end well.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::state::StateError;
use phalanx_protocol::limits::{WORKER_TIMEOUT_MILLIS_MAX, WORKER_TIMEOUT_MILLIS_MIN};
use phalanx_storage::cluster::ParseClusterIdError;
use phalanx_storage::journal::acquire::AcquireError;
use phalanx_storage::{
    AppendError, ClusterError, LogError, NameError, OnDamage, ProbeError, Store, StoreError, collect,
};
use phalanx_transport::{BindError, Credential, IdentityError};

/// What a scheduler is started with.
#[derive(Debug)]
pub struct SchedulerConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Proves to workers and clients who we are.
    pub credential: Credential,
    /// Root of the cluster's shared storage, a directory.
    pub storage: PathBuf,
    /// Its own name among the cluster's schedulers: letters, digits, `-` and `_`.
    pub name: String,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// A private file for keys by which peers learn at once that a scheduler was restarted; made if absent.
    pub keys: Option<PathBuf>,
    /// How long the leader's card must stand still before this scheduler takes the lead;
    /// [`SchedulerConfig::TAKEOVER_AFTER`] is usual. Too short a time costs needless takeovers, never a result.
    pub takeover_after: Duration,
    /// How long a worker may be silent before others are given what it holds; [`SchedulerConfig::WORKER_TIMEOUT`] is usual. From
    /// 1 s to 1 h. Too short a time costs work that is done twice, never a result.
    pub worker_timeout: Duration,
    /// How it keeps its journal; the default suits every cluster.
    pub journal: JournalOptions,
}

impl SchedulerConfig {
    /// How long a leader may be silent unless told otherwise: 2 s.
    pub const TAKEOVER_AFTER: Duration = Duration::from_secs(2);
    /// How long a worker may be silent unless told otherwise: 3 s.
    pub const WORKER_TIMEOUT: Duration = Duration::from_secs(3);

    /// The worker timeout in milliseconds.
    pub(crate) fn worker_timeout_millis(&self) -> Result<u32, StartError> {
        let millis = u32::try_from(self.worker_timeout.as_millis()).ok();
        let millis =
            millis.filter(|millis| (WORKER_TIMEOUT_MILLIS_MIN..=WORKER_TIMEOUT_MILLIS_MAX).contains(millis));
        millis.ok_or(StartError::WorkerTimeout {
            asked: self.worker_timeout,
        })
    }
}

/// How a scheduler keeps its journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// What to do about damage that is met when the lead is taken.
    pub on_damage: OnDamage,
    /// How long something new waits for its snapshot.
    pub snapshot_interval: Duration,
    /// How long log must have been marked before it is deleted. Less than the usual is for tests only: a leader that slept for
    /// longer than that has no other guard.
    pub deletion_grace: Duration,
    /// What lies between this scheduler and its storage; nothing, but in tests.
    pub layer: Option<StoreLayer>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            on_damage: OnDamage::default(),
            snapshot_interval: Duration::from_secs(60),
            deletion_grace: collect::GRACE,
            layer: None,
        }
    }
}

/// Goes between a scheduler and its storage, so that tests can fail and delay its calls. Programs and inputs that clients
/// send do not pass through it.
#[derive(Clone)]
pub struct StoreLayer(Arc<LayerFn>);

type LayerFn = dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync;

impl StoreLayer {
    /// `wrap` is given the storage once, when a scheduler has opened it.
    pub fn new(wrap: impl Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        Self(Arc::new(wrap))
    }

    pub(crate) fn over(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        (self.0)(store)
    }
}

impl fmt::Debug for StoreLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreLayer").finish_non_exhaustive()
    }
}

/// Why a scheduler does not start. Nothing was changed then, except that a fresh storage may have been marked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Workers cannot be given so much or so little time.
    #[error(
        "the worker timeout of {} s is not between {} s and {} s",
        asked.as_secs_f64(),
        WORKER_TIMEOUT_MILLIS_MIN / 1000,
        WORKER_TIMEOUT_MILLIS_MAX / 1000
    )]
    WorkerTimeout {
        /// What was asked for.
        asked: Duration,
    },
    /// The cluster id is none.
    #[error("the cluster directory names a malformed cluster id")]
    ClusterId(#[source] ParseClusterIdError),
    /// The storage cannot be used.
    #[error("shared storage `{}` cannot be used", path.display())]
    Storage {
        /// Its root.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The storage is another cluster's, or of another version.
    #[error("shared storage `{}` is not this cluster's", path.display())]
    Cluster {
        /// Its root.
        path: PathBuf,
        /// Why.
        #[source]
        source: ClusterError,
    },
    /// The storage does not do what the journal rests on.
    #[error("shared storage `{}` cannot hold a journal", path.display())]
    Probe {
        /// Its root.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProbeError,
    },
    /// Another one works there under the same name.
    #[error(transparent)]
    Name(NameError),
    /// The lead could not be taken.
    #[error("cannot take the lead of shared storage `{}`", path.display())]
    Acquire {
        /// Its root.
        path: PathBuf,
        /// Why.
        #[source]
        source: AcquireError,
    },
    /// A record that counts is none that this version knows.
    #[error("the journal holds a record that this version cannot read, in {place}")]
    Record {
        /// Where.
        place: String,
        /// What is wrong.
        #[source]
        source: phalanx_protocol::codec::DecodeError,
    },
    /// A whole snapshot that this version cannot read.
    #[error("this version cannot read the snapshot `{key}`")]
    Snapshot {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: StateError,
    },
    /// The address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The file of keys.
    #[error(transparent)]
    Keys(#[from] IdentityError),
    /// The system has no threads or timers left.
    #[error("the system refused a thread or socket")]
    System(#[from] std::io::Error),
}

impl StartError {
    /// Whether it may be over in a moment without anybody's doing.
    pub(crate) fn may_pass(&self) -> bool {
        let Self::Acquire { source, .. } = self else {
            return false;
        };
        match source {
            AcquireError::Log(LogError::Store { source, .. }) => matches!(source, StoreError::Io { .. }),
            AcquireError::Log(LogError::Vanished { .. }) | AcquireError::RanAway | AcquireError::Outdated => {
                true
            }
            AcquireError::StoodDown { .. }
            | AcquireError::Log(
                LogError::Damaged { .. }
                | LogError::DamagedRecord { .. }
                | LogError::Lost { .. }
                | LogError::BeginningGone { .. },
            ) => false,
        }
    }

    /// The next step for whoever reads the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Name(NameError::Taken { .. }) => {
                Some("give this one another --name; any number of schedulers may work on one storage")
            }
            Self::Storage { .. } | Self::Name(NameError::Store(_)) => Some(
                "free space or mend the permissions, then start again; nothing that was acknowledged is lost",
            ),
            Self::Cluster { .. } => Some("point `storage` in cluster.toml to this cluster's own directory"),
            Self::WorkerTimeout { .. } => Some(
                "workers are heard of every half second; a lost word or two must not look like a lost worker",
            ),
            Self::Bind(_) => Some("choose another --listen address, or port 0 for any free one"),
            Self::Acquire {
                source: AcquireError::Log(LogError::BeginningGone { .. }),
                ..
            } => Some(
                "without such a copy, start `phalanx scheduler --accept-loss` once: what is left of the log is kept",
            ),
            Self::Acquire {
                source: AcquireError::Log(LogError::Store { .. }),
                ..
            } => Some(
                "look at what holds this object, then start again; nothing was changed. If only this one stays unreadable, \
                 put an empty file in its place: what it held is then told as lost, and all else is kept",
            ),
            Self::ClusterId(_)
            | Self::Probe { .. }
            | Self::Acquire { .. }
            | Self::Record { .. }
            | Self::Snapshot { .. }
            | Self::Keys(_)
            | Self::System(_) => None,
        }
    }
}

/// Why a scheduler that ran has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The journal did not take a record.
    #[error("the journal did not take a record")]
    Journal(#[source] AppendError),
    /// The thread died of a bug.
    #[error("the scheduler's thread panicked")]
    Panicked,
}
