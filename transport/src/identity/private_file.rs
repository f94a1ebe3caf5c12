//! Files that hold private keys: created for their owner alone, and refused when others can read them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::IdentityError;

/// Read and write for the owner, nothing for anybody else.
const MODE: u32 = 0o600;

/// Creates `path` with mode 0600 from its first moment, writes `bytes` and syncs them. An existing file is left alone
/// and is an error: a key that is replaced by mistake locks a cluster's processes out.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|cause| IdentityError::File {
        action: "create",
        path: path.to_owned(),
        cause,
    })
}

/// Reads `path` if nobody but its owner can. The mode is that of the opened file, not of whatever has the name later.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let file_error = |cause| IdentityError::File {
        action: "read",
        path: path.to_owned(),
        cause,
    };
    let mut file = File::open(path).map_err(file_error)?;
    let mode = file.metadata().map_err(file_error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(file_error)?;
    Ok(bytes)
}
