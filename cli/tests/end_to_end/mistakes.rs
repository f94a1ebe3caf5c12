//! Wrong requests to a cluster that runs: told at once, and nothing is submitted.

use crate::command::run;
use crate::up::Up;

/// Nothing was submitted by what went wrong.
fn has_no_jobs(up: &Up) {
    let jobs = up.run("--output json jobs --all").json();
    assert_eq!(jobs["jobs"], serde_json::json!([]));
}

#[test]
fn what_no_worker_can_ever_run_is_refused_with_what_there_is() {
    let up = Up::start();
    let done = up.run("submit PROGRAM --kernel square --range 0..3 --cpus 1000");
    assert_eq!(done.code, Some(5), "{done:?}");
    let expected =
        "error: the job cannot ever start: each task needs 1000 cpus, the largest worker has 1 cpu";
    assert!(done.stderr.starts_with(expected), "{done:?}");
    has_no_jobs(&up);
}

#[test]
fn a_bad_line_of_inputs_is_named_and_nothing_is_submitted() {
    let up = Up::start();
    let path = up.file("in.jsonl", "\"a\"\n\"b\"\noops\n");
    let mut command = up.command("submit PROGRAM --kernel text --inputs");
    command.arg(&path);
    let done = run(command);
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr.contains("line 3, column 1: expected value"),
        "{done:?}"
    );
    has_no_jobs(&up);
}

#[test]
fn wrong_parameters_break_the_job_with_the_reason() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel slow --range 0..3 --parameters [1]");
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(
        done.stderr.starts_with("error: job 1 could not run: "),
        "{done:?}"
    );
    assert!(done.stderr.contains("parameters of kernel `slow`"), "{done:?}");
}

#[test]
fn a_worker_timeout_that_a_lost_packet_would_exceed_is_refused_with_the_least_that_will_do() {
    let up = Up::start();
    for (asked, told) in [("200ms", "0.2 s"), ("2h", "7200 s")] {
        let done = up.run(&format!("scheduler --name s9 --worker-timeout {asked}"));
        assert_eq!(done.code, Some(2), "{done:?}");
        let expected = format!("error: the worker timeout of {told} is not between 1 s and 3600 s\n");
        assert!(done.stderr.starts_with(&expected), "{done:?}");
        assert!(
            done.stderr
                .contains("hint: workers are heard of every half second"),
            "{done:?}"
        );
    }
}

#[test]
fn a_job_that_is_not_there_is_told() {
    let up = Up::start();
    for command in ["job 77", "wait 77", "cancel 77", "results 77", "explain 77"] {
        let done = up.run(command);
        assert_eq!(done.code, Some(2), "{command}: {done:?}");
        assert_eq!(
            done.stderr,
            "error: there is no job 77\n\nhint: `phalanx jobs --all` lists those that there are\n",
            "{command}"
        );
    }
}

#[test]
fn the_results_of_a_programs_own_job_are_left_to_it() {
    let up = Up::start();
    let driven = up.drive();
    let id = driven.lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let done = up.run(&format!("results {id}"));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr
            .starts_with(&format!("error: the results of job {id} are not JSON")),
        "{done:?}"
    );
}
