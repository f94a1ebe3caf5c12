use super::*;
use crate::cluster::ClusterId;
use crate::memory::{Fault, MemoryStore};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn lead(store: &MemoryStore, nonce_seed: u128) -> Result<Leadership, AcquireError> {
    acquire(store, Candidate { log: LOG, nonce_seed })
}

fn put(store: &MemoryStore, slot: u64, term: u64, kind: SlotKind, record: &'static str) {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(term),
        nonce: 99,
        kind,
    };
    let (object, _) = encode(&head, &[Bytes::from_static(record.as_bytes())]);
    assert_eq!(
        store.put_if_absent(&slot_key(0, slot), &object).unwrap(),
        Put::Created
    );
}

fn texts(leadership: &Leadership) -> Vec<&[u8]> {
    leadership
        .records
        .iter()
        .map(|record| &record.bytes[..])
        .collect()
}

#[test]
fn the_first_leader_fences_ahead_and_fills_every_gap() {
    let store = MemoryStore::default();
    let leadership = lead(&store, 1).unwrap();
    assert_eq!((leadership.term, leadership.next_slot), (Term(17), 17));
    assert!(leadership.records.is_empty());
    for slot in 0..=16 {
        let there = read_slot(&store, LOG, slot).unwrap().unwrap().head;
        assert_eq!(there.term, Term(17));
        assert_eq!(
            there.kind,
            if slot == 16 {
                SlotKind::Fence
            } else {
                SlotKind::Fill
            }
        );
    }
}

#[test]
fn the_next_leader_has_a_higher_term_and_all_records() {
    let store = MemoryStore::default();
    let first = lead(&store, 1).unwrap();
    put(&store, 17, 17, SlotKind::Data, "a");
    put(&store, 18, 17, SlotKind::Data, "b");
    let second = lead(&store, 2).unwrap();
    assert_eq!(second.next_slot, 19 + 16 + 1);
    assert!(second.term > first.term);
    assert_eq!(texts(&second), [b"a", b"b"]);
}

#[test]
fn a_record_behind_a_gap_is_cut_off_by_the_fill() {
    let store = MemoryStore::default();
    lead(&store, 1).unwrap();
    put(&store, 17, 17, SlotKind::Data, "a");
    // slot 18 never landed, so this one cannot have been acknowledged
    put(&store, 19, 17, SlotKind::Data, "c");
    let second = lead(&store, 2).unwrap();
    assert_eq!(texts(&second), [b"a"]);
}

#[test]
fn a_fence_that_meets_a_running_writer_jumps_twice_as_far() {
    let store = MemoryStore::default();
    put(&store, 17 + 16, 17, SlotKind::Data, "a");
    put(&store, 34 + 32, 17, SlotKind::Data, "b");
    assert_eq!(put_fence(&store, LOG, 17, &mut Nonces::new(2)).unwrap(), 67 + 64);
}

#[test]
fn a_candidate_stands_down_before_a_fence_of_the_same_or_a_higher_term() {
    for (slot, term, kind) in [(16, 17, SlotKind::Fence), (16, 101, SlotKind::Fill)] {
        let store = MemoryStore::default();
        put(&store, slot, term, kind, "");
        let stood_down = put_fence(&store, LOG, 0, &mut Nonces::new(2)).unwrap_err();
        assert!(matches!(stood_down, AcquireError::StoodDown { term: Term(found) } if found == term));
    }
}

#[test]
fn a_candidate_stands_down_when_a_higher_term_fills_below_its_fence() {
    let store = MemoryStore::default();
    lead(&store, 1).unwrap();
    put(&store, 20, 101, SlotKind::Fill, "");
    let stood_down = lead(&store, 2).unwrap_err();
    assert!(
        matches!(stood_down, AcquireError::StoodDown { term: Term(101) }),
        "{stood_down}"
    );
}

#[test]
fn a_conflict_that_leaves_nothing_behind_is_repeated() {
    let store = MemoryStore::default();
    let mut conflicts = 2;
    store.on_put(move |_| {
        conflicts -= i32::from(conflicts > 0);
        if conflicts > 0 {
            Fault::Conflict
        } else {
            Fault::None
        }
    });
    assert_eq!(lead(&store, 1).unwrap().term, Term(17));
}

#[test]
fn a_failing_storage_ends_the_attempt_and_the_next_one_succeeds() {
    let store = MemoryStore::default();
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::Full] {
        store.on_put(move |_| fault);
        let failed = lead(&store, 1).unwrap_err();
        assert!(
            matches!(failed, AcquireError::Log(LogError::Store { .. })),
            "{failed}"
        );
    }
    store.heal();
    // the fence whose reply was lost is there, so this one goes in front of it
    assert_eq!(lead(&store, 2).unwrap().term, Term(17 + 17));
}

#[test]
fn a_damaged_slot_keeps_everyone_from_leading() {
    let store = MemoryStore::default();
    lead(&store, 1).unwrap();
    store.replace(&slot_key(0, 3), b"torn").unwrap();
    let failed = lead(&store, 2).unwrap_err();
    assert!(matches!(failed, AcquireError::Log(LogError::Damaged { key, .. }) if key == slot_key(0, 3)));
}

#[test]
fn logs_longer_than_a_window_are_read_in_order() {
    let store = MemoryStore::default();
    lead(&store, 1).unwrap();
    for slot in 17..17 + 2 * WINDOW_SLOTS + 5 {
        let head = SlotHead {
            log: LOG,
            slot,
            term: Term(17),
            nonce: 99,
            kind: SlotKind::Data,
        };
        let (object, _) = encode(&head, &[slot.to_le_bytes().to_vec().into()]);
        store.put_if_absent(&slot_key(0, slot), &object).unwrap();
    }
    let second = lead(&store, 2).unwrap();
    let slots: Vec<u64> = second.records.iter().map(|record| record.place.slot).collect();
    assert!(slots.into_iter().eq(17..17 + 2 * WINDOW_SLOTS + 5));
}
