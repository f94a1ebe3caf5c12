//! The link to another host, between the ranks' threads and the connection's session: what waits to be sent, what was announced to
//! and by the other side, and both accounts. Sends nothing itself.
//!
//! Ranks call it through [`Link`], [`Remote`] and the receipts of messages, at times under a mailbox's lock; so nothing here
//! takes such a lock while it holds its own.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::account::{Account, Admission, Breach, Returns};
use super::helm::Helm;
use super::wire::{Bulk, Frame, Head, Lane, Load};
use crate::ranks::gang::{Link, Notice};
use crate::ranks::matching::Message;
use crate::ranks::payload::{Announced, Encoded, Gone, Payload, Receipt, Remote};

/// Something that the session is to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Frame(Frame),
    /// [`Frame::Eager`] with its bytes.
    Eager(Head, Bytes),
    /// A large message, on a stream of its own.
    Bulk(Bulk, Bytes),
}

/// A large message that was asked for.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The receiver's place.
    pub to: u32,
    pub bytes: usize,
    arrived: OnceLock<Result<Bytes, Gone>>,
}

impl Transfer {
    /// Notes its end. Only the first call counts.
    pub(super) fn end(&self, end: Result<Bytes, Gone>) {
        let _ = self.arrived.set(end);
    }
}

#[derive(Debug, Default)]
struct State {
    /// The host is lost, or told to be, or the gang is over: nothing is sent any more.
    closed: bool,
    /// All ranks of the gang have ended: what is in the outbox is the last.
    finished: bool,
    outbox: Vec<Outgoing>,
    account: Account,
    returns: Returns,
    /// Messages that were announced to the host, by number.
    announced: HashMap<u64, Bytes>,
    /// How many were.
    announced_count: u64,
    /// Messages that the host was asked for.
    awaited: HashMap<u64, Arc<Transfer>>,
}

/// The link to another host.
#[derive(Debug)]
pub(super) struct QuicLink {
    state: Mutex<State>,
    helm: Arc<Helm>,
    /// There is something to send, or no more.
    filled: Notify,
}

impl QuicLink {
    /// A link whose session runs under this helm.
    pub(super) fn new(helm: Arc<Helm>) -> Self {
        QuicLink {
            state: Mutex::default(),
            helm,
            filled: Notify::new(),
        }
    }

    /// Each operation leaves it in order, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, outgoing: Outgoing) {
        let mut state = self.state();
        if !state.closed {
            state.outbox.push(outgoing);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Lets nothing pass any more but what waits to be sent.
    pub(super) fn finish(&self) {
        self.state().finished = true;
        self.filled.notify_one();
    }

    /// Whether it is closed, and not just finished.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits for things to send; nothing if there will be no more.
    pub(super) async fn outgoing(&self) -> Option<Vec<Outgoing>> {
        loop {
            {
                let mut state = self.state();
                if !state.outbox.is_empty() {
                    return Some(mem::take(&mut state.outbox));
                }
                if state.closed || state.finished {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Lets nothing pass any more; who waits for bytes from there is to be rung for.
    pub(super) fn close(&self) {
        let closed = State {
            closed: true,
            ..State::default()
        };
        let old = mem::replace(&mut *self.state(), closed);
        for transfer in old.awaited.values() {
            transfer.end(Err(Gone));
        }
        self.filled.notify_one();
    }

    /// A message has come: the inside of it, and whoever drops that tells the sender.
    ///
    /// # Errors
    /// [`Breach::Flooded`].
    pub(super) fn came(self: &Arc<Self>, head: Head, bytes: Bytes) -> Result<Payload, Breach> {
        self.state().returns.came(bytes.len())?;
        let receipt = self.receipt(head, Load::one(bytes.len(), true));
        Ok(Payload::Encoded(Box::new(Encoded {
            bytes,
            form: head.form,
            receipt: Some(receipt),
        })))
    }

    /// A message was announced: what stands for it.
    pub(super) fn announced(self: &Arc<Self>, head: Head, id: u64, bytes: usize) -> Payload {
        let transfer = Arc::new(Transfer {
            to: head.to,
            bytes,
            arrived: OnceLock::new(),
        });
        Payload::Announced(Box::new(Announced {
            remote: Box::new(Waiting {
                link: Arc::clone(self),
                id,
                asked: OnceLock::new(),
                transfer,
            }),
            form: head.form,
            length_bytes: bytes,
            receipt: self.receipt(head, Load::one(bytes, false)),
        }))
    }

    fn receipt(self: &Arc<Self>, head: Head, load: Load) -> Receipt {
        Box::new(Unreceived {
            link: Arc::clone(self),
            lane: head.lane(),
            load,
        })
    }

    /// The other side asks for a message. Says whether there is one.
    pub(super) fn fetch(&self, id: u64) -> bool {
        let Some(bytes) = self.state().announced.remove(&id) else {
            return false;
        };
        self.post(Outgoing::Bulk(Bulk { id }, bytes));
        true
    }

    /// The other side has thrown a message away. Says whether there was one.
    pub(super) fn forgo(&self, id: u64) -> bool {
        self.state().announced.remove(&id).is_some()
    }

    /// The message with this number, which was asked for, begins to arrive.
    pub(super) fn arriving(&self, id: u64) -> Option<Arc<Transfer>> {
        self.state().awaited.remove(&id)
    }

    /// The other side has received messages: the places that wait for that.
    ///
    /// # Errors
    /// [`Breach::Overdrawn`].
    pub(super) fn returned(&self, returns: Vec<(Lane, Load)>) -> Result<Vec<u32>, Breach> {
        let mut state = self.state();
        let mut waiting = Vec::new();
        for (lane, load) in returns {
            if state.account.returned(lane, load)? {
                waiting.push(lane.sender);
            }
        }
        Ok(waiting)
    }

    /// A rank of the other side waits for room in a lane.
    pub(super) fn press(&self, lane: Lane) {
        let due = self.state().returns.press(lane);
        if due {
            self.tell_returns();
        }
    }

    /// Tells the other side all that was received.
    fn tell_returns(&self) {
        loop {
            let returns = self.state().returns.take();
            if returns.is_empty() {
                return;
            }
            self.post(Outgoing::Frame(Frame::Returns(returns)));
        }
    }
}

impl Link for QuicLink {
    fn carry(&self, place: u32, message: Message) -> Result<(), Message> {
        let envelope = message.envelope;
        let Payload::Encoded(encoded) = message.payload else {
            unreachable!("what goes to another process is encoded");
        };
        let Encoded { bytes, form, receipt } = *encoded;
        let head = Head {
            to: place,
            envelope,
            form,
        };
        let mut state = self.state();
        if state.closed {
            // the notice of the receiver's end is on its way, or was here
            return Ok(());
        }
        let outgoing = match state.account.admit(head.lane(), bytes.len()) {
            Admission::Eager => Outgoing::Eager(head, bytes),
            Admission::Announced => {
                let id = state.announced_count;
                state.announced_count += 1;
                let frame = Frame::Announced {
                    head,
                    id,
                    bytes: bytes.len() as u64,
                };
                state.announced.insert(id, bytes);
                Outgoing::Frame(frame)
            }
            refused @ (Admission::Refused | Admission::RefusedAgain) => {
                drop(state);
                if refused == Admission::Refused {
                    self.post(Outgoing::Frame(Frame::Pressing(head.lane())));
                }
                let payload = Payload::Encoded(Box::new(Encoded { bytes, form, receipt }));
                return Err(Message { envelope, payload });
            }
        };
        state.outbox.push(outgoing);
        Ok(())
    }

    fn push(&self) {
        self.helm.push(&self.filled);
    }

    fn notify(&self, notice: Notice) {
        match notice {
            // senders there know by what is said to be received
            Notice::Room { .. } => {}
            Notice::Ended { .. } | Notice::Revoked { .. } | Notice::Broken { .. } => {
                self.post(Outgoing::Frame(Frame::Notice(notice)));
            }
        }
    }
}

/// A message that is not received yet: its end says that it is.
struct Unreceived {
    link: Arc<QuicLink>,
    lane: Lane,
    load: Load,
}

impl Drop for Unreceived {
    fn drop(&mut self) {
        let due = {
            let mut state = self.link.state();
            !state.closed && state.returns.add(self.lane, self.load)
        };
        if due {
            self.link.tell_returns();
        }
    }
}

/// A message that was announced.
struct Waiting {
    link: Arc<QuicLink>,
    id: u64,
    asked: OnceLock<()>,
    transfer: Arc<Transfer>,
}

impl Remote for Waiting {
    fn fetch(&self) {
        if self.asked.set(()).is_err() {
            return;
        }
        let mut state = self.link.state();
        if state.closed {
            drop(state);
            self.transfer.end(Err(Gone));
            return;
        }
        state.awaited.insert(self.id, Arc::clone(&self.transfer));
        drop(state);
        self.link.post(Outgoing::Frame(Frame::Fetch { id: self.id }));
    }

    fn fetched(&self) -> Option<Result<Bytes, Gone>> {
        self.transfer.arrived.get().cloned()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.asked.get().is_none() {
            self.link.post(Outgoing::Frame(Frame::Forgo { id: self.id }));
        }
    }
}
