//! What the tests share: a cluster with short timeouts, and endpoints on free ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use phalanx_transport::{
    Accepted, Authority, Connection, Credential, Dialer, EndpointOptions, HandshakeFailure, Listener, Role,
};
use tokio::sync::mpsc;

/// No test waits longer than this for an event.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Any free port.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Awaits an event with a deadline.
pub(crate) async fn within<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event)
        .await
        .expect("the event should have come by now")
}

pub(crate) fn authority(cluster: &str) -> Authority {
    Authority::create(cluster).unwrap()
}

/// Options with which no side gives up because the machine lets it wait.
pub(crate) fn patient() -> EndpointOptions {
    EndpointOptions {
        idle_timeout: PATIENCE,
        handshake_timeout: PATIENCE,
        ..EndpointOptions::default()
    }
}

pub(crate) fn dialer(authority: &Authority, role: Role, name: &str) -> Dialer {
    Dialer::with_options(&authority.issue(role, name).unwrap(), patient()).unwrap()
}

/// A listener whose accept loop runs as a task and passes on what it accepts.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

impl Server {
    /// A scheduler of `authority`'s cluster.
    pub(crate) fn scheduler(authority: &Authority) -> Self {
        Self::with(&authority.issue(Role::Scheduler, "s1").unwrap(), &patient())
    }

    pub(crate) fn with(credential: &Credential, options: &EndpointOptions) -> Self {
        Self::of(Listener::bind_with(ANY, credential, options, None).unwrap())
    }

    pub(crate) fn of(mut listener: Listener) -> Self {
        let address = listener.local_address().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = listener.accept().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    pub(crate) async fn next_connection(&mut self) -> Connection {
        match within(self.accepted.recv()).await.unwrap() {
            Accepted::Connection(connection) => connection,
            Accepted::Failed { failure, .. } => panic!("the handshake failed: {failure:?}"),
        }
    }

    pub(crate) async fn next_failure(&mut self) -> HandshakeFailure {
        match within(self.accepted.recv()).await.unwrap() {
            Accepted::Connection(connection) => panic!("{connection:?} was accepted"),
            Accepted::Failed { failure, .. } => failure,
        }
    }
}

/// Both ends of a new session between a worker and a scheduler.
pub(crate) async fn session(
    server: &mut Server,
    authority: &Authority,
    name: &str,
) -> (Connection, Connection) {
    let near = within(dialer(authority, Role::Worker, name).dial(server.address))
        .await
        .unwrap();
    (near, server.next_connection().await)
}
