//! Programs and scripts as jobs: what they print, how they end, what they find around them.

use std::io::Read;

use rustix::process::Signal;

use crate::command::{eventually, finish, is_alive, run, send};
use crate::up::Up;

/// The command with words of any kind behind it.
fn with(up: &Up, line: &str, words: &[&str]) -> std::process::Command {
    let mut command = up.command(line);
    command.args(words);
    command
}

#[test]
fn run_passes_on_what_a_program_prints_and_how_it_ends() {
    let up = Up::start();
    let done = run(with(&up, "run -- sh -c", &["echo out; echo err >&2; exit 7"]));
    assert_eq!(
        (done.code, done.stdout.as_str(), done.errors().as_str()),
        (Some(7), "out\n", "err\n")
    );
    let done = run(with(&up, "run -- sh -c", &["kill -SEGV $$"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(139), ""));
    assert!(done.stderr.contains("killed by signal 11 (SIGSEGV)"), "{done:?}");
    let done = up.run("run no-such-program");
    assert_eq!(done.code, Some(127));
    assert_eq!(
        done.errors(),
        "error: there is no program `no-such-program` on this worker\n"
    );
    // a progress bar or a summary would be in the way of what it prints
    let done = up.run("run true");
    assert_eq!(
        (done.code, done.errors() + &done.stdout),
        (Some(0), String::new())
    );
}

#[test]
fn output_is_seen_while_the_program_still_runs() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "echo first; while [ -e {} ]; do sleep 0.05; done; echo second",
        gate.display()
    );
    let submitted = run(with(&up, "submit -- sh -c", &[&script]));
    let id = submitted.lines()[0].to_owned();
    eventually("the first line is there", || {
        up.run(&format!("logs {id}.0")).stdout == "first\n"
    });
    let follower = up.command(&format!("logs {id} --follow")).spawn().unwrap();
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(finish(follower).lines(), ["first", "second"]);
    assert_eq!(up.run(&format!("logs {id}")).lines(), ["first", "second"]);
}

#[test]
fn tasks_are_cancelled_while_they_run_and_before_and_the_others_go_on() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "echo n{{}}; while [ -e {} ]; do sleep 0.05; done; echo end{{}}",
        gate.display()
    );
    let id = run(with(&up, "submit --array 0-4 -- sh -c", &[&script])).lines()[0].to_owned();
    let printed = |task: u64| up.run(&format!("logs {id}.{task}")).stdout;
    eventually("two run", || printed(0) == "n0\n" && printed(1) == "n1\n");
    let done = up.run(&format!("cancel {id}.1 {id}.3-4"));
    assert_eq!(done.lines(), [format!("job {id}: 3 tasks are cancelled")]);
    eventually("another one runs in its place", || printed(2) == "n2\n");
    let again = up.run(&format!("cancel {id}.4"));
    assert_eq!(
        again.lines(),
        [format!("job {id}: 1 task, but it had ended already")]
    );
    let beyond = up.run(&format!("cancel {id}.7"));
    assert_eq!(beyond.code, Some(2));
    assert_eq!(
        beyond.stderr,
        format!("error: there is no task {id}.7: {id} has 5, 0 to 4\n")
    );
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(4));
    let job = up.job(&id);
    assert_eq!(
        (&job["state"], &job["done"], &job["failed"], &job["cancelled"]),
        (&"cancelled".into(), &2.into(), &0.into(), &3.into())
    );
    assert_eq!(printed(0) + &printed(1) + &printed(2), "n0\nend0\nn1\nn2\nend2\n");
    assert_eq!(printed(3) + &printed(4), "");
}

#[test]
fn a_task_may_requeue_itself_and_anybody_a_job_that_runs_or_is_over() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "echo r$PHALANX_RESTART_COUNT
         if [ $PHALANX_RESTART_COUNT = 0 ]; then
             PHALANX_CLUSTER={} {} requeue $PHALANX_TASK_ID >&2; sleep 1000
         fi
         while [ -e {} ]; do sleep 0.05; done
         echo end",
        up.directory().display(),
        env!("CARGO_BIN_EXE_phalanx"),
        gate.display()
    );
    let id = run(with(&up, "submit -- sh -c", &[&script])).lines()[0].to_owned();
    let printed = || up.run(&format!("logs {id}")).stdout;
    eventually("it has requeued itself", || printed() == "r1\n");
    let done = up.run(&format!("requeue {id}"));
    assert_eq!(done.lines(), [format!("job {id}: 1 task starts from the top")]);
    eventually("it runs once more", || printed() == "r2\n");
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(printed(), "r2\nend\n");
    let done = up.run(&format!("requeue {id}.0"));
    assert_eq!(done.lines(), [format!("job {id}: 1 task starts from the top")]);
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(printed(), "r3\nend\n");
    let job = up.job(&id);
    assert_eq!((&job["done"], &job["failed"]), (&1.into(), &0.into()));
    let none = up.run(&format!("requeue {id}.1"));
    assert_eq!(none.code, Some(2));
    assert_eq!(
        none.stderr,
        format!("error: there is no task {id}.1: {id} has one, 0\n")
    );
    let done = up.run(&format!("--output json requeue {id}"));
    assert_eq!(done.json()["requeued"][0]["tasks"], 1);
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
}

#[test]
fn a_followed_task_is_followed_to_its_own_end() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "echo n{{}}; while [ {{}} = 0 ] && [ -e {} ]; do sleep 0.05; done",
        gate.display()
    );
    let id = run(with(&up, "submit --array 0-1 -- sh -c", &[&script])).lines()[0].to_owned();
    assert_eq!(up.run(&format!("logs {id}.1 --follow")).lines(), ["n1"]);
    eventually("the other one still runs", || up.job(&id)["done"] == 1);
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
}

#[test]
fn each_task_of_an_array_gets_its_number_and_each_line_its_text() {
    let up = Up::start();
    let done = up.run("run --array 1,4-8:2 --at-most 1 -- echo n{}");
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["n1", "n4", "n6", "n8"]);
    let texts = up.file("texts", "a b\n\n$(id)\n");
    let mut command = up.command("run --each-line");
    command.arg(&texts).args(["--", "printf", "%s|\\n", "<{}>"]);
    let done = run(command);
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["<$(id)>|", "<>|", "<a b>|"]);
    let list = up.file("list.json", "[1, {\"a\": \"b\"},\n \"c\"]");
    let mut command = up.command("run --from-json");
    command.arg(&list).args(["--", "echo"]);
    let done = run(command);
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["\"c\"", "1", "{\"a\": \"b\"}"]);
}

#[test]
fn a_script_is_run_as_it_was_when_it_was_submitted() {
    let up = Up::start();
    let text =
        "#!/bin/bash\necho \"$1 in $PWD with $GREETING, umask $(umask), number $PHALANX_ARRAY_TASK_ID\"\n";
    let script = up.file("job.sh", text);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/%A-%a.txt");
    let mut command = up.command("submit --array 3 --env GREETING=hello --chdir");
    command
        .arg(folder.path())
        .arg("--stdout")
        .arg(&out)
        .arg(&script)
        .arg("one");
    let id = run(command).lines()[0].to_owned();
    std::fs::write(&script, "#!/bin/false\n").unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let mask = std::process::Command::new("sh")
        .args(["-c", "umask"])
        .output()
        .unwrap()
        .stdout;
    let printed = std::fs::read_to_string(folder.path().join(format!("new/{id}-3.txt"))).unwrap();
    let expected = format!(
        "one in {} with hello, umask {}, number 3\n",
        folder.path().display(),
        String::from_utf8(mask).unwrap().trim()
    );
    assert_eq!(printed, expected);
    // two jobs on one host: the second does not lose its script to the end of the first
    for _ in 0..3 {
        std::fs::write(&script, "#!/bin/sh\necho again\n").unwrap();
        let mut command = up.command("run");
        command.arg(&script);
        assert_eq!(run(command).lines(), ["again"]);
    }
}

#[test]
fn programs_of_a_killed_worker_are_killed_and_run_elsewhere() {
    let up = Up::start();
    let pids = up.file("pids", "");
    let gate = up.file("gate", "");
    let script = format!(
        "echo $PHALANX_WORKER $$ >> {}; while [ -e {} ]; do sleep 0.05; done; echo done",
        pids.display(),
        gate.display()
    );
    let id = run(with(&up, "submit -- sh -c", &[&script])).lines()[0].to_owned();
    let started = || std::fs::read_to_string(&pids).unwrap();
    eventually("it is started", || started().lines().count() == 1);
    let first = started();
    let (worker, pid) = first.trim().split_once(' ').unwrap();
    let number: usize = worker.rsplit('-').next().unwrap().parse().unwrap();
    send(up.worker_pids()[number - 1], Signal::KILL);
    eventually("it is dead", || !is_alive(pid.parse().unwrap()));
    eventually("it is started again", || started().lines().count() == 2);
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(up.run(&format!("logs {id}")).lines(), ["done"]);
}

#[test]
fn a_task_over_its_time_limit_is_told_then_killed_and_the_others_go_on() {
    let up = Up::start();
    let script =
        "trap 'echo ignored' TERM; if [ {} = 1 ]; then while :; do sleep 0.05; done; else echo fine; fi";
    let done = run(with(
        &up,
        "run --array 0-2 --task-time-limit 10s --grace 5s -- sh -c",
        &[script],
    ));
    assert_eq!(done.code, Some(1), "{done:?}");
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["fine", "fine", "ignored"]);
    assert!(
        done.stderr.contains("1.1 timed out: ran longer than 10 s"),
        "{done:?}"
    );
}

#[test]
fn a_program_that_uses_more_memory_than_it_asked_for_is_ended_alone() {
    let up = Up::start();
    // a string that stays there until somebody looks
    let script =
        "if [ {} = 1 ]; then x=$(head -c 100M /dev/zero | tr '\\0' x); sleep 1000; else echo fine; fi";
    let done = run(with(&up, "run --array 0-2 --memory 64M -- sh -c", &[script]));
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(1), "fine\nfine\n"),
        "{done:?}"
    );
    assert!(done.stderr.contains("1.1 out of memory: used "), "{done:?}");
}

#[test]
fn a_gibibyte_of_output_passes_through_and_no_process_holds_it() {
    let up = Up::start();
    let id = up.run("submit -- head -c 1G /dev/zero").lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let mut reader = up.command(&format!("logs {id}")).spawn().unwrap();
    let mut stdout = reader.stdout.take().unwrap();
    let (mut read, mut peak, mut buffer) = (0, 0, vec![0; 1 << 20]);
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        read += count;
        // it is there until the last of it was read
        peak = peak_bytes(reader.id()).unwrap_or(peak);
    }
    assert_eq!((reader.wait().unwrap().code(), read), (Some(0), 1 << 30));
    let others = up.worker_pids().into_iter().chain(up.scheduler_pids());
    let peaks: Vec<u64> = others.map(|pid| peak_bytes(pid).unwrap()).chain([peak]).collect();
    assert!(
        peaks.iter().all(|peak| (1..128 << 20).contains(peak)),
        "{peaks:?}"
    );
}

/// The most memory that a process has had; none if it has ended.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

#[test]
fn mistakes_in_commands_are_told() {
    let up = Up::start();
    let told = |line: &str| up.run(line).stderr;
    assert!(told("run --array 5-1 -- echo").contains("the range `5-1` ends before it begins"));
    assert!(told("run --range 0..5 echo").contains("--kernel"));
    assert!(told("run --each-line /no/such -- echo").contains("cannot read the inputs `/no/such`"));
    assert!(told("run --chdir /no/such -- echo").contains("its working directory `/no/such` is not there"));
    assert!(told("run --env =x -- echo").contains("names no variable"));
    let kernel = up.submit("--kernel square --range 0..4");
    assert!(told(&format!("logs {kernel}")).contains("calls a kernel, and keeps no output"));
    let id = up.run("submit -- echo").lines()[0].to_owned();
    assert!(told(&format!("results {id}")).contains(&format!("`phalanx logs {id}`")));
    assert!(told(&format!("logs {kernel}.x")).contains("`x` is not a job id"));
}

#[test]
fn a_program_is_told_by_a_signal_before_its_time_is_over() {
    let up = Up::start();
    let script = "trap 'echo told; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    let done = run(with(
        &up,
        "run --task-time-limit 60s --signal USR1@50 -- sh -c",
        &[script],
    ));
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), "ready\ntold\n"));
    let done = up.run("run --signal USR1@59 true");
    assert_eq!(done.code, Some(2), "a signal is before a limit: {done:?}");
}

#[test]
fn a_signal_reaches_the_tasks_that_are_named_and_they_go_on() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "trap 'echo told' USR1; echo ready; while [ -e {} ]; do sleep 0.05; done",
        gate.display()
    );
    let id = run(with(&up, "submit --array 0-1 -- sh -c", &[&script])).lines()[0].to_owned();
    let wrote = |task: u32| up.run(&format!("logs {id}.{task}")).stdout;
    eventually("both run", || (0..2).all(|task| wrote(task).contains("ready")));
    let sent = up.run(&format!("signal USR1 {id}.1"));
    let said = format!("job {id}: what runs of these tasks was sent SIGUSR1\n");
    assert_eq!((sent.code, sent.stderr), (Some(0), said));
    eventually("it is told", || wrote(1).contains("told"));
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    assert!(!wrote(0).contains("told"));
    let over = up.run(&format!("signal USR1 {id}"));
    assert!(over.stderr.contains("is over"), "{over:?}");
    let held = up.run("submit --hold true").lines()[0].to_owned();
    let waits = up.run(&format!("signal 15 {held}"));
    let said = format!("no signal was sent: no task of job {held} runs now");
    assert!(waits.code == Some(2) && waits.stderr.contains(&said), "{waits:?}");
    let kernel = up.submit("--kernel square --range 0..4 --hold");
    let refused = up.run(&format!("signal 15 {kernel}"));
    assert!(
        refused.stderr.contains("runs kernels, which take no signals"),
        "{refused:?}"
    );
}

#[test]
fn a_program_reads_what_its_run_is_given_to_read() {
    let up = Up::start();
    let text: String = (0..300_000).map(|number| format!("line {number}\n")).collect();
    let path = up.file("input", &text);
    let mut command = with(&up, "run -- sh -c", &["cksum; wc -c < /dev/stdin; echo end"]);
    command.stdin(std::fs::File::open(&path).unwrap());
    let expected = std::process::Command::new("cksum")
        .stdin(std::fs::File::open(&path).unwrap())
        .output()
        .unwrap();
    let expected = format!("{}0\nend\n", String::from_utf8(expected.stdout).unwrap());
    let done = run(command);
    assert_eq!((done.code, done.stdout), (Some(0), expected));
    // the null device has nothing, and a file that is named goes before
    assert_eq!(up.run("run cat").stdout, "");
    let mut command = with(
        &up,
        "run --stdin",
        &[path.to_str().unwrap(), "--", "head", "-n", "1"],
    );
    command.stdin(std::process::Stdio::piped());
    assert_eq!(run(command).lines(), ["line 0"]);
}

#[test]
fn what_is_typed_reaches_the_program_while_it_runs() {
    use std::io::{BufRead, BufReader, Write};

    let up = Up::start();
    let mut command = with(
        &up,
        "run -- sh -c",
        &["while read -r line; do echo \"got $line\"; done; echo over"],
    );
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("got {word}\n"));
    }
    drop(stdin);
    let mut rest = String::new();
    stdout.read_line(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("over\n", Some(0)));
}

#[test]
fn a_program_that_reads_nothing_is_not_waited_for_to_do_so() {
    let up = Up::start();
    let mut command = up.command("run -- sh -c");
    command.arg("exit 5").stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // held open: nobody writes, and nobody ends it
    let stdin = child.stdin.take().unwrap();
    assert_eq!(finish(child).code, Some(5));
    drop(stdin);
}

#[test]
fn a_task_that_is_run_again_reads_its_input_again() {
    let up = Up::start();
    let mark = up.file("mark", "");
    let script = format!(
        "wc -l; [ -s {0} ] || {{ echo ran >> {0}; exit 1; }}",
        mark.display()
    );
    let input = up.file("input", "a\nb\nc\n");
    let mut command = with(&up, "run --retries 1 --backoff 10ms -- sh -c", &[&script]);
    command.stdin(std::fs::File::open(input).unwrap());
    let done = run(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.lines().last().map(str::trim), Some("3"), "{done:?}");
}
