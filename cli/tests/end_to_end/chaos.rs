//! Clusters under disturbance: `phalanx chaos` finds nothing lost, doubled or wrong.

use std::time::Duration;

use serde_json::Value;

use crate::command::{Done, finish_within, phalanx};

/// What a run may take beyond its time of disturbance.
const CALM_MAX: Duration = Duration::from_secs(150);

fn chaos(seconds: u64, more: &[&str]) -> (Done, Value) {
    let mut command = phalanx();
    command
        .args(["--output", "json", "chaos", "--seconds", &seconds.to_string()])
        .args(more);
    let child = command.spawn().unwrap();
    let done = finish_within(child, Duration::from_secs(seconds) + CALM_MAX);
    eprintln!("{}", done.stderr);
    let mut document = done.json();
    (done, document["chaos"].take())
}

#[test]
fn a_cluster_with_a_standby_survives_most_of_a_minute_of_chaos() {
    let (done, survived) = chaos(45, &["--seed", "1"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let disturbances: u64 = survived["disturbances"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert!(disturbances > 15, "{survived}");
    assert!(survived["results"].as_u64() > Some(1000), "{survived}");
    assert!(survived["undisturbed_seconds"].as_f64() > Some(1.0), "{survived}");
    assert!(survived["gangs"].as_u64() > Some(3), "{survived}");
    assert!(survived["gangs_hit"].as_u64() > Some(0), "{survived}");
    assert!(survived["commands"].as_u64() >= Some(20), "{survived}");
    let kinds = [
        "killed",
        "stopped for a while",
        "asked to stop",
        "kernel hosts killed",
    ];
    for kind in kinds {
        assert!(has_had(&survived, kind), "nothing was {kind}: {survived}");
    }
}

/// Whether a disturbance of that kind was counted, whoever it met.
fn has_had(survived: &Value, kind: &str) -> bool {
    let counts = survived["disturbances"].as_object().unwrap();
    counts.keys().any(|what| what.ends_with(kind))
}

#[test]
fn a_fresh_seed_is_survived_too_also_with_broken_networks_where_that_can_be_had() {
    let (done, survived) = chaos(20, &["--network"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    if done.stderr.contains("no network namespaces") {
        return;
    }
    let lost = !done.stderr.contains("no packets are lost");
    let kinds = [("cut off", true), ("slowed down", true), ("packet loss", lost)];
    for (kind, _) in kinds.iter().filter(|(_, can_be)| *can_be) {
        assert!(has_had(&survived, kind), "nobody was {kind}: {survived}");
    }
}
