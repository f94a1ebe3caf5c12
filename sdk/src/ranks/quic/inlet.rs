//! What comes from another host, frame by frame, into the gang: the first thing that the host must not send is refused. No
//! connection is known here.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::codec;
use phalanx_protocol::gang::Peers;
use tokio::sync::Notify;

use super::account::Breach;
use super::link::QuicLink;
use super::wire::{EAGER_BYTES_MAX, Frame, Head};
use crate::ranks::error::Ending;
use crate::ranks::gang::{Gang, Notice};
use crate::ranks::matching::{Message, Trouble};
use crate::ranks::payload::Payload;

/// Bytes of a message up to which it is copied out of what came with it: else a short one would keep all that in memory.
const COPIED_BYTES_MAX: usize = 4 << 10;

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

/// Where the frames of one host go.
pub(super) struct Inlet {
    pub host: u32,
    pub peers: Arc<Peers>,
    pub gang: Arc<Gang>,
    /// The links to all hosts, by number; none to this one.
    pub links: Arc<Vec<Option<Arc<QuicLink>>>>,
    pub link: Arc<QuicLink>,
    /// Rung when a rank has ended.
    pub ended: Arc<Notify>,
}

impl fmt::Debug for Inlet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Inlet(of host {})", self.host)
    }
}

impl Inlet {
    /// Takes a frame in, with the bytes that follow it.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn take(&self, frame: &Bytes) -> Result<(), Violation> {
        let (head, used) = codec::decode_prefix(frame).map_err(|_| Violation::Malformed)?;
        self.apply_frame(head, frame.slice(used..))
    }

    /// No frames come any more.
    ///
    /// # Errors
    /// [`Violation::EndedEarly`].
    pub(super) fn end(&self) -> Result<(), Violation> {
        let ended = |place| self.gang.ending(place).is_some();
        match self.peers.ranks_of(self.host).all(ended) {
            true => Ok(()),
            false => Err(Violation::EndedEarly),
        }
    }

    fn apply_frame(&self, frame: Frame, rest: Bytes) -> Result<(), Violation> {
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
                // nothing in memory is longer
                let length = usize::try_from(bytes)
                    .ok()
                    .filter(|&bytes| bytes <= isize::MAX as usize);
                let length = length.ok_or(Violation::WrongLength { bytes })?;
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
}
