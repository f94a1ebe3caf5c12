//! Where connections come from: a [`Listener`] accepts them, a [`Dialer`] makes them.
//!
//! Both are created inside the caller's tokio runtime and live on it. The listener runs handshakes beside each other and
//! bounds them; whatever goes wrong in one is an [`Accepted::Failed`] for the log and ends nothing else. After a
//! handshake it sends a greeting on a stream of its own, for which the dialler waits (the reason is told in
//! [`error`](crate::error)). Both notice within a second when a peer's process dies and its machine lives (`watch`).

mod dialer;
mod icmp;
mod keys;
mod listener;
mod options;
mod peers;
mod socket;
mod tls;
mod watch;

use std::io;
use std::net::SocketAddr;

use crate::identity::{IdentityError, PeerIdentity};

pub use dialer::Dialer;
pub use keys::EndpointKeys;
pub use listener::{Accepted, Listener};
pub use options::{EndpointOptions, PROTOCOL_VERSION};
pub use socket::SocketBuffers;

pub(crate) use peers::PortClosed;
pub(crate) use watch::{Watch, Watched};

/// What a listener says first, on a one-way stream of its own, to whom it has accepted.
const GREETING: &[u8; 8] = b"phalanx\n";

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system gives no such socket.
    #[error("cannot listen on {address}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The credential's certificate and key cannot be used.
    #[error("the credential cannot be used")]
    Credential(#[from] IdentityError),
    /// An option out of its range.
    #[error("the option `{option}` is out of range")]
    Option {
        /// Its name.
        option: &'static str,
    },
}

/// The identity that the handshake has verified, of a peer that must be of `cluster`.
fn verified_peer(connection: &quinn::Connection, cluster: &str) -> Result<PeerIdentity, IdentityError> {
    type Chain = Vec<rustls::pki_types::CertificateDer<'static>>;
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Chain>().ok());
    let own = chain
        .as_ref()
        .and_then(|chain| chain.first())
        .ok_or(IdentityError::BadCertificate)?;
    let peer = PeerIdentity::from_certificate(own)?;
    match peer.cluster == cluster {
        true => Ok(peer),
        false => Err(IdentityError::NotPhalanx {
            uri: peer.to_string(),
        }),
    }
}
