//! What a scheduler is started with, and why it does not start or end well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::state::StateError;
use phalanx_storage::cluster::ParseClusterIdError;
use phalanx_storage::journal::acquire::AcquireError;
use phalanx_storage::{AppendError, ClusterError, NameError, ProbeError, StoreError};
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
}

impl SchedulerConfig {
    /// How long a leader may be silent unless told otherwise: 2 s.
    pub const TAKEOVER_AFTER: Duration = Duration::from_secs(2);
}

/// Why a scheduler does not start. Nothing was changed then, except that a fresh storage may have been marked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
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
            Self::Bind(_) => Some("choose another --listen address, or port 0 for any free one"),
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
