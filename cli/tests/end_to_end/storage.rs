//! Looking at the shared storage, with and without a scheduler on it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{Done, phalanx, run};
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
