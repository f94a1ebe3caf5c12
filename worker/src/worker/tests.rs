//! A whole worker on loopback, between a scheduler that is a listener in the test and hosts that are socket pairs in it.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX, REPORT_INLINE_BYTES_MAX};
use phalanx_protocol::message::host::{FromHost, PROTOCOL_VERSION, Progress, ToHost};
use phalanx_protocol::message::worker::{FromWorker, HeldGrant, Join, Report, ToWorker};
use phalanx_protocol::record::{FailureCause, ResultData};
use phalanx_protocol::{
    BlobId, Encoding, GrantId, IndexRange, Inputs, JobId, KernelWork, Payload, Request, Term,
};
use phalanx_storage::{Blobs, Results};
use phalanx_transport::{
    Accepted, Authority, CloseReason, Connection, FrameReader, FrameWriter, Listener, Role, StreamReader,
    StreamWriter,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::hosts::{Ending, Launched, Process, Program};

/// Nothing in these tests takes longer, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(20);
const JOB: JobId = JobId(1);

async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(DEADLINE, event)
        .await
        .expect("the event did not come in time")
}

fn grant(number: u64) -> GrantId {
    GrantId {
        term: Term(1),
        number,
    }
}

/// Hands the far end of each host's socket to the test.
struct FakeLauncher(mpsc::UnboundedSender<FakeHost>);

struct FakeProcess {
    ending: oneshot::Receiver<String>,
    ended: Option<String>,
    kill: Option<oneshot::Sender<()>>,
}

struct FakeHost {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    die: oneshot::Sender<String>,
    killed: oneshot::Receiver<()>,
}

impl Launcher for FakeLauncher {
    fn launch(&self, program: &Program, _board: &Path, _mark: &str) -> io::Result<Launched> {
        assert!(
            matches!(program, Program::File(path) if path.is_file()),
            "the program lies in the cache before it is started"
        );
        let (socket, theirs) = UnixStream::pair()?;
        let (die, ending) = oneshot::channel();
        let (kill, killed) = oneshot::channel();
        let (reader, writer) = theirs.into_split();
        let host = FakeHost {
            reader: FrameReader::new(reader, DATA_FRAME_BYTES_MAX),
            writer: FrameWriter::new(writer, DATA_FRAME_BYTES_MAX),
            die,
            killed,
        };
        self.0
            .send(host)
            .map_err(|_| io::Error::other("the test is over"))?;
        Ok(Launched {
            socket,
            process: Box::new(FakeProcess {
                ending,
                ended: None,
                kill: Some(kill),
            }),
        })
    }
}

impl Process for FakeProcess {
    fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
    }

    fn id(&self) -> Option<u32> {
        None
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = Ending> + Send + '_>> {
        Box::pin(async {
            if self.kill.is_none() {
                return Ending {
                    how: "signal 9 (SIGKILL)".into(),
                    by_itself: false,
                };
            }
            if self.ended.is_none() {
                match (&mut self.ending).await {
                    Ok(how) => self.ended = Some(how),
                    Err(_) => std::future::pending().await,
                }
            }
            Ending {
                how: self.ended.clone().unwrap_or_default(),
                by_itself: false,
            }
        })
    }
}

impl FakeHost {
    async fn hear(&mut self) -> ToHost {
        soon(self.reader.recv()).await.unwrap().unwrap()
    }

    async fn say(&mut self, message: FromHost) {
        self.writer.send(&message).await.unwrap();
    }

    /// Says hello, opens the job and takes its slots.
    async fn get_ready(&mut self, slots: u32) {
        self.say(FromHost::Hello {
            version: PROTOCOL_VERSION,
        })
        .await;
        self.take_job(slots).await;
    }

    async fn take_job(&mut self, slots: u32) {
        assert!(matches!(self.hear().await, ToHost::Open { .. }));
        // slots and grants do not wait for this
        self.say(FromHost::Ready).await;
        assert_eq!(self.hear().await, ToHost::SetSlots(slots));
        self.say(FromHost::Slots(slots)).await;
    }

    async fn finish(&mut self, number: u64, start: u64, end: u64, result_bytes: usize) {
        let range = IndexRange::new(start, end);
        let progress = Progress {
            done: vec![(grant(number), vec![range])],
            results: vec![(range, vec![7; result_bytes].into())],
            ..Progress::default()
        };
        self.say(FromHost::Progress(progress)).await;
    }
}

/// One session, from the scheduler's side.
struct Session {
    connection: Connection,
    writer: StreamWriter,
    reader: StreamReader,
    reports: Option<StreamReader>,
    join: Join,
}

impl Session {
    async fn say(&mut self, message: ToWorker) {
        self.writer.send(&message).await.unwrap();
    }

    async fn hear(&mut self) -> FromWorker {
        soon(self.reader.recv()).await.unwrap().unwrap()
    }

    async fn report(&mut self) -> Report {
        if self.reports.is_none() {
            self.reports = Some(
                soon(self.connection.accept_uni(DATA_FRAME_BYTES_MAX))
                    .await
                    .unwrap(),
            );
        }
        soon(self.reports.as_mut().unwrap().recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn open(&mut self, job: JobId, program: BlobId, slots: u32) {
        let work = KernelWork {
            program,
            kernel: "primes".into(),
            parameters: Payload::Inline(Default::default()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        };
        let request = Request::default();
        self.say(ToWorker::Open {
            job,
            user: "ada".into(),
            work: work.into(),
            request,
            task_time_limit_millis: None,
        })
        .await;
        self.say(ToWorker::SetSlots { job, slots }).await;
    }

    async fn grant(&mut self, number: u64, start: u64, end: u64) {
        let range = IndexRange::new(start, end);
        self.say(ToWorker::Grant {
            job: JOB,
            grant: grant(number),
            range,
            restarts: 0,
        })
        .await;
    }
}

/// A cluster with one worker.
struct World {
    listener: Listener,
    hosts: mpsc::UnboundedReceiver<FakeHost>,
    worker: RunningWorker,
    directory: Arc<Directory>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(Duration::ZERO, DEADLINE)
    }

    /// With a worker whose tasks have `grace` when it is stopped, and that looks for a scheduler for `rejoin_for`.
    fn with(grace: Duration, rejoin_for: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("test").unwrap();
        let scheduler = authority.issue(Role::Scheduler, "s").unwrap();
        // no session ends because one of its sides has to wait for the machine
        let options = EndpointOptions {
            idle_timeout: DEADLINE,
            ..EndpointOptions::default()
        };
        let here = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind_with(here, &scheduler, &options, None).unwrap();
        let (launched, hosts) = mpsc::unbounded_channel();
        let config = WorkerConfig {
            schedulers: vec![listener.local_address().unwrap()].into(),
            credential: authority.issue(Role::Worker, "node").unwrap(),
            storage: folder.path().join("storage"),
            cache: folder.path().join("cache"),
            name: "node".into(),
            capacity: Resources {
                cpus: 4,
                ..Resources::default()
            },
            equipment: Equipment::default(),
            rejoin_for,
            grace,
        };
        let worker = Worker::start_with(config, Arc::new(FakeLauncher(launched))).unwrap();
        let directory = Arc::new(Directory::open(folder.path().join("storage")).unwrap());
        Self {
            listener,
            hosts,
            worker,
            directory,
            _folder: folder,
        }
    }

    async fn session(&mut self) -> Session {
        let (connection, writer, mut reader) = loop {
            let Accepted::Connection(connection) = soon(self.listener.accept()).await.unwrap() else {
                continue;
            };
            // a worker that had to wait for too long has let go, and comes again
            if let Ok((writer, reader)) = soon(connection.accept_bi(CONTROL_FRAME_BYTES_MAX)).await {
                break (connection, writer, reader);
            }
        };
        let Some(FromWorker::Join(join)) = soon(reader.recv()).await.unwrap() else {
            panic!("no join")
        };
        let mut session = Session {
            connection,
            writer,
            reader,
            reports: None,
            join,
        };
        session
            .say(ToWorker::Welcome {
                worker: WorkerId(3),
                term: Term(1),
            })
            .await;
        // a worker that the machine lets wait has not stood still
        let millis = WORKER_TIMEOUT_MILLIS_MAX;
        session.say(ToWorker::SilenceLimit { millis }).await;
        session
    }

    fn program(&self, content: &[u8]) -> BlobId {
        Blobs::new(Arc::clone(&self.directory))
            .put_from_reader(content)
            .unwrap()
    }

    fn kernel_program(&self) -> BlobId {
        self.program(&program::tests::kernel_program())
    }

    async fn host(&mut self) -> FakeHost {
        soon(self.hosts.recv()).await.unwrap()
    }

    async fn join(self) -> Result<(), WorkerError> {
        let worker = self.worker;
        soon(tokio::task::spawn_blocking(|| worker.join())).await.unwrap()
    }
}

#[tokio::test]
async fn a_job_runs_from_join_to_acknowledgement_and_the_next_one_finds_its_host_warm() {
    let mut world = World::new();
    let mut session = world.session().await;
    assert_eq!((session.join.worker, session.join.name.as_str()), (None, "node"));
    let program = world.kernel_program();
    session.open(JOB, program, 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    assert!(matches!(
        host.hear().await,
        ToHost::Grant {
            range: IndexRange { start: 0, end: 10 },
            ..
        }
    ));
    assert_eq!(world.worker.id(), Some(WorkerId(3)));
    host.finish(1, 0, 10, 8).await;
    let report = session.report().await;
    assert_eq!(
        (report.number, &report.done),
        (1, &vec![(grant(1), vec![IndexRange::new(0, 10)])])
    );
    session.say(ToWorker::Acknowledge { number: 1 }).await;
    session.say(ToWorker::Close { job: JOB }).await;
    assert_eq!(host.hear().await, ToHost::Close);
    host.say(FromHost::Closed).await;
    // no second process: the same host hears of the next job
    session.open(JobId(2), program, 1).await;
    host.take_job(1).await;

    world.worker.stop();
    assert_eq!(session.hear().await, FromWorker::Leaving);
    soon(host.killed).await.unwrap();
    world.join().await.unwrap();
}

#[tokio::test]
async fn a_drained_worker_finishes_what_runs_gives_the_rest_back_and_leaves() {
    let mut world = World::new();
    let mut session = world.session().await;
    session.open(JOB, world.kernel_program(), 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    session.say(ToWorker::Drain).await;
    assert_eq!(session.hear().await, FromWorker::Draining);
    assert_eq!(host.hear().await, ToHost::CheckpointNow);
    let (job, count) = (JOB, 10);
    session
        .say(ToWorker::Revoke {
            job,
            grant: grant(1),
            count,
        })
        .await;
    assert!(matches!(host.hear().await, ToHost::Revoke { .. }));
    let range = IndexRange::new(2, 10);
    host.say(FromHost::Returned {
        grant: grant(1),
        range,
    })
    .await;
    let returned = FromWorker::Returned {
        job,
        grant: grant(1),
        range,
    };
    assert_eq!(session.hear().await, returned);
    host.finish(1, 0, 2, 8).await;
    let number = session.report().await.number;
    session.say(ToWorker::Acknowledge { number }).await;
    assert_eq!(session.hear().await, FromWorker::Leaving);
    soon(host.killed).await.unwrap();
    world.join().await.unwrap();
}

#[tokio::test]
async fn a_second_stop_does_not_wait_for_what_runs() {
    let mut world = World::with(Duration::from_secs(3600), DEADLINE);
    let mut session = world.session().await;
    session.open(JOB, world.kernel_program(), 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    world.worker.stop();
    assert_eq!(session.hear().await, FromWorker::Draining);
    world.worker.stop_now();
    assert_eq!(session.hear().await, FromWorker::Leaving);
    soon(host.killed).await.unwrap();
    world.join().await.unwrap();
}

#[tokio::test]
async fn a_lost_scheduler_finds_the_worker_again_with_what_it_holds_and_what_it_finished() {
    let mut world = World::new();
    let mut session = world.session().await;
    let program = world.kernel_program();
    session.open(JOB, program, 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    host.finish(1, 0, 4, 8).await;
    host.finish(1, 4, 6, 8).await;
    let first = session.report().await;
    let second = session.report().await;
    session.say(ToWorker::Acknowledge { number: first.number }).await;
    let instance = session.join.instance;
    // the acknowledgement is read before the end: both are on their way in order, and this closes in order
    soon(session.writer.delivered()).await.unwrap();
    let mut session = world.session().await;
    assert_eq!(
        (session.join.instance, session.join.worker),
        (instance, Some(WorkerId(3)))
    );
    let range = IndexRange::new(6, 10);
    assert_eq!(
        session.join.held,
        [HeldGrant {
            job: JOB,
            grant: grant(1),
            range
        }]
    );
    assert_eq!(session.report().await, second);
    // it went on computing
    host.finish(1, 6, 10, 8).await;
    assert_eq!(session.report().await.number, 3);
}

#[tokio::test]
async fn a_worker_that_holds_work_does_not_give_up_and_one_that_holds_none_does() {
    // a lost session is already one too long; if the first does not come about at once, the worker is gone
    let first = async {
        loop {
            let mut world = World::with(Duration::ZERO, Duration::ZERO);
            if let Ok(session) = timeout(DEADLINE / 4, world.session()).await {
                break (world, session);
            }
        }
    };
    let (mut world, mut session) = soon(first).await;
    session.open(JOB, world.kernel_program(), 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    soon(session.writer.delivered()).await.unwrap();
    // it has tasks
    let mut session = world.session().await;
    assert_eq!(session.join.held.len(), 1);
    host.finish(1, 0, 10, 8).await;
    let report = session.report().await;
    soon(session.writer.delivered()).await.unwrap();
    // it has a report that nobody has acknowledged
    let mut session = world.session().await;
    assert_eq!(session.join.held, []);
    assert_eq!(session.report().await, report);
    session
        .say(ToWorker::Acknowledge {
            number: report.number,
        })
        .await;
    soon(session.writer.delivered()).await.unwrap();
    let ended = world.join().await;
    assert!(matches!(ended, Err(WorkerError::NotTaken)), "{ended:?}");
}

#[tokio::test]
async fn large_results_lie_on_storage_when_they_are_reported() {
    let mut world = World::new();
    let mut session = world.session().await;
    let program = world.kernel_program();
    session.open(JOB, program, 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    let bytes = REPORT_INLINE_BYTES_MAX + 1;
    host.finish(1, 0, 10, bytes).await;
    let report = session.report().await;
    let ResultData::File {
        name,
        offset,
        bytes: length,
        crc32c,
    } = &report.results[0].data
    else {
        panic!("{report:?}")
    };
    let results = Results::new(Arc::clone(&world.directory) as _);
    let read = results.read_part(JOB, name, *offset, *length, *crc32c).unwrap();
    assert_eq!(read, vec![7; bytes]);
}

#[tokio::test]
async fn a_dead_host_is_reported_after_what_it_said_last() {
    let mut world = World::new();
    let mut session = world.session().await;
    let program = world.kernel_program();
    session.open(JOB, program, 2).await;
    session.grant(1, 0, 10).await;
    let mut host = world.host().await;
    host.get_ready(2).await;
    host.hear().await;
    host.finish(1, 0, 3, 8).await;
    host.die.send("signal 11 (SIGSEGV)".into()).unwrap();
    drop((host.reader, host.writer));
    assert_eq!(session.report().await.done[0].1, [IndexRange::new(0, 3)]);
    let how = "signal 11 (SIGSEGV)".to_owned();
    assert_eq!(
        session.hear().await,
        FromWorker::HostLost {
            job: JOB,
            blamed: Vec::new(),
            cause: FailureCause::Crash,
            how
        }
    );
}

#[tokio::test]
async fn programs_that_cannot_run_here_are_refused_with_the_reason() {
    let mut world = World::new();
    let mut session = world.session().await;
    let nonsense = world.program(b"#!/bin/sh\n");
    let other_version = world.kernel_program();
    let missing = BlobId([3; 32]);
    for (program, needle, is_fatal) in [(nonsense, "ELF", true), (missing, "is not on the storage", false)] {
        session.open(JOB, program, 1).await;
        let FromWorker::CannotRun { reason, fatal, .. } = session.hear().await else {
            panic!()
        };
        assert!(fatal == is_fatal && reason.contains(needle), "{reason}");
    }
    session.open(JOB, other_version, 1).await;
    let mut host = world.host().await;
    host.say(FromHost::Hello {
        version: PROTOCOL_VERSION + 1,
    })
    .await;
    let FromWorker::CannotRun { reason, fatal, .. } = session.hear().await else {
        panic!()
    };
    assert!(
        fatal && reason.contains(&format!("version {} of the host protocol", PROTOCOL_VERSION + 1)),
        "{reason}"
    );
}

#[tokio::test]
async fn a_worker_that_is_refused_says_why_it_ended() {
    let mut world = World::new();
    let Some(Accepted::Connection(connection)) = soon(world.listener.accept()).await else {
        panic!()
    };
    let (_writer, mut reader) = soon(connection.accept_bi(CONTROL_FRAME_BYTES_MAX)).await.unwrap();
    assert!(matches!(
        soon(reader.recv()).await.unwrap(),
        Some(FromWorker::Join(_))
    ));
    connection.close(CloseReason::Refused, "its name is taken");
    assert!(matches!(world.join().await, Err(WorkerError::Refused { text }) if text == "its name is taken"));
}

#[test]
fn a_worker_that_nobody_answers_is_not_ready_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let credential = Authority::create("test")
        .unwrap()
        .issue(Role::Worker, "node")
        .unwrap();
    let worker = Worker::start(WorkerConfig {
        schedulers: Vec::new().into(),
        credential,
        storage: folder.path().join("storage"),
        cache: folder.path().join("cache"),
        name: "node".into(),
        capacity: crate::detect_capacity(),
        equipment: Equipment::detect(),
        rejoin_for: WorkerConfig::REJOIN_FOR,
        grace: WorkerConfig::GRACE,
    })
    .unwrap();
    assert_eq!(worker.ready(Duration::ZERO), Err(NotReady::Timeout));
    worker.stop();
    worker.join().unwrap();
}
