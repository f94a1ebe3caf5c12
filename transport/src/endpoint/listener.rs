//! Accepts connections: one socket, many handshakes at a time, and no handshake that disturbs another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    BindError, EndpointKeys, EndpointOptions, GREETING, SocketBuffers, Watch, socket, tls, verified_peer,
    watch,
};
use crate::connection::{CloseReason, Connection, close_text};
use crate::error::HandshakeFailure;
use crate::identity::Credential;

/// Handshakes under way before callers must first prove that they receive at their address (a QUIC retry).
const HANDSHAKES_BEFORE_RETRY: usize = 256;
/// Handshakes under way before callers are refused.
const HANDSHAKES_MAX: usize = 4096;
/// Bytes kept for one caller before its handshake begins; a client's first flight is a few datagrams.
const INCOMING_BYTES_MAX: u64 = 64 << 10;
/// Bytes kept for all callers whose handshake has not begun.
const INCOMING_BYTES_TOTAL_MAX: u64 = 16 << 20;
/// How long [`Listener::close`] waits for peers to take notice.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Time between two stateless resets. The default of 20 ms would take minutes to tell 10,000 workers of a restart.
const RESET_INTERVAL_MIN: Duration = Duration::from_micros(50);

/// What came of one caller.
#[derive(Debug)]
pub enum Accepted {
    /// A peer whose credential this cluster's authority issued. What it may do is the caller's to check.
    Connection(Connection),
    /// A caller that got no connection, for the log.
    Failed {
        /// Whence it came.
        remote: SocketAddr,
        /// Why.
        failure: HandshakeFailure,
    },
}

/// A UDP port that accepts connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    watch: Arc<Watch>,
    buffers: SocketBuffers,
    protocol: Arc<str>,
    cluster: Arc<str>,
    handshake_timeout: Duration,
    handshakes: JoinSet<Accepted>,
}

impl Listener {
    /// Listens on `address` (port 0: any free one) with default settings. To be called inside a tokio runtime, on which
    /// the listener and its connections then live.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(address: SocketAddr, credential: &Credential) -> Result<Self, BindError> {
        Self::bind_with(address, credential, &EndpointOptions::default(), None)
    }

    /// Listens on `address` with other settings; with `keys` that survive a restart, peers of the former process learn
    /// of the restart at once.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind_with(
        address: SocketAddr,
        credential: &Credential,
        options: &EndpointOptions,
        keys: Option<&EndpointKeys>,
    ) -> Result<Self, BindError> {
        let socket_error = |cause| BindError::Socket { address, cause };
        let (socket, buffers) = socket::bind(address, options.socket_buffer_bytes).map_err(socket_error)?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls::server(credential, &options.protocol)?));
        server
            .transport_config(options.transport(buffers)?)
            .max_incoming(HANDSHAKES_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
        let mut config = match keys {
            Some(keys) => EndpointConfig::new(Arc::new(keys.reset_key())),
            None => EndpointConfig::default(),
        };
        if let Some(key) = keys.map(EndpointKeys::connection_id_key) {
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
        }
        config
            .min_reset_interval(RESET_INTERVAL_MIN)
            .max_udp_payload_size(options.udp_payload_bytes_within(buffers))
            .map_err(|_| BindError::Option {
                option: "udp_payload_bytes_max",
            })?;
        let (endpoint, watch) = watch::open(config, Some(server), socket).map_err(socket_error)?;
        Ok(Self {
            endpoint,
            watch,
            buffers,
            protocol: options.protocol.as_str().into(),
            cluster: credential.identity().cluster.as_str().into(),
            handshake_timeout: options.handshake_timeout,
            handshakes: JoinSet::new(),
        })
    }

    /// The address that it listens on, with the port that the system chose.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What the system granted for the socket's buffers.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Waits for the next caller whose handshake has ended, well or not; `None` once the listener is closed.
    ///
    /// Handshakes go on only while this is being awaited now and then. Cancel safe.
    pub async fn accept(&mut self) -> Option<Accepted> {
        loop {
            tokio::select! {
                Some(ended) = self.handshakes.join_next() => match ended {
                    Ok(accepted) => return Some(accepted),
                    // handshakes are never aborted while the listener lives, so this is a panic: pass it on
                    Err(error) => if let Ok(panic) = error.try_into_panic() { std::panic::resume_unwind(panic) },
                },
                incoming = self.endpoint.accept() => match incoming {
                    None => return None,
                    Some(incoming) => if let Some(refused) = self.admit(incoming) { return Some(refused) },
                },
            }
        }
    }

    /// Starts a handshake, or asks for a proof of address, or refuses, by how many are under way.
    fn admit(&mut self, incoming: Incoming) -> Option<Accepted> {
        let remote = incoming.remote_address();
        let under_way = self.handshakes.len();
        if under_way >= HANDSHAKES_MAX {
            incoming.refuse();
            return Some(Accepted::Failed {
                remote,
                failure: HandshakeFailure::Busy,
            });
        }
        if under_way >= HANDSHAKES_BEFORE_RETRY && incoming.may_retry() {
            // fails only when a retry is not allowed, which was just asked
            let _ = incoming.retry();
            return None;
        }
        let (protocol, cluster) = (Arc::clone(&self.protocol), Arc::clone(&self.cluster));
        let (limit, watch) = (self.handshake_timeout, Arc::clone(&self.watch));
        self.handshakes.spawn(async move {
            let handshake = timeout(limit, handshake(incoming, &protocol, &cluster, &watch)).await;
            match handshake.unwrap_or(Err(HandshakeFailure::TimedOut)) {
                Ok(connection) => Accepted::Connection(connection),
                Err(failure) => Accepted::Failed { remote, failure },
            }
        });
        None
    }

    /// Closes every connection with a reason, and waits at most a second for the peers to take notice. Nothing is
    /// accepted any more.
    pub async fn close(&self, reason: CloseReason, text: &str) {
        self.endpoint.close(reason.to_varint(), close_text(text));
        // whoever has not heard by then finds out by the idle timeout
        let _ = timeout(CLOSE_WAIT, self.endpoint.wait_idle()).await;
    }
}

/// Finishes one handshake, reads who the caller is, and greets.
async fn handshake(
    incoming: Incoming,
    protocol: &str,
    cluster: &str,
    watch: &Arc<Watch>,
) -> Result<Connection, HandshakeFailure> {
    let failed = |error| HandshakeFailure::from_quinn(error, protocol);
    let connection = incoming.accept().map_err(failed)?.await.map_err(failed)?;
    let peer = verified_peer(&connection, cluster).map_err(HandshakeFailure::BadIdentity)?;
    let mut greeting = connection.open_uni().await.map_err(failed)?;
    // if this fails the connection has ended, and its first user finds out why
    let _ = greeting.write_all(GREETING).await;
    let _ = greeting.finish();
    Ok(Connection::new(connection, peer, watch))
}
