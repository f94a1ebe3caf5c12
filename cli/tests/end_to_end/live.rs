//! Lines of several tasks as they come: `--live` of `phalanx run` and `phalanx logs`.

use crate::command::{Watched, run};
use crate::up::Up;

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn lines_of_tasks_are_seen_while_they_run_and_tell_whose_they_are() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "printf 'a{{}}\\nb'; echo e{{}} >&2; while [ -e {} ]; do sleep 0.05; done; echo; printf end",
        gate.display()
    );
    let mut command = up.command("run --live --array 5-6 -- sh -c");
    command.arg(&script);
    let running = Watched::start(command);
    let first = [running.line(), running.line()].join("\n");
    assert_eq!(sorted(&first), ["0: a5", "1: a6"]);
    let follower = Watched::start(up.command("logs 1 -f --live"));
    let again = [follower.line(), follower.line()].join("\n");
    assert_eq!(sorted(&again), ["0: a5", "1: a6"]);
    std::fs::remove_file(&gate).unwrap();
    for watched in [running, follower] {
        let done = watched.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(sorted(&done.stdout), ["0: b", "0: end", "1: b", "1: end"]);
        let mut errors = sorted(&done.stderr);
        errors.retain(|line| line.contains(": e"));
        assert_eq!(errors, ["0: e5", "1: e6"]);
    }
}

#[test]
fn each_line_of_many_short_tasks_is_shown_once() {
    let up = Up::start();
    let done = up.run("run --live --array 0-299 -- echo n{}");
    let expected: Vec<String> = (0..300).map(|index| format!("{index:>3}: n{index}")).collect();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sorted(&done.stdout), expected);
    // a job of one task has nobody to be told from
    assert_eq!(up.run("run --live --array 7 -- echo n{}").lines(), ["n7"]);
}

#[test]
fn tasks_that_run_again_and_those_that_are_cancelled_are_shown_to_their_ends() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "trap 'echo told; exit 1' TERM
         echo r$PHALANX_RESTART_COUNT
         [ {{}}$PHALANX_RESTART_COUNT != 01 ] || exit 0
         while [ {{}} = 1 ] || [ -e {} ]; do sleep 0.05; done
         echo fails; exit 1",
        gate.display()
    );
    let mut command = up.command("run --live --array 0-1 --retries 1 --backoff 10ms -- sh -c");
    command.arg(script);
    let running = Watched::start(command);
    let mut shown = vec![running.line(), running.line()];
    std::fs::remove_file(&gate).unwrap();
    while shown.len() < 4 {
        shown.push(running.line());
    }
    shown.sort_unstable();
    assert_eq!(shown, ["0: fails", "0: r0", "0: r1", "1: r0"]);
    assert_eq!(up.run("cancel 1.1").code, Some(0));
    let done = running.finish();
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stdout.contains("1: told\n"), "{done:?}");
    assert!(!done.stdout.contains("0: "), "{done:?}");
}

#[test]
fn what_tasks_print_comes_in_one_piece_unless_lines_are_asked_for() {
    let up = Up::start();
    let script = "echo a; echo b";
    for option in ["", "--grouped"] {
        let mut command = up.command(&format!("run --array 0-1 {option} -- sh -c"));
        command.arg(script);
        assert_eq!(run(command).lines(), ["a", "b", "a", "b"]);
    }
    let refused = up.run("submit --live --array 0-1 -- true");
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("leave --live out, or use `phalanx run`"),
        "{refused:?}"
    );
}
