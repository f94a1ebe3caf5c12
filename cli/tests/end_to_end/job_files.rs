//! Files of jobs: all of them or none, in the order in which they wait for each other.

use rustix::process::Signal;

use crate::command::{eventually, finish, run, send};
use crate::up::Up;

fn with_file(up: &Up, line: &str, text: &str) -> std::process::Command {
    let path = up.file("jobs.toml", text);
    let mut command = up.command(line);
    command.arg(path);
    command
}

/// All jobs, oldest first.
fn jobs(up: &Up) -> Vec<serde_json::Value> {
    let mut document = up.run("--output json jobs --all").json();
    let mut jobs: Vec<serde_json::Value> = document["jobs"].as_array_mut().unwrap().drain(..).collect();
    jobs.sort_by_key(|job| job["id"].as_u64());
    jobs
}

#[test]
fn jobs_of_a_file_run_in_the_order_in_which_they_wait_for_each_other() {
    let up = Up::start();
    let log = up.file("log", "");
    let text = format!(
        "[defaults]\nenv = {{ LOG = \"{}\" }}\n\
         [job.report]\ncommand = 'echo report >> \"$LOG\"'\nafterok = \"square\"\n\
         [job.square]\ncommand = ['sh', '-c', 'echo square{{}} >> \"$LOG\"']\narray = \"1-3\"\nat-most = 1\nafterok = \"prepare\"\n\
         [job.never]\ncommand = 'echo never >> \"$LOG\"'\nafternotok = \"prepare\"\n\
         [job.prepare]\ncommand = 'echo prepare >> \"$LOG\"'\n",
        log.display()
    );
    let done = run(with_file(&up, "run --file", &text));
    // the one that was for a failure was cancelled, which is the worst of the ends
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("job 1 is `prepare`"), "{done:?}");
    let mut lines: Vec<String> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines[1..4].sort_unstable();
    assert_eq!(lines, ["prepare", "square1", "square2", "square3", "report"]);
    let states: Vec<(String, String)> = jobs(&up)
        .iter()
        .map(|job| {
            (
                job["name"].as_str().unwrap().to_owned(),
                job["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let state = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(
        states,
        [
            state("prepare", "succeeded"),
            state("square", "succeeded"),
            state("report", "succeeded"),
            state("never", "cancelled"),
        ]
    );
}

#[test]
fn jobs_of_a_file_that_are_over_before_all_are_let_go_are_no_mistake() {
    let up = Up::start();
    let mut text = "[job.prepare]\ncommand = ['true']\n".to_owned();
    for number in 0..60 {
        // each is cancelled as soon as the first has succeeded
        text += &format!("[job.never{number}]\ncommand = ['true']\nafternotok = 'prepare'\n");
    }
    let done = run(with_file(&up, "run --file", &text));
    assert_eq!(done.code, Some(4), "{done:?}");
    let states = jobs(&up);
    let cancelled = states.iter().filter(|job| job["state"] == "cancelled");
    assert_eq!(
        (cancelled.count(), &states[0]["state"]),
        (60, &"succeeded".into())
    );
}

#[test]
fn no_job_of_a_file_starts_unless_all_are_accepted() {
    let up = Up::start();
    let mark = up.file("mark", "");
    let text = format!(
        "[job.first]\ncommand = 'echo ran >> {0}'\n[job.second]\ncommand = 'echo ran >> {0}'\nafterany = 'first'\n\
         [job.huge]\ncommand = ['true']\ncpus = 1000\nafterok = 'first'\n",
        mark.display()
    );
    let done = run(with_file(&up, "submit --file", &text));
    assert_eq!(done.code, Some(5), "{done:?}");
    assert_eq!(done.stdout, "");
    let expected = "error: the job `huge` of the file: the job cannot ever start: each task needs 1000 cpus";
    assert!(done.stderr.starts_with(expected), "{done:?}");
    let expected = "\n  no job of the file has started; those submitted before it are cancelled\n";
    assert!(done.stderr.contains(expected), "{done:?}");
    let states: Vec<serde_json::Value> = jobs(&up).iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
    // had one of them been let go, it would have run before a job that came later
    assert_eq!(up.run("run true").code, Some(0));
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "");
}

#[test]
fn submitted_jobs_of_a_file_are_listed_and_go_on_unless_their_table_holds_them() {
    let up = Up::start();
    let text = "[job.held]\ncommand = ['true']\nhold = true\n[job.free]\ncommand = ['true']\n";
    let done = run(with_file(&up, "--output json submit --file", text)).json();
    assert_eq!(
        done["submitted_jobs"],
        serde_json::json!([{"name": "held", "job": 1}, {"name": "free", "job": 2}])
    );
    assert_eq!(up.run("wait 2").code, Some(0));
    assert!(up.run("explain 1").stdout.contains("held"));
    let done = run(with_file(
        &up,
        "submit --file",
        "[job.next]\ncommand = ['true']\nafterok = 2\n",
    ));
    assert_eq!(done.lines(), ["3 next"]);
    assert_eq!(up.run("wait 3").code, Some(0));
}

#[test]
fn an_interrupted_run_cancels_all_jobs_of_its_file() {
    let up = Up::start();
    let mark = up.file("mark", "");
    let text = format!(
        "[job.long]\ncommand = 'echo began >> {0}; sleep 1000'\n[job.then]\ncommand = 'echo then >> {0}'\nafterany = 'long'\n",
        mark.display()
    );
    let child = with_file(&up, "run --file", &text).spawn().unwrap();
    eventually("it runs", || std::fs::read_to_string(&mark).unwrap() == "began\n");
    send(child.id(), Signal::INT);
    assert_eq!(finish(child).code, Some(4));
    let states: Vec<serde_json::Value> = jobs(&up).iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "began\n");
}

#[test]
fn a_dry_run_needs_no_cluster_and_says_what_would_be_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    let text = "[job.report]\ncommand = 'cat out.txt'\nafterok = 'train'\n\
                [job.train]\ncommand = ['python', 'train.py']\narray = '0-9'\ncpus = 2\nafterany = 12\n";
    std::fs::write(&path, text).unwrap();
    let mut command = crate::command::phalanx();
    command
        .env("PHALANX_CLUSTER", folder.path().join("nowhere"))
        .args(["submit", "--dry-run", "--file"])
        .arg(&path);
    let done = run(command);
    assert_eq!(
        done.lines(),
        [
            "NAME    TASKS  EACH NEEDS  WAITS FOR      RUNS",
            "train      10  2 cpus      afterany 12    python train.py",
            "report      1  1 cpu       afterok train  sh -c cat out.txt",
        ]
    );
    let mut command = crate::command::phalanx();
    command.args([
        "--output",
        "json",
        "submit",
        "--dry-run",
        "--memory",
        "1G",
        "true",
    ]);
    let document = run(command).json();
    assert_eq!(
        document["would_submit"],
        serde_json::json!([{
            "name": "true", "runs": "true", "tasks": 1,
            "request": {"cpus": 1, "memory_bytes": 1 << 30, "named": {}}, "waits_for": [],
        }])
    );
}

#[test]
fn jobs_wait_for_others_by_options_too() {
    let up = Up::start();
    let first = run(up.command("submit --hold true")).lines()[0].to_owned();
    let second = run(up.command(&format!("submit --afterok {first} true"))).lines()[0].to_owned();
    let never =
        run(up.command(&format!("submit --afternotok {first} --cancel-if-never true"))).lines()[0].to_owned();
    assert!(up.run(&format!("explain {first}")).stdout.contains("held"));
    assert_eq!(up.run(&format!("release {first}")).code, Some(0));
    assert_eq!(up.run(&format!("wait {first} {second}")).code, Some(0));
    assert_eq!(up.run(&format!("wait {never}")).code, Some(4));
    let done = up.run("submit --afterok 77 true");
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
}

#[test]
fn a_graph_shows_a_file_and_then_its_jobs_with_their_states_also_once_they_are_over() {
    let up = Up::start();
    let text = "[job.first]\ncommand = ['true']\n[job.second]\ncommand = ['false']\nafterok = 'first'\n\
                [job.third]\ncommand = ['true']\nafterok = 'second'\nafterany = 'first'\n";
    let drawn = run(with_file(&up, "graph", text));
    assert_eq!(
        drawn.lines(),
        [
            "○   first   1 task",
            "├─╮",
            "│ ○ second  1 task  afterok first",
            "├─╯",
            "○   third   1 task  afterany first, afterok second",
        ]
    );
    assert_eq!(run(up.command("submit --hold true")).lines(), ["1"]);
    let submitted = run(with_file(&up, "submit --file", text));
    assert_eq!(submitted.lines(), ["2 first", "3 second", "4 third"]);
    assert_eq!(up.run("wait 3").code, Some(1));
    eventually("it is known that the last one never runs", || {
        up.run("graph 3").stdout.contains("cannot come to pass")
    });
    assert_eq!(
        up.run("graph 3").lines(),
        [
            "●   2 first   succeeded  1 task",
            "├─╮",
            "│ ● 3 second  failed     1 task  afterok 2 first",
            "├─╯",
            "○   4 third   waiting    1 task  afterany 2 first, afterok 3 second, what it waits for cannot come to pass",
        ]
    );
    assert_eq!(up.run("graph 1").lines(), ["○ 1 true  waiting  1 task  held"]);
    assert!(
        run(up.command("graph 2 --format dot"))
            .stdout
            .contains("n1 -> n2 [label=\"afterok\"];")
    );
    let none = up.run("graph 77");
    assert_eq!((none.code, none.stdout.as_str()), (Some(2), ""), "{none:?}");
}

#[test]
fn a_file_of_jobs_that_is_taken_for_a_program_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jobs.toml"), "[job.a]\ncommand = ['true']\n").unwrap();
    let mut command = crate::command::phalanx();
    command.args(["submit", "jobs.toml"]).current_dir(folder.path());
    let done = run(command);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            Some(2),
            "error: `jobs.toml` is no program\n\nhint: a file of jobs is given by --file jobs.toml\n"
        )
    );
}
