//! The daemon over real QUIC and real storage, with scripted workers and clients: each test is one story.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test may: its panic names the place, and what it skips it says"
)]

mod faults;
mod faulty;
mod harness;
mod roles;
mod snapshots;

use std::time::Duration;

use bytes::Bytes;
use harness::{Cluster, index_job, reported};
use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{InputPiece, Refusal, Reply, Request};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{FailureCause, Outcome, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, RangeSet};
use phalanx_transport::{CloseReason, Role};
use rustix::mount::MountFlags;

#[tokio::test]
async fn a_worker_is_told_for_how_long_it_may_be_silent() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(2).await;
    let told = worker
        .until(|message| matches!(message, ToWorker::SilenceLimit { .. }))
        .await;
    assert_eq!(told, ToWorker::SilenceLimit { millis: 10_000 });
}

#[tokio::test]
async fn a_job_runs_on_a_worker_and_its_results_reach_the_client_in_order() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(2).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 4).await).await;
    let mut done = 0;
    while done < 4 {
        let (grant, range) = worker.next_grant(job).await;
        done += range.len();
        let bytes = (range.start..range.end)
            .flat_map(|index| [index as u8, b'\n'])
            .collect::<Vec<_>>();
        worker
            .report(reported(job, grant, range, Some(Bytes::from(bytes))))
            .await;
    }
    let replies = client
        .all(Request::Results {
            job,
            in_order: true,
            have: RangeSet::new(),
        })
        .await;
    let mut next = 0;
    for reply in &replies[..replies.len() - 1] {
        let (Reply::Results { range, keep }, Some(bytes)) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(
            (range.start, keep.as_slice(), bytes.len() as u64),
            (next, [*range].as_slice(), 2 * range.len())
        );
        next = range.end;
    }
    assert_eq!(next, 4);
    let (Reply::Job(view), None) = &replies[replies.len() - 1] else {
        panic!("{replies:?}")
    };
    assert_eq!((view.done, view.outcome.clone()), (4, Some(Outcome::Succeeded)));
}

#[tokio::test]
async fn a_restarted_scheduler_still_has_its_jobs_and_their_results() {
    let mut cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 3).await).await;
    let (grant, range) = worker.next_grant(job).await;
    worker
        .report(reported(job, grant, range, Some(Bytes::from_static(b"zero"))))
        .await;
    worker.acknowledged().await;

    cluster.restart();
    let client = cluster.client("ada").await;
    let (Reply::Job(view), None) = client.one(Request::Job(job)).await else {
        panic!()
    };
    assert_eq!((view.done, view.tasks, view.state()), (1, 3, "waiting"));
    let mut stream = client
        .open(Request::Results {
            job,
            in_order: false,
            have: RangeSet::new(),
        })
        .await;
    let (Reply::Results { range, .. }, Some(bytes)) = stream.next().await.unwrap() else {
        panic!()
    };
    assert_eq!((range, &bytes[..]), (IndexRange::new(0, 1), &b"zero"[..]));

    // and the rest of it runs
    let mut worker = cluster.worker(1).await;
    for _ in 0..2 {
        let (grant, range) = worker.next_grant(job).await;
        worker
            .report(reported(job, grant, range, Some(Bytes::from_static(b"more"))))
            .await;
    }
    let views = client.all(Request::Watch(job)).await;
    let (Reply::Job(last), None) = views.last().unwrap() else {
        panic!()
    };
    assert_eq!((last.done, last.outcome.clone()), (3, Some(Outcome::Succeeded)));
}

#[tokio::test]
async fn what_a_lost_worker_had_not_reported_runs_elsewhere() {
    let cluster = Cluster::start();
    let mut first = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 2).await).await;
    let (_, lost) = first.next_grant(job).await;
    drop(first);
    let mut second = cluster.worker(1).await;
    let mut seen = RangeSet::new();
    while seen.len() < 2 {
        let (grant, range) = second.next_grant(job).await;
        seen.insert(range);
        second.report(reported(job, grant, range, None)).await;
    }
    assert!(seen.contains_range(lost));
    let views = client.all(Request::Watch(job)).await;
    let (Reply::Job(last), None) = views.last().unwrap() else {
        panic!()
    };
    assert_eq!(last.done, 2);
}

#[tokio::test]
async fn a_failed_task_is_a_result_with_its_index_and_message() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 1).await).await;
    let (grant, _) = worker.next_grant(job).await;
    let failure = TaskFailure {
        index: 0,
        cause: FailureCause::Panic,
        message: "out of cheese".into(),
    };
    let mut report = reported(job, grant, IndexRange::new(0, 0), None);
    report.failed = vec![(grant, vec![failure.clone()])];
    worker.report(report).await;
    let replies = client
        .all(Request::Results {
            job,
            in_order: true,
            have: RangeSet::new(),
        })
        .await;
    assert_eq!(replies[0].0, Reply::Failed(vec![failure.clone()]));
    let (Reply::Job(view), None) = &replies[1] else {
        panic!("{replies:?}")
    };
    assert_eq!(
        (view.outcome.clone(), &view.first_failures),
        (Some(Outcome::Failed), &vec![failure])
    );
}

#[tokio::test]
async fn a_user_may_end_only_their_own_jobs_and_an_admin_any() {
    let cluster = Cluster::start();
    let ada = cluster.client("ada").await;
    let job = ada.submit(index_job(&ada, 5).await).await;
    let bob = cluster.client("bob").await;
    let refused = bob.one(Request::Cancel(job)).await.0;
    let expected = Refusal::NotYours {
        job,
        owner: "ada".into(),
        user: "bob".into(),
    };
    assert_eq!(refused, Reply::Refused(expected));
    let admin = cluster.client_with(Role::Admin, "root").await;
    assert_eq!(admin.one(Request::Cancel(job)).await.0, Reply::Done);
    let (Reply::Job(view), _) = bob.one(Request::Job(job)).await else {
        panic!()
    };
    assert_eq!(view.outcome, Some(Outcome::Cancelled { by: "root".into() }));
}

#[tokio::test]
async fn input_is_taken_for_jobs_of_ones_own_that_are_not_over() {
    let cluster = Cluster::start();
    let ada = cluster.client("ada").await;
    let job = ada.submit(index_job(&ada, 5).await).await;
    let piece = |offset: u64, bytes: &'static [u8], is_last: bool| {
        Request::Input(InputPiece {
            job,
            offset,
            bytes: Bytes::from_static(bytes),
            is_last,
        })
    };
    assert_eq!(ada.one(piece(0, b"abc", false)).await.0, Reply::Done);
    assert_eq!(
        ada.one(piece(0, b"abc", false)).await.0,
        Reply::Done,
        "it came again"
    );
    let Reply::Refused(Refusal::Full { what }) = ada.one(piece(7, b"x", false)).await.0 else {
        panic!("there is a gap before it")
    };
    assert_eq!(what, "a piece of input begins at byte 7, and only 3 are there");
    let bob = cluster.client("bob").await;
    let refused = bob.one(piece(3, b"bob's", false)).await.0;
    assert!(
        matches!(refused, Reply::Refused(Refusal::NotYours { .. })),
        "{refused:?}"
    );
    assert_eq!(ada.one(piece(3, b"d", true)).await.0, Reply::Done);
    let kept = cluster.storage().join(format!("jobs/{job}/input/data"));
    assert_eq!(std::fs::read(kept).unwrap(), b"abcd");
    assert_eq!(ada.one(Request::Cancel(job)).await.0, Reply::Done);
    assert_eq!(
        ada.one(piece(4, b"x", false)).await.0,
        Reply::Refused(Refusal::Over(job))
    );
}

#[tokio::test]
async fn wrong_requests_are_refused_by_name() {
    let cluster = Cluster::start();
    let _worker = cluster.worker(4).await;
    let client = cluster.client("ada").await;
    assert_eq!(
        client.one(Request::Job(JobId(9))).await.0,
        Reply::Refused(Refusal::NoSuchJob(JobId(9)))
    );
    let mut spec = index_job(&client, 1).await;
    spec.request.cpus = 64;
    let Reply::Refused(refusal) = client.one(Request::Submit(Box::new(spec.clone()))).await.0 else {
        panic!()
    };
    let text = refusal.to_string();
    assert!(text.contains("64 cpus") && text.contains("4 cpus"), "{text}");
    spec.request.cpus = 1;
    let phalanx_protocol::Work::Kernel(work) = &mut spec.work else {
        panic!("the spec calls a kernel");
    };
    work.program = phalanx_protocol::BlobId([1; 32]);
    let program = work.program;
    let refused = client.one(Request::Submit(Box::new(spec))).await.0;
    assert_eq!(refused, Reply::Refused(Refusal::BlobMissing(program)));
    let put = client
        .put_blob(phalanx_protocol::BlobId([2; 32]), b"not that")
        .await;
    assert_eq!(
        put,
        Reply::Refused(Refusal::BlobDamaged(phalanx_protocol::BlobId([2; 32])))
    );
}

#[tokio::test]
async fn garbage_and_oversized_frames_end_their_own_session_only() {
    let cluster = Cluster::start();
    let bystander = cluster.client("bob").await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [1, 100, 1200] {
        socket.send_to(&vec![0xa5; length], cluster.address()).unwrap();
    }
    let vandal = cluster.client("eve").await;
    let reason = vandal.send_nonsense(&vec![0; DATA_FRAME_BYTES_MAX + 1]).await;
    assert_eq!(reason, Some(CloseReason::ProtocolViolation));
    let malformed = cluster.client("eve").await;
    let reason = malformed.send_nonsense(&[0xff; 3]).await;
    assert_eq!(reason, Some(CloseReason::ProtocolViolation));
    assert_eq!(bystander.one(Request::Jobs).await.0, Reply::Jobs(Vec::new()));
}

#[tokio::test]
async fn full_storage_refuses_submissions_with_the_reason_and_recovers() {
    let Some(cluster) = Cluster::on_small_storage() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 1).await;
    let kept = client.submit(spec.clone()).await;
    let ballast = cluster.fill_storage();
    let mut second = spec.clone();
    second.submission.0 += 1;
    let Reply::Refused(refusal) = client.one(Request::Submit(Box::new(second.clone()))).await.0 else {
        panic!()
    };
    assert!(refusal.to_string().contains("no space left"), "{refusal}");
    let refused = client.one(Request::Cancel(kept)).await.0;
    assert!(
        matches!(refused, Reply::Refused(Refusal::Storage { .. })),
        "{refused:?}"
    );
    std::fs::remove_file(ballast).unwrap();
    // the scheduler kept trying: the submission comes to pass, and asking again finds it
    let job = client
        .submit_until_accepted(second, Duration::from_secs(20))
        .await;
    assert_eq!(job, JobId(kept.0 + 1));
    // and so does the cancelling
    let views = client.all(Request::Watch(kept)).await;
    let Some((Reply::Job(view), _)) = views.last() else {
        panic!()
    };
    assert_eq!(view.state(), "cancelled");
}

#[tokio::test]
async fn an_end_reached_by_cancelling_reaches_the_worker() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 5).await).await;
    worker.next_grant(job).await;
    assert_eq!(client.one(Request::Cancel(job)).await.0, Reply::Done);
    worker.until(|message| *message == ToWorker::Close { job }).await;
}

#[tokio::test]
async fn a_scheduler_does_not_start_on_storage_that_is_read_only_or_full_and_says_so() {
    let Some(mut cluster) = Cluster::on_small_storage() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let error = cluster.start_error_with(MountFlags::RDONLY);
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("/small` cannot be used"), "{error}");
    assert!(reason.contains("read-only file system"), "{reason}");
    assert!(error.hint().unwrap().contains("permissions"));

    cluster.remount_writable();
    cluster.restart();
    cluster.fill_storage();
    let error = cluster.start_error();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &error.to_string();
        cause = error.source();
    }
    assert!(text.contains("no space left"), "{text}");
}

#[tokio::test]
async fn results_behind_a_cancelled_task_are_not_held_back() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(3).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 3).await).await;
    let (grant, range) = worker.next_grant(job).await;
    assert_eq!(range, IndexRange::new(0, 3));
    let tasks = RangeSet::from(IndexRange::new(0, 1));
    let cancel = Request::CancelTasks { job, tasks };
    assert_eq!(client.one(cancel).await.0, Reply::Cancelled { tasks: 1 });
    let range = IndexRange::new(0, 1);
    let stop = ToWorker::Stop { job, grant, range };
    worker.until(|message| *message == stop).await;
    let (second, third) = (IndexRange::new(1, 2), IndexRange::new(2, 3));
    worker
        .report(reported(job, grant, second, Some(Bytes::from_static(b"one"))))
        .await;
    worker.acknowledged().await;
    let have = RangeSet::new();
    let results = Request::Results {
        job,
        in_order: true,
        have,
    };
    // the third task has not ended, and the job goes on
    let first = client.one(results).await.0;
    assert!(
        matches!(&first, Reply::Results { range, .. } if *range == second),
        "{first:?}"
    );
    worker
        .report(reported(job, grant, third, Some(Bytes::from_static(b"two"))))
        .await;
    worker.acknowledged().await;
    let (Reply::Job(view), _) = client.one(Request::Job(job)).await else {
        panic!("there is a job {job}")
    };
    let by = "ada".to_owned();
    assert_eq!(view.outcome, Some(Outcome::Cancelled { by }));
    assert_eq!((view.done, view.cancelled), (2, 1));
}

#[tokio::test]
async fn results_behind_a_gap_that_stays_are_not_held_back() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(2).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 2).await).await;
    let (grant, range) = worker.next_grant(job).await;
    assert_eq!(range, IndexRange::new(0, 2));
    let second = IndexRange::new(1, 2);
    worker
        .report(reported(job, grant, second, Some(Bytes::from_static(b"one"))))
        .await;
    worker.acknowledged().await;
    assert_eq!(client.one(Request::Cancel(job)).await.0, Reply::Done);
    let have = RangeSet::new();
    let replies = client
        .all(Request::Results {
            job,
            in_order: true,
            have,
        })
        .await;
    let (Reply::Results { range, .. }, Some(bytes)) = &replies[0] else {
        panic!("{replies:?}")
    };
    assert_eq!((*range, &bytes[..]), (second, &b"one"[..]));
    assert!(matches!(&replies[1..], [(Reply::Job(_), None)]));
}
