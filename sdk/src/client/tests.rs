//! The async client against a scheduler that plays a script.

#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers what it is about")]

use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::view::{TaskRange, TaskState};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, IndexRange, Inputs, KernelWork, Payload, RangeSet, Retries, SubmissionId,
    Work, WorkerChoice,
};
use phalanx_transport::{Authority, Role};

use super::fake::{Act, FakeScheduler, end, patient, view, whole};
use super::*;
use crate::error::Interruption;

const JOB: JobId = JobId(7);

fn spec() -> JobSpec {
    JobSpec {
        submission: SubmissionId(42),
        name: "job".to_owned(),
        tasks: 3,
        work: Work::Kernel(KernelWork {
            program: BlobId([0; 32]),
            kernel: "kernel".to_owned(),
            parameters: Payload::Inline(bytes::Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        }),
        request: phalanx_protocol::Request::default(),
        priority: 0,
        feeding: Feeding::default(),
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

/// Runs `talk` with a client of the scheduler.
fn with_client<T>(scheduler: &FakeScheduler, talk: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::connect(&[scheduler.address], &scheduler.credential(), patient()).await;
        talk(client.unwrap()).await
    })
}

#[test]
fn a_submission_is_repeated_over_a_lost_connection_under_its_own_name() {
    let scheduler = FakeScheduler::start(|number, _| match number {
        0 => vec![Act::HangUp],
        1 => vec![Act::Close(CloseReason::Shutdown)],
        _ => vec![Act::Say(Reply::Submitted(JOB))],
    });
    let job = with_client(&scheduler, async |client| client.submit(spec()).await.unwrap());
    assert_eq!(job, JOB);
    let names: Vec<_> = scheduler
        .seen()
        .specs()
        .iter()
        .map(|spec| spec.submission)
        .collect();
    assert_eq!(names, [SubmissionId(42); 3]);
}

#[test]
fn changes_are_acknowledged_and_say_how_far_they_go() {
    let scheduler = FakeScheduler::start(|_, request| match request {
        Request::Retry(JobId(7)) => vec![Act::Say(Reply::Reopened { tasks: 3 })],
        Request::Drain(WorkerId(2)) => vec![Act::Say(Reply::Done)],
        Request::Hold(JobId(7)) | Request::Release(JobId(8)) => vec![Act::Say(Reply::Done)],
        Request::Tasks { tasks, .. } => vec![Act::Say(Reply::Tasks(TasksPage {
            tasks: vec![TaskRange {
                usage: None,
                range: *tasks,
                state: TaskState::Waiting,
                worker: None,
                started_unix_millis: None,
                ended_unix_millis: None,
                restarts: 0,
            }],
            next: tasks.end,
        }))],
        other => panic!("{other:?}"),
    });
    with_client(&scheduler, async |client| {
        assert_eq!(client.retry(JobId(7)).await.unwrap(), 3);
        client.drain(WorkerId(2)).await.unwrap();
        client.hold(JobId(7)).await.unwrap();
        client.release(JobId(8)).await.unwrap();
        let page = client.tasks(JobId(7), IndexRange::new(3, 9)).await.unwrap();
        assert_eq!((page.tasks.len(), page.next), (1, 9));
    });
}

#[test]
fn a_refusal_is_told_in_the_schedulers_words_and_not_repeated() {
    let scheduler = FakeScheduler::start(|_, _| vec![Act::Say(Reply::Refused(Refusal::NoSuchJob(JOB)))]);
    let error = with_client(&scheduler, async |client| client.job(JOB).await.unwrap_err());
    assert_eq!(error.to_string(), "there is no job 7");
    assert_eq!(scheduler.seen().requests.len(), 1);
}

#[test]
fn patience_ends_with_the_last_reason() {
    let scheduler = FakeScheduler::start(|_, _| {
        vec![Act::Say(Reply::Refused(Refusal::NotLeader {
            leader: Vec::new(),
        }))]
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(async {
        let options = ClientOptions {
            patience: Duration::from_secs(3),
            ..patient()
        };
        let client = Client::connect(&[scheduler.address], &scheduler.credential(), options).await;
        client.unwrap().jobs().await.unwrap_err()
    });
    assert!(matches!(
        error,
        ClientError::Lost {
            cause: Interruption::NoLeader,
            ..
        }
    ));
    assert!(scheduler.seen().requests.len() > 1);
}

#[test]
fn a_scheduler_that_wants_no_more_of_us_is_not_asked_again() {
    let scheduler = FakeScheduler::start(|_, _| vec![Act::Close(CloseReason::Refused)]);
    let error = with_client(&scheduler, async |client| client.jobs().await.unwrap_err());
    assert!(matches!(error, ClientError::Ended(_)), "{error:?}");
    assert!(crate::error::chain(&error).contains("as the script says"));
    assert_eq!(scheduler.seen().requests.len(), 1);
}

#[test]
fn a_list_of_jobs_may_be_longer_than_a_control_frame() {
    let long = JobView {
        name: "n".repeat(phalanx_protocol::limits::NAME_BYTES_MAX),
        ..view(7, 3)
    };
    let jobs = vec![long; 10_000];
    assert!(phalanx_protocol::codec::encode(&jobs).len() > phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX);
    let scheduler = FakeScheduler::start(move |_, _| vec![Act::Say(Reply::Jobs(jobs.clone()))]);
    let jobs = with_client(&scheduler, async |client| client.jobs().await.unwrap());
    assert_eq!(jobs.len(), 10_000);
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    let scheduler = FakeScheduler::start(|_, _| vec![Act::Say(Reply::Done)]);
    let error = with_client(&scheduler, async |client| client.workers().await.unwrap_err());
    assert!(matches!(error, ClientError::Protocol(ProtocolError::WrongReply)));
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let scheduler = FakeScheduler::start(|_, _| Vec::new());
    let (address, credential) = (scheduler.address, scheduler.credential());
    drop(scheduler);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let options = ClientOptions {
        connect_patience: Duration::ZERO,
        ..patient()
    };
    let error = runtime
        .block_on(Client::connect(&[address], &credential, options))
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn silence_is_borne_for_longer_than_a_closed_port() {
    let authority = Authority::create("lab").unwrap();
    let credential = authority.issue(Role::User, "ada").unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // one attempt takes 2 s
    let options = ClientOptions {
        connect_patience: Duration::ZERO,
        silence_patience: Duration::from_millis(2500),
        ..patient()
    };
    let begin = std::time::Instant::now();
    let error = runtime
        .block_on(Client::connect(&[address], &credential, options))
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(begin.elapsed() >= options.silence_patience);
}

#[test]
fn blobs_are_sent_once_and_in_pieces() {
    let scheduler = FakeScheduler::start(|_, _| Vec::new());
    let content: Vec<u8> = (0..5_000_001u32).map(|number| (number % 251) as u8).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let blob = with_client(&scheduler, async |client| {
        let blob = client.ensure_blob(&content).await.unwrap();
        // the same content from a file is the same blob
        assert_eq!(client.ensure_program(file.path()).await.unwrap(), blob);
        assert_eq!(
            client.find_missing(&[blob, BlobId([1; 32])]).await.unwrap(),
            [BlobId([1; 32])]
        );
        blob
    });
    let seen = scheduler.seen();
    assert!(seen.blobs[&blob] == content);
    let puts = seen
        .requests
        .iter()
        .filter(|request| matches!(request, Request::PutBlob { .. }));
    assert_eq!(puts.count(), 1);
}

#[test]
fn a_program_is_uploaded_from_its_file() {
    let scheduler = FakeScheduler::start(|_, _| Vec::new());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![3; 1 << 20]).unwrap();
    let blob = with_client(&scheduler, async |client| {
        client.ensure_program(file.path()).await.unwrap()
    });
    assert_eq!(scheduler.seen().blobs[&blob].len(), 1 << 20);
    let missing = file.path().with_extension("missing");
    let error = with_client(&scheduler, async |client| {
        client.ensure_program(&missing).await.unwrap_err()
    });
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_watch_goes_on_where_it_was_and_ends_with_the_job() {
    let scheduler = FakeScheduler::start(|number, _| match number {
        0 => vec![Act::Say(Reply::Job(view(7, 3))), Act::HangUp],
        _ => vec![Act::Say(Reply::Job(view(7, 3))), end(7, 3, 0)],
    });
    let views = with_client(&scheduler, async |client| {
        let mut watch = client.watch(JOB);
        let mut views = Vec::new();
        while let Some(view) = watch.next().await.unwrap() {
            views.push(view.state());
        }
        views
    });
    assert_eq!(views, ["waiting", "succeeded"]);
}

#[test]
fn results_resume_with_what_is_there_and_repeat_nothing() {
    let failure = TaskFailure {
        index: 4,
        cause: FailureCause::Error,
        message: "no".to_owned(),
    };
    let failed = Act::Say(Reply::Failed(vec![failure.clone()]));
    let scheduler = FakeScheduler::start(move |number, _| match number {
        0 => [whole(0, &[0u64, 1]), vec![failed.clone(), Act::HangUp]].concat(),
        // the announcement arrives, its bytes do not
        1 => [whole(5, &[5u64])[..1].to_vec(), vec![Act::HangUp]].concat(),
        // all over again, as if `have` had been too long to send
        _ => [
            whole(0, &[0u64, 1, 2, 3]),
            vec![failed.clone()],
            whole(5, &[5u64]),
            vec![end(7, 6, 1)],
        ]
        .concat(),
    });
    let events = with_client(&scheduler, async |client| {
        let mut results = client.results(JOB, true);
        let mut events = Vec::new();
        while let Some(event) = results.next().await.unwrap() {
            events.push(match event {
                ResultEvent::Block { range, keep, .. } => format!("{range}: {}", RangeSet::from(keep)),
                ResultEvent::NoResults(ranges) => format!("nothing: {}", RangeSet::from(ranges)),
                ResultEvent::Failed(failures) => format!("failed: {}", failures[0].index),
                ResultEvent::Ended(view) => view.state().to_owned(),
            });
        }
        events
    });
    assert_eq!(events, ["0-1: 0-1", "failed: 4", "0-3: 2-3", "5: 5", "failed"]);
    let asked: Vec<RangeSet> = scheduler
        .seen()
        .requests
        .iter()
        .filter_map(|request| match request {
            Request::Results { have, .. } => Some(have.clone()),
            _ => None,
        })
        .collect();
    let have = RangeSet::from_iter([IndexRange::new(0, 2), IndexRange::new(4, 5)]);
    assert_eq!(asked, [RangeSet::new(), have.clone(), have]);
}

#[test]
fn a_standby_sends_its_client_on_to_the_leader_at_once() {
    let leader = FakeScheduler::start(|_, _| vec![Act::Say(Reply::Jobs(vec![view(7, 1)]))]);
    let address = leader.address.to_string();
    let standby = leader.beside(move |_, _| {
        vec![Act::Say(Reply::Refused(Refusal::NotLeader {
            leader: vec![address.clone()],
        }))]
    });
    let started = std::time::Instant::now();
    let jobs = with_client(&standby, async |client| client.jobs().await.unwrap());
    assert_eq!(jobs[0].job, JobId(7));
    assert_eq!(leader.seen().requests, [Request::Jobs]);
    assert_eq!(
        standby.seen().requests,
        [Request::Jobs],
        "asked once, then left alone"
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn another_scheduler_that_was_told_of_is_found_when_the_first_is_gone() {
    let survivor = FakeScheduler::start(|_, _| vec![Act::Say(Reply::Jobs(vec![view(7, 1)]))]);
    let asked = survivor.address.to_string();
    let first = survivor.beside(move |number, _| match number {
        0 => vec![Act::Say(Reply::Jobs(Vec::new()))],
        // whom it was told of while the first one lived
        _ => vec![Act::Close(CloseReason::Shutdown)],
    });
    first.names_also(&asked);
    let jobs = with_client(&first, async |client| {
        client.jobs().await.unwrap();
        first.told().await;
        client.jobs().await.unwrap()
    });
    assert_eq!(jobs[0].job, JobId(7));
}
