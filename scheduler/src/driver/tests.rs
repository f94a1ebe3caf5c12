//! Events that come together, and storage that stands still.

use std::sync::Arc;

use phalanx_protocol::limits::PARAMETERS_INLINE_BYTES_MAX;
use phalanx_protocol::message::worker::Join;
use phalanx_protocol::{
    BlobId, Encoding, Feeding, Inputs, JobSpec, KernelWork, Payload, Request, Resources, Retries,
    SubmissionId, Work, WorkerChoice,
};
use phalanx_storage::memory::MemoryStore;
use phalanx_storage::{Candidate, ClusterId, JournalWriter, LogId, Store, acquire};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::JournalOptions;
use crate::event::REQUEST_QUEUE_MAX;

const PATIENCE: Duration = Duration::from_secs(20);

/// A driver that runs, and how it is spoken to.
struct Driven {
    events: mpsc::Sender<Event>,
    requests: mpsc::Sender<Event>,
    run: JoinHandle<Result<(), LeadEnd>>,
    _cards: watch::Sender<Roster>,
    _stop: watch::Sender<bool>,
}

fn drive(store: Arc<MemoryStore>) -> Driven {
    let store: Arc<dyn Store> = store;
    let log = LogId {
        cluster: ClusterId([7; 16]),
        shard: 0,
    };
    let leadership = acquire(&*store, Candidate::new(log, 1)).unwrap();
    let core = Core::new(leadership.term);
    let (kept, last) = ((log, leadership.term), leadership.next_slot - 1);
    // no job of these tests has run anything that could have saved something there
    let root = "/does/not/exist".into();
    let options = JournalOptions::default();
    let snapshots = Snapshots::new(Arc::clone(&store), kept, last, 0, &options, root);
    let (told, journaled) = mpsc::unbounded_channel();
    let tell = move |event| drop(told.send(event));
    let journal = JournalWriter::start(store, leadership, tell).unwrap();
    let state = (core, Feeds::default(), journal.into(), snapshots);
    let (events, queue) = mpsc::channel(8);
    let (requests, asked) = mpsc::channel(REQUEST_QUEUE_MAX);
    let (cards, roster) = watch::channel(Roster::default());
    let (stop, stopped) = watch::channel(false);
    let driver = Driver::new(state, Vec::new(), roster, 3000);
    Driven {
        events,
        requests,
        run: tokio::task::spawn_local(driver.run((queue, asked), journaled, stopped)),
        _cards: cards,
        _stop: stop,
    }
}

/// A worker that wants to join. What it would be told goes nowhere.
fn ghost(session: SessionId) -> (Event, mpsc::Receiver<ToWorker>) {
    let (messages, inbox) = mpsc::channel(8);
    let (refused, _) = oneshot::channel();
    let capacity = Resources {
        cpus: 1,
        ..Resources::default()
    };
    let join = Join {
        instance: 1,
        worker: None,
        name: "ghost".into(),
        capacity,
        held: Vec::new(),
    };
    let event = Event::Joined {
        session,
        address: "here".into(),
        join: Box::new(join),
        link: WorkerLink { messages, refused },
    };
    (event, inbox)
}

fn spec(submission: u128) -> JobSpec {
    JobSpec {
        submission: SubmissionId(submission),
        name: "large".into(),
        tasks: 1,
        work: Work::Kernel(KernelWork {
            program: BlobId([1; 32]),
            kernel: "kernel".into(),
            parameters: Payload::Inline(Bytes::from(vec![7; PARAMETERS_INLINE_BYTES_MAX])),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Json,
            reduce: false,
        }),
        request: Request::default(),
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

async fn submit(requests: &mpsc::Sender<Event>, submission: u128) -> oneshot::Receiver<Reply> {
    let (reply, answer) = oneshot::channel();
    let command = Event::Command {
        user: "ada".into(),
        admin: false,
        command: Command::Submit(Box::new(spec(submission))),
        reply,
    };
    requests.send(command).await.unwrap();
    answer
}

async fn workers(to: &mpsc::Sender<Event>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let query = Query::Workers;
    to.send(Event::Query { query, reply }).await.unwrap();
    timeout(PATIENCE, answer).await.unwrap().unwrap()
}

#[tokio::test(flavor = "local")]
async fn a_worker_that_joins_and_goes_in_one_batch_is_forgotten() {
    let driven = drive(Arc::default());
    let session = SessionId(1);
    let (joins, _inbox) = ghost(session);
    driven.events.send(joins).await.unwrap();
    let goes = Event::Gone {
        session,
        orderly: false,
    };
    driven.events.send(goes).await.unwrap();
    assert_eq!(workers(&driven.events).await, Reply::Workers(Vec::new()));
    drop(driven.events);
    driven.run.await.unwrap().unwrap();
}

/// Submits more than may wait for the storage; why all of that is refused.
async fn refusals(requests: &mpsc::Sender<Event>) -> Vec<String> {
    let mut answers = Vec::new();
    // two slots' worth are on their way
    for submission in 0..(LAG_BYTES_MAX / PARAMETERS_INLINE_BYTES_MAX) as u128 + 64 {
        answers.push(submit(requests, submission).await);
    }
    let mut reasons = Vec::new();
    for answer in answers {
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        let Reply::Refused(Refusal::Storage { error }) = answer else {
            panic!("{answer:?}")
        };
        reasons.push(error);
    }
    reasons
}

#[tokio::test(flavor = "local")]
async fn storage_that_lags_too_far_behind_lets_workers_wait_and_answers_clients() {
    let mut tries = 0;
    let (driven, release) = loop {
        let store = Arc::<MemoryStore>::default();
        let driven = drive(Arc::clone(&store));
        let (release, released) = std::sync::mpsc::channel::<()>();
        store.on_put(move |_| {
            // an error means that the test is over
            let _ = released.recv();
            phalanx_storage::memory::Fault::None
        });
        let reasons = refusals(&driven.requests).await;
        if reasons.iter().all(|error| error.contains("MiB wait")) {
            break (driven, release);
        }
        // on a machine that takes seconds for them, the first has waited for too long before too many do
        tries += 1;
        assert!(tries < 10, "{reasons:?}");
    };
    let (joins, _inbox) = ghost(SessionId(1));
    driven.events.send(joins).await.unwrap();
    assert_eq!(workers(&driven.requests).await, Reply::Workers(Vec::new()));

    drop(release);
    let Reply::Workers(joined) = workers(&driven.events).await else {
        panic!()
    };
    assert_eq!(joined.len(), 1);
    let accepted = async {
        loop {
            let again = submit(&driven.requests, 0).await;
            let answer = again.await.unwrap();
            if !matches!(answer, Reply::Refused(Refusal::Storage { .. })) {
                return answer;
            }
        }
    };
    assert_eq!(
        timeout(PATIENCE, accepted).await.unwrap(),
        Reply::Submitted(JobId(1))
    );
}
