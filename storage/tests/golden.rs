//! A storage written by the first released format reads back, now and ever after.
//!
//! `golden/v1` was written by a scheduler of that format that ran three small jobs on a worker. Its files never change; a new
//! format gets a folder of its own beside it.
//!
//! `golden/objects` holds an object of each version of each format, of which there has been one so far: whoever raises a
//! `FORMAT_VERSION` has to add one (`BLESS=1` writes what is missing, and changes nothing), and to read the old one.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::{Term, codec};
use phalanx_storage::slot::{self, SlotHead, SlotKind};
use phalanx_storage::{
    Candidate, ClusterId, Directory, LogId, LogRecord, Snapshot, acquire, cluster, read_record, replay,
    snapshot,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A record in few words.
fn told(record: &Record) -> String {
    match record {
        Record::JobSubmitted { job, spec, .. } => format!("{job} submitted: {} tasks", spec.tasks),
        Record::TasksEnded {
            job, done, failed, ..
        } => {
            let done: Vec<String> = done.iter().map(ToString::to_string).collect();
            let failed: Vec<String> = failed.iter().map(|failure| failure.message.clone()).collect();
            format!("{job} done [{}] failed [{}]", done.join(","), failed.join(","))
        }
        Record::JobFinished { job, outcome, .. } => format!("{job} finished: {outcome:?}"),
        Record::JobStarted { .. }
        | Record::JobReopened { .. }
        | Record::JobHeld { .. }
        | Record::TasksCancelled { .. }
        | Record::TasksRequeued { .. } => {
            panic!("format 1 has no {record:?}")
        }
    }
}

#[test]
fn a_storage_of_format_1_reads_back_and_can_be_led() {
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(GOLDEN), folder.path());
    let store = Directory::open(folder.path()).unwrap();
    let file = cluster::read(&store).unwrap().unwrap();
    assert_eq!(file.shard_count, 1);
    let log = LogId {
        cluster: file.cluster,
        shard: 0,
    };
    let mut records: Vec<(LogRecord, Record)> = Vec::new();
    let end = replay(&store, log, &mut |record| {
        let decoded = codec::decode(&record.bytes).unwrap();
        records.push((record, decoded));
    })
    .unwrap();
    assert_eq!((end.next_slot, end.term), (26, Term(17)));
    let lines: Vec<String> = records.iter().map(|(_, record)| told(record)).collect();
    let expected = [
        "1 submitted: 3 tasks",
        "1 done [0] failed [1 is odd]",
        "1 done [2] failed []",
        "1 finished: Failed",
        "2 submitted: 100 tasks",
        "2 done [0-1] failed []",
        "2 done [2-99] failed []",
        "2 finished: Succeeded",
        "3 submitted: 2 tasks",
        "3 done [1] failed []",
        "3 done [0] failed []",
        "3 finished: Succeeded",
    ];
    assert_eq!(lines, expected);
    for (record, _) in &records {
        assert_eq!(read_record(&store, 0, record.place).unwrap(), record.bytes);
        assert_eq!(record.term, Term(17));
    }
    let leadership = acquire(&store, Candidate::new(log, 1)).unwrap();
    assert_eq!(leadership.records.len(), records.len());
    assert!(leadership.damage.is_empty());
    assert_eq!(leadership.next_slot, 26 + 16 + 1);
}

/// The log that the golden objects belong to, and their slot.
const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 3,
};
const SLOT: u64 = 26;

/// The golden object of a version of a format; `newest` is how it is written today.
fn golden(format: &str, version: u16, newest: &[u8]) -> Bytes {
    let path = Path::new(GOLDEN).with_file_name(format!("objects/{format}-{version}"));
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        fs::write(&path, newest).unwrap();
    }
    match fs::read(&path) {
        Ok(object) => object.into(),
        Err(error) => panic!(
            "there must be a golden {format} of version {version}, {}: {error}",
            path.display()
        ),
    }
}

#[test]
fn slots_of_every_format_version_read_back() {
    let records = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];
    let head = SlotHead {
        log: LOG,
        slot: SLOT,
        term: Term(17),
        nonce: 99,
        kind: SlotKind::Data,
    };
    let (newest, places) = slot::encode(&head, &records);
    for version in 1..=slot::FORMAT_VERSION {
        let object = golden("slot", version, &newest);
        assert_eq!(object[8..10], version.to_le_bytes());
        let read = slot::decode(object.clone(), LOG, SLOT).unwrap();
        assert_eq!(read.head, head, "version {version}");
        let bytes: Vec<Bytes> = read.records.iter().map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(bytes, records, "version {version}");
        if version == slot::FORMAT_VERSION {
            assert_eq!(object, newest, "the bytes of a version never change");
            assert_eq!(read.records[1].0, places[1]);
        }
    }
}

#[test]
fn snapshots_of_every_format_version_read_back() {
    let known = Snapshot {
        log: LOG,
        slot: SLOT,
        term: Term(17),
        payload: Bytes::from_static(b"what a scheduler knew"),
    };
    let newest = snapshot::encode(&known);
    for version in 1..=snapshot::FORMAT_VERSION {
        let object = golden("snapshot", version, &newest);
        assert_eq!(object[8..10], version.to_le_bytes());
        let read = snapshot::decode(object.clone(), LOG, SLOT);
        assert_eq!(read.as_ref(), Ok(&known), "version {version}");
        if version == snapshot::FORMAT_VERSION {
            assert_eq!(object, newest, "the bytes of a version never change");
        }
    }
}

#[test]
fn every_layout_version_has_a_golden_storage() {
    for version in 1..=cluster::LAYOUT_VERSION {
        let folder = Path::new(GOLDEN).with_file_name(format!("v{version}"));
        assert!(folder.is_dir(), "there must be {}", folder.display());
    }
}
