//! A scheduler that plays a script: a real listener on loopback, answers from a closure.
//!
//! It keeps blobs like a real one. Everything else that is asked goes to the script, which says what to do on that stream.

#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers what it is about")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{BlobId, IndexRange, JobId, JobSpec, Term, WorkerChoice, codec};
use phalanx_transport::{
    Accepted, Authority, CloseReason, Connection, Credential, Listener, Role, StreamReader, StreamWriter,
};
use serde::Serialize;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::ClientOptions;
use crate::cluster::Cluster;

/// What the fake does on a stream.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
pub(crate) enum Act {
    Say(Reply),
    Bytes(Vec<u8>),
    /// Ends the stream, and the connection once the stream has arrived.
    HangUp,
    /// Ends the connection at once.
    Close(CloseReason),
    /// Says nothing more, for ever.
    Hang,
}

type Script = dyn Fn(usize, &Request) -> Vec<Act> + Send + Sync;

/// What was asked and uploaded.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Request>,
    pub(crate) blobs: BTreeMap<BlobId, Vec<u8>>,
}

impl Seen {
    pub(crate) fn specs(&self) -> Vec<JobSpec> {
        let specs = self.requests.iter().filter_map(|request| match request {
            Request::Submit(spec) => Some((**spec).clone()),
            _ => None,
        });
        specs.collect()
    }
}

pub(crate) struct FakeScheduler {
    pub(crate) address: SocketAddr,
    authority: Authority,
    seen: Arc<Mutex<Seen>>,
    others: Arc<Mutex<Vec<String>>>,
    told: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeScheduler {
    /// Starts one; the script gets the number of the stream among those that asked it, from 0.
    pub(crate) fn start(script: impl Fn(usize, &Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::of(Authority::create("fake").unwrap(), script)
    }

    /// Starts another one of the same cluster.
    pub(crate) fn beside(
        &self,
        script: impl Fn(usize, &Request) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Authority::from_pem(&self.authority.to_pem()).unwrap(), script)
    }

    fn of(
        authority: Authority,
        script: impl Fn(usize, &Request) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let credential = authority.issue(Role::Scheduler, "fake").unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (others, told_of) = (Arc::default(), Arc::new(Notify::new()));
        let mut stage = Stage {
            others: Arc::clone(&others),
            told: Arc::clone(&told_of),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            script: Arc::new(script),
            seen: Arc::clone(&seen),
            asked: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let mut listener = Listener::bind(stage.address, &credential).unwrap();
                stage.address = listener.local_address().unwrap();
                tell.send(stage.address).unwrap();
                tokio::select! {
                    () = stage.serve(&mut listener) => {}
                    _ = stopped => {}
                }
                listener.close(CloseReason::Shutdown, "").await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            authority,
            seen,
            others,
            told: told_of,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn credential(&self) -> Credential {
        self.authority.issue(Role::User, "ada").unwrap()
    }

    /// A cluster of this scheduler alone.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::connect_to(&[self.address], &self.credential(), patient()).unwrap()
    }

    /// Has it name another scheduler to whoever asks.
    pub(crate) fn names_also(&self, address: &str) {
        self.others.lock().unwrap().push(address.to_owned());
    }

    /// Waits until a client was told where schedulers are.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Drop for FakeScheduler {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the fake scheduler has panicked"
            );
        }
    }
}

/// Waits for longer than anything here takes, on however busy a machine.
pub(crate) fn patient() -> ClientOptions {
    ClientOptions {
        connect_patience: Duration::from_secs(30),
        silence_patience: Duration::from_secs(30),
        patience: Duration::from_secs(30),
    }
}

#[derive(Clone)]
struct Stage {
    address: SocketAddr,
    others: Arc<Mutex<Vec<String>>>,
    told: Arc<Notify>,
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
    asked: Arc<Mutex<usize>>,
}

impl Stage {
    async fn serve(&self, listener: &mut Listener) {
        let mut sessions = JoinSet::new();
        while let Some(accepted) = listener.accept().await {
            if let Accepted::Connection(connection) = accepted {
                sessions.spawn(self.clone().session(connection));
            }
        }
    }

    async fn session(self, connection: Connection) {
        let mut streams = JoinSet::new();
        while let Ok((writer, reader)) = connection.accept_bi(DATA_FRAME_BYTES_MAX).await {
            streams.spawn(self.clone().stream(connection.clone(), writer, reader));
        }
    }

    async fn stream(self, connection: Connection, mut writer: StreamWriter, mut reader: StreamReader) {
        let Ok(Some(request)) = reader.recv::<Request>().await else {
            return;
        };
        // clients ask that in the background, whenever they like
        if request == Request::Schedulers {
            let leader = vec![self.address.to_string()];
            let also = self.others.lock().unwrap().clone();
            let all = leader.iter().cloned().chain(also).collect();
            let term = Term(1);
            let _ = writer.send(&Reply::Schedulers { leader, all, term }).await;
            let _ = writer.delivered().await;
            self.told.notify_one();
            return;
        }
        self.seen.lock().unwrap().requests.push(request.clone());
        for act in self.acts(&request, &mut reader).await {
            let done = match act {
                Act::Say(reply) => writer.send(&reply).await,
                Act::Bytes(bytes) => writer.send_bytes(&bytes).await,
                Act::HangUp => {
                    let _ = writer.delivered().await;
                    return connection.close(CloseReason::Shutdown, "as the script says");
                }
                Act::Close(reason) => return connection.close(reason, "as the script says"),
                Act::Hang => std::future::pending().await,
            };
            if done.is_err() {
                return;
            }
        }
        let _ = writer.finish().await;
    }

    async fn acts(&self, request: &Request, reader: &mut StreamReader) -> Vec<Act> {
        match request {
            Request::FindMissing(blobs) => {
                let seen = self.seen.lock().unwrap();
                let missing = blobs.iter().filter(|blob| !seen.blobs.contains_key(blob));
                vec![Act::Say(Reply::Missing(missing.copied().collect()))]
            }
            Request::PutBlob { blob, bytes } => vec![Act::Say(self.keep(*blob, *bytes, reader).await)],
            _ => {
                let number = {
                    let mut asked = self.asked.lock().unwrap();
                    *asked += 1;
                    *asked - 1
                };
                (self.script)(number, request)
            }
        }
    }

    async fn keep(&self, blob: BlobId, bytes: u64, reader: &mut StreamReader) -> Reply {
        let mut kept = Vec::new();
        while let Ok(Some(piece)) = reader.recv_bytes().await {
            assert!(piece.len() <= 1 << 20, "a piece of {} bytes", piece.len());
            kept.extend_from_slice(&piece);
        }
        if kept.len() as u64 != bytes || *blake3::hash(&kept).as_bytes() != blob.0 {
            return Reply::Refused(Refusal::BlobDamaged(blob));
        }
        self.seen.lock().unwrap().blobs.insert(blob, kept);
        Reply::Done
    }
}

/// A job that runs.
pub(crate) fn view(job: u64, tasks: u64) -> JobView {
    JobView {
        usage: None,
        job: JobId(job),
        name: "job".to_owned(),
        user: "ada".to_owned(),
        kernel: "kernel".to_owned(),
        command: None,
        encoding: phalanx_protocol::Encoding::Bincode,
        reduce: false,
        resting: 0,
        request: phalanx_protocol::Request::default(),
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
        priority: 0,
        outcome: None,
        tasks,
        done: 0,
        failed: 0,
        slots: 0,
        workers: 0,
        tasks_per_second: 0.0,
        submitted_unix_millis: 0,
        finished_unix_millis: None,
        first_failures: Vec::new(),
        slots_max: None,
        task_time_limit_millis: None,
        time_limit_millis: None,
        started_unix_millis: None,
        held: false,
        begin_unix_millis: None,
        conditions: Vec::new(),
        any_of: false,
        waits_for: Vec::new(),
        never: false,
        cancelled: 0,
    }
}

/// The end of a job, of whose tasks `failed` failed.
pub(crate) fn end(job: u64, tasks: u64, failed: u64) -> Act {
    let outcome = if failed == 0 {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    };
    Act::Say(Reply::Job(JobView {
        done: tasks - failed,
        failed,
        outcome: Some(outcome),
        ..view(job, tasks)
    }))
}

/// A block of results, of which only `keep` counts.
pub(crate) fn block<T: Serialize>(start: u64, keep: &[(u64, u64)], values: &[T]) -> Vec<Act> {
    let range = IndexRange::new(start, start + values.len() as u64);
    let keep = keep
        .iter()
        .map(|&(start, end)| IndexRange::new(start, end))
        .collect();
    let bytes = values.iter().flat_map(codec::encode).collect();
    vec![Act::Say(Reply::Results { range, keep }), Act::Bytes(bytes)]
}

/// A block of results that all count.
pub(crate) fn whole<T: Serialize>(start: u64, values: &[T]) -> Vec<Act> {
    block(start, &[(start, start + values.len() as u64)], values)
}
