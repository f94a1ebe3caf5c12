//! The temporary directory of an embedded cluster, and the removal of those whose process was killed.
//!
//! A directory's name carries its process's id, and a file in it is locked for as long as that process lives. It is stale
//! if no such process runs *and* the lock is free: ids are used again, and a process in another container has one that
//! means nothing here.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = "phalanx-embedded-";
const LOCK_FILE: &str = "lock";

/// A directory for this process alone (mode 0700); removed when dropped.
#[derive(Debug)]
pub(super) struct Home {
    folder: TempDir,
    /// Locked while this lives.
    _lock: File,
}

impl Home {
    /// Makes one in `parent`, after removing those that killed processes left there.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK_FILE))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes stale directories. Failing to is no harm to the cluster that is about to start, so errors are passed over.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if is_stale(&entry.path()).unwrap_or(false) {
            tracing::debug!(path = %entry.path().display(), "removing what a killed process left");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the process that made this directory is gone; an error if that cannot be told, `false` for other things.
fn is_stale(path: &Path) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    let Some(process) = process.and_then(|digits| digits.parse::<u32>().ok()) else {
        return Ok(false);
    };
    if Path::new(&format!("/proc/{process}")).exists() {
        return Ok(false);
    }
    let lock = File::open(path.join(LOCK_FILE))?;
    Ok(lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Larger than any process id that Linux gives.
    const NO_PROCESS: u32 = u32::MAX;

    fn leave(parent: &Path, name: &str) -> File {
        let folder = parent.join(name);
        fs::create_dir_all(folder.join("cluster")).unwrap();
        File::create(folder.join(LOCK_FILE)).unwrap()
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let name = |process: u32, rest: &str| format!("{PREFIX}{process}-{rest}");
        leave(parent.path(), &name(NO_PROCESS, "stale"));
        leave(parent.path(), &name(std::process::id(), "lives"));
        let locked = leave(parent.path(), &name(NO_PROCESS, "elsewhere"));
        locked.lock().unwrap();
        leave(parent.path(), "somebody-elses");
        let home = Home::create(parent.path()).unwrap();
        let stands = |name: &str| parent.path().join(name).exists();
        assert!(!stands(&name(NO_PROCESS, "stale")));
        assert!(stands(&name(std::process::id(), "lives")));
        assert!(stands(&name(NO_PROCESS, "elsewhere")));
        assert!(stands("somebody-elses"));
        let path = home.path().to_owned();
        drop(home);
        assert!(!path.exists());
    }
}
