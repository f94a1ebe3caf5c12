//! Runs a chunk of tasks of one kernel: the innermost loop, compiled once per kernel.
//!
//! A dynamic call and a `catch_unwind` are paid once per chunk. Per task remain: a flag that is looked at, the index
//! that is noted (so that a panic or a crash is blamed on the right task), the kernel itself and what the sink does with its
//! result. After a panic the loop goes on behind the task that panicked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phalanx_protocol::command::TaskSignal;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{Encoding, codec};
use serde::de::DeserializeOwned;

use super::Kernel;
use super::output::{Block, ChunkOutput};
use crate::context::TaskContext;
use crate::host::gang_link::GangLink;
use crate::host::inputs::ItemFile;
use crate::host::panics;

/// A kernel with its parameters, ready to run tasks of one job.
pub(crate) trait Runner: Send + Sync {
    /// Runs the chunk's tasks in order and adds what they leave to `output`. Returns the first index that was not
    /// started: the chunk's end, unless it was interrupted or `output` is full.
    fn run(&self, chunk: &Chunk<'_>, output: &mut ChunkOutput) -> u64;

    /// Adds what a chunk left to what the slot has already, and leaves `more` empty.
    fn absorb(&self, output: &mut ChunkOutput, more: &mut ChunkOutput) {
        output.append(more);
    }

    /// Turns what slots have into blocks, sorted by grant and index, neighbours merged.
    ///
    /// # Errors
    /// A sentence for the user, after which the job cannot go on: merging panicked, a merged value is too large.
    fn gather(&self, outputs: Vec<ChunkOutput>) -> Result<Vec<Block>, String>;

    /// Whether a slot may claim several tasks, to run them one after the other.
    fn runs_in_sequence(&self) -> bool {
        true
    }

    /// Learns of the gang whose ranks its tasks are from now on, and of the way to its other hosts, if it has some that can be
    /// reached. Does not wait.
    fn begin_gang(&self, _gang: HostGang, _link: Option<Arc<GangLink>>) {}

    /// Learns that ranks of the gang are lost, and that its next epoch, this one, begins once there is room for their replacements.
    fn await_gang(&self, _epoch: u32) {}

    /// Ends tasks that would not look whether they are cancelled. Does not wait.
    fn stop(&self, _stop: Stop) {}

    /// Sends a signal to those tasks of a grant that run, if they are processes.
    fn signal(&self, _grant: GrantId, _tasks: IndexRange, _signal: TaskSignal) {}
}

/// How tasks are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// They are told, and have a while.
    InGrace,
    /// They have no time, since this process ends.
    AtOnce,
    /// Only these of a grant: they are told, and have a while.
    Tasks(GrantId, IndexRange),
}

/// Neighbouring tasks that a slot claimed.
pub(crate) struct Chunk<'a> {
    pub(crate) grant: GrantId,
    /// How often its tasks were started before.
    pub(crate) restarts: u32,
    pub(crate) range: IndexRange,
    pub(crate) inputs: ChunkInputs<'a>,
    pub(crate) context: &'a TaskContext,
    /// Set when the slot is wanted elsewhere: no further task is started.
    pub(crate) interrupt: &'a AtomicBool,
}

/// Where the inputs of a chunk come from.
#[derive(Clone, Copy)]
pub(crate) enum ChunkInputs<'a> {
    /// The input of task `i` is the number `first + i`.
    Index { first: u64 },
    /// The file covers the chunk.
    Items(&'a ItemFile),
}

/// What becomes of results.
pub(super) trait Sink<T> {
    /// Takes the result of the next task.
    fn accept(&mut self, value: T, output: &mut ChunkOutput) -> Result<(), String>;
    /// Ends a run of successes: tasks `range` were accepted since the last call; the next one `failed`, if so, and
    /// what there is of its result is dropped.
    fn close(&mut self, grant: GrantId, range: IndexRange, failed: Option<&Failed>, output: &mut ChunkOutput);
}

/// Why a task has no result.
pub(crate) type Failed = (FailureCause, String);

/// Runs the tasks of `chunk` in order: see [`Runner::run`].
pub(super) fn run_chunk<K: Kernel>(
    parameters: &K::Parameters,
    encoding: Encoding,
    chunk: &Chunk<'_>,
    sink: &mut impl Sink<K::Output>,
    output: &mut ChunkOutput,
) -> u64 {
    let IndexRange { mut start, end } = chunk.range;
    loop {
        let pass = || run_until_failure::<K>(parameters, encoding, chunk, start..end, sink, output);
        let (stop, failed) = catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|payload| {
            let message = panics::message(payload.as_ref());
            (chunk.context.index(), Some((FailureCause::Panic, message)))
        });
        sink.close(chunk.grant, IndexRange::new(start, stop), failed.as_ref(), output);
        let Some((cause, message)) = failed else {
            return stop;
        };
        output.fail(chunk.grant, stop, cause, message);
        start = stop + 1;
        if start == end || chunk.interrupt.load(Ordering::Relaxed) {
            return start;
        }
    }
}

/// The loop itself. Returns the first index without a result, and the reason if that task was run.
#[inline]
fn run_until_failure<K: Kernel>(
    parameters: &K::Parameters,
    encoding: Encoding,
    chunk: &Chunk<'_>,
    indices: std::ops::Range<u64>,
    sink: &mut impl Sink<K::Output>,
    output: &mut ChunkOutput,
) -> (u64, Option<Failed>) {
    let end = indices.end;
    let running = chunk.context.running();
    for index in indices {
        if chunk.interrupt.load(Ordering::Relaxed) || output.is_full() {
            return (index, None);
        }
        running.store(index, Ordering::Relaxed);
        let failed = match input::<K>(&chunk.inputs, index, encoding) {
            Err(message) => (FailureCause::Input, message),
            Ok(input) => match K::call(input, parameters, chunk.context) {
                Err(message) => (FailureCause::Error, message),
                Ok(value) => match sink.accept(value, output) {
                    Ok(()) => continue,
                    Err(message) => (FailureCause::Result, message),
                },
            },
        };
        return (index, Some(failed));
    }
    (end, None)
}

/// The input of task `index`.
#[inline]
fn input<K: Kernel>(inputs: &ChunkInputs<'_>, index: u64, encoding: Encoding) -> Result<K::Input, String> {
    match inputs {
        // known at compile time, so that nothing of this remains for a kernel that takes an index
        ChunkInputs::Index { first } => (&mut Some(first.wrapping_add(index)) as &mut dyn Any)
            .downcast_mut::<Option<K::Input>>()
            .and_then(Option::take)
            .ok_or_else(not_an_index::<K>),
        ChunkInputs::Items(file) => {
            let item = file.item(index)?;
            decode(item, encoding).map_err(|error| format!("item {index}: {error}"))
        }
    }
}

#[cold]
fn not_an_index<K: Kernel>() -> String {
    format!(
        "kernel `{}` takes {}, not an index (`u64`)",
        K::NAME,
        std::any::type_name::<K::Input>()
    )
}

/// Reads a value in the job's encoding.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], encoding: Encoding) -> Result<T, String> {
    match encoding {
        Encoding::Bincode => codec::decode(bytes).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
    }
}

/// Reads a job's parameters; none at all stand for `null`.
pub(super) fn decode_parameters<K: Kernel>(
    bytes: &[u8],
    encoding: Encoding,
) -> Result<K::Parameters, String> {
    let bytes = match encoding {
        Encoding::Json if bytes.is_empty() => b"null",
        Encoding::Json | Encoding::Bincode => bytes,
    };
    decode(bytes, encoding).map_err(|error| {
        let wanted = std::any::type_name::<K::Parameters>();
        format!("the parameters of kernel `{}` are no {wanted}: {error}", K::NAME)
    })
}

/// Appends a result in the job's encoding.
#[inline]
pub(super) fn encode<T: serde::Serialize>(
    value: &T,
    encoding: Encoding,
    bytes: &mut Vec<u8>,
) -> Result<(), String> {
    match encoding {
        Encoding::Bincode => codec::encode_into(value, bytes).map_err(|error| error.to_string()),
        Encoding::Json if size_of::<T>() == 0 => Ok(()),
        Encoding::Json => {
            serde_json::to_writer(&mut *bytes, value).map_err(|error| error.to_string())?;
            bytes.push(b'\n');
            Ok(())
        }
    }
}
