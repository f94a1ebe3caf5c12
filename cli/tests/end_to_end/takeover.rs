//! Schedulers that die or sleep while a job runs: nobody loses anything, and the job ends as if nothing had been.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{driver, eventually, finish, send};
use crate::up::Up;

const JOB: &str = "run PROGRAM --kernel slow --range 0..300 --parameters 20";

fn expected() -> Vec<String> {
    (0..300).map(|number| number.to_string()).collect()
}

fn is_half_way(up: &Up, id: &str) -> bool {
    up.job_is_there(id) && up.job(id)["done"].as_u64().unwrap() > 20
}

/// Waits until another process than this one says that it leads.
pub(crate) fn another_leads(up: &Up, old: u32) -> u32 {
    let leader = || up.leaders().last().map(|&(_, pid)| pid).filter(|&pid| pid != old);
    eventually("another scheduler leads", || leader().is_some());
    leader().unwrap()
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
fn a_standby_leads_within_three_seconds_of_the_leaders_death() {
    let up = Up::start_with_standby();
    let child = up.command(JOB).spawn().unwrap();
    eventually("the job is half way", || is_half_way(&up, "1"));
    let old = up.scheduler_pid();
    let killed = Instant::now();
    send(old, Signal::KILL);
    let new = another_leads(&up, old);
    let took = killed.elapsed();
    assert!(
        up.scheduler_pids().contains(&new),
        "the standby, not the one started again"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
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
    let id = up.submit("--kernel slow --range 0..300 --parameters 20");
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
    assert_eq!(read.lines(), expected());
    let longest: u64 = read.stderr.trim().parse().expect("nothing but the longest wait");
    assert!(longest < 3000, "{longest} ms");
    let waited = finish(waits);
    assert_eq!((waited.code, waited.stderr.as_str()), (Some(0), ""));
    assert_eq!(up.run(&format!("results {id}")).lines(), expected());
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
        stopped.elapsed() < Duration::from_secs(4),
        "{:?}",
        stopped.elapsed()
    );
    // what the new one accepts and finishes, the old one knows nothing of
    let done = up.run("run PROGRAM --kernel square --range 0..5");
    assert_eq!(done.lines(), ["0", "1", "4", "9", "16"]);
    send(old, Signal::CONT);
    let woken = Instant::now();
    eventually("the old one stands by", || up.leaders().len() == 1);
    assert!(woken.elapsed() < Duration::from_secs(2), "{:?}", woken.elapsed());
    assert_eq!(up.leaders()[0].1, new);
    let done = finish(child);
    assert_eq!(done.lines(), expected());
    let jobs = up.run("--output json jobs --all").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
    // and it can lead again
    send(new, Signal::KILL);
    assert_eq!(another_leads(&up, new), old);
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
