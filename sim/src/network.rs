//! The virtual network: sessions between workers and the scheduler. Each stream of a session delivers in order, with
//! random delays, until the session breaks; then everything under way is lost.

use std::collections::BTreeMap;

use phalanx_protocol::WorkerId;
use phalanx_scheduler_core::SessionId;

use crate::event::Life;

/// Streams of a session that keep their order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    ControlUp,
    ReportsUp,
    ControlDown,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) life: Life,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) broken: bool,
    /// When the last message of each stream arrives.
    arrivals: [u64; 3],
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// The session that the scheduler uses for each worker.
    pub(crate) current: BTreeMap<WorkerId, SessionId>,
    opened: u64,
}

impl Network {
    pub(crate) fn open(&mut self, life: Life) -> SessionId {
        self.opened += 1;
        let session = Session {
            life,
            worker: None,
            broken: false,
            arrivals: [0; 3],
        };
        self.sessions.insert(SessionId(self.opened), session);
        SessionId(self.opened)
    }

    /// When a message that is sent now arrives, if it does.
    pub(crate) fn arrival(&mut self, session: SessionId, stream: Stream, earliest: u64) -> Option<u64> {
        let session = self
            .sessions
            .get_mut(&session)
            .filter(|session| !session.broken)?;
        let last = &mut session.arrivals[stream as usize];
        *last = earliest.max(*last);
        Some(*last)
    }

    pub(crate) fn is_up(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| !session.broken)
    }

    /// The worker of a session that the scheduler still listens to.
    pub(crate) fn worker(&self, session: SessionId) -> Option<WorkerId> {
        let worker = self.sessions.get(&session)?.worker?;
        (self.current.get(&worker) == Some(&session)).then_some(worker)
    }

    pub(crate) fn admit(&mut self, session: SessionId, worker: WorkerId) {
        if let Some(admitted) = self.sessions.get_mut(&session) {
            admitted.worker = Some(worker);
            self.current.insert(worker, session);
        }
    }
}
