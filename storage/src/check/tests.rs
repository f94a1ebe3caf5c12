use bytes::Bytes;
use phalanx_protocol::{GrantId, JobId, TaskId};

use super::*;
use crate::cluster::{ClusterId, create_or_check};
use crate::marker::{marker_key, put_marker};
use crate::slot::{SlotHead, encode};
use crate::snapshot::{Snapshot, snapshot_key, write_snapshot};

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};

fn put(store: &Directory, slot: u64) {
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(0),
        nonce: 99,
        kind: SlotKind::Data,
    };
    let (object, _) = encode(&head, &[Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
    store.put_if_absent(&slot_key(0, slot), &object).unwrap();
}

fn snapshot(store: &Directory, slot: u64) {
    let snapshot = Snapshot {
        log: LOG,
        slot,
        term: Term(0),
        payload: Bytes::from_static(b"state"),
    };
    write_snapshot(store, &snapshot).unwrap();
}

/// Forty slots with two records each, snapshots at 10 and 20, a marker, a blob, a result file.
fn storage() -> (tempfile::TempDir, Arc<Directory>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Directory::open(folder.path()).unwrap());
    create_or_check(&*store, LOG.cluster, 1).unwrap();
    (0..40).for_each(|slot| put(&store, slot));
    snapshot(&store, 10);
    snapshot(&store, 20);
    put_marker(&*store, LOG, 5).unwrap();
    Blobs::new(Arc::clone(&store))
        .put_from_reader(&b"program"[..])
        .unwrap();
    store.put_if_absent("jobs/1/results/0-0-t17-1", b"x").unwrap();
    (folder, store)
}

/// What is told of each damaged object.
fn told(store: &Arc<Directory>) -> Vec<String> {
    let report = check(store).unwrap();
    report.damage.iter().map(ToString::to_string).collect()
}

fn change_last_byte(store: &Directory, key: &str) {
    let mut object = store.get(key).unwrap().unwrap();
    *object.last_mut().unwrap() ^= 1;
    store.replace(key, &object).unwrap();
}

#[test]
fn what_is_there_is_counted() {
    let (folder, store) = storage();
    std::fs::write(folder.path().join("shards/0/.staging-1-1"), b"half").unwrap();
    store.put_if_absent("notes/of-mine", b"x").unwrap();
    store.put_if_absent("shards/7/log/x", b"x").unwrap();
    let report = check(&store).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let shard = report.shards[0];
    assert_eq!((shard.slots.objects, shard.slots.bytes), (40, 40 * 98));
    assert_eq!(
        (shard.records, shard.tail, shard.newest_snapshot),
        (38, 40, Some(20))
    );
    assert_eq!((shard.snapshots.objects, shard.markers.objects), (2, 1));
    assert_eq!(
        (report.blobs.objects, report.blobs.bytes, report.job_files),
        (1, 7, 1)
    );
    assert_eq!((report.staged.objects, report.staged.bytes), (1, 4));
    assert_eq!(report.strays, ["notes/of-mine", "shards/7/log/x"]);
}

#[test]
fn each_damaged_object_is_named_with_what_it_costs_and_what_to_do() {
    let (_folder, store) = storage();
    for slot in [3, 30] {
        change_last_byte(&store, &slot_key(0, slot));
    }
    for key in [snapshot_key(0, 20), marker_key(0, 5)] {
        change_last_byte(&store, &key);
    }
    let blob = BlobId(*blake3::hash(b"program").as_bytes());
    std::fs::write(Blobs::new(Arc::clone(&store)).path(blob), b"pr0gram").unwrap();
    let checkpoints = crate::Checkpoints::new(Arc::clone(&store) as Arc<dyn Store>);
    let task = TaskId {
        job: JobId(1),
        index: 7,
    };
    let attempt = GrantId {
        term: Term(0),
        number: 1,
    };
    checkpoints.save(task, attempt, 0, b"state").unwrap();
    checkpoints.save(task, attempt, 1, b"state").unwrap();
    let saved = store.list("jobs/1/checkpoints/", None).unwrap();
    change_last_byte(&store, &saved[0]);
    let lines = told(&store);
    let expected = [
        (snapshot_key(0, 20), "older objects say the same"),
        (marker_key(0, 5), "nothing is lost"),
        (slot_key(0, 3), "a snapshot has the rest"),
        (
            slot_key(0, 30),
            "2 records are lost, 38 before them and all after them are kept",
        ),
        (blob.to_string(), "remove this object and submit such jobs again"),
        (
            saved[0].clone(),
            "the task resumes from the checkpoint before this one",
        ),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (key, part)) in lines.iter().zip(expected) {
        assert!(line.contains(&key) && line.contains(part), "{line}");
    }
}

#[test]
fn slots_that_are_gone_are_told_but_not_the_gaps_of_a_pipeline() {
    let (_folder, store) = storage();
    for slot in [5, 25, 26, 38] {
        store.delete(&slot_key(0, slot)).unwrap();
    }
    let lines = told(&store);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains("00000000000000000025 to 00000000000000000026"),
        "{lines:#?}"
    );
}

#[test]
fn a_log_without_beginning_and_snapshot_is_told() {
    let (_folder, store) = storage();
    put_marker(&*store, LOG, 0).unwrap();
    for slot in 0..15 {
        store.delete(&slot_key(0, slot)).unwrap();
    }
    assert_eq!(told(&store).len(), 0);
    for slot in [10, 20] {
        store.delete(&snapshot_key(0, slot)).unwrap();
    }
    let lines = told(&store);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("before slot 15 is lost"), "{lines:#?}");
}

#[test]
fn a_storage_whose_cluster_file_is_damaged_or_gone_is_checked_all_the_same() {
    let (folder, store) = storage();
    let blob = BlobId(*blake3::hash(b"program").as_bytes());
    std::fs::write(Blobs::new(Arc::clone(&store)).path(blob), b"pr0gram").unwrap();
    for bytes in [Some(b"{"), None] {
        store.delete("cluster.json").unwrap();
        if let Some(bytes) = bytes {
            store.put_if_absent("cluster.json", bytes).unwrap();
        }
        let lines = told(&store);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("no scheduler starts"), "{lines:#?}");
    }
    let empty = tempfile::tempdir().unwrap();
    let unused = check(&Arc::new(Directory::look_at(empty.path()).unwrap()));
    assert!(matches!(unused, Err(CheckError::Unused)));
    assert!(Directory::look_at(&folder.path().join("nowhere")).is_err());
}

#[test]
fn checking_changes_nothing() {
    let (folder, store) = storage();
    let staged = folder.path().join(".staging-1-1");
    std::fs::write(&staged, b"half").unwrap();
    let before = std::fs::File::options().write(true).open(&staged).unwrap();
    before.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let keys = store.list("", None).unwrap();
    let looking = Arc::new(Directory::look_at(folder.path()).unwrap());
    check(&looking).unwrap();
    assert_eq!(store.list("", None).unwrap(), keys);
    assert!(staged.exists());
}

#[test]
fn what_programs_have_saved_is_theirs_and_not_looked_into() {
    let (folder, store) = storage();
    let saved = folder.path().join("jobs/1/saved/0/1-1");
    std::fs::create_dir_all(&saved).unwrap();
    std::fs::write(saved.join("any name, of no object: \u{1b}"), "x").unwrap();
    std::fs::write(saved.join("unreadable"), "x").unwrap();
    std::os::unix::fs::symlink("/does/not/exist", saved.join("nowhere")).unwrap();
    assert_eq!(told(&store), Vec::<String>::new());
}
