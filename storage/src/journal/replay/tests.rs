use super::*;
use crate::cluster::ClusterId;
use crate::memory::MemoryStore;
use crate::slot::{SlotKind, encode};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn put(store: &MemoryStore, slot: u64, term: u64, kind: SlotKind, records: &[&'static str]) {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(term),
        nonce: 1,
        kind,
    };
    let records: Vec<Bytes> = records
        .iter()
        .map(|record| Bytes::from_static(record.as_bytes()))
        .collect();
    store
        .put_if_absent(&slot_key(0, slot), &encode(&head, &records).0)
        .unwrap();
}

/// Fence at 0, two data slots.
fn small_log() -> MemoryStore {
    let store = MemoryStore::default();
    put(&store, 0, 1, SlotKind::Fence, &[]);
    put(&store, 1, 1, SlotKind::Data, &["a", "b"]);
    put(&store, 2, 1, SlotKind::Data, &["c"]);
    store
}

fn texts(store: &MemoryStore) -> (Vec<String>, Result<LogEnd, LogError>) {
    let mut texts = Vec::new();
    let mut visit = |record: LogRecord| texts.push(String::from_utf8(record.bytes.to_vec()).unwrap());
    let end = replay(store, LOG, &mut visit);
    (texts, end)
}

#[test]
fn records_come_back_in_order_with_their_places() {
    let store = small_log();
    let (read, end) = texts(&store);
    assert_eq!(read, ["a", "b", "c"]);
    assert_eq!(
        end.unwrap(),
        LogEnd {
            next_slot: 3,
            term: Term(1)
        }
    );
    replay(&store, LOG, &mut |record| {
        assert_eq!(read_record(&store, 0, record.place).unwrap(), record.bytes);
    })
    .unwrap();
}

#[test]
fn void_slots_do_not_count() {
    let store = small_log();
    put(&store, 3, 5, SlotKind::Fill, &[]);
    put(&store, 4, 5, SlotKind::Fence, &[]);
    // a deposed leader's create that landed late
    put(&store, 5, 1, SlotKind::Data, &["void"]);
    put(&store, 6, 5, SlotKind::Data, &["d"]);
    let (read, end) = texts(&store);
    assert_eq!(read, ["a", "b", "c", "d"]);
    assert_eq!(
        end.unwrap(),
        LogEnd {
            next_slot: 7,
            term: Term(5)
        }
    );
}

#[test]
fn replay_stops_at_the_first_missing_slot() {
    let store = small_log();
    put(&store, 4, 1, SlotKind::Data, &["unacknowledged"]);
    let (read, end) = texts(&store);
    assert_eq!(read, ["a", "b", "c"]);
    assert_eq!(end.unwrap().next_slot, 3);
}

#[test]
fn a_torn_or_flipped_slot_is_named_and_not_skipped() {
    let key = slot_key(0, 1);
    let whole = small_log().get(&key).unwrap().unwrap();
    let mut flipped = whole.clone();
    flipped[90] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..0], &flipped[..]] {
        let store = small_log();
        store.replace(&key, damaged).unwrap();
        let (read, end) = texts(&store);
        assert_eq!(read, Vec::<String>::new());
        let error = end.unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged { key: named, .. } if *named == key),
            "{error}"
        );
        assert!(
            error.to_string().contains(&key) && error.to_string().contains("copy"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_record_is_noticed_when_read_alone() {
    let store = small_log();
    let key = slot_key(0, 1);
    let mut places = Vec::new();
    replay(&store, LOG, &mut |record| places.push(record.place)).unwrap();
    let second = places[1];
    let mut object = store.get(&key).unwrap().unwrap();
    object[second.offset as usize] ^= 1;
    store.replace(&key, &object).unwrap();
    assert_eq!(read_record(&store, 0, places[0]).unwrap(), b"a");
    assert!(matches!(
        read_record(&store, 0, second),
        Err(LogError::DamagedRecord { .. })
    ));
    let nowhere = Place {
        slot: 1,
        offset: u32::MAX,
        bytes: u32::MAX,
    };
    assert!(matches!(
        read_record(&store, 0, nowhere),
        Err(LogError::DamagedRecord { .. })
    ));
    let gone = Place { slot: 9, ..second };
    assert!(matches!(
        read_record(&store, 0, gone),
        Err(LogError::Vanished { .. })
    ));
}
