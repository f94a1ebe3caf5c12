//! Jobs that go well: run, submitted, waited for, read, listed.

use serde_json::json;

use crate::command::{eventually, login, run};
use crate::up::Up;

#[test]
fn run_prints_results_in_order_and_a_summary_beside_them() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel square --range 5..105");
    let expected: Vec<String> = (5_u64..105).map(|number| (number * number).to_string()).collect();
    assert_eq!(done.lines(), expected);
    assert!(
        done.errors().starts_with("job 1 succeeded: 100 tasks in "),
        "{done:?}"
    );
    assert_eq!(done.errors().lines().count(), 1, "{done:?}");

    let done = up.run("--output json run PROGRAM -k square -r 5..7");
    let lines: Vec<serde_json::Value> = done
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            json!({"version": 1, "index": 0, "value": 25}),
            json!({"version": 1, "index": 1, "value": 36}),
        ]
    );
}

#[test]
fn inputs_are_lines_of_json() {
    let up = Up::start();
    let path = up.file("in.jsonl", "\"a\"\n\"b\\u00e9\"\n\"\"");
    let mut command = up.command("run PROGRAM --kernel text --inputs");
    command.arg(&path);
    assert_eq!(run(command).lines(), ["1", "2", "0"]);
    let empty = up.file("empty.jsonl", "");
    let mut command = up.command("run PROGRAM --kernel text --inputs");
    command.arg(&empty);
    let none: [&str; 0] = [];
    assert_eq!(run(command).lines(), none);
}

#[test]
fn reduced_results_are_values_of_ranges() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel square --range 0..1000 --reduce");
    let mut sum = 0;
    for line in done.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["range"].is_string(), "{value}");
        sum += value["value"].as_u64().unwrap();
    }
    assert_eq!(sum, (0..1000_u64).map(|number| number * number).sum::<u64>());
}

#[test]
fn large_results_and_no_results_arrive() {
    let up = Up::start();
    let done = up.run("run PROGRAM --kernel big --range 50000..50020");
    let lengths: Vec<usize> = done
        .lines()
        .into_iter()
        .map(|line| serde_json::from_str::<Vec<u8>>(line).unwrap().len())
        .collect();
    assert_eq!(lengths, (50_000..50_020).collect::<Vec<_>>());
    let done = up.run("run PROGRAM --kernel nothing --range 0..1000000");
    assert_eq!(done.lines().len(), 0);
    assert!(done.stderr.contains("succeeded: 1,000,000 tasks"), "{done:?}");
}

#[test]
fn a_submitted_job_can_be_waited_for_shown_and_read_again() {
    let up = Up::start();
    let id = up.submit("--kernel square --range 0..10 --name evening --priority 3");
    let done = up.run(&format!("wait {id}"));
    assert!(
        done.lines()[0].starts_with(&format!("job {id} succeeded: 10 tasks")),
        "{done:?}"
    );
    for _ in 0..2 {
        let done = up.run(&format!("results {id}"));
        assert_eq!(done.lines().last(), Some(&"81"));
    }
    let mut completed: Vec<u64> = up
        .run(&format!("results {id} --as-completed"))
        .lines()
        .into_iter()
        .map(|line| line.parse().unwrap())
        .collect();
    completed.sort_unstable();
    assert_eq!(
        completed,
        (0..10).map(|number| number * number).collect::<Vec<u64>>()
    );

    let job = up.job(&id);
    assert_eq!((&job["name"], &job["priority"]), (&json!("evening"), &json!(3)));
    assert_eq!((&job["state"], &job["done"]), (&json!("succeeded"), &json!(10)));
    assert_eq!(job["user"], login());
    let text = up.run(&format!("job {id}"));
    assert!(text.stdout.contains("  tasks      10 of 10 done\n"), "{text:?}");

    let done = up.run("jobs");
    let lines = done.lines();
    assert!(
        lines[0].contains("NAME") && lines[1].contains("evening"),
        "{done:?}"
    );
    assert_eq!(up.run("jobs --state failed").stdout, "");
    assert_eq!(up.run("--output json jobs --user eve").json()["jobs"], json!([]));
    assert_eq!(
        up.run("--output json jobs --all").json()["jobs"][0]["id"].to_string(),
        id
    );

    let done = up.run(&format!("explain {id}"));
    assert!(
        done.lines()[0].starts_with(&format!("job {id} succeeded: 10 tasks")),
        "{done:?}"
    );
}

#[test]
fn a_jobs_results_outlive_the_cluster() {
    let up = Up::start();
    let id = up.submit("--kernel square --range 0..10");
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let (code, folder) = up.stop();
    assert_eq!(code, Some(0));
    let up = Up::start_in(folder);
    assert_eq!(up.run(&format!("results {id}")).lines().last(), Some(&"81"));
    assert_ne!(up.submit("--kernel square --range 0..1"), id);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let up = Up::start();
    let id = up.submit("--kernel square --range 0..200000");
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let mut child = up.command(&format!("results {id}")).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = child.stderr.take().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_task_says_why_it_waits_while_another_of_its_job_runs() {
    let up = Up::start();
    let job = up.run("submit --array 0-3%1 -- sleep 1000").lines()[0].to_owned();
    let explained = |of: &str| up.run(&format!("explain {job}{of}"));
    eventually("its first task runs", || {
        explained(".0")
            .stdout
            .starts_with(&format!("task {job}.0 is running on worker "))
    });
    let waits = "waits: the job allows no more than 1 at a time.";
    assert_eq!(explained(".3").lines()[0], format!("task {job}.3 {waits}"));
    let of_job = explained("");
    let (runs, idle) = of_job.lines()[0].split_once(": 1. ").unwrap();
    assert_eq!(
        runs,
        format!("job {job} runs as many of its tasks at a time as it allows")
    );
    assert!(
        idle.contains("wait: the job allows no more than 1 at a time."),
        "{of_job:?}"
    );
    let document = up.run(&format!("--output json explain {job}.3")).json();
    let told = &document["explanation"];
    assert_eq!(told["task"], json!({"index": 3, "state": "waiting"}));
    assert_eq!(told["idle"][0]["verdict"], "slots_max");
    for (wrong, why) in [
        (".9", format!("job {job} has no task 9: it has 4")),
        (".0-1", "one task is explained at a time".to_owned()),
    ] {
        let refused = explained(wrong);
        assert!(
            refused.code == Some(2) && refused.stderr.contains(&why),
            "{refused:?}"
        );
    }
    assert_eq!(up.run(&format!("cancel {job}")).code, Some(0));
}
