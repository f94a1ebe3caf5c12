//! Files of the user's that a job's output goes to: their names, found as the worker found them, and what is in them.
//!
//! Nothing is asked of the cluster here.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use phalanx::JobView;
use phalanx_protocol::command::{element_number, facts};
use phalanx_protocol::pattern::{PatternValues, expand, has_letter};

/// Bytes that are read at a time.
const READ_BYTES_MAX: usize = 64 << 10;
/// Bytes by which it is known again how far a file was read.
const MARK_BYTES: usize = 64;

/// The files of a job, by the patterns of its submission.
#[derive(Debug)]
pub(super) struct Files<'a> {
    view: &'a JobView,
    directory: &'a Path,
    output: &'a str,
    error: Option<&'a str>,
}

/// The files of one task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) output: PathBuf,
    /// If it is another one.
    pub(super) error: Option<PathBuf>,
}

impl<'a> Files<'a> {
    /// Those of a job; `None` if its output is kept on the cluster's storage.
    pub(super) fn of(view: &'a JobView) -> Option<Self> {
        let known = &view.command.as_ref()?.facts;
        let fact = |name: &str| known.get(name).map(String::as_str);
        Some(Self {
            view,
            directory: Path::new(fact(facts::DIRECTORY).unwrap_or_default()),
            output: fact(facts::OUTPUT)?,
            error: fact(facts::ERROR),
        })
    }

    /// Whether all tasks have the same ones: there is one, or others keep nodes for the first, or nothing in the names tells
    /// tasks apart.
    pub(super) fn are_shared(&self) -> bool {
        self.is_spread() || self.view.tasks == 1 || {
            let has = |letter| self.patterns().any(|pattern| has_letter(pattern, letter));
            let tells_elements = self.is_array() && ['a', 'b', 'j', 'J'].into_iter().any(has);
            !tells_elements && !has('N')
        }
    }

    /// Whether each task has its own, so that none needs to be remembered.
    pub(super) fn are_each_ones_own(&self) -> bool {
        let own = |pattern: &str| ['a', 'j', 'J'].iter().any(|&letter| has_letter(pattern, letter));
        self.is_array() && self.patterns().all(own)
    }

    /// Whether it is one script, for which the tasks after the first keep nodes.
    pub(super) fn is_spread(&self) -> bool {
        let command = self.view.command.as_ref();
        command.is_some_and(|command| command.facts.contains_key(facts::NODES))
    }

    /// Those of the task `index`, which runs on that node; `None` if that is not known, and is in a name.
    pub(super) fn names(&self, index: u64, node: Option<&str>) -> Option<Names> {
        if node.is_none() && self.patterns().any(|pattern| has_letter(pattern, 'N')) {
            return None;
        }
        let view = self.view;
        let array = view.command.as_ref().and_then(|command| command.array.as_ref());
        let element = array.and_then(|array| array.id(index));
        let values = PatternValues {
            job: view.job,
            number: match element {
                Some(_) => element_number(view.job, index),
                None => view.job.0,
            },
            element,
            step: None,
            name: &view.name,
            user: &view.user,
            node: node.unwrap_or_default(),
            node_index: 0,
            rank: 0,
        };
        let path = |pattern: &str| self.directory.join(expand(pattern, &values));
        let output = path(self.output);
        let error = self.error.map(path).filter(|error| *error != output);
        Some(Names { output, error })
    }

    /// The name of its output as it was given, for people.
    pub(super) fn pattern(&self) -> PathBuf {
        self.directory.join(self.output)
    }

    fn is_array(&self) -> bool {
        let command = self.view.command.as_ref();
        command.is_some_and(|command| command.array.is_some())
    }

    fn patterns(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.output).chain(self.error)
    }
}

/// Why there is nothing to be shown of a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// A device, a pipe: what was written there is gone.
    #[error("it is no regular file, and what was written there is not kept")]
    NotKept,
}

impl FileError {
    /// Whether nobody has made it so far, as far as is seen here.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// A file, and how far it was read.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) is_error: bool,
    had: u64,
    /// The last bytes of those.
    mark: Vec<u8>,
    /// Its device and its number there, once it was opened.
    identity: Option<(u64, u64)>,
}

impl Tail {
    pub(super) fn new(path: PathBuf, is_error: bool) -> Self {
        Self {
            path,
            is_error,
            had: 0,
            mark: Vec::new(),
            identity: None,
        }
    }

    /// Hands on what lies in it now behind what was read, piece by piece, `bytes_max` at the most; returns whether that was
    /// anything. One that was begun anew is read anew.
    ///
    /// # Errors
    /// It cannot be read; or that of `take`.
    pub(super) fn more<E: From<FileError>>(
        &mut self,
        bytes_max: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        // each time anew: what others write is seen on network file systems when a file is opened
        let (file, length) = self.open()?;
        let before = self.had;
        let end = length.min(before.saturating_add(bytes_max));
        let mut buffer = vec![0; READ_BYTES_MAX.min(usize::try_from(end - before).unwrap_or(usize::MAX))];
        while self.had < end {
            let wanted = buffer
                .len()
                .min(usize::try_from(end - self.had).unwrap_or(usize::MAX));
            match file.read_at(&mut buffer[..wanted], self.had) {
                // it became shorter just now
                Ok(0) => break,
                Ok(read) => {
                    self.had += read as u64;
                    self.mark
                        .extend_from_slice(&buffer[read.saturating_sub(MARK_BYTES)..read]);
                    self.mark.drain(..self.mark.len().saturating_sub(MARK_BYTES));
                    take(&buffer[..read])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::from(error).into()),
            }
        }
        Ok(self.had > before)
    }

    /// Opens it without waiting for anybody to write; returns its length, too, which is not less than was read.
    fn open(&mut self) -> Result<(File, u64), FileError> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let file = File::options()
            .read(true)
            .custom_flags(i32::try_from(flags).unwrap_or_default())
            .open(&self.path)?;
        let known = file.metadata()?;
        if !known.is_file() {
            return Err(FileError::NotKept);
        }
        let identity = Some((known.dev(), known.ino()));
        if self.identity != identity || known.len() < self.had || !self.is_known_again(&file)? {
            (self.identity, self.had) = (identity, 0);
            self.mark.clear();
        }
        Ok((file, known.len()))
    }

    /// Whether what was read last is still there: the next attempt at a task may have written as much, or more.
    fn is_known_again(&self, file: &File) -> io::Result<bool> {
        let mut there = vec![0; self.mark.len()];
        match file.read_exact_at(&mut there, self.had - self.mark.len() as u64) {
            Ok(()) => Ok(there == self.mark),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
