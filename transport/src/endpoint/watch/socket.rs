//! quinn's socket, except that it has heard of ICMP.
//!
//! An ICMP answer makes the kernel report an error with whatever the socket does next, be it a send to somebody else,
//! which is then not done. So sends are repeated, and receives go on.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::{Interest, Ready};
use tokio::time::sleep;

use crate::endpoint::icmp;
use crate::endpoint::peers::Peers;

/// Answers that are taken from the kernel at once; connections have their turn in between.
const ANSWERS_MAX: usize = 64;
/// When to look again whether a full socket has room, where the runtime cannot tell. A gigabyte per second empties 4 MiB in 4 ms.
const FULL_WAIT: Duration = Duration::from_millis(1);

/// A UDP socket of an endpoint.
#[derive(Debug)]
pub(super) struct WatchedSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    peers: Arc<Peers>,
    /// Whether the last send found no room.
    is_full: AtomicBool,
}

impl WatchedSocket {
    pub(super) fn new(socket: std::net::UdpSocket, peers: Arc<Peers>) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            peers,
            is_full: AtomicBool::new(false),
        })
    }

    /// Waits for answers of closed ports; the addresses of some. Cancel safe.
    ///
    /// # Errors
    /// If the runtime ends.
    pub(super) async fn answers(&self) -> io::Result<Vec<SocketAddr>> {
        self.io.ready(Interest::ERROR).await?;
        let mut closed = Vec::new();
        for _ in 0..ANSWERS_MAX {
            match self.io.try_io(Interest::ERROR, || icmp::next_answer(&self.io)) {
                Ok(address) => closed.extend(address),
                // there are no more
                Err(_) => break,
            }
        }
        Ok(closed)
    }

    /// Waits until the socket may have room again.
    async fn has_room(&self) -> io::Result<()> {
        let ready = self.io.ready(Interest::WRITABLE).await?;
        // tokio takes an error for the end of the writing side, which from then on always counts as ready
        if (ready & Ready::WRITABLE).is_empty() {
            sleep(FULL_WAIT).await;
        }
        Ok(())
    }
}

impl AsyncUdpSocket for WatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || {
            match self.state.try_send((&self.io).into(), transmit) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    // it was an earlier datagram's; if not, this logs it, and quinn sends again what is lost
                    self.state.send((&self.io).into(), transmit)
                }
                sent => sent,
            }
        });
        self.is_full.store(sent.is_err(), Ordering::Relaxed);
        if sent.is_ok() && self.peers.has_doubts() {
            self.peers.asked(transmit.destination, Instant::now());
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), buffers, meta)
            });
            // an error is that of an earlier datagram, and gone now that it is told
            let Ok(count) = received else { continue };
            if self.peers.has_doubts() {
                for datagram in &meta[..count] {
                    self.peers.heard(datagram.addr);
                }
            }
            return Poll::Ready(Ok(count));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// One connection's wait for room in the socket.
struct Poller {
    socket: Arc<WatchedSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            if !self.socket.is_full.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let socket = Arc::clone(&self.socket);
            self.waiting = Some(Box::pin(async move { socket.has_room().await }));
        }
        let waited = match &mut self.waiting {
            Some(waiting) => ready!(waiting.as_mut().poll(cx)),
            None => Ok(()),
        };
        self.waiting = None;
        Poll::Ready(waited)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Poller({:?})", self.socket.io)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, UdpSocket};

    use tokio::time::timeout;

    use super::*;

    const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn socket() -> WatchedSocket {
        let (socket, _) = crate::endpoint::socket::bind(HERE.into(), 1 << 20).unwrap();
        WatchedSocket::new(socket, Arc::default()).unwrap()
    }

    fn closed_port() -> SocketAddr {
        UdpSocket::bind(HERE).unwrap().local_addr().unwrap()
    }

    async fn send(socket: &WatchedSocket, destination: SocketAddr) {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: b"?",
            segment_size: None,
            src_ip: None,
        };
        socket.io.writable().await.unwrap();
        socket.try_send(&transmit).unwrap();
    }

    #[tokio::test]
    async fn closed_ports_cost_other_peers_no_datagram() {
        let (socket, closed) = (socket(), closed_port());
        let alive = UdpSocket::bind(HERE).unwrap();
        for _ in 0..50 {
            send(&socket, closed).await;
            send(&socket, alive.local_addr().unwrap()).await;
        }
        alive.set_read_timeout(Some(PATIENCE)).unwrap();
        let arrived = std::iter::from_fn(|| alive.recv(&mut [0]).ok());
        assert_eq!(arrived.take(50).count(), 50);

        let mut answers = Vec::new();
        while answers.len() < 50 {
            answers.extend(timeout(PATIENCE, socket.answers()).await.unwrap().unwrap());
        }
        assert_eq!(answers, [closed; 50]);
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_after_an_answer_too() {
        let socket = Arc::new(socket());
        send(&socket, closed_port()).await;
        timeout(PATIENCE, socket.answers()).await.unwrap().unwrap();
        let full = socket.io.try_io(Interest::WRITABLE, || {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
        full.unwrap_err();
        socket.is_full.store(true, Ordering::Relaxed);
        let mut poller = Arc::clone(&socket).create_io_poller();
        let spins = poll_fn(|cx| Poll::Ready(poller.as_mut().poll_writable(cx).is_ready())).await;
        assert!(!spins);
        let ready = timeout(PATIENCE, poll_fn(|cx| poller.as_mut().poll_writable(cx)));
        ready.await.unwrap().unwrap();
    }
}
