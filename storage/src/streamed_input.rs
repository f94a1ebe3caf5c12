//! What is sent to a job to read while it runs: `jobs/<id>/input/data`, and `end` beside it, which says after how many bytes
//! no more comes.
//!
//! Whoever sends it names the place of each piece, so that a piece that is sent again does no harm, and a gap is refused.
//! Readers begin at the first byte, as often as they like: a task that is run again reads it again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use phalanx_protocol::JobId;
use phalanx_protocol::limits::STREAMED_INPUT_BYTES_MAX;

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The storage failed.
    #[error("the input cannot be kept")]
    Io(#[from] io::Error),
    /// What should lie before it is not there.
    #[error("a piece of input begins at byte {offset}, and only {length} are there")]
    Gap {
        /// Where it begins.
        offset: u64,
        /// How much is there.
        length: u64,
    },
    /// The input was longer than one may be.
    #[error("a job's input has at most {STREAMED_INPUT_BYTES_MAX} bytes")]
    TooLong,
    /// The input ended before.
    #[error("the input has ended after {length} bytes")]
    Ended {
        /// Where.
        length: u64,
    },
}

/// Bytes of an input, and whether it ends behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRead {
    /// None if there are no more yet.
    pub bytes: Vec<u8>,
    /// Nothing comes behind these.
    pub is_end: bool,
}

/// The input of one job.
#[derive(Debug, Clone)]
pub struct StreamedInput {
    folder: PathBuf,
}

impl StreamedInput {
    /// That of a job on the storage at `root`.
    pub fn new(root: &Path, job: JobId) -> Self {
        Self {
            folder: root.join(format!("jobs/{job}/input")),
        }
    }

    /// Keeps a piece that begins at `offset`; durable when this returns.
    ///
    /// # Errors
    /// [`InputError`]; nothing that is there already is changed.
    pub fn put(&self, offset: u64, bytes: &[u8], is_last: bool) -> Result<(), InputError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > STREAMED_INPUT_BYTES_MAX {
            return Err(InputError::TooLong);
        }
        if let Some(length) = self.end()? {
            return match end > length {
                true => Err(InputError::Ended { length }),
                false => Ok(()),
            };
        }
        fs::create_dir_all(&self.folder)?;
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.data());
        let file = options?;
        let length = file.metadata()?.len();
        let Some(known) = length.checked_sub(offset) else {
            return Err(InputError::Gap { offset, length });
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            file.write_all_at(new, length)?;
        }
        file.sync_data()?;
        if is_last {
            self.put_end(end.max(length))?;
        }
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// At most `bytes_max` bytes from `offset` on, as far as they are there.
    ///
    /// # Errors
    /// Says why it cannot be read.
    pub fn read(&self, offset: u64, bytes_max: usize) -> io::Result<InputRead> {
        // looked for first: what comes behind an end that is there already is not waited for
        let end = self.end()?;
        let mut bytes = vec![0; bytes_max];
        let mut length = 0;
        match File::open(self.data()) {
            Ok(file) => {
                while length < bytes_max {
                    match file.read_at(&mut bytes[length..], offset + length as u64)? {
                        0 => break,
                        more => length += more,
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        bytes.truncate(length);
        Ok(InputRead {
            is_end: end.is_some_and(|end| offset + length as u64 >= end),
            bytes,
        })
    }

    /// Removes it.
    ///
    /// # Errors
    /// Says why it is left behind.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// After how many bytes it ends, if that is known.
    fn end(&self) -> io::Result<Option<u64>> {
        match fs::read_to_string(self.folder.join("end")) {
            Ok(text) => {
                let end = text.trim_end().parse();
                end.map(Some)
                    .map_err(|_| io::Error::other(format!("`{text}` is no length of an input")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put_end(&self, length: u64) -> io::Result<()> {
        let staged = self.folder.join(".end");
        let mut file = File::create(&staged)?;
        writeln!(file, "{length}")?;
        file.sync_all()?;
        fs::rename(staged, self.folder.join("end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(folder: &tempfile::TempDir) -> StreamedInput {
        StreamedInput::new(folder.path(), JobId(7))
    }

    fn read(input: &StreamedInput, offset: u64, bytes_max: usize) -> (String, bool) {
        let read = input.read(offset, bytes_max).unwrap();
        (String::from_utf8(read.bytes).unwrap(), read.is_end)
    }

    #[test]
    fn pieces_are_read_as_they_come_and_the_end_once_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let input = input(&folder);
        assert_eq!(read(&input, 0, 10), (String::new(), false));
        input.put(0, b"abc", false).unwrap();
        assert_eq!(read(&input, 0, 10), ("abc".to_owned(), false));
        assert_eq!(read(&input, 1, 1), ("b".to_owned(), false));
        assert_eq!(read(&input, 3, 10), (String::new(), false));
        input.put(3, b"de", true).unwrap();
        assert_eq!(read(&input, 0, 4), ("abcd".to_owned(), false));
        assert_eq!(read(&input, 4, 4), ("e".to_owned(), true));
        assert_eq!(read(&input, 5, 4), (String::new(), true));
    }

    #[test]
    fn an_input_may_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let input = input(&folder);
        input.put(0, b"", true).unwrap();
        assert_eq!(read(&input, 0, 10), (String::new(), true));
    }

    #[test]
    fn a_piece_that_comes_again_does_no_harm_and_a_gap_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let input = input(&folder);
        input.put(0, b"abc", false).unwrap();
        input.put(0, b"abc", false).unwrap();
        input.put(2, b"cd", false).unwrap();
        assert!(matches!(
            input.put(5, b"x", false),
            Err(InputError::Gap { offset: 5, length: 4 })
        ));
        input.put(4, b"", true).unwrap();
        input.put(4, b"", true).unwrap();
        assert!(matches!(
            input.put(4, b"x", true),
            Err(InputError::Ended { length: 4 })
        ));
        assert_eq!(read(&input, 0, 10), ("abcd".to_owned(), true));
    }

    #[test]
    fn more_than_an_input_may_have_is_refused_and_what_is_there_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let input = input(&folder);
        assert!(matches!(
            input.put(STREAMED_INPUT_BYTES_MAX, b"x", false),
            Err(InputError::TooLong)
        ));
        input.put(0, b"a", false).unwrap();
        input.clear().unwrap();
        input.clear().unwrap();
        assert_eq!(read(&input, 0, 10), (String::new(), false));
    }
}
