//! How long one empty task takes on a warm cluster, from the call to the result in hand, beside the machine's own QUIC
//! round trip and storage write, measured in the same run.
//!
//! `cargo run --release -p phalanx-benches --bin latency`

use std::error::Error;
use std::sync::mpsc;
use std::time::Instant;

use phalanx::Cluster;
use phalanx_benches::{percentile, seconds_text};
use phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use phalanx_storage::{Directory, Store};
use phalanx_transport::{Accepted, Authority, Dialer, Listener, Role};

const TASKS: usize = 1000;
const ROUND_TRIPS: usize = 5000;
const WRITES: usize = 1000;

#[phalanx::kernel]
fn echo(index: u64) -> u64 {
    index
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::embedded()?;
    for index in 0..100 {
        cluster.map::<echo>(index..index + 1).collect()?;
    }
    let mut writes = Vec::new();
    let mut round_trips = Vec::new();
    let mut tasks = Vec::new();
    // in turn, so that all three see the same machine
    for part in 0..5 {
        writes.extend(storage_writes(part)?);
        round_trips.extend(quic_round_trips()?);
        for index in 0..(TASKS / 5) as u64 {
            let start = Instant::now();
            assert_eq!(cluster.map::<echo>(index..index + 1).collect()?, [index]);
            tasks.push(start.elapsed().as_secs_f64());
        }
    }
    let row = |what: &str, times: &[f64]| {
        let (p50, p99) = (percentile(times, 50.0), percentile(times, 99.0));
        println!("{what:<34}{:>10}{:>12}", seconds_text(p50), seconds_text(p99));
    };
    println!("{:<34}{:>10}{:>12}", "", "p50", "p99");
    row("storage write (one log slot)", &writes);
    row("QUIC round trip", &round_trips);
    row("one task, call to result", &tasks);
    let aim = 2.0 * percentile(&writes, 50.0) + 5.0 * percentile(&round_trips, 50.0);
    let ratio = percentile(&tasks, 50.0) / aim;
    println!(
        "aim: 2 writes + 5 round trips = {}; measured / aim = {ratio:.2}",
        seconds_text(aim)
    );
    Ok(())
}

/// Creates of objects as large as a log slot with one record.
fn storage_writes(part: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let directory = Directory::open(folder.path())?;
    let object = [7; 300];
    let write = |number| -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        directory.put_if_absent(&format!("log/{part}-{number}"), &object)?;
        Ok(start.elapsed().as_secs_f64())
    };
    (0..WRITES / 5).map(write).collect()
}

/// Frames of 32 bytes there and back on one stream, between two threads with a runtime each.
fn quic_round_trips() -> Result<Vec<f64>, Box<dyn Error>> {
    let authority = Authority::create("bench")?;
    let (server, client) = (
        authority.issue(Role::Scheduler, "s")?,
        authority.issue(Role::User, "u")?,
    );
    let (told, address) = mpsc::channel();
    let server_thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), &server).expect("a free port");
            told.send(listener.local_address().expect("a bound port"))
                .expect("the client waits");
            let Some(Accepted::Connection(connection)) = listener.accept().await else {
                return;
            };
            let Ok((mut writer, mut reader)) = connection.accept_bi(CONTROL_FRAME_BYTES_MAX).await else {
                return;
            };
            while let Ok(Some(frame)) = reader.recv_bytes().await {
                if writer.send_bytes(&frame).await.is_err() {
                    return;
                }
            }
        });
    });
    let address = address.recv()?;
    let times = runtime().block_on(async {
        let dialer = Dialer::new(&client)?;
        let connection = dialer.dial(address).await?;
        let (mut writer, mut reader) = connection.open_bi(CONTROL_FRAME_BYTES_MAX).await?;
        let mut times = Vec::new();
        for _ in 0..ROUND_TRIPS / 5 {
            let start = Instant::now();
            writer.send_bytes(&[1; 32]).await?;
            reader.recv_bytes().await?;
            times.push(start.elapsed().as_secs_f64());
        }
        drop((writer, connection));
        Ok::<_, Box<dyn Error>>(times)
    });
    // it ends with its peer
    let _ = server_thread.join();
    times
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
