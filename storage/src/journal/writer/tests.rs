use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::cluster::ClusterId;
use crate::journal::acquire::{Candidate, acquire};
use crate::journal::replay::read_record;
use crate::memory::{Fault, MemoryStore};
use crate::store::StoreError;

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};
const DEADLINE: Duration = Duration::from_secs(20);

fn lead(store: &dyn Store, nonce_seed: u128) -> Leadership {
    acquire(store, Candidate::new(LOG, nonce_seed)).unwrap()
}

fn start(store: &Arc<MemoryStore>, nonce_seed: u128) -> (JournalWriter, Receiver<JournalEvent>) {
    let leadership = lead(&**store, nonce_seed);
    let (sender, events) = mpsc::channel();
    let store = Arc::clone(store) as Arc<dyn Store>;
    let writer = JournalWriter::start(store, leadership, move |event| sender.send(event).unwrap());
    (writer.unwrap(), events)
}

fn next(events: &Receiver<JournalEvent>) -> JournalEvent {
    events.recv_timeout(DEADLINE).unwrap()
}

/// Waits until everything up to a sequence number is durable; checks that nothing else is told meanwhile.
fn wait_durable(events: &Receiver<JournalEvent>, upto: u64) -> Vec<(u64, Place)> {
    let mut all = Vec::new();
    loop {
        match next(events) {
            JournalEvent::Durable {
                upto_sequence,
                places,
            } => {
                all.extend(places);
                if upto_sequence >= upto {
                    return all;
                }
            }
            other @ (JournalEvent::Failing { .. }
            | JournalEvent::Recovered
            | JournalEvent::Deposed { .. }
            | JournalEvent::Expired { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

fn replayed(store: &MemoryStore, nonce_seed: u128) -> Vec<Bytes> {
    lead(store, nonce_seed)
        .records
        .into_iter()
        .map(|record| record.bytes)
        .collect()
}

#[test]
fn appended_records_become_durable_in_order_and_read_back_by_place() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    for sequence in 0..1000_u64 {
        writer
            .append(sequence, sequence.to_le_bytes().to_vec().into())
            .unwrap();
    }
    let places = wait_durable(&events, 999);
    assert!(places.iter().map(|(sequence, _)| *sequence).eq(0..1000));
    for (sequence, place) in places {
        assert_eq!(read_record(&*store, 0, place).unwrap(), sequence.to_le_bytes());
    }
    drop(writer);
    assert_eq!(replayed(&store, 2).len(), 1000);
}

#[test]
fn records_appended_together_share_a_slot() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    writer
        .append_all((0..10).map(|sequence| (sequence, Bytes::from_static(b"x"))))
        .unwrap();
    let places = wait_durable(&events, 9);
    assert!(places.iter().all(|(_, place)| place.slot == places[0].1.slot));
}

#[test]
fn a_full_storage_is_told_once_and_nothing_is_lost_when_it_has_room_again() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    store.on_put(|_| Fault::Full);
    writer.append(1, Bytes::from_static(b"a")).unwrap();
    writer.append(2, Bytes::from_static(b"b")).unwrap();
    let JournalEvent::Failing { error } = next(&events) else {
        panic!()
    };
    assert!(
        matches!(
            error,
            LogError::Store {
                source: StoreError::Full { .. },
                ..
            }
        ),
        "{error}"
    );
    store.heal();
    assert!(matches!(next(&events), JournalEvent::Recovered));
    assert_eq!(wait_durable(&events, 2).len(), 2);
    drop(writer);
    assert_eq!(replayed(&store, 2), ["a", "b"]);
}

#[test]
fn a_lost_reply_commits_a_record_once() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    let mut first = true;
    store.on_put(move |_| {
        if std::mem::take(&mut first) {
            Fault::ErrorAfter
        } else {
            Fault::None
        }
    });
    writer.append(1, Bytes::from_static(b"a")).unwrap();
    assert!(matches!(next(&events), JournalEvent::Failing { .. }));
    assert!(matches!(next(&events), JournalEvent::Recovered));
    wait_durable(&events, 1);
    drop(writer);
    assert_eq!(replayed(&store, 2), ["a"]);
}

#[test]
fn a_create_that_lands_after_its_repeat_changes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    let mut first = true;
    store.on_put(move |_| {
        if std::mem::take(&mut first) {
            Fault::Delayed
        } else {
            Fault::None
        }
    });
    writer.append(1, Bytes::from_static(b"a")).unwrap();
    assert!(matches!(next(&events), JournalEvent::Failing { .. }));
    assert!(matches!(next(&events), JournalEvent::Recovered));
    wait_durable(&events, 1);
    drop(writer);
    assert_eq!(store.land_delayed(0).unwrap().1, Put::Exists);
    assert_eq!(replayed(&store, 2), ["a"]);
}

#[test]
fn a_deposed_leaders_late_create_is_void_and_the_next_leader_writes_around_it() {
    let store = Arc::new(MemoryStore::default());
    let (first, first_events) = start(&store, 1);
    first.append(1, Bytes::from_static(b"a")).unwrap();
    wait_durable(&first_events, 1);
    drop(first);
    // the old leader had a slot behind the coming fence under way
    let second = lead(&*store, 2);
    let head = crate::slot::SlotHead {
        log: LOG,
        slot: second.next_slot,
        term: Term(17),
        nonce: 77,
        kind: crate::slot::SlotKind::Data,
    };
    let (void, _) = crate::slot::encode(&head, &[Bytes::from_static(b"void")]);
    store.put_if_absent(&slot_key(0, head.slot), &void).unwrap();
    let (sender, events) = mpsc::channel();
    let second = JournalWriter::start(Arc::clone(&store) as Arc<dyn Store>, second, move |event| {
        sender.send(event).unwrap()
    });
    let second = second.unwrap();
    second.append(1, Bytes::from_static(b"b")).unwrap();
    second.append(2, Bytes::from_static(b"c")).unwrap();
    wait_durable(&events, 2);
    drop(second);
    assert_eq!(replayed(&store, 3), ["a", "b", "c"]);
}

#[test]
fn a_deposed_writer_learns_it_at_its_next_append() {
    let store = Arc::new(MemoryStore::default());
    let (first, events) = start(&store, 1);
    first.append(1, Bytes::from_static(b"a")).unwrap();
    wait_durable(&events, 1);
    let second = lead(&*store, 2);
    first.append(2, Bytes::from_static(b"b")).unwrap();
    let JournalEvent::Deposed { term } = next(&events) else {
        panic!()
    };
    assert_eq!(term, second.term);
    assert_eq!(first.append(3, Bytes::new()), Err(AppendError::Deposed { term }));
    drop(first);
    assert_eq!(replayed(&store, 3), ["a"]);
}

#[test]
fn dropping_a_writer_whose_storage_fails_does_not_wait_for_it() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    store.on_put(|_| Fault::ErrorBefore);
    writer.append(1, Bytes::from_static(b"a")).unwrap();
    assert!(matches!(next(&events), JournalEvent::Failing { .. }));
    drop(writer);
    assert!(events.recv_timeout(DEADLINE).is_err());
}

#[test]
fn a_leader_whose_chunk_is_marked_acknowledges_nothing_more() {
    let store = Arc::new(MemoryStore::default());
    let (writer, events) = start(&store, 1);
    writer.append(1, Bytes::from_static(b"a")).unwrap();
    wait_durable(&events, 1);
    crate::marker::put_marker(&*store, LOG, 0).unwrap();
    writer.append(2, Bytes::from_static(b"b")).unwrap();
    let event = next(&events);
    assert!(
        matches!(
            event,
            JournalEvent::Expired {
                expiry: Expiry::Collected { slot: 18 }
            }
        ),
        "{event:?}"
    );
    assert!(matches!(
        writer.append(3, Bytes::new()),
        Err(AppendError::Expired(_))
    ));
}

#[test]
fn a_leader_that_was_not_sure_of_itself_for_too_long_says_so_unasked() {
    let store = Arc::new(MemoryStore::default());
    let mut leadership = lead(&*store, 1);
    // as if it had slept since
    leadership.sure_since = Moment::default();
    let (sender, events) = mpsc::channel();
    let writer = JournalWriter::start(Arc::clone(&store) as Arc<dyn Store>, leadership, move |event| {
        sender.send(event).unwrap()
    });
    let _writer = writer.unwrap();
    let event = next(&events);
    assert!(
        matches!(
            event,
            JournalEvent::Expired {
                expiry: Expiry::Silent
            }
        ),
        "{event:?}"
    );
}
