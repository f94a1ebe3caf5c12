//! What the kernel host itself costs: nanoseconds per empty task, and microseconds from a grant of one task to its
//! progress, over the socket pair that a worker would use. Run with `cargo bench -p phalanx --bench host`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use phalanx::__private::{KERNELS, serve};
use phalanx_protocol::message::host::{FromHost, HostInputs, HostParameters, HostWork, ToHost};
use phalanx_protocol::{Encoding, GrantId, IndexRange, JobId, Term, codec};

#[phalanx::kernel]
fn empty(_index: u64) {}

#[phalanx::kernel(reduce = |left: u64, right: u64| left.wrapping_add(right))]
fn number(index: u64) -> u64 {
    index
}

#[phalanx::kernel]
fn fallible(index: u64) -> Result<(), String> {
    if index == u64::MAX {
        Err("last".to_owned())
    } else {
        Ok(())
    }
}

/// A worker's end of the socket.
struct Worker {
    stream: UnixStream,
    grants: u64,
}

impl Worker {
    fn ready(kernel: &str, reduce: bool, slots: u32) -> Self {
        let (stream, theirs) = UnixStream::pair().expect("a socket pair");
        std::thread::spawn(move || serve(theirs, &KERNELS));
        let mut worker = Self { stream, grants: 0 };
        let (job, encoding) = (JobId(1), Encoding::Bincode);
        let (kernel, parameters) = (kernel.to_owned(), HostParameters::Inline(Vec::new().into()));
        worker.send(&ToHost::Open {
            job,
            work: HostWork::Kernel {
                kernel,
                parameters,
                encoding,
                reduce,
            },
            cpus: 1,
            storage: std::env::temp_dir(),
        });
        worker.send(&ToHost::SetSlots(slots));
        while worker.receive() != FromHost::Slots(slots) {}
        worker
    }

    fn send(&mut self, message: &ToHost) {
        let bytes = codec::encode(message);
        let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
        frame.extend(bytes);
        self.stream.write_all(&frame).expect("the host reads");
    }

    fn receive(&mut self) -> FromHost {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).expect("the host writes");
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        self.stream.read_exact(&mut bytes).expect("the host writes");
        codec::decode(&bytes).expect("a message")
    }

    /// Grants `tasks` tasks and waits for their end. Returns how long that took, and the slots' own time.
    fn run(&mut self, tasks: u64) -> (Duration, Duration) {
        self.grants += 1;
        let grant = GrantId {
            term: Term(1),
            number: self.grants,
        };
        let began = Instant::now();
        self.send(&ToHost::Grant {
            grant,
            range: IndexRange::new(0, tasks),
            inputs: HostInputs::Index { first: 0 },
            restarts: 0,
        });
        let (mut ended, mut busy) = (0, 0);
        while ended < tasks {
            let FromHost::Progress(progress) = self.receive() else {
                continue;
            };
            let ranges = progress.done.iter().flat_map(|(_, ranges)| ranges);
            ended += ranges.map(|range| range.len()).sum::<u64>();
            busy += progress.busy_nanos;
        }
        (began.elapsed(), Duration::from_nanos(busy))
    }
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn throughput(what: &str, kernel: &str, reduce: bool, slots: u32, tasks: u64) {
    let mut worker = Worker::ready(kernel, reduce, slots);
    worker.run(1_000_000);
    let mut runs: Vec<_> = (0..5).map(|_| worker.run(tasks)).collect();
    runs.sort();
    let (took, busy) = runs[2];
    let per_task = |time: Duration| time.as_nanos() as f64 / tasks as f64;
    println!(
        "{what:<44} {slots} slots  {:6.2} ns/task  ({:.2} ns slot time)",
        per_task(took),
        per_task(busy)
    );
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn latency() {
    let mut worker = Worker::ready("number", false, 1);
    let mut times: Vec<Duration> = (0..20_000).map(|_| worker.run(1).0).skip(1000).collect();
    times.sort();
    let micros = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos() as f64 / 1000.0;
    println!(
        "grant of one task to its progress: p50 {:.1} us, p99 {:.1} us",
        micros(0.5),
        micros(0.99)
    );
}

fn main() {
    for slots in [1, 2] {
        throughput("empty kernel", "empty", false, slots, 500_000_000);
        throughput(
            "empty kernel that may fail",
            "fallible",
            false,
            slots,
            500_000_000,
        );
        throughput("8-byte result, each kept", "number", false, slots, 50_000_000);
        throughput("8-byte result, merged", "number", true, slots, 500_000_000);
    }
    latency();
}
