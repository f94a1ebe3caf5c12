//! The blocking work on shared storage: what a job needs before it runs, and its large results. Runs on blocking threads.

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_protocol::job::InputTable;
use phalanx_protocol::{BlobId, codec};
use phalanx_storage::{BlobError, Blobs, Directory, Results};

use crate::agent::{Agent, Needs, Obstacle, Opening, Prepared, ResultWrite};
use crate::hosts::{board, program};
use crate::inputs::InputFiles;
use crate::progress;

/// Shared storage and this node's cache.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    blobs: Blobs,
    results: Results,
    cache: Arc<PathBuf>,
}

impl Stores {
    /// The storage in `directory`, and a cache.
    pub(crate) fn new(directory: Arc<Directory>, cache: PathBuf) -> Self {
        Self {
            blobs: Blobs::new(Arc::clone(&directory)),
            results: Results::new(directory),
            cache: Arc::new(cache),
        }
    }

    /// Where the cache keeps a program.
    pub(crate) fn program_path(&self, program: BlobId) -> PathBuf {
        Agent::program_path(&self.cache, program)
    }

    /// Where the cache keeps running boards.
    pub(crate) fn boards(&self) -> PathBuf {
        board::folder(&self.cache)
    }

    /// Gets what a job needs.
    pub(crate) fn prepare(&self, opening: Opening, needs: &Needs) -> Result<Prepared, Obstacle> {
        if let Some(blob) = needs.program {
            program::fetch(&self.blobs, blob, &self.program_path(blob), opening.0).map_err(|error| {
                Obstacle {
                    reason: error.to_string(),
                    fatal: error.is_fatal(),
                }
            })?;
        }
        let parameters = needs
            .parameters
            .map(|blob| self.file("parameters", blob))
            .transpose()?;
        let inputs = needs.table.map(|blob| self.input_files(blob)).transpose()?;
        Ok(Prepared {
            program: needs.program,
            parameters,
            inputs,
        })
    }

    fn read(&self, what: &str, blob: BlobId) -> Result<Vec<u8>, Obstacle> {
        self.blobs.read(blob).map_err(|error| unreadable(what, &error))
    }

    /// The path of a blob whose content is what it should be.
    fn file(&self, what: &str, blob: BlobId) -> Result<PathBuf, Obstacle> {
        self.blobs
            .verify(blob)
            .map_err(|error| unreadable(what, &error))?;
        Ok(self.blobs.path(blob))
    }

    /// The files of an input table. Hosts check what is in them; here they only have to be there.
    fn input_files(&self, blob: BlobId) -> Result<InputFiles, Obstacle> {
        let fatal = |reason| Obstacle { reason, fatal: true };
        let content = self.read("input table", blob)?;
        let table: InputTable = codec::decode(&content)
            .map_err(|error| fatal(format!("blob {blob} is no input table: {error}")))?;
        let missing = table.chunks.iter().find(|chunk| !self.blobs.contains(chunk.blob));
        if let Some(chunk) = missing {
            let reason = format!(
                "inputs {} are missing: blob {} is not on the storage",
                chunk.items, chunk.blob
            );
            // other nodes may see it
            return Err(Obstacle { reason, fatal: false });
        }
        InputFiles::new(&table, |blob| self.blobs.path(blob)).ok_or_else(|| {
            fatal(format!(
                "blob {blob} is no input table: its chunks are no neighbours"
            ))
        })
    }

    /// Writes a result file and returns its name once it is durable.
    pub(crate) fn write(&self, write: &ResultWrite) -> Option<String> {
        let content = progress::file_content(&write.portion);
        match self.results.write(write.job, write.range, write.grant, &content) {
            Ok(file) => Some(file.name),
            Err(error) => {
                tracing::warn!(job = %write.job, %error, "results cannot be written; tried again later");
                None
            }
        }
    }
}

fn unreadable(what: &str, error: &BlobError) -> Obstacle {
    Obstacle {
        reason: format!("the job's {what} cannot be read: {error}"),
        fatal: program::is_blob_damaged(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_protocol::IndexRange;
    use phalanx_protocol::job::InputChunk;

    #[test]
    fn missing_and_damaged_inputs_are_named_and_only_damage_is_the_jobs_fault() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(folder.path()).unwrap());
        let blobs = Blobs::new(Arc::clone(&directory));
        let stores = Stores::new(directory, folder.path().join("cache"));
        let prepare = |table: BlobId| {
            stores.prepare(
                Opening(1),
                &Needs {
                    table: Some(table),
                    ..Needs::default()
                },
            )
        };

        let chunk = blobs.put_from_reader(&b"items"[..]).unwrap();
        let table = |items: IndexRange, blob: BlobId| {
            let table = InputTable {
                chunks: vec![InputChunk { items, blob }],
            };
            blobs.put_from_reader(&codec::encode(&table)[..]).unwrap()
        };
        let files = prepare(table(IndexRange::new(0, 5), chunk))
            .unwrap()
            .inputs
            .unwrap();
        assert_eq!(files.item_count(), 5);

        let absent = BlobId([9; 32]);
        let obstacle = prepare(table(IndexRange::new(0, 7), absent)).unwrap_err();
        assert!(
            !obstacle.fatal && obstacle.reason.contains(&absent.to_string()),
            "{}",
            obstacle.reason
        );
        let obstacle = prepare(absent).unwrap_err();
        assert!(
            !obstacle.fatal && obstacle.reason.contains(&absent.to_string()),
            "{}",
            obstacle.reason
        );
        let obstacle = prepare(chunk).unwrap_err();
        assert!(
            obstacle.fatal && obstacle.reason.contains("no input table"),
            "{}",
            obstacle.reason
        );
        let needs = |parameters| Needs {
            parameters: Some(parameters),
            ..Needs::default()
        };
        assert!(!stores.prepare(Opening(1), &needs(absent)).unwrap_err().fatal);
        std::fs::write(blobs.path(chunk), b"itemz").unwrap();
        assert!(stores.prepare(Opening(1), &needs(chunk)).unwrap_err().fatal);
    }
}
