//! What commands have written: few files for a whole job, however many tasks it has.
//!
//! Whoever runs tasks one after the other has a *lane*: `jobs/<id>/output/<name>.out` takes their standard output,
//! `<name>.err` their standard error, `<name>.index` says whose bytes are where. Tasks write to the first two themselves, so
//! that a task costs two small records and no copy. A record is 48 bytes: index, term and number of the attempt, the
//! lengths of both files (each a `u64`), kind and CRC32C (each a `u32`), all little-endian. The last one may be torn.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::limits::OUTPUT_PAGE_BYTES_MAX;
use phalanx_protocol::message::client::{OutputPage, OutputPiece, OutputPosition, OutputQuery};
use phalanx_protocol::{GrantId, IndexRange, JobId, Term};

const RECORD_BYTES: usize = 48;
const BEGAN: u32 = 1;
const ENDED: u32 = 2;
const SUCCEEDED: u32 = 3;
/// Tasks that one page of output looks at.
pub const PAGE_TASKS_MAX: u64 = 4096;
/// Bytes of an index that are read at a time.
const READ_BYTES: usize = RECORD_BYTES << 12;

/// One lane, to be written.
#[derive(Debug)]
pub struct OutputLane {
    files: Arc<LaneFiles>,
    /// The lengths of output and error in the last record.
    noted: [u64; 2],
    /// The same, when last somebody was to make them durable.
    taken: [u64; 2],
    has_unsynced: bool,
}

#[derive(Debug)]
struct LaneFiles {
    output: File,
    error: File,
    index: File,
}

/// What of a lane is not durable yet. The lane can be written to meanwhile.
#[derive(Debug)]
#[must_use = "it is durable only once `sync` has returned"]
pub struct UnsyncedOutput {
    files: Arc<LaneFiles>,
    has_output: bool,
    has_error: bool,
}

/// One record of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    task: u64,
    attempt: GrantId,
    output: u64,
    error: u64,
    kind: u32,
}

impl OutputLane {
    /// A new lane of a job on the storage at `root`, named by a grant that has no other of that number.
    ///
    /// # Errors
    /// Says why its files cannot be made.
    pub fn create(root: &Path, job: JobId, grant: GrantId, number: usize) -> io::Result<Self> {
        let folder = folder(root, job);
        fs::create_dir_all(&folder)?;
        let open = |extension: &str| {
            let path = folder.join(format!("{grant}-{number}.{extension}"));
            File::options().append(true).create_new(true).open(path)
        };
        let files = LaneFiles {
            output: open("out")?,
            error: open("err")?,
            index: open("index")?,
        };
        Ok(Self {
            files: Arc::new(files),
            noted: [0; 2],
            taken: [0; 2],
            has_unsynced: false,
        })
    }

    /// Where a task's standard output and standard error go.
    pub fn files(&self) -> (&File, &File) {
        (&self.files.output, &self.files.error)
    }

    /// Notes that what is written from now on is a task's.
    ///
    /// # Errors
    /// Says why the index does not take it.
    pub fn begin(&mut self, task: u64, attempt: GrantId) -> io::Result<()> {
        self.note(task, attempt, BEGAN)
    }

    /// Notes that a task writes no more, and whether it has succeeded.
    ///
    /// # Errors
    /// Says why the index does not take it.
    pub fn end(&mut self, task: u64, attempt: GrantId, succeeded: bool) -> io::Result<()> {
        let kind = if succeeded { SUCCEEDED } else { ENDED };
        self.note(task, attempt, kind)
    }

    fn note(&mut self, task: u64, attempt: GrantId, kind: u32) -> io::Result<()> {
        let [output, error] = [length(&self.files.output)?, length(&self.files.error)?];
        let record = Record {
            task,
            attempt,
            output,
            error,
            kind,
        };
        self.has_unsynced = true;
        self.noted = [output, error];
        (&self.files.index).write_all(&record.encode())
    }

    /// What was noted, and written by tasks that have ended, since this was last called; it is to be made durable.
    pub fn take_unsynced(&mut self) -> Option<UnsyncedOutput> {
        if !std::mem::take(&mut self.has_unsynced) {
            return None;
        }
        let before = std::mem::replace(&mut self.taken, self.noted);
        Some(UnsyncedOutput {
            files: Arc::clone(&self.files),
            has_output: before[0] != self.noted[0],
            has_error: before[1] != self.noted[1],
        })
    }
}

impl UnsyncedOutput {
    /// Waits until all of it is durable.
    ///
    /// # Errors
    /// Says why it is not.
    pub fn sync(&self) -> io::Result<()> {
        if self.has_output {
            self.files.output.sync_data()?;
        }
        if self.has_error {
            self.files.error.sync_data()?;
        }
        self.files.index.sync_data()
    }
}

/// Bytes of a file that is only ever appended to, for which its position means nothing; a third of what its metadata costs.
fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let words = [
            self.task,
            self.attempt.term.0,
            self.attempt.number,
            self.output,
            self.error,
        ];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&self.kind.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` for what is no whole record.
    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |place: usize| {
            let word = bytes[8 * place..].first_chunk::<8>();
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let tail = word(5);
        let (kind, checksum) = (tail as u32, (tail >> 32) as u32);
        (crc32c::crc32c(&bytes[..44]) == checksum).then(|| Self {
            task: word(0),
            attempt: GrantId {
                term: Term(word(1)),
                number: word(2),
            },
            output: word(3),
            error: word(4),
            kind,
        })
    }
}

/// Where the bytes of an attempt at a task are.
#[derive(Debug, Clone)]
struct Found {
    attempt: GrantId,
    /// Its lane's files, but for their extension.
    lane: PathBuf,
    began: Lengths,
    ended: Option<Lengths>,
    has_succeeded: bool,
}

/// Of both files of a lane.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    output: u64,
    error: u64,
}

/// What commands have written, to be read.
#[derive(Debug, Clone)]
pub struct Outputs {
    root: PathBuf,
}

impl Outputs {
    /// That on the storage at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A page of what tasks have written. Ends with the first task that has not ended or is not in the page to its end; tasks
    /// of which nothing is known are passed over. Who has followed the first task up to a later attempt gets the rest of the
    /// one before, if that has ended.
    ///
    /// The latest attempt is read; but of a task that `is_done`, the latest that has succeeded: one that began later, since its worker
    /// was taken for lost, may have been ended when that was heard.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn read(&self, query: &OutputQuery, is_done: impl Fn(u64) -> bool) -> io::Result<OutputPage> {
        let IndexRange { start, end } = query.tasks;
        let window = IndexRange::new(start, end.min(start.saturating_add(PAGE_TASKS_MAX)).max(start));
        let attempts = self.find(query.job, window)?;
        let followed = query
            .had
            .attempt
            .and_then(|attempt| attempts.get(&(start, attempt)));
        let found = chosen(&attempts, is_done);
        let mut page = OutputPage {
            next: window.end,
            ..OutputPage::default()
        };
        let mut room = query.bytes_max.min(OUTPUT_PAGE_BYTES_MAX);
        let followed = followed.filter(|one| {
            let is_earlier = found
                .get(&start)
                .is_some_and(|chosen| one.attempt < chosen.attempt);
            is_earlier && one.ended.is_some()
        });
        if let Some(one) = followed {
            one.read(start, query.had, &mut room, &mut page)?;
            if !page.pieces.is_empty() {
                page.next = start;
                return Ok(page);
            }
        }
        for (task, found) in found {
            let had = match query.had.attempt {
                Some(attempt) if task == start && attempt == found.attempt => query.had,
                Some(_) | None => OutputPosition::default(),
            };
            let is_whole = found.read(task, had, &mut room, &mut page)?;
            page.has_ended = found.ended.is_some();
            if !is_whole || found.ended.is_none() {
                page.next = task;
                break;
            }
        }
        if page.next == window.end && window.end < end {
            // the next one is another task, though it may be of the same attempt
            page.position = OutputPosition::default();
        }
        Ok(page)
    }

    /// All attempts at tasks of a window.
    fn find(&self, job: JobId, window: IndexRange) -> io::Result<Attempts> {
        let mut attempts = Attempts::new();
        let entries = match fs::read_dir(folder(&self.root, job)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(attempts),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "index") {
                let lane = path.with_extension("");
                each_record(&path, |record| {
                    if window.contains(record.task) {
                        take_in(&mut attempts, &lane, record);
                    }
                })?;
            }
        }
        Ok(attempts)
    }
}

/// By task and attempt.
type Attempts = BTreeMap<(u64, GrantId), Found>;

/// The attempt of each task that is read.
fn chosen(attempts: &Attempts, is_done: impl Fn(u64) -> bool) -> BTreeMap<u64, &Found> {
    let mut chosen: BTreeMap<u64, &Found> = BTreeMap::new();
    for (&(task, _), found) in attempts {
        let is_better = |best: &&Found| found.has_succeeded || !best.has_succeeded || !is_done(task);
        if chosen.get(&task).is_none_or(is_better) {
            chosen.insert(task, found);
        }
    }
    chosen
}

/// Adds what a record says to what is known of its attempt.
fn take_in(attempts: &mut Attempts, lane: &Path, record: Record) {
    let lengths = Lengths {
        output: record.output,
        error: record.error,
    };
    let attempt = record.attempt;
    match (record.kind, attempts.entry((record.task, attempt))) {
        (BEGAN, Entry::Vacant(entry)) => {
            entry.insert(Found {
                attempt,
                lane: lane.to_owned(),
                began: lengths,
                ended: None,
                has_succeeded: false,
            });
        }
        (ENDED | SUCCEEDED, Entry::Occupied(mut entry)) => {
            let found = entry.get_mut();
            found.ended = Some(lengths);
            found.has_succeeded = record.kind == SUCCEEDED;
        }
        // a later version's
        (_, _) => {}
    }
}

fn each_record(path: &Path, mut take: impl FnMut(Record)) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        let read = (&mut file)
            .take((READ_BYTES - bytes.len()) as u64)
            .read_to_end(&mut bytes)?;
        let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
        records.iter().filter_map(Record::decode).for_each(&mut take);
        if read == 0 {
            return Ok(());
        }
        let rest = rest.to_vec();
        bytes.clear();
        bytes.extend(rest);
    }
}

impl Found {
    /// Adds what there is behind `had` to a page, as far as there is room; says whether that was all there is now.
    fn read(
        &self,
        task: u64,
        had: OutputPosition,
        room: &mut u64,
        page: &mut OutputPage,
    ) -> io::Result<bool> {
        let mut whole = true;
        let mut position = OutputPosition {
            attempt: Some(self.attempt),
            ..had
        };
        let streams = [
            (
                false,
                "out",
                self.began.output,
                self.ended.map(|ended| ended.output),
                &mut position.output,
            ),
            (
                true,
                "err",
                self.began.error,
                self.ended.map(|ended| ended.error),
                &mut position.error,
            ),
        ];
        for (is_error, extension, began, ended, had) in streams {
            let offset = began.saturating_add(*had);
            let wanted = ended.map_or(u64::MAX, |ended| ended.saturating_sub(offset));
            if wanted == 0 {
                continue;
            }
            let file = File::open(self.lane.with_added_extension(extension))?;
            let there = file.metadata()?.len().saturating_sub(offset).min(wanted);
            let taken = there.min(*room);
            let mut bytes = vec![0; usize::try_from(taken).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, offset)?;
            whole &= taken == there;
            *room -= taken;
            *had += taken;
            if taken > 0 {
                page.pieces.push(OutputPiece {
                    task,
                    is_error,
                    bytes: Bytes::from(bytes),
                });
            }
        }
        page.position = position;
        Ok(whole)
    }
}

fn folder(root: &Path, job: JobId) -> PathBuf {
    root.join("jobs").join(job.to_string()).join("output")
}

#[cfg(test)]
mod tests;
