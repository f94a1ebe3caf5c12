//! What lies below messages between hosts: frames there and back over a bare QUIC connection, and bytes over TCP, on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use phalanx_transport::{
    Accepted, Authority, Credential, Dialer, Listener, Role, StreamReader, StreamWriter,
};
use tokio::runtime::{Builder, Runtime};

use crate::median;

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Bytes of the largest frame.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// How often something is measured, and of how many turns there and back each run is made.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// Runs, of which the median counts.
    pub runs: usize,
    /// Turns of one run.
    pub turns: usize,
}

impl Turns {
    /// The median time of half a turn, in seconds.
    fn one_way(self, mut turn: impl FnMut()) -> f64 {
        let run = |_| {
            let start = Instant::now();
            (0..self.turns).for_each(|_| turn());
            start.elapsed().as_secs_f64() / self.turns as f64 / 2.0
        };
        median(&(0..self.runs).map(run).collect::<Vec<_>>())
    }

    fn count(self) -> usize {
        self.runs * self.turns
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a runtime")
}

fn credential(authority: &Authority, role: Role) -> Credential {
    authority
        .issue(role, "wires")
        .expect("a credential can be issued")
}

/// The median time one way of a frame with `size` bytes over QUIC, in seconds: a thread with its own endpoint at each end.
///
/// # Panics
/// If something fails on this machine.
pub fn quic_one_way(size: usize, turns: Turns) -> f64 {
    let authority = Authority::create("wires").expect("an authority can be made");
    let near = credential(&authority, Role::User);
    let far = credential(&authority, Role::Scheduler);
    let (sender, addresses) = mpsc::channel();
    let echo = thread::spawn(move || {
        runtime().block_on(async {
            let mut listener = Listener::bind(HERE, &far).expect("there is a free port");
            let address = listener.local_address().expect("it has an address");
            sender.send(address).expect("somebody waits for it");
            let Some(Accepted::Connection(connection)) = listener.accept().await else {
                panic!("nobody came");
            };
            let stream = connection.accept_bi(FRAME_BYTES_MAX).await;
            let (mut writer, mut reader) = stream.expect("a stream comes");
            for _ in 0..turns.count() {
                let frame = receive(&mut reader).await;
                send(&mut writer, &frame).await;
            }
            // the last frame is under way until the other side closes
            connection.closed().await;
        });
    });
    let address = addresses.recv().expect("it listens");
    let runtime = runtime();
    let dialer = Dialer::new(&near).expect("the credential is good");
    let connection = runtime.block_on(dialer.dial(address)).expect("it answers");
    let stream = runtime.block_on(connection.open_bi(FRAME_BYTES_MAX));
    let (mut writer, mut reader) = stream.expect("streams are allowed");
    let bytes = vec![1; size];
    let time = turns.one_way(|| {
        runtime.block_on(async {
            send(&mut writer, &bytes).await;
            let frame = receive(&mut reader).await;
            assert_eq!(frame.len(), size);
        });
    });
    runtime.block_on(dialer.close(phalanx_transport::CloseReason::Done, ""));
    echo.join().expect("the other end does not fail");
    time
}

async fn send(writer: &mut StreamWriter, bytes: &[u8]) {
    writer.send_bytes(bytes).await.expect("the connection stands");
}

async fn receive(reader: &mut StreamReader) -> bytes::Bytes {
    let frame = reader.recv_bytes().await.expect("the connection stands");
    frame.expect("the stream goes on")
}

/// The median time one way of `size` bytes over TCP, in seconds, between two threads that block.
///
/// # Panics
/// If something fails on this machine.
pub fn tcp_one_way(size: usize, turns: Turns) -> f64 {
    let listener = TcpListener::bind(HERE).expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        stream.set_nodelay(true).expect("it can be set");
        let mut bytes = vec![0; size];
        for _ in 0..turns.count() {
            stream.read_exact(&mut bytes).expect("it stands");
            stream.write_all(&bytes).expect("it stands");
        }
    });
    let mut stream = TcpStream::connect(address).expect("it answers");
    stream.set_nodelay(true).expect("it can be set");
    let mut bytes = vec![1; size];
    let time = turns.one_way(|| {
        stream.write_all(&bytes).expect("it stands");
        stream.read_exact(&mut bytes).expect("it stands");
    });
    echo.join().expect("the other end does not fail");
    time
}
