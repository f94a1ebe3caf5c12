//! A scheduler in a temporary directory, and peers that say what a test tells them to.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::message::worker::{FromWorker, Join, Report, ToWorker};
use phalanx_protocol::record::{ResultBlock, ResultData};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, GrantId, IndexRange, Inputs, JobId, JobSpec, KernelWork, Payload, Resources,
    Retries, SubmissionId, Work, WorkerChoice,
};
use phalanx_scheduler::{JournalOptions, RunningScheduler, Scheduler, SchedulerConfig, StartError};
use phalanx_storage::{Directory, LogId, Members};
use phalanx_transport::{
    Authority, CloseReason, Connection, ConnectionLost, Credential, Dialer, EndpointOptions, Role,
    StreamReader, StreamWriter,
};
use rustix::mount::MountFlags;
use tokio::time::timeout;

use crate::faulty::Faults;

/// How long anything may take that a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long peers may be silent: longer than a busy machine lets them wait, and so short that a new leader, which awaits the
/// workers of the former for as long, can be waited for.
const WORKER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often in a row, and at what interval, storage has to be found full.
const FULL_LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(20);
const CLUSTER_ID: &str = "000102030405060708090a0b0c0d0e0f";

pub(crate) struct Cluster {
    authority: Authority,
    scheduler: Option<RunningScheduler>,
    storage: PathBuf,
    journal: JournalOptions,
    faults: Arc<Faults>,
    _folder: tempfile::TempDir,
    mounted: bool,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let mut cluster = Self::prepared_with(JournalOptions::default());
        cluster.restart();
        cluster
    }

    /// With nothing on its storage and no scheduler yet.
    pub(crate) fn prepared_with(journal: JournalOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        let mut cluster = Self::on(folder, storage, false);
        cluster.journal = journal;
        cluster
    }

    /// On storage that fails when it is told to.
    pub(crate) fn on_faulty_storage() -> Self {
        let mut cluster = Self::prepared_with(JournalOptions::default());
        cluster.journal.layer = Some(cluster.faults.layer());
        cluster.restart();
        cluster
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// On a file system of 4 MiB; `None` if this process may not mount one.
    pub(crate) fn on_small_storage() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("small");
        std::fs::create_dir(&storage).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("none", &storage, "tmpfs", flags, c"size=4m").ok()?;
        let mut cluster = Self::on(folder, storage, true);
        cluster.restart();
        Some(cluster)
    }

    fn on(folder: tempfile::TempDir, storage: PathBuf, mounted: bool) -> Self {
        let authority = Authority::create(CLUSTER_ID).unwrap();
        Self {
            authority,
            scheduler: None,
            storage,
            journal: JournalOptions::default(),
            faults: Arc::default(),
            _folder: folder,
            mounted,
        }
    }

    /// Stops the scheduler, mounts its storage anew with other options, and tries to start: why it does not.
    pub(crate) fn start_error_with(&mut self, flags: MountFlags) -> StartError {
        self.scheduler = None;
        rustix::mount::mount_remount(&self.storage, flags, "size=4m").unwrap();
        Scheduler::start(self.config()).unwrap_err()
    }

    /// Under the running scheduler, between two of its writes.
    pub(crate) fn remount_read_only(&self) {
        let until = Instant::now() + DEADLINE;
        while let Err(errno) = rustix::mount::mount_remount(&self.storage, MountFlags::RDONLY, "size=4m") {
            assert!(
                errno == rustix::io::Errno::BUSY && Instant::now() < until,
                "{errno}"
            );
        }
    }

    pub(crate) fn remount_writable(&self) {
        rustix::mount::mount_remount(&self.storage, MountFlags::empty(), "size=4m").unwrap();
    }

    /// Stops the scheduler, and tries to start it on what is left of the storage: why it does not.
    pub(crate) fn start_error(&mut self) -> StartError {
        self.scheduler = None;
        Scheduler::start(self.config()).unwrap_err()
    }

    pub(crate) fn restart(&mut self) {
        self.scheduler = None;
        self.scheduler = Some(Scheduler::start(self.config()).unwrap());
    }

    fn config(&self) -> SchedulerConfig {
        self.config_of("s1")
    }

    fn config_of(&self, name: &str) -> SchedulerConfig {
        SchedulerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            credential: self.authority.issue(Role::Scheduler, name).unwrap(),
            storage: self.storage.clone(),
            name: name.into(),
            cluster: CLUSTER_ID.into(),
            keys: None,
            takeover_after: SchedulerConfig::TAKEOVER_AFTER,
            worker_timeout: WORKER_TIMEOUT,
            journal: self.journal.clone(),
        }
    }

    /// Starts another scheduler on the same storage.
    pub(crate) fn beside(&self, name: &str) -> RunningScheduler {
        self.wait_for_card();
        Scheduler::start(self.config_of(name)).unwrap()
    }

    /// Starts one that would wait for a long time before it gives up a leader for its card.
    pub(crate) fn patient_beside(&self, name: &str) -> RunningScheduler {
        self.wait_for_card();
        let mut config = self.config_of(name);
        config.takeover_after = Duration::from_secs(600);
        Scheduler::start(config).unwrap()
    }

    /// Waits until the first scheduler, if it leads, has said so on its card: who starts before that may take the lead.
    fn wait_for_card(&self) {
        let term = self.scheduler.as_ref().and_then(RunningScheduler::term);
        if term.is_none() {
            return;
        }
        let members = Members::new(self.directory());
        let until = Instant::now() + DEADLINE;
        while members.list().unwrap().iter().all(|card| card.term != term) {
            assert!(Instant::now() < until, "no card of the leader");
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    pub(crate) fn credential(&self, role: Role, name: &str) -> Credential {
        self.authority.issue(role, name).unwrap()
    }

    pub(crate) fn scheduler(&self) -> &RunningScheduler {
        self.scheduler.as_ref().unwrap()
    }

    /// Takes the first scheduler out, to stop it.
    pub(crate) fn take(&mut self) -> RunningScheduler {
        self.scheduler.take().unwrap()
    }

    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    /// The storage, as another process would open it.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::new(Directory::open(&self.storage).unwrap())
    }

    pub(crate) fn log(&self) -> LogId {
        LogId {
            cluster: CLUSTER_ID.parse().unwrap(),
            shard: 0,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.scheduler().address()
    }

    /// Writes a file that takes all the space there is.
    pub(crate) fn fill_storage(&self) -> PathBuf {
        let path = self.storage.join("ballast");
        let mut ballast = std::fs::File::create(&path).unwrap();
        let mut full_looks = 0;
        while full_looks < FULL_LOOKS {
            let mut has_grown = false;
            while ballast.write_all(&[0; 4096]).is_ok() {
                has_grown = true;
            }
            // a card that was being rewritten gives back the room that it had before
            let is_full = !has_grown && !self.is_card_staged();
            full_looks = if is_full { full_looks + 1 } else { 0 };
            std::thread::sleep(LOOK_PAUSE);
        }
        path
    }

    fn is_card_staged(&self) -> bool {
        let cards = std::fs::read_dir(self.storage.join("members")).unwrap();
        let mut names = cards.map(|card| card.unwrap().file_name());
        names.any(|name| name.as_encoded_bytes().starts_with(b"."))
    }

    pub(crate) async fn connect(&self, role: Role, name: &str, address: SocketAddr) -> (Dialer, Connection) {
        let options = EndpointOptions {
            idle_timeout: WORKER_TIMEOUT,
            ..EndpointOptions::default()
        };
        let dialer = Dialer::with_options(&self.credential(role, name), options).unwrap();
        let until = Instant::now() + DEADLINE;
        loop {
            match dialer.dial(address).await {
                Ok(connection) => return (dialer, connection),
                // one of both had to wait for too long
                Err(error) => assert!(!error.is_permanent() && Instant::now() < until, "{error}"),
            }
        }
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        self.client_with(Role::User, name).await
    }

    pub(crate) async fn client_with(&self, role: Role, name: &str) -> Client {
        self.client_at(role, name, self.address()).await
    }

    pub(crate) async fn client_at(&self, role: Role, name: &str, address: SocketAddr) -> Client {
        let (dialer, connection) = self.connect(role, name, address).await;
        Client {
            _dialer: dialer,
            connection,
        }
    }

    pub(crate) async fn worker(&self, cpus: u32) -> Worker {
        self.worker_at(cpus, self.address()).await
    }

    pub(crate) async fn worker_at(&self, cpus: u32, address: SocketAddr) -> Worker {
        let (dialer, connection) = self.connect(Role::Worker, "node", address).await;
        let (mut control, messages) = connection.open_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
        let reports = connection.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
        control.send(&FromWorker::Join(introduction(cpus))).await.unwrap();
        let mut worker = Worker {
            _dialer: dialer,
            connection,
            _control: control,
            messages,
            reports,
            sent: 0,
            passed: VecDeque::new(),
        };
        worker
            .until(|message| matches!(message, ToWorker::Welcome { .. }))
            .await;
        worker
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scheduler = None;
        if self.mounted {
            let _ = rustix::mount::unmount(&self.storage, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub(crate) struct Worker {
    _dialer: Dialer,
    pub(crate) connection: Connection,
    _control: StreamWriter,
    messages: StreamReader,
    reports: StreamWriter,
    sent: u64,
    /// Grants that came while something else was waited for.
    passed: VecDeque<(JobId, GrantId, IndexRange)>,
}

impl Worker {
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ToWorker) -> bool) -> ToWorker {
        loop {
            let message = timeout(DEADLINE, self.messages.recv::<ToWorker>())
                .await
                .expect("a message in time");
            let message = message.unwrap().expect("the session goes on");
            if wanted(&message) {
                return message;
            }
            if let ToWorker::Grant {
                job, grant, range, ..
            } = message
            {
                self.passed.push_back((job, grant, range));
            }
        }
    }

    pub(crate) async fn next_grant(&mut self, job: JobId) -> (GrantId, IndexRange) {
        if let Some(at) = self.passed.iter().position(|(of, ..)| *of == job)
            && let Some((_, grant, range)) = self.passed.remove(at)
        {
            return (grant, range);
        }
        let wanted = |message: &ToWorker| matches!(message, ToWorker::Grant { job: of, .. } if *of == job);
        match self.until(wanted).await {
            ToWorker::Grant { grant, range, .. } => (grant, range),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn report(&mut self, mut report: Report) {
        self.sent += 1;
        report.number = self.sent;
        self.reports.send(&report).await.unwrap();
    }

    /// Waits until everything reported is durable.
    pub(crate) async fn acknowledged(&mut self) {
        let number = self.sent;
        self.until(|message| *message == ToWorker::Acknowledge { number })
            .await;
    }
}

fn introduction(cpus: u32) -> Join {
    Join {
        instance: 1,
        worker: None,
        name: "node".into(),
        capacity: Resources {
            cpus,
            memory_bytes: 1 << 30,
            ..Resources::default()
        },
        held: Vec::new(),
    }
}

/// A report that a grant is done.
pub(crate) fn reported(job: JobId, grant: GrantId, range: IndexRange, bytes: Option<Bytes>) -> Report {
    let block = |bytes| ResultBlock {
        range,
        keep: vec![range],
        data: ResultData::Inline(bytes),
    };
    Report {
        usage: Vec::new(),
        number: 0,
        job,
        done: vec![(grant, vec![range])],
        failed: Vec::new(),
        results: bytes.map(block).into_iter().collect(),
        busy_nanos: 1_000_000_000 * range.len(),
        backlog: 0,
    }
}

/// A job of `tasks` tasks whose program is a blob that is there.
pub(crate) async fn index_job(client: &Client, tasks: u64) -> JobSpec {
    let program = b"a program";
    let blob = BlobId(*blake3::hash(program).as_bytes());
    assert_eq!(client.put_blob(blob, program).await, Reply::Done);
    JobSpec {
        submission: SubmissionId(7),
        name: "story".into(),
        tasks,
        work: Work::Kernel(KernelWork {
            program: blob,
            kernel: "kernel".into(),
            parameters: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Json,
            reduce: false,
        }),
        request: phalanx_protocol::Request::default(),
        priority: 0,
        feeding: Feeding::Factoring,
        failures_max: None,
        retries: Retries::default(),
        task_time_limit_millis: None,
        time_limit_millis: None,
        idempotent: false,
        slots_max: None,
        dependency: None,
        held: false,
        begin_unix_millis: None,
        gang: None,
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
    }
}

pub(crate) struct Client {
    _dialer: Dialer,
    connection: Connection,
}

/// A reply, with the raw frame that follows results.
pub(crate) type Answer = (Reply, Option<Bytes>);

pub(crate) struct Answers(StreamReader);

impl Answers {
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let reply = timeout(DEADLINE, self.0.recv::<Reply>())
            .await
            .expect("a reply in time")
            .unwrap()?;
        let bytes = match reply {
            Reply::Results { .. } => self.0.recv_bytes().await.unwrap(),
            _ => None,
        };
        Some((reply, bytes))
    }
}

impl Client {
    pub(crate) async fn open(&self, request: Request) -> Answers {
        let (mut writer, reader) = self.connection.open_bi(DATA_FRAME_BYTES_MAX).await.unwrap();
        writer.send(&request).await.unwrap();
        writer.finish().await.unwrap();
        Answers(reader)
    }

    pub(crate) async fn all(&self, request: Request) -> Vec<Answer> {
        let mut answers = self.open(request).await;
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            all.push(answer);
        }
        all
    }

    pub(crate) async fn one(&self, request: Request) -> Answer {
        self.open(request).await.next().await.expect("an answer")
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> JobId {
        match self.one(Request::Submit(Box::new(spec))).await.0 {
            Reply::Submitted(job) => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn submit_until_accepted(&self, spec: JobSpec, patience: Duration) -> JobId {
        let start = Instant::now();
        loop {
            match self.one(Request::Submit(Box::new(spec.clone()))).await.0 {
                Reply::Submitted(job) => return job,
                Reply::Refused(Refusal::Storage { .. }) if start.elapsed() < patience => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn put_blob(&self, blob: BlobId, bytes: &[u8]) -> Reply {
        let (mut writer, mut reader) = self.connection.open_bi(DATA_FRAME_BYTES_MAX).await.unwrap();
        writer
            .send(&Request::PutBlob {
                blob,
                bytes: bytes.len() as u64,
            })
            .await
            .unwrap();
        writer.send_bytes(bytes).await.unwrap();
        writer.finish().await.unwrap();
        reader.recv().await.unwrap().unwrap()
    }

    /// Sends a frame of any content and size as a request, and waits for what the scheduler thinks of it.
    pub(crate) async fn send_nonsense(&self, frame: &[u8]) -> Option<CloseReason> {
        let (mut writer, _reader) = self.connection.open_bi(usize::MAX).await.unwrap();
        // fails if the scheduler closes before all is out, which is what is waited for
        let _ = writer.send_bytes(frame).await;
        match timeout(DEADLINE, self.connection.closed())
            .await
            .expect("an end in time")
        {
            ConnectionLost::Closed { reason, .. } => Some(reason),
            ConnectionLost::ClosedHere
            | ConnectionLost::TimedOut
            | ConnectionLost::PortClosed
            | ConnectionLost::Restarted
            | ConnectionLost::Failed(_) => None,
        }
    }
}
