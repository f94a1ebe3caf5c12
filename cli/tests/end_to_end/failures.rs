//! Tasks that fail, jobs that are cancelled, workers that die.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::command::{DEADLINE, eventually, finish, finish_within, is_alive, login, send};
use crate::up::Up;

/// How long people wait for an answer before they take the scheduler for dead.
const ANSWER: Duration = Duration::from_secs(10);

fn worker_count(up: &Up) -> usize {
    let workers = up.run("--output json workers").json();
    workers["workers"].as_array().unwrap().len()
}

#[test]
fn failed_tasks_are_told_and_the_others_results_are_there() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel fail_odd --range 0..10");
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "0\n2\n4\n6\n8\n"));
    assert!(
        done.errors()
            .starts_with("error: 5 of the 10 tasks of job 1 failed\n"),
        "{done:?}"
    );
    assert!(done.stderr.contains("\n  1.1 error: 1 is odd\n"), "{done:?}");
    assert!(
        done.stderr
            .ends_with("\nhint: `phalanx results 1` prints what the other tasks returned\n"),
        "{done:?}"
    );
    assert_eq!(up.run("wait 1").code, Some(1));
    let done = up.run("--output json results 1");
    let line: serde_json::Value = serde_json::from_str(done.stdout.lines().nth(1).unwrap()).unwrap();
    let error = json!({"cause": "error", "message": "1 is odd"});
    assert_eq!(line, json!({"version": 1, "index": 1, "error": error}));
}

#[test]
fn a_hundred_thousand_failures_at_once_do_not_keep_the_scheduler_from_answering() {
    let up = Up::start();
    let mut command = up.command("run PROGRAM --kernel fail_odd --range 0..200000");
    let child = command.spawn().unwrap();
    let follower = thread::spawn(move || finish_within(child, 3 * DEADLINE));
    let mut slowest = Duration::ZERO;
    while !follower.is_finished() {
        let asked = Instant::now();
        up.run("--output json jobs").json();
        slowest = slowest.max(asked.elapsed());
    }
    let done = follower.join().unwrap();
    assert_eq!((done.code, done.stdout.lines().count()), (Some(1), 100_000));
    let job = up.job("1");
    assert_eq!((&job["done"], &job["failed"]), (&json!(100_000), &json!(100_000)));
    assert!(slowest < ANSWER, "an answer took {slowest:?}");
}

#[test]
fn a_panic_fails_its_own_task_with_its_words() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel panic_at --range 0..10 --parameters 7");
    assert_eq!((done.code, done.stdout.lines().count()), (Some(1), 9));
    assert!(done.stderr.contains("1.7 panicked: "), "{done:?}");
    assert!(done.stderr.contains("7 is where it panics"), "{done:?}");
}

#[test]
fn an_input_of_the_wrong_type_fails_its_task() {
    let up = Up::start();
    let path = up.file("in.jsonl", "\"a\"\n5\n");
    let mut command = up.command("run PROGRAM --kernel text --inputs");
    command.arg(&path);
    let done = finish(command.spawn().unwrap());
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "1\n"));
    assert!(done.stderr.contains("1.1 bad input: "), "{done:?}");
}

#[test]
fn a_job_stops_at_its_limit_of_failures() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel fail_odd --range 1..100000000 --failures-max 0");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("tasks not run: the job was stopped"),
        "{done:?}"
    );
}

#[test]
fn a_cancelled_job_ends_and_says_who_did_it() {
    let up = Up::start();
    let id = up.submit("--kernel slow --range 0..1000 --parameters 60000");
    eventually("the job runs", || up.job(&id)["state"] == "running");
    let done = up.run(&format!("explain {id}"));
    assert!(
        done.lines()[0].starts_with(&format!("job {id} is running: ")),
        "{done:?}"
    );
    let done = up.run(&format!("cancel {id}"));
    assert_eq!(done.lines(), [format!("job {id} is cancelled")]);
    let done = up.run(&format!("wait {id}"));
    assert_eq!(done.code, Some(4));
    assert!(
        done.stderr
            .starts_with(&format!("error: job {id} was cancelled by {}", login())),
        "{done:?}"
    );
    // a job that is over stays as it is
    let finished = up.submit("--kernel square --range 0..1");
    assert_eq!(up.run(&format!("wait {finished}")).code, Some(0));
    let done = up.run(&format!("cancel {finished}"));
    assert_eq!(
        done.lines(),
        [format!("job {finished} was over already: it is succeeded")]
    );
}

#[test]
fn an_interrupted_run_cancels_its_job() {
    let up = Up::start();
    let child = up
        .command("run PROGRAM --kernel slow --range 0..1000 --parameters 60000")
        .spawn()
        .unwrap();
    eventually("the job runs", || {
        let jobs = up.run("--output json jobs").json();
        jobs["jobs"]
            .as_array()
            .is_some_and(|jobs| jobs.iter().any(|job| job["state"] == "running"))
    });
    send(child.id(), Signal::INT);
    let done = finish(child);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(
        done.errors()
            .starts_with("cancelling job 1; Ctrl-C again leaves at once\n"),
        "{done:?}"
    );
    assert_eq!(up.job("1")["state"], "cancelled");
}

#[test]
fn a_killed_worker_costs_no_result_and_comes_back() {
    let up = Up::start();
    let child = up
        .command("run PROGRAM --kernel slow --range 0..400 --parameters 10")
        .spawn()
        .unwrap();
    eventually("results come in", || {
        up.job_is_there("1") && up.job("1")["done"].as_u64() > Some(20)
    });
    let victim = up.worker_pids()[0];
    send(victim, Signal::KILL);
    let done = finish(child);
    let expected: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    assert_eq!(done.lines(), expected);
    up.hears(" ended (signal: 9 (SIGKILL)); it is started again");
    up.hears(" is back (process ");
    // the one that is back may have joined before the one that was killed is given up
    eventually("two are left", || worker_count(&up) == 2);
}

#[test]
fn a_stopped_worker_does_not_hold_up_the_end_of_an_idempotent_job() {
    let up = Up::start();
    let victim = up.worker_pids()[0];
    let done = |id: &str| up.job(id)["done"].as_u64().unwrap();
    // where nothing goes on for a while, a job may end before the worker stands still, or only after that is given up
    let ended_before_it_was_given_up = (0..10).find_map(|_| {
        eventually("both are there", || worker_count(&up) == 2);
        let id = up.submit("--kernel slow --range 0..16 --parameters 100 --idempotent");
        eventually("results come in", || done(&id) > 5);
        send(victim, Signal::STOP);
        let goes_on = done(&id) < 16;
        assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
        let is_there = worker_count(&up) == 2;
        send(victim, Signal::CONT);
        (goes_on && is_there).then_some(id)
    });
    let id = ended_before_it_was_given_up.expect("it ends before anybody is given up");
    let expected: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    assert_eq!(up.run(&format!("results {id}")).lines(), expected);
    assert_eq!(up.run("run PROGRAM -k square -r 0..3").lines(), ["0", "1", "4"]);
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_in_order_and_is_not_started_again() {
    let up = Up::start();
    let child = up
        .command("run PROGRAM --kernel slow --range 0..200 --parameters 20")
        .spawn()
        .unwrap();
    eventually("results come in", || {
        up.job_is_there("1") && up.job("1")["done"].as_u64() > Some(5)
    });
    send(up.worker_pids()[0], Signal::TERM);
    up.hears("-1 has left");
    let done = finish(child);
    let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(done.lines(), expected);
    eventually("one is left", || worker_count(&up) == 1);
}

#[test]
fn nothing_outlives_a_cluster_that_is_killed() {
    let mut up = Up::start();
    let members: Vec<u32> = up.worker_pids().into_iter().chain([up.scheduler_pid()]).collect();
    assert!(members.iter().all(|&pid| is_alive(pid)));
    send(up.pid(), Signal::KILL);
    assert_eq!(up.end(), None);
    for pid in members {
        eventually("members end with the one that started them", || !is_alive(pid));
    }
}

#[test]
fn a_task_that_kills_its_process_is_poisoned_and_the_other_million_finish() {
    const TASKS: u64 = 1_000_000;
    const POISON: u64 = 123_456;
    let up = Up::start();
    let mut command = up.command(&format!(
        "run PROGRAM --kernel abort_at --range 0..{TASKS} --parameters {POISON}"
    ));
    let done = finish_within(command.spawn().unwrap(), 3 * DEADLINE);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let mut numbers = done.stdout.lines().map(|line| line.parse::<u64>().unwrap());
    let mut expected = (0..TASKS).filter(|&index| index != POISON);
    let wrong = expected.find(|&index| numbers.next() != Some(index));
    assert_eq!((wrong, numbers.next()), (None, None), "{}", done.stderr);
    let cause = format!("poisoned: index {POISON} killed its kernel host 3 times: signal 6 (SIGABRT)");
    assert!(
        done.stderr.contains(&format!("1.{POISON} crashed: {cause}")),
        "{}",
        done.stderr
    );
    let job = up.job("1");
    assert_eq!(
        (job["done"].as_u64(), job["failed"].as_u64()),
        (Some(TASKS - 1), Some(1))
    );
}

#[test]
fn failed_tasks_alone_run_again_when_asked_for_and_by_themselves_if_told_so() {
    let up = Up::start();
    let path = up.file("missing", "");
    std::fs::remove_file(&path).unwrap();
    let parameter = serde_json::to_string(&path).unwrap();
    let submit = |more: &[&str]| {
        let mut command = up.command("submit PROGRAM --kernel fail_without --range 0..20 --parameters");
        command.arg(&parameter).args(more);
        finish(command.spawn().unwrap()).lines()[0].to_owned()
    };
    let id = submit(&[]);
    assert_eq!(up.run(&format!("wait {id}")).code, Some(1));
    assert_eq!(up.job(&id)["failed"], 20);
    let patient = submit(&["--retries", "1000", "--backoff", "50ms"]);
    eventually("its tasks rest", || {
        up.job(&patient)["resting"].as_u64() > Some(0)
    });
    std::fs::write(&path, "").unwrap();
    assert_eq!(up.run(&format!("wait {patient}")).code, Some(0));
    let done = up.run(&format!("retry {id}"));
    assert_eq!(done.lines(), [format!("job {id}: 20 tasks run again")]);
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(up.run(&format!("results {id}")).lines().len(), 20);
    let done = up.run(&format!("retry {id}"));
    assert!(
        done.code != Some(0) && done.stderr.contains("none failed"),
        "{done:?}"
    );
}

#[test]
fn a_task_and_a_job_end_at_their_time_limits() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel slow --range 0..1 --parameters 60000 --task-time-limit 500ms");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("1.0 timed out: ran longer than "),
        "{done:?}"
    );
    let done = up.run("run PROGRAM --kernel slow --range 0..9 --parameters 60000 --time-limit 1s");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("job 2 was ended at its time limit of 1 s"),
        "{done:?}"
    );
}

#[test]
fn a_drained_worker_ends_what_it_runs_and_leaves() {
    let up = Up::start();
    let child = up
        .command("run PROGRAM --kernel slow --range 0..100 --parameters 50")
        .spawn()
        .unwrap();
    eventually("results come in", || {
        up.job_is_there("1") && up.job("1")["done"].as_u64() > Some(4)
    });
    let done = up.run("worker drain w1");
    assert_eq!(done.lines(), ["worker w1 has left"]);
    let done = finish(child);
    assert_eq!(done.lines().len(), 100);
    let workers = up.run("--output json workers").json();
    assert_eq!(workers["workers"].as_array().unwrap().len(), 1, "{workers}");
    let done = up.run("worker drain w7");
    assert!(
        done.code == Some(2) && done.stderr.contains("there is no worker w7"),
        "{done:?}"
    );
}
