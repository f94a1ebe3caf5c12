//! A file that has no name yet, or one that no reader looks at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::store::{Put, StoreError};

/// A file on its way into the store; dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Staged {
    file: File,
    /// Its staging name, where the file system has no nameless files.
    name: Option<PathBuf>,
}

impl Staged {
    /// A nameless file in `folder`; `None` if the file system has no such thing.
    pub(super) fn nameless(folder: &Path, mode: u32) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => {
                let file = File::from(file);
                let reachable = fs::symlink_metadata(descriptor_path(&file)).is_ok();
                Ok(reachable.then_some(Self { file, name: None }))
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(errno) => Err(StoreError::new("write", folder, errno.into())),
        }
    }

    /// A file with a staging name.
    pub(super) fn named(path: PathBuf, mode: u32) -> Result<Self, StoreError> {
        // a leftover of a crashed process that had our number
        let _ = fs::remove_file(&path);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(Self {
                file: file.into(),
                name: Some(path),
            }),
            Err(errno) => Err(StoreError::new("write", &path, errno.into())),
        }
    }

    /// Syncs the content and links it to `path`, which lies in `folder`. The caller syncs the folder.
    pub(super) fn link(self, folder: &File, path: &Path) -> Result<Put, StoreError> {
        self.file
            .sync_data()
            .map_err(|source| StoreError::new("sync", path, source))?;
        let name = path.file_name().unwrap_or_default();
        let linked = match &self.name {
            Some(staging) => rustix::fs::linkat(CWD, staging, folder, name, AtFlags::empty()),
            None => {
                let descriptor = descriptor_path(&self.file);
                rustix::fs::linkat(CWD, descriptor, folder, name, AtFlags::SYMLINK_FOLLOW)
            }
        };
        match linked {
            Ok(()) => Ok(Put::Created),
            Err(Errno::EXIST) => Ok(Put::Exists),
            Err(errno) => Err(StoreError::new("link", path, errno.into())),
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
