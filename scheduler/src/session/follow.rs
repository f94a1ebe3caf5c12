//! Clients that follow a job: its views as they change, or its results as they become durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::{IndexRange, JobId, RangeSet};
use phalanx_storage::Place;
use phalanx_transport::{FrameError, StreamWriter};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Context;
use super::client::query;
use crate::driver::error_text;
use crate::event::{Event, Query};
use crate::feed::{Entry, Feed, Source, Version, read_failures};

/// Shortest time between two views sent to one client.
const VIEW_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// A view is sent at least this often, since slots and rates change without a record.
const VIEW_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// A stream of results ranks below everything else of its connection.
const RESULTS_PRIORITY: i32 = -1;
/// Records whose failures a stream of results keeps at hand.
const RECORDS_KEPT_MAX: usize = 8;
/// Failures in one frame, so that it stays below its limit whatever their texts.
const FAILURES_PER_FRAME: usize = 1000;
/// Queued bytes at which a stream of results is flushed.
const FLUSH_BYTES: usize = 1 << 20;

async fn feed_of(context: &Context, job: JobId) -> Result<Arc<Feed>, Refusal> {
    let (reply, answer) = oneshot::channel();
    match context.events.send(Event::Follow { job, reply }).await {
        Ok(()) => answer
            .await
            .unwrap_or(Err(Refusal::NotLeader { leader: Vec::new() })),
        Err(_) => Err(Refusal::NotLeader { leader: Vec::new() }),
    }
}

/// Sends a job's view now and after each change, until it is over.
pub(super) async fn watch(
    context: &Context,
    job: JobId,
    writer: &mut StreamWriter,
) -> Result<(), FrameError> {
    let feed = match feed_of(context, job).await {
        Ok(feed) => feed,
        Err(refusal) => return writer.send(&Reply::Refused(refusal)).await,
    };
    let mut changes = feed.subscribe();
    loop {
        let shown = *changes.borrow_and_update();
        writer.send(&query(context, Query::Job(job)).await).await?;
        if shown.over {
            return Ok(());
        }
        // the end is not held back
        let pause = changes.wait_for(|version| version.over);
        let paused = timeout(VIEW_INTERVAL_MIN, pause).await.is_err();
        if paused && *changes.borrow() == shown {
            // neither is a job without changes: its slots may have changed
            let _ = timeout(VIEW_INTERVAL_MAX, changes.changed()).await;
        }
    }
}

/// Sends results, then the job's last view.
pub(super) async fn results(
    context: &Context,
    job: JobId,
    in_order: bool,
    have: RangeSet,
    writer: &mut StreamWriter,
) -> Result<(), FrameError> {
    let feed = match feed_of(context, job).await {
        Ok(feed) => feed,
        Err(refusal) => return writer.send(&Reply::Refused(refusal)).await,
    };
    writer.set_priority(RESULTS_PRIORITY);
    let changes = feed.subscribe();
    let mut sender = Sender {
        context,
        job,
        writer,
        records: VecDeque::new(),
    };
    let sent = match in_order {
        true => sender.in_order(&feed, have, changes).await,
        false => sender.as_completed(&feed, have, changes).await,
    };
    match sent {
        Ok(()) => writer.send(&query(context, Query::Job(job)).await).await,
        Err(SendError::Frame(error)) => Err(error),
        Err(SendError::Unreadable(error)) => writer.send(&Reply::Refused(Refusal::Storage { error })).await,
    }
}

enum SendError {
    Frame(FrameError),
    Unreadable(String),
}

impl From<FrameError> for SendError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

struct Sender<'a> {
    context: &'a Context,
    job: JobId,
    writer: &'a mut StreamWriter,
    /// Failures of the records read last.
    records: VecDeque<(Place, Vec<TaskFailure>)>,
}

impl Sender<'_> {
    async fn as_completed(
        &mut self,
        feed: &Feed,
        have: RangeSet,
        mut changes: watch::Receiver<Version>,
    ) -> Result<(), SendError> {
        let mut position = 0;
        loop {
            // seen before the entries are read, so that one added meanwhile wakes us
            let over = changes.borrow_and_update().over;
            while let Some(entry) = feed.get(position) {
                let wanted = |range: IndexRange| have.gaps(range);
                self.entry(entry, wanted).await?;
                position += 1;
            }
            if !self.wait(over, &mut changes).await? {
                return Ok(());
            }
        }
    }

    async fn in_order(
        &mut self,
        feed: &Feed,
        have: RangeSet,
        mut changes: watch::Receiver<Version>,
    ) -> Result<(), SendError> {
        let mut next = 0;
        loop {
            let over = changes.borrow_and_update().over;
            loop {
                if let Some(had) = have.next_from(next).filter(|had| had.start == next) {
                    next = had.end;
                    continue;
                }
                let Some((entry, piece)) = feed.find(next) else {
                    // what has not ended now never will, so what lies behind it need not wait
                    let behind = if over { feed.next_ended(next) } else { None };
                    let Some(behind) = behind else { break };
                    next = behind;
                    continue;
                };
                // `next` itself is wanted, so there is a first gap, and it begins there
                let Some(&piece) = have.gaps(piece).first() else {
                    break;
                };
                self.entry(entry, |range| Vec::from_iter(Some(range.intersection(piece))))
                    .await?;
                next = piece.end;
            }
            if !self.wait(over, &mut changes).await? {
                return Ok(());
            }
        }
    }

    /// Sends the parts of an entry that are wanted.
    async fn entry(
        &mut self,
        entry: Entry,
        wanted: impl Fn(IndexRange) -> Vec<IndexRange>,
    ) -> Result<(), SendError> {
        let pick = |ranges: Vec<IndexRange>| -> Vec<IndexRange> {
            ranges
                .into_iter()
                .flat_map(&wanted)
                .filter(|range| !range.is_empty())
                .collect()
        };
        match entry {
            Entry::Results { range, keep, source } => {
                let keep = pick(keep);
                if !keep.is_empty() {
                    let bytes = self.read(source).await?;
                    self.writer.queue(&Reply::Results { range, keep })?;
                    self.writer.queue_bytes(&bytes)?;
                }
            }
            Entry::Done(ranges) => {
                let ranges = pick(ranges);
                if !ranges.is_empty() {
                    self.writer.queue(&Reply::NoResults(ranges))?;
                }
            }
            Entry::Cancelled(_) => {}
            Entry::Failed { ranges, place } => {
                for range in pick(ranges) {
                    self.failures(place, range).await?;
                }
            }
        }
        if self.writer.queued_bytes() >= FLUSH_BYTES {
            self.writer.flush().await?;
        }
        Ok(())
    }

    /// Sends the failures of a range that a record holds.
    async fn failures(&mut self, place: Place, range: IndexRange) -> Result<(), SendError> {
        if !self.records.iter().any(|(read, _)| *read == place) {
            let store = Arc::clone(&self.context.store);
            let read = tokio::task::spawn_blocking(move || read_failures(&*store, place)).await;
            let failures = match read {
                Ok(Ok(failures)) => failures,
                Ok(Err(error)) => return Err(SendError::Unreadable(error_text(&error))),
                Err(error) => return Err(SendError::Unreadable(error.to_string())),
            };
            self.records.truncate(RECORDS_KEPT_MAX - 1);
            self.records.push_front((place, failures));
        }
        let kept = self.records.iter().find(|(read, _)| *read == place);
        let failures = kept.map_or(&[][..], |(_, failures)| failures);
        let first = failures.partition_point(|failure| failure.index < range.start);
        let last = failures.partition_point(|failure| failure.index < range.end);
        for part in failures[first..last].chunks(FAILURES_PER_FRAME) {
            self.writer.queue(&Reply::Failed(part.to_vec()))?;
        }
        Ok(())
    }

    async fn read(&self, source: Source) -> Result<Bytes, SendError> {
        if let Some(bytes) = source.cached() {
            return Ok(bytes);
        }
        let (store, job) = (Arc::clone(&self.context.store), self.job);
        let read = tokio::task::spawn_blocking(move || source.read(&store, job)).await;
        match read {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(SendError::Unreadable(error_text(&error))),
            Err(error) => Err(SendError::Unreadable(error.to_string())),
        }
    }

    /// Flushes, then waits for a change; `false` once there will be none.
    async fn wait(&mut self, over: bool, changes: &mut watch::Receiver<Version>) -> Result<bool, SendError> {
        self.writer.flush().await?;
        if over {
            return Ok(false);
        }
        // an error means that the job is forgotten
        Ok(changes.changed().await.is_ok())
    }
}
