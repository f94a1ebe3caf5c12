//! How a worker goes: it drains, stops, and leaves once nothing of its work could be lost.

use std::time::{Duration, Instant};

use phalanx_protocol::message::host::ToHost;
use phalanx_protocol::message::worker::{FromWorker, ToWorker};
use phalanx_protocol::{GrantId, JobId};

use super::{Agent, Effect, Presence, STOP_WAIT};

impl Agent {
    /// The operator ends this worker: what runs has `grace` to end.
    pub(super) fn stopped(&mut self, now: Instant, grace: Duration, effects: &mut Vec<Effect>) {
        match self.presence {
            Presence::Working | Presence::Draining(_) if grace.is_zero() => self.stop(now, effects),
            Presence::Working | Presence::Draining(None) => self.drain(Some(now + grace), effects),
            Presence::Draining(Some(_)) | Presence::Stopping(_) | Presence::Left => {}
        }
    }

    /// Takes nothing more on and lets what runs end, up to a moment if there is one. What no host has is given back;
    /// what hosts have and have not started, the scheduler asks back.
    pub(super) fn drain(&mut self, until: Option<Instant>, effects: &mut Vec<Effect>) {
        let is_first = self.presence == Presence::Working;
        if is_first {
            effects.push(Effect::Tell(FromWorker::Draining));
        }
        self.presence = Presence::Draining(until);
        let unhanded: Vec<(JobId, GrantId)> = self
            .jobs
            .iter()
            .flat_map(|(&id, job)| job.unhanded().map(move |grant| (id, grant)))
            .collect();
        for (id, grant) in unhanded {
            self.revoked(id, grant, u64::MAX, effects);
        }
        if is_first || until.is_some() {
            let call = |host| Effect::TellHost(host, ToHost::CheckpointNow);
            effects.extend(self.seats.serving().map(call));
        }
    }

    /// Whether a message concerns a worker that goes. What it will not run is given back at once, so that others do.
    pub(super) fn is_wanted(&self, message: &ToWorker, effects: &mut Vec<Effect>) -> bool {
        match (self.presence, message) {
            (Presence::Working, _) | (_, ToWorker::Welcome { .. } | ToWorker::Acknowledge { .. }) => true,
            (
                Presence::Draining(_),
                ToWorker::Grant {
                    job, grant, range, ..
                },
            ) => {
                effects.push(Effect::Tell(FromWorker::Returned {
                    job: *job,
                    grant: *grant,
                    range: *range,
                }));
                false
            }
            (Presence::Draining(_), ToWorker::Open { .. } | ToWorker::Drain) => false,
            (
                Presence::Draining(_),
                ToWorker::SetSlots { .. }
                | ToWorker::Revoke { .. }
                | ToWorker::Stop { .. }
                | ToWorker::Signal { .. }
                | ToWorker::Close { .. }
                | ToWorker::CheckpointNow { .. }
                | ToWorker::Schedulers(_)
                | ToWorker::SilenceLimit { .. }
                | ToWorker::Gang { .. }
                | ToWorker::GangWaits { .. }
                | ToWorker::GangAddresses { .. },
            ) => true,
            // once it has left, the scheduler gives what it had to others
            (Presence::Stopping(_) | Presence::Left, _) => false,
        }
    }

    /// Ends everything: hosts are killed, and the scheduler gives what they had to others once this worker has left.
    pub(super) fn stop(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.presence = Presence::Stopping(now + STOP_WAIT);
        for host in self.seats.take_all() {
            self.ledger.closed(host);
            effects.push(Effect::KillHost(host));
        }
        for (_, job) in std::mem::take(&mut self.jobs) {
            self.outbox.waited(job.unreported.bytes());
        }
    }

    /// Leaves once everything reported is durable, or has not become so in time: a scheduler that is told of it forgets
    /// this session, and with it the reports on their way.
    pub(super) fn leave_if_done(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Presence::Draining(Some(until)) = self.presence
            && until <= now
        {
            self.stop(now, effects);
        }
        let is_done = match self.presence {
            Presence::Working | Presence::Left => false,
            Presence::Draining(_) => {
                self.outbox.is_empty() && self.jobs.values().all(|job| job.grants.is_empty())
            }
            Presence::Stopping(until) => self.outbox.is_empty() || until <= now,
        };
        if is_done {
            self.presence = Presence::Left;
            effects.push(Effect::Tell(FromWorker::Leaving));
        }
    }
}
