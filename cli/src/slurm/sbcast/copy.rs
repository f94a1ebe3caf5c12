//! A copy on one node: written under another name first, so that nobody sees half a file, and put in its place once all nodes
//! have theirs. A folder that nodes share gets it once.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a node is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Where, absolute; a directory keeps the file's name.
    pub(super) destination: Bytes,
    /// The name of the file that is copied.
    pub(super) name: Bytes,
    /// Tells this copy from all others, the same on all nodes.
    pub(super) token: String,
    /// What is there is replaced.
    pub(super) force: bool,
    /// The permissions of the file.
    pub(super) mode: u32,
    /// When it was read and changed last, if it keeps these and its permissions.
    pub(super) kept: Option<(SystemTime, SystemTime)>,
}

/// Why a node does not have its copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum CopyError {
    /// Something else is there.
    #[error("`{0}` is there already; --force replaces it")]
    Taken(String),
    /// It cannot be written; as the system words it.
    #[error("cannot write `{0}`: {1}")]
    Failed(String, String),
}

/// A copy that is being made; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    order: &'a Order,
    destination: PathBuf,
    partial: PathBuf,
    file: File,
    is_placed: bool,
}

impl<'a> Copy<'a> {
    /// Begins; nothing if another node makes the copy in that folder.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) fn begin(order: &'a Order) -> Result<Option<Self>, CopyError> {
        let destination = destination(order);
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let partial = destination.with_file_name(format!(".{name}.{}.sbcast", order.token));
        let file = match File::options().write(true).create_new(true).open(&partial) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(failed(&destination, &error)),
        };
        let copy = Self {
            order,
            destination,
            partial,
            file,
            is_placed: false,
        };
        match !order.force && copy.destination.symlink_metadata().is_ok() {
            true => Err(CopyError::Taken(copy.destination.display().to_string())),
            false => Ok(Some(copy)),
        }
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`CopyError::Failed`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| failed(&self.destination, &error))
    }

    /// All bytes are written: it gets what it keeps, and is on the disk.
    ///
    /// # Errors
    /// [`CopyError::Failed`].
    pub(super) fn finish(&mut self) -> Result<(), CopyError> {
        self.settle().map_err(|error| failed(&self.destination, &error))
    }

    fn settle(&self) -> io::Result<()> {
        // a program stays one, whether the rest is kept or not
        let mode = match self.order.kept {
            Some(_) => self.order.mode,
            None => self.file.metadata()?.permissions().mode() | (self.order.mode & 0o111),
        };
        self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some((read, changed)) = self.order.kept {
            let times = FileTimes::new().set_accessed(read).set_modified(changed);
            self.file.set_times(times)?;
        }
        self.file.sync_all()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) fn place(mut self) -> Result<(), CopyError> {
        let placed = match self.order.force {
            true => fs::rename(&self.partial, &self.destination),
            // somebody else may have been quicker, whose file stays
            false => {
                fs::hard_link(&self.partial, &self.destination).and_then(|()| fs::remove_file(&self.partial))
            }
        };
        self.is_placed = placed.is_ok();
        placed.map_err(|error| match error.kind() == io::ErrorKind::AlreadyExists {
            true => CopyError::Taken(self.destination.display().to_string()),
            false => failed(&self.destination, &error),
        })
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // what matters is why it failed
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Where the copy will lie on this node.
fn destination(order: &Order) -> PathBuf {
    let path = |bytes: &Bytes| PathBuf::from(OsStr::from_bytes(bytes));
    let given = path(&order.destination);
    match given.is_dir() {
        true => given.join(path(&order.name)),
        false => given,
    }
}

fn failed(destination: &Path, error: &io::Error) -> CopyError {
    CopyError::Failed(destination.display().to_string(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn order(destination: &Path, force: bool, kept: bool) -> Order {
        let yesterday = SystemTime::now() - Duration::from_hours(24);
        Order {
            destination: Bytes::copy_from_slice(destination.as_os_str().as_bytes()),
            name: Bytes::from_static(b"from"),
            token: "1-2".to_owned(),
            force,
            mode: 0o740,
            kept: kept.then_some((yesterday, yesterday)),
        }
    }

    fn make(order: &Order, bytes: &str) -> Result<(), CopyError> {
        let mut copy = Copy::begin(order)?.unwrap();
        copy.write(bytes.as_bytes())?;
        copy.finish()?;
        copy.place()
    }

    #[test]
    fn a_copy_is_whole_keeps_what_is_asked_for_and_replaces_nothing_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        let kept = order(&to, false, true);
        make(&kept, "first").unwrap();
        let known = fs::metadata(&to).unwrap();
        let changed = known.modified().unwrap();
        assert_eq!(
            (known.permissions().mode() & 0o777, changed),
            (0o740, kept.kept.unwrap().1)
        );
        let taken = CopyError::Taken(to.display().to_string());
        assert_eq!(make(&kept, "second"), Err(taken.clone()));
        // whoever is quicker while it is being made, too
        fs::remove_file(&to).unwrap();
        let copy = Copy::begin(&kept).unwrap().unwrap();
        fs::write(&to, "first").unwrap();
        assert_eq!(copy.place(), Err(taken));
        assert_eq!(fs::read_to_string(&to).unwrap(), "first");
        make(&order(&to, true, false), "second").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "second");
        let mode = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o100);
        // nothing else is left
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_keeps_the_name_and_gets_a_file_from_one_node_only() {
        let folder = tempfile::tempdir().unwrap();
        let order = order(folder.path(), false, false);
        let copy = Copy::begin(&order).unwrap().unwrap();
        assert!(Copy::begin(&order).unwrap().is_none());
        drop(copy);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        make(&order, "bytes").unwrap();
        assert!(folder.path().join("from").is_file());
        let nowhere = Order {
            destination: Bytes::from_static(b"/nowhere/to"),
            ..order
        };
        let error = make(&nowhere, "").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write `/nowhere/to`: No such file")
        );
    }
}
