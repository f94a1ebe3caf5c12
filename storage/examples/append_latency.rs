//! How long one append takes until it is durable, beside the same storage's bare create: `append_latency [directory]`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use phalanx_storage::slot::LogId;
use phalanx_storage::{Candidate, ClusterId, Directory, JournalEvent, JournalWriter, Store, acquire};

const ROUNDS: u64 = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let own;
    let root = match std::env::args_os().nth(1) {
        Some(root) => root.into(),
        None => {
            own = tempfile::tempdir()?;
            own.path().to_owned()
        }
    };
    let store: Arc<dyn Store> = Arc::new(Directory::open(root)?);

    let mut creates = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        store.put_if_absent(&format!("bare/{round}"), &[0; 256])?;
        creates.push(start.elapsed());
    }
    report("bare create", creates);

    let start = Instant::now();
    let log = LogId {
        cluster: ClusterId([1; 16]),
        shard: 0,
    };
    let leadership = acquire(&*store, Candidate::new(log, 1))?;
    println!("acquire      {:>8.3} ms", start.elapsed().as_secs_f64() * 1e3);

    let (durable, events) = mpsc::channel();
    let writer = JournalWriter::start(Arc::clone(&store), leadership, move |event| {
        if let JournalEvent::Durable { upto_sequence, .. } = event {
            let _ = durable.send(upto_sequence);
        }
    })?;
    let mut appends = Vec::new();
    for sequence in 0..ROUNDS {
        let start = Instant::now();
        writer.append(sequence, vec![0; 100].into())?;
        events.recv()?;
        appends.push(start.elapsed());
    }
    report("append", appends);

    let count = 500_000;
    let start = Instant::now();
    for sequence in ROUNDS..ROUNDS + count {
        writer.append(sequence, vec![0; 100].into())?;
    }
    while events.recv()? + 1 < ROUNDS + count {}
    let elapsed = start.elapsed();
    println!(
        "stream       {:>8.0} records of 100 bytes per second",
        count as f64 / elapsed.as_secs_f64()
    );
    drop(writer);

    let start = Instant::now();
    let records = acquire(&*store, Candidate::new(log, 2))?.records.len();
    println!(
        "acquire again with {records} records: {:.3} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what:<12} {:>8.3} ms p50 {:>8.3} ms p99", at(0.5), at(0.99));
}
