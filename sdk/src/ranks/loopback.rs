//! The link between two pretended nodes of one process: everything crosses it encoded, as between machines. It arrives at once, or
//! late, by a [`Courier`](courier::Courier).

mod courier;

use std::sync::{Arc, OnceLock, Weak};

pub(super) use self::courier::{Courier, Desk};
use super::gang::{Gang, Link, Notice};
use super::matching::Message;

/// The way to the gang of another pretended node.
pub(super) struct Loopback {
    node: usize,
    /// Weak since each of two nodes has a link to the other.
    other: OnceLock<Weak<Gang>>,
    /// Who takes it there, if it is to be late.
    desk: Option<Arc<Desk>>,
}

impl Loopback {
    /// The way to the node of that number.
    pub(super) fn new(node: usize, desk: Option<Arc<Desk>>) -> Self {
        Loopback {
            node,
            other: OnceLock::new(),
            desk,
        }
    }

    /// Says where it leads to. Only the first call counts.
    pub(super) fn lead_to(&self, gang: &Arc<Gang>) {
        let _ = self.other.set(Arc::downgrade(gang));
    }

    fn other(&self) -> Weak<Gang> {
        self.other.get().cloned().unwrap_or_default()
    }
}

impl Link for Loopback {
    fn carry(&self, place: u32, message: Message) -> Result<(), Message> {
        if let Some(desk) = &self.desk {
            return desk.carry(self.node, self.other(), place, message);
        }
        let Some(gang) = self.other().upgrade() else {
            return Ok(());
        };
        match gang.mailbox(place) {
            Some(mailbox) => mailbox.deliver(message),
            None => Ok(()),
        }
    }

    fn push(&self) {
        // it has arrived, or does so by itself
    }

    fn notify(&self, notice: Notice) {
        match &self.desk {
            Some(desk) => desk.notify(self.node, self.other(), notice),
            None => self.other().upgrade().iter().for_each(|gang| gang.apply(notice)),
        }
    }
}
