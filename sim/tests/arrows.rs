//! The arrows between crates (DESIGN: "The house"), held over normal dependencies and transitively; and what the core
//! must not know, held over its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = MetadataCommand::new();
    command.manifest_path(manifest).no_deps();
    command.exec().expect("cargo knows this workspace")
}

/// What each of our crates depends on, by name: normal dependencies, optional ones too.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata.packages.iter().map(|package| {
        let normal = package
            .dependencies
            .iter()
            .filter(|on| on.kind == DependencyKind::Normal);
        (
            package.name.to_string(),
            normal.map(|on| on.name.clone()).collect(),
        )
    });
    packages.collect()
}

/// Our own crates that `of` depends on, directly or not.
fn ours(of: &str) -> BTreeSet<String> {
    let all = dependencies();
    let mut found = BTreeSet::new();
    let mut open = vec![of.to_owned()];
    while let Some(name) = open.pop() {
        for on in all[&name].iter().filter(|on| all.contains_key(*on)) {
            if found.insert(on.clone()) {
                open.push(on.clone());
            }
        }
    }
    found
}

#[track_caller]
fn check(of: &str, may_depend_on: &[&str]) {
    let allowed: BTreeSet<String> = may_depend_on.iter().map(|&name| name.to_owned()).collect();
    let wrong: Vec<String> = ours(of).difference(&allowed).cloned().collect();
    assert!(wrong.is_empty(), "{of} must not depend on {wrong:?}");
}

const PROTOCOL: &str = "phalanx-protocol";
const TRANSPORT: &str = "phalanx-transport";
const STORAGE: &str = "phalanx-storage";
const CORE: &str = "phalanx-scheduler-core";
const SCHEDULER: &str = "phalanx-scheduler";
const WORKER: &str = "phalanx-worker";
const SDK: &str = "phalanx";
const MACROS: &str = "phalanx-macros";

#[test]
fn the_protocol_depends_on_none_of_ours() {
    check(PROTOCOL, &[]);
    check(MACROS, &[]);
}

#[test]
fn transport_storage_and_the_core_know_the_protocol_only() {
    check(TRANSPORT, &[PROTOCOL]);
    check(STORAGE, &[PROTOCOL]);
    check(CORE, &[PROTOCOL]);
}

#[test]
fn the_core_depends_on_the_protocol_bytes_and_thiserror() {
    let allowed = [PROTOCOL, "bytes", "thiserror"].map(str::to_owned);
    assert!(
        dependencies()[CORE].is_subset(&allowed.into()),
        "{:?}",
        dependencies()[CORE]
    );
}

#[test]
fn programs_depend_on_what_is_below_them_and_the_worker_never_on_the_sdk() {
    check(SCHEDULER, &[PROTOCOL, TRANSPORT, STORAGE, CORE]);
    check(WORKER, &[PROTOCOL, TRANSPORT, STORAGE]);
    check("phalanx-pmi", &[]);
    // the embedded cluster pulls in the scheduler and the worker
    check(
        SDK,
        &[
            PROTOCOL,
            TRANSPORT,
            STORAGE,
            CORE,
            SCHEDULER,
            WORKER,
            MACROS,
            "phalanx-pmi",
        ],
    );
    check("phalanx-sim", &[PROTOCOL, STORAGE, CORE]);
}

#[test]
fn the_sdk_pulls_in_the_scheduler_and_the_worker_only_as_a_feature() {
    let metadata = metadata();
    let sdk = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == SDK)
        .unwrap();
    let servers = sdk
        .dependencies
        .iter()
        .filter(|on| on.name == SCHEDULER || on.name == WORKER);
    let servers = servers.filter(|on| on.kind == DependencyKind::Normal);
    assert!(servers.into_iter().all(|on| on.optional));
}

#[test]
fn nobody_depends_on_the_simulator_or_the_fuzz_targets() {
    let users: Vec<String> = dependencies()
        .into_iter()
        .filter(|(_, on)| on.contains("phalanx-sim") || on.contains("phalanx-fuzz"))
        .map(|(name, _)| name)
        .collect();
    assert!(users.is_empty(), "{users:?}");
}

#[test]
fn one_crate_each_knows_bincode_and_quinn() {
    let users = |of: &str| -> Vec<String> {
        let all = dependencies().into_iter();
        all.filter(|(_, on)| on.contains(of))
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(users("bincode"), [PROTOCOL]);
    assert_eq!(users("quinn"), [TRANSPORT]);
}

fn core_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scheduler/core")
}

#[test]
fn the_core_bans_clocks_threads_input_output_and_randomness() {
    let rules = std::fs::read_to_string(core_folder().join("clippy.toml")).unwrap();
    for banned in [
        "std::collections::HashMap",
        "std::collections::HashSet",
        "std::time::Instant",
        "std::time::SystemTime",
        "std::fs::File",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::thread::spawn",
        "std::thread::sleep",
        "std::env::var",
    ] {
        assert!(rules.contains(&format!("\"{banned}\"")), "{banned} is not banned");
    }
}

#[test]
fn the_cores_sources_have_none_of_them() {
    let mut files = 0;
    for entry in std::fs::read_dir(core_folder().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for banned in [
                "Instant",
                "SystemTime",
                "HashMap",
                "HashSet",
                "std::fs",
                "std::net",
                "std::thread",
                "rand::",
            ] {
                assert!(!line.contains(banned), "{} has {banned}: {line}", path.display());
            }
        }
        files += 1;
    }
    assert!(files > 10);
}
