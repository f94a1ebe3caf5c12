//! A verified connection to one peer: streams of frames, and how it ends.
//!
//! One stream per purpose: QUIC orders bytes within a stream only, so bulk on one never delays a heartbeat on another.
//! The peer learns of an opened stream with its first bytes, not before. Dropping the last clone of a connection and of its streams
//! closes it with [`CloseReason::Dropped`], and closing throws away what is not yet delivered: finish streams and await
//! [`StreamWriter::delivered`] where the last words matter.

mod stream;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use quinn::VarInt;

use crate::endpoint::{PortClosed, Watch, Watched};
use crate::error::ConnectionLost;
use crate::frame::{FrameReader, FrameWriter};
use crate::identity::PeerIdentity;

pub use stream::{RecvHalf, SendHalf};

/// The sending half of a stream to the peer.
pub type StreamWriter = FrameWriter<SendHalf>;
/// The receiving half of a stream from the peer.
pub type StreamReader = FrameReader<RecvHalf>;

/// Bytes of text that travel with a close; it has to fit one packet.
const CLOSE_TEXT_BYTES_MAX: usize = 512;

/// Why a connection or a stream is ended, with codes that never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer let go of the connection without a word (it ended, or dropped its handle).
    Dropped,
    /// Everything was said.
    Done,
    /// The other side sent what the protocol does not allow.
    ProtocolViolation,
    /// The other side may not do what it asked.
    Refused,
    /// The closing process is shutting down.
    Shutdown,
    /// The closing side has no room for this session now.
    Busy,
    /// A newer session of the same peer took this one's place.
    Superseded,
    /// The closing scheduler does not lead, or no longer.
    NotLeader,
    /// The work that this stream was for is cancelled.
    Cancelled,
    /// A fault inside the closing process.
    Internal,
    /// A code of a newer version.
    Other(u64),
}

impl CloseReason {
    /// The reasons with a code, in the order of their codes.
    const CODED: [Self; 10] = [
        Self::Dropped,
        Self::Done,
        Self::ProtocolViolation,
        Self::Refused,
        Self::Shutdown,
        Self::Busy,
        Self::Superseded,
        Self::NotLeader,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The number that travels.
    pub const fn code(self) -> u64 {
        match self {
            Self::Dropped => 0,
            Self::Done => 1,
            Self::ProtocolViolation => 2,
            Self::Refused => 3,
            Self::Shutdown => 4,
            Self::Busy => 5,
            Self::Superseded => 6,
            Self::NotLeader => 7,
            Self::Cancelled => 8,
            Self::Internal => 9,
            Self::Other(code) => code,
        }
    }

    /// The reason with this number.
    pub fn from_code(code: u64) -> Self {
        let index = usize::try_from(code).unwrap_or(usize::MAX);
        Self::CODED.get(index).copied().unwrap_or(Self::Other(code))
    }

    pub(crate) fn to_varint(self) -> VarInt {
        VarInt::from_u64(self.code()).unwrap_or(VarInt::MAX)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "without a reason",
            Self::Done => "done",
            Self::ProtocolViolation => "protocol violation",
            Self::Refused => "refused",
            Self::Shutdown => "shutting down",
            Self::Busy => "busy",
            Self::Superseded => "superseded",
            Self::NotLeader => "not the leader",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal fault",
            Self::Other(code) => return write!(f, "code {code}"),
        })
    }
}

/// What the path to the peer is like now.
#[derive(Debug, Clone, Copy)]
pub struct PathFigures {
    /// Smoothed round trip time, the peer's delay in answering included.
    pub rtt: Duration,
    /// Bytes of one UDP datagram on this path.
    pub mtu_bytes: u16,
    /// Packets sent so far.
    pub sent_packets: u64,
    /// Of those, the ones declared lost.
    pub lost_packets: u64,
    /// Bytes that may be under way at once.
    pub congestion_window_bytes: u64,
}

/// A connection to a peer whose identity is proven. Clones are handles to the same one.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What the clones of a connection and its streams share; the connection is closed with the last of them.
struct Shared {
    quinn: quinn::Connection,
    peer: PeerIdentity,
    /// Whether it was closed here because nobody listens at the other end any more.
    is_port_closed: AtomicBool,
    _watched: Watched,
}

/// Whether the peer of a connection knows that it is over. Does not keep it open.
pub(crate) struct Farewell(Weak<Shared>);

impl Farewell {
    /// The peer has closed it too, which is its answer to ours; or nobody here holds it any more.
    pub(crate) fn is_answered(&self) -> bool {
        let heard = |shared: Arc<Shared>| shared.quinn.stats().frame_rx.connection_close > 0;
        self.0.upgrade().is_none_or(heard)
    }

    /// Nobody here holds the connection any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Shared {
    /// Why the connection ended, in our words.
    fn lost(&self, error: quinn::ConnectionError) -> ConnectionLost {
        let is_closed_here = matches!(error, quinn::ConnectionError::LocallyClosed);
        match is_closed_here && self.is_port_closed.load(Ordering::Relaxed) {
            true => ConnectionLost::PortClosed,
            false => error.into(),
        }
    }
}

impl PortClosed for Shared {
    fn port_is_closed(&self) {
        if self.quinn.close_reason().is_none() {
            self.is_port_closed.store(true, Ordering::Relaxed);
            // in case that it lives nevertheless
            let text = b"nothing was heard from this process, and its port was said to be closed";
            self.quinn.close(CloseReason::Dropped.to_varint(), text);
        }
    }
}

impl Connection {
    pub(crate) fn new(quinn: quinn::Connection, peer: PeerIdentity, watch: &Arc<Watch>) -> Self {
        let shared = |told: &Weak<Shared>| Shared {
            _watched: watch.established(quinn.remote_address(), told.clone()),
            quinn,
            peer,
            is_port_closed: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new_cyclic(shared),
        }
    }

    /// Something to ask whether the peer knows of the end.
    pub(crate) fn farewell(&self) -> Farewell {
        Farewell(Arc::downgrade(&self.shared))
    }

    /// Who the peer is.
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared.peer
    }

    fn writer(&self, stream: quinn::SendStream, frame_bytes_max: usize) -> StreamWriter {
        FrameWriter::new(SendHalf::new(stream, Arc::clone(&self.shared)), frame_bytes_max)
    }

    fn reader(&self, stream: quinn::RecvStream, frame_bytes_max: usize) -> StreamReader {
        FrameReader::new(RecvHalf::new(stream, Arc::clone(&self.shared)), frame_bytes_max)
    }

    /// Where the peer is now; QUIC lets it move.
    pub fn remote_address(&self) -> SocketAddr {
        self.shared.quinn.remote_address()
    }

    /// Opens a stream in both directions; waits while the peer allows no more of them. Frames both ways have at most
    /// `frame_bytes_max` bytes.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn open_bi(
        &self,
        frame_bytes_max: usize,
    ) -> Result<(StreamWriter, StreamReader), ConnectionLost> {
        let (send, recv) = self
            .shared
            .quinn
            .open_bi()
            .await
            .map_err(|lost| self.shared.lost(lost))?;
        Ok((
            self.writer(send, frame_bytes_max),
            self.reader(recv, frame_bytes_max),
        ))
    }

    /// Waits for the peer's next stream in both directions. Cancel safe.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn accept_bi(
        &self,
        frame_bytes_max: usize,
    ) -> Result<(StreamWriter, StreamReader), ConnectionLost> {
        let (send, recv) = self
            .shared
            .quinn
            .accept_bi()
            .await
            .map_err(|lost| self.shared.lost(lost))?;
        Ok((
            self.writer(send, frame_bytes_max),
            self.reader(recv, frame_bytes_max),
        ))
    }

    /// Opens a stream to the peer; waits while it allows no more of them.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn open_uni(&self, frame_bytes_max: usize) -> Result<StreamWriter, ConnectionLost> {
        let stream = self.shared.quinn.open_uni().await;
        let stream = stream.map_err(|lost| self.shared.lost(lost))?;
        Ok(self.writer(stream, frame_bytes_max))
    }

    /// Waits for the peer's next stream in one direction. Cancel safe.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn accept_uni(&self, frame_bytes_max: usize) -> Result<StreamReader, ConnectionLost> {
        let stream = self.shared.quinn.accept_uni().await;
        let stream = stream.map_err(|lost| self.shared.lost(lost))?;
        Ok(self.reader(stream, frame_bytes_max))
    }

    /// Ends the connection at once with a reason and a text for people, cut at 512 bytes. Streams that are not
    /// delivered are lost. The peer hears of it if this process's runtime goes on for a moment (see
    /// [`Listener::close`](crate::Listener::close) and [`Dialer::close`](crate::Dialer::close)).
    pub fn close(&self, reason: CloseReason, text: &str) {
        self.shared.quinn.close(reason.to_varint(), close_text(text));
    }

    /// Waits for the end of the connection. Cancel safe.
    pub async fn closed(&self) -> ConnectionLost {
        self.shared.lost(self.shared.quinn.closed().await)
    }

    /// How the connection ended, if it has.
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        let closed = self.shared.quinn.close_reason();
        closed.map(|error| self.shared.lost(error))
    }

    /// Smoothed round trip time to the peer.
    pub fn rtt(&self) -> Duration {
        self.shared.quinn.rtt()
    }

    /// What the path is like now, for diagnosis.
    pub fn path(&self) -> PathFigures {
        let path = self.shared.quinn.stats().path;
        PathFigures {
            rtt: path.rtt,
            mtu_bytes: path.current_mtu,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            congestion_window_bytes: path.cwnd,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} at {})", self.shared.peer, self.remote_address())
    }
}

/// As much of `text` as travels with a close, cut at a character.
pub(crate) fn close_text(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(CLOSE_TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_stable() {
        for (code, reason) in (0..).zip(CloseReason::CODED) {
            assert_eq!(reason.code(), code);
            assert_eq!(CloseReason::from_code(code), reason);
        }
        assert_eq!(CloseReason::from_code(77), CloseReason::Other(77));
        assert_eq!(CloseReason::from_code(u64::MAX).to_varint(), VarInt::MAX);
    }

    #[test]
    fn a_close_text_is_cut_between_characters() {
        let text = format!("{}ä", "x".repeat(CLOSE_TEXT_BYTES_MAX - 1));
        assert_eq!(close_text(&text).len(), CLOSE_TEXT_BYTES_MAX - 1);
        assert_eq!(close_text("short"), b"short");
    }
}
