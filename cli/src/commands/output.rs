//! What commands have written, from the cluster's storage to this terminal.

use std::io::{self, Write};

use phalanx::Client;
use phalanx_protocol::message::client::{OutputPage, OutputPosition, OutputQuery};
use phalanx_protocol::{IndexRange, JobId};

use crate::ui::error::CliError;
use crate::ui::{DataStream, Ui};

/// Copies output of one job: standard output to stdout, standard error to stderr.
#[derive(Debug)]
pub(super) struct OutputCopy {
    job: JobId,
    stream: DataStream,
    /// How much is there of the task that is followed.
    had: OutputPosition,
}

/// Whether there may be more of a task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing was there beyond what had been copied.
    Nothing,
    /// Something was, and there may be more at once.
    Something,
    /// All that there was is copied, and the attempt writes no more.
    Ended,
}

impl Rest {
    /// After a look that found something or not, at what has ended or not.
    pub(super) fn of(is_news: bool, has_ended: bool) -> Self {
        match (is_news, has_ended) {
            (true, _) => Self::Something,
            (false, true) => Self::Ended,
            (false, false) => Self::Nothing,
        }
    }
}

/// Something whose output is copied while it writes.
pub(super) trait Followed {
    /// Whether it was ever begun, as far as is known.
    fn has_begun(&self) -> bool;

    /// Copies what was written since the last call.
    async fn more(&mut self, client: &Client) -> Result<Rest, CliError>;
}

/// Something that copies what tasks have written.
pub(super) trait Copied {
    /// Copies all that tasks have written so far, one after the other.
    async fn all(&mut self, client: &Client, tasks: IndexRange) -> Result<(), CliError>;
}

/// One task of a job.
#[derive(Debug)]
pub(super) struct TaskCopy<'a> {
    pub(super) copy: &'a mut OutputCopy,
    pub(super) task: u64,
}

impl Followed for TaskCopy<'_> {
    fn has_begun(&self) -> bool {
        self.copy.had.attempt.is_some()
    }

    async fn more(&mut self, client: &Client) -> Result<Rest, CliError> {
        self.copy.more(client, self.task).await
    }
}

impl OutputCopy {
    pub(super) fn new(job: JobId, ui: Ui) -> Self {
        Self {
            job,
            stream: ui.stream(),
            had: OutputPosition::default(),
        }
    }

    /// Copies what a task has written since the last call. A later attempt begins anew.
    async fn more(&mut self, client: &Client, task: u64) -> Result<Rest, CliError> {
        let before = self.had;
        let page = self.page(client, IndexRange::new(task, task + 1), before).await?;
        if page.position.attempt.is_some() {
            self.had = page.position;
        }
        Ok(Rest::of(self.had != before, page.has_ended))
    }

    async fn page(
        &mut self,
        client: &Client,
        tasks: IndexRange,
        had: OutputPosition,
    ) -> Result<OutputPage, CliError> {
        let query = OutputQuery {
            job: self.job,
            tasks,
            had,
            bytes_max: u64::MAX,
        };
        let page = client.output(query).await?;
        for piece in &page.pieces {
            pass_on(&mut self.stream, &piece.bytes, piece.is_error)?;
        }
        self.stream.flush()?;
        Ok(page)
    }
}

impl Copied for OutputCopy {
    async fn all(&mut self, client: &Client, tasks: IndexRange) -> Result<(), CliError> {
        let mut left = tasks;
        let mut had = OutputPosition::default();
        while !left.is_empty() {
            let page = self.page(client, left, had).await?;
            (left.start, had) = after(&page, left.start, had);
        }
        Ok(())
    }
}

/// Where to go on behind a page that was asked for from there on. A task that still writes is shown as far as it is.
pub(super) fn after(page: &OutputPage, start: u64, had: OutputPosition) -> (u64, OutputPosition) {
    match page.next == start && page.position == had {
        true => (start + 1, OutputPosition::default()),
        false => (page.next, page.position),
    }
}

/// Passes bytes on to stdout or to stderr, in the order in which they are passed.
pub(super) fn pass_on(stream: &mut DataStream, bytes: &[u8], is_error: bool) -> Result<(), CliError> {
    match is_error {
        false => stream.write(bytes),
        true => {
            stream.flush()?;
            // whoever closed it does not want to know
            let _ = io::stderr().write_all(bytes);
            Ok(())
        }
    }
}
