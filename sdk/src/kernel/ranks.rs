//! Ranks: tasks that run one function together, each on a slot of this host, with a communicator between them.
//!
//! A rank that succeeds waits for the others of its host before it is reported: what it returned counts only if all return.
//! One that fails is reported at once, and the others after it as failed because of it. See [`part`] for those elsewhere, and
//! [`epoch`] for how they meet.

mod epoch;
mod part;

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use phalanx_protocol::Encoding;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::TASK_RESULT_BYTES_MAX;
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::FailureCause;

use self::part::Part;
use super::collect::{join, too_large};
use super::output::{Block, ChunkOutput, Piece, Yield};
use super::runner::{Chunk, Failed, Runner, Stop, decode, encode};
use super::{Kernel, RankKernel};
use crate::context::TaskContext;
use crate::host::gang_link::GangLink;
use crate::host::{lock, panics};
use crate::ranks::{Communicator, Standing, Succession};

/// What follows the results of ranks: like a kernel's, one of each task. No entry opens it, so nobody calls it.
#[derive(Clone, Copy)]
pub(crate) struct Ranked<K>(PhantomData<fn() -> K>);

impl<K: RankKernel> Kernel for Ranked<K> {
    type Input = u64;
    type Parameters = ();
    type Output = K::Output;
    const NAME: &'static str = K::NAME;

    fn call(_: u64, (): &(), _: &TaskContext) -> Result<K::Output, String> {
        Err(apart(K::NAME))
    }
}

fn apart(name: &str) -> String {
    format!("`{name}` is run by ranks, which start together: `cluster.ranks::<{name}>(..)`")
}

struct Ranks<K> {
    /// Encoded; each rank has its own.
    input: Vec<u8>,
    encoding: Encoding,
    part: Mutex<Option<Arc<Part>>>,
    kernel: PhantomData<fn() -> K>,
}

/// Readies `K` for a job.
pub(super) fn open<K: RankKernel>(input: &[u8], encoding: Encoding) -> Result<Box<dyn Runner>, String> {
    decode::<K::Input>(input, encoding).map_err(|error| {
        let wanted = std::any::type_name::<K::Input>();
        format!("the input of the ranks of `{}` is no {wanted}: {error}", K::NAME)
    })?;
    Ok(Box::new(Ranks::<K> {
        input: input.to_vec(),
        encoding,
        part: Mutex::default(),
        kernel: PhantomData,
    }))
}

impl<K: RankKernel> Ranks<K> {
    /// Lives a rank's life and waits for the others; its encoded result.
    fn run_rank(&self, rank: u64, grant: GrantId, context: &TaskContext) -> Result<Vec<u8>, Failed> {
        let error = |message| (FailureCause::Error, message);
        let part = lock(&self.part).clone();
        let part = part.ok_or_else(|| error(apart(K::NAME)))?;
        let Ok(place) = usize::try_from(rank) else {
            return Err(error(format!("there is no rank {rank}")));
        };
        let body = |communicator: &Communicator| self.live(&part, rank, communicator);
        let ended = match part.enter(rank, grant) {
            Ok((gang, epoch)) => {
                let standing = Standing {
                    context: context.of_rank(),
                    epoch,
                    succession: Some(Arc::clone(&part) as Arc<dyn Succession>),
                };
                gang.live(place, standing, &body)
                    .unwrap_or_else(|payload| Err(panicked(&*payload)))
            }
            Err(failed) => Err(failed),
        };
        part.leave(rank);
        match ended {
            Ok(bytes) => part.await_others(rank).map(|()| bytes),
            Err(failed) => Err(part.blame(rank).unwrap_or(failed)),
        }
    }

    /// Calls the function; a failure is noted before any other rank can fail because of it.
    fn live(&self, part: &Part, rank: u64, communicator: &Communicator) -> Result<Vec<u8>, Failed> {
        let call = || {
            let input =
                decode(&self.input, self.encoding).map_err(|message| (FailureCause::Input, message))?;
            let value = K::call(communicator, input).map_err(|message| (FailureCause::Error, message))?;
            let mut bytes = Vec::new();
            let encoded = encode(&value, self.encoding, &mut bytes);
            encoded.map_err(|message| (FailureCause::Result, message))?;
            match bytes.len() > TASK_RESULT_BYTES_MAX {
                true => Err((FailureCause::Result, too_large(bytes.len()))),
                false => Ok(bytes),
            }
        };
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(failed)) => {
                part.fail(rank, failed.clone());
                Err(failed)
            }
            Err(payload) => {
                part.fail(rank, panicked(&*payload));
                // to the others it has panicked, not returned
                resume_unwind(payload)
            }
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> Failed {
    (FailureCause::Panic, panics::message(payload))
}

impl<K: RankKernel> Runner for Ranks<K> {
    fn run(&self, chunk: &Chunk<'_>, output: &mut ChunkOutput) -> u64 {
        let index = chunk.range.start;
        if chunk.range.is_empty() || chunk.interrupt.load(Ordering::Relaxed) {
            return index;
        }
        chunk.context.running().store(index, Ordering::Relaxed);
        match self.run_rank(index, chunk.grant, chunk.context) {
            Ok(bytes) => {
                output.bytes.extend_from_slice(&bytes);
                output.push(Piece {
                    grant: chunk.grant,
                    range: IndexRange::new(index, index + 1),
                    yielded: Yield::Bytes(bytes.len()),
                });
            }
            Err((cause, message)) => output.fail(chunk.grant, index, cause, message),
        }
        index + 1
    }

    fn gather(&self, outputs: Vec<ChunkOutput>) -> Result<Vec<Block>, String> {
        Ok(join(outputs))
    }

    fn runs_in_sequence(&self) -> bool {
        false
    }

    fn begin_gang(&self, gang: HostGang, link: Option<Arc<GangLink>>) {
        let mut part = lock(&self.part);
        if (part.as_ref()).is_some_and(|part| part.go_on(&gang, link.as_ref())) {
            return;
        }
        let before = part.replace(Part::begin(gang, link));
        drop(part);
        if let Some(before) = before {
            before.stop();
        }
    }

    fn await_gang(&self, epoch: u32) {
        if let Some(part) = lock(&self.part).as_ref() {
            part.expect(epoch);
        }
    }

    fn stop(&self, stop: Stop) {
        let Some(part) = lock(&self.part).clone() else {
            return;
        };
        let concerns = match stop {
            Stop::InGrace | Stop::AtOnce => true,
            Stop::Tasks(grant, _) => part.concerns(grant),
        };
        if concerns {
            part.stop();
        }
    }
}
