//! Schedulers that die or sleep while a job runs: nobody loses anything, and the job ends as if nothing had been.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{DEADLINE, driver, eventually, finish, lines, run, send};
use crate::desk::Desk;
use crate::up::Up;

const JOB: &str = "run PROGRAM --kernel slow --range 0..300 --parameters 20";

fn expected() -> Vec<String> {
    numbers(300)
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn is_half_way(up: &Up, id: &str) -> bool {
    up.job_is_there(id) && up.job(id)["done"].as_u64().unwrap() > 20
}

/// Waits until another process than this one says that it leads.
pub(crate) fn another_leads(up: &Up, old: u32) -> u32 {
    let mut leader = None;
    eventually("another scheduler leads", || {
        leader = up.leaders().last().map(|&(_, pid)| pid).filter(|&pid| pid != old);
        leader.is_some()
    });
    leader.unwrap()
}

/// Has `phalanx up` start nothing again until this is dropped.
struct Abandoned(u32);

impl Abandoned {
    fn by(up: &Up) -> Self {
        send(up.pid(), Signal::STOP);
        Self(up.pid())
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.0).unwrap_or(0)) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

#[test]
fn a_killed_scheduler_is_started_again_and_the_job_goes_on() {
    let up = Up::start();
    let child = up.command(JOB).spawn().unwrap();
    eventually("the job is half way", || is_half_way(&up, "1"));
    send(up.scheduler_pid(), Signal::KILL);
    let done = finish(child);
    assert_eq!(done.lines(), expected());
    up.hears(" ended (signal: 9 (SIGKILL)); it is started again");
    up.hears(" is back (process ");
}

#[test]
fn a_standby_leads_soon_after_the_leaders_death() {
    let up = Up::start_with_standby();
    let child = up.command(JOB).spawn().unwrap();
    eventually("the job is half way", || is_half_way(&up, "1"));
    let old = up.scheduler_pid();
    let abandoned = Abandoned::by(&up);
    let killed = Instant::now();
    send(old, Signal::KILL);
    let new = another_leads(&up, old);
    let took = killed.elapsed();
    drop(abandoned);
    assert!(
        up.scheduler_pids().contains(&new),
        "the standby, not the one started again"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    let done = finish(child);
    assert_eq!(done.lines(), expected());
}

#[test]
fn a_user_who_waits_and_a_program_that_reads_results_in_order_notice_only_a_pause() {
    let up = Up::start_with_standby();
    let mut reads = driver();
    reads.arg("in_order").env("PHALANX_CLUSTER", up.directory());
    let reads = reads.spawn().unwrap();
    eventually("its job is there", || up.job_is_there("1"));
    let id = up.submit("--kernel slow --range 0..600 --parameters 20");
    let waits = up.command(&format!("wait {id}")).spawn().unwrap();
    eventually("the older job is half way", || is_half_way(&up, "1"));
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    let new = another_leads(&up, old);
    for id in ["1", &id] {
        let outcome = &up.job(id)["state"];
        assert!(
            outcome != "succeeded",
            "job {id} was over before the new leader led"
        );
    }
    let read = finish(reads);
    assert_eq!(read.lines(), numbers(600));
    let longest: u64 = read.stderr.trim().parse().expect("nothing but the longest wait");
    assert!(longest < 10_000, "{longest} ms");
    let waited = finish(waits);
    assert_eq!((waited.code, waited.stderr.as_str()), (Some(0), ""));
    assert_eq!(up.run(&format!("results {id}")).lines(), numbers(600));
    assert!(up.leaders().iter().any(|&(_, pid)| pid == new));
}

#[test]
fn a_leader_that_slept_through_its_deposition_changes_nothing() {
    let up = Up::start_with_standby();
    let child = up.command(JOB).spawn().unwrap();
    eventually("the job is half way", || is_half_way(&up, "1"));
    let old = up.scheduler_pid();
    let stopped = Instant::now();
    send(old, Signal::STOP);
    let new = another_leads(&up, old);
    assert!(
        stopped.elapsed() < Duration::from_secs(15),
        "{:?}",
        stopped.elapsed()
    );
    // what the new one accepts and finishes, the old one knows nothing of
    let done = up.run("run PROGRAM --kernel square --range 0..5");
    assert_eq!(done.lines(), ["0", "1", "4", "9", "16"]);
    send(old, Signal::CONT);
    let woken = Instant::now();
    eventually("the old one stands by", || up.leaders().len() == 1);
    assert!(woken.elapsed() < Duration::from_secs(10), "{:?}", woken.elapsed());
    assert_eq!(up.leaders()[0].1, new);
    let done = finish(child);
    assert_eq!(done.lines(), expected());
    let jobs = up.run("--output json jobs --all").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
    // and it can lead again
    let abandoned = Abandoned::by(&up);
    send(new, Signal::KILL);
    assert_eq!(another_leads(&up, new), old);
    drop(abandoned);
    let done = up.run("results 1");
    assert_eq!(done.lines(), expected());
}

#[test]
fn a_gang_of_which_some_ranks_have_ended_goes_on_under_the_next_leader_and_ends_once() {
    let arguments = ["--workers", "1", "--cpus", "4", "--schedulers", "2"];
    let up = Up::start_equipped(&arguments);
    let (starts, gate) = (up.file("starts", ""), up.file("gate", ""));
    std::fs::remove_file(&gate).unwrap();
    let script = format!(
        "echo $PHALANX_RANK $PHALANX_EPOCH >> {}\n[ $PHALANX_RANK -lt 2 ] || while [ ! -e {} ]; do sleep 0.05; done\n\
         echo rank $PHALANX_RANK has ended\n",
        starts.display(),
        gate.display()
    );
    let script = up.file("rank.sh", &script);
    let submitted = up.run(&format!("submit --ranks 4 -- sh {}", script.display()));
    let job = submitted.lines()[0].to_owned();
    eventually("half of the ranks have ended", || up.job(&job)["done"] == 2);
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    another_leads(&up, old);
    assert_eq!(up.job(&job)["done"], 2);
    std::fs::write(&gate, "").unwrap();
    let waited = up.run(&format!("wait {job}"));
    assert_eq!(waited.code, Some(0), "{waited:?}");
    assert_eq!(
        (&up.job(&job)["done"], &up.job(&job)["failed"]),
        (&4.into(), &0.into())
    );
    let started = std::fs::read_to_string(&starts).unwrap();
    let mut started: Vec<&str> = started.lines().collect();
    started.sort_unstable();
    assert_eq!(
        started,
        ["0 1", "1 1", "2 1", "3 1"],
        "each rank ran once, in one epoch"
    );
    let printed = up.run(&format!("logs {job}")).stdout;
    for rank in 0..4 {
        let line = format!("rank {rank} has ended");
        assert_eq!(printed.matches(&line).count(), 1, "{printed}");
    }
}

/// A shell's words that wait for a file.
fn until_there(path: &std::path::Path) -> String {
    format!("while [ ! -e {} ]; do sleep 0.02; done", path.display())
}

/// What a process prints, line by line, each of which has to come in time.
fn printed(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    std::iter::from_fn(move || match lines.recv_timeout(DEADLINE) {
        Ok(line) => Some(line),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
        Err(error) => panic!("no further line: {error}"),
    })
}

#[test]
fn input_and_output_of_a_program_survive_the_leader_whole_and_in_order() {
    let up = Up::start_with_standby();
    let got = up.file("got", "");
    let script = format!(
        "while read line; do echo got $line; echo $line >> {}; done",
        got.display()
    );
    let mut command = up.command("run -- sh -c");
    let mut child = command.arg(script).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut give = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| writeln!(input, "{number}").unwrap());
        input.flush().unwrap();
    };
    let has_got = |count: usize| std::fs::read_to_string(&got).unwrap().lines().count() == count;
    give(0..100);
    eventually("the program has read some of it", || has_got(100));
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    give(100..200);
    another_leads(&up, old);
    give(200..300);
    eventually("the program has read all of it", || has_got(300));
    drop(input);
    let done = finish(child);
    let expected: Vec<String> = (0..300).map(|number| format!("got {number}")).collect();
    assert_eq!(done.lines(), expected);
    assert_eq!(done.errors(), "");
}

#[test]
fn who_follows_the_log_of_a_program_reads_every_line_once() {
    let up = Up::start_with_standby();
    let gates = ["first", "second"].map(|name| up.directory().with_file_name(name));
    let script = format!(
        "seq 1 100; {}; seq 101 200; {}; seq 201 300",
        until_there(&gates[0]),
        until_there(&gates[1])
    );
    let mut command = up.command("submit -- sh -c");
    command.arg(script);
    let id = run(command).lines()[0].to_owned();
    let mut child = up.command(&format!("logs {id}.0 -f")).spawn().unwrap();
    let mut lines = printed(&mut child);
    let mut read: Vec<String> = lines.by_ref().take(100).collect();
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    std::fs::write(&gates[0], "").unwrap();
    another_leads(&up, old);
    std::fs::write(&gates[1], "").unwrap();
    read.extend(lines);
    let expected: Vec<String> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(read, expected);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_batch_script_that_is_waited_for_ends_with_its_own_status() {
    let up = Up::start_with_standby();
    let (begun, gate) = (
        up.directory().with_file_name("begun"),
        up.directory().with_file_name("gate"),
    );
    let desk = Desk::new(up.directory());
    let script = format!(
        "#!/bin/sh\n#SBATCH -o ran.out\ntouch {}\n{}\necho it ran\nexit 3\n",
        begun.display(),
        until_there(&gate)
    );
    desk.script("job.sh", &script);
    let child = desk.command(&["sbatch", "--wait", "job.sh"]).spawn().unwrap();
    eventually("the script runs", || begun.exists());
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    another_leads(&up, old);
    std::fs::write(&gate, "").unwrap();
    let done = finish(child);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), "Submitted batch job 1\n"),
        "{done:?}"
    );
    assert_eq!(desk.read("ran.out"), "it ran\n");
}

#[test]
fn elements_of_an_array_are_printed_as_they_end_each_once() {
    let arguments = ["--workers", "1", "--cpus", "8", "--schedulers", "2"];
    let up = Up::start_equipped(&arguments);
    let gates = up.directory().with_file_name("gates");
    std::fs::create_dir(&gates).unwrap();
    let gate = gates.join("$PHALANX_ARRAY_TASK_ID");
    let mut command = up.command("run --array 0-7 -- sh -c");
    command.arg(format!(
        "{}; echo element $PHALANX_ARRAY_TASK_ID",
        until_there(&gate)
    ));
    let mut child = command.spawn().unwrap();
    let mut lines = printed(&mut child);
    let mut ends = |element: u32| {
        std::fs::write(gates.join(element.to_string()), "").unwrap();
        assert_eq!(lines.next(), Some(format!("element {element}")));
    };
    [3, 0].into_iter().for_each(&mut ends);
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    // it ends while nobody leads
    ends(7);
    another_leads(&up, old);
    [1, 6, 2, 5, 4].into_iter().for_each(&mut ends);
    assert_eq!(lines.next(), None);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
