//! The link between two pretended nodes of one process: everything crosses it encoded, as between machines.

use std::sync::{Arc, OnceLock, Weak};

use super::gang::{Gang, Link, Notice};
use super::matching::Message;

/// The way to the gang of another pretended node.
#[derive(Default)]
pub(super) struct Loopback {
    /// Weak since each of two nodes has a link to the other.
    other: OnceLock<Weak<Gang>>,
}

impl Loopback {
    /// Says where it leads to. Only the first call counts.
    pub(super) fn lead_to(&self, gang: &Arc<Gang>) {
        let _ = self.other.set(Arc::downgrade(gang));
    }

    fn other(&self) -> Option<Arc<Gang>> {
        self.other.get()?.upgrade()
    }
}

impl Link for Loopback {
    fn carry(&self, place: u32, message: Message) -> Result<(), Message> {
        let Some(gang) = self.other() else {
            return Ok(());
        };
        match gang.mailbox(place) {
            Some(mailbox) => mailbox.deliver(message),
            None => Ok(()),
        }
    }

    fn push(&self) {
        // it has arrived
    }

    fn notify(&self, notice: Notice) {
        if let Some(gang) = self.other() {
            gang.apply(notice);
        }
    }
}
