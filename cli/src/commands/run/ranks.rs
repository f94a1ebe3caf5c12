//! What the ranks of a gang print, all of them at once, in whole lines.

use phalanx::Client;
use phalanx_protocol::message::client::{OutputPiece, OutputPosition, OutputQuery};
use phalanx_protocol::{IndexRange, JobId};

use super::super::output::{Followed, Rest, pass_on};
use crate::ui::error::CliError;
use crate::ui::{DataStream, Ui};

/// A line that is longer is shown in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Copies what ranks write.
#[derive(Debug)]
pub(super) struct RanksCopy {
    job: JobId,
    stream: DataStream,
    /// How wide the number of a rank is that each line begins with, if it does.
    label_width: Option<usize>,
    ranks: Vec<RankCopy>,
}

/// How far that of one rank was copied.
#[derive(Debug, Clone, Default)]
struct RankCopy {
    had: OutputPosition,
    /// What its last lines have of their own so far, those of its output and of its errors.
    unfinished: [Vec<u8>; 2],
}

impl RanksCopy {
    pub(super) fn new(job: JobId, ranks: u64, is_labelled: bool, ui: Ui) -> Self {
        let width = ranks.saturating_sub(1).to_string().len();
        Self {
            job,
            stream: ui.stream(),
            label_width: is_labelled.then_some(width),
            ranks: (0..ranks).map(|_| RankCopy::default()).collect(),
        }
    }

    /// Shows lines that will not be finished.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        for rank in 0..self.ranks.len() {
            for is_error in [false, true] {
                let mut line = std::mem::take(&mut self.ranks[rank].unfinished[usize::from(is_error)]);
                if !line.is_empty() {
                    // else the label of the next would not be at a line's beginning
                    line.extend(self.label_width.map(|_| b'\n'));
                    self.show(rank, &line, is_error)?;
                }
            }
        }
        self.stream.flush()
    }

    /// Shows the lines that a piece finishes.
    fn add(&mut self, rank: usize, piece: &OutputPiece) -> Result<(), CliError> {
        let slot = usize::from(piece.is_error);
        let mut text = std::mem::take(&mut self.ranks[rank].unfinished[slot]);
        text.extend_from_slice(&piece.bytes);
        let end = match text.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => last + 1,
            None if text.len() > LINE_BYTES_MAX => text.len(),
            None => 0,
        };
        for line in text[..end].split_inclusive(|&byte| byte == b'\n') {
            self.show(rank, line, piece.is_error)?;
        }
        text.drain(..end);
        self.ranks[rank].unfinished[slot] = text;
        Ok(())
    }

    fn show(&mut self, rank: usize, line: &[u8], is_error: bool) -> Result<(), CliError> {
        let label = self.label_width.map(|width| format!("{rank:>width$}: "));
        let line = [label.unwrap_or_default().as_bytes(), line].concat();
        pass_on(&mut self.stream, &line, is_error)
    }

    /// Copies what one rank has written since the last call. A later attempt begins anew.
    async fn more_of(&mut self, client: &Client, rank: usize) -> Result<Rest, CliError> {
        let (before, task) = (self.ranks[rank].had, rank as u64);
        let query = OutputQuery {
            job: self.job,
            tasks: IndexRange::new(task, task + 1),
            had: before,
            bytes_max: u64::MAX,
        };
        let page = client.output(query).await?;
        for piece in &page.pieces {
            self.add(rank, piece)?;
        }
        if page.position.attempt.is_some() {
            self.ranks[rank].had = page.position;
        }
        Ok(Rest::of(self.ranks[rank].had != before, page.has_ended))
    }
}

impl Followed for RanksCopy {
    fn has_begun(&self) -> bool {
        self.ranks.iter().all(|rank| rank.had.attempt.is_some())
    }

    async fn more(&mut self, client: &Client) -> Result<Rest, CliError> {
        let mut all = Rest::Ended;
        for rank in 0..self.ranks.len() {
            all = match (all, self.more_of(client, rank).await?) {
                (Rest::Something, _) | (_, Rest::Something) => Rest::Something,
                (Rest::Nothing, _) | (_, Rest::Nothing) => Rest::Nothing,
                (Rest::Ended, Rest::Ended) => Rest::Ended,
            };
        }
        self.stream.flush()?;
        Ok(all)
    }
}
