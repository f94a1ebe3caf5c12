//! Peers in processes of their own that are killed or stopped, and ports that nobody has.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use phalanx_transport::{
    Authority, ConnectError, Connection, ConnectionLost, Credential, Dialer, EndpointOptions, FrameError,
    Listener, Patience, Reconnect, Role,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::cluster::{ANY, Server, authority, session, within};

/// How late something may be noticed on a busy machine.
const BUSY: Duration = Duration::from_secs(10);

/// The environment of a peer's process: its credential, and whom it dials (nobody: it listens).
const CREDENTIAL: &str = "TEST_PEER_CREDENTIAL";
const DIALS: &str = "TEST_PEER_DIALS";
/// What a listening peer says before its address.
const LISTENS: &str = "peer listens on ";

/// So long that nothing in these tests ends by it.
const HOUR: Duration = Duration::from_secs(3600);

/// Not a test: what a peer's process runs, until it is killed.
#[tokio::test]
#[ignore = "the other tests run it as a process of its own"]
async fn peer_process() {
    let Ok(credential) = std::env::var(CREDENTIAL) else {
        return;
    };
    let credential = Credential::from_pem(&credential).unwrap();
    if let Ok(address) = std::env::var(DIALS) {
        let dialer = Dialer::with_options(&credential, endless()).unwrap();
        let _connection = dialer.dial(address.parse().unwrap()).await.unwrap();
        std::future::pending::<()>().await;
    }
    let mut listener = Listener::bind_with(ANY, &credential, &endless(), None).unwrap();
    let address = listener.local_address().unwrap();
    writeln!(std::io::stdout(), "{LISTENS}{address}").unwrap();
    let mut connections = Vec::new();
    while let Some(accepted) = listener.accept().await {
        connections.push(accepted);
    }
}

/// A peer in a process of its own, killed at the end of the test at the latest.
struct Peer(Child);

impl Peer {
    fn start(credential: &Credential, dials: Option<SocketAddr>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "killed::peer_process", "--ignored", "--nocapture"])
            .env(CREDENTIAL, credential.to_pem())
            .env_remove(DIALS)
            .stdout(Stdio::piped());
        if let Some(address) = dials {
            command.env(DIALS, address.to_string());
        }
        Self(command.spawn().unwrap())
    }

    /// A scheduler of `lab`, and where it listens.
    fn scheduler(lab: &Authority) -> (Self, SocketAddr) {
        let mut peer = Self::start(&lab.issue(Role::Scheduler, "s1").unwrap(), None);
        let output = BufReader::new(peer.0.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        // the test runner's own words may stand before it
        let address = lines.find_map(|line| Some(line.split_once(LISTENS)?.1.parse().unwrap()));
        (peer, address.unwrap())
    }

    /// A worker of `lab` that has dialled `address`.
    fn worker(lab: &Authority, name: &str, address: SocketAddr) -> Self {
        Self::start(&lab.issue(Role::Worker, name).unwrap(), Some(address))
    }

    fn stop(&self) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
    }

    /// Kills the process; it is gone then, its sockets included.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // fails if it was killed already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Options with which neither the idle timeout nor the handshake timeout ends anything.
fn endless() -> EndpointOptions {
    EndpointOptions {
        idle_timeout: HOUR,
        handshake_timeout: HOUR,
        ..EndpointOptions::default()
    }
}

/// The connection ends because the peer is dead, which was noticed long before the idle timeout of an hour.
async fn assert_noticed(connection: &Connection) {
    let lost = within(connection.closed()).await;
    assert!(matches!(lost, ConnectionLost::PortClosed), "{lost:?}");
}

/// A port that nobody has, nor is given meanwhile: lower than those that the system gives.
fn closed_port() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    loop {
        let port = first + TAKEN.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::new(ANY.ip(), port);
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

#[tokio::test]
async fn a_killed_scheduler_is_noticed_long_before_the_idle_timeout() {
    let lab = authority("lab");
    let (mut scheduler, address) = Peer::scheduler(&lab);
    let dialer = Dialer::with_options(&lab.issue(Role::Worker, "n1").unwrap(), endless()).unwrap();
    let connection = within(dialer.dial(address)).await.unwrap();
    let (mut writer, mut reader) = connection.open_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
    writer.send(&1u64).await.unwrap();
    scheduler.kill();
    // whoever uses the connection learns why it ended
    let read = within(reader.recv::<u64>()).await;
    assert!(
        matches!(read, Err(FrameError::Lost(ConnectionLost::PortClosed))),
        "{read:?}"
    );
    let written = writer.send(&2u64).await;
    assert!(
        matches!(written, Err(FrameError::Lost(ConnectionLost::PortClosed))),
        "{written:?}"
    );
    let opened = connection.open_uni(CONTROL_FRAME_BYTES_MAX).await;
    assert!(matches!(opened, Err(ConnectionLost::PortClosed)));
    assert!(matches!(
        connection.close_reason(),
        Some(ConnectionLost::PortClosed)
    ));
    assert_noticed(&connection).await;
}

#[tokio::test]
async fn a_killed_worker_is_noticed_and_the_scheduler_serves_the_others() {
    let lab = authority("lab");
    let mut locals = vec![(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ANY)];
    // a socket of both families sees IPv4 addresses in another form; not every machine has IPv6
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        locals.push((SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), ANY));
    }
    for (local, reached_at) in locals {
        let credential = lab.issue(Role::Scheduler, "s1").unwrap();
        let listener = Listener::bind_with(local, &credential, &endless(), None).unwrap();
        let mut server = Server::of(listener);
        server.address.set_ip(reached_at.ip());
        let (near, far) = session(&mut server, &lab, "n1").await;
        let mut worker = Peer::worker(&lab, "n2", server.address);
        let doomed = server.next_connection().await;
        worker.kill();
        assert_noticed(&doomed).await;

        let mut writer = near.open_uni(CONTROL_FRAME_BYTES_MAX).await.unwrap();
        writer.send(&7u64).await.unwrap();
        let mut reader = within(far.accept_uni(CONTROL_FRAME_BYTES_MAX)).await.unwrap();
        assert_eq!(within(reader.recv::<u64>()).await.unwrap(), Some(7));
        session(&mut server, &lab, "n3").await;
    }
}

#[tokio::test]
async fn a_stopped_process_is_lost_by_the_idle_timeout_neither_sooner_nor_much_later() {
    let lab = authority("lab");
    let (scheduler, address) = Peer::scheduler(&lab);
    let idle_timeout = Duration::from_secs(4);
    let options = EndpointOptions {
        idle_timeout,
        ..endless()
    };
    let dialer = Dialer::with_options(&lab.issue(Role::Worker, "n1").unwrap(), options).unwrap();
    let connection = within(dialer.dial(address)).await.unwrap();
    let alive = tokio::time::timeout(idle_timeout * 3 / 2, connection.closed()).await;
    assert!(alive.is_err(), "keep-alives hold a silent session");
    scheduler.stop();
    let stopped = Instant::now();
    let lost = within(connection.closed()).await;
    assert!(matches!(lost, ConnectionLost::TimedOut), "{lost:?}");
    // the last word from it is a keep-alive older, or some more on a busy machine
    let took = stopped.elapsed();
    assert!(took > idle_timeout / 2, "{took:?}");
    assert!(took < idle_timeout + BUSY, "{took:?}");
}

#[tokio::test]
async fn a_closed_port_is_told_with_the_address_and_not_waited_for() {
    let worker = authority("lab").issue(Role::Worker, "n1").unwrap();
    let dialer = Dialer::with_options(&worker, endless()).unwrap();
    for _ in 0..2 {
        let closed = closed_port();
        let error = within(dialer.dial(closed)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("nothing listens at {closed}"));
        assert!(!error.is_permanent());
    }
}

#[tokio::test]
async fn closed_ports_are_tried_until_patience_ends() {
    let worker = authority("lab").issue(Role::Worker, "n1").unwrap();
    let dialer = Dialer::with_options(&worker, endless()).unwrap();
    let mut reconnect = Reconnect::new(dialer, vec![closed_port()], 1);
    let deadline = Instant::now() + Duration::from_millis(500);
    let error = within(reconnect.connect(Patience::Until(deadline)))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::PortClosed { .. }), "{error:?}");
    assert!(Instant::now() >= deadline);
}

#[tokio::test]
async fn a_scheduler_that_opens_its_port_late_is_found() {
    let lab = authority("lab");
    let address = closed_port();
    let worker = lab.issue(Role::Worker, "n1").unwrap();
    let dialer = Dialer::with_options(&worker, endless()).unwrap();
    let mut reconnect = Reconnect::new(dialer.clone(), vec![address], 1);
    let connect = tokio::spawn(async move { reconnect.connect(Patience::Forever).await });
    // by then the first attempt has failed too
    within(dialer.dial(address)).await.unwrap_err();
    let scheduler = lab.issue(Role::Scheduler, "s1").unwrap();
    let _server = Server::of(Listener::bind(address, &scheduler).unwrap());
    within(connect).await.unwrap().unwrap();
}
