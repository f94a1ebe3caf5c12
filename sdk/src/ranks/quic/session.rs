//! The session with another host: sends what its link holds, and gives what comes to the gang. It ends with a cause; the first
//! thing that a host must not send ends it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::codec;
use phalanx_protocol::gang::Peers;
use phalanx_transport::{CloseReason, Connection, ConnectionLost, FrameError, StreamReader, StreamWriter};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::account::Breach;
use super::link::{Outgoing, QuicLink, Transfer};
use super::wire::{Bulk, EAGER_BYTES_MAX, FRAME_BYTES_MAX, Frame, Head};
use crate::ranks::error::Ending;
use crate::ranks::gang::{Gang, Notice};
use crate::ranks::matching::{Message, Trouble};
use crate::ranks::payload::{Gone, Payload};

/// Bytes that are queued before they are handed to the stream.
const FLUSHED_BYTES: usize = 256 << 10;
/// Bytes of a message up to which it is copied out of what came with it: else a short one would keep all that in memory.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Why the session with a host ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// The connection ended.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The stream of frames ended, or cannot be read.
    #[error("{}", with_cause(.0))]
    Stream(FrameError),
    /// The other side sent what it must not.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Another host says that this one is lost.
    #[error("another host of the gang has lost it")]
    Told,
    /// All ranks of the gang have ended.
    #[error("all ranks have ended")]
    Finished,
}

/// The connection's end says more than the stream's.
fn with_cause(error: &FrameError) -> String {
    match error {
        FrameError::Lost(lost) => lost.to_string(),
        FrameError::TooLarge { .. }
        | FrameError::Malformed(_)
        | FrameError::Unencodable(_)
        | FrameError::Truncated { .. }
        | FrameError::Abandoned { .. }
        | FrameError::Io(_) => error.to_string(),
    }
}

impl From<FrameError> for Cause {
    fn from(error: FrameError) -> Self {
        Cause::Stream(error)
    }
}

/// What a host must not send.
#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    /// A frame that cannot be read.
    #[error("it sent a frame that cannot be read")]
    Malformed,
    /// A message between ranks that do not live there and here.
    #[error("it sent a message from rank {sender} to rank {to}, which are not its and ours")]
    Misrouted {
        /// The sender's place.
        sender: u32,
        /// The receiver's place.
        to: u32,
    },
    /// A message of another length than it may have.
    #[error("it sent a message of {bytes} bytes where that cannot be")]
    WrongLength {
        /// Its bytes.
        bytes: u64,
    },
    /// More messages than a lane takes.
    #[error("it sent more messages than rank {to} has room for")]
    Overfull {
        /// The receiver's place.
        to: u32,
    },
    /// A message was named that nobody knows.
    #[error("it named a message {id} that is not known")]
    UnknownMessage {
        /// The number.
        id: u64,
    },
    /// A notice about a rank of which it cannot tell this.
    #[error("it told of an end of rank {place} of which it cannot know")]
    StrangeNotice {
        /// The rank.
        place: u32,
    },
    /// No frames any more.
    #[error("it ended its stream while ranks of it lived")]
    EndedEarly,
    /// Against the accounts.
    #[error(transparent)]
    Breach(#[from] Breach),
}

/// The session with one host.
pub(super) struct Session {
    pub host: u32,
    pub peers: Arc<Peers>,
    pub gang: Arc<Gang>,
    /// The links to all hosts, by number; none to this one.
    pub links: Arc<Vec<Option<Arc<QuicLink>>>>,
    pub link: Arc<QuicLink>,
    pub connection: Connection,
    /// Rung when a rank has ended.
    pub ended: Arc<Notify>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Session(with host {})", self.host)
    }
}

impl Session {
    /// Goes on until the connection ends or has to be ended.
    pub(super) async fn run(self: Arc<Self>, writer: StreamWriter, reader: StreamReader) -> Cause {
        // the first to end names the cause
        let ended = tokio::select! {
            ended = self.read(reader) => ended,
            ended = self.take_bulk() => ended,
            ended = self.write(writer) => ended,
        };
        let cause = ended.err().unwrap_or(Cause::Finished);
        match &cause {
            Cause::Violation(violation) => {
                let text = violation.to_string();
                self.connection.close(CloseReason::ProtocolViolation, &text);
            }
            Cause::Finished => self.connection.close(CloseReason::Done, ""),
            Cause::Told => self.connection.close(CloseReason::Refused, "given up as lost"),
            Cause::Lost(_) | Cause::Stream(_) => self.connection.close(CloseReason::Internal, ""),
        }
        cause
    }

    async fn write(&self, mut writer: StreamWriter) -> Result<(), Cause> {
        let mut transfers = JoinSet::new();
        writer.set_priority(1);
        while let Some(batch) = self.link.outgoing().await {
            for outgoing in batch {
                match outgoing {
                    Outgoing::Frame(frame) => writer.queue(&frame)?,
                    Outgoing::Eager(head, bytes) => writer.queue_parts(&Frame::Eager(head), &bytes)?,
                    Outgoing::Bulk(bulk, bytes) => {
                        transfers.spawn(send_bulk(self.connection.clone(), bulk, bytes));
                    }
                }
                if writer.queued_bytes() >= FLUSHED_BYTES {
                    writer.flush().await?;
                }
            }
            writer.flush().await?;
            // those that have failed did so with the connection
            while transfers.try_join_next().is_some() {}
        }
        match self.link.is_closed() {
            true => Err(Cause::Told),
            false => Ok(writer.delivered().await?),
        }
    }

    async fn read(&self, mut reader: StreamReader) -> Result<(), Cause> {
        while let Some(frame) = reader.recv_bytes().await? {
            let (head, used) = codec::decode_prefix(&frame).map_err(|_| Violation::Malformed)?;
            self.take(head, frame.slice(used..))?;
        }
        let ended = |place| self.gang.ending(place).is_some();
        match self.peers.ranks_of(self.host).all(ended) {
            true => Ok(()),
            false => Err(Violation::EndedEarly.into()),
        }
    }

    fn take(&self, frame: Frame, rest: Bytes) -> Result<(), Violation> {
        if !matches!(frame, Frame::Eager(_)) && !rest.is_empty() {
            return Err(Violation::Malformed);
        }
        match frame {
            Frame::Eager(head) => {
                if rest.len() > EAGER_BYTES_MAX {
                    let bytes = rest.len() as u64;
                    return Err(Violation::WrongLength { bytes });
                }
                let bytes = match rest.len() {
                    0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&rest),
                    _ => rest,
                };
                self.check(&head)?;
                let payload = self.link.came(head, bytes)?;
                self.deliver(head, payload)
            }
            Frame::Announced { head, id, bytes } => {
                self.check(&head)?;
                let length = usize::try_from(bytes).map_err(|_| Violation::WrongLength { bytes })?;
                self.deliver(head, self.link.announced(head, id, length))
            }
            Frame::Fetch { id } if self.link.fetch(id) => Ok(()),
            Frame::Forgo { id } if self.link.forgo(id) => Ok(()),
            Frame::Fetch { id } | Frame::Forgo { id } => Err(Violation::UnknownMessage { id }),
            Frame::Notice(notice) => self.apply(notice),
            Frame::Returns(returns) => {
                for place in self.link.returned(returns)? {
                    self.gang.apply(Notice::Room { place });
                }
                Ok(())
            }
            Frame::Pressing(lane) => {
                self.link.press(lane);
                Ok(())
            }
        }
    }

    fn is_host(&self, place: u32, host: u32) -> bool {
        self.peers.hosts.get(place as usize) == Some(&host)
    }

    /// Whether the message goes from there to here.
    fn check(&self, head: &Head) -> Result<(), Violation> {
        let (sender, to) = (head.envelope.sender, head.to);
        let known = (head.envelope.source as usize) < self.gang.size();
        match known && self.is_host(sender, self.host) && self.is_host(to, self.peers.here) {
            true => Ok(()),
            false => Err(Violation::Misrouted { sender, to }),
        }
    }

    fn deliver(&self, head: Head, payload: Payload) -> Result<(), Violation> {
        let (to, envelope) = (head.to, head.envelope);
        // nobody will receive what comes after that
        let lives = self.gang.ending(to).is_none();
        let mailbox = self.gang.mailbox(to).filter(|_| lives);
        let delivered = mailbox.map(|mailbox| mailbox.deliver(Message { envelope, payload }));
        match delivered {
            Some(Err(_)) => Err(Violation::Overfull { to }),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn apply(&self, notice: Notice) -> Result<(), Violation> {
        let strange = |place| Err(Violation::StrangeNotice { place });
        let here = |place| self.is_host(place, self.peers.here);
        match notice {
            Notice::Ended { place, .. } if self.is_host(place, self.host) => self.gang.apply(notice),
            Notice::Ended {
                place,
                ending: Ending::Lost,
            } => {
                let Some(&host) = self.peers.hosts.get(place as usize).filter(|_| !here(place)) else {
                    return strange(place);
                };
                self.gang.apply(notice);
                // for all hosts or for none: what comes of it now must not be heard any more
                if let Some(link) = self.links.get(host as usize).and_then(Option::as_ref) {
                    link.close();
                }
            }
            Notice::Ended { place, .. } | Notice::Room { place } => return strange(place),
            Notice::Broken {
                trouble: Trouble::Ended { place, .. } | Trouble::Failed { place },
                ..
            } if place as usize >= self.gang.size() => return strange(place),
            Notice::Revoked { .. } | Notice::Broken { .. } => self.gang.apply(notice),
        }
        self.ended.notify_one();
        Ok(())
    }

    async fn take_bulk(&self) -> Result<(), Cause> {
        let mut transfers: JoinSet<Result<(), Cause>> = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni(FRAME_BYTES_MAX) => {
                    let (link, gang) = (Arc::clone(&self.link), Arc::clone(&self.gang));
                    transfers.spawn(receive_bulk(link, gang, stream?));
                }
                Some(ended) = transfers.join_next() => match ended {
                    Ok(ended) => ended?,
                    // never aborted while this goes on, so this is a panic: pass it on
                    Err(error) => if let Ok(panic) = error.try_into_panic() { std::panic::resume_unwind(panic) },
                },
            }
        }
    }
}

async fn send_bulk(connection: Connection, bulk: Bulk, bytes: Bytes) -> Result<(), Cause> {
    let mut writer = connection.open_uni(FRAME_BYTES_MAX).await?;
    writer.queue(&bulk)?;
    Ok(writer.send_rest(bytes).await?)
}

/// Receives a large message that was asked for, and rings for its receiver.
async fn receive_bulk(link: Arc<QuicLink>, gang: Arc<Gang>, mut reader: StreamReader) -> Result<(), Cause> {
    let Some(Bulk { id }) = reader.recv().await? else {
        return Err(Violation::Malformed.into());
    };
    let transfer = link.arriving(id).ok_or(Violation::UnknownMessage { id })?;
    // whatever becomes of this, its receiver does not wait for ever
    let arriving = Arriving { gang, transfer };
    let bytes = reader.recv_rest(arriving.transfer.bytes).await?;
    arriving.transfer.end(Ok(bytes));
    Ok(())
}

/// A message that arrives: its end rings for the receiver.
struct Arriving {
    gang: Arc<Gang>,
    transfer: Arc<Transfer>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // counts only if it has not arrived
        self.transfer.end(Err(Gone));
        let place = self.transfer.to;
        self.gang.apply(Notice::Room { place });
    }
}
