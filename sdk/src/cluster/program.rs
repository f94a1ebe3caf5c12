//! The program that jobs carry: the one that is running.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use phalanx_protocol::BlobId;

use crate::client::hash_file;
use crate::error::ClientError;

/// What is running, even if its file was replaced or removed since (by a rebuild, say).
const RUNNING_IMAGE: &str = "/proc/self/exe";

/// The running program as a file to read, and its hash, which is found once per process.
pub(super) fn own() -> Result<&'static (PathBuf, BlobId), ClientError> {
    static OWN: OnceLock<(PathBuf, BlobId)> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own);
    }
    let path = find().map_err(unreadable(Path::new(RUNNING_IMAGE)))?;
    let (blob, _) = hash_file(&path).map_err(unreadable(&path))?;
    Ok(OWN.get_or_init(|| (path, blob)))
}

fn find() -> io::Result<PathBuf> {
    match Path::new(RUNNING_IMAGE) {
        image if image.exists() => Ok(image.to_owned()),
        _ => std::env::current_exe(),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.to_owned();
    move |cause| ClientError::File { path, cause }
}
