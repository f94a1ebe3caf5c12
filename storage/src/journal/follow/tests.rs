use bytes::Bytes;
use phalanx_protocol::Term;

use super::*;
use crate::cluster::ClusterId;
use crate::journal::replay::replay;
use crate::memory::MemoryStore;
use crate::slot::{SlotHead, SlotKind, encode};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn put(store: &MemoryStore, slot: u64) {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(0),
        nonce: 99,
        kind: SlotKind::Data,
    };
    let (object, _) = encode(&head, &[Bytes::from(slot.to_string())]);
    store.put_if_absent(&slot_key(0, slot), &object).unwrap();
}

fn read(
    store: &MemoryStore,
    position: &mut Position,
    on_damage: OnDamage,
) -> Result<(usize, usize), LogError> {
    let mut records = 0;
    let damage = follow(store, LOG, position, on_damage, &mut |_| records += 1)?;
    Ok((records, damage.len()))
}

#[test]
fn a_standby_reads_each_record_once_as_the_log_grows() {
    let store = MemoryStore::default();
    let mut position = Position::start();
    let mut end = 0;
    for count in [0, 1, 5, 100, 3000] {
        for slot in end..end + count {
            put(&store, slot);
        }
        end += count;
        let (records, damage) = read(&store, &mut position, OnDamage::KeepRest).unwrap();
        assert_eq!((records, damage), (usize::try_from(count).unwrap(), 0));
        assert_eq!(position.next_slot, end);
    }
    let mut replayed = 0;
    replay(&store, LOG, &mut |_| replayed += 1).unwrap();
    assert_eq!(replayed, end);
}

#[test]
fn a_damaged_slot_is_passed_over_once_enough_lies_behind_it() {
    let store = MemoryStore::default();
    for slot in 0..10 {
        put(&store, slot);
    }
    store.replace(&slot_key(0, 5), b"torn").unwrap();
    let mut position = Position::start();
    assert_eq!(read(&store, &mut position, OnDamage::KeepRest).unwrap(), (5, 0));
    for slot in 10..5 + LOOK_AHEAD {
        put(&store, slot);
    }
    assert_eq!(read(&store, &mut position, OnDamage::KeepRest).unwrap(), (0, 0));
    put(&store, 5 + LOOK_AHEAD);
    let behind = usize::try_from(LOOK_AHEAD).unwrap();
    assert_eq!(
        read(&store, &mut position, OnDamage::KeepRest).unwrap(),
        (behind, 1)
    );
    assert_eq!(position.next_slot, 6 + LOOK_AHEAD);
}

#[test]
fn who_refuses_damage_stands_still_before_it() {
    let store = MemoryStore::default();
    for slot in 0..40 {
        put(&store, slot);
    }
    store.replace(&slot_key(0, 5), b"torn").unwrap();
    let mut position = Position::start();
    for _ in 0..2 {
        let refused = read(&store, &mut position, OnDamage::Refuse).unwrap_err();
        assert!(matches!(refused, LogError::Damaged { key, .. } if key == slot_key(0, 5)));
        assert_eq!(position.next_slot, 5);
    }
}
