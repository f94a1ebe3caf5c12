//! The cluster directory: the files by which every program finds its cluster and proves who it is.
//!
//! ```text
//! cluster.toml                 which cluster, its schedulers, its storage
//! ca.pem                       the authority's certificate
//! ca.key                       the authority, private key included: needed by nobody who only runs programs
//! credentials/<role>.pem       of the scheduler, the worker, the admin; user-<login>.pem of each user
//! ```
//!
//! `phalanx init` makes it whole or not at all: everything is written beside the final place, which one rename then
//! gives its name. Programs only read it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::identity::{Authority, Credential, IdentityError, Role};

/// Names the cluster directory instead of `~/.phalanx`.
pub const DIRECTORY_VARIABLE: &str = "PHALANX_CLUSTER";

const CONFIG_FILE: &str = "cluster.toml";
const AUTHORITY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";
const CREDENTIALS_FOLDER: &str = "credentials";
const STORAGE_FOLDER: &str = "storage";

/// What `cluster.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The cluster's id: 32 hexadecimal digits, also in each of its certificates.
    pub cluster: String,
    /// Where its schedulers are, as `host:port`; if empty, the cards on its storage tell.
    #[serde(default)]
    pub schedulers: Vec<String>,
    /// Its shared storage; a relative path begins at the cluster directory.
    #[serde(default = "default_storage")]
    pub storage: PathBuf,
}

fn default_storage() -> PathBuf {
    PathBuf::from(STORAGE_FOLDER)
}

/// What a new cluster directory is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCluster {
    /// Where its schedulers will be, as `host:port`; may be empty.
    pub schedulers: Vec<String>,
    /// Its shared storage; a relative path begins at the cluster directory.
    pub storage: PathBuf,
    /// Who gets a user's credential, by login name.
    pub users: Vec<String>,
}

impl Default for NewCluster {
    /// No address, storage inside the directory, and a credential for whoever calls.
    fn default() -> Self {
        Self {
            schedulers: Vec::new(),
            storage: default_storage(),
            users: vec![login_name()],
        }
    }
}

/// Why a cluster directory cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Nothing is there.
    #[error("there is no cluster directory `{}`", root.display())]
    Absent {
        /// Where it was looked for.
        root: PathBuf,
    },
    /// Something is there already; a cluster's authority is not replaced by mistake.
    #[error("`{}` exists already", root.display())]
    Exists {
        /// Where the new one was to be.
        root: PathBuf,
    },
    /// `cluster.toml` is no configuration.
    #[error("`{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// The id in `cluster.toml` is none.
    #[error("`{}` names the cluster `{cluster}`, which is not 32 hexadecimal digits", path.display())]
    BadId {
        /// The file.
        path: PathBuf,
        /// The id in it.
        cluster: String,
    },
    /// A credential of another cluster than `cluster.toml` names.
    #[error("`{}` is a credential for cluster {found}, this is cluster {cluster}", path.display())]
    OtherCluster {
        /// The credential.
        path: PathBuf,
        /// The cluster of the directory.
        cluster: String,
        /// The cluster of the credential.
        found: String,
    },
    /// A key or certificate cannot be made, saved or read.
    #[error("the cluster's keys cannot be used")]
    Identity(#[from] IdentityError),
    /// The system said no.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system gives no random bytes for the cluster's id.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// There is neither `$PHALANX_CLUSTER` nor a home directory.
    #[error("no cluster directory is known: {DIRECTORY_VARIABLE} is not set and there is no home directory")]
    NoHome,
}

impl DirectoryError {
    /// The next step for the person who reads the error, for a `hint:` line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Absent { .. } | Self::NoHome => {
                "`phalanx init` makes one, PHALANX_CLUSTER names one elsewhere"
            }
            Self::Exists { .. } => "use the cluster that is there, or name another directory",
            Self::Malformed { .. } | Self::BadId { .. } => "restore the file as `phalanx init` wrote it",
            Self::OtherCluster { .. } | Self::Identity(_) => {
                "ask the cluster's administrator for a credential"
            }
            Self::File { .. } | Self::NoRandomness => "the cause is outside Phalanx: see the reason above",
        }
    }
}

/// A cluster directory that was read.
///
/// ```
/// # let temporary = tempfile::tempdir()?;
/// # let root = temporary.path().join("lab");
/// use phalanx_transport::{ClusterDirectory, NewCluster, Role};
///
/// ClusterDirectory::create(&root, &NewCluster::default())?;
/// let cluster = ClusterDirectory::open(&root)?;
/// let credential = cluster.credential(Role::Worker)?;
/// assert_eq!(credential.identity().cluster, cluster.config.cluster);
/// assert_eq!(cluster.storage_path(), root.join("storage"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDirectory {
    /// The directory.
    pub root: PathBuf,
    /// What its `cluster.toml` says.
    pub config: ClusterConfig,
}

impl ClusterDirectory {
    /// Makes a new cluster: its id, its authority, and credentials for every role, in a directory with mode 0700.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`] if anything but an empty directory is at `root`, or why it cannot be made. Nothing is
    /// left behind then.
    pub fn create(root: &Path, new: &NewCluster) -> Result<Self, DirectoryError> {
        let exists = || DirectoryError::Exists {
            root: root.to_owned(),
        };
        if !is_free(root).map_err(failed("look at", root))? {
            return Err(exists());
        }
        let (parent, name) = match (root.parent(), root.file_name()) {
            (Some(parent), Some(name)) => (parent, name.to_string_lossy()),
            _ => return Err(exists()),
        };
        if parent != Path::new("") {
            fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        let staging = parent.join(format!(".{name}.new-{}", std::process::id()));
        let config = ClusterConfig {
            cluster: random_id()?,
            schedulers: new.schedulers.clone(),
            storage: new.storage.clone(),
        };
        let made = fill(&staging, &config, &new.users).and_then(|()| {
            // takes the place of an empty directory, and of nothing else
            fs::rename(&staging, root).map_err(|cause| match is_taken(cause.kind()) {
                true => exists(),
                false => failed("create", root)(cause),
            })
        });
        if made.is_err() {
            // what is left is in nobody's way; the error that counts is the first
            let _ = fs::remove_dir_all(&staging);
        }
        made.map(|()| Self {
            root: root.to_owned(),
            config,
        })
    }

    /// Reads the cluster directory at `root`.
    ///
    /// # Errors
    /// [`DirectoryError::Absent`] if there is none, or what is wrong with it.
    pub fn open(root: &Path) -> Result<Self, DirectoryError> {
        let path = root.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).map_err(|cause| match is_absent(cause.kind()) {
            true => DirectoryError::Absent {
                root: root.to_owned(),
            },
            false => failed("read", &path)(cause),
        })?;
        let config: ClusterConfig = toml::from_str(&text).map_err(|cause| DirectoryError::Malformed {
            path: path.clone(),
            cause: Box::new(cause),
        })?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if config.cluster.len() != 32 || !config.cluster.bytes().all(is_digit) {
            return Err(DirectoryError::BadId {
                path,
                cluster: config.cluster,
            });
        }
        Ok(Self {
            root: root.to_owned(),
            config,
        })
    }

    /// The credential for a role; of a user: the caller's own.
    ///
    /// # Errors
    /// [`DirectoryError`] if there is none or it is not of this cluster.
    pub fn credential(&self, role: Role) -> Result<Credential, DirectoryError> {
        let path = credential_path(&self.root, role, &login_name());
        let credential = Credential::load(&path)?;
        let found = &credential.identity().cluster;
        match *found == self.config.cluster {
            true => Ok(credential),
            false => Err(DirectoryError::OtherCluster {
                path,
                cluster: self.config.cluster.clone(),
                found: found.clone(),
            }),
        }
    }

    /// The authority, to issue more credentials with.
    ///
    /// # Errors
    /// [`DirectoryError::Identity`] if it is not kept here or cannot be read.
    pub fn authority(&self) -> Result<Authority, DirectoryError> {
        Ok(Authority::load(&self.root.join(AUTHORITY_FILE))?)
    }

    /// Where the shared storage is.
    pub fn storage_path(&self) -> PathBuf {
        self.root.join(&self.config.storage)
    }

    /// Where programs look: `$PHALANX_CLUSTER`, else `~/.phalanx`.
    ///
    /// # Errors
    /// [`DirectoryError::NoHome`].
    pub fn default_root() -> Result<PathBuf, DirectoryError> {
        match std::env::var_os(DIRECTORY_VARIABLE) {
            Some(root) if !root.is_empty() => Ok(root.into()),
            Some(_) | None => std::env::home_dir()
                .map(|home| home.join(".phalanx"))
                .ok_or(DirectoryError::NoHome),
        }
    }
}

/// The caller's login name, as far as it may stand in a certificate: what the system's list of users says, else the
/// environment (for users that a directory service knows), else `uid-<n>`. The list goes first because a program that cron
/// or a service manager starts has another environment than its user's shell.
fn login_name() -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    let is_plain = |name: &String| !name.is_empty() && name.bytes().all(plain);
    let uid = fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let variables = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok());
    let mut names = listed_name(&users, uid).into_iter().chain(variables);
    names.find(is_plain).unwrap_or_else(|| format!("uid-{uid}"))
}

/// The name of a user in the format of `/etc/passwd`.
fn listed_name(users: &str, uid: u32) -> Option<String> {
    let fields = |line: &str| -> Option<(String, u32)> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    users
        .lines()
        .filter_map(fields)
        .find(|(_, listed)| *listed == uid)
        .map(|(name, _)| name)
}

fn credential_path(root: &Path, role: Role, login: &str) -> PathBuf {
    let name = match role {
        Role::User => format!("{role}-{login}.pem"),
        Role::Scheduler | Role::Worker | Role::Admin => format!("{role}.pem"),
    };
    root.join(CREDENTIALS_FOLDER).join(name)
}

/// Whether a rename found something in its place.
fn is_taken(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as E;
    matches!(kind, E::DirectoryNotEmpty | E::AlreadyExists | E::NotADirectory)
}

fn is_absent(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether there is nothing, or an empty directory.
fn is_free(root: &Path) -> io::Result<bool> {
    match fs::read_dir(root) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a whole cluster directory at `root`, which must not exist.
fn fill(root: &Path, config: &ClusterConfig, users: &[String]) -> Result<(), DirectoryError> {
    let credentials = root.join(CREDENTIALS_FOLDER);
    for folder in [root, &credentials] {
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.map_err(failed("create", folder))?;
    }
    let authority = Authority::create(&config.cluster)?;
    authority.save(&root.join(AUTHORITY_FILE))?;
    // the authority's text is its certificate, then its private key
    let text = authority.to_pem();
    let certificate = text.split("-----BEGIN PRIVATE KEY").next().unwrap_or_default();
    write(&root.join(CERTIFICATE_FILE), certificate)?;
    for role in [Role::Scheduler, Role::Worker, Role::Admin] {
        let credential = authority.issue(role, role.as_str())?;
        credential.save(&credential_path(root, role, ""))?;
    }
    for user in users {
        let credential = authority.issue(Role::User, user)?;
        credential.save(&credential_path(root, Role::User, user))?;
    }
    let text = toml::to_string(config).unwrap_or_default();
    write(&root.join(CONFIG_FILE), &text)
}

fn write(path: &Path, text: &str) -> Result<(), DirectoryError> {
    fs::write(path, text).map_err(failed("create", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |cause| DirectoryError::File { action, path, cause }
}

fn random_id() -> Result<String, DirectoryError> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| DirectoryError::NoRandomness)?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
