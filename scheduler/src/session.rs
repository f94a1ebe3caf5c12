//! One task per connection: checks the role, then speaks to a worker or serves a client's streams.

mod client;
mod follow;
mod upload;
mod worker;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_protocol::BlobId;
use phalanx_storage::{Blobs, Directory};
use phalanx_transport::{Accepted, CloseReason, Connection, Listener, Role};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::driver::error_text;
use crate::event::Event;

/// Blobs that a scheduler remembers to have seen on the storage.
const BLOBS_SEEN_MAX: usize = 65_536;

/// What every session needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) blobs: Blobs,
    sessions_made: Arc<AtomicU64>,
    /// Blobs that were seen on the storage; they stay there.
    blobs_seen: Arc<Mutex<BTreeSet<BlobId>>>,
}

impl Context {
    pub(crate) fn new(events: mpsc::Sender<Event>, directory: Arc<Directory>) -> Self {
        let blobs = Blobs::new(Arc::clone(&directory));
        Self {
            events,
            directory,
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
pub(crate) async fn serve(mut listener: Listener, context: Context, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => match accepted {
                None => break,
                Some(Accepted::Connection(connection)) => {
                    sessions.spawn(session(connection, context.clone()));
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

async fn session(connection: Connection, context: Context) {
    match connection.peer().role {
        Role::Worker => worker::session(connection, context).await,
        Role::User | Role::Admin => client::session(connection, context).await,
        Role::Scheduler => {
            let text = "a scheduler credential is for listening; connect with a user's or a worker's";
            connection.close(CloseReason::Refused, text);
        }
    }
}
