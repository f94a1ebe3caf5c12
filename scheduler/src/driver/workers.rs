//! The conversation with workers: who they are, what they say, and what they are told.

use phalanx_protocol::WorkerId;
use phalanx_protocol::limits::SCHEDULER_ADDRESSES_MAX;
use phalanx_protocol::message::worker::{FromWorker, Join, ToWorker};
use phalanx_scheduler_core::{HostPort, Input, SessionId};

use super::Driver;
use crate::event::{Admitted, WorkerLink};

impl Driver {
    pub(super) fn on_join(&mut self, session: SessionId, address: String, join: Box<Join>, link: WorkerLink) {
        tracing::info!(name = join.name, address, capacity = %join.capacity, "worker joins");
        self.joining.insert(session, link);
        self.tell(Input::WorkerJoined {
            session,
            address,
            join,
        });
    }

    pub(super) fn on_said(&mut self, session: SessionId, message: FromWorker) {
        let Some(worker) = self.worker_of(session) else {
            return;
        };
        match message {
            FromWorker::Returned { job, grant, range } => self.tell(Input::Returned {
                worker,
                job,
                grant,
                range,
            }),
            FromWorker::Stopped { job, grant, range } => self.tell(Input::Stopped {
                worker,
                job,
                grant,
                range,
            }),
            FromWorker::CannotRun { job, reason, fatal } => {
                tracing::warn!(%worker, %job, reason, "worker cannot run job");
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
                tracing::warn!(%worker, %job, ?blamed, %cause, how, "kernel host died");
                self.tell(Input::HostLost {
                    worker,
                    job,
                    blamed,
                    cause,
                    how,
                });
            }
            FromWorker::Leaving => {
                tracing::info!(%worker, "worker leaves");
                self.forget(session);
            }
            FromWorker::Draining => {
                tracing::info!(%worker, "worker will leave");
                self.tell(Input::WorkerDraining(worker));
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
                self.tell(Input::HostListens { worker, job, said });
            }
            FromWorker::Join(_) => tracing::warn!(%worker, "a worker that has joined joins again; ignored"),
        }
    }

    pub(super) fn on_gone(&mut self, session: SessionId, orderly: bool) {
        match self.forget(session) {
            Some(worker) if orderly => tracing::info!(%worker, "worker has left"),
            Some(worker) => tracing::warn!(%worker, "worker is lost"),
            None => {}
        }
    }

    /// Ends a session; returns its worker if it had one that has no newer session.
    fn forget(&mut self, session: SessionId) -> Option<WorkerId> {
        self.joining.remove(&session);
        let worker = self.admitted.remove(&session)?.worker;
        if self.sessions.get(&worker) != Some(&session) {
            return None;
        }
        self.sessions.remove(&worker);
        self.tell(Input::WorkerLost(worker));
        Some(worker)
    }

    pub(super) fn worker_of(&self, session: SessionId) -> Option<WorkerId> {
        let worker = self.admitted.get(&session)?.worker;
        (self.sessions.get(&worker) == Some(&session)).then_some(worker)
    }

    pub(super) fn admit(&mut self, session: SessionId, worker: WorkerId) {
        let Some(link) = self.joining.remove(&session) else {
            return;
        };
        if let Some(former) = self.sessions.insert(worker, session) {
            self.admitted.remove(&former);
        }
        tracing::info!(%worker, "worker has joined");
        self.admitted.insert(
            session,
            Admitted {
                worker,
                messages: link.messages,
            },
        );
    }

    /// Where the cluster's schedulers are, this one first.
    pub(super) fn all_addresses(&self) -> Vec<String> {
        let roster = self.roster.borrow();
        let all = self.addresses.iter().chain(&roster.living);
        all.take(SCHEDULER_ADDRESSES_MAX).cloned().collect()
    }

    pub(super) fn tell_addresses_to_all(&mut self) {
        let addresses = self.all_addresses();
        if self.addresses_told == addresses {
            return;
        }
        for worker in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.send(worker, ToWorker::Schedulers(addresses.clone()));
        }
        self.addresses_told = addresses;
    }

    pub(super) fn send(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(session) = self.sessions.get(&worker).copied() else {
            return;
        };
        let Some(admitted) = self.admitted.get(&session) else {
            return;
        };
        if admitted.messages.try_send(message).is_err() {
            tracing::warn!(%worker, "worker does not read its messages; giving it up");
            self.on_gone(session, false);
        }
    }
}
