//! Who is at the other end of an endpoint's socket, and who of them is in doubt.
//!
//! A hint that a peer's port is closed begins a *doubt*. Whatever arrives from that address dispels it: a living peer
//! answers, because a packet that waits for an answer (a keep-alive at the latest) is sent again until one comes. A doubt
//! that outlives its questions is a verdict. So a hint that is forged, or late, changes nothing for a peer that lives, and
//! a peer that is merely stopped or slow never comes into doubt, since its port is open.
//!
//! The moments come from the caller: no clock and no socket in here.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Datagrams to an established peer that have to stay unanswered. One of them may have been a mere acknowledgement or a
/// probe for larger packets, to which a living peer owes no answer.
const QUESTIONS_MIN: u32 = 2;
/// How long an established peer has for its answer, counted from the last of these questions. It acknowledges within 25 ms
/// and the round trip.
const ANSWER_WAIT: Duration = Duration::from_millis(100);
/// Hints that it takes to give up a dial: the second is about a datagram that was sent after the first one arrived.
const DIAL_HINTS_MIN: u32 = 2;
/// How long whoever is dialled has for its answer, counted from the first hint.
const DIAL_WAIT: Duration = Duration::from_millis(100);

/// What is known of a peer, which decides how soon it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A connection to it is being made.
    Dialled,
    /// A connection to it stands.
    Established,
}

/// Somebody who wants to know that the port of a peer is closed.
pub(crate) trait PortClosed: Send + Sync {
    /// Nothing listens there any more. Called outside of all locks.
    fn port_is_closed(&self);
}

/// The peers of one endpoint by address. A connection is found under the address at which it was made; if QUIC lets
/// the peer move, only the idle timeout notices its end.
#[derive(Debug, Default)]
pub(super) struct Peers {
    table: Mutex<Table>,
    /// Whether anybody is in doubt; spares the common case the lock.
    has_doubts: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<SocketAddr, Vec<Entry>>,
    /// The addresses of entries with a doubt.
    in_doubt: BTreeSet<SocketAddr>,
    next_id: u64,
}

struct Entry {
    id: u64,
    stage: Stage,
    told: Weak<dyn PortClosed>,
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    since: Instant,
    hint_count: u32,
    /// Datagrams sent to the peer since then, up to [`QUESTIONS_MIN`].
    question_count: u32,
    asked_at: Instant,
}

/// Keeps a peer in the table.
#[derive(Debug)]
pub(super) struct Registration {
    peers: Arc<Peers>,
    address: SocketAddr,
    id: u64,
}

impl Peers {
    /// Enters a peer, of whose end `told` wants to know until the registration is dropped.
    pub(super) fn register(
        self: &Arc<Self>,
        address: SocketAddr,
        stage: Stage,
        told: Weak<dyn PortClosed>,
    ) -> Registration {
        let address = plain(address);
        let mut table = self.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.by_address.entry(address).or_default().push(Entry {
            id,
            stage,
            told,
            doubt: None,
        });
        drop(table);
        Registration {
            peers: Arc::clone(self),
            address,
            id,
        }
    }

    /// Whether the moments of sent and received datagrams matter now.
    pub(super) fn has_doubts(&self) -> bool {
        self.has_doubts.load(Ordering::Relaxed)
    }

    /// It is said that nobody listens at `address`.
    pub(super) fn hinted(&self, address: SocketAddr, now: Instant) {
        let address = plain(address);
        let mut table = self.lock();
        let Some(entries) = table.by_address.get_mut(&address) else {
            return;
        };
        for entry in entries {
            let doubt = entry.doubt.get_or_insert(Doubt {
                since: now,
                hint_count: 0,
                question_count: 0,
                asked_at: now,
            });
            doubt.hint_count = doubt.hint_count.saturating_add(1);
        }
        table.in_doubt.insert(address);
        self.has_doubts.store(true, Ordering::Relaxed);
    }

    /// A datagram was sent to `address`.
    pub(super) fn asked(&self, address: SocketAddr, now: Instant) {
        let mut table = self.lock();
        for entry in table.by_address.get_mut(&plain(address)).into_iter().flatten() {
            if let Some(doubt) = &mut entry.doubt
                && doubt.question_count < QUESTIONS_MIN
            {
                doubt.question_count += 1;
                doubt.asked_at = now;
            }
        }
    }

    /// A datagram came from `address`.
    pub(super) fn heard(&self, address: SocketAddr) {
        let address = plain(address);
        let mut table = self.lock();
        for entry in table.by_address.get_mut(&address).into_iter().flatten() {
            entry.doubt = None;
        }
        self.cleared(&mut table, address);
    }

    /// Takes those out of doubt whose port is closed, for the caller to tell them.
    pub(super) fn judge(&self, now: Instant) -> Vec<Arc<dyn PortClosed>> {
        let mut closed = Vec::new();
        let mut table = self.lock();
        for address in table.in_doubt.clone() {
            for entry in table.by_address.get_mut(&address).into_iter().flatten() {
                let stage = entry.stage;
                if let Some(doubt) = entry.doubt.take_if(|doubt| doubt.is_over(stage, now)) {
                    tracing::debug!(%address, ?stage, ?doubt, "nothing listens there any more");
                    closed.extend(entry.told.upgrade());
                }
            }
            self.cleared(&mut table, address);
        }
        closed
    }

    /// Takes `address` from the list of doubts if no entry has one.
    fn cleared(&self, table: &mut Table, address: SocketAddr) {
        let entries = table.by_address.get(&address).into_iter().flatten();
        if entries.filter(|entry| entry.doubt.is_some()).count() == 0 {
            table.in_doubt.remove(&address);
            self.has_doubts
                .store(!table.in_doubt.is_empty(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubt {
    /// Whether the peer had its chance.
    fn is_over(&self, stage: Stage, now: Instant) -> bool {
        match stage {
            Stage::Dialled => {
                self.hint_count >= DIAL_HINTS_MIN && now.saturating_duration_since(self.since) >= DIAL_WAIT
            }
            Stage::Established => {
                self.question_count >= QUESTIONS_MIN
                    && now.saturating_duration_since(self.asked_at) >= ANSWER_WAIT
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.peers.lock();
        if let Some(entries) = table.by_address.get_mut(&self.address) {
            entries.retain(|entry| entry.id != self.id);
            if entries.is_empty() {
                table.by_address.remove(&self.address);
            }
        }
        self.peers.cleared(&mut table, self.address);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {:?}", self.stage, self.id, self.doubt)
    }
}

/// An address in the one form that all sockets and messages share: IPv4 is no IPv6, and there is no scope.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
