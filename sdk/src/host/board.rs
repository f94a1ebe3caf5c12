//! The running board: where each slot says which task it runs, so that the worker can tell after a crash.
//!
//! The board is a small file of the worker's that is mapped into this process: what a slot has written there outlives
//! the process, whatever ended it. A task costs one relaxed store. Without a worker (in tests, for a kernel that is
//! called directly) the board is memory of this process.

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_protocol::message::host::{BOARD_IDLE, BOARD_LINE_BYTES, HOST_SLOTS_MAX};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of a board that a worker made.
const BOARD_BYTES: usize = HOST_SLOTS_MAX * BOARD_LINE_BYTES;

/// A slot's word, with a cache line of its own: neighbours write theirs every few nanoseconds.
#[derive(Debug)]
#[repr(C, align(64))]
struct Word(AtomicU64);

const _: () = assert!(
    size_of::<Word>() == BOARD_LINE_BYTES,
    "words lie where the worker looks for them"
);

/// A board with a line for each slot.
#[derive(Debug)]
enum Board {
    Shared(Mapping),
    Private(Box<[Word]>),
}

impl Board {
    fn line(&self, slot: usize) -> &AtomicU64 {
        match self {
            Self::Shared(mapping) => &mapping.words()[slot].0,
            Self::Private(words) => &words[slot].0,
        }
    }
}

/// All lines; clones lead to the same board.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Arc<Board>);

impl Lines {
    /// The board in a file, which its worker keeps as long as it is.
    ///
    /// # Errors
    /// If the file is not there, too short, or cannot be mapped.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Board::Shared(Mapping::new(path)?))))
    }

    /// A board of `slots` lines that nobody else sees.
    pub(crate) fn private(slots: usize) -> Self {
        let words = (0..slots).map(|_| Word(AtomicU64::new(BOARD_IDLE))).collect();
        Self(Arc::new(Board::Private(words)))
    }

    /// The line of one slot.
    ///
    /// # Panics
    /// If the board has no such line.
    pub(crate) fn of_slot(&self, slot: usize) -> Line {
        // checked here, once
        self.0.line(slot);
        Line {
            board: Arc::clone(&self.0),
            slot,
        }
    }
}

/// What one slot has on the board.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    board: Arc<Board>,
    slot: usize,
}

impl Line {
    /// The word itself, for a loop that writes it often.
    #[inline]
    pub(crate) fn word(&self) -> &AtomicU64 {
        self.board.line(self.slot)
    }

    /// Notes that the slot runs nothing.
    pub(crate) fn clear(&self) {
        self.word().store(BOARD_IDLE, Ordering::Relaxed);
    }
}

/// A mapped file of [`HOST_SLOTS_MAX`] words.
#[derive(Debug)]
struct Mapping(NonNull<Word>);

#[expect(
    unsafe_code,
    reason = "shared memory is the one thing that a crash leaves readable"
)]
mod mapping {
    use super::*;

    // SAFETY: the memory is only reached through atomics, and belongs to no thread.
    unsafe impl Send for Mapping {}
    // SAFETY: as above.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(path: &Path) -> io::Result<Self> {
            let file = File::options().read(true).write(true).open(path)?;
            if file.metadata()?.len() < BOARD_BYTES as u64 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the running board is too short",
                ));
            }
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
            // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
            let start = unsafe { mmap(std::ptr::null_mut(), BOARD_BYTES, access, flags, &file, 0) }?;
            let start = NonNull::new(start.cast());
            Ok(Self(start.ok_or_else(|| io::Error::other("mapped at 0"))?))
        }

        pub(super) fn words(&self) -> &[Word] {
            // SAFETY: the mapping is as long, page-aligned, lives as long as `self`, and every bit pattern is a word. The
            // worker never shortens the file, and others only read it.
            unsafe { std::slice::from_raw_parts(self.0.as_ptr(), HOST_SLOTS_MAX) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: mapped with this length, and nobody has a reference into it any more.
            let unmapped = unsafe { munmap(self.0.as_ptr().cast(), BOARD_BYTES) };
            debug_assert!(unmapped.is_ok(), "a mapping can be unmapped once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slot_runs_is_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xff; BOARD_BYTES]).unwrap();
        let lines = Lines::open(file.path()).unwrap();
        let (first, last) = (lines.of_slot(0), lines.of_slot(HOST_SLOTS_MAX - 1));
        first.word().store(7, Ordering::Relaxed);
        last.word().store(9, Ordering::Relaxed);
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes[..8], 7_u64.to_ne_bytes());
        assert_eq!(bytes[BOARD_BYTES - BOARD_LINE_BYTES..][..8], 9_u64.to_ne_bytes());
        first.clear();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes[..8], BOARD_IDLE.to_ne_bytes());
    }

    #[test]
    fn a_file_that_is_too_short_is_no_board() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xff; BOARD_BYTES - 8]).unwrap();
        let error = Lines::open(file.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
