//! A leader's driver: tells the real core what happened, and carries out what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_protocol::record::Record;
use phalanx_protocol::{IndexRange, JobId, WorkerId};
use phalanx_scheduler_core::{Effect, HostPort, Input, Now, SessionId};

use crate::cluster::Cluster;
use crate::event::Event;
use crate::invariants::Invariants;
use crate::invariants::gang::met;
use crate::scheduler::note;

/// When a run begins, in milliseconds since 1970.
pub(crate) const UNIX_START_MILLIS: u64 = 1_700_000_000_000;

/// Ranks that are granted together, and to whom.
type Ranks = (Vec<IndexRange>, BTreeSet<WorkerId>);

impl Cluster {
    pub(crate) fn now(&self, place: usize) -> Now {
        let scheduler = &self.schedulers[place];
        let micros = self.agenda.now.saturating_sub(scheduler.frozen_micros);
        let unix_millis = UNIX_START_MILLIS + micros / 1000;
        // somebody sets the clocks when faults stop
        let wrong = if self.storm_lasts() {
            scheduler.wall_offset_millis
        } else {
            0
        };
        Now {
            elapsed: Duration::from_micros(micros),
            unix_millis: unix_millis.saturating_add_signed(wrong),
        }
    }

    /// Tells a leader's core what happened; nothing if the scheduler does not lead.
    pub(crate) fn tell(&mut self, place: usize, input: Input) {
        let now = self.now(place);
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let mut effects = Vec::new();
        leader.core.handle(now, input, &mut effects);
        leader.core.check();
        self.carry_out(place, effects);
    }

    pub(crate) fn carry_out(&mut self, place: usize, effects: Vec<Effect>) {
        let mut touched = Vec::new();
        let mut records = Vec::new();
        let mut ranks: BTreeMap<JobId, Ranks> = BTreeMap::new();
        for effect in effects {
            let Some(leader) = self.schedulers[place].leader_mut() else {
                return;
            };
            let term = leader.term;
            match effect {
                Effect::Append { sequence, record } => {
                    note(&mut leader.specs, &record);
                    if let Record::JobFinished { job, .. } = &record {
                        self.invariants.slot.ended(term, None, *job);
                    }
                    records.push((sequence, record));
                }
                Effect::Admit { session, worker } => {
                    if leader.current.insert(worker, session).is_some() {
                        self.invariants.blame.worker_came_anew();
                    }
                    self.network.admit(session, worker);
                    self.invariants.slot.admitted(term, worker);
                }
                Effect::Reject { session, .. } => self.break_session(session),
                Effect::Send { worker, message } => {
                    if let ToWorker::SetSlots { job, slots } = message {
                        self.invariants.slot.told(term, worker, job, slots);
                        touched.push(worker);
                    }
                    if let ToWorker::Grant { job, range, .. } = message {
                        let spec = &leader.specs[&job];
                        self.invariants.keep.granted(job, spec, &self.invariants.ledger);
                        if spec.gang.is_some() {
                            let (ranges, workers) = ranks.entry(job).or_default();
                            ranges.push(range);
                            workers.insert(worker);
                        }
                    }
                    if let ToWorker::GangAddresses { epoch, addresses, .. } = &message {
                        met(*epoch, addresses);
                        self.invariants
                            .blame
                            .endings
                            .insert("hosts of a gang met".to_owned());
                    }
                    self.send_to_worker(place, worker, message);
                }
                Effect::Answer { request, reply } => self.answer(place, request, *reply),
                Effect::Publish { job, sequence } => {
                    self.invariants.keep.published(leader, sequence);
                    self.invariants
                        .keep
                        .seen(&leader.core, job, &self.invariants.ledger);
                }
                Effect::Forget(_) => {}
            }
        }
        let Some(leader) = self.schedulers[place].leader() else {
            return;
        };
        let term = leader.term;
        for (job, (ranges, workers)) in ranks {
            let Invariants { gangs, ledger, .. } = &mut self.invariants;
            gangs.granted(ledger, term, job, &ranges);
            if workers.len() > 1 {
                self.invariants.blame.endings.insert("wide gang".to_owned());
            }
        }
        let Some(leader) = self.schedulers[place].leader() else {
            return;
        };
        for worker in touched {
            let session = leader.current.get(&worker);
            if let Some(session) = session.and_then(|session| self.network.sessions.get(session)) {
                let node = &self.workers[session.life.0].node;
                self.invariants.slot.check_told(leader, worker, node);
            }
        }
        self.append(place, records);
        self.set_alarm(place);
    }

    fn set_alarm(&mut self, place: usize) {
        let stint = (place, self.schedulers[place].stint);
        let frozen = self.schedulers[place].frozen_micros;
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let deadline = leader.core.next_deadline();
        let Some(deadline) = deadline.map(|deadline| deadline.as_micros() as u64 + 1 + frozen) else {
            return;
        };
        if leader.alarm.is_none_or(|alarm| alarm > deadline) {
            leader.alarm = Some(deadline);
            self.agenda.at(deadline, Event::Deadline(stint));
        }
    }

    pub(crate) fn deadline(&mut self, place: usize) {
        if let Some(leader) = self.schedulers[place].leader_mut() {
            leader.alarm = None;
            self.tell(place, Input::Ticked);
        }
    }

    pub(crate) fn reported(&mut self, place: usize, session: SessionId, report: Report) {
        if let Some(worker) = self.worker_of(place, session) {
            let report = Box::new(report);
            self.tell(place, Input::Reported { worker, report });
        }
    }

    pub(crate) fn said(&mut self, place: usize, session: SessionId, message: FromWorker) {
        if let FromWorker::Join(join) = message {
            let address = "10.0.0.1:7000".to_owned();
            let join = Box::new(join);
            return self.tell(
                place,
                Input::WorkerJoined {
                    session,
                    address,
                    join,
                },
            );
        }
        let Some(worker) = self.worker_of(place, session) else {
            return;
        };
        let term = self.network.sessions[&session].term;
        match message {
            FromWorker::Join(_) => {}
            FromWorker::Returned { job, grant, range } => self.tell(
                place,
                Input::Returned {
                    worker,
                    job,
                    grant,
                    range,
                },
            ),
            FromWorker::Stopped { job, grant, range } => self.tell(
                place,
                Input::Stopped {
                    worker,
                    job,
                    grant,
                    range,
                },
            ),
            FromWorker::CannotRun { job, reason, fatal } => {
                self.invariants.slot.ended(term, Some(worker), job);
                self.tell(
                    place,
                    Input::CannotRun {
                        worker,
                        job,
                        reason,
                        fatal,
                    },
                );
            }
            FromWorker::HostLost {
                job,
                blamed,
                cause,
                how,
            } => {
                self.invariants.slot.ended(term, Some(worker), job);
                self.tell(
                    place,
                    Input::HostLost {
                        worker,
                        job,
                        blamed,
                        cause,
                        how,
                    },
                );
            }
            FromWorker::GangPort {
                job,
                epoch,
                node,
                nodes,
                port,
            } => {
                let said = HostPort {
                    epoch,
                    node,
                    nodes,
                    port,
                };
                self.tell(place, Input::HostListens { worker, job, said });
            }
            FromWorker::Leaving => self.worker_is_gone(place, worker),
            FromWorker::Draining => self.tell(place, Input::WorkerDraining(worker)),
        }
    }

    pub(crate) fn scheduler_notices(&mut self, place: usize, session: SessionId) {
        // a worker that came back has a newer session already
        let Some(worker) = self.worker_of(place, session) else {
            return;
        };
        self.worker_is_gone(place, worker);
    }

    /// A worker may not come back. What it ran is lost, also if it was stopped and said so.
    fn worker_is_gone(&mut self, place: usize, worker: WorkerId) {
        self.invariants.blame.worker_lost();
        if let Some(leader) = self.schedulers[place].leader_mut() {
            leader.current.remove(&worker);
            self.invariants.slot.admitted(leader.term, worker);
            self.tell(place, Input::WorkerLost(worker));
        }
    }

    /// The worker of a session that the leader still listens to.
    fn worker_of(&self, place: usize, session: SessionId) -> Option<WorkerId> {
        let worker = self.network.sessions.get(&session)?.worker;
        self.schedulers[place].leader()?.worker(session, worker)
    }
}
