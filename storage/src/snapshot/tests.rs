use super::*;
use crate::memory::{Fault as PutFault, MemoryStore};

const LOG: LogId = LogId {
    cluster: ClusterId([0xc1; 16]),
    shard: 3,
};

fn sample(slot: u64) -> Snapshot {
    Snapshot {
        log: LOG,
        slot,
        term: Term(17),
        payload: Bytes::from_static(b"state"),
    }
}

fn decoded(object: Vec<u8>) -> Result<Snapshot, SnapshotError> {
    decode(object.into(), LOG, 42)
}

/// A sample with some bytes changed and the hash made right again.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut object = encode(&sample(42));
    change(&mut object);
    let hash = object_hash(&object);
    object[HASH_AT..HEAD_BYTES].copy_from_slice(&hash);
    object
}

#[test]
fn released_snapshots_keep_their_bytes() {
    let object = encode(&sample(42));
    let mut golden = b"phxsnap\n".to_vec();
    golden.extend([1, 0, 0, 0, 3, 0, 0, 0]);
    golden.extend([0xc1; 16]);
    golden.extend([42, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    let mut hashed = golden.clone();
    hashed.extend(b"state");
    golden.extend(blake3::hash(&hashed).as_bytes());
    golden.extend(b"state");
    assert_eq!(object, golden);
    assert_eq!(decoded(golden), Ok(sample(42)));
    assert_eq!(snapshot_key(3, 42), "shards/3/snapshots/00000000000000000042");
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let object = encode(&sample(42));
    for bit in 0..object.len() * 8 {
        let mut changed = object.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decoded(changed).is_err(), "bit {bit}");
    }
    for length in 0..object.len() {
        assert!(decoded(object[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(decoded([object, vec![0]].concat()).is_err());
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(
        decoded(forged(|object| object[8] = 2)),
        Err(SnapshotError::Version { found: 2 })
    );
    assert_eq!(decoded(vec![0; HEAD_BYTES]), Err(SnapshotError::NotASnapshot));
    assert_eq!(
        decoded(forged(|object| object[48] = 6)),
        Err(SnapshotError::Length {
            bytes: 93,
            bytes_expected: 94
        })
    );
    assert!(matches!(
        decoded(forged(|object| object[32] = 43)),
        Err(SnapshotError::WrongPlace { slot: 43, .. })
    ));
}

#[test]
fn a_damaged_snapshot_is_named_and_the_one_before_is_used() {
    let store = MemoryStore::default();
    assert_eq!(newest_whole(&store, LOG).unwrap().0, None);
    for slot in [10, 20, 30] {
        write_snapshot(&store, &sample(slot)).unwrap();
    }
    assert_eq!(newest_whole(&store, LOG).unwrap().0, Some(sample(30)));
    store.replace(&snapshot_key(3, 30), b"torn").unwrap();
    let (whole, damage) = newest_whole(&store, LOG).unwrap();
    assert_eq!(whole, Some(sample(20)));
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].key, snapshot_key(3, 30));
}

#[test]
fn only_what_is_older_than_two_whole_snapshots_is_deleted() {
    let store = MemoryStore::default();
    for slot in [10, 20, 30, 40] {
        write_snapshot(&store, &sample(slot)).unwrap();
    }
    store.replace(&snapshot_key(3, 30), b"torn").unwrap();
    assert_eq!(delete_old_snapshots(&store, LOG).unwrap(), 1);
    assert_eq!(list_snapshots(&store, 3).unwrap(), [20, 30, 40]);
    store.replace(&snapshot_key(3, 40), b"torn").unwrap();
    // one whole one is left: nothing may go
    assert_eq!(delete_old_snapshots(&store, LOG).unwrap(), 0);
}

#[test]
fn a_snapshot_counts_only_when_it_reads_back() {
    let store = MemoryStore::default();
    store.on_put(|_| PutFault::Conflict);
    let vanished = write_snapshot(&store, &sample(10)).unwrap_err();
    assert!(
        matches!(vanished, WriteSnapshotError::Vanished { .. }),
        "{vanished}"
    );
    store.on_put(|_| PutFault::Full);
    let full = write_snapshot(&store, &sample(10)).unwrap_err();
    assert!(matches!(full, WriteSnapshotError::Store { .. }), "{full}");
    store.heal();
    write_snapshot(&store, &sample(10)).unwrap();
    // again, as a second writer may
    write_snapshot(&store, &sample(10)).unwrap();
    store.replace(&snapshot_key(3, 10), b"torn").unwrap();
    let damaged = write_snapshot(&store, &sample(10)).unwrap_err();
    assert!(matches!(damaged, WriteSnapshotError::Damaged { .. }), "{damaged}");
}
