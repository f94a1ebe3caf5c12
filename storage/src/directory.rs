//! The store on a file system: a local directory, NFS, Lustre.
//!
//! A create is staged in a nameless file (`O_TMPFILE`; where the file system has none, in `.staging-…`), synced, given
//! its name by `link(2)`, and the folder is synced: it is durable when the call returns, and `EEXIST` is the only sign
//! of a competitor. An error after the link leaves the outcome unknown, as [`Store`] allows; the same file is never
//! synced twice, because the kernel forgets dirty pages after a failed sync. The story starts at
//! [`Directory::put_if_absent`].

mod staged;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::{Put, Store, StoreError, check_key};
pub(crate) use staged::Staged;

/// Staging files older than this belong to no living writer.
const STAGING_AGE_MIN: Duration = Duration::from_secs(3600);
/// Open folders kept for the next create.
const FOLDERS_KEPT_MAX: usize = 128;

/// Shared storage in a directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    folders: Mutex<HashMap<PathBuf, Arc<File>>>,
    nameless_works: AtomicBool,
    staging_count: AtomicU64,
}

impl Directory {
    /// Opens the storage at `root`, creates it if there is none, and removes what crashed writers staged long ago.
    ///
    /// # Errors
    /// Says why the directory cannot be used.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(&root)
            .map_err(|source| StoreError::new("create", &root, source))?;
        let directory = Self::look_at(&root)?;
        directory.sweep(&directory.root);
        Ok(directory)
    }

    /// Opens the storage at `root` as it is, for reading: creates and removes nothing.
    ///
    /// # Errors
    /// Says why the directory cannot be read, for instance that there is none.
    pub fn look_at(root: &Path) -> Result<Self, StoreError> {
        let root = root
            .canonicalize()
            .map_err(|source| StoreError::new("open", root, source))?;
        Ok(Self {
            root,
            folders: Mutex::default(),
            nameless_works: AtomicBool::new(true),
            staging_count: AtomicU64::new(0),
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the object of that key lies.
    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Opens a file to be filled and then published under a name.
    pub(crate) fn stage(&self, folder: &str, mode: u32) -> Result<Staged, StoreError> {
        let path = self.path(folder);
        self.folder(&path)?;
        self.stage_in(&path, mode).inspect_err(|_| self.forget_folders())
    }

    fn stage_in(&self, path: &Path, mode: u32) -> Result<Staged, StoreError> {
        if self.nameless_works.load(Ordering::Relaxed) {
            if let Some(staged) = Staged::nameless(path, mode)? {
                return Ok(staged);
            }
            self.nameless_works.store(false, Ordering::Relaxed);
        }
        let count = self.staging_count.fetch_add(1, Ordering::Relaxed);
        Staged::named(
            path.join(format!(".staging-{}-{}", std::process::id(), count)),
            mode,
        )
    }

    /// Gives a staged file its name, durably.
    pub(crate) fn publish(&self, staged: Staged, key: &str) -> Result<Put, StoreError> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        let folder = self.folder(parent)?;
        let put = staged
            .link(&folder, &path)
            .inspect_err(|_| self.forget_folders())?;
        // also when it exists: its writer may not have synced the name yet, and the caller is about to rely on it
        if let Err(source) = folder.sync_all() {
            self.forget_folders();
            return Err(StoreError::new("sync", parent, source));
        }
        Ok(put)
    }

    /// An open folder, created if need be; every name on the way to it is durable.
    fn folder(&self, path: &Path) -> Result<Arc<File>, StoreError> {
        let folders = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders().get(path) {
            return Ok(Arc::clone(folder));
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(path)
            .map_err(|source| StoreError::new("create", path, source))?;
        // synced even where the folder was there before: another process may have made it a moment ago
        for ancestor in path
            .ancestors()
            .skip(1)
            .take_while(|ancestor| ancestor.starts_with(&self.root))
        {
            let opened = File::open(ancestor).and_then(|folder| folder.sync_all());
            opened.map_err(|source| StoreError::new("sync", ancestor, source))?;
        }
        let folder = Arc::new(File::open(path).map_err(|source| StoreError::new("open", path, source))?);
        let mut folders = folders();
        if folders.len() >= FOLDERS_KEPT_MAX {
            folders.clear();
        }
        folders.insert(path.to_owned(), Arc::clone(&folder));
        Ok(folder)
    }

    fn forget_folders(&self) {
        self.folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Removes old staging files below a folder. Failing to is no harm, so errors are passed over.
    fn sweep(&self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.sweep(&entry.path());
            } else if entry.file_name().as_encoded_bytes().starts_with(b".staging-") {
                let age = entry
                    .metadata()
                    .and_then(|data| data.modified())
                    .map(|time| time.elapsed());
                if matches!(age, Ok(Ok(age)) if age >= STAGING_AGE_MIN) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// What writers have staged and not named, finished or not: paths and bytes. What cannot be looked at is left out.
    pub fn staged(&self) -> Vec<(PathBuf, u64)> {
        let mut staged = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(data) = entry.metadata() else { continue };
                if data.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().as_encoded_bytes().starts_with(b".staging-") {
                    staged.push((entry.path(), data.len()));
                }
            }
        }
        staged.sort_unstable();
        staged
    }

    fn open_file(&self, key: &str) -> Result<Option<(File, PathBuf)>, StoreError> {
        check_key(key)?;
        let path = self.path(key);
        match File::open(&path) {
            Ok(file) => Ok(Some((file, path))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(StoreError::new("open", &path, source)),
        }
    }

    fn list_folder(
        &self,
        wanted: &Wanted<'_>,
        folder: &str,
        keys: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let path = self.path(folder);
        let failed = |source| StoreError::new("list", &path, source);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let key = if folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}/{name}")
            };
            if entry.file_type().map_err(failed)?.is_dir() {
                if wanted.may_hold(&key) {
                    self.list_folder(wanted, &key, keys)?;
                }
            } else if wanted.has(&key) {
                keys.push(key);
            }
        }
        Ok(())
    }
}

impl Store for Directory {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        check_key(key)?;
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut staged = self.stage(folder, 0o644)?;
        staged
            .write_all(bytes)
            .map_err(|source| StoreError::new("write", &self.path(key), source))?;
        self.publish(staged, key)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((mut file, path)) = self.open_file(key)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|source| StoreError::new("read", &path, source))?;
        Ok(Some(bytes))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((file, path)) = self.open_file(key)? else {
            return Ok(None);
        };
        let failed = |source| StoreError::new("read", &path, source);
        let size = file.metadata().map_err(failed)?.len();
        let available = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(available)];
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() {
            check_key(folder)?;
        }
        let mut keys = Vec::new();
        self.list_folder(
            &Wanted {
                prefix,
                after: after.unwrap_or(""),
            },
            folder,
            &mut keys,
        )?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => Err(StoreError::new("remove", &path, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        let path = self.path(key);
        self.folder(path.parent().unwrap_or(&self.root))?;
        let count = self.staging_count.fetch_add(1, Ordering::Relaxed);
        let staging = path.with_file_name(format!(".staging-{}-{}", std::process::id(), count));
        let written = fs::write(&staging, bytes).and_then(|()| fs::rename(&staging, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&staging);
            self.forget_folders();
            StoreError::new("write", &path, source)
        })
    }
}

/// Which keys a listing wants.
struct Wanted<'a> {
    prefix: &'a str,
    after: &'a str,
}

impl Wanted<'_> {
    fn has(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && key > self.after
    }

    /// Whether a key below this folder could be wanted.
    fn may_hold(&self, folder: &str) -> bool {
        let common = folder.len().min(self.prefix.len());
        let inside = folder.as_bytes()[..common] == self.prefix.as_bytes()[..common];
        inside && (self.after <= folder || self.after.starts_with(folder))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
