//! One task per connection: checks the peer's role, then speaks to a worker or serves a client's streams.
//!
//! Connections outlive leaderships, what is said on them does not: a request is carried out under one leadership or told to
//! go elsewhere ([`standby`]), and a worker's session ends with the leadership that let it in.

mod client;
mod follow;
mod standby;
mod upload;
mod worker;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_protocol::{BlobId, Term};
use phalanx_storage::{Blobs, Store};
use phalanx_transport::{Accepted, CloseReason, Connection, Listener, Role as PeerRole};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::driver::error_text;
use crate::event::Event;
pub(crate) use standby::Desk;

/// Blobs that a scheduler remembers to have seen on the storage.
const BLOBS_SEEN_MAX: usize = 65_536;

/// What this scheduler is now.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Another one leads, or none.
    Standby,
    /// This one leads.
    Leader(Context),
}

impl Role {
    fn term(&self) -> Option<Term> {
        match self {
            Self::Standby => None,
            Self::Leader(context) => Some(context.term),
        }
    }
}

/// What sessions need under one leadership.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) term: Term,
    /// What workers say. It waits while the storage lags.
    pub(crate) events: mpsc::Sender<Event>,
    /// What clients ask.
    pub(crate) requests: mpsc::Sender<Event>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Blobs,
    sessions_made: Arc<AtomicU64>,
    /// Blobs that were seen on the storage; they stay there.
    blobs_seen: Arc<Mutex<BTreeSet<BlobId>>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(
        term: Term,
        (events, requests): (mpsc::Sender<Event>, mpsc::Sender<Event>),
        store: Arc<dyn Store>,
        blobs: Blobs,
    ) -> Self {
        Self {
            term,
            events,
            requests,
            store,
            blobs,
            sessions_made: Arc::default(),
            blobs_seen: Arc::default(),
        }
    }

    /// Which of these the storage lacks. Asks the storage, on a thread for that, only for what it has not seen before.
    async fn missing(&self, mut blobs: Vec<BlobId>) -> Vec<BlobId> {
        blobs.retain(|blob| !self.seen().contains(blob));
        if blobs.is_empty() {
            return blobs;
        }
        let storage = self.blobs.clone();
        let look = move || blobs.into_iter().partition(|&blob| storage.contains(blob));
        let looked = tokio::task::spawn_blocking(look).await;
        let (there, missing): (Vec<BlobId>, Vec<BlobId>) = looked.unwrap_or_default();
        let mut seen = self.seen();
        if seen.len() + there.len() > BLOBS_SEEN_MAX {
            seen.clear();
        }
        seen.extend(there);
        missing
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<BlobId>> {
        self.blobs_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_session(&self) -> phalanx_scheduler_core::SessionId {
        phalanx_scheduler_core::SessionId(self.sessions_made.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Accepts connections until `stop` changes, then closes them all.
pub(crate) async fn serve(mut listener: Listener, desk: Desk, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => match accepted {
                None => break,
                Some(Accepted::Connection(connection)) => {
                    sessions.spawn(session(connection, desk.clone()));
                }
                Some(Accepted::Failed { remote, failure }) => {
                    tracing::warn!(%remote, reason = error_text(&failure), "a caller was not let in");
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    listener.close(CloseReason::Shutdown, "the scheduler stops").await;
    sessions.shutdown().await;
}

async fn session(connection: Connection, desk: Desk) {
    match connection.peer().role {
        PeerRole::Worker => worker::session(connection, desk).await,
        PeerRole::User | PeerRole::Admin => client::session(connection, desk).await,
        // a standby that wants to know whether this process lives; it says nothing, and hears nothing
        PeerRole::Scheduler => drop(connection.closed().await),
    }
}
