//! Tasks that resume where an attempt before them was killed.

use std::sync::Arc;

use phalanx_protocol::message::worker::{FromWorker, ToWorker};
use phalanx_protocol::record::ResultData;
use phalanx_protocol::{TaskId, codec};
use phalanx_storage::{Checkpoints, Directory};

use crate::scheduler::{JOB, Scheduler, grant};

async fn result<T: serde::de::DeserializeOwned>(scheduler: &mut Scheduler) -> T {
    let report = scheduler.report().await;
    let ResultData::Inline(bytes) = &report.results[0].data else {
        panic!("{report:?}")
    };
    codec::decode(bytes).unwrap()
}

#[tokio::test]
async fn a_task_whose_host_is_killed_resumes_from_its_last_checkpoint_and_not_from_zero() {
    let mut scheduler = Scheduler::start().await;
    scheduler.open("count", Vec::new(), 1, 0, None).await;
    scheduler.grant(1, 5, 6).await;
    let lost = scheduler.hear().await;
    let FromWorker::HostLost { blamed, how, .. } = &lost else {
        panic!("{lost:?}")
    };
    assert_eq!(
        (blamed.as_slice(), how.as_str()),
        (&[5][..], "signal 9 (SIGKILL)")
    );
    scheduler.open("count", Vec::new(), 1, 0, None).await;
    scheduler.grant(2, 5, 6).await;
    assert_eq!(result::<u64>(&mut scheduler).await, 12);
    let storage = Directory::open(scheduler.folder.path().join("storage")).unwrap();
    let task = TaskId { job: JOB, index: 5 };
    let newest = Checkpoints::new(Arc::new(storage)).newest(task).unwrap().unwrap();
    assert_eq!(
        (newest.attempt, codec::decode::<u64>(&newest.payload).unwrap()),
        (grant(2), 20)
    );
}

#[tokio::test]
async fn tasks_save_what_they_have_when_their_job_is_about_to_be_ended() {
    let mut scheduler = Scheduler::start().await;
    scheduler.open("save_when_told", Vec::new(), 1, 0, None).await;
    scheduler.grant(1, 0, 1).await;
    scheduler.task_runs(0).await;
    scheduler.say(ToWorker::CheckpointNow { job: JOB }).await;
    assert!(result::<bool>(&mut scheduler).await);
}

#[tokio::test]
async fn a_task_is_told_to_save_what_it_has_before_its_time_is_over() {
    let mut scheduler = Scheduler::start().await;
    scheduler
        .open("save_when_told", Vec::new(), 1, 0, Some(8000))
        .await;
    scheduler.grant(1, 0, 1).await;
    assert!(result::<bool>(&mut scheduler).await);
}

#[tokio::test]
async fn a_stopped_worker_lets_its_tasks_save_their_state_and_leaves_when_they_have_ended() {
    let mut scheduler = Scheduler::start().await;
    scheduler.open("save_when_told", Vec::new(), 1, 0, None).await;
    scheduler.grant(1, 0, 1).await;
    scheduler.task_runs(0).await;
    scheduler.worker.stop();
    assert_eq!(scheduler.hear().await, FromWorker::Draining);
    assert!(result::<bool>(&mut scheduler).await);
    scheduler.say(ToWorker::Acknowledge { number: 1 }).await;
    assert_eq!(scheduler.hear().await, FromWorker::Leaving);
}
