//! Runs of the virtual cluster: a fixed set of seeds, a few fresh ones, and one seed twice.
#![expect(
    clippy::print_stdout,
    reason = "a failed run is told by its last line which seed to replay"
)]

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use phalanx_sim::{Climate, Limits, run};

/// Runs seeds; returns in what ways tasks failed, jobs ended and workers left.
fn run_all(climate: Climate, seeds: std::ops::Range<u64>) -> BTreeSet<String> {
    let mut endings = BTreeSet::new();
    let limits = Limits {
        climate,
        ..Limits::default()
    };
    for seed in seeds {
        println!(
            "seed {seed}; to replay it: cargo run -p phalanx-sim -- --seeds 1 --first {seed} --climate {climate}"
        );
        let summary = run(seed, &limits);
        assert!(
            summary.steps < limits.steps_max,
            "seed {seed} does not come to an end"
        );
        endings.extend(summary.endings);
    }
    endings
}

#[test]
fn seeds_0_to_109_keep_every_invariant() {
    let endings = run_all(Climate::Any, 0..110);
    let known = [
        "crashed",
        "error",
        "gang respawned",
        "gang restarted",
        "gang shrank",
        "job cancelled",
        "job failed",
        "job given up",
        "job out of time",
        "job succeeded",
        "hosts of a gang met",
        "job waits in vain",
        "leader died writing",
        "lost with its worker",
        "out of memory",
        "reopened",
        "tasks cancelled",
        "timed out",
        "wide gang",
        "worker drained",
        "worker stopped",
    ];
    let missing = known.into_iter().filter(|&ending| !endings.contains(ending));
    assert_eq!(
        missing.collect::<Vec<&str>>(),
        [""; 0],
        "what these seeds never draw"
    );
}

#[test]
fn seeds_110_to_154_keep_every_invariant() {
    run_all(Climate::Any, 110..155);
}

#[test]
fn seeds_155_to_199_keep_every_invariant() {
    run_all(Climate::Any, 155..200);
}

#[test]
fn takeovers_keep_every_invariant() {
    run_all(Climate::Takeovers, 0..40);
}

#[test]
fn the_deletion_of_old_log_keeps_every_invariant() {
    run_all(Climate::Deletion, 0..10);
}

#[test]
fn a_deposed_leader_that_grants_a_gang_in_vain_breaks_no_invariant() {
    run_all(Climate::Any, 1_795_737_439_007..1_795_737_439_008);
}

#[test]
fn fresh_seeds_keep_every_invariant() {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    run_all(Climate::Any, seconds * 1000..seconds * 1000 + 10);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        assert_eq!(
            run(seed, &Limits::default()),
            run(seed, &Limits::default()),
            "seed {seed}"
        );
    }
    assert_ne!(run(0, &Limits::default()).trace, run(1, &Limits::default()).trace);
}
