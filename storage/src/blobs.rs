//! Blobs: programs, inputs and parameters, named by the BLAKE3 hash of their content.
//!
//! A blob gets its name only when it is whole, its hash is right and it is durable; until then nobody sees it. Blobs are
//! streamed and may be larger than memory. They lie in a directory: a worker can start a program from its [`Blobs::path`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_protocol::BlobId;
use phalanx_protocol::limits::BLOB_BYTES_MAX;

use crate::directory::{Directory, Staged};
use crate::store::{Put, StoreError};

const FOLDER: &str = "blobs";
/// Programs are started from where they lie.
const MODE: u32 = 0o755;
const PIECE_BYTES: usize = 1 << 20;

/// Why a blob could not be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes are not those that were announced.
    #[error("the content has the hash {found}, not {expected}")]
    Hash {
        /// What was announced.
        expected: BlobId,
        /// What came.
        found: BlobId,
    },
    /// Over the limit.
    #[error("a blob is limited to {BLOB_BYTES_MAX} bytes")]
    TooLarge,
    /// Not there.
    #[error("blob {id} is not on the storage")]
    Missing {
        /// The blob.
        id: BlobId,
    },
    /// What lies there is not what was written.
    #[error("blob {id} is damaged on the storage, its content has the hash {found}: remove `{}` and submit again", path.display())]
    Damaged {
        /// The blob.
        id: BlobId,
        /// What its content hashes to.
        found: BlobId,
        /// The file.
        path: PathBuf,
    },
    /// Where the bytes come from failed.
    #[error("cannot read what was to be kept")]
    Source(#[source] io::Error),
}

/// The blobs of a storage.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: Arc<Directory>,
}

impl Blobs {
    /// The blobs in that directory.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// Says why nothing can be written.
    pub fn writer(&self) -> Result<BlobWriter, BlobError> {
        let staged = self.directory.stage(FOLDER, MODE)?;
        Ok(BlobWriter {
            directory: Arc::clone(&self.directory),
            staged,
            hasher: blake3::Hasher::new(),
            bytes_written: 0,
        })
    }

    /// Keeps everything that a reader yields and returns its name.
    ///
    /// # Errors
    /// Says what failed; then nothing is kept.
    pub fn put_from_reader(&self, mut source: impl Read) -> Result<BlobId, BlobError> {
        let mut writer = self.writer()?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match source.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => writer.write(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlobError::Source(error)),
            }
        }
        let id = writer.id();
        writer.finish(id)?;
        Ok(id)
    }

    /// Whether the storage holds the blob.
    pub fn contains(&self, id: BlobId) -> bool {
        self.path(id).is_file()
    }

    /// The root of the storage that they lie on.
    pub fn root(&self) -> &Path {
        self.directory.root()
    }

    /// Where the blob lies, or would lie.
    pub fn path(&self, id: BlobId) -> PathBuf {
        self.directory.path(&key(id))
    }

    /// Opens a blob for reading. The content is not checked: see [`Blobs::verify`] and [`Blobs::read`].
    ///
    /// # Errors
    /// [`BlobError::Missing`] if there is none.
    pub fn open(&self, id: BlobId) -> Result<File, BlobError> {
        let path = self.path(id);
        File::open(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return BlobError::Missing { id };
            }
            StoreError::new("open", &path, source).into()
        })
    }

    /// Reads a whole blob into memory and checks its content.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if it is not what was written.
    pub fn read(&self, id: BlobId) -> Result<Vec<u8>, BlobError> {
        let mut content = Vec::new();
        let read = self.open(id)?.read_to_end(&mut content);
        read.map_err(|source| StoreError::new("read", &self.path(id), source))?;
        self.check(id, &blake3::hash(&content))?;
        Ok(content)
    }

    /// Reads a blob through and checks its content.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if it is not what was written.
    pub fn verify(&self, id: BlobId) -> Result<(), BlobError> {
        let mut hasher = blake3::Hasher::new();
        let read = io::copy(&mut self.open(id)?, &mut hasher);
        read.map_err(|source| StoreError::new("read", &self.path(id), source))?;
        self.check(id, &hasher.finalize())
    }

    fn check(&self, id: BlobId, found: &blake3::Hash) -> Result<(), BlobError> {
        let found = BlobId(*found.as_bytes());
        if found == id {
            Ok(())
        } else {
            Err(BlobError::Damaged {
                id,
                found,
                path: self.path(id),
            })
        }
    }
}

/// A blob being written. Dropped before [`BlobWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    directory: Arc<Directory>,
    staged: Staged,
    hasher: blake3::Hasher,
    bytes_written: u64,
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// Says why they could not be written, or that the blob is over the limit.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.bytes_written += bytes.len() as u64;
        if self.bytes_written > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge);
        }
        self.hasher.update(bytes);
        let written = self.staged.write_all(bytes);
        Ok(written.map_err(|source| StoreError::new("write", &self.directory.path(FOLDER), source))?)
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// The name of what was written so far.
    pub fn id(&self) -> BlobId {
        BlobId(*self.hasher.finalize().as_bytes())
    }

    /// Names the blob; it is durable when this returns. One that was there before is as good.
    ///
    /// # Errors
    /// [`BlobError::Hash`] if the content is not what was announced; then nothing is kept.
    pub fn finish(self, expected: BlobId) -> Result<(), BlobError> {
        let found = self.id();
        if found != expected {
            return Err(BlobError::Hash { expected, found });
        }
        let (Put::Created | Put::Exists) = self.directory.publish(self.staged, &key(expected))?;
        Ok(())
    }
}

fn key(id: BlobId) -> String {
    let hex = id.to_string();
    format!("{FOLDER}/{}/{hex}", &hex[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        (folder, Blobs::new(Arc::new(directory)))
    }

    #[test]
    fn a_blob_reads_back_under_the_hash_of_its_content() {
        let (_folder, blobs) = blobs();
        let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
        let id = blobs.put_from_reader(&content[..]).unwrap();
        assert_eq!(id.0, *blake3::hash(&content).as_bytes());
        assert!(blobs.contains(id));
        assert_eq!(blobs.read(id).unwrap(), content);
        // again is no error
        assert_eq!(blobs.put_from_reader(&content[..]).unwrap(), id);
    }

    #[test]
    fn a_blob_with_another_hash_than_announced_is_not_kept() {
        let (folder, blobs) = blobs();
        let expected = BlobId(*blake3::hash(b"program").as_bytes());
        let mut writer = blobs.writer().unwrap();
        writer.write(b"programme").unwrap();
        assert!(matches!(writer.finish(expected), Err(BlobError::Hash { .. })));
        assert!(!blobs.contains(expected));
        assert!(matches!(blobs.open(expected), Err(BlobError::Missing { .. })));
        assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_named() {
        let (_folder, blobs) = blobs();
        let id = blobs.put_from_reader(&b"program"[..]).unwrap();
        blobs.verify(id).unwrap();
        std::fs::write(blobs.path(id), b"pr0gram").unwrap();
        assert!(matches!(blobs.verify(id), Err(BlobError::Damaged { .. })));
        let error = blobs.read(id).unwrap_err().to_string();
        assert!(
            error.contains(&id.to_string()) && error.contains("remove"),
            "{error}"
        );
    }
}
