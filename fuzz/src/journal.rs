//! Objects of the journal, as they come from a storage that may be damaged.

use bytes::Bytes;
use phalanx_protocol::codec;
use phalanx_protocol::record::Record;
use phalanx_protocol::snapshot::{CoreSnapshot, FirstJobSnapshot, JobSnapshot, SecondJobSnapshot};
use phalanx_storage::slot::{decode, encode};
use phalanx_storage::{ClusterId, LogId, snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The log that all slots of the corpus belong to.
const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

/// Decodes a log slot; the first byte is its number. What reads as a slot is written again, to the same bytes.
///
/// # Panics
/// If it is not.
pub fn slot(bytes: &[u8]) {
    let Some((&number, object)) = bytes.split_first() else {
        return;
    };
    if let Ok(slot) = decode(Bytes::copy_from_slice(object), LOG, number.into()) {
        let records: Vec<Bytes> = slot.records.iter().map(|(_, record)| record.clone()).collect();
        let (again, places) = encode(&slot.head, &records);
        assert_eq!(again, object, "a slot that is written again differs");
        let read: Vec<_> = slot.records.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, read, "records are not where they were said to lie");
    }
}

/// Decodes a snapshot; the first byte is its slot. What reads as a snapshot is written again, to the same bytes. What it holds
/// is decoded as each part of a scheduler's state, in every layout, whether the hash is right or not: what reads as one of
/// today's layout is written again, and that reads as the same.
///
/// # Panics
/// If it is not.
pub fn snapshot(bytes: &[u8]) {
    let Some((&number, object)) = bytes.split_first() else {
        return;
    };
    if let Ok(snapshot) = snapshot::decode(Bytes::copy_from_slice(object), LOG, number.into()) {
        assert_eq!(
            snapshot::encode(&snapshot),
            object,
            "a snapshot that is written again differs"
        );
    }
    let payload = object.get(snapshot::HEAD_BYTES..).unwrap_or_default();
    comes_back::<CoreSnapshot>(payload);
    comes_back::<JobSnapshot>(payload);
    let older = [
        codec::decode::<FirstJobSnapshot>(payload).map(JobSnapshot::from),
        codec::decode::<SecondJobSnapshot>(payload).map(JobSnapshot::from),
    ];
    for job in older.into_iter().flatten() {
        comes_back::<JobSnapshot>(&codec::encode(&job));
    }
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        let again = codec::decode::<T>(&codec::encode(&value));
        assert_eq!(again.ok(), Some(value), "a state that is written again differs");
    }
}

/// Decodes a record, of any version. What reads as one is written in today's layout, and that reads as the same.
///
/// # Panics
/// If it does not.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = codec::decode::<Record>(bytes) {
        let again = codec::decode::<Record>(&codec::encode(&record));
        assert_eq!(again.ok(), Some(record), "a record that is written again differs");
    }
}
