use proptest::prelude::*;

use super::*;

const LOG: LogId = LogId {
    cluster: ClusterId([0xc1; 16]),
    shard: 3,
};

fn head(slot: u64, term: u64, kind: SlotKind) -> SlotHead {
    SlotHead {
        log: LOG,
        slot,
        term: Term(term),
        nonce: 0x0123_4567_89ab_cdef,
        kind,
    }
}

fn sample() -> Bytes {
    encode(
        &head(42, 17, SlotKind::Data),
        &[Bytes::from_static(b"one"), Bytes::new()],
    )
    .0
}

/// Sets a byte and makes the checksum right again.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut object = sample().to_vec();
    change(&mut object);
    let checksum = object_checksum(&object);
    object[CHECKSUM_AT..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    object.into()
}

#[test]
fn format_version_1_is_these_bytes() {
    let hex: String = sample().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "706878736c6f740a",                 // magic
        "01000100",                         // version, kind
        "03000000",                         // shard
        "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1", // cluster
        "2a00000000000000",                 // slot
        "1100000000000000",                 // term
        "efcdab89674523010000000000000000", // nonce
        "0200000013000000",                 // records, payload bytes
        "00000000",
        "4defc84d",         // checksum
        "03000000e9b2942a", // length and checksum of the first record
        "6f6e65",
        "0000000000000000",
    );
    assert_eq!(hex, expected);
}

#[test]
fn a_slot_reads_back_with_its_records_places() {
    let (object, places) = encode(
        &head(42, 17, SlotKind::Data),
        &[Bytes::from_static(b"one"), Bytes::from_static(b"two!")],
    );
    let slot = decode(object.clone(), LOG, 42).unwrap();
    assert_eq!(slot.head, head(42, 17, SlotKind::Data));
    assert_eq!(
        slot.records.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
        places
    );
    for (place, bytes) in slot.records {
        let start = place.offset as usize;
        assert_eq!(object[start..start + place.bytes as usize], bytes);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let short = |bytes| SlotError::TooShort {
        bytes,
        bytes_expected: HEAD_BYTES,
    };
    assert_eq!(decode(Bytes::new(), LOG, 42), Err(short(0)));
    assert_eq!(decode(sample().slice(..79), LOG, 42), Err(short(79)));
    let torn = decode(sample().slice(..98), LOG, 42);
    assert_eq!(
        torn,
        Err(SlotError::TooShort {
            bytes: 98,
            bytes_expected: 99
        })
    );
    let long = decode([sample(), Bytes::from_static(b"x")].concat().into(), LOG, 42);
    assert_eq!(
        long,
        Err(SlotError::TooLong {
            bytes: 100,
            bytes_expected: 99
        })
    );
    assert_eq!(decode(vec![0; 200].into(), LOG, 42), Err(SlotError::NotASlot));
    assert_eq!(
        decode(forged(|object| object[8] = 2), LOG, 42),
        Err(SlotError::Version { found: 2 })
    );
    assert_eq!(
        decode(forged(|object| object[10] = 5), LOG, 42),
        Err(SlotError::Kind { found: 5 })
    );
    assert_eq!(
        decode(forged(|object| object[64] = 1), LOG, 42),
        Err(SlotError::Records)
    );
    assert_eq!(
        decode(forged(|object| object[80] = 200), LOG, 42),
        Err(SlotError::Records)
    );
    assert_eq!(
        decode(forged(|object| object[84] ^= 1), LOG, 42),
        Err(SlotError::Record { offset: 88 })
    );
    assert!(matches!(
        decode(sample(), LOG, 41),
        Err(SlotError::WrongPlace {
            slot: 42,
            slot_expected: 41,
            ..
        })
    ));
    let other = LogId { shard: 4, ..LOG };
    assert!(matches!(
        decode(sample(), other, 42),
        Err(SlotError::WrongPlace { .. })
    ));
}

#[test]
fn terms_that_no_leader_can_have_there_are_refused() {
    for (kind, slot, term, belongs) in [
        (SlotKind::Fence, 16, 17, true),
        (SlotKind::Fence, 16, 16, false),
        (SlotKind::Fence, u64::MAX, 0, false),
        (SlotKind::Fill, 15, 17, true),
        (SlotKind::Fill, 16, 17, false),
        (SlotKind::Fill, 0, 0, false),
        (SlotKind::Data, 17, 17, true),
        (SlotKind::Data, 16, 17, false),
    ] {
        let (object, _) = encode(&head(slot, term, kind), &[]);
        let decoded = decode(object, LOG, slot);
        assert_eq!(decoded.is_ok(), belongs, "{kind:?} {slot} {term}: {decoded:?}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let object = sample();
    for bit in 0..object.len() * 8 {
        let mut damaged = object.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(damaged.into(), LOG, 42).is_err(), "bit {bit}");
    }
}

#[test]
fn keys_sort_like_slots_and_read_back() {
    let slots = [0, 9, 4095, 4096, 123_456_789, SLOTS_MAX - 1];
    let keys: Vec<_> = slots.iter().map(|slot| slot_key(3, *slot)).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys[3], "shards/3/log/0000000000000001/00000000000000004096");
    assert!(
        keys.iter()
            .all(|key| key.starts_with(&log_prefix(3)) && crate::store::check_key(key).is_ok())
    );
    assert!(
        slots
            .iter()
            .zip(&keys)
            .all(|(slot, key)| slot_of_key(3, key) == Some(*slot))
    );
    assert_eq!(
        slot_of_key(3, "shards/3/log/0000000000000000/00000000000000004096"),
        None
    );
    assert_eq!(slot_of_key(4, &keys[0]), None);
    assert_eq!(slot_of_key(3, &slot_key(3, u64::MAX)), None);
}

proptest! {
    #[test]
    fn no_input_makes_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..99) {
        let _ = decode(bytes.clone().into(), LOG, 42);
        // the same behind a right head and checksum
        let object = forged(|object| {
            let count = bytes.len().min(object.len() - at);
            object[at..at + count].copy_from_slice(&bytes[..count]);
        });
        let _ = decode(object, LOG, 42);
    }

    #[test]
    fn any_records_read_back(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
        let (object, _) = encode(&head(42, 17, SlotKind::Data), &records);
        let read: Vec<Bytes> = decode(object, LOG, 42).unwrap().records.into_iter().map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(read, records);
    }
}
