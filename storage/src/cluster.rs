//! `cluster.json` in the root of the storage: whose storage this is, and how many shards its log has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::store::{Put, Store, StoreError};

/// The layout that this build writes and reads.
pub const LAYOUT_VERSION: u32 = 1;

const KEY: &str = "cluster.json";

/// Names a cluster: 16 random bytes, drawn once when it is set up. Text form: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no cluster id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a cluster id (32 hexadecimal digits)")]
pub struct ParseClusterIdError(String);

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;
    fn from_str(text: &str) -> Result<Self, ParseClusterIdError> {
        let plain = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number
            .map(|number| Self(number.to_be_bytes()))
            .ok_or_else(|| ParseClusterIdError(text.to_owned()))
    }
}

/// What `cluster.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many shards its log has; set when the storage is first used.
    pub shard_count: u32,
}

#[derive(Serialize, Deserialize)]
struct Text {
    format: u32,
    cluster: String,
    shards: u32,
}

/// Why a storage is not the one that was expected.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file does not read as what this program writes.
    #[error("`{KEY}` on the storage is damaged")]
    Damaged {
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The file holds nonsense.
    #[error("`{KEY}` on the storage is damaged")]
    Id {
        /// What the parser said.
        #[source]
        source: ParseClusterIdError,
    },
    /// Another layout.
    #[error("the storage has layout version {found}, this build uses version {LAYOUT_VERSION}")]
    Version {
        /// The version that it names.
        found: u32,
    },
    /// Another cluster's.
    #[error("the storage belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// Created, and gone when read back.
    #[error("`{KEY}` vanished from the storage")]
    Vanished,
}

/// Reads `cluster.json`; `None` on a storage that was never used.
///
/// # Errors
/// Says what is wrong with the file.
pub fn read(store: &dyn Store) -> Result<Option<ClusterFile>, ClusterError> {
    let Some(bytes) = store.get(KEY)? else {
        return Ok(None);
    };
    let text: Text = serde_json::from_slice(&bytes).map_err(|source| ClusterError::Damaged { source })?;
    if text.format != LAYOUT_VERSION {
        return Err(ClusterError::Version { found: text.format });
    }
    let cluster = text
        .cluster
        .parse()
        .map_err(|source| ClusterError::Id { source })?;
    Ok(Some(ClusterFile {
        cluster,
        shard_count: text.shards,
    }))
}

/// Marks a fresh storage as the cluster's, or checks that a used one is. The shard count counts only when it is fresh.
///
/// # Errors
/// [`ClusterError::OtherCluster`] when the storage is someone else's, and whatever else is wrong with it.
pub fn create_or_check(
    store: &dyn Store,
    cluster: ClusterId,
    shard_count: u32,
) -> Result<ClusterFile, ClusterError> {
    if read(store)?.is_none() {
        let text = Text {
            format: LAYOUT_VERSION,
            cluster: cluster.to_string(),
            shards: shard_count,
        };
        let mut bytes =
            serde_json::to_vec_pretty(&text).map_err(|source| ClusterError::Damaged { source })?;
        bytes.push(b'\n');
        let (Put::Created | Put::Exists) = store.put_if_absent(KEY, &bytes)?;
    }
    let file = read(store)?.ok_or(ClusterError::Vanished)?;
    if file.cluster != cluster {
        return Err(ClusterError::OtherCluster {
            found: file.cluster,
            expected: cluster,
        });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    const OURS: ClusterId = ClusterId([0xab; 16]);

    #[test]
    fn a_fresh_storage_is_marked_and_a_used_one_is_checked() {
        let store = MemoryStore::default();
        assert_eq!(read(&store).unwrap(), None);
        let file = create_or_check(&store, OURS, 4).unwrap();
        assert_eq!(
            file,
            ClusterFile {
                cluster: OURS,
                shard_count: 4
            }
        );
        // the count of a used storage stays
        assert_eq!(create_or_check(&store, OURS, 9).unwrap().shard_count, 4);
        let error = create_or_check(&store, ClusterId([1; 16]), 4).unwrap_err();
        assert!(
            matches!(error, ClusterError::OtherCluster { found: OURS, .. }),
            "{error}"
        );
    }

    #[test]
    fn another_layout_and_a_damaged_file_are_named() {
        let store = MemoryStore::default();
        store
            .replace(KEY, br#"{"format":2,"cluster":"00","shards":1}"#)
            .unwrap();
        assert!(matches!(
            create_or_check(&store, OURS, 1),
            Err(ClusterError::Version { found: 2 })
        ));
        store.replace(KEY, b"{").unwrap();
        assert!(matches!(
            create_or_check(&store, OURS, 1),
            Err(ClusterError::Damaged { .. })
        ));
        store
            .replace(KEY, br#"{"format":1,"cluster":"00","shards":1}"#)
            .unwrap();
        assert!(matches!(
            create_or_check(&store, OURS, 1),
            Err(ClusterError::Id { .. })
        ));
    }

    #[test]
    fn cluster_ids_read_back() {
        assert_eq!(OURS.to_string().parse(), Ok(OURS));
        assert!("+0".repeat(16).parse::<ClusterId>().is_err());
    }
}
