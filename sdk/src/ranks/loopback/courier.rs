//! Delays between pretended nodes: whatever crosses from one to another waits a random time, drawn from a seed, for one thread
//! that delivers all of it. What one thread gives to one link keeps its order, as [`Link`] demands; all else may change places.
//!
//! Nobody sees from its mailbox how much is still under way to it, so the desk counts what of each lane is not received yet.
//!
//! [`Link`]: crate::ranks::gang::Link

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crate::ranks::delays::Delays;
use crate::ranks::envelope::Context;
use crate::ranks::gang::{Gang, Notice};
use crate::ranks::matching::{LANE_MESSAGES_MAX, Message};
use crate::ranks::payload::Payload;

/// What crosses.
enum Parcel {
    Message(u32, Message),
    Notice(Notice),
}

/// The messages of one rank to another in one context.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    context: Context,
    source: u32,
    sender: u32,
    place: u32,
}

#[derive(Default)]
struct Open {
    /// Messages that are not received.
    messages: usize,
    /// The sender waits for room.
    refused: bool,
}

struct Shelf {
    delays: Delays,
    /// What is under way to which gang, by the time at which it is due, then by the order in which it was given.
    parcels: BTreeMap<(Instant, u64), (Weak<Gang>, Parcel)>,
    given_count: u64,
    /// When the last is due that a thread has given for a node.
    last_due: HashMap<(ThreadId, usize), Instant>,
    lanes: BTreeMap<Lane, Open>,
    is_closed: bool,
}

/// Where links give what is to be delivered.
pub(in crate::ranks) struct Desk {
    shelf: Mutex<Shelf>,
    change: Condvar,
    /// The gang as each node sees it.
    gangs: OnceLock<Vec<Weak<Gang>>>,
}

impl Desk {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whose messages it takes. Only the first call counts.
    pub(in crate::ranks) fn serve(&self, gangs: &[Arc<Gang>]) {
        let _ = self.gangs.set(gangs.iter().map(Arc::downgrade).collect());
    }

    /// Takes a message to a rank of that node, or gives it back where too many are not received.
    pub(super) fn carry(
        self: &Arc<Self>,
        node: usize,
        gang: Weak<Gang>,
        place: u32,
        mut message: Message,
    ) -> Result<(), Message> {
        let envelope = message.envelope;
        let lane = Lane {
            context: envelope.context,
            source: envelope.source,
            sender: envelope.sender,
            place,
        };
        let mut shelf = self.shelf();
        let open = shelf.lanes.entry(lane).or_default();
        if open.messages >= LANE_MESSAGES_MAX {
            open.refused = true;
            return Err(message);
        }
        if let Payload::Encoded(encoded) = &mut message.payload {
            open.messages += 1;
            let desk = Arc::downgrade(self);
            encoded.receipt = Some(Box::new(Receipt { desk, lane }));
        }
        self.put(shelf, node, gang, Parcel::Message(place, message));
        Ok(())
    }

    /// Takes a notice to that node.
    pub(super) fn notify(&self, node: usize, gang: Weak<Gang>, notice: Notice) {
        self.put(self.shelf(), node, gang, Parcel::Notice(notice));
    }

    fn put(&self, mut shelf: MutexGuard<'_, Shelf>, node: usize, gang: Weak<Gang>, parcel: Parcel) {
        let due = Instant::now() + shelf.delays.next();
        let last = shelf
            .last_due
            .entry((thread::current().id(), node))
            .or_insert(due);
        *last = due.max(*last);
        let due = *last;
        shelf.given_count += 1;
        let number = shelf.given_count;
        shelf.parcels.insert((due, number), (gang, parcel));
        self.change.notify_one();
    }

    /// Waits until something is due; nothing once the desk is closed.
    fn next(&self) -> Option<(Weak<Gang>, Parcel)> {
        let mut shelf = self.shelf();
        while !shelf.is_closed {
            let now = Instant::now();
            shelf = match shelf.parcels.first_entry() {
                Some(first) if first.key().0 <= now => return Some(first.remove()),
                Some(first) => {
                    let patience = first.key().0 - now;
                    let waited = self.change.wait_timeout(shelf, patience);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.change.wait(shelf).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }

    fn deliver_all(&self) {
        while let Some((gang, parcel)) = self.next() {
            let Some(gang) = gang.upgrade() else { continue };
            match parcel {
                Parcel::Notice(notice) => gang.apply(notice),
                Parcel::Message(place, message) => {
                    let full = gang
                        .mailbox(place)
                        .and_then(|mailbox| mailbox.deliver(message).err());
                    debug_assert!(full.is_none(), "a lane holds what was not received");
                }
            }
        }
    }

    fn received(&self, lane: Lane) {
        let mut shelf = self.shelf();
        let Some(open) = shelf.lanes.get_mut(&lane) else {
            return;
        };
        open.messages -= 1;
        let was_refused = std::mem::take(&mut open.refused);
        drop(shelf);
        if was_refused {
            let place = lane.sender;
            let gangs = self.gangs.get().into_iter().flatten();
            gangs
                .filter_map(Weak::upgrade)
                .for_each(|gang| gang.apply(Notice::Room { place }));
        }
    }
}

/// Says by its end that a message was received or thrown away.
struct Receipt {
    desk: Weak<Desk>,
    lane: Lane,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.upgrade() {
            desk.received(self.lane);
        }
    }
}

/// The thread that delivers. Its end is that of all that is under way.
pub(in crate::ranks) struct Courier {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Courier {
    /// # Errors
    /// If the system gives no thread.
    pub(in crate::ranks) fn start(seed: u64) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            shelf: Mutex::new(Shelf {
                delays: Delays::new(seed),
                parcels: BTreeMap::new(),
                given_count: 0,
                last_due: HashMap::new(),
                lanes: BTreeMap::new(),
                is_closed: false,
            }),
            change: Condvar::new(),
            gangs: OnceLock::new(),
        });
        let builder = thread::Builder::new().name("courier".to_owned());
        let delivering = Arc::clone(&desk);
        let thread = Some(builder.spawn(move || delivering.deliver_all())?);
        Ok(Courier { desk, thread })
    }

    pub(in crate::ranks) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let mut shelf = self.desk.shelf();
        shelf.is_closed = true;
        let rest = std::mem::take(&mut shelf.parcels);
        drop(shelf);
        // whose receipts want the desk
        drop(rest);
        self.desk.change.notify_one();
        if let Some(thread) = self.thread.take() {
            // a panic of it has said itself what it is
            let _ = thread.join();
        }
    }
}
