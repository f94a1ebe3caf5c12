//! A host's running board: the file in which its slots say what they run, readable also after a crash.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use phalanx_protocol::message::host::{BOARD_IDLE, BOARD_LINE_BYTES, HOST_SLOTS_MAX};

use crate::agent::HostId;

/// A board, as the worker has it; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Board {
    path: PathBuf,
    file: File,
}

/// The folder of a cache in which boards lie.
pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("boards")
}

/// Makes that folder, without the boards that an earlier process of this worker left.
///
/// # Errors
/// Says why it cannot be made or emptied.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

impl Board {
    /// A board on which no slot runs anything: all bits of [`BOARD_IDLE`] are set.
    ///
    /// # Errors
    /// Says why the file cannot be made.
    pub(crate) fn create(folder: &Path, host: HostId) -> io::Result<Self> {
        let path = folder.join(host.to_string());
        fs::write(&path, vec![0xff; HOST_SLOTS_MAX * BOARD_LINE_BYTES])?;
        let file = File::open(&path)?;
        Ok(Self { path, file })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the first `slots` slots run, by slot; [`BOARD_IDLE`] for none.
    pub(crate) fn lines(&self, slots: usize) -> Vec<u64> {
        let mut bytes = vec![0xff; slots.min(HOST_SLOTS_MAX) * BOARD_LINE_BYTES];
        let read = self.file.read_exact_at(&mut bytes, 0);
        if let Err(error) = read {
            tracing::warn!(%error, board = %self.path.display(), "a running board cannot be read: nobody is blamed");
            return Vec::new();
        }
        let (lines, _) = bytes.as_chunks::<BOARD_LINE_BYTES>();
        let words = lines.iter().filter_map(|line| line.first_chunk());
        words.map(|&word| u64::from_ne_bytes(word)).collect()
    }

    /// The tasks that run, in order.
    pub(crate) fn running(&self) -> Vec<u64> {
        running(&self.lines(HOST_SLOTS_MAX))
    }
}

/// The tasks on some lines of a board, in order.
pub(super) fn running(lines: &[u64]) -> Vec<u64> {
    let mut running: Vec<u64> = lines.iter().copied().filter(|&line| line != BOARD_IDLE).collect();
    running.sort_unstable();
    running.dedup();
    running
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, board = %self.path.display(), "a running board stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_board_shows_what_was_written_to_it_and_goes_with_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::create(folder.path(), HostId(3)).unwrap();
        assert!(board.running().is_empty());
        let mut host = File::options().write(true).open(board.path()).unwrap();
        for (slot, index) in [(0_u64, 9_u64), (4095, 7), (2, 7)] {
            host.seek(SeekFrom::Start(BOARD_LINE_BYTES as u64 * slot))
                .unwrap();
            host.write_all(&index.to_ne_bytes()).unwrap();
        }
        assert_eq!(board.running(), [7, 9]);
        assert_eq!(board.lines(2), [9, BOARD_IDLE]);
        drop(board);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn boards_of_an_earlier_process_are_swept() {
        let cache = tempfile::tempdir().unwrap();
        let folder = folder(cache.path());
        sweep(&folder).unwrap();
        fs::write(folder.join("17"), b"").unwrap();
        sweep(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
