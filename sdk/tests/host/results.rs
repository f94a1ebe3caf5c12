//! What tasks return, and how results are merged and split.

use phalanx_protocol::limits::{RESULT_FILE_BYTES_MAX, TASK_RESULT_BYTES_MAX};
use phalanx_protocol::message::host::{FromHost, HostInputs, ToHost};
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{Encoding, IndexRange, codec};

use crate::driver::{Driver, grant_id};

fn item_file(folder: &std::path::Path, name: &str, items: &[Vec<u8>]) -> std::path::PathBuf {
    let mut bytes = Vec::new();
    for item in items {
        bytes.extend((item.len() as u32).to_le_bytes());
        bytes.extend(item);
    }
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn results_come_back_by_index() {
    let mut driver = Driver::ready("square", &(), false, 3);
    driver.grant(1, 5..70_005);
    let ended = driver.await_ended(70_000);
    assert!(
        ended
            .values::<u64>()
            .into_iter()
            .all(|(index, value)| value == index * index)
    );
    assert!(ended.busy_nanos > 0);
    assert_eq!(ended.backlog, 0);
}

#[test]
fn a_kernel_that_returns_nothing_has_no_results() {
    for encoding in [Encoding::Bincode, Encoding::Json] {
        let mut driver = Driver::start();
        driver.open("nothing", vec![], encoding, false, 1);
        assert_eq!(driver.receive(), FromHost::Ready);
        driver.set_slots(2);
        driver.grant(1, 0..5_000_000);
        assert!(driver.await_ended(5_000_000).results.is_empty());
    }
}

#[test]
fn results_for_the_command_line_are_lines() {
    let mut driver = Driver::start();
    driver.open("name", b"null".to_vec(), Encoding::Json, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.set_slots(1);
    driver.grant(1, 0..3);
    driver.await_ended(3);
    let text: Vec<u8> = driver
        .ended
        .results
        .values()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    assert_eq!(String::from_utf8(text).unwrap(), "\"0\"\n\"1\"\n\"2\"\n");
}

#[test]
fn errors_and_panics_fail_their_own_task_with_message_and_index() {
    let mut driver = Driver::ready("brittle", &(), false, 2);
    driver.grant(1, 0..1000);
    let ended = driver.await_ended(1000);
    for index in 0..1000u64 {
        let failure = ended.failed.get(&index);
        if index % 10 == 0 {
            let failure = failure.unwrap();
            assert_eq!(failure.cause, FailureCause::Panic);
            let place = format!("index {index} is round, at sdk/tests/host/driver.rs:");
            assert!(failure.message.starts_with(&place), "{}", failure.message);
        } else if index % 7 == 0 {
            let failure = failure.unwrap();
            assert_eq!(
                (failure.cause, failure.message.as_str()),
                (FailureCause::Error, &*format!("{index} will not do"))
            );
        } else {
            assert!(failure.is_none());
        }
    }
    assert!(
        ended
            .values::<u64>()
            .into_iter()
            .all(|(index, value)| index == value)
    );
}

#[test]
fn items_are_read_from_their_files_and_damaged_ones_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let encoded = |range: std::ops::Range<u32>| {
        range
            .map(|value| codec::encode(&f64::from(value)))
            .collect::<Vec<_>>()
    };
    let mut second = encoded(5..8);
    second[1] = vec![1, 2, 3];
    let files = vec![
        (
            IndexRange::new(0, 5),
            item_file(folder.path(), "a", &encoded(0..5)),
        ),
        (IndexRange::new(5, 8), item_file(folder.path(), "b", &second)),
        (IndexRange::new(8, 9), folder.path().join("missing")),
    ];
    let mut driver = Driver::ready("scale", &3.0f64, false, 2);
    driver.send(&ToHost::Grant {
        grant: grant_id(1),
        range: IndexRange::new(2, 11),
        inputs: HostInputs::Items(files),
        restarts: 0,
    });
    let ended = driver.await_ended(9);
    let values = ended.values::<f64>();
    assert_eq!(
        values.into_iter().collect::<Vec<_>>(),
        [(2, 6.0), (3, 9.0), (4, 12.0), (5, 15.0), (7, 21.0)]
    );
    let message = |index| {
        assert_eq!(ended.failed[&index].cause, FailureCause::Input);
        ended.failed[&index].message.as_str()
    };
    assert!(
        message(6).starts_with("item 6: 3 bytes are not a valid f64"),
        "{}",
        message(6)
    );
    assert!(
        message(8).starts_with("item 8: the input file cannot be read"),
        "{}",
        message(8)
    );
    assert_eq!(message(10), "item 10: no input file holds it");
}

#[test]
fn a_kernel_that_takes_items_cannot_run_over_indices() {
    let mut driver = Driver::ready("scale", &1.0f64, false, 1);
    driver.grant(1, 0..2);
    let ended = driver.await_ended(2);
    assert_eq!(
        ended.failed[&1].message,
        "kernel `scale` takes f64, not an index (`u64`)"
    );
}

#[test]
fn a_reducing_job_sends_one_value_per_run_of_neighbours() {
    let mut driver = Driver::ready("name", &(), true, 3);
    driver.grant(1, 0..3000);
    driver.grant(2, 4000..4100);
    let ended = driver.await_ended(3100);
    for (range, bytes) in ended.results.values() {
        let expected: Vec<String> = (range.start..range.end).map(|index| index.to_string()).collect();
        assert_eq!(codec::decode::<String>(bytes).unwrap(), expected.join(","));
    }
    let covered: u64 = ended.results.values().map(|(range, _)| range.len()).sum();
    assert_eq!(covered, 3100);
    assert!(ended.results.len() < 200, "{} values", ended.results.len());
}

#[test]
fn merging_that_panics_ends_the_job_and_not_the_host() {
    let mut driver = Driver::ready("lone", &(), true, 1);
    driver.grant(1, 0..1000);
    let answer = driver.receive_other();
    let FromHost::Refused { reason } = answer else {
        panic!("{answer:?}");
    };
    assert!(
        reason.starts_with("merging results of kernel `lone` panicked: these do not go"),
        "{reason}"
    );
    driver.close();
    driver.open("square", vec![], Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
}

#[test]
fn large_results_are_sent_early_and_too_large_ones_fail() {
    let mut driver = Driver::ready("bulky", &(), false, 2);
    let large = TASK_RESULT_BYTES_MAX as u64 - 100;
    driver.grant(1, large + 94..large + 97);
    let ended = driver.await_ended(3);
    // a vector's length takes five bytes
    assert_eq!(
        ended.done.iter().collect::<Vec<_>>(),
        [IndexRange::new(large + 94, large + 96)]
    );
    let failure = &ended.failed[&(large + 96)];
    assert_eq!(failure.cause, FailureCause::Result);
    assert_eq!(
        failure.message,
        "the result takes 8388609 bytes, a task's may take 8388608"
    );
    driver.close();

    driver.ended = Default::default();
    driver.open("bulky", vec![], Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.set_slots(2);
    driver.grant(2, 100_000..100_300);
    let ended = driver.await_ended(300);
    assert!(ended.messages > 5, "{} messages", ended.messages);
    assert!(
        ended
            .results
            .values()
            .all(|(_, bytes)| bytes.len() <= RESULT_FILE_BYTES_MAX)
    );
    assert!(
        ended
            .values::<Vec<u8>>()
            .into_iter()
            .all(|(index, value)| value.len() as u64 == index)
    );
}
