//! The four calls that safety needs from shared storage, one that convenience wants, and what can go wrong with them.
//!
//! A key is a path of plain segments, `shards/0/log/…`. Bodies are whole: a reader sees all of an object or none of it.
//! Listings are hints, since some file systems cache them; whoever must be sure creates, and looks at the outcome.

use std::io;
use std::path::{Path, PathBuf};

/// What became of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there now, durable, with the caller's bytes.
    Created,
    /// An object of that name was there before and is unchanged.
    Exists,
}

/// A store of named, write-once objects.
///
/// An `Err` from a writing call means that its outcome is unknown: the object may be there, now or a little later.
pub trait Store: Send + Sync + 'static {
    /// Creates an object, whole or not at all; it is durable when this returns.
    ///
    /// # Errors
    /// Says why the outcome is unknown.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError>;

    /// Reads a whole object; `None` if there is none.
    ///
    /// # Errors
    /// Says why it could not be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads up to `length` bytes from `offset`, fewer where the object ends; `None` if there is no such object.
    ///
    /// # Errors
    /// Says why it could not be read.
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError>;

    /// Lists, in order, every key that starts with `prefix` and is greater than `after`.
    ///
    /// # Errors
    /// Says why it could not be listed.
    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// Says why the outcome is unknown.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Writes an object over whatever was there. Whole or not at all, but not durable: for member cards only.
    ///
    /// # Errors
    /// Says why the outcome is unknown.
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;
}

/// Why a call on a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space, or the quota is used up.
    #[error("no space left for `{}`", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
    },
    /// The storage takes no writes.
    #[error("`{}` is on a read-only file system", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// This process may not do that there.
    #[error("permission denied for `{}`", path.display())]
    Denied {
        /// What was to be read or written.
        path: PathBuf,
    },
    /// A key that could leave the storage or hide from listings.
    #[error("`{key}` is not a key: its segments must be non-empty and not begin with a dot")]
    Key {
        /// The key.
        key: String,
    },
    /// Anything else.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts what the system said into the kinds that an operator can act on.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full { path }
        } else if kind == io::ErrorKind::ReadOnlyFilesystem {
            Self::ReadOnly { path }
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::Denied { path }
        } else {
            Self::Io { action, path, source }
        }
    }
}

/// Checks that a key stays inside the storage and shows up in listings.
///
/// # Errors
/// [`StoreError::Key`] names the key.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let plain = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && !segment.contains('\0');
    if key.split('/').all(plain) {
        Ok(())
    } else {
        Err(StoreError::Key { key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_sorted_by_what_an_operator_can_do() {
        let sorted = |errno: rustix::io::Errno| StoreError::new("write", Path::new("/x"), errno.into());
        assert!(matches!(
            sorted(rustix::io::Errno::NOSPC),
            StoreError::Full { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::DQUOT),
            StoreError::Full { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::ROFS),
            StoreError::ReadOnly { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::ACCESS),
            StoreError::Denied { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::IO),
            StoreError::Io { action: "write", .. }
        ));
    }

    #[test]
    fn keys_cannot_leave_the_storage() {
        assert!(check_key("jobs/42/results/0-99-t17-3").is_ok());
        for key in ["", "/etc/passwd", "a//b", "a/../b", "a/.hidden", "a/"] {
            assert!(matches!(check_key(key), Err(StoreError::Key { .. })), "{key}");
        }
    }
}
