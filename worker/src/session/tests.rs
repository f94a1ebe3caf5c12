//! How long a worker looks for a scheduler, on a clock that runs ahead while all wait.

use std::time::Duration;

use phalanx_transport::{Authority, Role};
use tempfile::TempDir;

use super::*;

const LIMIT: Duration = Duration::from_secs(600);

/// A worker's sessions where there is no scheduler, and a driver that says after how long a time it holds nothing more.
struct Alone {
    storage: TempDir,
    rejoin_for: Duration,
    holds_work_for: Duration,
}

impl Alone {
    fn new() -> Self {
        Self {
            storage: tempfile::tempdir().unwrap(),
            rejoin_for: LIMIT,
            holds_work_for: Duration::ZERO,
        }
    }

    /// How the search ends, and after how long.
    async fn search(&self) -> (WorkerError, Duration) {
        let credential = Authority::create("test").unwrap();
        let credential = credential.issue(Role::Worker, "node").unwrap();
        let (events, mut asked) = mpsc::channel(1);
        let sessions = Sessions {
            dialer: Dialer::new(&credential).unwrap(),
            addresses: Vec::new().into(),
            rejoin_for: self.rejoin_for,
            storage: self.storage.path().to_owned(),
            seed: 1,
            events,
        };
        let start = Instant::now();
        let driver = async {
            while let Some(event) = asked.recv().await {
                let SessionEvent::Unfound(reply) = event else {
                    panic!("{event:?}")
                };
                reply.send(start.elapsed() < self.holds_work_for).unwrap();
            }
        };
        let (ended, ()) = tokio::join!(sessions.run(), driver);
        (ended.unwrap_err(), start.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_after_its_limit() {
    let (error, took) = Alone::new().search().await;
    assert!(
        matches!(error, WorkerError::Unreachable { tried_for, .. } if tried_for == LIMIT),
        "{error:?}"
    );
    assert_eq!(took, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_holds_work_looks_on_over_night() {
    let mut alone = Alone::new();
    alone.holds_work_for = Duration::from_secs(14 * 3600);
    let (error, took) = alone.search().await;
    assert!(matches!(error, WorkerError::Unreachable { .. }), "{error:?}");
    let late = took.checked_sub(alone.holds_work_for).unwrap();
    assert!(late <= Duration::from_secs(2), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_storage_was_deleted_does_not_stay_for_ever() {
    let mut alone = Alone::new();
    alone.holds_work_for = Duration::MAX;
    std::fs::remove_dir(alone.storage.path()).unwrap();
    let (error, took) = alone.search().await;
    assert!(matches!(error, WorkerError::StorageGone { .. }), "{error:?}");
    let storage = alone.storage.path().display();
    assert_eq!(
        error.to_string(),
        format!("shared storage `{storage}` is gone, and no scheduler took this worker for 1200 s")
    );
    // it has to be gone for as long as a worker looks at all
    assert_eq!(took, LIMIT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_limit_looks_on_also_when_it_is_idle() {
    let mut alone = Alone::new();
    alone.rejoin_for = Duration::MAX;
    let search = tokio::time::timeout(LIMIT * 100, alone.search()).await;
    assert!(search.is_err(), "{search:?}");
}
