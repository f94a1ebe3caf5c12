//! What the ranks of a gang print, all of them at once, in whole lines.

use phalanx::Client;
use phalanx_protocol::message::client::{OutputPosition, OutputQuery};
use phalanx_protocol::{IndexRange, JobId};

use super::super::output::{Followed, Rest};
use super::lines::Lines;
use crate::ui::Ui;
use crate::ui::error::CliError;

/// Copies what ranks write.
#[derive(Debug)]
pub(super) struct RanksCopy {
    job: JobId,
    lines: Lines,
    /// How far that of each rank was copied.
    had: Vec<OutputPosition>,
}

impl RanksCopy {
    pub(super) fn new(job: JobId, ranks: u64, are_labelled: bool, ui: Ui) -> Self {
        Self {
            job,
            lines: Lines::new(ranks, are_labelled, ui),
            had: (0..ranks).map(|_| OutputPosition::default()).collect(),
        }
    }

    /// Shows lines that will not be finished.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        self.lines.finish_all()
    }

    /// Copies what one rank has written since the last call. A later attempt begins anew.
    async fn more_of(&mut self, client: &Client, rank: usize) -> Result<Rest, CliError> {
        let (before, task) = (self.had[rank], rank as u64);
        let query = OutputQuery {
            job: self.job,
            tasks: IndexRange::new(task, task + 1),
            had: before,
            bytes_max: u64::MAX,
        };
        let page = client.output(query).await?;
        for piece in &page.pieces {
            self.lines.add(task, &piece.bytes, piece.is_error)?;
        }
        if page.position.attempt.is_some() {
            self.had[rank] = page.position;
        }
        Ok(Rest::of(self.had[rank] != before, page.has_ended))
    }
}

impl Followed for RanksCopy {
    fn has_begun(&self) -> bool {
        self.had.iter().all(|had| had.attempt.is_some())
    }

    async fn more(&mut self, client: &Client) -> Result<Rest, CliError> {
        let mut all = Rest::Ended;
        for rank in 0..self.had.len() {
            all = match (all, self.more_of(client, rank).await?) {
                (Rest::Something, _) | (_, Rest::Something) => Rest::Something,
                (Rest::Nothing, _) | (_, Rest::Nothing) => Rest::Nothing,
                (Rest::Ended, Rest::Ended) => Rest::Ended,
            };
        }
        self.lines.flush()?;
        Ok(all)
    }
}
