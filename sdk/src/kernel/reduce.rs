//! The reducing job: results are merged as they come and encoded once per run of neighbours.

use std::panic::{AssertUnwindSafe, catch_unwind};

use phalanx_protocol::Encoding;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::TASK_RESULT_BYTES_MAX;
use phalanx_protocol::range::IndexRange;

use super::collect::too_large;
use super::output::{Block, ChunkOutput, Piece, Yield};
use super::runner::{Chunk, Failed, Runner, Sink, decode_parameters, encode, run_chunk};
use super::{Kernel, ReduceKernel};
use crate::host::panics;

struct Reduce<K: Kernel> {
    parameters: K::Parameters,
    encoding: Encoding,
}

/// Readies `K` for a job whose results are merged.
pub(super) fn open<K: ReduceKernel>(
    parameters: &[u8],
    encoding: Encoding,
) -> Result<Box<dyn Runner>, String> {
    let parameters = decode_parameters::<K>(parameters, encoding)?;
    Ok(Box::new(Reduce::<K> { parameters, encoding }))
}

impl<K: ReduceKernel> Runner for Reduce<K> {
    fn run(&self, chunk: &Chunk<'_>, output: &mut ChunkOutput) -> u64 {
        let mut sink = Fold::<K> {
            merged: None,
            merging: false,
        };
        run_chunk::<K>(&self.parameters, self.encoding, chunk, &mut sink, output)
    }

    fn absorb(&self, output: &mut ChunkOutput, more: &mut ChunkOutput) {
        let meets = match (output.pieces.last(), more.pieces.first()) {
            (Some(last), Some(first)) => last.meets(first),
            (_, _) => false,
        };
        if meets {
            let pieces = output
                .pieces
                .pop()
                .into_iter()
                .chain(more.pieces.drain(..1))
                .collect();
            match merge::<K>(pieces) {
                Ok(merged) => output.pieces.extend(merged.into_iter().map(Run::into_piece)),
                Err(reason) => output.broken = Some(reason),
            }
        }
        output.append(more);
    }

    fn gather(&self, mut outputs: Vec<ChunkOutput>) -> Result<Vec<Block>, String> {
        if let Some(reason) = outputs.iter_mut().find_map(|output| output.broken.take()) {
            return Err(reason);
        }
        let mut pieces: Vec<Piece> = outputs.into_iter().flat_map(|output| output.pieces).collect();
        pieces.sort_unstable_by_key(|piece| (piece.grant, piece.range.start));
        merge::<K>(pieces)?
            .into_iter()
            .map(|run| self.encode(run))
            .collect()
    }
}

impl<K: ReduceKernel> Reduce<K> {
    fn encode(&self, Run { grant, range, value }: Run<K::Output>) -> Result<Block, String> {
        let mut bytes = Vec::new();
        encode(&value, self.encoding, &mut bytes)
            .and_then(|()| match bytes.len() {
                len if len > TASK_RESULT_BYTES_MAX => Err(too_large(len)),
                _ => Ok(()),
            })
            .map_err(|error| format!("the merged result of tasks {range} cannot be kept: {error}"))?;
        Ok(Block { grant, range, bytes })
    }
}

fn merging_panicked<K: Kernel>(message: &str) -> String {
    format!("merging results of kernel `{}` panicked: {message}", K::NAME)
}

/// The merged value of neighbouring tasks.
struct Run<T> {
    grant: GrantId,
    range: IndexRange,
    value: T,
}

impl<T: Send + 'static> Run<T> {
    fn from_piece(
        Piece {
            grant,
            range,
            yielded,
        }: Piece,
    ) -> Self {
        let Yield::Merged(value) = yielded else {
            unreachable!("a reducing job's pieces are merged values");
        };
        let value = *value.downcast().expect("one job has one kernel");
        Self { grant, range, value }
    }

    fn into_piece(self) -> Piece {
        Piece {
            grant: self.grant,
            range: self.range,
            yielded: Yield::Merged(Box::new(self.value)),
        }
    }
}

/// Merges those of the sorted pieces that are neighbours, lower indices first.
///
/// # Errors
/// A sentence for the user, if merging panicked.
fn merge<K: ReduceKernel>(sorted: Vec<Piece>) -> Result<Vec<Run<K::Output>>, String> {
    let merge_all = || {
        let mut runs: Vec<Run<K::Output>> = Vec::new();
        for piece in sorted {
            let next = Run::<K::Output>::from_piece(piece);
            let run = match runs.pop() {
                Some(last) if last.grant == next.grant && last.range.end == next.range.start => Run {
                    range: IndexRange::new(last.range.start, next.range.end),
                    value: K::merge(last.value, next.value),
                    ..last
                },
                other => {
                    runs.extend(other);
                    next
                }
            };
            runs.push(run);
        }
        runs
    };
    catch_unwind(AssertUnwindSafe(merge_all))
        .map_err(|payload| merging_panicked::<K>(&panics::message(payload.as_ref())))
}

/// Merges results as they come.
struct Fold<K: Kernel> {
    merged: Option<K::Output>,
    /// Still set after a panic: the values that were being merged are lost.
    merging: bool,
}

impl<K: ReduceKernel> Sink<K::Output> for Fold<K> {
    #[inline]
    fn accept(&mut self, value: K::Output, _: &mut ChunkOutput) -> Result<(), String> {
        self.merging = true;
        self.merged = Some(match self.merged.take() {
            Some(left) => K::merge(left, value),
            None => value,
        });
        self.merging = false;
        Ok(())
    }

    fn close(
        &mut self,
        grant: GrantId,
        range: IndexRange,
        failed: Option<&Failed>,
        output: &mut ChunkOutput,
    ) {
        if std::mem::take(&mut self.merging) {
            let message = failed.map_or("", |(_, message)| message);
            output.broken = Some(merging_panicked::<K>(message));
        }
        if let Some(value) = self.merged.take() {
            let yielded = Yield::Merged(Box::new(value));
            output.push(Piece {
                grant,
                range,
                yielded,
            });
        }
    }
}
