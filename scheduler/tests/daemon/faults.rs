//! Storage that fails with EIO, is slow or stands still, under a running scheduler and under one that starts.

use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{JobId, JobSpec};

use crate::harness::{Client, Cluster, Worker, index_job, reported};

const PATIENCE: Duration = Duration::from_secs(20);

/// The same job, as another submission.
fn another(spec: &JobSpec) -> JobSpec {
    let mut other = spec.clone();
    other.submission.0 += 1;
    other
}

/// Why a submission is refused; panics if it is not.
async fn refusal(client: &Client, spec: &JobSpec) -> String {
    match client.one(Request::Submit(Box::new(spec.clone()))).await.0 {
        Reply::Refused(refusal @ Refusal::Storage { .. }) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Reports the next grant as done; returns how many tasks those were.
async fn run_one(worker: &mut Worker, job: JobId) -> u64 {
    let (grant, range) = worker.next_grant(job).await;
    worker
        .report(reported(job, grant, range, Some(Bytes::from_static(b"x"))))
        .await;
    range.len()
}

/// Waits until the job is over; all of it must have been done.
async fn succeeds(client: &Client, job: JobId, tasks: u64) {
    let views = client.all(Request::Watch(job)).await;
    let Some((Reply::Job(view), None)) = views.last() else {
        panic!("{views:?}")
    };
    assert_eq!(
        (view.done, view.outcome.clone()),
        (tasks, Some(Outcome::Succeeded))
    );
}

#[tokio::test]
async fn an_append_that_fails_once_is_repeated_and_nobody_is_refused_for_it() {
    let cluster = Cluster::on_faulty_storage();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 1).await;
    cluster.faults().fail_creates(1);
    let job = client.submit(spec).await;
    assert_eq!(cluster.faults().left().0, 0);
    run_one(&mut worker, job).await;
    worker.acknowledged().await;
    succeeds(&client, job, 1).await;
}

/// Storage breaks under a running job, and heals. Meanwhile submissions are refused for these reasons, work goes on, and
/// nothing is told that would not survive.
async fn work_goes_on(
    mut cluster: Cluster,
    breaks: impl FnOnce(&Cluster),
    reasons: [&str; 2],
    heals: impl FnOnce(&Cluster),
) {
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 100).await;
    let job = client.submit(spec.clone()).await;
    let durable = run_one(&mut worker, job).await;
    worker.acknowledged().await;

    breaks(&cluster);
    let mut done = durable;
    for _ in 0..5 {
        // a grant follows on what was reported, though that is not durable
        done += run_one(&mut worker, job).await;
    }
    let other = another(&spec);
    for _ in 0..2 {
        let reason = refusal(&client, &other).await;
        assert!(reasons.iter().all(|named| reason.contains(named)), "{reason}");
    }
    // what is told of the job is what would survive
    let (Reply::Job(view), None) = client.one(Request::Job(job)).await else {
        panic!()
    };
    assert_eq!(view.done, durable);

    heals(&cluster);
    worker.acknowledged().await;
    let second = client.submit_until_accepted(other, PATIENCE).await;
    assert_eq!(second, JobId(job.0 + 1));
    done += run_one(&mut worker, job).await;
    worker.acknowledged().await;
    cluster.restart();
    let client = cluster.client("ada").await;
    let (Reply::Job(view), None) = client.one(Request::Job(job)).await else {
        panic!()
    };
    assert_eq!(view.done, done, "what was acknowledged is there after a restart");
}

#[tokio::test]
async fn while_appends_fail_submissions_are_refused_and_work_goes_on_until_they_succeed() {
    let breaks = |cluster: &Cluster| cluster.faults().fail_creates(u32::MAX);
    let heals = |cluster: &Cluster| cluster.faults().heal();
    let reasons = ["shards/0/log/", "Input/output error"];
    work_goes_on(Cluster::on_faulty_storage(), breaks, reasons, heals).await;
}

#[tokio::test]
async fn while_storage_is_mounted_read_only_submissions_are_refused_and_work_goes_on() {
    let Some(cluster) = Cluster::on_small_storage() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let reasons = ["/small/shards/0/log/", "read-only file system"];
    work_goes_on(
        cluster,
        Cluster::remount_read_only,
        reasons,
        Cluster::remount_writable,
    )
    .await;
}

#[tokio::test]
async fn while_storage_is_full_submissions_are_refused_and_work_goes_on() {
    let Some(cluster) = Cluster::on_small_storage() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let breaks = |cluster: &Cluster| drop(cluster.fill_storage());
    let heals = |cluster: &Cluster| std::fs::remove_file(cluster.storage().join("ballast")).unwrap();
    let reasons = ["/small/shards/0/log/", "no space left"];
    work_goes_on(cluster, breaks, reasons, heals).await;
}

#[tokio::test]
async fn work_goes_on_and_submissions_are_taken_on_storage_that_is_merely_slow() {
    let cluster = Cluster::on_faulty_storage();
    let mut worker = cluster.worker(2).await;
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 6).await;
    cluster.faults().delay_creates(Duration::from_millis(300));
    let job = client.submit(spec.clone()).await;
    let mut done = 0;
    while done < 6 {
        let (grant, range) = worker.next_grant(job).await;
        done += range.len();
        worker
            .report(reported(job, grant, range, Some(Bytes::from_static(b"x"))))
            .await;
    }
    let second = client.submit(another(&spec)).await;
    assert_eq!(second, JobId(job.0 + 1));
    worker.acknowledged().await;
    succeeds(&client, job, 6).await;
}

#[tokio::test]
async fn appends_that_do_not_return_refuse_submissions_and_nothing_else() {
    let cluster = Cluster::on_faulty_storage();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 3).await;
    let job = client.submit(spec.clone()).await;
    cluster.faults().hold_creates();
    run_one(&mut worker, job).await;
    let other = another(&spec);
    let reason = refusal(&client, &other).await;
    assert!(reason.contains("too slow"), "{reason}");
    run_one(&mut worker, job).await;
    assert!(matches!(client.one(Request::Job(job)).await.0, Reply::Job(_)));
    let (grant, range) = worker.next_grant(job).await;

    cluster.faults().heal();
    worker.acknowledged().await;
    let second = client.submit_until_accepted(other, PATIENCE).await;
    assert_eq!(second, JobId(job.0 + 1));
    worker.report(reported(job, grant, range, None)).await;
    succeeds(&client, job, 3).await;
}

#[tokio::test]
async fn a_start_on_a_log_that_cannot_be_read_for_a_moment_waits_for_that() {
    let mut cluster = Cluster::on_faulty_storage();
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 2).await).await;
    let faults = cluster.faults();
    // after more than one a busy machine might have used up the time that a start has
    faults.fail_reads("shards/0/log/", 1);
    cluster.restart();
    assert_eq!(faults.left().1, 0);
    let client = cluster.client("ada").await;
    assert!(matches!(client.one(Request::Job(job)).await.0, Reply::Job(_)));
}

#[tokio::test]
async fn a_start_on_a_log_that_stays_unreadable_ends_with_the_object_and_what_to_do() {
    let mut cluster = Cluster::on_faulty_storage();
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 2).await).await;
    let faults = cluster.faults();
    let slot = "shards/0/log/0000000000000000/00000000000000000003";
    let running = cluster.take();
    tokio::task::spawn_blocking(move || running.stop()).await.unwrap();
    std::fs::remove_dir_all(cluster.storage().join("shards/0/snapshots")).unwrap();
    faults.fail_reads(slot, u32::MAX);
    let error = cluster.start_error();
    let hint = error.hint().unwrap();
    assert!(hint.contains("empty file in its place"), "{hint}");
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text += &format!("{error}: ");
        cause = error.source();
    }
    assert!(
        text.contains(slot) && text.contains("Input/output error"),
        "{text}"
    );

    // as it says
    faults.heal();
    std::fs::write(cluster.storage().join(slot), b"").unwrap();
    cluster.restart();
    let client = cluster.client("ada").await;
    assert!(matches!(client.one(Request::Job(job)).await.0, Reply::Job(_)));
    let mut worker = cluster.worker(1).await;
    worker
        .until(|message| matches!(message, ToWorker::Grant { .. }))
        .await;
}
