//! Workers that die or stand still for good or for a while: where their tasks go on, from where, and how soon.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::command::{eventually, is_alive, run, send};
use crate::members::Members;

/// What a task of the kernel `traced` or `counted` wrote when something happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trace {
    /// `started`, `stands`, `ended` or `cancelled`.
    what: String,
    index: u64,
    /// The process of its worker.
    worker: u32,
    /// Nanoseconds since 1970; of `counted`: where it began.
    number: u128,
}

fn traces(path: &Path, what: &str) -> Vec<Trace> {
    let text = std::fs::read_to_string(path).unwrap();
    // of the last line a part may be seen
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let all = whole.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        Trace {
            what: words[0].to_owned(),
            index: words[1].parse().unwrap(),
            worker: words[2].parse().unwrap(),
            number: words[3].parse().unwrap(),
        }
    });
    all.filter(|trace| trace.what == what).collect()
}

fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Lets tasks end that wait for it.
fn let_go(path: &Path) {
    let mut gate = path.as_os_str().to_owned();
    gate.push(".go");
    std::fs::write(PathBuf::from(gate), "").unwrap();
}

/// How soon what ran on a worker that gets `signal` starts on another one, and is the result as if nothing had been.
fn starts_elsewhere_after(signal: Signal, scheduler_options: &[&str]) -> Vec<Duration> {
    let members = Members::start_with(2, 4, scheduler_options, &[]);
    let path = members.file("traces", "");
    let id = members.submit_traced("--kernel traced --range 0..4", &path, 600_000);
    eventually("all tasks run", || traces(&path, "started").len() == 4);
    let before = traces(&path, "started");
    let victim = before[0].worker;
    assert!(members.worker_pids().contains(&victim), "{victim} of {before:?}");
    let moved: Vec<u64> = before
        .iter()
        .filter(|one| one.worker == victim)
        .map(|one| one.index)
        .collect();
    let lost = now_nanos();
    send(victim, signal);
    eventually("what ran on it runs again", || {
        traces(&path, "started").len() == 4 + moved.len()
    });
    let mut again = traces(&path, "started").split_off(4);
    again.sort_by_key(|one| one.index);
    let took: Vec<Duration> = again
        .iter()
        .map(|one| Duration::from_nanos(u64::try_from(one.number - lost).unwrap()))
        .collect();
    eprintln!("started elsewhere after {took:?}");
    let mut expected = moved.clone();
    expected.sort_unstable();
    assert_eq!(again.iter().map(|one| one.index).collect::<Vec<_>>(), expected);
    assert!(again.iter().all(|one| one.worker != victim), "{again:?}");
    let_go(&path);
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(
        members.run(&format!("results {id}")).lines(),
        ["0", "1", "2", "3"]
    );
    took
}

#[test]
fn what_ran_on_a_killed_worker_starts_elsewhere_long_before_its_timeout() {
    let took = starts_elsewhere_after(Signal::KILL, &["--worker-timeout", "40s"]);
    assert!(took.iter().all(|&one| one < Duration::from_secs(10)), "{took:?}");
}

#[test]
fn what_ran_on_a_worker_that_fell_silent_starts_elsewhere_once_it_was_silent_for_its_timeout() {
    let took = starts_elsewhere_after(Signal::STOP, &[]);
    assert!(took.iter().all(|one| SILENCE.contains(one)), "{took:?}");
}

/// How long a silent worker is waited for: 3 s from its last word, which may be half a second old, and more on a busy machine,
/// where that is noticed late as well.
const SILENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(20);

/// Stops a worker and waits until it is given up.
fn stop_until_given_up(members: &Members, worker: u32) {
    let count = members.worker_count();
    let stopped = Instant::now();
    send(worker, Signal::STOP);
    eventually("it is given up", || members.worker_count() == count - 1);
    let took = stopped.elapsed();
    assert!(SILENCE.contains(&took), "{took:?}");
}

#[test]
fn a_worker_may_be_silent_for_as_long_as_the_scheduler_was_told() {
    let members = Members::start_with(1, 1, &["--worker-timeout", "8s"], &[]);
    let stopped = Instant::now();
    send(members.worker_pids()[0], Signal::STOP);
    eventually("it is given up", || members.worker_count() == 0);
    let took = stopped.elapsed();
    // longer than it would be if nothing had been said
    assert!(took > Duration::from_secs(4), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// The processes that any thread of a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let texts = threads.filter_map(|thread| {
        let path = thread.unwrap().path().join("children");
        std::fs::read_to_string(path).ok()
    });
    let texts: Vec<String> = texts.collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.map(|pid| pid.parse().unwrap()).collect()
}

/// How many tasks were started at all.
fn run_once(path: &Path) -> usize {
    let started = traces(path, "started");
    started.iter().map(|one| one.index).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_worker_that_was_given_up_brings_back_what_its_tasks_have_done_and_it_counts_once() {
    const TASKS: usize = 2000;
    let members = Members::start(1, 1);
    let path = members.file("traces", "");
    let id = members.submit_traced(&format!("--kernel traced --range 0..{TASKS}"), &path, 10);
    let done = || members.job(&id)["done"].as_u64().unwrap();
    eventually("it has more than a probe of them", || done() > 60);
    stop_until_given_up(&members, members.worker_pids()[0]);
    let durable = done();
    let ended = || traces(&path, "ended").len() as u64;
    eventually("its kernel host has gone on", || ended() > durable + 20);
    let run = ended();
    send(members.worker_pids()[0], Signal::CONT);
    eventually("what had ended is known", || done() >= run);
    let again = traces(&path, "started").len() - run_once(&path);
    let brought = run - durable;
    assert!(
        (again as u64) < brought / 4,
        "{again} tasks ran again before the {brought} that had ended were known"
    );
    let_go(&path);
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    let expected: Vec<String> = (0..TASKS).map(|number| number.to_string()).collect();
    assert_eq!(members.run(&format!("results {id}")).lines(), expected);
    let job = members.job(&id);
    assert_eq!(
        (job["done"].as_u64(), job["failed"].as_u64()),
        (Some(TASKS as u64), Some(0))
    );
}

#[test]
fn a_machine_that_stood_still_starts_nothing_that_runs_elsewhere_when_it_goes_on() {
    const TASKS: usize = 6000;
    let members = Members::start(2, 1);
    let path = members.file("traces", "");
    let id = members.submit_traced(&format!("--kernel traced --range 0..{TASKS}"), &path, 5);
    let first = members.worker_pids()[0];
    let starts_elsewhere = || {
        let starts = traces(&path, "started").into_iter();
        starts.filter(|one| one.worker != first).collect::<Vec<_>>()
    };
    eventually("the first worker has more than a probe of them", || {
        let ended = traces(&path, "ended");
        ended.iter().filter(|one| one.worker == first).count() > 60
    });
    let hosts = children(first);
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    send(hosts[0], Signal::STOP);
    stop_until_given_up(&members, first);
    let given_up = starts_elsewhere().len();
    // behind the two seconds of work that the other one had
    eventually("its tasks run elsewhere", || {
        starts_elsewhere().len() > given_up + 500
    });
    // so that it is not told soon what others have
    send(members.scheduler_pid(), Signal::STOP);
    let taken: BTreeSet<u64> = starts_elsewhere().iter().map(|one| one.index).collect();
    let goes_on = now_nanos();
    send(first, Signal::CONT);
    // else its host might go on for long before it is told not to
    eventually("it has noticed", || members.has_logged("w1", "stood still"));
    send(hosts[0], Signal::CONT);
    // the other worker may have run all that it had
    let both_go_on = Instant::now();
    eventually("some time has passed", || {
        both_go_on.elapsed() > Duration::from_millis(200)
    });
    send(members.scheduler_pid(), Signal::CONT);
    eventually("it is back", || members.worker_count() == 2);
    let starts_here = || {
        let mut starts = traces(&path, "started");
        starts.retain(|one| one.worker == first && one.number > goes_on);
        starts
    };
    let is_new = |one: &Trace| !taken.contains(&one.index);
    eventually("it works on", || starts_here().iter().any(is_new));
    let_go(&path);
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    let expected: Vec<String> = (0..TASKS).map(|number| number.to_string()).collect();
    assert_eq!(members.run(&format!("results {id}")).lines(), expected);
    let mut again = starts_here();
    again.retain(|one| !is_new(one));
    // its host may go on sooner than the worker has told it not to
    assert!(
        again.len() <= 3,
        "what others had taken over began again: {again:?}"
    );
}

#[test]
fn a_worker_with_a_task_outlasts_any_absence_of_schedulers_and_an_idle_one_does_not() {
    // the next scheduler waits as long for the worker, which may find it late on a busy machine
    let mut members = Members::start_with(2, 1, &["--worker-timeout", "30s"], &["--rejoin-for", "5s"]);
    let path = members.file("traces", "");
    let id = members.submit_traced("--kernel traced --range 0..1", &path, 600_000);
    eventually("its task runs", || traces(&path, "started").len() == 1);
    let busy = traces(&path, "started")[0].worker;
    members.kill_scheduler();
    let idle = members
        .worker_pids()
        .into_iter()
        .find(|&pid| pid != busy)
        .unwrap();
    eventually("the idle worker gives up", || !is_alive(idle));
    let_go(&path);
    eventually("the task has ended", || traces(&path, "ended").len() == 1);
    members.start_scheduler();
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(members.run(&format!("results {id}")).lines(), ["0"]);
    assert_eq!(traces(&path, "started").len(), 1, "it ran once");
    assert!(is_alive(busy));
}

#[test]
fn a_kernel_that_is_killed_with_its_worker_goes_on_elsewhere_from_its_last_checkpoint() {
    let members = Members::start(2, 1);
    let path = members.file("traces", "");
    let id = members.submit_traced("--kernel counted --range 0..1", &path, 12);
    eventually("it has counted to twelve", || traces(&path, "stands").len() == 1);
    let first = traces(&path, "started")[0].clone();
    assert_eq!(first.number, 0);
    send(first.worker, Signal::KILL);
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    let again = traces(&path, "started")[1].clone();
    assert_eq!(again.number, 12, "{again:?}");
    assert!(
        again.worker != first.worker && members.worker_pids().contains(&again.worker),
        "{again:?}"
    );
    // it counts from where it goes on, to 20
    assert_eq!(members.run(&format!("results {id}")).lines(), ["8"]);
}

#[test]
fn a_program_that_is_killed_with_its_worker_goes_on_elsewhere_from_what_it_has_saved() {
    let members = Members::start(2, 1);
    let (gate, counts, starts) = (
        members.file("gate", ""),
        members.file("counts", ""),
        members.file("starts", ""),
    );
    let text = format!(
        "#!/bin/sh\nset -e\nmkdir -p \"$PHALANX_CHECKPOINT_DIR\"\nsaved=$PHALANX_CHECKPOINT_DIR/n\n\
         n=$(cat \"$saved\" 2>/dev/null || echo 0)\necho \"$n $PHALANX_WORKER\" >> {starts}\n\
         while [ $n -lt 10 ]; do\n  n=$((n + 1))\n  echo $n >> {counts}\n\
         echo $n > \"$saved.new\"\n  mv \"$saved.new\" \"$saved\"\n\
         if [ $n = 5 ] && [ -e {gate} ]; then echo stands >> {starts}; sleep 1000; fi\ndone\n",
        gate = gate.display(),
        counts = counts.display(),
        starts = starts.display()
    );
    let script = members.file("count.sh", &text);
    let mut command = members.command("submit");
    command.arg(&script);
    let id = run(command).lines()[0].to_owned();
    let started = || std::fs::read_to_string(&starts).unwrap();
    eventually("it has counted to five", || started().ends_with("stands\n"));
    std::fs::remove_file(&gate).unwrap();
    let (victim, other) = match started().lines().next().unwrap() {
        "0 w1" => (0, "w2"),
        "0 w2" => (1, "w1"),
        line => panic!("`{line}` names no worker"),
    };
    send(members.worker_pids()[victim], Signal::KILL);
    assert_eq!(members.run(&format!("wait {id}")).code, Some(0));
    assert_eq!(started().lines().last(), Some(format!("5 {other}").as_str()));
    let counted: Vec<u64> = std::fs::read_to_string(&counts)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(counted, (1..=10).collect::<Vec<u64>>());
}
