use bytes::Bytes;

use super::*;
use crate::cluster::ClusterId;
use crate::journal::follow::WINDOW_SLOTS;
use crate::journal::replay::read_slot;
use crate::marker::put_marker;
use crate::memory::{Fault as PutFault, MemoryStore};
use crate::snapshot::{snapshot_key, write_snapshot};
use crate::store::{Put, StoreError};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn lead(store: &MemoryStore, nonce_seed: u128) -> Result<Leadership, AcquireError> {
    acquire(store, Candidate::new(LOG, nonce_seed))
}

fn put(store: &MemoryStore, slot: u64, term: u64, kind: SlotKind, record: &'static str) {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(term),
        nonce: 99,
        kind,
    };
    let record = Bytes::from_static(record.as_bytes());
    let (object, _) = encode(&head, Some(record).filter(|record| !record.is_empty()).as_slice());
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
            PutFault::Conflict
        } else {
            PutFault::None
        }
    });
    assert_eq!(lead(&store, 1).unwrap().term, Term(17));
}

#[test]
fn a_failing_storage_ends_the_attempt_and_the_next_one_succeeds() {
    let store = MemoryStore::default();
    for fault in [PutFault::ErrorBefore, PutFault::ErrorAfter, PutFault::Full] {
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

fn damaged_keys(leadership: &Leadership) -> Vec<&str> {
    leadership
        .damage
        .iter()
        .map(|damage| damage.key.as_str())
        .collect()
}

/// A log with the records a to e in slots 17 to 21 and two empty slots' distance to a later one, so that all are settled.
fn five_records() -> MemoryStore {
    let store = MemoryStore::default();
    lead(&store, 1).unwrap();
    for (slot, record) in (17..).zip(["a", "b", "c", "d", "e"]) {
        put(&store, slot, 17, SlotKind::Data, record);
    }
    for slot in 22..32 {
        put(&store, slot, 17, SlotKind::NoOp, "");
    }
    store
}

#[test]
fn a_damaged_slot_is_named_and_everything_before_and_behind_it_is_kept() {
    let store = five_records();
    let mut object = store.get(&slot_key(0, 19)).unwrap().unwrap();
    *object.last_mut().unwrap() ^= 1;
    store.replace(&slot_key(0, 19), &object).unwrap();
    for nonce_seed in [2, 3] {
        let leadership = lead(&store, nonce_seed).unwrap();
        assert_eq!(texts(&leadership), [b"a", b"b", b"d", b"e"]);
        assert_eq!(damaged_keys(&leadership), [slot_key(0, 19)]);
        let lost = Effect::RecordsLost {
            records: Some(1),
            records_before: 2,
        };
        assert_eq!(leadership.damage[0].effect, lost);
        let text = leadership.damage[0].to_string();
        assert!(
            text.contains("checksum") && text.contains("1 record is lost"),
            "{text}"
        );
    }
    // nothing was changed where it lies
    assert_eq!(store.get(&slot_key(0, 19)).unwrap().unwrap(), object);
}

#[test]
fn who_refuses_damage_is_told_which_object_to_bring_back() {
    let store = five_records();
    store.replace(&slot_key(0, 19), b"torn").unwrap();
    let refusing = |nonce_seed| Candidate {
        on_damage: OnDamage::Refuse,
        ..Candidate::new(LOG, nonce_seed)
    };
    let failed = acquire(&store, refusing(2)).unwrap_err();
    assert!(matches!(failed, AcquireError::Log(LogError::Damaged { key, .. }) if key == slot_key(0, 19)));
    store.delete(&slot_key(0, 19)).unwrap();
    let failed = acquire(&store, refusing(3)).unwrap_err();
    assert!(matches!(failed, AcquireError::Log(LogError::Lost { key }) if key == slot_key(0, 19)));
    put(&store, 19, 17, SlotKind::Data, "c");
    assert_eq!(texts(&acquire(&store, refusing(4)).unwrap()).len(), 5);
}

#[test]
fn a_slot_that_the_storage_lost_does_not_make_those_behind_it_void() {
    let store = five_records();
    store.delete(&slot_key(0, 19)).unwrap();
    let leadership = lead(&store, 2).unwrap();
    assert_eq!(texts(&leadership), [b"a", b"b", b"d", b"e"]);
    assert_eq!(damaged_keys(&leadership), [slot_key(0, 19)]);
    // nobody can write there any more, and the next start has nothing to tell
    let there = read_slot(&store, LOG, 19).unwrap().unwrap().head;
    assert_eq!((there.term, there.kind), (Term(17), SlotKind::NoOp));
    let next = lead(&store, 3).unwrap();
    assert_eq!((texts(&next).len(), next.damage.len()), (4, 0));
}

#[test]
fn a_lost_fence_or_fill_still_deposes_whoever_was_before() {
    for lost in [7, 16, 40, 47] {
        let store = five_records();
        let second = lead(&store, 2).unwrap();
        assert_eq!(second.term, Term(49));
        // the first leader had these under way
        put(&store, 49, 17, SlotKind::Data, "void");
        put(&store, 50, 17, SlotKind::Data, "void");
        for slot in 51..62 {
            put(&store, slot, 49, SlotKind::Data, "f");
        }
        let expected = texts(&lead(&store, 3).unwrap()).len();
        assert_eq!(expected, 16);
        for damage in [None, Some(b"torn")] {
            store.delete(&slot_key(0, lost)).unwrap();
            if let Some(bytes) = damage {
                store.replace(&slot_key(0, lost), bytes).unwrap();
            }
            let leadership = lead(&store, 4).unwrap();
            assert_eq!(damaged_keys(&leadership), [slot_key(0, lost)]);
            assert_eq!(texts(&leadership).len(), expected, "slot {lost}");
        }
    }
}

#[test]
fn a_fence_behind_a_full_pipeline_is_known_by_its_term_when_it_is_damaged() {
    let store = five_records();
    // the first leader wrote right up to the second one's fence, so that no fill tells its term
    for slot in 32..48 {
        put(&store, slot, 17, SlotKind::Data, "x");
    }
    put(&store, 48, 49, SlotKind::Fence, "");
    put(&store, 49, 17, SlotKind::Data, "void");
    for slot in 50..60 {
        put(&store, slot, 49, SlotKind::Data, "f");
    }
    let expected = texts(&lead(&store, 3).unwrap()).len();
    assert_eq!(expected, 5 + 16 + 10);
    for damage in [None, Some(b"torn")] {
        store.delete(&slot_key(0, 48)).unwrap();
        if let Some(bytes) = damage {
            store.replace(&slot_key(0, 48), bytes).unwrap();
        }
        assert_eq!(texts(&lead(&store, 4).unwrap()).len(), expected);
    }
}

fn snapshot(slot: u64, term: u64) -> Snapshot {
    Snapshot {
        log: LOG,
        slot,
        term: Term(term),
        payload: Bytes::from_static(b"state"),
    }
}

#[test]
fn only_what_comes_behind_the_newest_whole_snapshot_is_read() {
    let store = five_records();
    write_snapshot(&store, &snapshot(18, 17)).unwrap();
    write_snapshot(&store, &snapshot(20, 17)).unwrap();
    // covered, so that it does not matter here
    store.replace(&slot_key(0, 19), b"torn").unwrap();
    let leadership = lead(&store, 2).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(20, 17)));
    assert_eq!(
        (texts(&leadership), leadership.damage.len()),
        (vec![&b"e"[..]], 0)
    );
    assert!(!leadership.resumed);
    store.replace(&snapshot_key(0, 20), b"torn").unwrap();
    let leadership = lead(&store, 3).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(18, 17)));
    assert_eq!(texts(&leadership), [b"d", b"e"]);
    assert_eq!(damaged_keys(&leadership), [snapshot_key(0, 20), slot_key(0, 19)]);
}

#[test]
fn the_snapshots_term_keeps_void_slots_right_behind_it_void() {
    let store = MemoryStore::default();
    put(&store, 33, 17, SlotKind::Data, "void");
    write_snapshot(&store, &snapshot(32, 33)).unwrap();
    assert!(lead(&store, 2).unwrap().records.is_empty());
}

#[test]
fn the_end_is_sought_behind_the_snapshot_even_where_no_log_is_left() {
    let store = MemoryStore::default();
    write_snapshot(&store, &snapshot(5000, 17)).unwrap();
    let leadership = lead(&store, 2).unwrap();
    assert_eq!(leadership.next_slot, 5001 + 16 + 1);
    assert!(read_slot(&store, LOG, 5000).unwrap().is_none());
}

#[test]
fn a_candidate_that_stood_by_is_given_only_what_it_has_not_read() {
    let store = five_records();
    let mut position = Position::start();
    let mut seen = Vec::new();
    let mut read = |position: &mut Position| {
        follow(&store, LOG, position, OnDamage::KeepRest, &mut |record| {
            seen.push(record.bytes);
        })
        .unwrap()
    };
    assert!(read(&mut position).is_empty());
    assert_eq!((position.next_slot, position.term()), (32, Term(17)));
    put(&store, 32, 17, SlotKind::Data, "f");
    let candidate = Candidate {
        from: Some(position),
        ..Candidate::new(LOG, 2)
    };
    let leadership = acquire(&store, candidate.clone()).unwrap();
    assert!(leadership.resumed);
    assert_eq!(texts(&leadership), [b"f"]);
    read(&mut position);
    assert_eq!(seen, ["a", "b", "c", "d", "e", "f"]);

    // what it stood at is given up: it begins with the snapshot
    write_snapshot(&store, &snapshot(4100, 17)).unwrap();
    put_marker(&store, LOG, 0).unwrap();
    let leadership = acquire(&store, candidate).unwrap();
    assert!(!leadership.resumed);
    assert_eq!(leadership.snapshot, Some(snapshot(4100, 17)));
}

#[test]
fn a_candidate_that_stood_by_before_a_damaged_slot_begins_with_a_snapshot_that_covers_it() {
    let store = five_records();
    let mut position = Position::start();
    position.next_slot = 19;
    write_snapshot(&store, &snapshot(20, 17)).unwrap();
    store.replace(&slot_key(0, 19), b"torn").unwrap();
    let candidate = Candidate {
        from: Some(position),
        ..Candidate::new(LOG, 2)
    };
    let leadership = acquire(&store, candidate).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(20, 17)));
    assert!(!leadership.resumed && leadership.damage.is_empty());
    assert_eq!(texts(&leadership), [b"e"]);
}

#[test]
fn so_does_one_that_meets_the_damage_only_behind_a_slot_that_is_missing() {
    let store = five_records();
    let mut position = Position::start();
    position.next_slot = 19;
    write_snapshot(&store, &snapshot(20, 17)).unwrap();
    store.delete(&slot_key(0, 19)).unwrap();
    store.replace(&slot_key(0, 20), b"torn").unwrap();
    let candidate = Candidate {
        from: Some(position),
        ..Candidate::new(LOG, 2)
    };
    let leadership = acquire(&store, candidate).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(20, 17)));
    assert!(!leadership.resumed && leadership.damage.is_empty());
    assert_eq!(texts(&leadership), [b"e"]);
}

#[test]
fn a_log_without_its_beginning_and_its_snapshots_is_led_only_by_who_accepts_the_loss() {
    let store = MemoryStore::default();
    put_marker(&store, LOG, 0).unwrap();
    store.replace(&snapshot_key(0, 4200), b"torn").unwrap();
    for slot in 4096..4120 {
        put(&store, slot, 17, SlotKind::Data, "a");
    }
    let failed = lead(&store, 1).unwrap_err();
    let text = failed.to_string();
    assert!(
        matches!(
            failed,
            AcquireError::Log(LogError::BeginningGone { first_slot: 4096, .. })
        ),
        "{text}"
    );
    assert!(text.contains(&snapshot_key(0, 4200)), "{text}");
    let accepting = Candidate {
        on_damage: OnDamage::AcceptLoss,
        ..Candidate::new(LOG, 2)
    };
    let leadership = acquire(&store, accepting).unwrap();
    assert_eq!(texts(&leadership).len(), 24);
    assert_eq!(leadership.damage.len(), 2);
}

/// Listings that lack a key, and an object that cannot be read.
struct Hiding {
    objects: MemoryStore,
    unlisted: String,
    unreadable: String,
}

impl Hiding {
    fn new(objects: MemoryStore, unlisted: &str, unreadable: &str) -> Self {
        Self {
            objects,
            unlisted: unlisted.to_owned(),
            unreadable: unreadable.to_owned(),
        }
    }
}

impl Store for Hiding {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.objects.put_if_absent(key, bytes)
    }
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if key == self.unreadable {
            let source = std::io::ErrorKind::TimedOut.into();
            return Err(StoreError::new("read", key.as_ref(), source));
        }
        self.objects.get(key)
    }
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.objects.get_range(key, offset, length)
    }
    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let mut keys = self.objects.list(prefix, after)?;
        keys.retain(|key| *key != self.unlisted);
        Ok(keys)
    }
    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.delete(key)
    }
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.objects.replace(key, bytes)
    }
}

#[test]
fn a_snapshot_that_a_listing_hides_is_found_before_what_it_holds_is_told_as_lost() {
    for damage in [None, Some(b"torn")] {
        let store = five_records();
        write_snapshot(&store, &snapshot(17, 17)).unwrap();
        write_snapshot(&store, &snapshot(20, 17)).unwrap();
        // an older snapshot is damaged, and so is a slot that only the hidden one holds
        store.replace(&snapshot_key(0, 17), b"torn").unwrap();
        store.delete(&slot_key(0, 19)).unwrap();
        if let Some(bytes) = damage {
            store.replace(&slot_key(0, 19), bytes).unwrap();
        }
        let store = Hiding::new(store, &snapshot_key(0, 20), "");
        let leadership = acquire(&store, Candidate::new(LOG, 2)).unwrap();
        assert_eq!(leadership.snapshot, Some(snapshot(20, 17)));
        assert_eq!(texts(&leadership), [b"e"]);
        assert_eq!(damaged_keys(&leadership), [snapshot_key(0, 17)]);
    }
}

#[test]
fn a_snapshot_that_a_listing_hides_is_found_before_the_beginning_is_given_up() {
    let store = MemoryStore::default();
    put_marker(&store, LOG, 0).unwrap();
    for slot in 4096..4120 {
        put(&store, slot, 17, SlotKind::Data, "a");
    }
    write_snapshot(&store, &snapshot(4100, 17)).unwrap();
    let store = Hiding::new(store, &snapshot_key(0, 4100), "");
    let accepting = Candidate {
        on_damage: OnDamage::AcceptLoss,
        ..Candidate::new(LOG, 2)
    };
    let leadership = acquire(&store, accepting).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(4100, 17)));
    assert_eq!((texts(&leadership).len(), leadership.damage.len()), (19, 0));
}

#[test]
fn a_snapshot_that_cannot_be_read_is_passed_over_unless_something_rests_on_it() {
    let store = five_records();
    write_snapshot(&store, &snapshot(18, 17)).unwrap();
    write_snapshot(&store, &snapshot(20, 17)).unwrap();
    let mut store = Hiding::new(store, "", &snapshot_key(0, 20));
    let leadership = acquire(&store, Candidate::new(LOG, 2)).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(18, 17)));
    assert_eq!(texts(&leadership), [b"c", b"d", b"e"]);
    assert_eq!(damaged_keys(&leadership), [snapshot_key(0, 20)]);

    // it may hold what is damaged in the log
    let torn = store.objects.get(&slot_key(0, 19)).unwrap().unwrap();
    store.replace(&slot_key(0, 19), b"torn").unwrap();
    let failed = acquire(&store, Candidate::new(LOG, 3)).unwrap_err();
    let at = |failed: &AcquireError, expected: &str| matches!(failed, AcquireError::Log(LogError::Store { key, .. }) if key == expected);
    assert!(at(&failed, &snapshot_key(0, 20)), "{failed}");
    store.replace(&slot_key(0, 19), &torn).unwrap();

    // and what cannot be read is not gone
    store.delete(&snapshot_key(0, 18)).unwrap();
    let failed = acquire(&store, Candidate::new(LOG, 4)).unwrap_err();
    assert!(at(&failed, "shards/0/snapshots/"), "{failed}");
    store.unreadable.clear();
    let leadership = acquire(&store, Candidate::new(LOG, 5)).unwrap();
    assert_eq!(leadership.snapshot, Some(snapshot(20, 17)));
}

/// Marks the first chunk as soon as somebody has looked for the end of the log.
struct MarkedMeanwhile(MemoryStore);

impl Store for MarkedMeanwhile {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.0.put_if_absent(key, bytes)
    }
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get_range(key, offset, length)
    }
    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let keys = self.0.list(prefix, after);
        if prefix == log_prefix(0) {
            put_marker(&self.0, LOG, 0)?;
        }
        keys
    }
    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key)
    }
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.replace(key, bytes)
    }
}

#[test]
fn nobody_leads_from_a_part_of_the_log_that_is_given_up_meanwhile() {
    for lost in [None, Some(19)] {
        let store = MarkedMeanwhile(five_records());
        if let Some(slot) = lost {
            store.delete(&slot_key(0, slot)).unwrap();
        }
        let failed = acquire(&store, Candidate::new(LOG, 2)).unwrap_err();
        assert!(matches!(failed, AcquireError::Outdated), "{failed}");
        // what was deleted is not taken for lost
        assert_eq!(read_slot(&store, LOG, 19).unwrap().is_none(), lost.is_some());
    }
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
