//! What people are told when two processes cannot talk: what was tried, why it failed, and what to do next.
//!
//! A TLS 1.3 client believes the handshake done before the server has looked at its certificate; a refusal then arrives
//! as a closed connection. So a listener greets whom it accepts, a dialler waits for that greeting, and whatever comes
//! in its place is the reason ([`ConnectError`]). The other side of the same events, for the scheduler's log, is
//! [`HandshakeFailure`]. [`ConnectionLost`] is the end of a connection that did stand.

mod alert;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::connection::CloseReason;
use crate::identity::{IdentityError, PeerIdentity};
use alert::Alert;

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionLost {
    /// The peer closed it.
    #[error("the peer closed the connection ({reason}){}", text_after_colon(text))]
    Closed {
        /// Why, for programs.
        reason: CloseReason,
        /// Why, for people; may be empty.
        text: String,
    },
    /// This process closed it.
    #[error("this process closed the connection")]
    ClosedHere,
    /// Nothing arrived for the idle timeout: the peer or the network between is gone.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// Nothing was heard from the peer since its machine said that nobody listens on its port: its process is dead.
    #[error("the peer's process is gone")]
    PortClosed,
    /// The peer's process was restarted and does not know this connection.
    #[error("the peer has restarted")]
    Restarted,
    /// One side broke the rules of QUIC or TLS, or ran out of a resource.
    #[error("the connection failed")]
    Failed(#[source] quinn::ConnectionError),
}

fn text_after_colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

impl From<quinn::ConnectionError> for ConnectionLost {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::Closed {
                reason: CloseReason::from_code(close.error_code.into_inner()),
                text: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            E::LocallyClosed => Self::ClosedHere,
            E::TimedOut => Self::TimedOut,
            E::Reset => Self::Restarted,
            E::VersionMismatch | E::TransportError(_) | E::ConnectionClosed(_) | E::CidsExhausted => {
                Self::Failed(error)
            }
        }
    }
}

/// Why a scheduler could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time.
    #[error("nobody answers at {address} (waited {:.1} s)", waited.as_secs_f64())]
    NoAnswer {
        /// Where.
        address: SocketAddr,
        /// How long.
        waited: Duration,
    },
    /// The machine there says that no process has this port.
    #[error("nothing listens at {address}")]
    PortClosed {
        /// Where.
        address: SocketAddr,
    },
    /// The server's certificate is not from this credential's authority.
    #[error("{address} belongs to another cluster: the authority of `{}` did not issue its certificate", own.cluster)]
    OtherCluster {
        /// Where.
        address: SocketAddr,
        /// The credential that was used.
        own: PeerIdentity,
    },
    /// Somebody of this cluster, but no scheduler, or not of the role that was demanded.
    #[error("{address} does not show the certificate of a scheduler")]
    NotScheduler {
        /// Where.
        address: SocketAddr,
    },
    /// The server's certificate is not valid now.
    #[error("the certificate of the scheduler at {address} is not valid today")]
    ServerExpired {
        /// Where.
        address: SocketAddr,
    },
    /// The server refuses this credential.
    #[error("the scheduler at {address} refused the {} credential of `{}`: {why}", own.role, own.name)]
    CredentialRefused {
        /// Where.
        address: SocketAddr,
        /// The credential that was used.
        own: PeerIdentity,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The two sides speak different protocols.
    #[error("{address} does not speak {own}")]
    VersionDiffers {
        /// Where.
        address: SocketAddr,
        /// This side's protocol and version.
        own: String,
    },
    /// The server takes no more connections now.
    #[error("the scheduler at {address} takes no more connections now")]
    Busy {
        /// Where.
        address: SocketAddr,
    },
    /// The connection ended before the greeting, for another reason.
    #[error("the connection to {address} ended during the handshake")]
    Lost {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: ConnectionLost,
    },
    /// The server's certificate names no Phalanx process.
    #[error("the certificate of {address} cannot be read")]
    BadIdentity {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        #[source]
        cause: IdentityError,
    },
    /// The address cannot be dialled (port 0, say).
    #[error("{address} is not an address that can be reached")]
    BadAddress {
        /// Where.
        address: SocketAddr,
    },
    /// No address was given.
    #[error("no address of a scheduler is known")]
    NoAddress,
    /// This machine gave no socket.
    #[error("no socket can be opened to reach {address}")]
    Socket {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl ConnectError {
    /// Whether trying again without changing anything is pointless.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::OtherCluster { .. }
            | Self::NotScheduler { .. }
            | Self::ServerExpired { .. }
            | Self::CredentialRefused { .. }
            | Self::VersionDiffers { .. }
            | Self::BadIdentity { .. }
            | Self::BadAddress { .. }
            | Self::NoAddress => true,
            // the scheduler looked at who this is, and said no
            Self::Lost { cause, .. } => {
                matches!(
                    cause,
                    ConnectionLost::Closed {
                        reason: CloseReason::Refused,
                        ..
                    }
                )
            }
            Self::NoAnswer { .. } | Self::PortClosed { .. } | Self::Busy { .. } | Self::Socket { .. } => {
                false
            }
        }
    }

    /// The next step for the person who reads the error, for a `hint:` line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoAnswer { .. } => {
                "is the scheduler running there (`phalanx scheduler`), and does a firewall let UDP through?"
            }
            Self::PortClosed { .. } => {
                "is the scheduler running there (`phalanx scheduler`), and on this port?"
            }
            Self::OtherCluster { .. } => "use this cluster's address, or the credential of the other cluster",
            Self::NotScheduler { .. } | Self::BadIdentity { .. } => "give the address of a scheduler",
            Self::ServerExpired { .. } => {
                "check both machines' clocks, then renew the scheduler's credential"
            }
            Self::CredentialRefused { .. } => "ask the cluster's administrator for a new credential",
            Self::VersionDiffers { .. } => "install the same phalanx version on both sides",
            Self::Busy { .. } => "try again in a moment",
            Self::Lost { .. } => "the scheduler's log has the other side of this",
            Self::BadAddress { .. } | Self::NoAddress => "give the scheduler's address as host:port",
            Self::Socket { .. } => "check the limits of open files and of network namespaces",
        }
    }

    /// Words what ended a handshake on the dialling side.
    pub(crate) fn from_quinn(
        error: quinn::ConnectionError,
        address: SocketAddr,
        own: &PeerIdentity,
        protocol: &str,
        waited: Duration,
    ) -> Self {
        let own = own.clone();
        let refused = |why| Self::CredentialRefused {
            address,
            own: own.clone(),
            why,
        };
        match Alert::of(&error) {
            Some(Alert::Here(alert::UNKNOWN_CA | alert::DECRYPT_ERROR)) => {
                return Self::OtherCluster { address, own };
            }
            Some(Alert::Here(alert::BAD_CERTIFICATE | alert::UNSUPPORTED_CERTIFICATE)) => {
                return Self::NotScheduler { address };
            }
            Some(Alert::Here(alert::CERTIFICATE_EXPIRED)) => return Self::ServerExpired { address },
            Some(
                Alert::Here(alert::NO_APPLICATION_PROTOCOL) | Alert::There(alert::NO_APPLICATION_PROTOCOL),
            ) => {
                return Self::VersionDiffers {
                    address,
                    own: protocol.to_owned(),
                };
            }
            Some(Alert::There(code)) => {
                if let Some(why) = alert::credential_fault(code) {
                    return refused(why);
                }
            }
            Some(Alert::Here(_)) | None => {}
        }
        if matches!(error, quinn::ConnectionError::VersionMismatch) {
            return Self::VersionDiffers {
                address,
                own: protocol.to_owned(),
            };
        }
        if matches!(error, quinn::ConnectionError::TimedOut) {
            return Self::NoAnswer { address, waited };
        }
        if alert::is_refusal(&error) {
            return Self::Busy { address };
        }
        Self::Lost {
            address,
            cause: error.into(),
        }
    }
}

/// Why a handshake with somebody who called failed: one line for the scheduler's log.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFailure {
    /// No certificate was shown.
    #[error("no credential was shown")]
    NoCredential,
    /// A certificate of another authority, or out of date.
    #[error("the credential is not accepted: {why}")]
    CredentialRefused {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The caller refused this scheduler's certificate.
    #[error(
        "the caller refused this scheduler's certificate: {why}; its credential may be of another cluster"
    )]
    RefusedHere {
        /// What the caller found.
        why: &'static str,
    },
    /// The caller speaks another protocol version, or another protocol.
    #[error("the caller does not speak {own}")]
    VersionDiffers {
        /// This side's protocol and version.
        own: String,
    },
    /// A verified certificate that names no Phalanx process.
    #[error("the certificate cannot be read")]
    BadIdentity(#[source] IdentityError),
    /// The handshake did not finish in time.
    #[error("the handshake did not finish in time")]
    TimedOut,
    /// Too many handshakes were under way.
    #[error("too many handshakes are under way")]
    Busy,
    /// Anything else.
    #[error("the connection ended during the handshake")]
    Lost(#[source] ConnectionLost),
}

impl HandshakeFailure {
    /// Words what ended a handshake on the listening side.
    pub(crate) fn from_quinn(error: quinn::ConnectionError, protocol: &str) -> Self {
        match Alert::of(&error) {
            Some(
                Alert::Here(alert::NO_APPLICATION_PROTOCOL) | Alert::There(alert::NO_APPLICATION_PROTOCOL),
            ) => {
                return Self::VersionDiffers {
                    own: protocol.to_owned(),
                };
            }
            Some(Alert::Here(alert::CERTIFICATE_REQUIRED)) => return Self::NoCredential,
            Some(Alert::Here(code)) => {
                if let Some(why) = alert::credential_fault(code) {
                    return Self::CredentialRefused { why };
                }
            }
            Some(Alert::There(code)) => {
                if let Some(why) = alert::credential_fault(code) {
                    return Self::RefusedHere { why };
                }
            }
            None => {}
        }
        match matches!(error, quinn::ConnectionError::TimedOut) {
            true => Self::TimedOut,
            false => Self::Lost(error.into()),
        }
    }
}
