//! Makes connections: to schedulers, unless told otherwise.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{ClientConfig, Endpoint, EndpointConfig};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::{BindError, EndpointOptions, GREETING, SocketBuffers, Watch, socket, tls, verified_peer, watch};
use crate::connection::{CloseReason, Connection, Farewell, close_text};
use crate::error::ConnectError;
use crate::identity::{Credential, PeerIdentity};

/// How long [`Dialer::close`] waits for peers to take notice.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How often [`Dialer::close`] looks whether they have: quinn tells nobody.
const FAREWELL_INTERVAL: Duration = Duration::from_millis(1);

/// Makes connections with one credential, from one socket per address family. Clones share the sockets.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    identity: PeerIdentity,
    options: EndpointOptions,
    tls: Arc<quinn::crypto::rustls::QuicClientConfig>,
    v4: OnceCell<Bound>,
    v6: OnceCell<Bound>,
}

/// An endpoint on an unnamed port, and the settings that its socket allows.
struct Bound {
    endpoint: Endpoint,
    watch: Arc<Watch>,
    client: ClientConfig,
    buffers: SocketBuffers,
    /// Of the connections that are held by somebody.
    farewells: Mutex<Vec<Farewell>>,
}

impl Dialer {
    /// A dialler with default settings. Sockets are opened by the first dial, inside whose tokio runtime they and their
    /// connections then live.
    ///
    /// # Errors
    /// [`BindError`] if the credential cannot be used.
    pub fn new(credential: &Credential) -> Result<Self, BindError> {
        Self::with_options(credential, EndpointOptions::default())
    }

    /// A dialler with other settings.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn with_options(credential: &Credential, options: EndpointOptions) -> Result<Self, BindError> {
        let tls = Arc::new(tls::client(credential, &options.protocol)?);
        let identity = credential.identity().clone();
        Ok(Self {
            shared: Arc::new(Shared {
                identity,
                options,
                tls,
                v4: OnceCell::new(),
                v6: OnceCell::new(),
            }),
        })
    }

    /// Whose credential it uses.
    pub fn identity(&self) -> &PeerIdentity {
        &self.shared.identity
    }

    /// What the system granted for the socket's buffers, once an IPv4 (else an IPv6) address was dialled.
    pub fn socket_buffers(&self) -> Option<SocketBuffers> {
        let bound = self.shared.v4.get().or_else(|| self.shared.v6.get());
        bound.map(|bound| bound.buffers)
    }

    /// Connects to the scheduler (or whom the options name) at `address`, and returns once it has accepted this side's credential.
    ///
    /// # Errors
    /// [`ConnectError`], at the latest after the handshake timeout; a closed port is found out in a tenth of a second.
    pub async fn dial(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let limit = self.shared.options.handshake_timeout;
        let bound = self.bound(address).await?;
        let dial = self.dial_patiently(bound, address, started);
        match timeout(limit, bound.watch.unless_closed(address, dial)).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(ConnectError::PortClosed { address }),
            Err(_) => Err(ConnectError::NoAnswer {
                address,
                waited: limit,
            }),
        }
    }

    async fn dial_patiently(
        &self,
        bound: &Bound,
        address: SocketAddr,
        started: Instant,
    ) -> Result<Connection, ConnectError> {
        let Shared {
            identity, options, ..
        } = &*self.shared;
        let failed =
            |error| ConnectError::from_quinn(error, address, identity, &options.protocol, started.elapsed());
        let connection = bound
            .endpoint
            .connect_with(bound.client.clone(), address, options.dialled_role.dns_name())
            .map_err(|_| ConnectError::BadAddress { address })?
            .await
            .map_err(failed)?;
        let mut greeting = connection.accept_uni().await.map_err(failed)?;
        let mut said = [0; GREETING.len()];
        let greeted = greeting.read_exact(&mut said).await.is_ok() && said == *GREETING;
        if let Some(error) = connection.close_reason() {
            return Err(failed(error));
        }
        if !greeted {
            return Err(ConnectError::VersionDiffers {
                address,
                own: options.protocol.clone(),
            });
        }
        let peer = verified_peer(&connection, &identity.cluster)
            .map_err(|cause| ConnectError::BadIdentity { address, cause })?;
        match peer.role == options.dialled_role {
            true => Ok(bound.keep(Connection::new(connection, peer, &bound.watch))),
            false => Err(ConnectError::NotScheduler { address }),
        }
    }

    /// Closes every connection with a reason, and waits at most a second for the peers to take notice. Call it before
    /// the runtime ends, else the peers find out by the idle timeout.
    pub async fn close(&self, reason: CloseReason, text: &str) {
        for bound in [self.shared.v4.get(), self.shared.v6.get()].into_iter().flatten() {
            bound.endpoint.close(reason.to_varint(), close_text(text));
            let _ = timeout(CLOSE_WAIT, bound.farewell()).await;
        }
    }

    /// The endpoint for the family of `address`, opened when first asked for.
    async fn bound(&self, address: SocketAddr) -> Result<&Bound, ConnectError> {
        let (cell, any): (_, SocketAddr) = match address {
            SocketAddr::V4(_) => (&self.shared.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.shared.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let opened = cell.get_or_try_init(|| async { self.open(any) }).await;
        opened.map_err(|cause| ConnectError::Socket { address, cause })
    }

    fn open(&self, local: SocketAddr) -> io::Result<Bound> {
        let options = &self.shared.options;
        let out_of_range = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let (socket, buffers) = socket::bind(local, options.socket_buffer_bytes)?;
        let mut config = EndpointConfig::default();
        config
            .max_udp_payload_size(options.udp_payload_bytes_within(buffers))
            .map_err(|_| {
                out_of_range(BindError::Option {
                    option: "udp_payload_bytes_max",
                })
            })?;
        let (endpoint, watch) = watch::open(config, None, socket)?;
        let mut client = ClientConfig::new(Arc::clone(&self.shared.tls) as _);
        client.transport_config(options.transport(buffers).map_err(out_of_range)?);
        Ok(Bound {
            endpoint,
            watch,
            client,
            buffers,
            farewells: Mutex::default(),
        })
    }
}

impl Bound {
    /// Makes [`Bound::farewell`] wait for this connection's peer.
    fn keep(&self, connection: Connection) -> Connection {
        let mut farewells = self.farewells.lock().unwrap_or_else(PoisonError::into_inner);
        farewells.retain(|farewell| !farewell.is_gone());
        farewells.push(connection.farewell());
        connection
    }

    /// Waits until all peers have answered the end of their connections. QUIC itself goes on for three probe timeouts
    /// (about 80 ms here), to answer what still arrives; whoever ends needs only that its peers know.
    async fn farewell(&self) {
        let answered = async {
            loop {
                sleep(FAREWELL_INTERVAL).await;
                let farewells = self.farewells.lock().unwrap_or_else(PoisonError::into_inner);
                if farewells.iter().all(Farewell::is_answered) {
                    return;
                }
            }
        };
        tokio::select! {
            () = answered => {}
            () = self.endpoint.wait_idle() => {}
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({})", self.shared.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Accepted, Authority, Listener, Role};

    /// Whether a dialler that has closed its connection has told the peer, and QUIC still remembers it.
    async fn farewell_is_quick() -> bool {
        let lab = Authority::create("lab").unwrap();
        let here = (Ipv4Addr::LOCALHOST, 0).into();
        let mut listener = Listener::bind(here, &lab.issue(Role::Scheduler, "s1").unwrap()).unwrap();
        let dialer = Dialer::new(&lab.issue(Role::User, "u").unwrap()).unwrap();
        let (near, far) = tokio::join!(dialer.dial(listener.local_address().unwrap()), listener.accept());
        let (_near, Some(Accepted::Connection(far))) = (near.unwrap(), far) else {
            panic!("it was let in")
        };
        dialer.close(CloseReason::Done, "that was all").await;
        let endpoint = &dialer.shared.v4.get().unwrap().endpoint;
        far.close_reason().is_some() && endpoint.open_connections() == 1
    }

    #[tokio::test]
    async fn a_farewell_takes_a_round_trip_and_not_until_quic_forgets_the_connection() {
        // QUIC forgets it after some 80 ms, for which a busy machine may stop in between
        for _ in 0..20 {
            if farewell_is_quick().await {
                return;
            }
        }
        panic!("QUIC had forgotten the connection, or its peer did not know");
    }

    #[tokio::test]
    async fn hints_about_a_scheduler_that_lives_change_nothing() {
        let lab = Authority::create("lab").unwrap();
        let here = (Ipv4Addr::LOCALHOST, 0).into();
        let mut listener = Listener::bind(here, &lab.issue(Role::Scheduler, "s1").unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        let options = EndpointOptions {
            keep_alive_interval: Duration::from_millis(50),
            ..EndpointOptions::default()
        };
        let worker = lab.issue(Role::Worker, "n1").unwrap();
        let dialer = Dialer::with_options(&worker, options).unwrap();
        let (near, far) = tokio::join!(dialer.dial(address), listener.accept());
        let (near, Some(Accepted::Connection(_far))) = (near.unwrap(), far) else {
            panic!("it was let in")
        };
        let watch = &dialer.shared.v4.get().unwrap().watch;
        for _ in 0..3 {
            watch.hint(address);
            watch.hint(address);
            // longer than a dead one is given
            let lost = timeout(Duration::from_millis(500), near.closed()).await;
            assert!(lost.is_err(), "{lost:?}");
        }
        assert!(!watch.has_doubts());
    }
}
