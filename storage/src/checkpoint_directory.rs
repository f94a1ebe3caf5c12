//! Checkpoints of programs: a directory for each attempt at a task, `jobs/<id>/saved/<index>/<attempt>/`.
//!
//! A program that wants one makes it, and keeps in it what it needs to go on. Before the next attempt starts, everything
//! in the directory of the last attempt is copied to that of the new one, under another name first: a directory that has
//! its own name is *whole*, and a worker that dies while it copies leaves nothing that anybody would take for one. Copied,
//! not linked: a *zombie*, an attempt that was given up and still runs, goes on in its own directory and cannot change what a
//! later one goes on from, however it writes. What is in a file is the program's affair: one that it renames into place is
//! copied as a whole, one that a zombie writes to meanwhile as it is at that moment.
//!
//! An attempt is named as in [`crate::checkpoints`], so that the order of names is that of attempts. The directories of the
//! last two attempts are kept. Programs that make none cost one look at a directory that is not there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use phalanx_protocol::{GrantId, JobId, TaskId, Term};

/// How deep directories may lie in one another.
const DEPTH_MAX: usize = 64;
/// Files and directories that are carried over.
const ENTRIES_MAX: usize = 100_000;
/// How often a directory is looked at because it was changed meanwhile.
const LOOKS_MAX: usize = 20;
/// What a directory is called while it is copied: its name and this.
const UNFINISHED: &str = ".copy";
/// Directories of a task that are kept.
const KEPT: usize = 2;

/// Why an attempt does not find what the last one has saved.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The storage failed.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// With what.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// There is more than is carried over.
    #[error(
        "`{}` holds more than {ENTRIES_MAX} files, or directories in more than {DEPTH_MAX} others",
        path.display()
    )]
    TooMany {
        /// Where.
        path: PathBuf,
    },
    /// Somebody changes it all the time.
    #[error("`{}` is changed again and again while it is copied", path.display())]
    Unsteady {
        /// Where.
        path: PathBuf,
    },
}

/// The checkpoint directories on a storage.
#[derive(Debug, Clone)]
pub struct CheckpointDirectories {
    root: PathBuf,
}

impl CheckpointDirectories {
    /// Those on the storage at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory of an attempt, whether it is there or not.
    pub fn path(&self, task: TaskId, attempt: GrantId) -> PathBuf {
        self.of_task(task).join(name(attempt))
    }

    /// Copies what the last attempt before this one has saved, if any has; it is durable when this returns. Returns
    /// whether there was anything. Older directories are removed then, if they can be.
    ///
    /// # Errors
    /// [`CarryError`]; nothing of this attempt's is there then.
    pub fn carry_over(&self, task: TaskId, attempt: GrantId) -> Result<bool, CarryError> {
        // most programs never save anything, and pay for no more than this
        let of_job = self.of_job(task.job);
        if !of_job.try_exists().map_err(io_error(&of_job))? {
            return Ok(false);
        }
        let folder = self.of_task(task);
        let mut earlier = attempts(&folder)?;
        earlier.retain(|&other| other < attempt);
        let Some(&last) = earlier.last() else {
            return Ok(false);
        };
        let (from, to) = (folder.join(name(last)), folder.join(name(attempt)));
        let unfinished = folder.join(name(attempt) + UNFINISHED);
        copy_whole(&from, &unfinished)?;
        fs::rename(&unfinished, &to).map_err(io_error(&to))?;
        sync(&folder)?;
        // the one that was copied is kept beside the new one
        let superfluous = earlier.len().saturating_sub(KEPT - 1);
        for old in &earlier[..superfluous] {
            let path = folder.join(name(*old));
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%task, %error, "an old checkpoint directory stays for now");
            }
        }
        Ok(true)
    }

    /// Removes all of a job that is over.
    ///
    /// # Errors
    /// Says why not all of them could be.
    pub fn clear(&self, job: JobId) -> Result<(), CarryError> {
        let folder = self.of_job(job);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&folder)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn of_job(&self, job: JobId) -> PathBuf {
        self.root.join(format!("jobs/{job}/saved"))
    }

    fn of_task(&self, task: TaskId) -> PathBuf {
        self.of_job(task.job).join(task.index.to_string())
    }
}

fn name(attempt: GrantId) -> String {
    format!("{:020}-{:020}", attempt.term.0, attempt.number)
}

fn parse(name: &str) -> Option<GrantId> {
    let (term, number) = name.split_once('-')?;
    Some(GrantId {
        term: Term(term.parse().ok()?),
        number: number.parse().ok()?,
    })
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CarryError {
    let path = path.to_owned();
    move |source| CarryError::Io { path, source }
}

/// The attempts that have a whole directory, in order.
fn attempts(folder: &Path) -> Result<Vec<GrantId>, CarryError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error(folder))?;
        found.extend(entry.file_name().to_str().and_then(parse));
    }
    found.sort_unstable();
    Ok(found)
}

/// Copies a directory under a name that is nobody's yet.
fn copy_whole(from: &Path, to: &Path) -> Result<(), CarryError> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(to)(error)),
        Ok(()) | Err(_) => {}
    }
    Copy {
        entries_left: ENTRIES_MAX,
        meanwhile: &mut |_| {},
    }
    .directory(from, to, DEPTH_MAX)
}

/// A copy of a directory and all that is in it.
struct Copy<'a> {
    entries_left: usize,
    /// Called between the look at a directory and the copy of what it held: for tests of what others do then.
    meanwhile: &'a mut dyn FnMut(&Path),
}

impl Copy<'_> {
    /// Copies a directory; looks at it again if it was changed meanwhile, and copies what is under a new name.
    fn directory(&mut self, from: &Path, to: &Path, depth_left: usize) -> Result<(), CarryError> {
        let too_many = || CarryError::TooMany {
            path: from.to_owned(),
        };
        let depth_left = depth_left.checked_sub(1).ok_or_else(too_many)?;
        fs::create_dir(to).map_err(io_error(to))?;
        let mut copied = BTreeSet::new();
        for _ in 0..LOOKS_MAX {
            let before = changed(from)?;
            let entries = fs::read_dir(from).map_err(io_error(from))?;
            // not held while it is copied from: that could take long
            let entries = entries.collect::<Result<Vec<_>, _>>().map_err(io_error(from))?;
            (self.meanwhile)(from);
            for entry in &entries {
                if copied.contains(&entry.file_name()) {
                    continue;
                }
                self.entries_left = self.entries_left.checked_sub(1).ok_or_else(too_many)?;
                let target = to.join(entry.file_name());
                match self.entry(entry, &target, depth_left) {
                    Ok(()) => {}
                    Err(CarryError::Io { path, source })
                        if source.kind() == io::ErrorKind::NotFound && path.starts_with(entry.path()) =>
                    {
                        remove(&target)?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                copied.insert(entry.file_name());
            }
            // what goes away or gets another name changes the directory
            if changed(from)? == before {
                let permissions = fs::metadata(from).map_err(io_error(from))?.permissions();
                sync(to)?;
                return fs::set_permissions(to, permissions).map_err(io_error(to));
            }
        }
        Err(CarryError::Unsteady {
            path: from.to_owned(),
        })
    }

    fn entry(&mut self, entry: &fs::DirEntry, to: &Path, depth_left: usize) -> Result<(), CarryError> {
        let from = entry.path();
        let kind = entry.file_type().map_err(io_error(&from))?;
        if kind.is_dir() {
            self.directory(&from, to, depth_left)
        } else if kind.is_symlink() {
            let target = fs::read_link(&from).map_err(io_error(&from))?;
            symlink(target, to).map_err(io_error(to))
        } else if kind.is_file() {
            file(&from, to)
        } else {
            // sockets and pipes hold nothing
            Ok(())
        }
    }
}

/// When a directory was last changed, to a tick of the system's clock.
fn changed(folder: &Path) -> Result<SystemTime, CarryError> {
    let modified = fs::metadata(folder).and_then(|metadata| metadata.modified());
    modified.map_err(io_error(folder))
}

/// Removes the part of something that was copied before it went away.
fn remove(path: &Path) -> Result<(), CarryError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(io_error(path))
}

fn file(from: &Path, to: &Path) -> Result<(), CarryError> {
    let mut source = File::open(from).map_err(io_error(from))?;
    let mut target = File::create_new(to).map_err(io_error(to))?;
    io::copy(&mut source, &mut target).map_err(io_error(to))?;
    target.sync_data().map_err(io_error(to))?;
    let permissions = source.metadata().map_err(io_error(from))?.permissions();
    target.set_permissions(permissions).map_err(io_error(to))
}

/// Waits until the names in a directory are durable.
fn sync(folder: &Path) -> Result<(), CarryError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error(folder))
}

#[cfg(test)]
mod tests;
