//! Measures this machine's QUIC: the round trip of a small frame, and bulk, between two threads over loopback.
//!
//! ```text
//! cargo run --release -p phalanx-transport --example quic_loopback -- [udp_payload_bytes_max] [socket_buffer_bytes]
//! ```
//!
//! Each thread runs one `current_thread` runtime with one endpoint, as Phalanx's processes do.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use phalanx_transport::{
    Accepted, Authority, CloseReason, Connection, Dialer, EndpointOptions, Listener, Role,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUND_TRIPS: usize = 20_000;
const BULK_BYTES: usize = 512 << 20;
const BULK_FRAME_BYTES: usize = 1 << 20;
const SMALL_FRAMES: usize = 1_000_000;

fn main() -> Outcome<()> {
    let mut options = EndpointOptions::default();
    let mut arguments = std::env::args().skip(1);
    if let Some(bytes) = arguments.next() {
        options.udp_payload_bytes_max = bytes.parse()?;
    }
    if let Some(bytes) = arguments.next() {
        options.socket_buffer_bytes = bytes.parse()?;
    }
    let authority = Authority::create("loopback")?;
    let scheduler = authority.issue(Role::Scheduler, "s1")?;
    let worker = authority.issue(Role::Worker, "w1")?;
    let (address_sender, address) = mpsc::channel();
    let server_options = options.clone();
    let server = std::thread::spawn(move || -> Outcome<()> {
        runtime()?.block_on(async {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let mut listener = Listener::bind_with(any, &scheduler, &server_options, None)?;
            address_sender.send(listener.local_address()?)?;
            match listener.accept().await {
                Some(Accepted::Connection(connection)) => serve(&connection).await,
                Some(Accepted::Failed { failure, .. }) => Err(failure.into()),
                None => Err("the listener ended".into()),
            }
        })
    });
    let address = address.recv()?;
    runtime()?.block_on(async {
        let dialer = Dialer::with_options(&worker, options)?;
        let started = Instant::now();
        let connection = dialer.dial(address).await?;
        println!("handshake           {:8.0} us", micros(started.elapsed()));
        println!("socket buffers      {:?}", dialer.socket_buffers());
        measure(&connection).await?;
        dialer.close(CloseReason::Done, "").await;
        Outcome::Ok(())
    })?;
    server.join().map_err(|_| "the server panicked")?
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Echoes the first stream until it ends, and swallows every other.
async fn serve(connection: &Connection) -> Outcome<()> {
    let (mut writer, mut reader) = connection.accept_bi(DATA_FRAME_BYTES_MAX).await?;
    while let Some(frame) = reader.recv_bytes().await? {
        writer.send_bytes(&frame).await?;
    }
    while let Ok((mut writer, mut reader)) = connection.accept_bi(DATA_FRAME_BYTES_MAX).await {
        let mut bytes = 0u64;
        while let Some(frame) = reader.recv_bytes().await? {
            bytes += frame.len() as u64;
        }
        writer.send(&bytes).await?;
    }
    Ok(())
}

async fn measure(connection: &Connection) -> Outcome<()> {
    let (mut writer, mut reader) = connection.open_bi(DATA_FRAME_BYTES_MAX).await?;
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let sent = Instant::now();
        writer.send_bytes(&[7; 32]).await?;
        reader.recv_bytes().await?;
        trips.push(sent.elapsed());
    }
    writer.finish().await?;
    trips.sort_unstable();
    println!("round trip p50      {:8.1} us", micros(trips[ROUND_TRIPS / 2]));
    println!(
        "round trip p99      {:8.1} us",
        micros(trips[ROUND_TRIPS * 99 / 100])
    );

    for run in 1..=3 {
        let elapsed = send_all(connection, BULK_FRAME_BYTES, BULK_BYTES / BULK_FRAME_BYTES).await?;
        println!(
            "bulk run {run}          {:8.0} MB/s",
            BULK_BYTES as f64 / 1e6 / elapsed.as_secs_f64()
        );
    }
    let elapsed = send_all(connection, 32, SMALL_FRAMES).await?;
    println!(
        "32-byte frames      {:8.2} M/s",
        SMALL_FRAMES as f64 / 1e6 / elapsed.as_secs_f64()
    );
    println!("{:?}", connection.path());
    Ok(())
}

/// Sends `count` frames and waits until the other side has read them all.
async fn send_all(connection: &Connection, frame_bytes: usize, count: usize) -> Outcome<Duration> {
    let (mut writer, mut reader) = connection.open_bi(DATA_FRAME_BYTES_MAX).await?;
    let payload = vec![7; frame_bytes];
    let started = Instant::now();
    for _ in 0..count {
        writer.queue_bytes(&payload)?;
        if writer.queued_bytes() >= 64 << 10 {
            writer.flush().await?;
        }
    }
    writer.finish().await?;
    let read: Option<u64> = reader.recv().await?;
    match read == Some((frame_bytes * count) as u64) {
        true => Ok(started.elapsed()),
        false => Err("the other side read something else".into()),
    }
}
