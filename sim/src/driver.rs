//! The scheduler's driver: tells the real core what happened, and carries out what it wants.

use std::time::Duration;

use phalanx_protocol::Term;
use phalanx_protocol::message::worker::{FromWorker, ToWorker};
use phalanx_protocol::record::Record;
use phalanx_scheduler_core::{Core, Effect, Input, Now, SessionId};

use crate::cluster::Cluster;
use crate::event::Event;

impl Cluster {
    pub(crate) fn scheduler_starts(&mut self) {
        self.term.0 += 1;
        let mut core = (self.make_core)(self.term);
        self.storage.term = self.term;
        for (term, record) in &self.storage.durable {
            core.replay(*term, record);
        }
        core.check();
        self.invariants.keep.restarted(&core, &self.invariants.ledger);
        self.alarm = None;
        let mut effects = Vec::new();
        core.start(self.now(), &mut effects);
        self.core = Some(core);
        if self.storage.failing {
            self.tell(Input::StorageChanged {
                error: Some("input/output error".into()),
            });
        }
        self.carry_out(effects);
    }

    pub(crate) fn now(&self) -> Now {
        let unix_millis = 1_700_000_000_000 + self.agenda.now / 1000;
        Now {
            elapsed: Duration::from_micros(self.agenda.now),
            unix_millis,
        }
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let now = self.now();
        let Some(core) = &mut self.core else { return };
        let mut effects = Vec::new();
        core.handle(now, input, &mut effects);
        core.check();
        self.carry_out(effects);
    }

    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut touched = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append { sequence, record } => {
                    if let Record::JobFinished { job, .. } = &record {
                        self.invariants.slot.ended(None, *job);
                    }
                    self.storage.append(sequence, record);
                }
                Effect::Admit { session, worker } => {
                    self.network.admit(session, worker);
                    self.invariants.slot.admitted(worker);
                }
                Effect::Reject { session, .. } => self.break_session(session),
                Effect::Send { worker, message } => {
                    if let ToWorker::SetSlots { job, slots } = message {
                        self.invariants.slot.told(worker, job, slots);
                        touched.push(worker);
                    }
                    self.send_to_worker(worker, message);
                }
                Effect::Answer { request, reply } => self.answer(request, reply),
                Effect::Publish { job, sequence } => {
                    self.invariants.keep.published(sequence);
                    if let Some(core) = &self.core {
                        self.invariants.keep.seen(core, job, &self.invariants.ledger);
                    }
                }
                Effect::Forget(_) => {}
            }
        }
        for worker in touched {
            let session = self.network.current.get(&worker);
            if let Some(session) = session.and_then(|session| self.network.sessions.get(session)) {
                let capacity = &self.workers[session.life.0].node.capacity;
                self.invariants
                    .slot
                    .check_told(worker, capacity, &self.invariants.ledger);
            }
        }
        self.start_append();
        self.set_alarm();
    }

    pub(crate) fn set_alarm(&mut self) {
        let deadline = self.core.as_ref().and_then(Core::next_deadline);
        let Some(deadline) = deadline.map(|deadline| deadline.as_micros() as u64 + 1) else {
            return;
        };
        if self.alarm.is_none_or(|alarm| alarm > deadline) {
            self.alarm = Some(deadline);
            self.agenda.at(deadline, Event::Deadline(self.term));
        }
    }

    pub(crate) fn said(&mut self, session: SessionId, message: FromWorker) {
        if let FromWorker::Join(join) = message {
            if self.network.is_up(session) {
                let address = "10.0.0.1:7000".to_owned();
                self.tell(Input::WorkerJoined {
                    session,
                    address,
                    join: Box::new(join),
                });
            }
            return;
        }
        let Some(worker) = self.network.worker(session) else {
            return;
        };
        match message {
            FromWorker::Join(_) => {}
            FromWorker::Returned { job, grant, range } => self.tell(Input::Returned {
                worker,
                job,
                grant,
                range,
            }),
            FromWorker::CannotRun { job, reason, fatal } => {
                self.invariants.slot.ended(Some(worker), job);
                self.tell(Input::CannotRun {
                    worker,
                    job,
                    reason,
                    fatal,
                });
            }
            FromWorker::HostLost {
                job,
                blamed,
                cause,
                how,
            } => {
                self.invariants.slot.ended(Some(worker), job);
                self.tell(Input::HostLost {
                    worker,
                    job,
                    blamed,
                    cause,
                    how,
                });
            }
            FromWorker::Leaving => self.scheduler_notices(session),
            FromWorker::Draining => {}
        }
    }

    pub(crate) fn scheduler_notices(&mut self, session: SessionId) {
        // a worker that came back has a newer session already
        if let Some(worker) = self.network.worker(session) {
            self.network.current.remove(&worker);
            self.invariants.slot.admitted(worker);
            self.tell(Input::WorkerLost(worker));
        }
    }

    pub(crate) fn start_append(&mut self) {
        if self.storage.start() {
            let micros = self.dice.within(self.weather.append.clone());
            self.agenda.after(micros, Event::AppendEnded(self.term));
        }
    }

    pub(crate) fn append_ended(&mut self, term: Term) {
        if term != self.term || self.core.is_none() {
            return;
        }
        if self.storage.failing {
            return self.agenda.after(200_000, Event::AppendEnded(term));
        }
        if let Some((sequence, records)) = self.storage.finish() {
            self.take_in(&records);
            self.invariants.keep.durable_up_to(sequence);
            self.tell(Input::Appended { sequence });
        }
    }

    /// Records have become durable.
    pub(crate) fn take_in(&mut self, records: &[Record]) {
        let term = self.storage.term;
        records
            .iter()
            .for_each(|record| self.invariants.durable(term, record));
        self.is_over |= self.invariants.live.all_ended(&self.invariants.ledger);
    }
}
