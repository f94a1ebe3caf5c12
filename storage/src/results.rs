//! Result files: what is too large to ride in a report, written by the worker itself as
//! `jobs/<id>/results/<first>-<last>-<grant>`.

use std::sync::Arc;

use phalanx_protocol::{GrantId, IndexRange, JobId};

use crate::store::{Put, Store, StoreError};

/// A result file as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFile {
    /// Its name in the job's results folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub crc32c: u32,
}

/// Why a result file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The grant has already written something else for this range.
    #[error("result file `{key}` is there already, with other content")]
    Taken {
        /// The file's key.
        key: String,
    },
    /// Not there.
    #[error("result file `{key}` is not on the storage")]
    Missing {
        /// The file's key.
        key: String,
    },
    /// What lies there is not what was announced.
    #[error("result file `{key}` is damaged at bytes {offset}..{}: run these tasks again", offset + bytes)]
    Damaged {
        /// The file's key.
        key: String,
        /// Where the wanted bytes begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
}

/// The result files on a storage.
#[derive(Clone)]
pub struct Results {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl Results {
    /// The result files on that storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Writes the results of a range; they are durable when this returns. Writing the same again is no error.
    ///
    /// # Errors
    /// [`ResultError::Taken`] if the same grant wrote something else there.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn write(
        &self,
        job: JobId,
        range: IndexRange,
        grant: GrantId,
        content: &[u8],
    ) -> Result<ResultFile, ResultError> {
        assert!(!range.is_empty(), "a result file holds at least one result");
        let name = format!("{}-{}-{grant}", range.start, range.end - 1);
        let key = key(job, &name);
        if self.store.put_if_absent(&key, content)? == Put::Exists
            && self.store.get(&key)?.as_deref() != Some(content)
        {
            return Err(ResultError::Taken { key });
        }
        Ok(ResultFile {
            name,
            bytes: content.len() as u64,
            crc32c: crc32c::crc32c(content),
        })
    }

    /// Reads a whole result file and checks it.
    ///
    /// # Errors
    /// Names a file that is missing or damaged.
    pub fn read(&self, job: JobId, file: &ResultFile) -> Result<Vec<u8>, ResultError> {
        self.read_part(job, &file.name, 0, file.bytes, file.crc32c)
    }

    /// Reads some of a result file's bytes and checks them against their own checksum.
    ///
    /// # Errors
    /// Names a file that is missing or damaged.
    pub fn read_part(
        &self,
        job: JobId,
        name: &str,
        offset: u64,
        bytes: u64,
        crc32c: u32,
    ) -> Result<Vec<u8>, ResultError> {
        let key = key(job, name);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let Some(content) = self.store.get_range(&key, offset, length)? else {
            return Err(ResultError::Missing { key });
        };
        if content.len() != length || crc32c::crc32c(&content) != crc32c {
            return Err(ResultError::Damaged { key, offset, bytes });
        }
        Ok(content)
    }
}

fn key(job: JobId, name: &str) -> String {
    format!("jobs/{job}/results/{name}")
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::Term;

    use super::*;
    use crate::memory::MemoryStore;

    const JOB: JobId = JobId(42);
    const GRANT: GrantId = GrantId {
        term: Term(17),
        number: 3,
    };

    #[test]
    fn a_result_file_reads_back_whole_and_in_part() {
        let results = Results::new(Arc::new(MemoryStore::default()));
        let file = results
            .write(JOB, IndexRange::new(0, 100), GRANT, b"hundred results")
            .unwrap();
        assert_eq!((file.name.as_str(), file.bytes), ("0-99-t17-3", 15));
        assert_eq!(results.read(JOB, &file).unwrap(), b"hundred results");
        let part = results.read_part(JOB, &file.name, 8, 7, crc32c::crc32c(b"results"));
        assert_eq!(part.unwrap(), b"results");
        assert_eq!(
            results
                .write(JOB, IndexRange::new(0, 100), GRANT, b"hundred results")
                .unwrap(),
            file
        );
        let other = results.write(JOB, IndexRange::new(0, 100), GRANT, b"other results");
        assert!(matches!(other, Err(ResultError::Taken { .. })));
    }

    #[test]
    fn a_damaged_or_missing_result_file_is_named() {
        let store = Arc::new(MemoryStore::default());
        let results = Results::new(Arc::clone(&store) as Arc<dyn Store>);
        let file = results
            .write(JOB, IndexRange::new(5, 6), GRANT, b"result")
            .unwrap();
        let key = "jobs/42/results/5-5-t17-3";
        for damaged in [&b"resulT"[..], b"resul"] {
            store.replace(key, damaged).unwrap();
            let error = results.read(JOB, &file).unwrap_err();
            assert!(
                matches!(&error, ResultError::Damaged { key: named, .. } if named == key),
                "{error}"
            );
        }
        store.delete(key).unwrap();
        assert!(matches!(
            results.read(JOB, &file),
            Err(ResultError::Missing { .. })
        ));
    }
}
