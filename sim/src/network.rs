//! The virtual network: links that can be cut one way, and sessions between workers and schedulers. Each stream of a
//! session delivers in order, with random delays, until the session breaks; then everything under way is lost.

use std::collections::BTreeMap;

use phalanx_protocol::{Term, WorkerId};
use phalanx_scheduler_core::SessionId;

use crate::event::{Life, Stint};

/// Who is linked with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Worker(usize),
    Scheduler(usize),
    Client(usize),
    Store,
}

/// Streams of a session that keep their order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    ControlUp,
    ReportsUp,
    ControlDown,
}

/// Ways through a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the scheduler.
    Up,
    /// To the worker.
    Down,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) life: Life,
    pub(crate) stint: Stint,
    /// Of the leader that it is with.
    pub(crate) term: Term,
    pub(crate) worker: Option<WorkerId>,
    /// Nothing arrives any more on this way.
    lost: [bool; 2],
    /// When the last message of each stream arrives.
    arrivals: [u64; 3],
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// Until when nothing gets from one to the other.
    cuts: BTreeMap<(Node, Node), u64>,
    opened: u64,
}

impl Stream {
    fn way(self) -> Way {
        match self {
            Self::ControlUp | Self::ReportsUp => Way::Up,
            Self::ControlDown => Way::Down,
        }
    }
}

impl Session {
    /// Where a way begins and ends.
    fn ends(&self, way: Way) -> (Node, Node) {
        let (worker, scheduler) = (Node::Worker(self.life.0), Node::Scheduler(self.stint.0));
        match way {
            Way::Up => (worker, scheduler),
            Way::Down => (scheduler, worker),
        }
    }

    /// Breaks both ways; `false` if they were broken.
    pub(crate) fn break_off(&mut self) -> bool {
        let lost = std::mem::replace(&mut self.lost, [true; 2]);
        lost != [true; 2]
    }
}

impl Network {
    pub(crate) fn open(&mut self, life: Life, stint: Stint, term: Term) -> SessionId {
        self.opened += 1;
        let session = Session {
            life,
            stint,
            term,
            worker: None,
            lost: [false; 2],
            arrivals: [0; 3],
        };
        self.sessions.insert(SessionId(self.opened), session);
        SessionId(self.opened)
    }

    /// Lets nothing through from one to the other until a time. Returns sessions that do not survive that, with the way
    /// that is cut.
    pub(crate) fn cut(&mut self, from: Node, to: Node, until: u64, is_long: bool) -> Vec<(SessionId, Way)> {
        let cut = self.cuts.entry((from, to)).or_default();
        *cut = until.max(*cut);
        let mut hit = Vec::new();
        for (&id, session) in self.sessions.iter_mut().filter(|_| is_long) {
            for way in [Way::Up, Way::Down] {
                if session.ends(way) == (from, to) && !session.lost[way as usize] {
                    session.lost[way as usize] = true;
                    hit.push((id, way));
                }
            }
        }
        hit
    }

    /// Until when nothing gets from one to the other, if so.
    pub(crate) fn cut_until(&self, from: Node, to: Node, now: u64) -> Option<u64> {
        self.cuts.get(&(from, to)).copied().filter(|&until| until > now)
    }

    /// Whether two can talk with each other.
    pub(crate) fn connects(&self, one: Node, other: Node, now: u64) -> bool {
        self.cut_until(one, other, now).is_none() && self.cut_until(other, one, now).is_none()
    }

    /// When a message that is sent now arrives, if it does.
    pub(crate) fn arrival(&mut self, id: SessionId, stream: Stream, earliest: u64, now: u64) -> Option<u64> {
        let way = stream.way();
        let session = self
            .sessions
            .get(&id)
            .filter(|session| !session.lost[way as usize])?;
        let (from, to) = session.ends(way);
        let held = self.cut_until(from, to, now).unwrap_or(0);
        let session = self.sessions.get_mut(&id)?;
        let last = &mut session.arrivals[stream as usize];
        *last = earliest.max(held).max(*last);
        Some(*last)
    }

    /// Whether what was sent this way still arrives.
    pub(crate) fn is_up(&self, session: SessionId, way: Way) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|session| !session.lost[way as usize])
    }

    pub(crate) fn admit(&mut self, session: SessionId, worker: WorkerId) {
        if let Some(admitted) = self.sessions.get_mut(&session) {
            admitted.worker = Some(worker);
        }
    }

    /// Sessions with a scheduler's stint.
    pub(crate) fn sessions_of(&self, stint: Stint) -> Vec<SessionId> {
        let his = self.sessions.iter().filter(|(_, session)| session.stint == stint);
        his.map(|(&id, _)| id).collect()
    }
}
