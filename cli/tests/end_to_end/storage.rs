//! Looking at the shared storage, with and without a scheduler on it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::{JobId, Term, codec};
use phalanx_storage::marker::put_marker;
use phalanx_storage::slot::{CHUNK_SLOTS, SlotHead, SlotKind, encode, slot_key};
use phalanx_storage::snapshot::snapshot_key;
use phalanx_storage::{Directory, LogId, Store, replay};
use rustix::process::Signal;
use serde_json::Value;

use crate::command::{Done, eventually, finish, phalanx, run, send};
use crate::up::Up;

/// A small storage of the first format.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../storage/tests/golden/v1");

fn storage(words: &[&str], path: &Path) -> Done {
    let mut command = phalanx();
    // no cluster is needed
    command.env("PHALANX_CLUSTER", "/does/not/exist");
    command.args(words).arg(path);
    run(command)
}

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

fn slot_file(root: &Path, slot: u64) -> PathBuf {
    root.join(format!("shards/0/log/{:016}/{slot:020}", 0))
}

fn documents(done: &Done) -> Vec<Value> {
    let lines = done.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_whole_storage_is_told_with_what_is_there() {
    let done = storage(&["storage", "check"], Path::new(GOLDEN));
    let lines = done.lines();
    assert!(
        lines.contains(&"shard 0: 26 log slots (3 KiB), the next is 26, term t17"),
        "{done:?}"
    );
    assert!(
        lines.contains(&"  12 records to be read by the next scheduler"),
        "{done:?}"
    );
    assert_eq!(lines.last(), Some(&"everything is whole"), "{done:?}");
    let checked = storage(&["--output", "json", "storage", "check"], Path::new(GOLDEN)).json();
    assert_eq!(checked["storage"]["shards"][0]["slots"]["count"], 26);
    assert_eq!(checked["storage"]["damaged"], Value::Array(Vec::new()));
}

#[test]
fn damage_is_named_with_what_it_costs_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(GOLDEN), folder.path());
    let damaged = slot_file(folder.path(), 18);
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::remove_file(slot_file(folder.path(), 3)).unwrap();
    let done = storage(&["storage", "check"], folder.path());
    assert_eq!(done.code, Some(70));
    assert!(
        done.stderr
            .starts_with("error: 2 objects of the storage are damaged"),
        "{done:?}"
    );
    let told = |part: &str| assert!(done.stdout.contains(part), "{part}: {done:?}");
    told("damaged: shards/0/log/0000000000000000/00000000000000000018\n  its checksum is ");
    told(
        "\n  1 record is lost, 1 before it and all after it are kept\n  to get them back, stop the schedulers",
    );
    told("damaged: shards/0/log/0000000000000000/00000000000000000003\n  it is gone, ");
    let mut command = phalanx();
    command
        .args(["--output", "json", "storage", "check"])
        .arg(folder.path());
    let json = run(command).json();
    assert_eq!(json["storage"]["damaged"].as_array().unwrap().len(), 2);

    let dump = storage(&["storage", "dump"], folder.path());
    assert!(
        dump.lines()
            .iter()
            .any(|line| line.starts_with("slot 18 damaged: its checksum")),
        "{dump:?}"
    );
}

#[test]
fn a_folder_that_is_no_storage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for words in [["storage", "check"], ["storage", "dump"]] {
        let done = storage(&words, folder.path());
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("no cluster's storage is there"), "{done:?}");
        let done = storage(&words, &folder.path().join("nowhere"));
        assert_eq!(done.code, Some(70), "{done:?}");
        assert!(!folder.path().join("nowhere").exists());
    }
}

#[test]
fn records_are_dumped_in_order_for_people_and_programs() {
    let done = storage(&["storage", "dump"], Path::new(GOLDEN));
    let lines = done.lines();
    assert_eq!(lines[0], "slot 0 t17 fill");
    assert_eq!(lines[16], "slot 16 t17 fence");
    assert_eq!(
        lines[17],
        "slot 17 t17 data: job 1 submitted by root: `fail_odd`, 3 tasks"
    );
    assert_eq!(
        lines[18..22],
        [
            "slot 18 t17 data: job 1: done 0, 2 B of results, failed 1 (error: 1 is odd)",
            "slot 19 t17 data: job 1: done 2, 2 B of results",
            "slot 19 t17 data: job 1 failed",
            "slot 20 t17 data: job 2 submitted by root: `square`, 100 tasks",
        ]
    );
    let words = [
        "--output",
        "json",
        "storage",
        "dump",
        "--job",
        "2",
        "--from-slot",
        "21",
    ];
    let documents = documents(&storage(&words, Path::new(GOLDEN)));
    let [ended, rest, finished] = &documents[..] else {
        panic!("{documents:?}");
    };
    assert_eq!(
        (&ended["version"], &ended["slot"], &ended["term"]),
        (&1.into(), &21.into(), &17.into())
    );
    assert_eq!(ended["record"]["what"], "tasks_ended");
    assert_eq!(ended["record"]["done"], serde_json::json!(["0-1"]));
    assert_eq!(rest["record"]["results"][0]["range"], "2-99");
    assert_eq!(finished["record"]["outcome"], "succeeded");
}

/// Moves what the log says of one job behind its first chunk, and deletes the rest as if snapshots had held it; the one that is
/// left is damaged.
fn lose_beginning(root: &Path, kept: JobId) {
    let store = Directory::open(root).unwrap();
    let log = LogId {
        cluster: phalanx_storage::cluster::read(&store).unwrap().unwrap().cluster,
        shard: 0,
    };
    let mut records = Vec::new();
    replay(&store, log, &mut |record| records.push(record.bytes)).unwrap();
    let of_job = |bytes: &Bytes| codec::decode::<Record>(bytes).unwrap().job() == kept;
    records.retain(of_job);
    fs::remove_dir_all(root.join("shards/0/log")).unwrap();
    fs::remove_dir_all(root.join("shards/0/snapshots")).unwrap();
    for (slot, record) in (CHUNK_SLOTS..).zip(records) {
        let head = SlotHead {
            log,
            slot,
            term: Term(1),
            nonce: u128::from(slot),
            kind: SlotKind::Data,
        };
        let (object, _) = encode(&head, &[record]);
        store.put_if_absent(&slot_key(0, slot), &object).unwrap();
    }
    put_marker(&store, log, 0).unwrap();
    store.put_if_absent(&snapshot_key(0, 4000), b"rotten").unwrap();
}

#[test]
fn a_journal_without_its_beginning_is_led_only_with_loss_accepted_and_then_keeps_the_rest() {
    let up = Up::start();
    for job in ["1", "2"] {
        let done = up.run("run PROGRAM --kernel square --range 0..4");
        assert_eq!(done.lines(), ["0", "1", "4", "9"], "job {job}");
    }
    let (code, folder) = up.stop();
    assert_eq!(code, Some(0));
    let root = folder.path().join("lab");
    lose_beginning(&root.join("storage"), JobId(2));
    let scheduler = |options: &[&str]| {
        let mut command = phalanx();
        command
            .env("PHALANX_CLUSTER", &root)
            .args(["scheduler", "--name", "s1", "--listen", "127.0.0.1:0"])
            .args(options);
        command
    };
    let refused = run(scheduler(&[]));
    assert_eq!(refused.code, Some(70), "{refused:?}");
    let told = |words: &str| assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    told("the log before slot 4096 is deleted");
    told(&snapshot_key(0, 4000));
    told("hint: without such a copy, start `phalanx scheduler --accept-loss` once");

    let mut leader = scheduler(&["--accept-loss"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(leader.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.ends_with(" and leads\n"), "{line}");
    // as soon as a snapshot holds what is left, any end will do
    let begun = Instant::now();
    let snapshots = root.join("storage/shards/0/snapshots");
    eventually("a snapshot is taken", || {
        let names = fs::read_dir(&snapshots)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        // one that is being written has no name of its own yet
        names
            .filter(|name| !name.to_string_lossy().starts_with(".staging-"))
            .count()
            == 2
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    send(leader.id(), Signal::KILL);
    let done = finish(leader);
    assert!(
        done.stderr
            .contains("all that was recorded before slot 4096 is lost"),
        "{done:?}"
    );

    // it need not be accepted again
    let up = Up::start_in(folder);
    assert_eq!(up.run("results 2").lines(), ["0", "1", "4", "9"]);
    let jobs = up.run("--output json jobs --all").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    let done = up.run("run PROGRAM --kernel square --range 0..2");
    assert_eq!(done.lines(), ["0", "1"]);
}

#[test]
fn a_running_clusters_storage_is_checked_beside_it() {
    let up = Up::start();
    let job = up.submit("--kernel square --range 0..10");
    assert_eq!(up.run(&format!("wait {job}")).code, Some(0));
    let checked = up.run("--output json storage check").json()["storage"].take();
    assert_eq!(checked["damaged"], Value::Array(Vec::new()));
    assert_eq!(checked["schedulers"].as_array().unwrap().len(), 1);
    // the program, at least
    assert!(checked["blobs"]["count"].as_u64() >= Some(1), "{checked}");
    let documents = documents(&up.run(&format!("--output json storage dump --job {job}")));
    assert_eq!(documents[0]["record"]["what"], "job_submitted");
    assert_eq!(documents.last().unwrap()["record"]["what"], "job_finished");
}
