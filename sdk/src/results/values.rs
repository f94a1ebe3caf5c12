//! Blocks of results become values: decoded one by one where they were received, without a copy.

use std::collections::VecDeque;
use std::vec;

use bytes::Bytes;
use phalanx_protocol::codec::{DecodeError, decode_prefix};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{IndexRange, JobId};
use serde::de::DeserializeOwned;

use super::events::Events;
use crate::client::ResultEvent;
use crate::error::{ClientError, JobError};

/// What comes next from a job.
pub(super) enum Step<T> {
    /// A task's result.
    Value(u64, T),
    /// Tasks that failed.
    Failed(Vec<TaskFailure>),
    /// The job is over, or it cannot be followed any longer.
    End(Box<Result<JobView, JobError>>),
}

fn end<T>(end: Result<JobView, JobError>) -> Step<T> {
    Step::End(Box::new(end))
}

/// The values of a job, block by block.
pub(super) struct Values<T> {
    job: JobId,
    events: Events,
    block: Block,
    /// Blocks that came together with the current one.
    blocks: VecDeque<Block>,
    damage: Option<JobError>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Values<T> {
    pub(super) fn new(job: JobId, events: Events) -> Self {
        Self {
            job,
            events,
            block: Block::new(IndexRange::new(0, 0), Vec::new(), Bytes::new()),
            blocks: VecDeque::new(),
            damage: None,
            kind: std::marker::PhantomData,
        }
    }

    /// The next value of the current block; `None` at its end.
    #[inline]
    pub(super) fn next_in_block(&mut self) -> Option<(u64, T)> {
        match self.block.next() {
            Ok(next) => next,
            Err(cause) => {
                self.damage = Some(JobError::Decode {
                    job: self.job,
                    range: self.block.range,
                    cause,
                });
                None
            }
        }
    }

    /// What comes next; blocks until it is there. Not to be called again after [`Step::End`].
    pub(super) fn next(&mut self) -> Step<T> {
        loop {
            if let Some((index, value)) = self.next_in_block() {
                return Step::Value(index, value);
            }
            if let Some(damage) = self.damage.take() {
                return end(Err(damage));
            }
            if let Some(block) = self.blocks.pop_front() {
                self.block = block;
                continue;
            }
            match self.events.next() {
                Some(Ok(ResultEvent::Block { range, keep, bytes })) => {
                    self.block = Block::new(range, keep, bytes);
                }
                // the result of a task that returns nothing is encoded in no bytes
                Some(Ok(ResultEvent::NoResults(ranges))) => {
                    let empty = |range| Block::new(range, vec![range], Bytes::new());
                    self.blocks.extend(ranges.into_iter().map(empty));
                }
                Some(Ok(ResultEvent::Failed(failures))) => return Step::Failed(failures),
                Some(Ok(ResultEvent::Ended(view))) => return end(Ok(view)),
                Some(Err(error)) => return end(Err(error.into())),
                None => return end(Err(ClientError::Stopped.into())),
            }
        }
    }
}

/// Results of neighbouring tasks, of which some count.
struct Block {
    range: IndexRange,
    /// The tasks that count and are not decoded yet: the current ones, then the others.
    piece: IndexRange,
    pieces: vec::IntoIter<IndexRange>,
    /// The task whose result lies at `offset`.
    index: u64,
    bytes: Bytes,
    offset: usize,
}

impl Block {
    /// `keep` is in order and inside `range`.
    fn new(range: IndexRange, keep: Vec<IndexRange>, bytes: Bytes) -> Self {
        Self {
            range,
            piece: IndexRange::new(range.start, range.start),
            pieces: keep.into_iter(),
            index: range.start,
            bytes,
            offset: 0,
        }
    }

    #[inline]
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(u64, T)>, DecodeError> {
        if self.index >= self.piece.end && !self.begin_piece::<T>()? {
            return Ok(None);
        }
        let (value, used) = decode_prefix(&self.bytes[self.offset..])?;
        let index = self.index;
        self.index += 1;
        self.offset += used;
        Ok(Some((index, value)))
    }

    /// Passes over what does not count, up to the next piece; false if there is none.
    fn begin_piece<T: DeserializeOwned>(&mut self) -> Result<bool, DecodeError> {
        let Some(piece) = self.pieces.next() else {
            let left = self.bytes.len() - self.offset;
            if self.index == self.range.end && left > 0 {
                self.offset = self.bytes.len();
                return Err(DecodeError::TrailingBytes {
                    what: std::any::type_name::<T>(),
                    bytes: left,
                });
            }
            return Ok(false);
        };
        self.piece = piece;
        while self.index < piece.start {
            let (_, used) = decode_prefix::<T>(&self.bytes[self.offset..])?;
            self.index += 1;
            self.offset += used;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::codec;

    use super::*;

    fn block(range: (u64, u64), keep: &[(u64, u64)], texts: &[&str]) -> Block {
        let bytes: Vec<u8> = texts.iter().flat_map(codec::encode).collect();
        let keep = keep
            .iter()
            .map(|&(start, end)| IndexRange::new(start, end))
            .collect();
        Block::new(IndexRange::new(range.0, range.1), keep, bytes.into())
    }

    fn all(mut block: Block) -> Result<Vec<(u64, String)>, DecodeError> {
        std::iter::from_fn(|| block.next().transpose()).collect()
    }

    #[test]
    fn what_does_not_count_is_passed_over() {
        let texts = ["a", "bb", "c", "dd", "e"];
        let found = all(block((10, 15), &[(11, 12), (13, 15)], &texts)).unwrap();
        let expected = [(11, "bb"), (13, "dd"), (14, "e")];
        assert_eq!(found, expected.map(|(index, text)| (index, text.to_owned())));
        assert_eq!(all(block((10, 15), &[], &texts)).unwrap(), []);
    }

    #[test]
    fn missing_and_trailing_bytes_are_errors() {
        let short = all(block((0, 3), &[(0, 3)], &["a", "b"]));
        assert!(matches!(short, Err(DecodeError::Malformed { .. })));
        let long = all(block((0, 1), &[(0, 1)], &["a", "b"]));
        assert!(matches!(long, Err(DecodeError::TrailingBytes { bytes: 2, .. })));
    }

    #[test]
    fn values_of_no_bytes_are_counted() {
        let range = IndexRange::new(5, 8);
        let mut block = Block::new(range, vec![range], Bytes::new());
        let found: Vec<(u64, ())> = std::iter::from_fn(|| block.next().transpose())
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(found, [(5, ()), (6, ()), (7, ())]);
    }

    /// No gate: what it prints is for whoever works on decoding (`--no-capture`, and a release build).
    #[test]
    fn many_values_are_decoded() {
        const VALUES: u64 = 2_000_000;
        let values: Vec<u64> = (0..VALUES).map(|index| index * 1_000_003).collect();
        let bytes: Vec<u8> = values.iter().flat_map(codec::encode).collect();
        let range = IndexRange::new(0, VALUES);
        let mut block = Block::new(range, vec![range], bytes.into());
        let started = std::time::Instant::now();
        let mut sum = 0;
        while let Some((_, value)) = block.next::<u64>().unwrap() {
            sum += value;
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{:.0} M values/s", VALUES as f64 / seconds / 1e6);
        assert_eq!(sum, values.iter().sum::<u64>());
    }
}
