//! Snapshots, as far as a restart shows them; and jobs that are reopened.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::message::client::{Reply, Request};
use phalanx_protocol::record::{FailureCause, Outcome, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, RangeSet, Term};
use phalanx_scheduler::JournalOptions;
use phalanx_storage::marker::marker_key;
use phalanx_storage::slot::{CHUNK_SLOTS, SlotHead, SlotKind, chunk_prefix, encode, slot_key};

use crate::harness::{Client, Cluster, index_job, reported};

const PATIENCE: Duration = Duration::from_secs(60);

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

async fn results(client: &Client, job: JobId) -> Vec<(Reply, Option<Bytes>)> {
    let have = RangeSet::new();
    client
        .all(Request::Results {
            job,
            in_order: true,
            have,
        })
        .await
}

#[tokio::test]
async fn a_restart_reads_the_snapshot_and_of_the_log_only_what_holds_results() {
    let mut cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 2).await).await;
    for result in ["zero", "one"] {
        let (grant, range) = worker.next_grant(job).await;
        worker
            .report(reported(job, grant, range, Some(result.into())))
            .await;
    }
    let checkpoints = cluster.storage().join(format!("jobs/{job}/checkpoints/0"));
    std::fs::create_dir_all(&checkpoints).unwrap();
    std::fs::write(checkpoints.join("state"), b"saved").unwrap();
    let saved = cluster.storage().join(format!("jobs/{job}/saved"));
    std::fs::create_dir_all(saved.join("0/1-1")).unwrap();
    std::fs::write(saved.join("0/1-1/state"), b"saved").unwrap();
    let input = cluster.storage().join(format!("jobs/{job}/input"));
    std::fs::create_dir_all(&input).unwrap();
    std::fs::write(input.join("data"), b"typed").unwrap();
    client.all(Request::Watch(job)).await;
    let running = cluster.take();
    tokio::task::spawn_blocking(move || running.stop()).await.unwrap();
    let kept = files(&checkpoints);
    assert!(
        kept.is_empty(),
        "of a job that is over, checkpoints are left: {kept:?}"
    );
    assert!(!saved.exists(), "and those of programs");
    assert!(!input.exists(), "and what they would read again");

    let mut damaged = 0;
    for slot in files(&cluster.storage().join("shards/0/log")) {
        let bytes = std::fs::read(&slot).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if !holds(b"zero") && !holds(b"one") {
            std::fs::remove_file(&slot).unwrap();
            std::fs::write(&slot, b"not what was written").unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 10, "{damaged}");
    cluster.restart();
    let client = cluster.client("ada").await;
    let replies = results(&client, job).await;
    let values: Vec<&Bytes> = replies.iter().filter_map(|(_, bytes)| bytes.as_ref()).collect();
    assert_eq!(values, ["zero", "one"]);
    let Some((Reply::Job(view), None)) = replies.last() else {
        panic!("{replies:?}")
    };
    assert_eq!((view.done, view.outcome.clone()), (2, Some(Outcome::Succeeded)));
}

/// A log of so many empty slots, as a leader of term 1 would have left it.
fn grow_log(cluster: &Cluster, slots: u64) {
    for slot in 0..slots {
        let head = SlotHead {
            log: cluster.log(),
            slot,
            term: Term(1),
            nonce: u128::from(slot),
            kind: match slot {
                0 => SlotKind::Fence,
                _ => SlotKind::NoOp,
            },
        };
        let path = cluster.storage().join(slot_key(0, slot));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, encode(&head, &[]).0).unwrap();
    }
}

#[tokio::test]
async fn old_log_goes_but_for_results_and_a_restart_has_everything() {
    let mut cluster = Cluster::prepared_with(JournalOptions {
        snapshot_interval: Duration::from_millis(50),
        deletion_grace: Duration::from_millis(50),
        ..JournalOptions::default()
    });
    grow_log(&cluster, CHUNK_SLOTS - 40);
    cluster.restart();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let spec = index_job(&client, 1).await;
    let job = client.submit(spec.clone()).await;
    let (grant, range) = worker.next_grant(job).await;
    worker
        .report(reported(job, grant, range, Some(Bytes::from_static(b"early"))))
        .await;
    worker.acknowledged().await;
    drop(worker);

    let first_chunk = cluster.storage().join(chunk_prefix(0, 0));
    assert!(files(&first_chunk).len() as u64 > CHUNK_SLOTS - 40);
    let begun = Instant::now();
    let mut jobs = 1;
    // snapshots are taken of what is new
    while files(&first_chunk).len() > 1 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{} are left",
            files(&first_chunk).len()
        );
        let mut other = spec.clone();
        other.submission.0 += jobs;
        client.submit(other).await;
        jobs += 1;
    }
    assert!(cluster.storage().join(marker_key(0, 0)).exists());

    cluster.restart();
    let client = cluster.client("ada").await;
    let replies = results(&client, job).await;
    assert_eq!(replies[0].1, Some(Bytes::from_static(b"early")));
    let (Reply::Jobs(listed), None) = client.one(Request::Jobs).await else {
        panic!()
    };
    assert_eq!(listed.len() as u128, jobs);
}

#[tokio::test]
async fn snapshots_do_not_pile_up_and_nothing_new_makes_none() {
    let mut cluster = Cluster::start();
    let snapshots = cluster.storage().join("shards/0/snapshots");
    cluster.restart();
    assert!(!snapshots.exists(), "there was nothing to keep");
    for count in [1, 2, 2] {
        let client = cluster.client("ada").await;
        let mut spec = index_job(&client, 1).await;
        spec.submission.0 += u128::from(cluster.scheduler().term().unwrap().0);
        client.submit(spec).await;
        cluster.restart();
        assert_eq!(files(&snapshots).len(), count);
        cluster.restart();
        assert_eq!(files(&snapshots).len(), count);
    }
    let client = cluster.client("ada").await;
    let (Reply::Jobs(jobs), None) = client.one(Request::Jobs).await else {
        panic!()
    };
    assert_eq!(jobs.len(), 3);
}

#[tokio::test]
async fn a_failed_task_that_is_retried_has_its_result_also_after_a_restart() {
    let mut cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 1).await).await;
    let (grant, range) = worker.next_grant(job).await;
    let mut report = reported(job, grant, IndexRange::new(0, 0), None);
    let failure = TaskFailure {
        index: 0,
        cause: FailureCause::Error,
        message: "not today".into(),
    };
    report.failed = vec![(grant, vec![failure.clone()])];
    worker.report(report).await;
    assert_eq!(results(&client, job).await[0].0, Reply::Failed(vec![failure]));
    assert_eq!(
        client.one(Request::Retry(job)).await.0,
        Reply::Reopened { tasks: 1 }
    );
    let (again, _) = worker.next_grant(job).await;
    worker
        .report(reported(job, again, range, Some(Bytes::from_static(b"today"))))
        .await;
    for restarted in [false, true] {
        if restarted {
            cluster.restart();
        }
        let client = cluster.client("ada").await;
        let replies = results(&client, job).await;
        let [(Reply::Results { .. }, Some(bytes)), (Reply::Job(view), None)] = &replies[..] else {
            panic!("{replies:?}")
        };
        assert_eq!((&bytes[..], view.done, view.failed), (&b"today"[..], 1, 0));
        assert_eq!(view.outcome, Some(Outcome::Succeeded));
    }
}
