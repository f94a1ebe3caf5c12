//! Slurm's other commands: allocations, copies, summaries.

use crate::command::{eventually, finish, send};
use crate::desk::Desk;
use crate::up::Up;
use rustix::process::Signal;

#[test]
fn an_allocation_lasts_as_long_as_its_command() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let inside = "echo $SLURM_JOB_ID $SLURM_NTASKS $SLURM_JOB_NODELIST; squeue -h -o '%i %t'; srun hostname > /dev/null; exit 3";
    let done = desk.run(&["salloc", "-n", "1", "sh", "-c", inside]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let node = done
        .stdout
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .nth(2)
        .unwrap()
        .to_owned();
    assert_eq!(done.stdout, format!("1 1 {node}\n1 R\n"));
    assert!(
        desk.run(&["sinfo", "-h", "-N", "-o", "%N"])
            .told()
            .contains(&node)
    );
    assert_eq!(
        done.stderr,
        "salloc: Pending job allocation 1\nsalloc: Granted job allocation 1\nsalloc: Relinquishing job allocation 1\n"
    );
    eventually("nothing is held any more", || {
        desk.run(&["sinfo", "-h", "-o", "%C"]).told() == "0/2/0/2\n"
    });
    assert_eq!(desk.run(&["salloc", "no-such-program"]).code, Some(127));
    let done = desk.run(&["salloc", "-Q", "--no-shell"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_eq!(
        desk.run(&["squeue", "-h", "-o", "%i %t %j"]).told(),
        "3 R interactive\n"
    );
    let done = desk.run(&[
        "salloc",
        "--immediate=30",
        "-n",
        "1",
        "-c",
        "1",
        "--exclude",
        "none",
        "true",
    ]);
    assert_eq!(done.code, Some(0), "there are two cpus: {done:?}");
}

#[test]
fn an_allocation_that_does_not_come_is_given_up() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    for _ in 0..2 {
        assert_eq!(desk.run(&["salloc", "-Q", "--no-shell"]).code, Some(0));
    }
    let done = desk.run(&["salloc", "--immediate=1", "true"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr
            .contains("Requested nodes are busy; job 3 is cancelled"),
        "{done:?}"
    );
    let waiting = desk.command(&["salloc", "true"]).spawn().unwrap();
    eventually("it waits", || {
        desk.run(&["squeue", "-h", "-j", "4", "-o", "%t"]).stdout == "PD\n"
    });
    send(waiting.id(), Signal::INT);
    assert_eq!(finish(waiting).code, Some(1));
    assert_eq!(
        desk.run(&["sacct", "-X", "-n", "-P", "-j", "4", "-o", "State%9"])
            .told()
            .split(' ')
            .next(),
        Some("CANCELLED")
    );
}

/// A rank that says that it is there, and stays.
const STAYS: &str = ": > stays-${SLURM_PROCID:-0}; exec sleep 1000";

fn stays(desk: &Desk, rank: &str) -> bool {
    desk.work().join(format!("stays-{rank}")).exists()
}

#[test]
fn an_interrupted_srun_outside_a_job_ends_its_job() {
    let up = Up::start_wide();
    let desk = Desk::new(up.directory());
    let ranks = desk
        .command(&["srun", "-n", "2", "sh", "-c", STAYS])
        .spawn()
        .unwrap();
    eventually("its ranks run", || stays(&desk, "0") && stays(&desk, "1"));
    assert_eq!(desk.run(&["squeue", "-h", "-j", "1", "-o", "%t"]).told(), "R\n");
    send(ranks.id(), Signal::INT);
    let done = finish(ranks);
    assert_eq!(done.code, Some(143), "{done:?}");
    let state = desk
        .run(&["sacct", "-X", "-n", "-P", "-j", "1", "-o", "State"])
        .stdout;
    assert!(state.starts_with("CANCELLED"), "{state}");
}

#[test]
fn whoever_ends_srun_or_mpiexec_ends_its_job() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let ends = [
        ("srun", Signal::TERM, 143),
        ("mpiexec", Signal::TERM, 4),
        ("srun", Signal::HUP, 143),
    ];
    for (job, (name, signal, code)) in (1..).zip(ends) {
        let number = job.to_string();
        let state = |format: &str| {
            let words = ["sacct", "-X", "-n", "-P", "-j", &number, "-o", format];
            desk.run(&words).told()
        };
        let words = [name, "-n", "1", "sh", "-c", STAYS];
        let running = desk.command(&words).spawn().unwrap();
        eventually("its rank runs", || stays(&desk, "0"));
        assert_eq!(state("State"), "RUNNING\n");
        send(running.id(), signal);
        let done = finish(running);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(state("State").starts_with("CANCELLED by "));
        std::fs::remove_file(desk.work().join("stays-0")).unwrap();
    }
}

#[test]
fn a_file_is_copied_inside_a_job_and_a_job_is_summed_up() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    desk.script("data", "some data");
    let here = desk.work().display().to_string();
    let wrapped = format!("sbcast -p data {here}/copy && sbcast data {here}/copy || echo no >> {here}/copy");
    assert_eq!(
        desk.run(&["sbatch", "--wait", "-o", "log", "--wrap", &wrapped])
            .code,
        Some(0)
    );
    assert_eq!(desk.read("copy"), "some datano\n");
    assert!(desk.read("log").contains("is there already; --force replaces it"));
    let done = desk.run(&["sbcast", "data", "/tmp/nowhere"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("not inside the job"),
        "{done:?}"
    );
    let told = desk.run(&["seff", "1"]).told();
    assert!(told.starts_with("Job ID: 1\nCluster: phalanx\n"), "{told}");
    assert!(
        told.contains("\nState: COMPLETED (exit code 0)\nCores: 1\n"),
        "{told}"
    );
    let done = desk.run(&["seff", "9"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("there is no job 9"),
        "{done:?}"
    );
}

/// Burns cpu time for a while, then has 50 MiB in memory.
const BUSY: &str = "#!/bin/bash
until (( $(cut -d' ' -f14 /proc/$$/stat) >= 30 )); do for i in {1..2000}; do :; done; done
head -c 50M /dev/zero | tail -c 50M >/dev/null
";

#[test]
fn what_a_script_used_is_told_also_if_it_failed_or_was_over_its_time() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let large = "head -c 60M /dev/zero | tail -c 60M | cksum > /dev/null";
    let failing = desk.run(&[
        "sbatch",
        "--wait",
        "-o",
        "log",
        "--wrap",
        &format!("{large}; exit 3"),
    ]);
    assert_eq!(failing.code, Some(3));
    let slow = format!("{large}; : > large; while :; do sleep 1; done");
    assert_eq!(
        desk.run(&["sbatch", "--wait", "-o", "log", "-t", "0:16", "--wrap", &slow])
            .code,
        Some(1)
    );
    assert_eq!(desk.read("large"), "", "it had the time for what is measured");
    let list = [
        "sacct",
        "-n",
        "-P",
        "-j",
        "1.batch,2.batch",
        "--units=M",
        "-o",
        "State,MaxRSS",
    ];
    let told = desk.run(&list).told();
    let lines: Vec<_> = told.lines().filter_map(|line| line.split_once('|')).collect();
    assert_eq!((lines[0].0, lines[1].0), ("FAILED", "TIMEOUT"));
    for (_, used) in lines {
        let mebibytes: f64 = used.strip_suffix('M').unwrap().parse().unwrap();
        assert!((60.0..200.0).contains(&mebibytes), "{told}");
    }
}

#[test]
fn what_a_script_used_is_told_also_by_the_next_scheduler() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    desk.script("busy.sh", BUSY);
    let submitted = ["sbatch", "--wait", "-o", "log", "--mem=1G", "busy.sh"];
    assert_eq!(desk.run(&submitted).code, Some(0));
    let list = [
        "sacct",
        "-j",
        "1",
        "-o",
        "JobID,State,Elapsed,MaxRSS,TotalCPU,Start,End",
        "-n",
        "-P",
    ];
    let before = desk.run(&list).told();
    let lines: Vec<Vec<&str>> = before.lines().map(|line| line.split('|').collect()).collect();
    let [job, batch] = &lines[..] else {
        panic!("{before}");
    };
    assert_eq!((job[0], job[1], job[3]), ("1", "COMPLETED", ""));
    assert_eq!((batch[0], batch[1]), ("1.batch", "COMPLETED"));
    let kib: u64 = batch[3].strip_suffix('K').unwrap().parse().unwrap();
    assert!((50 << 10..200 << 10).contains(&kib), "{before}");
    for line in [job, batch] {
        let seconds: f64 = line[4].strip_prefix("00:").unwrap().parse().unwrap();
        assert!((0.25..30.0).contains(&seconds), "{before}");
        assert!(line[2].starts_with("00:00:"), "{before}");
        assert!(line[5].starts_with("20") && line[6].starts_with("20"), "{before}");
    }
    let summed = desk.run(&["seff", "1"]).told();
    let expected = [
        "Job ID: ",
        "Cluster: phalanx",
        "User/Group: ",
        "State: COMPLETED (exit code 0)",
        "Cores: 1",
        "CPU Utilized: 00:00:",
        "CPU Efficiency: ",
        "Job Wall-clock time: 00:00:",
        "Memory Utilized: ",
        "Memory Efficiency: ",
    ];
    let told: Vec<&str> = summed.lines().collect();
    assert_eq!(told.len(), expected.len(), "{summed}");
    for (line, begins) in told.iter().zip(expected) {
        assert!(line.starts_with(begins), "{line}: {summed}");
    }
    assert!(
        told[9].ends_with("% of 1.00 GB") && !told[9].contains(" 0.00%"),
        "{summed}"
    );

    let old = up.scheduler_pid();
    send(old, Signal::KILL);
    eventually("another scheduler leads", || {
        up.leaders().last().is_some_and(|&(_, pid)| pid != old)
    });
    assert_eq!(desk.run(&list).told(), before);
    assert_eq!(desk.run(&["seff", "1"]).told(), summed);
}

#[test]
fn what_a_killed_script_has_started_counts_as_used_by_it() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    // the child has 40 MB, and nobody waits for it
    let inner = "x=$(head -c 40000000 /dev/zero | tr '\\0' a); touch ready$SLURM_ARRAY_TASK_ID; sleep 100; :";
    desk.script("child.sh", inner);
    desk.script("late.sh", "#!/bin/sh\n#SBATCH -t 0:16\nsh child.sh\n:\n");
    desk.script(
        "array.sh",
        "#!/bin/sh\n#SBATCH -a 0-1 -o /dev/null\n[ $SLURM_ARRAY_TASK_ID = 0 ] && sh child.sh\nwhile [ ! -f go ]; do sleep 0.05; done\n",
    );
    let used_kib = |step: &str, state: &str| {
        let words = [
            "sacct",
            "-n",
            "-P",
            "-j",
            step,
            "--units=K",
            "-o",
            "JobID,State,MaxRSS",
        ];
        let done = desk.run(&words);
        let line = done.stdout.lines().find(|line| line.starts_with(step));
        let mut columns = line.unwrap_or_default().split('|').skip(1);
        let is_so = columns.next() == Some(state);
        let kib = columns
            .next()
            .and_then(|text| text.strip_suffix('K')?.parse::<f64>().ok());
        kib.filter(|_| is_so).unwrap_or(0.0)
    };
    assert_eq!(desk.run(&["sbatch", "--wait", "late.sh"]).code, Some(1));
    let kib = used_kib("1.batch", "TIMEOUT");
    assert!(kib > 30_000.0, "{kib}: {:?}", desk.run(&["sacct", "-n", "-P"]));
    assert_eq!(desk.run(&["sbatch", "array.sh"]).code, Some(0));
    eventually("the element has its memory", || {
        desk.work().join("ready0").is_file()
    });
    assert_eq!(desk.run(&["scancel", "2_0"]).code, Some(0));
    eventually("what it used is known", || {
        used_kib("2_0.batch", "CANCELLED") > 30_000.0
    });
    desk.script("go", "");
}
