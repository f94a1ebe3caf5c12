use bytes::Bytes;
use phalanx_protocol::Term;

use super::*;
use crate::cluster::ClusterId;
use crate::journal::replay::read_record;
use crate::marker::is_marked;
use crate::memory::{Fault, MemoryStore};
use crate::slot::{Place, SlotHead, SlotKind, encode, log_prefix, slot_key};
use crate::snapshot::{Snapshot, list_snapshots, snapshot_key, write_snapshot};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn put(store: &MemoryStore, slot: u64) -> Place {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(0),
        nonce: 99,
        kind: SlotKind::Data,
    };
    let (object, places) = encode(&head, &[Bytes::from_static(b"result")]);
    store.put_if_absent(&slot_key(0, slot), &object).unwrap();
    places[0]
}

fn snapshot(store: &MemoryStore, slot: u64) {
    let snapshot = Snapshot {
        log: LOG,
        slot,
        term: Term(0),
        payload: Bytes::from_static(b"state"),
    };
    write_snapshot(store, &snapshot).unwrap();
}

fn slots(store: &MemoryStore) -> Vec<u64> {
    let keys = store.list(&log_prefix(0), None).unwrap();
    keys.iter().filter_map(|key| slot_of_key(0, key)).collect()
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

fn needed(slots: impl IntoIterator<Item = u64>) -> Needed {
    Needed {
        through: 10_000,
        slots: slots.into_iter().collect(),
    }
}

/// Two chunks, a piece of a third, and two snapshots of which the older lies in the third.
fn grown() -> (Arc<MemoryStore>, Collector) {
    let store = Arc::new(MemoryStore::default());
    for slot in (0..9000).step_by(10) {
        put(&store, slot);
    }
    for slot in [100, 8200, 8900] {
        snapshot(&store, slot);
    }
    let collector = Collector::new(Arc::clone(&store) as Arc<dyn Store>, LOG);
    (store, collector)
}

#[test]
fn chunks_are_marked_as_soon_as_all_of_them_is_covered_and_ripe_an_hour_later() {
    let mut schedule = Schedule::new(10, GRACE);
    assert_eq!(schedule.unmarked(9).count(), 0);
    assert!(schedule.unmarked(29).eq([0, 1]));
    schedule.mark_seen(0, at(0));
    schedule.mark_seen(0, at(50));
    schedule.mark_seen(1, at(100));
    assert!(schedule.unmarked(30).eq([2]));
    assert_eq!(schedule.ripe(30, at(3599)).count(), 0);
    assert!(schedule.ripe(30, at(3600)).eq([0]));
    assert!(schedule.ripe(30, at(3700)).eq([0, 1]));
    // the cover may shrink: a snapshot turned out to be damaged
    assert!(schedule.ripe(10, at(3700)).eq([0]));
    schedule.mark_gone(0);
    assert!(schedule.ripe(30, at(3700)).eq([1]));
}

#[test]
fn slots_go_an_hour_after_their_marker_and_those_needed_stay_readable() {
    let (store, mut collector) = grown();
    let place = put(&store, 50);
    let done = collector.run(&needed([50]), &|| at(0)).unwrap();
    assert_eq!((done.chunks_marked, done.slots_deleted), (2, 0));
    assert!(is_marked(&*store, 0, 8191).unwrap() && !is_marked(&*store, 0, 8192).unwrap());
    assert_eq!(list_snapshots(&*store, 0).unwrap(), [8200, 8900]);
    let done = collector.run(&needed([50]), &|| at(3599)).unwrap();
    assert_eq!(done, Collected::default());
    let done = collector.run(&needed([50]), &|| at(3600)).unwrap();
    assert_eq!((done.slots_deleted, done.slots_kept), (819, 1));
    assert_eq!(slots(&store)[..2], [50, 8200]);
    assert_eq!(read_record(&*store, 0, place).unwrap(), b"result");
    // it is not needed any more
    let done = collector.run(&needed([]), &|| at(3601)).unwrap();
    assert_eq!(done.slots_deleted, 1);
    assert_eq!(slots(&store)[0], 8200);
}

#[test]
fn a_new_leader_waits_an_hour_of_its_own() {
    let (store, mut collector) = grown();
    collector.run(&needed([]), &|| at(0)).unwrap();
    let mut next = Collector::new(Arc::clone(&store) as Arc<dyn Store>, LOG);
    assert_eq!(next.run(&needed([]), &|| at(3600)).unwrap().slots_deleted, 0);
    assert_eq!(next.run(&needed([]), &|| at(7199)).unwrap().slots_deleted, 0);
    assert_eq!(next.run(&needed([]), &|| at(7200)).unwrap().slots_deleted, 820);
}

#[test]
fn nothing_goes_unless_two_snapshots_are_whole_right_then() {
    let (store, mut collector) = grown();
    collector.run(&needed([]), &|| at(0)).unwrap();
    for slot in [8200, 8900] {
        let key = snapshot_key(0, slot);
        let whole = store.get(&key).unwrap().unwrap();
        store.replace(&key, b"torn").unwrap();
        assert_eq!(
            collector.run(&needed([]), &|| at(3600)).unwrap(),
            Collected::default()
        );
        store.replace(&key, &whole).unwrap();
    }
    assert_eq!(
        collector.run(&needed([]), &|| at(3600)).unwrap().slots_deleted,
        820
    );
}

#[test]
fn nothing_goes_that_the_scheduler_has_not_seen() {
    let (store, mut collector) = grown();
    // a deposed leader's view: it never saw what the second chunk holds, nor what is needed of it
    let view = Needed {
        through: 8000,
        slots: BTreeSet::new(),
    };
    collector.run(&view, &|| at(0)).unwrap();
    assert!(!is_marked(&*store, 0, 4096).unwrap());
    collector.run(&needed([]), &|| at(0)).unwrap();
    assert_eq!(collector.run(&view, &|| at(3600)).unwrap().slots_deleted, 410);
    assert_eq!(slots(&store)[0], 4100);
}

#[test]
fn nothing_goes_from_a_chunk_that_could_not_be_marked() {
    let (store, mut collector) = grown();
    store.on_put(|_| Fault::ErrorBefore);
    assert!(collector.run(&needed([]), &|| at(0)).is_err());
    assert!(collector.run(&needed([]), &|| at(3600)).is_err());
    assert_eq!(slots(&store)[0], 0);
    store.heal();
    collector.run(&needed([]), &|| at(3600)).unwrap();
    assert_eq!(
        collector.run(&needed([]), &|| at(7200)).unwrap().slots_deleted,
        820
    );
}

#[test]
fn a_process_that_slept_while_it_marked_waits_an_hour_from_its_waking() {
    let (_store, mut collector) = grown();
    let looks = std::cell::Cell::new(0);
    // it falls asleep behind the first look, in the middle of the create
    let clock = || at(if looks.replace(1) == 0 { 0 } else { 5000 });
    collector.run(&needed([]), &clock).unwrap();
    assert_eq!(collector.run(&needed([]), &|| at(8599)).unwrap().slots_deleted, 0);
    assert_eq!(
        collector.run(&needed([]), &|| at(8600)).unwrap().slots_deleted,
        820
    );
}
