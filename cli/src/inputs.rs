//! A file of inputs, one JSON value per line, read and checked in chunks that fit one blob each.
//!
//! The file is never in memory as a whole. A line's text travels as it is, without the blanks around it: workers read it
//! as the kernel's input type.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use phalanx_protocol::IndexRange;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::limits::{INPUT_CHUNK_BYTES, VALUE_BYTES_MAX};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::ui::error::CliError;

/// Letters of a bad line that are shown.
const SHOWN_LETTERS_MAX: usize = 40;

/// Items in the layout of [`phalanx_protocol::job::InputChunk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) items: IndexRange,
    pub(crate) bytes: Vec<u8>,
}

/// Why a file of inputs cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputsError {
    #[error("cannot read the inputs `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` line {line}, column {column}: {reason}", path.display())]
    NotJson {
        path: PathBuf,
        line: u64,
        column: usize,
        reason: String,
        shown: String,
    },
    #[error("`{}` line {line} is empty", path.display())]
    Empty { path: PathBuf, line: u64 },
    #[error("`{}` line {line} is not UTF-8 text", path.display())]
    NotText { path: PathBuf, line: u64 },
    #[error("`{}` line {line} is longer than {VALUE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf, line: u64 },
}

impl From<InputsError> for CliError {
    fn from(error: InputsError) -> Self {
        let told = Self::from_chain(ExitCode::Usage, &error);
        match error {
            InputsError::NotJson { shown, .. } => told
                .detail(format!("the line begins: {shown}"))
                .hint("each line is one JSON value: a number, a \"text\", a list or an object"),
            InputsError::Empty { .. } => told.hint("remove it, or write null where an input is to be empty"),
            InputsError::File { .. } | InputsError::NotText { .. } | InputsError::TooLong { .. } => told,
        }
    }
}

/// The chunks of a file, first to last. Nothing follows an error.
#[derive(Debug)]
pub(crate) struct Chunks<R> {
    reader: R,
    path: PathBuf,
    chunk_bytes: usize,
    next_item: u64,
    ended: bool,
    line: Vec<u8>,
    lines: Lines,
}

/// What the lines of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// JSON values.
    Json,
    /// Texts, each as it is but for its end; they may be empty.
    Text,
}

/// Whether a file can be read twice: first to check it, then to send it.
pub(crate) fn is_rereadable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file())
}

impl Chunks<BufReader<File>> {
    /// Begins to read a file.
    pub(crate) fn open(path: &Path) -> Result<Self, InputsError> {
        let file = File::open(path).map_err(|cause| InputsError::File {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self::new(BufReader::new(file), path, INPUT_CHUNK_BYTES))
    }

    /// Begins to read a file whose lines are texts.
    pub(crate) fn open_text(path: &Path) -> Result<Self, InputsError> {
        Ok(Self {
            lines: Lines::Text,
            ..Self::open(path)?
        })
    }
}

impl<R: BufRead> Chunks<R> {
    fn new(reader: R, path: &Path, chunk_bytes: usize) -> Self {
        Self {
            reader,
            path: path.to_owned(),
            chunk_bytes,
            next_item: 0,
            ended: false,
            line: Vec::new(),
            lines: Lines::Json,
        }
    }

    fn chunk(&mut self) -> Result<Chunk, InputsError> {
        let start = self.next_item;
        let mut bytes = Vec::new();
        while bytes.len() < self.chunk_bytes {
            let Some(item) = self.item()? else {
                self.ended = true;
                break;
            };
            // a line has fewer than 2^32 bytes, see `read_line`
            bytes.extend((item.len() as u32).to_le_bytes());
            bytes.extend(item);
        }
        Ok(Chunk {
            items: IndexRange::new(start, self.next_item),
            bytes,
        })
    }

    /// The next line's value; `None` at the end.
    fn item(&mut self) -> Result<Option<&[u8]>, InputsError> {
        if !self.read_line()? {
            return Ok(None);
        }
        self.next_item += 1;
        if self.lines == Lines::Text {
            let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
        }
        let line = self.next_item;
        let path = || self.path.clone();
        let text =
            std::str::from_utf8(&self.line).map_err(|_| InputsError::NotText { path: path(), line })?;
        let value = text.trim_matches(|letter: char| letter.is_ascii_whitespace());
        if value.is_empty() {
            return Err(InputsError::Empty { path: path(), line });
        }
        let checked: Result<IgnoredAny, _> = serde_json::from_str(text.trim_end());
        match checked {
            Ok(_) => Ok(Some(value.as_bytes())),
            Err(error) => Err(InputsError::NotJson {
                path: path(),
                line,
                column: error.column(),
                reason: without_place(&error),
                shown: shown(value),
            }),
        }
    }

    /// Reads a line into `self.line`; `false` at the end.
    fn read_line(&mut self) -> Result<bool, InputsError> {
        self.line.clear();
        // one more than allowed for the line's end, one to see that there is more
        let mut limited = self.reader.by_ref().take(VALUE_BYTES_MAX as u64 + 2);
        let read = limited.read_until(b'\n', &mut self.line);
        let read = read.map_err(|cause| InputsError::File {
            path: self.path.clone(),
            cause,
        })?;
        match read > VALUE_BYTES_MAX + 1 {
            true => Err(InputsError::TooLong {
                path: self.path.clone(),
                line: self.next_item + 1,
            }),
            false => Ok(read > 0),
        }
    }
}

impl<R: BufRead> Iterator for Chunks<R> {
    type Item = Result<Chunk, InputsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.chunk() {
            Ok(chunk) if chunk.items.is_empty() => None,
            Ok(chunk) => Some(Ok(chunk)),
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// The values of one JSON list, which is in memory as a whole.
#[derive(Debug)]
pub(crate) struct JsonList {
    values: std::vec::IntoIter<Box<RawValue>>,
    next_item: u64,
}

impl JsonList {
    /// Reads a file; `None` if it holds something other than a list.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, InputsError> {
        let read = std::fs::read(path).map_err(|cause| InputsError::File {
            path: path.to_owned(),
            cause,
        })?;
        if read.trim_ascii_start().first() != Some(&b'[') {
            return Ok(None);
        }
        // lists may also stand in lines, one each
        let values: Result<Vec<Box<RawValue>>, _> = serde_json::from_slice(&read);
        Ok(values.ok().map(|values| Self {
            values: values.into_iter(),
            next_item: 0,
        }))
    }
}

impl Iterator for JsonList {
    type Item = Result<Chunk, InputsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next_item;
        let mut bytes = Vec::new();
        while bytes.len() < INPUT_CHUNK_BYTES {
            let Some(value) = self.values.next() else { break };
            let text = value.get().as_bytes();
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text);
            self.next_item += 1;
        }
        let items = IndexRange::new(start, self.next_item);
        (!items.is_empty()).then_some(Ok(Chunk { items, bytes }))
    }
}

/// A parser's reason without its line and column: its line is always the first.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_LETTERS_MAX) {
        Some((end, _)) => format!("{}..", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::style::Style;

    fn chunks(text: &[u8], chunk_bytes: usize) -> Vec<Chunk> {
        Chunks::new(text, Path::new("in.jsonl"), chunk_bytes)
            .collect::<Result<_, _>>()
            .unwrap()
    }

    fn told(text: &[u8]) -> String {
        let mut chunks = Chunks::new(text, Path::new("in.jsonl"), 8);
        let error = chunks.find_map(Result::err).unwrap();
        assert!(chunks.next().is_none(), "nothing follows an error");
        CliError::from(error).render(Style::Plain)
    }

    #[test]
    fn lines_are_packed_into_chunks_as_they_are() {
        let chunks = chunks(b"1\n \"two\" \r\n[3, 3]\n4", 12);
        let expected = [
            (0..2, &b"\x01\x00\x00\x001\x05\x00\x00\x00\"two\""[..]),
            (2..4, b"\x06\x00\x00\x00[3, 3]\x01\x00\x00\x004"),
        ];
        let expected = expected.map(|(items, bytes)| Chunk {
            items: items.into(),
            bytes: bytes.to_vec(),
        });
        assert_eq!(chunks, expected);
    }

    #[test]
    fn a_trailing_line_feed_is_no_line_and_an_empty_file_has_none() {
        assert_eq!(chunks(b"1\n2\n", 100), chunks(b"1\n2", 100));
        assert_eq!(chunks(b"", 100), []);
        // the file ends exactly where a chunk does
        assert_eq!(chunks(b"1\n2\n", 10).len(), 1);
    }

    #[test]
    fn a_bad_line_is_named_with_its_place_and_beginning() {
        assert_eq!(
            told(b"{\"a\": 1}\n  {\"a\": oops}\n3\n"),
            "error: `in.jsonl` line 2, column 9: expected value\n  the line begins: {\"a\": oops}\n\n\
             hint: each line is one JSON value: a number, a \"text\", a list or an object\n"
        );
        let text = told(b"1 2\n");
        assert!(
            text.starts_with("error: `in.jsonl` line 1, column 3: trailing characters\n"),
            "{text}"
        );
        let long = format!("\"{}\n", "é".repeat(60));
        let text = told(long.as_bytes());
        let shown = format!("  the line begins: \"{}..\n", "é".repeat(39));
        assert!(text.contains(&shown), "{text}");
    }

    #[test]
    fn an_empty_line_is_an_error_that_names_it() {
        assert_eq!(
            told(b"1\n\n3\n"),
            "error: `in.jsonl` line 2 is empty\n\nhint: remove it, or write null where an input is to be empty\n"
        );
        assert!(told(b"1\n2\n   \n").starts_with("error: `in.jsonl` line 3 is empty\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        assert_eq!(
            told(b"1\n\"\xff\"\n"),
            "error: `in.jsonl` line 2 is not UTF-8 text\n"
        );
    }

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        let endless = BufReader::new(io::repeat(b'1'));
        let mut chunks = Chunks::new(endless, Path::new("in.jsonl"), 8);
        assert!(matches!(
            chunks.next(),
            Some(Err(InputsError::TooLong { line: 1, .. }))
        ));
    }

    #[test]
    fn a_missing_file_is_told_with_the_systems_words() {
        let error = Chunks::open(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(
            CliError::from(error).render(Style::Plain),
            "error: cannot read the inputs `/does/not/exist`: No such file or directory (os error 2)\n"
        );
    }
}
