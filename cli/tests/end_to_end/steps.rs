//! Steps of batch scripts and the cpus of their job: who waits for whom, who is ended, and where ranks run.

use std::collections::BTreeSet;

use crate::desk::Desk;
use crate::up::Up;

/// A worker of two cpus.
fn start() -> (Up, Desk) {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "2"]);
    let desk = Desk::new(up.directory());
    (up, desk)
}

#[track_caller]
fn submit(desk: &Desk, script: &str) -> String {
    desk.script("job.sh", script);
    let done = desk.run(&["sbatch", "--wait", "-o", "printed.txt", "job.sh"]);
    let printed = desk.read("printed.txt");
    assert_eq!(done.code, Some(0), "{done:?} {printed}");
    printed
}

#[test]
fn of_many_steps_as_many_run_at_a_time_as_the_job_has_cpus() {
    let (_up, desk) = start();
    // the first waits for the second
    let script = "#!/bin/bash\n#SBATCH -n 2\n\
        for i in $(seq 20); do\n\
        srun --exact -Q -n1 -c1 sh -c 'echo \"begin $0\" >> log; until [ $(wc -l < log) -ge 2 ]; do sleep 0.02; done; sleep 0.02; echo \"end $0\" >> log' $i &\n\
        done\n\
        wait\n";
    assert_eq!(submit(&desk, script), "");
    let log = desk.read("log");
    let (mut running, mut most, mut ended) = (0, 0, BTreeSet::new());
    for line in log.lines() {
        match line.split_once(' ').unwrap() {
            ("begin", _) => running += 1,
            (_, task) => {
                running -= 1;
                ended.insert(task);
            }
        }
        most = most.max(running);
    }
    assert_eq!((running, ended.len()), (0, 20), "{log}");
    assert_eq!(most, 2, "{log}");
}

#[test]
fn a_launcher_that_is_killed_takes_its_ranks_along_and_frees_its_cpus() {
    let (_up, desk) = start();
    // whoever is dead and not reaped has no words any more
    let script = "#!/bin/bash\n#SBATCH -n 2\n\
        srun -n 2 sh -c 'echo $$ >> ranks; exec sleep 1000' 2> /dev/null &\n\
        until [ \"$(wc -l 2> /dev/null < ranks)\" = 2 ]; do sleep 0.05; done\n\
        kill -9 $!\n\
        srun -n 2 echo next\n\
        for rank in $(cat ranks); do while grep -q sleep /proc/$rank/cmdline 2> /dev/null; do sleep 0.05; done; done\n\
        echo none is left\n";
    let printed = submit(&desk, script);
    // the shell tells of its end, and the next step that it has waited
    let is_answer = |line: &&str| !line.starts_with("srun: ") && !line.contains("Killed");
    let lines: Vec<&str> = printed.lines().filter(is_answer).collect();
    assert_eq!(lines, ["next", "next", "none is left"], "{printed}");
}

/// What a rank says of itself: its name, and the cpus that it may use.
const SHOW: &str = "show='echo \"$0 $(grep Cpus_allowed_list /proc/self/status | cut -f 2)\"'\n";

#[test]
fn ranks_of_a_pinned_job_run_on_cpus_of_their_own() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: this machine has one cpu");
        return;
    }
    let (_up, desk) = start();
    let script = format!(
        "#!/bin/bash\n#SBATCH -n 2 --hint=nomultithread\n{SHOW}\
         sh -c \"$show\" script\n\
         srun sh -c \"$show\" ranks\n\
         srun --cpu-bind=none -n 2 sh -c \"$show\" script\n\
         srun -n 1 sh -c \"$show\" script\n\
         srun -n 1 --cpu-bind=cores sh -c \"$show\" one\n\
         srun --exact -n 1 sh -c \"$show; : > ready; until [ -e end ]; do sleep 0.05; done\" exact &\n\
         until [ -e ready ]; do sleep 0.05; done\n\
         srun --exact -n 1 sh -c \"$show; : > end\" exact\n\
         wait\n\
         mpiexec -n 2 sh -c \"$show\" script\n\
         mpiexec -bind-to core -n 2 sh -c \"$show\" mpi\n\
         srun -n 2 sh -c 'echo lists $SLURM_CPU_BIND_LIST; echo on $SLURM_CPUS_ON_NODE'\n\
         srun --cpu-bind=map_cpu:1000 true 2> refused\n\
         echo code $?\n"
    );
    let printed = submit(&desk, &script);
    let of = |name: &str| {
        let lines = printed.lines();
        let found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let mut found: Vec<&str> = found.collect();
        found.sort_unstable();
        found
    };
    let ranks = of("ranks");
    assert!(
        ranks.len() == 2 && ranks[0] != ranks[1] && ranks.iter().all(|cpus| cpus.parse::<u32>().is_ok()),
        "{printed}"
    );
    // the shell, two that are not bound, one with all cpus, two of mpiexec
    let script = of("script");
    assert_eq!(
        (script.len(), script.iter().collect::<BTreeSet<_>>().len()),
        (6, 1),
        "{printed}"
    );
    assert!(script[0].parse::<u32>().is_err(), "{printed}");
    assert_eq!((of("exact"), of("mpi")), (ranks.clone(), ranks), "{printed}");
    assert_eq!(of("one").len(), 1, "{printed}");
    let lists = of("lists");
    assert!(
        lists.len() == 2 && lists[0] == lists[1] && lists[0].split(',').count() == 2,
        "{printed}"
    );
    assert_eq!((of("on"), of("code")), (vec!["2", "2"], vec!["1"]), "{printed}");
    let refused = desk.read("refused");
    assert!(
        refused.starts_with("srun: error: task 0 cannot be bound to 0x1"),
        "{refused}"
    );
}

#[test]
fn a_job_that_is_one_step_binds_its_ranks() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: this machine has one cpu");
        return;
    }
    let (_up, desk) = start();
    let show = "grep Cpus_allowed_list /proc/self/status | cut -f 2";
    let done = desk.run(&["srun", "--cpu-bind=cores", "-n", "2", "sh", "-c", show]);
    let cpus: BTreeSet<&str> = done.lines().into_iter().collect();
    assert_eq!((done.code, cpus.len()), (Some(0), 2), "{done:?}");
    assert!(cpus.iter().all(|cpus| cpus.parse::<u32>().is_ok()), "{done:?}");
}
