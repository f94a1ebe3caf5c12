//! A worker's side of the socket, and the kernels that the tests run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Condvar, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use phalanx::__private::{HostError, KERNELS, serve};
use phalanx::TaskContext;
use phalanx_protocol::message::host::{
    FromHost, HostInputs, HostParameters, HostWork, PROTOCOL_VERSION, Progress, ToHost,
};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::{Encoding, GrantId, IndexRange, JobId, RangeSet, Term, codec};
use serde::Serialize;

#[phalanx::kernel]
fn nothing(_index: u64) {}

#[phalanx::kernel(reduce = |left: u64, right: u64| left + right)]
fn square(index: u64) -> u64 {
    index * index
}

/// Tells where it fails: multiples of 10 panic, of 7 return an error.
#[phalanx::kernel]
fn brittle(index: u64) -> Result<u64, String> {
    assert!(!index.is_multiple_of(10), "index {index} is round");
    if index.is_multiple_of(7) {
        Err(format!("{index} will not do"))
    } else {
        Ok(index)
    }
}

#[phalanx::kernel]
fn scale(item: f64, factor: &f64) -> f64 {
    item * factor
}

/// Joins what it merges, so that a wrong order shows.
#[phalanx::kernel(reduce = |left: String, right: String| left + "," + &right)]
fn name(index: u64) -> String {
    index.to_string()
}

#[phalanx::kernel(reduce = unmergeable)]
fn lone(index: u64) -> u64 {
    index
}

fn unmergeable(_: u64, _: u64) -> u64 {
    panic!("these do not go together")
}

/// Returns as many bytes as its index says.
#[phalanx::kernel]
fn bulky(bytes: u64) -> Vec<u8> {
    vec![9; bytes as usize]
}

/// Panics in a thread of its own pool, if it has several.
#[phalanx::kernel]
fn parallel(index: u64) -> usize {
    use rayon::prelude::*;
    let sum: u64 = (0..1000u64).into_par_iter().map(|value| value + index).sum();
    assert!(sum > 0);
    rayon::current_num_threads()
}

/// Its gpus, and how many cpus each thread of its pool may use.
#[phalanx::kernel]
fn whereabouts(_index: u64, context: &TaskContext) -> (Vec<String>, Vec<u32>) {
    let cpus = |_| rustix::thread::sched_getaffinity(None).unwrap().count();
    let threads = rayon::broadcast(|thread| cpus(thread.index()));
    (context.gpus().map(str::to_owned).collect(), threads)
}

/// Waits for its gate, or until it is cancelled.
#[phalanx::kernel]
fn gated(index: u64, context: &TaskContext) -> Result<u64, String> {
    assert_eq!(index, context.index());
    match GATE.pass(context) {
        true => Ok(index),
        false => Err("cancelled".to_owned()),
    }
}

/// The gate of [`gated`]: tests let a number of tasks through.
pub(crate) static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);

/// Each test runs in a process of its own under nextest; under `cargo test` only one test uses the gate at a time.
static GATE_USER: Mutex<()> = Mutex::new(());

pub(crate) fn use_gate() -> std::sync::MutexGuard<'static, ()> {
    let guard = GATE_USER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *GATE.counts.lock().unwrap() = Counts::default();
    guard
}

#[derive(Default)]
pub(crate) struct Gate {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    waiting: u64,
    open: u64,
}

impl Gate {
    pub(crate) fn pass(&self, context: &TaskContext) -> bool {
        let mut counts = self.counts.lock().unwrap();
        counts.waiting += 1;
        self.changed.notify_all();
        while counts.open == 0 {
            if context.is_cancelled() {
                counts.waiting -= 1;
                self.changed.notify_all();
                return false;
            }
            counts = self
                .changed
                .wait_timeout(counts, Duration::from_millis(1))
                .unwrap()
                .0;
        }
        counts.open -= 1;
        counts.waiting -= 1;
        self.changed.notify_all();
        true
    }

    pub(crate) fn open(&self, tasks: u64) {
        self.counts.lock().unwrap().open += tasks;
        self.changed.notify_all();
    }

    /// Returns once `tasks` tasks wait at the gate.
    pub(crate) fn await_waiting(&self, tasks: u64) {
        let counts = self.counts.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(counts, PATIENCE, |counts| counts.waiting != tasks)
            .unwrap();
        assert_eq!(waited.0.waiting, tasks);
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The worker's end of a socket to a host.
pub(crate) struct Driver {
    pub(crate) stream: UnixStream,
    host: Option<JoinHandle<Result<(), HostError>>>,
    pub(crate) ended: Ended,
}

/// What a host has reported.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) done: RangeSet,
    pub(crate) results: BTreeMap<u64, (IndexRange, Vec<u8>)>,
    pub(crate) failed: BTreeMap<u64, TaskFailure>,
    pub(crate) busy_nanos: u64,
    pub(crate) backlog: u64,
    pub(crate) messages: usize,
}

impl Ended {
    pub(crate) fn count(&self) -> u64 {
        self.done.len() + self.failed.len() as u64
    }

    pub(crate) fn add(&mut self, progress: Progress) {
        for &range in progress.done.iter().flat_map(|(_, ranges)| ranges) {
            assert!(self.done.pieces(range).is_empty(), "{range} is done twice");
            self.done.insert(range);
        }
        for failure in progress.failed.into_iter().flat_map(|(_, failures)| failures) {
            assert!(
                !self.done.contains(failure.index),
                "{} is done and failed",
                failure.index
            );
            let before = self.failed.insert(failure.index, failure);
            assert!(before.is_none(), "failed twice: {before:?}");
        }
        for (range, bytes) in progress.results {
            self.results.insert(range.start, (range, bytes.to_vec()));
        }
        self.busy_nanos += progress.busy_nanos;
        self.backlog = progress.backlog;
        self.messages += 1;
    }

    /// All results by index, each decoded.
    pub(crate) fn values<T: serde::de::DeserializeOwned>(&self) -> BTreeMap<u64, T> {
        let mut values = BTreeMap::new();
        for (range, bytes) in self.results.values() {
            let mut rest = bytes.as_slice();
            for index in range.start..range.end {
                let (value, used) = codec::decode_prefix(rest).unwrap();
                rest = &rest[used..];
                assert!(values.insert(index, value).is_none());
            }
            assert!(rest.is_empty(), "bytes behind the results of {range}");
        }
        values
    }
}

pub(crate) fn grant_id(number: u64) -> GrantId {
    GrantId {
        term: Term(1),
        number,
    }
}

impl Driver {
    /// A host that has said hello.
    pub(crate) fn start() -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = Some(std::thread::spawn(move || serve(theirs, &KERNELS)));
        let mut driver = Self {
            stream,
            host,
            ended: Ended::default(),
        };
        assert_eq!(
            driver.receive(),
            FromHost::Hello {
                version: PROTOCOL_VERSION
            }
        );
        driver
    }

    /// A host that is ready for a job of `kernel` with `slots` slots.
    pub(crate) fn ready(kernel: &str, parameters: &impl Serialize, reduce: bool, slots: u32) -> Self {
        let mut driver = Self::start();
        driver.open(kernel, codec::encode(parameters), Encoding::Bincode, reduce, 1);
        assert_eq!(driver.receive(), FromHost::Ready);
        driver.set_slots(slots);
        driver
    }

    pub(crate) fn open(
        &mut self,
        kernel: &str,
        parameters: Vec<u8>,
        encoding: Encoding,
        reduce: bool,
        cpus: u32,
    ) {
        let work = HostWork::Kernel {
            kernel: kernel.to_owned(),
            parameters: HostParameters::Inline(parameters.into()),
            encoding,
            reduce,
        };
        self.open_work(work, cpus, std::env::temp_dir());
    }

    pub(crate) fn open_work(&mut self, work: HostWork, cpus: u32, storage: PathBuf) {
        self.send(&ToHost::Open {
            job: JobId(1),
            work,
            cpus,
            storage,
        });
    }

    /// Sets the slots and waits until that is true.
    pub(crate) fn set_slots(&mut self, slots: u32) {
        self.send(&ToHost::SetSlots(slots));
        assert_eq!(self.receive_other(), FromHost::Slots(slots));
    }

    pub(crate) fn grant(&mut self, number: u64, range: std::ops::Range<u64>) {
        let inputs = HostInputs::Index { first: 0 };
        self.send(&ToHost::Grant {
            grant: grant_id(number),
            range: range.into(),
            inputs,
            restarts: 0,
        });
    }

    /// Revokes from a grant of which no piece lies apart, and takes the answer.
    pub(crate) fn revoke(&mut self, number: u64, count: u64) -> IndexRange {
        let grant = grant_id(number);
        self.send(&ToHost::Revoke { grant, count });
        let answer = self.receive_other();
        let FromHost::Returned {
            grant: answered,
            range,
        } = answer
        else {
            panic!("{answer:?}");
        };
        assert_eq!(answered, grant);
        range
    }

    /// Revokes and takes the answers, of which there is one for each piece: all that come before the answer to a revoke of a
    /// grant that is not there.
    pub(crate) fn revoke_pieces(&mut self, number: u64, count: u64) -> Vec<IndexRange> {
        let (grant, nowhere) = (grant_id(number), grant_id(u64::MAX));
        self.send(&ToHost::Revoke { grant, count });
        self.send(&ToHost::Revoke {
            grant: nowhere,
            count: 1,
        });
        let mut pieces = Vec::new();
        loop {
            let answer = self.receive_other();
            let FromHost::Returned {
                grant: answered,
                range,
            } = answer
            else {
                panic!("{answer:?}");
            };
            if answered == nowhere {
                return pieces;
            }
            assert_eq!(answered, grant);
            pieces.push(range);
        }
    }

    /// Ends the job.
    pub(crate) fn close(&mut self) {
        self.send(&ToHost::Close);
        assert_eq!(self.receive_other(), FromHost::Closed);
    }

    pub(crate) fn send(&mut self, message: &ToHost) {
        let bytes = codec::encode(message);
        let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
        frame.extend(bytes);
        self.stream.write_all(&frame).unwrap();
    }

    pub(crate) fn receive(&mut self) -> FromHost {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).unwrap();
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        codec::decode(&bytes).unwrap()
    }

    /// The next message that is no progress; progress is kept.
    pub(crate) fn receive_other(&mut self) -> FromHost {
        loop {
            let message = self.receive();
            let FromHost::Progress(progress) = message else {
                return message;
            };
            self.ended.add(progress);
        }
    }

    /// Takes progress until `tasks` tasks have ended.
    pub(crate) fn await_ended(&mut self, tasks: u64) -> &Ended {
        while self.ended.count() < tasks {
            let message = self.receive();
            let FromHost::Progress(progress) = message else {
                panic!("{message:?}");
            };
            self.ended.add(progress);
        }
        assert_eq!(self.ended.count(), tasks);
        &self.ended
    }

    /// Closes the socket and says how the host ended.
    pub(crate) fn hang_up(mut self) -> Result<(), HostError> {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.host.take().unwrap().join().unwrap()
    }
}

/// Waits for the host's end: else it would kill as orphans what the host of the next test has started.
impl Drop for Driver {
    fn drop(&mut self) {
        // fails if it was done before
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        // a test that fails for another reason says so
        let _ = self.host.take().map(JoinHandle::join);
    }
}
