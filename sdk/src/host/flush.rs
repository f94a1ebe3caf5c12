//! Sends what the slots have finished: whichever thread finds a reason gathers from all of them.

use std::sync::Arc;

use phalanx_protocol::message::host::FromHost;

use super::socket::frame;
use super::state::{Host, Job};
use super::{lock, progress};
use crate::kernel::output::ChunkOutput;

impl Host {
    /// Gathers what all slots have finished and sends it, if there is anything.
    pub(super) fn flush(&self) {
        // one at a time: who waits here finds little left to send
        let _gathering = lock(&self.flushing);
        // under the lock, so that what is taken is this job's
        let found = self.look(|state| {
            let job = state.job.as_ref().filter(|job| state.accepts(job))?;
            let outputs = state.slots.iter().map(|slot| slot.take_output());
            let outputs: Vec<ChunkOutput> = outputs.filter(|output| !output.is_empty()).collect();
            Some((Arc::clone(job), outputs, state.grants.backlog()))
        });
        let Some((job, outputs, backlog)) = found.filter(|(_, outputs, _)| !outputs.is_empty()) else {
            return;
        };
        match frames(&job, outputs, backlog) {
            Ok(frames) => self.post_if_open(&job, frames),
            Err(reason) => self.refuse_job(&job, reason),
        }
        self.outbox.send();
    }

    /// Queues progress, unless the job is being closed: nothing of it may follow the answer to that.
    fn post_if_open(&self, job: &Arc<Job>, frames: Vec<Vec<u8>>) {
        self.look(|state| {
            if state.accepts(job) {
                frames.into_iter().for_each(|frame| self.outbox.post(frame));
            }
        });
    }

    /// Tells the worker that the job cannot go on.
    fn refuse_job(&self, job: &Arc<Job>, reason: String) {
        self.change(|state, outbox| {
            if state.accepts(job) {
                state.begin_broken();
                outbox.post(frame(&FromHost::Refused { reason }));
            }
        });
    }
}

/// The frames that report `outputs`.
fn frames(job: &Job, outputs: Vec<ChunkOutput>, backlog: u64) -> Result<Vec<Vec<u8>>, String> {
    let busy_nanos = outputs.iter().map(|output| output.busy_nanos).sum();
    let failed = outputs
        .iter()
        .flat_map(|output| output.failed.iter().cloned())
        .collect();
    let usage = outputs.iter().flat_map(|output| output.usage.iter().copied());
    let usage = usage.collect();
    let blocks = job.runner.gather(outputs)?;
    let messages = progress::messages(blocks, failed, usage, busy_nanos, backlog);
    Ok(messages
        .into_iter()
        .map(|message| frame(&FromHost::Progress(message)))
        .collect())
}
