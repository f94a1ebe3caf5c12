//! How a virtual worker goes in good order, by the rules of the real one: it drains or stops, and leaves once nothing of
//! its work could be lost.

use phalanx_protocol::message::worker::{FromWorker, ToWorker};

use crate::cluster::Cluster;
use crate::event::{Event, Life};
use crate::faults::SILENCE_MICROS;
use crate::worker::{Act, Worker};

/// How long a worker that stopped waits for its reports to become durable, in microseconds.
const STOP_MICROS: u64 = 2_000_000;

/// Whether a worker takes work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It does.
    Working,
    /// It lets what runs end.
    Draining,
    /// It has ended everything.
    Stopping,
}

impl Worker {
    /// Takes nothing more on.
    pub(crate) fn drain(&mut self, acts: &mut Vec<Act>) {
        if self.presence == Presence::Working {
            self.presence = Presence::Draining;
            acts.push(Act::Say(FromWorker::Draining));
        }
    }

    /// Whether a message concerns a worker that goes. What it will not run is given back at once.
    pub(crate) fn is_wanted(&self, message: &ToWorker, acts: &mut Vec<Act>) -> bool {
        match (self.presence, message) {
            (Presence::Working, _) | (_, ToWorker::Welcome { .. } | ToWorker::Acknowledge { .. }) => true,
            (
                Presence::Draining,
                ToWorker::Grant {
                    job, grant, range, ..
                },
            ) => {
                acts.push(Act::Say(FromWorker::Returned {
                    job: *job,
                    grant: *grant,
                    range: *range,
                }));
                false
            }
            (Presence::Draining, ToWorker::Open { .. } | ToWorker::Drain) => false,
            (
                Presence::Draining,
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
            (Presence::Stopping, _) => false,
        }
    }

    /// Whether it is to leave, and has not.
    pub(crate) fn is_going(&self) -> bool {
        self.alive && self.presence != Presence::Working
    }

    /// Whether it has nothing more to do here.
    fn is_done(&self) -> bool {
        match self.presence {
            Presence::Working => false,
            Presence::Draining => !self.owes_reports() && !self.holds_grants(),
            Presence::Stopping => !self.owes_reports(),
        }
    }
}

impl Cluster {
    /// Somebody ends a worker's process; what runs has a while to end.
    pub(crate) fn worker_is_stopped(&mut self, place: usize, grace_micros: u64) {
        let worker = &mut self.workers[place];
        if !worker.alive || worker.stalled_until > self.agenda.now {
            return;
        }
        let life = (place, worker.instance);
        let mut acts = Vec::new();
        worker.drain(&mut acts);
        self.act(life, acts);
        self.agenda.after(grace_micros, Event::GraceEnds(life));
        self.leaves_if_done(life);
    }

    /// A worker that was stopped ends what runs, and later does not wait any longer.
    pub(crate) fn grace_ends(&mut self, life: Life) {
        let worker = &mut self.workers[life.0];
        if worker.presence == Presence::Stopping {
            return self.leaves(life);
        }
        worker.presence = Presence::Stopping;
        worker.end_all();
        self.agenda.after(STOP_MICROS, Event::GraceEnds(life));
        self.leaves_if_done(life);
    }

    pub(crate) fn leaves_if_done(&mut self, life: Life) {
        if self.workers[life.0].is_done() {
            self.leaves(life);
        }
    }

    /// A worker says so and ends; another one starts in its place.
    fn leaves(&mut self, life: Life) {
        self.act(life, vec![Act::Say(FromWorker::Leaving)]);
        let worker = &mut self.workers[life.0];
        let how = match worker.presence {
            Presence::Stopping => "worker stopped",
            Presence::Working | Presence::Draining => "worker drained",
        };
        self.invariants.blame.endings.insert(how.to_owned());
        worker.alive = false;
        worker.end_all();
        if let Some(session) = worker.session.take() {
            // for a scheduler that does not hear it
            self.agenda.after(SILENCE_MICROS, Event::SilenceDetected(session));
        }
        let pause = self.dice.within(100_000..8_000_000);
        self.agenda.after(pause, Event::WorkerStarts(life.0));
    }
}
