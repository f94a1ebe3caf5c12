//! The scheduler's side of one session with one worker, step by step as the test wants it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_protocol::message::host::BOARD_LINE_BYTES;
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_protocol::{
    BlobId, Encoding, GrantId, IndexRange, Inputs, JobId, KernelWork, Payload, Request, Resources, Term,
    WorkerId, codec,
};
use phalanx_storage::{Blobs, Directory};
use phalanx_transport::{Accepted, Authority, Connection, Listener, Role, StreamReader, StreamWriter};
use phalanx_worker::{Equipment, RunningWorker, Worker, WorkerConfig};
use tokio::time::timeout;

/// Nothing here takes longer, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const JOB: JobId = JobId(1);

pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(DEADLINE, event)
        .await
        .expect("the event did not come in time")
}

pub(crate) fn grant(number: u64) -> GrantId {
    GrantId {
        term: Term(1),
        number,
    }
}

/// Cargo puts examples beside the folder of the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/mishaps");
    assert!(program.exists(), "not built: cargo build -p phalanx --examples");
    program
}

/// A session with a worker of four cpus.
pub(crate) struct Scheduler {
    connection: Connection,
    writer: StreamWriter,
    reader: StreamReader,
    reports: Option<StreamReader>,
    program: BlobId,
    pub(crate) worker: RunningWorker,
    _listener: Listener,
    pub(crate) folder: tempfile::TempDir,
}

impl Scheduler {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("test").unwrap();
        let credential = authority.issue(Role::Scheduler, "s").unwrap();
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), &credential).unwrap();
        let storage = folder.path().join("storage");
        let worker = Worker::start(WorkerConfig {
            schedulers: vec![listener.local_address().unwrap()].into(),
            credential: authority.issue(Role::Worker, "node").unwrap(),
            storage: storage.clone(),
            cache: folder.path().join("cache"),
            name: "node".into(),
            capacity: Resources {
                cpus: 4,
                memory_bytes: 64 << 30,
                ..Resources::default()
            },
            equipment: Equipment::detect(),
            rejoin_for: DEADLINE,
            grace: DEADLINE,
        })
        .unwrap();
        let blobs = Blobs::new(Arc::new(Directory::open(storage).unwrap()));
        let program = blobs
            .put_from_reader(std::fs::File::open(program()).unwrap())
            .unwrap();
        let connection = loop {
            if let Accepted::Connection(connection) = soon(listener.accept()).await.unwrap() {
                break connection;
            }
        };
        let (mut writer, mut reader) = soon(connection.accept_bi(CONTROL_FRAME_BYTES_MAX)).await.unwrap();
        let joined = soon(reader.recv()).await.unwrap();
        assert!(matches!(joined, Some(FromWorker::Join(_))), "{joined:?}");
        let welcome = ToWorker::Welcome {
            worker: WorkerId(3),
            term: Term(1),
        };
        writer.send(&welcome).await.unwrap();
        Self {
            connection,
            writer,
            reader,
            reports: None,
            program,
            worker,
            _listener: listener,
            folder,
        }
    }

    pub(crate) async fn say(&mut self, message: ToWorker) {
        self.writer.send(&message).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> FromWorker {
        soon(self.reader.recv()).await.unwrap().unwrap()
    }

    /// Opens the job with a kernel of the program.
    pub(crate) async fn open(
        &mut self,
        kernel: &str,
        parameters: Vec<u8>,
        slots: u32,
        memory_bytes: u64,
        task_time_limit_millis: Option<u64>,
    ) {
        let work = KernelWork {
            program: self.program,
            kernel: kernel.into(),
            parameters: Payload::Inline(parameters.into()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        };
        self.say(ToWorker::Open {
            job: JOB,
            user: "ada".into(),
            work: work.into(),
            request: Request {
                memory_bytes,
                ..Request::default()
            },
            task_time_limit_millis,
        })
        .await;
        self.say(ToWorker::SetSlots { job: JOB, slots }).await;
    }

    pub(crate) async fn grant(&mut self, number: u64, start: u64, end: u64) {
        let range = IndexRange::new(start, end);
        self.say(ToWorker::Grant {
            job: JOB,
            grant: grant(number),
            range,
            restarts: 0,
        })
        .await;
    }

    pub(crate) async fn report(&mut self) -> Report {
        if self.reports.is_none() {
            let stream = soon(self.connection.accept_uni(DATA_FRAME_BYTES_MAX)).await;
            self.reports = Some(stream.unwrap());
        }
        soon(self.reports.as_mut().unwrap().recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until a slot runs that task, as some host's running board shows.
    pub(crate) async fn task_runs(&self, index: u64) {
        let boards = self.folder.path().join("cache/boards");
        let shows = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            let (lines, _) = bytes.as_chunks::<BOARD_LINE_BYTES>();
            lines.iter().any(|line| line.starts_with(&index.to_ne_bytes()))
        };
        let runs = async {
            while !std::fs::read_dir(&boards)
                .unwrap()
                .any(|board| shows(board.unwrap().path()))
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(runs).await;
    }

    /// Running boards that the worker keeps.
    pub(crate) fn board_count(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("cache/boards"))
            .unwrap()
            .count()
    }
}

/// Parameters as a client sends them.
pub(crate) fn parameters<T: serde::Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value)
}
