//! Whom a dead kernel host is blamed on.

use phalanx_protocol::message::worker::FromWorker;
use phalanx_protocol::record::FailureCause;

use crate::scheduler::{JOB, Scheduler, parameters};

struct Lost {
    blamed: Vec<u64>,
    cause: FailureCause,
    how: String,
}

async fn host_lost(scheduler: &mut Scheduler) -> Lost {
    let message = scheduler.hear().await;
    let FromWorker::HostLost {
        job,
        blamed,
        cause,
        how,
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!(job, JOB);
    Lost { blamed, cause, how }
}

#[tokio::test]
async fn a_crash_is_blamed_on_what_ran_in_the_host_and_on_nothing_else() {
    let mut scheduler = Scheduler::start().await;
    scheduler.open("abort_at", parameters(&7_u64), 2, 0, None).await;
    scheduler.grant(1, 0, 1000).await;
    let lost = host_lost(&mut scheduler).await;
    assert_eq!(
        (lost.how.as_str(), lost.cause),
        ("signal 6 (SIGABRT)", FailureCause::Crash)
    );
    assert!(
        lost.blamed.contains(&7) && lost.blamed.len() <= 2,
        "{:?}",
        lost.blamed
    );
    assert_eq!(scheduler.board_count(), 0);
}

#[tokio::test]
async fn a_task_over_its_time_is_blamed_alone_and_what_ended_before_counts() {
    let mut scheduler = Scheduler::start().await;
    scheduler
        .open("hang_at", parameters(&0_u64), 2, 0, Some(5000))
        .await;
    scheduler.grant(1, 0, 100).await;
    let lost = host_lost(&mut scheduler).await;
    assert_eq!(
        (lost.how.as_str(), lost.cause),
        ("ran longer than 5 s", FailureCause::TimeLimit)
    );
    assert_eq!(lost.blamed, [0]);
    let mut done = 0;
    while done < 99 {
        let ranges = scheduler.report().await.done;
        done += ranges
            .iter()
            .flat_map(|(_, ranges)| ranges)
            .map(|range| range.len())
            .sum::<u64>();
    }
}

#[tokio::test]
async fn a_host_over_its_memory_is_killed_and_says_how_much_it_used() {
    let mut scheduler = Scheduler::start().await;
    let bytes = 160_u64 << 20;
    scheduler
        .open("hoard", parameters(&bytes), 1, 100 << 20, None)
        .await;
    scheduler.grant(1, 4, 5).await;
    let lost = host_lost(&mut scheduler).await;
    assert_eq!((lost.blamed, lost.cause), (vec![4], FailureCause::Memory));
    assert!(
        lost.how.starts_with("used 1") && lost.how.ends_with(" MiB of 100 MiB"),
        "{}",
        lost.how
    );
}
