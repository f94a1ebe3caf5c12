//! Gangs of the SDK's ranks on several workers, which are processes of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{eventually, example, finish, plain, send};
use crate::takeover::another_leads;
use crate::up::Up;

/// How soon ranks have to know of a loss ...
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// ... in the best of so many tries: a machine that others use, too, may itself stand still for seconds.
const TRIES: usize = 3;

fn trace(path: &Path) -> Vec<(String, u32, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        (word(), word().parse().unwrap(), word())
    };
    text.lines().map(line).collect()
}

fn count(path: &Path, what: &str) -> usize {
    trace(path).iter().filter(|line| line.0 == what).count()
}

fn start(up: &Up, words: [&str; 2], path: &Path) -> Child {
    start_as(up, words, path, &[])
}

fn start_as(up: &Up, words: [&str; 2], path: &Path, what: &[&str]) -> Child {
    let mut command = plain(std::process::Command::new(example("fixture_ranks")));
    command
        .env("PHALANX_CLUSTER", up.directory())
        .args(words)
        .arg(path)
        .args(what);
    command.spawn().unwrap()
}

#[test]
fn ranks_on_three_workers_agree_with_each_other() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    let path = up.file("trace", "");
    up.file("trace.go", "");
    let done = finish(start(&up, ["6", "2"], &path));
    assert_eq!(done.stdout.trim(), format!("{:?}", [(15, 2); 6]), "{done:?}");
    let mut hosts: BTreeMap<u32, usize> = BTreeMap::new();
    trace(&path)
        .into_iter()
        .for_each(|(_, worker, _)| *hosts.entry(worker).or_default() += 1);
    assert_eq!(hosts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn ranks_whose_worker_is_killed_start_again_on_those_that_are_left() {
    let mut late = Vec::new();
    for _ in 0..TRIES {
        let took = all_start_again_without_a_worker();
        if took < NOTICED_WITHIN {
            return;
        }
        late.push(took);
    }
    panic!("those that were left noticed after {late:?}");
}

/// Kills a worker and checks that all ranks start again. In which time those that are left notice.
fn all_start_again_without_a_worker() -> Duration {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    let path = up.file("trace", "");
    let child = start(&up, ["4", "2"], &path);
    eventually("all ranks have begun", || count(&path, "begins") == 4);
    let begun = trace(&path);
    let victim = begun[0].1;
    let left = begun.iter().find(|line| line.1 != victim).unwrap().1;
    let killed = Instant::now();
    send(victim, Signal::KILL);
    // the lost ones may also say that they fail, before their process ends
    let failures = || {
        trace(&path)
            .into_iter()
            .filter(|line| line.0 == "fails" && line.1 == left)
    };
    eventually("those that are left have noticed", || failures().count() == 2);
    let took = killed.elapsed();
    assert!(
        failures().all(|(_, _, why)| why.contains("is lost")),
        "{:?}",
        trace(&path)
    );
    eventually("all have begun again", || count(&path, "begins") == 8);
    let again = trace(&path).into_iter().filter(|line| line.0 == "begins").skip(4);
    assert!(again.into_iter().all(|(_, worker, _)| worker != victim));
    up.file("trace.go", "");
    let done = finish(child);
    assert_eq!(done.stdout.trim(), format!("{:?}", [(6, 2); 4]), "{done:?}");
    took
}

#[test]
fn ranks_whose_worker_is_killed_go_on_from_their_last_complete_checkpoint_and_not_from_zero() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    let path = up.file("trace", "");
    let child = start_as(&up, ["4", "2"], &path, &["count"]);
    let saved = |rank: usize| {
        let folder = up
            .directory()
            .join(format!("storage/jobs/1/checkpoints/ranks/{rank}"));
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    };
    eventually("all but the last rank have saved step 10", || {
        count(&path, "waits") == 1 && (0..4).map(saved).eq([3, 3, 3, 2])
    });
    let waits = trace(&path).into_iter().find(|line| line.0 == "waits");
    let victim = waits.unwrap().1;
    send(victim, Signal::KILL);
    let done = finish(child);
    // 4 ranks, 20 steps: 4 (1 + .. + 20) + 20 (0 + 1 + 2 + 3)
    assert_eq!(done.stdout.trim(), format!("{:?}", [960; 4]), "{done:?}");
    let begun = trace(&path).into_iter().filter(|line| line.0 == "begins");
    let (workers, steps): (Vec<u32>, Vec<String>) = begun.map(|line| (line.1, line.2)).unzip();
    assert_eq!(steps, ["0", "0", "0", "0", "8", "8", "8", "8"]);
    assert!(workers[4..].iter().all(|&worker| worker != victim));
}

#[test]
fn ranks_that_are_left_go_on_when_a_worker_is_killed_and_their_job_succeeds() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    let path = up.file("trace", "");
    let child = start_as(&up, ["4", "2"], &path, &["survive"]);
    eventually("all ranks have begun", || count(&path, "begins") == 4);
    let begun = trace(&path);
    let victim = begun[0].1;
    send(victim, Signal::KILL);
    eventually("those that are left go on", || count(&path, "shrinks") >= 2);
    up.file("trace.go", "");
    let done = finish(child);
    let left = begun.iter().filter(|line| line.1 != victim);
    let mut left: Vec<(usize, usize)> = left.map(|line| (line.2.parse().unwrap(), 2)).collect();
    left.sort_unstable();
    assert_eq!(
        (left.len(), done.stdout.trim()),
        (2, &*format!("{left:?}")),
        "{done:?}"
    );
    assert_eq!(count(&path, "begins"), 4, "nobody starts again");
    let job: serde_json::Value = up.job("1");
    assert_eq!(
        (&job["state"], &job["failed"]),
        (&"succeeded".into(), &2.into()),
        "{job}"
    );
}

#[test]
fn a_gang_that_is_to_fail_does_so_when_a_worker_is_killed_and_names_a_lost_rank() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    // by the program, and by the command
    for job in ["1", "2"] {
        let path = up.file(&format!("trace-{job}"), "");
        let child = match job {
            "1" => start_as(&up, ["4", "2"], &path, &["fail"]),
            _ => run_ranks(&up, "rounds", "fail", &path),
        };
        eventually("all ranks have begun", || count(&path, "begins") == 4);
        send(trace(&path)[0].1, Signal::KILL);
        let done = finish(child);
        assert_ne!(done.code, Some(0), "{done:?}");
        let lost = ["is lost", "was lost"];
        assert!(lost.iter().any(|lost| done.stderr.contains(lost)), "{done:?}");
        assert_eq!(count(&path, "begins"), 4, "nobody starts again");
        assert_eq!(up.job(job)["state"], "failed", "{done:?}");
    }
}

#[test]
fn ranks_that_the_command_lets_go_on_after_a_loss_do_so() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    let path = up.file("trace", "");
    let child = run_ranks(&up, "survive", "shrink", &path);
    eventually("all ranks have begun", || count(&path, "begins") == 4);
    send(trace(&path)[0].1, Signal::KILL);
    eventually("those that are left go on", || count(&path, "shrinks") >= 2);
    up.file("trace.go", "");
    let done = finish(child);
    assert_eq!(done.lines(), ["2", "2"], "{done:?}");
    assert_eq!(count(&path, "begins"), 4, "nobody starts again");

    let path = up.file("trace-2", "");
    let child = run_ranks(&up, "endure", "respawn", &path);
    eventually("the last rank waits", || count(&path, "waits") == 1);
    let waits = trace(&path).into_iter().find(|line| line.0 == "waits").unwrap();
    // the process of the ranks, as there is no other worker for them
    send(waits.2.parse().unwrap(), Signal::KILL);
    let done = finish(child);
    assert!(
        done.lines().iter().all(|line| line.starts_with("[960,")),
        "{done:?}"
    );
    assert_eq!(done.lines().len(), 4, "{done:?}");
    assert!(count(&path, "begins") >= 6, "{done:?}");
}

/// Runs that function of the fixture by the command, on four ranks of two workers.
fn run_ranks(up: &Up, kernel: &str, on_loss: &str, path: &Path) -> Child {
    let program = example("fixture_ranks");
    let path = serde_json::Value::from(path.to_str().unwrap());
    let gang = format!("--ranks 4 --ranks-per-node 2 --on-loss {on_loss} --parameters {path}");
    let mut command = up.command(&format!("run {} --kernel {kernel} {gang}", program.display()));
    command.spawn().unwrap()
}

/// Kills what the last rank of four waits in, with that of the rank beside it, and checks that the two others run on.
fn only_the_lost_start_again(up: &Up, kill: impl Fn(u32, u32)) {
    let path = up.file("trace", "");
    let child = start_as(up, ["4", "2"], &path, &["endure"]);
    eventually("the last rank waits", || count(&path, "waits") == 1);
    let (_, worker, host) = trace(&path).into_iter().find(|line| line.0 == "waits").unwrap();
    let host: u32 = host.parse().unwrap();
    kill(worker, host);
    let done = finish(child);
    let begun = trace(&path).into_iter().filter(|line| line.0 == "begins");
    let mut begun: Vec<(usize, u32, u64)> = begun
        .map(|line| {
            let words: Vec<&str> = line.2.split(' ').collect();
            let number = |word: usize| words[word].parse::<u64>().unwrap();
            (number(0) as usize, number(1) as u32, number(2))
        })
        .collect();
    let again = begun.split_off(4);
    begun.sort_unstable();
    let mut from: Vec<(usize, u64)> = again.iter().map(|&(rank, _, step)| (rank, step)).collect();
    from.sort_unstable();
    assert_eq!(from, [(2, 8), (3, 8)], "{done:?}");
    assert!(again.iter().all(|&(_, process, _)| process != host));
    // 4 ranks, 20 steps: 4 (1 + .. + 20) + 20 (0 + 1 + 2 + 3); the first two in the processes in which they began
    let replaced = again[0].1;
    let processes = [begun[0].1, begun[1].1, replaced, replaced];
    let ends = processes.map(|process| (960, process));
    assert_eq!(done.stdout.trim(), format!("{ends:?}"), "{done:?}");
}

#[test]
fn ranks_whose_worker_is_killed_start_again_alone_and_the_others_processes_run_on() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2"]);
    only_the_lost_start_again(&up, |worker, _| send(worker, Signal::KILL));
    let job: serde_json::Value = up.job("1");
    assert_eq!(
        (&job["state"], &job["failed"]),
        (&"succeeded".into(), &0.into()),
        "{job}"
    );
}

#[test]
fn ranks_whose_process_is_killed_start_again_alone_and_the_others_processes_run_on() {
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "2"]);
    only_the_lost_start_again(&up, |_, host| send(host, Signal::KILL));
}

#[test]
fn lost_ranks_are_replaced_by_another_scheduler_if_theirs_is_lost_with_them() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "2", "--schedulers", "2"]);
    only_the_lost_start_again(&up, |worker, _| {
        let old = up.scheduler_pid();
        send(old, Signal::KILL);
        send(worker, Signal::KILL);
        another_leads(&up, old);
    });
}

#[test]
fn ranks_on_two_workers_go_on_under_another_scheduler() {
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "2", "--schedulers", "2"]);
    let path = up.file("trace", "");
    let child = start(&up, ["4", "2"], &path);
    eventually("all ranks have begun", || count(&path, "begins") == 4);
    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    another_leads(&up, old);
    eventually("the new one knows of the job", || up.job_is_there("1"));
    up.file("trace.go", "");
    let done = finish(child);
    assert_eq!(done.stdout.trim(), format!("{:?}", [(6, 2); 4]), "{done:?}");
    assert_eq!((count(&path, "begins"), count(&path, "fails")), (4, 0));
}
