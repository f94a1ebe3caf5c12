//! How tasks end, and that nothing of them outlives that.

use std::time::{Duration, Instant};

use phalanx_protocol::command::{Recipients, TaskSignal, Warning};
use phalanx_protocol::message::host::{FromHost, HostCommand, ToHost};
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{CommandPlan, IndexRange, Request};

use crate::driver::grant_id;

use super::{Shop, array, command, eventually, is_alive, numbers, shell};

fn limited(millis: u64) -> HostCommand {
    HostCommand {
        task_time_limit_millis: Some(millis),
        ..command()
    }
}

/// A script that starts, in three ways, processes that would outlive it, notes their numbers in the file `{item}`, and waits for
/// the file `gate` to go.
fn leaver(folder: &std::path::Path) -> CommandPlan {
    let folder = folder.display();
    shell(&format!(
        "cd {folder}; note() {{ echo $1 >> pids.{{}}; }}
         sleep 1000 & note $!
         setsid sh -c 'echo $$ >> pids.{{}}; exec sleep 1000' &
         (sh -c 'sleep 1000 & echo $! >> pids.{{}}' &)
         (setsid sh -c 'sleep 1000 & echo $! >> pids.{{}}' &)
         while [ -e gate.{{}} ]; do sleep 0.02; done"
    ))
}

#[test]
fn what_an_ended_task_leaves_behind_dies_and_what_its_neighbour_started_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    for task in [0, 1] {
        std::fs::write(path.join(format!("gate.{task}")), "").unwrap();
    }
    let mut shop = Shop::in_folder(folder, &leaver(&path), command());
    shop.driver.grant(1, 0..2);
    let pids = |task: u64| numbers(&path.join(format!("pids.{task}")));
    eventually("all are started", || pids(0).len() == 4 && pids(1).len() == 4);
    std::fs::remove_file(path.join("gate.0")).unwrap();
    shop.driver.await_ended(1);
    assert_eq!(pids(0).into_iter().filter(|&pid| is_alive(pid)).count(), 0);
    assert_eq!(pids(1).into_iter().filter(|&pid| is_alive(pid)).count(), 4);
    std::fs::remove_file(path.join("gate.1")).unwrap();
    shop.driver.await_ended(2);
    assert_eq!(pids(1).into_iter().filter(|&pid| is_alive(pid)).count(), 0);
    assert!(shop.driver.ended.failed.is_empty());
}

#[test]
fn a_host_whose_worker_is_gone_kills_all_that_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    for task in [0, 1] {
        std::fs::write(path.join(format!("gate.{task}")), "").unwrap();
    }
    let mut shop = Shop::in_folder(folder, &leaver(&path), command());
    shop.driver.grant(1, 0..2);
    let pids = || {
        [0, 1]
            .map(|task| numbers(&path.join(format!("pids.{task}"))))
            .concat()
    };
    eventually("all are started", || pids().len() == 8);
    let Shop { driver, folder, .. } = shop;
    driver.hang_up().unwrap();
    assert_eq!(pids().into_iter().filter(|&pid| is_alive(pid)).count(), 0);
    drop(folder);
}

#[test]
fn a_stopped_task_ends_with_all_that_it_has_started_and_its_neighbour_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    for task in [0, 1] {
        std::fs::write(path.join(format!("gate.{task}")), "").unwrap();
    }
    let mut shop = Shop::in_folder(folder, &leaver(&path), command());
    shop.driver.grant(1, 0..4);
    let pids = |task: u64| numbers(&path.join(format!("pids.{task}")));
    eventually("two are started", || pids(0).len() == 4 && pids(1).len() == 4);
    let (grant, range) = (grant_id(1), IndexRange::new(1, 3));
    shop.driver.send(&ToHost::Stop { grant, range });
    let unstarted = FromHost::Stopped {
        grant,
        range: IndexRange::new(2, 3),
    };
    assert_eq!(shop.driver.receive_other(), unstarted);
    // the fourth has no gate
    shop.driver.await_ended(2);
    assert_eq!(shop.failure(1).message, "it was ended");
    assert_eq!(pids(1).into_iter().filter(|&pid| is_alive(pid)).count(), 0);
    assert_eq!(pids(0).into_iter().filter(|&pid| is_alive(pid)).count(), 4);
    assert!(shop.driver.ended.done.contains(3) && pids(2).is_empty());
    std::fs::remove_file(path.join("gate.0")).unwrap();
    shop.driver.await_ended(3);
}

#[test]
fn a_signal_goes_to_whom_it_is_for_and_ends_nothing_by_itself() {
    let wait = "while [ ! -e end ]; do sleep 0.02; done";
    for (recipients, of_shell, of_child) in [
        (Recipients::Leader, true, false),
        (Recipients::Others, false, true),
        (Recipients::All, true, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let child = format!("trap 'echo child told' USR1; echo child ready; {wait}");
        let plan = shell(&format!(
            "cd {}; trap 'echo shell told' USR1; sh -c \"{child}\" & echo shell ready; {wait}; wait; exit 0",
            path.display()
        ));
        let mut shop = Shop::in_folder(folder, &plan, command());
        shop.driver.grant(1, 0..1);
        let has = |shop: &Shop, line: &str| shop.printed(0).contains(line);
        eventually("both are ready", || {
            has(&shop, "child ready") && has(&shop, "shell ready")
        });
        let signal = TaskSignal {
            number: 10,
            recipients,
        };
        let (grant, range) = (grant_id(1), IndexRange::new(0, 5));
        // of another grant nothing runs
        let other = grant_id(2);
        shop.driver.send(&ToHost::Signal {
            grant: other,
            range,
            signal: TaskSignal { number: 9, ..signal },
        });
        shop.driver.send(&ToHost::Signal { grant, range, signal });
        eventually("it is told", || {
            (!of_shell || has(&shop, "shell told")) && (!of_child || has(&shop, "child told"))
        });
        std::fs::write(path.join("end"), "").unwrap();
        shop.driver.await_ended(1);
        assert!(shop.driver.ended.failed.is_empty(), "{}", shop.printed(0));
        let told = (has(&shop, "shell told"), has(&shop, "child told"));
        assert_eq!(told, (of_shell, of_child), "{recipients:?}");
    }
}

#[test]
fn a_task_that_does_not_hear_is_killed_after_its_grace() {
    let plan = shell("trap '' TERM; echo began; while :; do sleep 0.02; done");
    let shop = Shop::run(&plan, limited(5_000));
    let failure = shop.failure(0);
    assert_eq!(
        (failure.cause, failure.message.as_str()),
        (FailureCause::TimeLimit, "ran longer than 5 s")
    );
    assert_eq!(
        shop.printed(0),
        "began\n<phalanx: task 1.0 ended: ran longer than 5 s\n>"
    );
}

#[test]
fn a_closed_job_ends_within_the_grace_of_its_tasks() {
    let plan = shell("trap '' TERM; echo began; while :; do sleep 0.02; done");
    let mut shop = Shop::open(&plan, command());
    shop.driver.grant(1, 0..100);
    eventually("it runs", || shop.printed(0) == "began\n");
    let began = Instant::now();
    shop.driver.close();
    assert!(began.elapsed() >= Duration::from_millis(plan.grace_millis));
}

#[test]
fn a_stopped_task_is_made_to_hear_that_its_time_is_over() {
    let mut plan =
        shell("trap 'echo told; exit 3' TERM; kill -STOP $$; echo went on; while :; do sleep 0.02; done");
    plan.grace_millis = 60_000;
    let began = Instant::now();
    let shop = Shop::run(&plan, limited(5_000));
    assert!(began.elapsed() < Duration::from_millis(plan.grace_millis));
    assert_eq!(shop.failure(0).cause, FailureCause::TimeLimit);
    assert!(shop.printed(0).contains("told\n"), "{}", shop.printed(0));
}

/// Prints who has got the warning.
fn warned(recipients: Recipients) -> String {
    // shells tell of what a signal has ended
    let text = "exec 2>/dev/null; sh -c 'trap \"trap : TERM; echo child; exit\" USR1; trap \"echo not told; exit\" TERM; : > ready; while :; do sleep 0.02; done' &
        child=$!; trap 'echo leader' USR1; while [ ! -e ready ]; do sleep 0.02; done; echo ready
        wait $child; kill -TERM $child 2>/dev/null; wait $child; exit 0";
    let folder = tempfile::tempdir().unwrap();
    let mut plan = shell(&format!("cd {}; {text}", folder.path().display()));
    // after five seconds, since it must be ready by then
    plan.warning = Some(Warning {
        signal: 10,
        before_millis: 55_000,
        recipients,
    });
    let shop = Shop::run(&plan, limited(60_000));
    assert!(
        shop.driver.ended.failed.is_empty(),
        "{:?}",
        shop.driver.ended.failed
    );
    let printed = shop.printed(0);
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn a_warning_goes_to_the_process_or_to_what_it_has_started_or_to_both() {
    assert_eq!(warned(Recipients::Leader), "leader not told ready");
    assert_eq!(warned(Recipients::All), "child leader ready");
    assert_eq!(warned(Recipients::Others), "child ready");
}

#[test]
fn a_task_that_uses_too_much_memory_is_killed_and_its_neighbour_goes_on() {
    // `tail` keeps what has no line end, and then waits for somebody to read it
    let text = "if [ {} = 1 ]; then setsid sh -c 'head -c 200M /dev/zero | tail | sleep 1000' & wait; else echo fine; fi";
    let limits = HostCommand {
        request: Request {
            memory_bytes: 64 << 20,
            ..Request::default()
        },
        array: array(0, 3),
        ..command()
    };
    let mut shop = Shop::open(&shell(text), limits);
    shop.driver.grant(1, 0..3);
    shop.driver.await_ended(3);
    let failure = shop.failure(1);
    assert_eq!(failure.cause, FailureCause::Memory);
    let message = &failure.message;
    assert!(
        message.starts_with("used ") && message.ends_with(" of 64 MiB"),
        "{message}"
    );
    assert_eq!(shop.printed(0) + &shop.printed(2), "fine\nfine\n");
}

#[test]
fn a_fork_bomb_ends_with_its_task() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("bomb");
    // each starts two that do the same, as far as the limit lets it
    let text = "#!/bin/sh\necho x >> \"$2\"\nwhile :; do sh \"$1\" \"$1\" \"$2\" & sh \"$1\" \"$1\" \"$2\"; done 2>/dev/null\n";
    std::fs::write(&script, text).unwrap();
    let count = folder.path().join("count");
    std::fs::write(&count, "").unwrap();
    let is_root = rustix::process::getuid().is_root();
    // no limit holds root, so that somebody else does it
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups ";
    if is_root {
        use std::os::unix::fs::PermissionsExt;
        for path in [folder.path(), &script, &count] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let mut probe = std::process::Command::new("sh");
        if !probe
            .args(["-c", &format!("{user} true")])
            .status()
            .unwrap()
            .success()
        {
            println!("skipped: root is held by no limit, and setpriv is not there");
            return;
        }
    }
    let prefix = if is_root { user } else { "" };
    let (script, count_path) = (script.display(), count.display());
    let mut plan = shell(&format!(
        "{prefix}sh {script} {script} {count_path} & exec sleep 1000"
    ));
    let limit = 100 + if is_root { 0 } else { processes_of_this_user() };
    // RLIMIT_NPROC
    plan.limits = vec![(6, limit, limit)];
    let mut shop = Shop::in_folder(folder, &plan, command());
    shop.driver.grant(1, 0..1);
    let started = || std::fs::read_to_string(&count).unwrap().lines().count();
    eventually("it is a bomb", || started() > 20);
    let (grant, range) = (grant_id(1), IndexRange::new(0, 1));
    shop.driver.send(&ToHost::Stop { grant, range });
    shop.driver.await_ended(1);
    assert_eq!(shop.failure(0).message, "it was ended");
    let marks = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let wanted = count.display().to_string();
        lines
            .filter(|line| String::from_utf8_lossy(line).contains(&wanted))
            .count()
    };
    assert_eq!(marks(), 0);
}

fn processes_of_this_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::getuid().as_raw();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let tasks = entries
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == own))
        .map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64));
    tasks.sum()
}
