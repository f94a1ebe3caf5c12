//! QUIC between Phalanx's processes: who they are, how they meet, and frames on streams.
//!
//! This is the only crate that knows quinn, rustls and certificates. It knows no message: what travels in the frames is
//! any serde value, in the byte form of `phalanx_protocol::codec`.
//!
//! Reading order: [`identity`] (the cluster's authority and its credentials), [`endpoint`] ([`Listener`] and [`Dialer`]),
//! [`connection`], [`frame`], [`reconnect`], [`directory`] (where a program finds its cluster), and [`error`] for what
//! people are told when it does not work.
//!
//! Three promises hold for every connection: TLS 1.3 with both sides proven by the cluster's own authority; the same
//! protocol version on both sides (in the ALPN, so a difference is found in the handshake); and whatever a peer sends
//! ends at most its own session. Memory for a peer is bounded by the receive window and the frame limit.
//!
//! Every process runs one tokio `current_thread` runtime per endpoint and calls this crate from inside it; no runtime is
//! made here. A packet's work takes a few microseconds, and waking another thread for it costs more than that.

pub mod connection;
pub mod directory;
pub mod endpoint;
pub mod error;
pub mod frame;
pub mod identity;
pub mod reconnect;

pub use connection::{CloseReason, Connection, PathFigures, StreamReader, StreamWriter};
pub use directory::{ClusterConfig, ClusterDirectory, DirectoryError, NewCluster};
pub use endpoint::{
    Accepted, BindError, Dialer, EndpointKeys, EndpointOptions, Listener, PROTOCOL_VERSION, SocketBuffers,
};
pub use error::{ConnectError, ConnectionLost, HandshakeFailure};
pub use frame::{FrameError, FrameReader, FrameWriter};
pub use identity::{Authority, Credential, IdentityError, PeerIdentity, Role, WrongRole};
pub use reconnect::{Backoff, Patience, Reconnect};
