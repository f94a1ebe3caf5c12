//! The ordinary job: every task's result is kept, encoded at once behind that of its neighbour.

use phalanx_protocol::Encoding;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::{RESULT_FILE_BYTES_MAX, TASK_RESULT_BYTES_MAX};
use phalanx_protocol::range::IndexRange;

use super::Kernel;
use super::output::{Block, ChunkOutput, Piece, Yield};
use super::runner::{Chunk, Failed, Runner, Sink, decode_parameters, encode, run_chunk};

struct Collect<K: Kernel> {
    parameters: K::Parameters,
    encoding: Encoding,
}

/// Readies `K` for a job whose results are all kept.
pub(super) fn open<K: Kernel>(parameters: &[u8], encoding: Encoding) -> Result<Box<dyn Runner>, String> {
    let parameters = decode_parameters::<K>(parameters, encoding)?;
    Ok(Box::new(Collect::<K> { parameters, encoding }))
}

impl<K: Kernel> Runner for Collect<K> {
    fn run(&self, chunk: &Chunk<'_>, output: &mut ChunkOutput) -> u64 {
        let mut sink = Append {
            encoding: self.encoding,
            closed: output.bytes.len(),
            accepted: output.bytes.len(),
        };
        run_chunk::<K>(&self.parameters, self.encoding, chunk, &mut sink, output)
    }

    fn gather(&self, outputs: Vec<ChunkOutput>) -> Result<Vec<Block>, String> {
        Ok(join(outputs))
    }
}

/// Appends results to the output's bytes.
struct Append {
    encoding: Encoding,
    /// Where the bytes of the piece begin that is not closed yet.
    closed: usize,
    /// Where the bytes of the last accepted result end.
    accepted: usize,
}

impl<T: serde::Serialize> Sink<T> for Append {
    #[inline]
    fn accept(&mut self, value: T, output: &mut ChunkOutput) -> Result<(), String> {
        encode(&value, self.encoding, &mut output.bytes)?;
        if output.bytes.len() - self.accepted > TASK_RESULT_BYTES_MAX {
            return Err(too_large(output.bytes.len() - self.accepted));
        }
        self.accepted = output.bytes.len();
        Ok(())
    }

    fn close(&mut self, grant: GrantId, range: IndexRange, _: Option<&Failed>, output: &mut ChunkOutput) {
        output.bytes.truncate(self.accepted);
        if !range.is_empty() {
            let yielded = Yield::Bytes(self.accepted - self.closed);
            output.push(Piece {
                grant,
                range,
                yielded,
            });
        }
        self.closed = self.accepted;
    }
}

/// Says that a result is too large to be kept.
#[cold]
pub(super) fn too_large(bytes: usize) -> String {
    format!("the result takes {bytes} bytes, a task's may take {TASK_RESULT_BYTES_MAX}")
}

/// Sorts what slots have by index and joins neighbours into blocks of at most [`RESULT_FILE_BYTES_MAX`].
pub(crate) fn join(mut outputs: Vec<ChunkOutput>) -> Vec<Block> {
    struct Cut {
        grant: GrantId,
        range: IndexRange,
        output: usize,
        bytes: std::ops::Range<usize>,
    }
    let mut cuts = Vec::with_capacity(outputs.iter().map(|output| output.pieces.len()).sum());
    for (index, output) in outputs.iter().enumerate() {
        let mut offset = 0;
        for piece in &output.pieces {
            let Yield::Bytes(len) = piece.yielded else {
                unreachable!("a collecting job's pieces are bytes");
            };
            cuts.push(Cut {
                grant: piece.grant,
                range: piece.range,
                output: index,
                bytes: offset..offset + len,
            });
            offset += len;
        }
    }
    if let [only] = cuts.as_slice() {
        let bytes = std::mem::take(&mut outputs[only.output].bytes);
        return vec![Block {
            grant: only.grant,
            range: only.range,
            bytes,
        }];
    }
    cuts.sort_unstable_by_key(|cut| (cut.grant, cut.range.start));
    let mut blocks: Vec<Block> = Vec::new();
    for cut in cuts {
        let bytes = &outputs[cut.output].bytes[cut.bytes];
        match blocks.last_mut() {
            Some(last)
                if last.grant == cut.grant
                    && last.range.end == cut.range.start
                    && last.bytes.len() + bytes.len() <= RESULT_FILE_BYTES_MAX =>
            {
                last.range.end = cut.range.end;
                last.bytes.extend_from_slice(bytes);
            }
            Some(_) | None => blocks.push(Block {
                grant: cut.grant,
                range: cut.range,
                bytes: bytes.to_vec(),
            }),
        }
    }
    blocks
}
