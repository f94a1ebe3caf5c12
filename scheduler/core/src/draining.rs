//! Workers that are to leave: they get no more slots, what they have not started is taken back, and what runs there ends.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{JobId, WorkerId};

use crate::core::Core;
use crate::input::{Effect, RequestId};

impl Core {
    /// Somebody wants a worker to leave; `allowed` if they may ask for that.
    pub(crate) fn drain_requested(
        &mut self,
        request: RequestId,
        worker: WorkerId,
        allowed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let reply = if !allowed {
            Reply::Refused(Refusal::AdminOnly)
        } else if !self.workers.contains_key(&worker) {
            Reply::Refused(Refusal::NoSuchWorker(worker))
        } else {
            // again, if it was told before: then it is as before
            let message = ToWorker::Drain;
            effects.push(Effect::Send { worker, message });
            self.worker_draining(worker, effects);
            Reply::Done
        };
        let reply = Box::new(reply);
        effects.push(Effect::Answer { request, reply });
    }

    /// A worker will leave once what runs there has ended. It may not come to that: it may be lost before.
    pub(crate) fn worker_draining(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some(model) = self.workers.get_mut(&worker).filter(|model| !model.draining) else {
            return;
        };
        model.draining = true;
        self.plan_due = true;
        // at once, not with the next plan: until then it would be granted more
        let jobs: Vec<JobId> = model.slots.keys().chain(&model.unplanned).copied().collect();
        for job in jobs {
            self.change_slots(worker, job, 0, effects);
        }
    }
}
