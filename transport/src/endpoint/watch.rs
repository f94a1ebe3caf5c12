//! Notices that a peer's process is dead while its machine lives, long before the idle timeout.
//!
//! [`open`] makes a quinn endpoint on a socket of ours, [`WatchedSocket`], which reads the ICMP answers of closed ports
//! ([`icmp`](super::icmp)) and keeps them from quinn, to whom an error of the socket is the end of the endpoint. Beside it
//! runs a task that passes the answers to [`Peers`], where hints become verdicts or nothing.

mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::peers::{Peers, PortClosed, Registration, Stage};
use socket::WatchedSocket;

/// How often doubts are looked at while there are any.
const JUDGE_INTERVAL: Duration = Duration::from_millis(20);

/// The watch over one endpoint's peers; ends with its last owner.
#[derive(Debug)]
pub(crate) struct Watch {
    peers: Arc<Peers>,
    _task: JoinSet<()>,
}

/// Keeps a peer under watch.
#[derive(Debug)]
pub(crate) struct Watched {
    _registration: Registration,
    /// The watch goes on for connections whose listener or dialler is dropped.
    _watch: Arc<Watch>,
}

/// Makes an endpoint on `socket`, and the watch over it. To be called inside a tokio runtime.
pub(super) fn open(
    config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: std::net::UdpSocket,
) -> io::Result<(Endpoint, Arc<Watch>)> {
    let peers = Arc::<Peers>::default();
    let socket = Arc::new(WatchedSocket::new(socket, Arc::clone(&peers))?);
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(config, server, Arc::clone(&socket) as _, runtime)?;
    let mut task = JoinSet::new();
    task.spawn(watch(socket, Arc::clone(&peers)));
    Ok((endpoint, Arc::new(Watch { peers, _task: task })))
}

async fn watch(socket: Arc<WatchedSocket>, peers: Arc<Peers>) {
    loop {
        tokio::select! {
            answers = socket.answers() => match answers {
                Ok(closed) => for address in closed {
                    peers.hinted(address, Instant::now());
                },
                // the runtime ends
                Err(_) => return,
            },
            () = sleep(JUDGE_INTERVAL), if peers.has_doubts() => {}
        }
        for told in peers.judge(Instant::now()) {
            told.port_is_closed();
        }
    }
}

impl Watch {
    /// Tells `told` if the port of the peer at `address`, to whom a connection stands, is closed.
    pub(crate) fn established(self: &Arc<Self>, address: SocketAddr, told: Weak<dyn PortClosed>) -> Watched {
        Watched {
            _registration: self.peers.register(address, Stage::Established, told),
            _watch: Arc::clone(self),
        }
    }

    /// Does `dial`, unless it turns out that nothing listens at `address`: `None`.
    pub(super) async fn unless_closed<T>(
        &self,
        address: SocketAddr,
        dial: impl Future<Output = T>,
    ) -> Option<T> {
        let closed = Arc::<Closed>::default();
        let told = Arc::downgrade(&closed);
        let _registration = self.peers.register(address, Stage::Dialled, told);
        tokio::select! {
            biased;
            dialled = dial => Some(dialled),
            () = closed.0.notified() => None,
        }
    }
}

#[cfg(test)]
impl Watch {
    /// Believes that an answer came from `address`, as if somebody had forged it.
    pub(super) fn hint(&self, address: SocketAddr) {
        self.peers.hinted(address, Instant::now());
    }

    pub(super) fn has_doubts(&self) -> bool {
        self.peers.has_doubts()
    }
}

/// Ends a dial.
#[derive(Debug, Default)]
struct Closed(Notify);

impl PortClosed for Closed {
    fn port_is_closed(&self) {
        self.0.notify_one();
    }
}
