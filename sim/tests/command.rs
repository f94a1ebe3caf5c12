//! The program that runs seeds: what it says, by which a run can be replayed.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).output().unwrap()
}

#[test]
fn a_run_says_which_seeds_it_ran_and_for_how_long() {
    let output = sim(&["--seeds", "2", "--first", "7", "--climate", "any"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("2 seeds from 7 on, climate any: "), "{text}");
    assert!(text.contains(" simulated hours, "), "{text}");
}

#[test]
fn a_seed_that_fails_is_named_with_what_replays_it() {
    // no run ends within ten events
    let output = sim(&["--seeds", "1", "--first", "4711", "--steps", "10"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{text}");
    let replay = "cargo run -p phalanx-sim -- --seeds 1 --first 4711 --climate any";
    assert!(text.contains(replay), "{text}");
}

#[test]
fn a_run_ends_when_its_time_is_up() {
    let output = sim(&["--seconds", "0", "--first", "9"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("0 seeds from 9 on"), "{text}");
}
