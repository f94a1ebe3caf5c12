//! Typed results against a scheduler that plays a script.

#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers what it is about")]
#![expect(
    unsafe_code,
    reason = "in the crate itself, the attribute's link sections count as unsafe"
)]

use phalanx_protocol::JobId;
use phalanx_protocol::message::client::{Reply, Request};
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_transport::CloseReason;

use super::*;
use crate::client::fake::{Act, FakeScheduler, block, end, view, whole};

#[phalanx::kernel]
fn square(number: u64) -> u64 {
    number * number
}

#[phalanx::kernel]
fn nothing(number: u64) {
    let _ = number;
}

fn failed(indices: &[u64]) -> Act {
    let failure = |&index| TaskFailure {
        index,
        cause: FailureCause::Error,
        message: format!("no {index}"),
    };
    Act::Say(Reply::Failed(indices.iter().map(failure).collect()))
}

/// Sends these results of a job, whatever is asked.
fn sending(acts: Vec<Act>) -> FakeScheduler {
    FakeScheduler::start(move |_, request| match request {
        Request::Submit(_) => vec![Act::Say(Reply::Submitted(JobId(7)))],
        _ => acts.clone(),
    })
}

/// Items as text: `5`, or `!1 no 1`.
fn text(item: Result<u64, TaskError>) -> String {
    match item {
        Ok(value) => value.to_string(),
        Err(error) => format!("!{} {}", error.index, error.message),
    }
}

fn in_order(acts: Vec<Act>, tasks: u64) -> Vec<String> {
    let scheduler = sending(acts);
    let results = scheduler.cluster().map::<square>(0..tasks).results().unwrap();
    results.map(text).collect()
}

#[test]
fn failures_stand_between_results_where_they_belong() {
    let acts = [
        vec![failed(&[4, 1])],
        block(0, &[(0, 1), (2, 3)], &[10u64, 11, 12]),
        whole(3, &[13u64]),
        vec![failed(&[5]), end(7, 6, 3)],
    ];
    let expected = ["10", "!1 no 1", "12", "13", "!4 no 4", "!5 no 5"];
    assert_eq!(in_order(acts.concat(), 6), expected);
}

#[test]
fn a_failure_that_comes_late_is_still_told() {
    let acts = [
        whole(0, &[10u64]),
        whole(2, &[12u64]),
        vec![failed(&[1]), end(7, 3, 1)],
    ];
    assert_eq!(in_order(acts.concat(), 3), ["10", "12", "!1 no 1"]);
}

#[test]
fn results_as_completed_carry_the_numbers_that_were_mapped_over() {
    let acts = [
        whole(2, &[12u64]),
        vec![failed(&[1])],
        whole(0, &[10u64]),
        vec![end(7, 3, 1)],
    ];
    let scheduler = sending(acts.concat());
    let results = scheduler
        .cluster()
        .map::<square>(100..103)
        .as_completed()
        .unwrap();
    let found: Vec<_> = results.map(|(index, item)| (index, text(item))).collect();
    let expected = [(102, "12"), (101, "!101 no 1"), (100, "10")];
    assert_eq!(found, expected.map(|(index, text)| (index, text.to_owned())));
}

#[test]
fn tasks_that_return_nothing_are_counted() {
    let none = Act::Say(Reply::NoResults(vec![(0..2).into(), (3..5).into()]));
    let scheduler = sending(vec![none, failed(&[2]), end(7, 5, 1)]);
    let results = scheduler.cluster().map::<nothing>(0..5).as_completed().unwrap();
    let good: Vec<u64> = results
        .filter(|(_, item)| item.is_ok())
        .map(|(index, _)| index)
        .collect();
    assert_eq!(good, [0, 1, 3, 4]);
}

#[test]
fn a_cancelled_job_never_looks_complete() {
    let mut over = view(7, 5);
    over.outcome = Some(Outcome::Cancelled { by: "eve".to_owned() });
    let acts = [whole(0, &[10u64, 11]), vec![Act::Say(Reply::Job(over))]].concat();
    let scheduler = sending(acts.clone());
    let mut results = scheduler.cluster().map::<square>(0..5).results().unwrap();
    let last = results.by_ref().last().unwrap().unwrap_err();
    assert_eq!((last.index, last.cause), (2, TaskCause::Unfinished));
    assert_eq!(last.message, "job 7 was cancelled by eve");
    assert_eq!(results.view().unwrap().state(), "cancelled");
    assert!(results.next().is_none());
    let error = sending(acts).cluster().map::<square>(0..5).collect().unwrap_err();
    assert!(matches!(error, JobError::Cancelled { by, .. } if by == "eve"));
}

#[test]
fn a_job_that_ended_early_gives_what_lies_behind_its_gaps_in_order() {
    let mut over = view(7, 9);
    over.outcome = Some(Outcome::Cancelled { by: "eve".to_owned() });
    let acts = [
        whole(0, &[10u64, 11]),
        vec![failed(&[7, 4])],
        block(2, &[(3, 4), (5, 6)], &[12u64, 13, 14, 15]),
        whole(8, &[18u64]),
        vec![Act::Say(Reply::Job(over))],
    ];
    let expected = [
        "10",
        "11",
        "13",
        "!4 no 4",
        "15",
        "!7 no 7",
        "18",
        "!2 job 7 was cancelled by eve",
    ];
    assert_eq!(in_order(acts.concat(), 9), expected);
}

#[test]
fn too_many_failures_leave_gaps_and_a_late_failure_fills_one() {
    let over = JobView {
        outcome: Some(Outcome::Failed),
        done: 2,
        failed: 1,
        ..view(7, 5)
    };
    let acts = [
        whole(0, &[10u64]),
        whole(4, &[14u64]),
        vec![failed(&[1]), Act::Say(Reply::Job(over))],
    ];
    let expected = [
        "10",
        "14",
        "!1 no 1",
        "!2 job 7 ended with 2 tasks unaccounted for",
    ];
    assert_eq!(in_order(acts.concat(), 5), expected);
}

#[test]
fn a_lost_cluster_never_looks_complete() {
    let scheduler = FakeScheduler::start(|number, _| match number {
        0 => vec![Act::Say(Reply::Submitted(JobId(7)))],
        1 => [whole(0, &[10u64]), vec![Act::HangUp]].concat(),
        _ => vec![Act::Close(CloseReason::Refused)],
    });
    let items: Vec<_> = scheduler
        .cluster()
        .map::<square>(0..5)
        .results()
        .unwrap()
        .collect();
    assert_eq!(items.len(), 2);
    let last = items[1].as_ref().unwrap_err();
    assert_eq!((last.index, last.cause), (1, TaskCause::Disconnected));
}

#[test]
fn damaged_results_are_told_and_end_the_stream() {
    let acts = vec![
        Act::Say(Reply::Results {
            range: (0..2).into(),
            keep: vec![(0..2).into()],
        }),
        Act::Bytes(vec![9]),
        end(7, 2, 0),
    ];
    let scheduler = sending(acts.clone());
    let items: Vec<_> = scheduler
        .cluster()
        .map::<square>(0..2)
        .results()
        .unwrap()
        .collect();
    assert_eq!(items[0], Ok(9));
    assert_eq!(items[1].as_ref().unwrap_err().cause, TaskCause::Unreadable);
    assert_eq!(items.len(), 2);
    let error = sending(acts).cluster().map::<square>(0..2).collect().unwrap_err();
    assert!(matches!(error, JobError::Decode { .. }));
}

#[test]
fn collecting_waits_for_the_end_and_names_the_first_failure() {
    let many: Vec<u64> = (1..21).collect();
    let acts = [
        whole(0, &[10u64]),
        vec![failed(&many)],
        whole(21, &[31u64]),
        vec![end(7, 22, 20)],
    ];
    let scheduler = sending(acts.concat());
    let error = scheduler.cluster().map::<square>(50..72).collect().unwrap_err();
    let JobError::Failed {
        failed,
        tasks,
        first,
        further,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((failed, tasks, first.index, further.len()), (20, 22, 51, 9));
}

#[test]
fn dropping_the_iterator_early_does_not_cancel() {
    let scheduler = sending([whole(0, &[10u64]), vec![Act::Hang]].concat());
    let mut results = scheduler.cluster().map::<square>(0..5).results().unwrap();
    assert_eq!(results.next(), Some(Ok(10)));
    drop(results);
    let cancelled = scheduler
        .seen()
        .requests
        .iter()
        .any(|request| matches!(request, Request::Cancel(_)));
    assert!(!cancelled);
}

/// No gate: what it prints is for whoever works on decoding (`--no-capture`, and a release build).
#[test]
fn many_values_cross_the_channel() {
    const BLOCKS: u64 = 50;
    const BLOCK_TASKS: u64 = 20_000;
    let values: Vec<u64> = (0..BLOCK_TASKS).map(|index| index * 1_000_003).collect();
    let mut acts: Vec<Act> = (0..BLOCKS)
        .flat_map(|number| whole(number * BLOCK_TASKS, &values))
        .collect();
    acts.push(end(7, BLOCKS * BLOCK_TASKS, 0));
    let scheduler = sending(acts);
    let results = scheduler
        .cluster()
        .map::<square>(0..BLOCKS * BLOCK_TASKS)
        .results()
        .unwrap();
    let started = std::time::Instant::now();
    let sum: u64 = results.map(Result::unwrap).sum();
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.1} M values/s", (BLOCKS * BLOCK_TASKS) as f64 / seconds / 1e6);
    assert_eq!(sum, BLOCKS * values.iter().sum::<u64>());
}
