//! Grants, revokes, slots and pauses.

use phalanx_protocol::message::host::{FromHost, ToHost};
use phalanx_protocol::{IndexRange, RangeSet};
use proptest::prelude::*;

use crate::driver::{Driver, GATE, grant_id, use_gate};

#[test]
fn a_revoke_takes_from_the_end_and_an_unknown_grant_gives_nothing() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 1);
    driver.grant(1, 0..100);
    GATE.await_waiting(1);
    assert_eq!(driver.revoke(1, 30), IndexRange::new(70, 100));
    assert!(driver.revoke(2, 30).is_empty());
    assert_eq!(driver.revoke(1, u64::MAX), IndexRange::new(1, 70));
    assert!(driver.revoke(1, 1).is_empty());
    GATE.open(1);
    assert_eq!(driver.await_ended(1).done.first(), Some(0));
}

#[test]
fn stopped_tasks_are_not_started_and_running_ones_are_told() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 2);
    driver.grant(1, 0..10);
    driver.grant(2, 10..12);
    GATE.await_waiting(2);
    let grant = grant_id(1);
    let range = IndexRange::new(1, 5);
    driver.send(&ToHost::Stop { grant, range });
    let unstarted = IndexRange::new(2, 5);
    let stopped = FromHost::Stopped {
        grant,
        range: unstarted,
    };
    assert_eq!(driver.receive_other(), stopped);
    // the other slot goes on, and the freed one with what is not stopped
    while !driver.ended.failed.contains_key(&1) {
        let FromHost::Progress(progress) = driver.receive() else {
            panic!("nothing else is to be said");
        };
        driver.ended.add(progress);
    }
    assert_eq!(driver.ended.failed[&1].message, "cancelled");
    GATE.open(8);
    driver.await_ended(9);
    let done: Vec<IndexRange> = driver.ended.done.iter().collect();
    assert_eq!(done, [IndexRange::new(0, 1), IndexRange::new(5, 12)]);
    // what is not here, or has ended, is nobody's business
    let range = IndexRange::new(0, 1);
    let grant = grant_id(7);
    driver.send(&ToHost::Stop { grant, range });
    assert!(driver.revoke(1, 1).is_empty());
}

#[test]
fn grants_queue_in_order() {
    let mut driver = Driver::ready("square", &(), false, 1);
    driver.grant(1, 500..600);
    driver.grant(2, 0..100);
    driver.grant(3, 100..100);
    driver.grant(4, 100..200);
    let ended = driver.await_ended(300);
    assert_eq!(
        ended.done.iter().collect::<Vec<_>>(),
        [IndexRange::new(0, 200), IndexRange::new(500, 600)]
    );
}

#[test]
fn lowered_slots_are_reported_once_they_are_free() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 3);
    driver.grant(1, 0..100);
    GATE.await_waiting(3);
    driver.send(&ToHost::SetSlots(1));
    // an answer here would be too early; this one overtakes nothing
    assert_eq!(driver.revoke(1, 90), IndexRange::new(10, 100));
    assert_eq!(driver.ended.count(), 0);
    GATE.open(2);
    assert_eq!(driver.receive_other(), FromHost::Slots(1));
    driver.await_ended(2);
    GATE.await_waiting(1);
    driver.set_slots(2);
    GATE.await_waiting(2);
    GATE.open(8);
    driver.await_ended(10);
}

#[test]
fn a_paused_host_starts_nothing_until_it_may() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 2);
    driver.send(&ToHost::Pause(true));
    driver.grant(1, 0..10);
    assert_eq!(
        driver.revoke(1, 2),
        IndexRange::new(8, 10),
        "all of it is still there"
    );
    driver.send(&ToHost::Pause(false));
    GATE.await_waiting(2);
    driver.send(&ToHost::Pause(true));
    assert!(driver.revoke(1, 0).is_empty(), "an answer: the pause has arrived");
    GATE.open(2);
    driver.await_ended(2);
    GATE.await_waiting(0);
    driver.send(&ToHost::Pause(false));
    GATE.open(6);
    driver.await_ended(8);
}

/// How often a test begins again whose chunk ends by chance where it waits.
const TRIES: u32 = 20;

/// A slot waits in the task at 20 000 of a million: the tasks before it were quick, so it has claimed many at a time.
fn at_the_gate() -> Driver {
    let mut driver = Driver::ready("uneven", &20_000u64, false, 1);
    driver.grant(1, 0..1_000_000);
    GATE.await_waiting(1);
    driver
}

/// A slot that waits in the midst of a large chunk was told something; what it has not claimed begins there, and was given back.
fn in_a_large_chunk(message: &ToHost) -> (Driver, u64) {
    for _ in 0..TRIES {
        let mut driver = at_the_gate();
        driver.send(message);
        // what the slot has claimed stays; with the answer the change has arrived
        let back = driver.revoke(1, u64::MAX);
        if back.start > 20_002 {
            return (driver, back.start);
        }
        drop(driver);
        GATE.await_waiting(0);
    }
    panic!("no chunk goes on behind its task");
}

#[test]
fn a_slot_stops_after_its_task_and_runs_the_rest_of_its_chunk_later() {
    let _gate = use_gate();
    let (mut driver, unclaimed) = in_a_large_chunk(&ToHost::Pause(true));
    GATE.open(1);
    let ended = driver.await_ended(20_001);
    assert_eq!(
        ended.done.iter().collect::<Vec<_>>(),
        [IndexRange::new(0, 20_001)]
    );
    GATE.open(unclaimed - 20_001);
    driver.send(&ToHost::Pause(false));
    driver.await_ended(unclaimed);
}

#[test]
fn the_last_slot_gives_the_rest_of_its_chunk_back() {
    let _gate = use_gate();
    let (mut driver, unclaimed) = in_a_large_chunk(&ToHost::SetSlots(0));
    GATE.open(1);
    let rest = FromHost::Returned {
        grant: grant_id(1),
        range: IndexRange::new(20_001, unclaimed),
    };
    assert_eq!(driver.receive_other(), rest);
    assert_eq!(driver.receive_other(), FromHost::Slots(0));
    assert_eq!(
        driver.ended.done.iter().collect::<Vec<_>>(),
        [IndexRange::new(0, 20_001)]
    );
}

#[test]
fn a_revoke_is_answered_for_each_piece() {
    let _gate = use_gate();
    let revoke = |_| {
        let mut driver = at_the_gate();
        driver.send(&ToHost::Pause(true));
        // with the answer the pause has arrived
        let tail = driver.revoke(1, 10);
        GATE.open(1);
        driver.await_ended(20_001);
        (driver.revoke_pieces(1, u64::MAX), tail)
    };
    // a slot puts the rest of its chunk back; what nobody claimed lies behind it, or is a piece of its own
    let found = (0..TRIES).map(revoke).find(|(pieces, _)| pieces.len() > 1);
    let (mut pieces, tail) = found.expect("the rest of a chunk is a piece of its own");
    pieces.sort_unstable_by_key(|piece| piece.start);
    let end = pieces.iter().fold(20_001, |end, piece| {
        assert_eq!(piece.start, end);
        piece.end
    });
    assert_eq!(end, tail.start);
}

#[test]
fn what_waits_for_another_slot_is_given_back_with_the_last_one() {
    let _gate = use_gate();
    let (mut driver, unclaimed) = in_a_large_chunk(&ToHost::Pause(true));
    GATE.open(1);
    driver.await_ended(20_001);
    driver.send(&ToHost::SetSlots(0));
    let rest = FromHost::Returned {
        grant: grant_id(1),
        range: IndexRange::new(20_001, unclaimed),
    };
    assert_eq!(driver.receive_other(), rest);
    assert_eq!(driver.receive_other(), FromHost::Slots(0));
}

/// Quick below the threshold; then it waits at the gate.
#[phalanx::kernel]
fn uneven(index: u64, threshold: &u64, context: &phalanx::TaskContext) {
    if index >= *threshold {
        GATE.pass(context);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_task_runs_once_or_is_given_back(
        slots in 1u32..5,
        steps in prop::collection::vec((0u8..5, 1u64..6_000, 0u64..3_000), 1..25),
    ) {
        let mut driver = Driver::ready("square", &(), false, slots);
        let (mut granted, mut returned) = (RangeSet::new(), RangeSet::new());
        let mut next = 0;
        for (number, &(step, len, count)) in (1u64..).zip(&steps) {
            match step {
                0 | 1 => {
                    driver.grant(number, next..next + len);
                    granted.insert(IndexRange::new(next, next + len));
                    next += len + number % 2;
                }
                2 => driver.set_slots(1 + (len % 4) as u32),
                3 => { driver.send(&ToHost::Pause(true)); driver.send(&ToHost::Pause(false)); }
                _ => {
                    for back in driver.revoke_pieces(len % number.max(1), count) {
                        prop_assert!(returned.pieces(back).is_empty());
                        returned.insert(back);
                    }
                }
            }
        }
        let ended = driver.await_ended(granted.len() - returned.len());
        for range in returned.iter() {
            prop_assert!(ended.done.pieces(range).is_empty(), "{range} was given back and run");
            granted.remove(range);
        }
        prop_assert_eq!(&ended.done, &granted);
        prop_assert!(ended.values::<u64>().into_iter().all(|(index, value)| value == index * index));
        driver.close();
    }
}
