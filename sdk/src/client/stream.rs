//! Answers that come over time: a job's changes, and its results. Both resume where they were after a lost connection.

use bytes::Bytes;
use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_protocol::message::client::{Reply, Request};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{IndexRange, JobId, RangeSet};
use phalanx_transport::StreamReader;

use super::Client;
use super::exchange::{self, Cut, Retry};
use super::link::Link;
use crate::error::{ClientError, Interruption, ProtocolError};

/// Ranges in a resuming request, so that it stays within a frame; what the others hold is sent again and passed over.
const HAVE_RANGES_MAX: usize = 30_000;

/// The stream that is open now, and on which connection.
#[derive(Debug)]
struct Open {
    link: Link,
    reader: StreamReader,
}

/// A job at each change.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    job: JobId,
    open: Option<Open>,
    retry: Retry,
    last: Option<JobView>,
}

impl Watch {
    pub(super) fn new(client: Client, job: JobId) -> Self {
        let retry = Retry::new(client.shared.patience);
        Self {
            client,
            job,
            open: None,
            retry,
            last: None,
        }
    }

    /// The job after its next change, the first time as it is; `None` once its end was returned. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<JobView>, ClientError> {
        if self.last.as_ref().is_some_and(|view| view.outcome.is_some()) {
            return Ok(None);
        }
        loop {
            let request = || Request::Watch(self.job);
            let open = ensure_open(
                &self.client,
                &mut self.open,
                &mut self.retry,
                request,
                CONTROL_FRAME_BYTES_MAX,
            );
            let open = open.await?;
            match exchange::receive(&open.link, &mut open.reader).await {
                Ok(Reply::Job(view)) => {
                    // after a lost connection it begins with what is known
                    if self.last.as_ref() != Some(&view) {
                        self.retry.answered();
                        self.last = Some(view.clone());
                        return Ok(Some(view));
                    }
                }
                Ok(_other) => return Err(ClientError::Protocol(ProtocolError::WrongReply)),
                Err(cut) => survive(&self.client, &mut self.open, &mut self.retry, cut)?,
            }
        }
    }
}

/// What a stream of results brings.
#[expect(clippy::large_enum_variant, reason = "the view is the last of many events")]
#[derive(Debug, Clone, PartialEq)]
pub enum ResultEvent {
    /// Results of the tasks in `range`, encoded back to back; one merged value if the job reduces.
    Block {
        /// The tasks whose results `bytes` holds.
        range: IndexRange,
        /// Those of them that are new, in order; the others' are to be skipped.
        keep: Vec<IndexRange>,
        /// The values.
        bytes: Bytes,
    },
    /// These tasks are done and return nothing.
    NoResults(Vec<IndexRange>),
    /// These tasks failed.
    Failed(Vec<TaskFailure>),
    /// The job is over and everything was returned.
    Ended(JobView),
}

/// The results of a job; each task's is returned once, whatever happens to connections.
#[derive(Debug)]
pub struct ResultStream {
    client: Client,
    job: JobId,
    in_order: bool,
    open: Option<Open>,
    retry: Retry,
    have: RangeSet,
    /// A block that was announced and whose bytes come next.
    announced: Option<(IndexRange, Vec<IndexRange>)>,
    ended: bool,
}

impl ResultStream {
    pub(super) fn new(client: Client, job: JobId, in_order: bool) -> Self {
        let retry = Retry::new(client.shared.patience);
        Self {
            client,
            job,
            in_order,
            open: None,
            retry,
            have: RangeSet::new(),
            announced: None,
            ended: false,
        }
    }

    /// Passes over the results of these tasks, which the caller has already.
    pub fn skip(&mut self, have: &RangeSet) {
        self.have.extend(have.iter());
        self.open = None;
        self.announced = None;
    }

    /// What comes next; `None` after [`ResultEvent::Ended`]. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<ResultEvent>, ClientError> {
        while !self.ended {
            let request = || Request::Results {
                job: self.job,
                in_order: self.in_order,
                have: self.have.iter().take(HAVE_RANGES_MAX).collect(),
            };
            let open = ensure_open(
                &self.client,
                &mut self.open,
                &mut self.retry,
                request,
                DATA_FRAME_BYTES_MAX,
            );
            let open = open.await?;
            let received = receive(open, &mut self.announced).await;
            match received {
                Ok(event) => {
                    if let Some(event) = self.only_new(event) {
                        self.retry.answered();
                        return Ok(Some(event));
                    }
                }
                Err(cut) => {
                    self.announced = None;
                    survive(&self.client, &mut self.open, &mut self.retry, cut)?;
                }
            }
        }
        Ok(None)
    }

    /// The event without what was returned before; `None` if nothing is left of it.
    fn only_new(&mut self, event: ResultEvent) -> Option<ResultEvent> {
        match event {
            ResultEvent::Block { range, keep, bytes } => {
                let keep = self.claim(keep);
                (!keep.is_empty()).then_some(ResultEvent::Block { range, keep, bytes })
            }
            ResultEvent::NoResults(ranges) => {
                let ranges = self.claim(ranges);
                (!ranges.is_empty()).then_some(ResultEvent::NoResults(ranges))
            }
            ResultEvent::Failed(mut failures) => {
                failures.retain(|failure| {
                    let one = IndexRange::new(failure.index, failure.index.saturating_add(1));
                    !self.claim(vec![one]).is_empty()
                });
                (!failures.is_empty()).then_some(ResultEvent::Failed(failures))
            }
            ResultEvent::Ended(_) => {
                self.ended = true;
                self.open = None;
                Some(event)
            }
        }
    }

    /// The parts of `ranges` that were not returned before; from now on they were.
    fn claim(&mut self, ranges: Vec<IndexRange>) -> Vec<IndexRange> {
        let mut new = Vec::with_capacity(ranges.len());
        for range in ranges {
            new.extend(self.have.gaps(range));
            self.have.insert(range);
        }
        new
    }
}

/// Receives the next event; `announced` keeps a block's head until its bytes have come. Cancel safe.
async fn receive(
    open: &mut Open,
    announced: &mut Option<(IndexRange, Vec<IndexRange>)>,
) -> Result<ResultEvent, Cut> {
    loop {
        if announced.is_some() {
            let bytes = open.reader.recv_bytes().await?;
            let bytes = bytes.ok_or(Cut::Retry(Interruption::NoAnswer))?;
            if let Some((range, keep)) = announced.take() {
                return Ok(ResultEvent::Block { range, keep, bytes });
            }
        }
        match exchange::receive(&open.link, &mut open.reader).await? {
            Reply::Results { range, keep } => *announced = Some((range, keep_within(range, keep))),
            Reply::NoResults(ranges) => return Ok(ResultEvent::NoResults(ranges)),
            Reply::Failed(failures) => return Ok(ResultEvent::Failed(failures)),
            Reply::Job(view) => return Ok(ResultEvent::Ended(view)),
            Reply::Done
            | Reply::Submitted(_)
            | Reply::Missing(_)
            | Reply::Jobs(_)
            | Reply::Workers(_)
            | Reply::Explanation(_)
            | Reply::Reopened { .. }
            | Reply::Schedulers { .. }
            | Reply::Output(_)
            | Reply::Tasks(_)
            | Reply::Cancelled { .. }
            | Reply::Refused(_) => {
                return Err(Cut::Final(ClientError::Protocol(ProtocolError::WrongReply)));
            }
        }
    }
}

/// `keep` in order, disjoint and inside `range`, whatever the peer sent.
fn keep_within(range: IndexRange, keep: Vec<IndexRange>) -> Vec<IndexRange> {
    RangeSet::from(keep).pieces(range)
}

async fn ensure_open<'a>(
    client: &Client,
    open: &'a mut Option<Open>,
    retry: &mut Retry,
    request: impl Fn() -> Request,
    frame_bytes_max: usize,
) -> Result<&'a mut Open, ClientError> {
    while open.is_none() {
        let link = client.link(retry).await?;
        match exchange::open(&link, &request(), frame_bytes_max).await {
            Ok(reader) => *open = Some(Open { link, reader }),
            Err(cut) => client.survive(&link, cut, retry)?,
        }
    }
    open.as_mut().ok_or(ClientError::Stopped)
}

fn survive(client: &Client, open: &mut Option<Open>, retry: &mut Retry, cut: Cut) -> Result<(), ClientError> {
    match open.take() {
        Some(open) => client.survive(&open.link, cut, retry),
        None => Ok(()),
    }
}
