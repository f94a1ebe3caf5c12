//! What became durable of one job, in order, for the sessions that wait for it.
//!
//! The driver adds, sessions read at their own pace; a watch channel tells them that there is more. Small results that
//! rode in the journal are kept in memory up to a bound, and read back from their record after that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use phalanx_protocol::record::{Record, ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, RangeSet, codec};
use phalanx_storage::journal::replay::LogError;
use phalanx_storage::results::ResultError;
use phalanx_storage::{Place, Results, Store, read_record};
use tokio::sync::watch;

/// The shard whose log holds everything, until there are several.
pub(crate) const SHARD: u32 = 0;
/// Bytes of results that all feeds together keep in memory.
const CACHE_BYTES_MAX: usize = 256 << 20;

/// One job's durable ends of tasks.
#[derive(Debug)]
pub(crate) struct Feed {
    entries: Mutex<Entries>,
    /// Counts changes; the last one has been made when `over`.
    version: watch::Sender<Version>,
}

/// How far a feed is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) changes: u64,
    pub(crate) over: bool,
}

#[derive(Debug, Default)]
struct Entries {
    list: Vec<Entry>,
    /// First index of each piece -> its end and its entry's position.
    by_index: BTreeMap<u64, (u64, usize)>,
}

/// Ends of some tasks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    /// With results.
    Results {
        range: IndexRange,
        keep: Vec<IndexRange>,
        source: Source,
    },
    /// Without.
    Done(Vec<IndexRange>),
    /// Cancelled: of these there is nothing to say.
    Cancelled(Vec<IndexRange>),
    /// Failed. What went wrong is in the journal only: a million failures must not mean a million texts in memory.
    Failed { ranges: Vec<IndexRange>, place: Place },
}

impl Entry {
    /// Where in the journal something of it lies.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Results {
                source: Source::Journal { place, .. },
                ..
            } => Some(*place),
            // one whose failures were all taken back says nothing any more
            Self::Failed { ranges, place } => (!ranges.is_empty()).then_some(*place),
            Self::Results {
                source: Source::File { .. },
                ..
            }
            | Self::Done(_)
            | Self::Cancelled(_) => None,
        }
    }

    /// The same of one of its pieces: an entry can have very many, and is copied for each.
    fn only(&self, piece: IndexRange) -> Self {
        let pieces = vec![piece];
        match self {
            Self::Results {
                range,
                keep: _,
                source,
            } => Self::Results {
                range: *range,
                keep: pieces,
                source: source.clone(),
            },
            Self::Done(_) => Self::Done(pieces),
            Self::Cancelled(_) => Self::Cancelled(pieces),
            Self::Failed { ranges: _, place } => Self::Failed {
                ranges: pieces,
                place: *place,
            },
        }
    }

    fn without_bytes(&self) -> Self {
        let mut entry = self.clone();
        if let Self::Results {
            source: Source::Journal { cached, .. },
            ..
        } = &mut entry
        {
            *cached = None;
        }
        entry
    }
}

/// Where a block of results can be had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// In the journal, and perhaps still in memory.
    Journal {
        place: Place,
        block: usize,
        cached: Option<Bytes>,
    },
    /// In a file.
    File {
        name: String,
        offset: u64,
        bytes: u64,
        crc32c: u32,
    },
}

/// Why results cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Journal(#[from] LogError),
    #[error(transparent)]
    File(#[from] ResultError),
    #[error("the record at {0} holds no such results")]
    Record(Place),
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            version: watch::Sender::new(Version::default()),
        }
    }

    /// Tells of every change from now on; the current state counts as seen.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    /// Adds a durable record. Returns the positions of entries whose bytes it keeps in memory, with their lengths.
    pub(crate) fn add(&self, record: Record, place: Place, keep_in_memory: bool) -> Vec<(usize, usize)> {
        let mut over = self.version.borrow().over;
        let mut cached = Vec::new();
        match record {
            Record::TasksEnded {
                done,
                results,
                failed,
                ..
            } => {
                let mut entries = self.lock();
                for (block, result) in results.into_iter().enumerate() {
                    let bytes = entries.add_results(result, place, block, keep_in_memory);
                    cached.extend(bytes.map(|bytes| (entries.list.len() - 1, bytes)));
                }
                entries.add_rest(done, &failed, place);
            }
            Record::JobFinished { .. } => over = true,
            Record::JobReopened { tasks, .. } | Record::TasksRequeued { tasks, .. } => {
                self.lock().take_back(&tasks.into());
                over = false;
            }
            Record::TasksCancelled { tasks, .. } => self.lock().add_cancelled(tasks),
            Record::JobSubmitted { .. } | Record::JobStarted { .. } | Record::JobHeld { .. } => {}
        }
        self.version.send_modify(|version| {
            version.changes += 1;
            version.over = over;
        });
        cached
    }

    /// A feed that has these entries.
    fn of(entries: Vec<Entry>, over: bool) -> Self {
        let mut all = Entries::default();
        for entry in entries {
            match &entry {
                Entry::Results { keep: pieces, .. }
                | Entry::Done(pieces)
                | Entry::Cancelled(pieces)
                | Entry::Failed { ranges: pieces, .. } => {
                    pieces.iter().for_each(|&piece| all.index(piece));
                }
            }
            all.list.push(entry);
        }
        let version = Version { changes: 1, over };
        Self {
            entries: Mutex::new(all),
            version: watch::Sender::new(version),
        }
    }

    /// Entries by position, without the bytes that are kept in memory.
    pub(crate) fn part(&self, positions: std::ops::Range<usize>) -> Vec<Entry> {
        self.lock().list[positions]
            .iter()
            .map(Entry::without_bytes)
            .collect()
    }

    /// The entry at a position, in the order of durability.
    pub(crate) fn get(&self, position: usize) -> Option<Entry> {
        self.lock().list.get(position).cloned()
    }

    /// The piece that begins at a task which has ended, and of the entry that holds it no more than this.
    pub(crate) fn find(&self, index: u64) -> Option<(Entry, IndexRange)> {
        let entries = self.lock();
        let (_, &(end, position)) = entries.by_index.range(..=index).next_back()?;
        let piece = IndexRange::new(index, end);
        (index < end).then(|| (entries.list[position].only(piece), piece))
    }

    /// The first index from `from` on whose task has ended.
    pub(crate) fn next_ended(&self, from: u64) -> Option<u64> {
        self.lock().by_index.range(from..).next().map(|(&start, _)| start)
    }

    fn forget_bytes(&self, position: usize) {
        if let Some(Entry::Results {
            source: Source::Journal { cached, .. },
            ..
        }) = self.lock().list.get_mut(position)
        {
            *cached = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Returns how many bytes it keeps.
    fn add_results(
        &mut self,
        result: ResultBlock,
        place: Place,
        block: usize,
        keep_in_memory: bool,
    ) -> Option<usize> {
        let ResultBlock { range, keep, data } = result;
        let mut kept = None;
        let source = match data {
            ResultData::Inline(bytes) => {
                let cached = keep_in_memory.then_some(bytes);
                kept = cached.as_ref().map(Bytes::len);
                Source::Journal { place, block, cached }
            }
            ResultData::File {
                name,
                offset,
                bytes,
                crc32c,
            } => Source::File {
                name,
                offset,
                bytes,
                crc32c,
            },
        };
        keep.iter().for_each(|&piece| self.index(piece));
        self.list.push(Entry::Results { range, keep, source });
        kept
    }

    /// Adds what has no results.
    fn add_rest(&mut self, done: Vec<IndexRange>, failed: &[TaskFailure], place: Place) {
        let bare: Vec<IndexRange> = done.into_iter().flat_map(|range| self.unindexed(range)).collect();
        if !bare.is_empty() {
            bare.iter().for_each(|&piece| self.index(piece));
            self.list.push(Entry::Done(bare));
        }
        if !failed.is_empty() {
            let indices = failed
                .iter()
                .map(|failure| (failure.index..failure.index + 1).into());
            let ranges: Vec<IndexRange> = indices.collect::<RangeSet>().into();
            ranges.iter().for_each(|&piece| self.index(piece));
            self.list.push(Entry::Failed { ranges, place });
        }
    }

    fn add_cancelled(&mut self, tasks: Vec<IndexRange>) {
        tasks.iter().for_each(|&piece| self.index(piece));
        self.list.push(Entry::Cancelled(tasks));
    }

    /// Takes back that these tasks have ended, as far as that is without results: they run again. Positions stay as they are.
    fn take_back(&mut self, tasks: &RangeSet) {
        let Self { list, by_index } = self;
        for (position, entry) in list.iter_mut().enumerate() {
            let ranges = match entry {
                Entry::Failed { ranges, .. } | Entry::Done(ranges) | Entry::Cancelled(ranges) => ranges,
                // nobody may have those run again
                Entry::Results { .. } => continue,
            };
            let left: Vec<IndexRange> = ranges.iter().flat_map(|&range| tasks.gaps(range)).collect();
            if left == *ranges {
                continue;
            }
            for range in ranges.iter() {
                by_index.remove(&range.start);
            }
            for range in &left {
                by_index.insert(range.start, (range.end, position));
            }
            *ranges = left;
        }
    }

    fn index(&mut self, piece: IndexRange) {
        self.by_index.insert(piece.start, (piece.end, self.list.len()));
    }

    /// The parts of `range` that no entry holds yet.
    fn unindexed(&self, range: IndexRange) -> Vec<IndexRange> {
        let mut gaps = Vec::new();
        let mut start = range.start;
        for (&first, &(end, _)) in self.by_index.range(range.start..range.end) {
            if first > start {
                gaps.push(IndexRange::new(start, first));
            }
            start = end;
        }
        if start < range.end {
            gaps.push(IndexRange::new(start, range.end));
        }
        gaps
    }
}

/// A feed as it is at a moment: entries are only ever added behind these.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) job: JobId,
    pub(crate) feed: Arc<Feed>,
    pub(crate) entries: usize,
    pub(crate) is_over: bool,
}

/// All feeds, and the bound on what they keep in memory.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    by_job: BTreeMap<JobId, Arc<Feed>>,
    cached: VecDeque<(JobId, usize, usize)>,
    cached_bytes: usize,
}

impl Feeds {
    pub(crate) fn get(&self, job: JobId) -> Option<Arc<Feed>> {
        self.by_job.get(&job).cloned()
    }

    /// Adds a durable record to its job's feed.
    pub(crate) fn add(&mut self, record: Record, place: Place, keep_in_memory: bool) {
        let job = record.job();
        let feed = self.by_job.entry(job).or_insert_with(|| Arc::new(Feed::new()));
        for (position, bytes) in feed.add(record, place, keep_in_memory) {
            self.cached.push_back((job, position, bytes));
            self.cached_bytes += bytes;
        }
        while self.cached_bytes > CACHE_BYTES_MAX {
            let Some((job, position, bytes)) = self.cached.pop_front() else {
                break;
            };
            self.cached_bytes -= bytes;
            if let Some(feed) = self.by_job.get(&job) {
                feed.forget_bytes(position);
            }
        }
    }

    /// All feeds as they are now.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let mark = |(&job, feed): (&JobId, &Arc<Feed>)| Mark {
            job,
            feed: Arc::clone(feed),
            entries: feed.lock().list.len(),
            is_over: feed.version.borrow().over,
        };
        self.by_job.iter().map(mark).collect()
    }

    /// Adds a job's feed as a snapshot has it.
    pub(crate) fn restore(&mut self, job: JobId, is_over: bool, entries: Vec<Entry>) {
        self.by_job.insert(job, Arc::new(Feed::of(entries, is_over)));
    }

    /// Forgets all jobs but these.
    pub(crate) fn keep(&mut self, is_known: impl Fn(JobId) -> bool) {
        self.by_job.retain(|&job, _| is_known(job));
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        self.by_job.remove(&job);
    }
}

/// Reads the failures that a record holds, by index. Blocks.
pub(crate) fn read_failures(store: &dyn Store, place: Place) -> Result<Vec<TaskFailure>, SourceError> {
    match read_ended(store, place)? {
        Record::TasksEnded { mut failed, .. } => {
            failed.sort_by_key(|failure| failure.index);
            Ok(failed)
        }
        Record::JobSubmitted { .. }
        | Record::JobFinished { .. }
        | Record::JobStarted { .. }
        | Record::JobReopened { .. }
        | Record::JobHeld { .. }
        | Record::TasksCancelled { .. }
        | Record::TasksRequeued { .. } => Err(SourceError::Record(place)),
    }
}

fn read_ended(store: &dyn Store, place: Place) -> Result<Record, SourceError> {
    let record = read_record(store, SHARD, place)?;
    codec::decode(&record).map_err(|_| SourceError::Record(place))
}

impl Source {
    /// The bytes, if they are at hand.
    pub(crate) fn cached(&self) -> Option<Bytes> {
        match self {
            Self::Journal { cached, .. } => cached.clone(),
            Self::File { .. } => None,
        }
    }

    /// Reads the bytes. Blocks.
    pub(crate) fn read(&self, store: &Arc<dyn Store>, job: JobId) -> Result<Bytes, SourceError> {
        match self {
            Self::Journal {
                cached: Some(bytes), ..
            } => Ok(bytes.clone()),
            Self::Journal {
                place,
                block,
                cached: None,
            } => {
                let missing = || SourceError::Record(*place);
                let Record::TasksEnded { mut results, .. } = read_ended(&**store, *place)? else {
                    return Err(missing());
                };
                if *block >= results.len() {
                    return Err(missing());
                }
                match results.swap_remove(*block).data {
                    ResultData::Inline(bytes) => Ok(bytes),
                    ResultData::File { .. } => Err(missing()),
                }
            }
            Self::File {
                name,
                offset,
                bytes,
                crc32c,
            } => {
                let results = Results::new(Arc::clone(store));
                Ok(results.read_part(job, name, *offset, *bytes, *crc32c)?.into())
            }
        }
    }
}
