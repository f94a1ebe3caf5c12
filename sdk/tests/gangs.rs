//! Ranks as a job of a program with a cluster of its own. The program is the example `gang`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

/// Runs the program; cargo puts examples beside the folder of the tests.
fn gang(words: &[&str]) -> (String, String, bool) {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join("gang");
    assert!(program.exists(), "not built: cargo build -p phalanx --examples");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.success())
}

#[test]
fn ranks_reach_each_other_and_return_in_their_order() {
    let (out, err, _) = gang(&["sum", "4"]);
    assert_eq!(out.trim(), "[(0, 60), (1, 60), (2, 60), (3, 60)]", "{err}");
}

#[test]
fn ranks_on_two_and_three_nodes_reach_each_other() {
    let (out, err, _) = gang(&["spread", "4", "2"]);
    assert_eq!(out.trim(), format!("{:?}", [(4, 2, 60); 4]), "{err}");
    let (out, err, _) = gang(&["spread", "5", "3"]);
    let here = [2, 2, 2, 2, 1].map(|here| (5, here, 100));
    assert_eq!(out.trim(), format!("{here:?}"), "{err}");
}

#[test]
fn a_rank_that_fails_on_another_node_is_the_one_that_is_named() {
    let (out, err, is_success) = gang(&["refuse", "it is too cold"]);
    assert!(!is_success && out.is_empty(), "{out}");
    assert!(err.contains("it is too cold"), "{err}");
}

#[test]
fn a_rank_that_panics_lets_all_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let (out, err, _) = gang(&["restarts", marker.to_str().unwrap(), "1"]);
    assert_eq!(out.trim(), "[0, 3, 1, 2]", "{err}");
    assert!(marker.exists(), "rank 2 never stumbled");
}

#[test]
fn a_rank_that_panics_is_named_when_there_is_no_other_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let (out, err, is_success) = gang(&["restarts", marker.to_str().unwrap(), "0"]);
    assert!(!is_success && out.is_empty(), "{out}");
    assert!(err.contains("rank 2 stumbles"), "{err}");
}

#[test]
fn ranks_that_start_again_go_on_from_their_last_checkpoint_on_one_node_and_on_two() {
    for nodes in ["1", "2"] {
        let (out, err, _) = gang(&["resumes", nodes]);
        // 2 ranks, 20 steps: 2 (0 + .. + 19) + 20 (0 + 1)
        assert_eq!(out.trim(), format!("{:?}", [(2, 8, 400); 2]), "{err}");
    }
}

#[test]
fn ranks_that_are_left_go_on_and_what_they_return_is_the_result() {
    let (out, err, _) = gang(&["shrinks", "goes on"]);
    let left = [0, 1, 2, 3].map(|rank| (rank, (4, 6)));
    assert_eq!(out.trim(), format!("{left:?}"), "{err}");
}

#[test]
fn ranks_that_are_lost_with_their_process_start_again_while_the_others_run_on() {
    let (out, err, _) = gang(&["respawns"]);
    // 4 ranks, 20 steps: 4 (0 + .. + 19) + 20 (0 + 1 + 2 + 3)
    let ends = [1, 1, 2, 2].map(|began_in| (began_in, 8, 880));
    assert_eq!(out.trim(), format!("{ends:?}"), "{err}");
}

#[test]
fn a_rank_that_does_not_go_on_after_a_loss_fails_the_gang() {
    let (out, err, is_success) = gang(&["shrinks", "gives up"]);
    assert!(!is_success && out.is_empty(), "{out}");
    assert!(
        ["rank 4 is lost", "rank 5 is lost", "node 2 of the gang was lost"]
            .iter()
            .any(|lost| err.contains(lost)),
        "{err}"
    );
}

#[test]
fn more_ranks_than_a_gang_may_have_are_refused_with_the_number() {
    let (_, err, is_success) = gang(&["sum", "5000"]);
    assert!(!is_success && err.contains("a gang has 1 to 4096 ranks"), "{err}");
}
