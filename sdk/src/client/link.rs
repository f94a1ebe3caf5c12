//! The one connection that a client's requests share, and the way back to one when it is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_protocol::limits::SCHEDULER_ADDRESSES_MAX;
use phalanx_transport::{ConnectError, Connection, Patience, Reconnect};
use tokio::time::Instant;

/// A connection, and whether a request was ever answered on it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    useful: Arc<AtomicBool>,
}

impl Link {
    /// Says that the scheduler answers here: after a loss, its address is tried first and at once.
    pub(super) fn mark_useful(&self) {
        self.useful.store(true, Ordering::Relaxed);
    }

    fn is_useful(&self) -> bool {
        self.useful.load(Ordering::Relaxed)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.useful, &other.useful)
    }
}

/// The links of one client, of which at most one is current.
#[derive(Debug)]
pub(super) struct Links {
    current: Mutex<Option<Link>>,
    /// Held while connecting: one request does it, the others wait for its connection instead of making their own.
    connecting: tokio::sync::Mutex<Connecting>,
    /// What schedulers said since the last attempt to connect.
    told: Mutex<Told>,
}

/// Where schedulers are, as one of them says.
#[derive(Debug, Default)]
struct Told {
    leader: Vec<SocketAddr>,
    others: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Connecting {
    reconnect: Reconnect,
    last: Option<Link>,
}

impl Links {
    pub(super) fn new(reconnect: Reconnect) -> Self {
        Self {
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(Connecting {
                reconnect,
                last: None,
            }),
            told: Mutex::default(),
        }
    }

    /// Takes note of where the leader is, for the next attempt to connect; texts that are no address are passed over.
    pub(super) fn learn_leader(&self, addresses: &[String]) {
        self.told().leader = parsed(addresses);
    }

    /// Takes note of where other schedulers are.
    pub(super) fn learn_others(&self, addresses: &[String]) {
        self.told().others = parsed(addresses);
    }

    /// The current link, or a new one, and whether it is new. Cancel safe.
    pub(super) async fn get(&self, deadline: Instant) -> Result<(Link, bool), ConnectError> {
        if let Some(link) = self.current() {
            return Ok((link, false));
        }
        let mut connecting = self.connecting.lock().await;
        if let Some(link) = self.current() {
            return Ok((link, false));
        }
        if connecting.last.take().is_some_and(|last| last.is_useful()) {
            connecting.reconnect.settled();
        }
        let Told { leader, others } = std::mem::take(&mut *self.told());
        connecting.reconnect.learn(&leader, &others);
        let connection = connecting.reconnect.connect(Patience::Until(deadline)).await?;
        tracing::debug!(?connection, "connected");
        let link = Link {
            connection,
            useful: Arc::default(),
        };
        connecting.last = Some(link.clone());
        *self.lock() = Some(link.clone());
        Ok((link, true))
    }

    /// Makes the next request look for another connection. Streams that run on this one may finish.
    pub(super) fn forget(&self, link: &Link) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| current.is_same(link)) {
            *current = None;
        }
    }

    fn current(&self) -> Option<Link> {
        let current = self.lock();
        let stands = |link: &&Link| link.connection.close_reason().is_none();
        current.as_ref().filter(stands).cloned()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Link>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parsed(addresses: &[String]) -> Vec<SocketAddr> {
    let bounded = addresses.iter().take(SCHEDULER_ADDRESSES_MAX);
    bounded.filter_map(|text| text.parse().ok()).collect()
}
