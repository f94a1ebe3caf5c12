//! Steps of batch jobs on several nodes: ranks on all of them, with `srun` as the one that starts them, feeds them and ends
//! with them.

use rustix::process::Signal;

use crate::command::{eventually, finish, is_alive, send};
use crate::desk::Desk;
use crate::mpi::RANK;
use crate::up::Up;

/// A cluster of so many workers with four cpus.
fn cluster(workers: &str) -> (Up, Desk) {
    let up = Up::start_equipped(&["--workers", workers, "--cpus", "4"]);
    let desk = Desk::new(up.directory());
    (up, desk)
}

/// Runs a script of these lines to its end on two nodes with two tasks each; its code and what it printed.
fn run(desk: &Desk, lines: &str) -> (Option<i32>, String) {
    desk.script("job.sh", &format!("#!/bin/bash\n{lines}"));
    let words = [
        "sbatch",
        "--wait",
        "-N2",
        "--ntasks-per-node=2",
        "-o",
        "out.txt",
        "job.sh",
    ];
    let done = desk.run(&words);
    (done.code, desk.read("out.txt"))
}

/// Submits such a script.
fn submit(desk: &Desk, options: &[&str], lines: &str) -> String {
    desk.script("job.sh", &format!("#!/bin/bash\n{lines}"));
    let usual = [
        "sbatch",
        "--parsable",
        "-N2",
        "--ntasks-per-node=2",
        "-o",
        "out.txt",
    ];
    let done = desk.run(&[&usual, options, &["job.sh"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    done.stdout.trim().to_owned()
}

fn state(desk: &Desk, job: &str) -> String {
    let done = desk.run(&["sacct", "-X", "-n", "-P", "-j", job, "--format=State"]);
    done.stdout.trim().to_owned()
}

/// The processes whose numbers ranks have written to files that begin like that, as far as these are complete.
fn pids(desk: &Desk, prefix: &str) -> Vec<u32> {
    let names = crate::desk::names(&desk.work());
    let of_ranks = names
        .iter()
        .filter(|name| name.starts_with(prefix) && !name.ends_with(".part"));
    // a file may be gone again, or not yet written, since its name was read
    let written = of_ranks.filter_map(|name| std::fs::read_to_string(desk.work().join(name)).ok());
    written
        .filter_map(|text| text.strip_suffix('\n')?.parse().ok())
        .collect()
}

/// A rank that says that it is there, and stays.
const STAYS: &str =
    "echo $$ > pid-$SLURM_PROCID.part; mv pid-$SLURM_PROCID.part pid-$SLURM_PROCID; exec sleep 1000";

#[test]
fn ranks_of_a_step_are_on_all_nodes_of_its_job_and_know_where() {
    let (_up, desk) = cluster("2");
    let lines = r#"
show='echo "$SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID, $SLURM_GTIDS of $SLURM_NTASKS, $SLURM_STEP_NUM_NODES: $SLURM_STEP_TASKS_PER_NODE, $SLURMD_NODENAME"'
first=$SLURMD_NODENAME
second=$(scontrol show hostnames | tail -n 1)
shown() { sort -n | sed -e "s/$first/first/" -e "s/$second/second/"; }
srun sh -c "$show" | shown
srun -m cyclic sh -c "$show" | shown
srun -n 2 sh -c "$show" | shown
srun -N 1 -n 1 -w $second sh -c "$show" | shown
srun -n 3 -l sh -c 'echo $SLURM_NODEID' | sort
srun sh -c 'test "$SLURM_STEP_NODELIST" = "$SLURM_JOB_NODELIST" && test -z "$PHALANX_STEPS_SOCKET" -o $SLURM_NODEID = 0' && echo known
mpiexec -n 4 sh -c "$show" | shown
mpiexec -n 2 -hosts $second,$first sh -c "$show" | shown
"#;
    let expected = "0 0 0, 0,1 of 4, 2: 2(x2), first\n1 1 0, 0,1 of 4, 2: 2(x2), first\n2 0 1, 2,3 of 4, 2: 2(x2), second\n\
                    3 1 1, 2,3 of 4, 2: 2(x2), second\n\
                    0 0 0, 0,2 of 4, 2: 2(x2), first\n1 0 1, 1,3 of 4, 2: 2(x2), second\n2 1 0, 0,2 of 4, 2: 2(x2), first\n\
                    3 1 1, 1,3 of 4, 2: 2(x2), second\n\
                    0 0 0, 0 of 2, 2: 1(x2), first\n1 0 1, 1 of 2, 2: 1(x2), second\n\
                    0 0 0, 0 of 1, 1: 1, second\n\
                    0: 0\n1: 0\n2: 1\nknown\n\
                    0 0 0, 0,1 of 4, 2: 2(x2), first\n1 1 0, 0,1 of 4, 2: 2(x2), first\n2 0 1, 2,3 of 4, 2: 2(x2), second\n\
                    3 1 1, 2,3 of 4, 2: 2(x2), second\n\
                    0 0 1, 0 of 2, 2: 1(x2), second\n1 0 0, 1 of 2, 2: 1(x2), first\n";
    let (code, printed) = run(&desk, lines);
    assert_eq!((code, printed.as_str()), (Some(0), expected));
}

#[test]
fn ranks_elsewhere_read_write_and_end_as_those_beside_srun_do() {
    let (_up, desk) = cluster("2");
    let lines = r#"
yes 0123456789 | head -c 1000000 > input
srun sh -c 'cksum | sed "s/^/$SLURM_PROCID /"' < input | sort > sums
echo "$(wc -l < sums) $(cut -d' ' -f2- sums | sort -u | wc -l) $(cksum < input | cut -d' ' -f1 | xargs -I% grep -c % sums)"
srun -i input -o 'rank-%t' cat; cmp input rank-0 && cmp input rank-3 && echo copied
srun -n 2 -i 1 sh -c 'wc -c' < input | sort -n
srun -o all -e errors sh -c 'echo out $SLURM_PROCID; echo err $SLURM_PROCID >&2'; sort all; sort errors
srun sh -c 'exit $((SLURM_PROCID * 3))'; echo "code $?"
srun sh -c 'test $SLURM_PROCID != 3 || kill -9 $$'; echo "code $?"
srun -n 4 -K sh -c 'test $SLURM_PROCID = 3 && exit 5; sleep 1000'; echo "code $?"
srun ./nowhere; echo "code $?"
cd /tmp; srun sh -c 'pwd' | uniq
"#;
    let (code, printed) = run(&desk, lines);
    assert_eq!(code, Some(0), "{printed}");
    let said: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("srun: "))
        .collect();
    let rest: Vec<&str> = printed
        .lines()
        .filter(|line| !line.starts_with("srun: "))
        .collect();
    let expected = "4 1 4\ncopied\n0\n1000000\nout 0\nout 1\nout 2\nout 3\nerr 0\nerr 1\nerr 2\nerr 3\ncode 9\ncode 137\ncode 137\ncode 127\n/tmp";
    assert_eq!(rest.join("\n"), expected, "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("task 3: Killed")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|line| line.contains("task 3: Exited with exit code 5")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.contains("cannot start `./nowhere`")),
        "{said:?}"
    );
}

#[test]
fn ranks_on_two_nodes_of_a_script_are_one_mpi_world() {
    let (_up, desk) = cluster("2");
    desk.script("rank.sh", RANK);
    let who = "ask 'cmd=get kvsname=x key=PMI_process_mapping'\necho \"$PMI_RANK: $MPI_LOCALRANKID of $MPI_LOCALNRANKS, $answer\"\n";
    desk.script(
        "who.sh",
        &RANK.replace("ask 'cmd=finalize'\n", &format!("{who}ask 'cmd=finalize'\n")),
    );
    let (code, printed) = run(
        &desk,
        "srun bash who.sh | sort\nmpiexec -n 2 bash rank.sh abort\necho code $?\n",
    );
    assert_eq!(code, Some(0), "{printed}");
    for line in [
        "0 of 4: cmd=get_result rc=0 msg=success value=of-1",
        "1 of 4: cmd=get_result rc=0 msg=success value=of-2",
        "3 of 4: cmd=get_result rc=0 msg=success value=of-0",
        "0: 0 of 2, cmd=get_result rc=0 msg=success value=(vector,(0,2,2))",
        "3: 1 of 2, cmd=get_result rc=0 msg=success value=(vector,(0,2,2))",
        "code 9",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}: {printed}"
        );
    }
}

#[test]
fn a_killed_srun_leaves_nothing_on_the_other_node() {
    let (_up, desk) = cluster("2");
    let lines = format!(
        "srun sh -c '{STAYS}' &\necho $! > part; mv part srun\nwait\ntouch over\nwhile [ ! -e go ]; do sleep 0.05; done\n"
    );
    let job = submit(&desk, &[], &lines);
    eventually("all ranks run", || pids(&desk, "pid-").len() == 4);
    let ranks = pids(&desk, "pid-");
    assert!(ranks.iter().all(|&pid| is_alive(pid)), "{ranks:?}");
    eventually("srun is named", || desk.work().join("srun").exists());
    send(desk.read("srun").trim().parse().unwrap(), Signal::KILL);
    eventually("none is left", || ranks.iter().all(|&pid| !is_alive(pid)));
    assert_eq!(state(&desk, &job), "RUNNING");
    desk.script("go", "");
    eventually("it has ended", || state(&desk, &job) == "COMPLETED");
}

#[test]
fn what_is_told_to_a_script_is_told_to_ranks_on_all_nodes_and_its_end_is_theirs() {
    let (_up, desk) = cluster("2");
    let rank = "trap \"echo usr >> told-$SLURM_PROCID\" USR1; trap \"echo term >> told-$SLURM_PROCID; exit\" TERM; \
                echo $$ > pid-$SLURM_PROCID; while :; do sleep 0.05; done";
    desk.script("rank.sh", rank);
    let told = |desk: &Desk, what: &str| {
        (0..4).all(|rank| {
            let path = desk.work().join(format!("told-{rank}"));
            std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == what))
        })
    };
    let job = submit(
        &desk,
        &[],
        "trap : USR1 TERM\nsrun bash rank.sh &\nwait; wait; wait\n",
    );
    eventually("all ranks run", || pids(&desk, "pid-").len() == 4);
    assert_eq!(desk.run(&["scancel", "-s", "USR1", &job]).code, Some(0));
    eventually("all ranks are told", || told(&desk, "usr"));
    assert_eq!(desk.run(&["scancel", &job]).code, Some(0));
    eventually("all ranks are told to end", || told(&desk, "term"));
    eventually("it is cancelled", || state(&desk, &job).starts_with("CANCELLED"));
    let job = submit(
        &desk,
        &["-t", "0:08"],
        &format!("rm -f pid-*; srun sh -c '{STAYS}'\n"),
    );
    eventually("its time is over", || state(&desk, &job) == "TIMEOUT");
    eventually("all its ranks have ended", || {
        pids(&desk, "pid-").iter().all(|&pid| !is_alive(pid))
    });
}

#[test]
fn ranks_of_a_job_that_has_lost_a_node_are_ended_before_it_starts_again() {
    let (up, desk) = cluster("3");
    let lines = format!(
        "cd $SLURM_SUBMIT_DIR; mkdir run-$SLURM_RESTART_COUNT; cd run-$SLURM_RESTART_COUNT; scontrol show hostnames > nodes\n\
         srun sh -c '{STAYS}'\n"
    );
    let job = submit(&desk, &[], &lines);
    eventually("all ranks run", || pids_in(&desk, "run-").len() == 4);
    let ranks = pids_in(&desk, "run-");
    let nodes = desk.read("run-/nodes");
    let lost = nodes.lines().nth(1).unwrap();
    let workers = up.document["workers"].as_array().unwrap();
    let worker = workers.iter().find(|worker| worker["name"] == lost).unwrap();
    send(
        u32::try_from(worker["pid"].as_u64().unwrap()).unwrap(),
        Signal::KILL,
    );
    // srun fails for it too, which is not the script's fault
    eventually("all ranks run again", || pids_in(&desk, "run-1").len() == 4);
    eventually("those from before are gone", || {
        ranks.iter().all(|&pid| !is_alive(pid))
    });
    assert_eq!(desk.run(&["scancel", &job]).code, Some(0));
    eventually("it is cancelled", || state(&desk, &job).starts_with("CANCELLED"));
}

/// The same as [`pids`] in a folder.
fn pids_in(desk: &Desk, folder: &str) -> Vec<u32> {
    let folder = desk.work().join(folder);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let of_ranks = paths.filter(|path| path.extension().is_none() && path.to_string_lossy().contains("pid-"));
    of_ranks
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .collect()
}

#[test]
fn srun_outside_of_a_job_starts_ranks_on_as_many_nodes_as_it_is_told() {
    let (_up, desk) = cluster("2");
    let show = "echo $SLURM_PROCID on $SLURM_NODEID of $SLURM_STEP_NUM_NODES; exit $SLURM_PROCID";
    let done = desk.run(&["srun", "-N", "2", "-n", "4", "-l", "sh", "-c", show]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "0: 0 on 0 of 2",
            "1: 1 on 0 of 2",
            "2: 2 on 1 of 2",
            "3: 3 on 1 of 2"
        ]
    );
    let mut command = desk.command(&["srun", "-N2", "sh", "-c", "echo $SLURM_NTASKS $(wc -c)"]);
    let input = desk.work().join("input");
    std::fs::write(&input, "12345").unwrap();
    command.stdin(std::fs::File::open(input).unwrap());
    let done = finish(command.spawn().unwrap());
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), "2 5\n2 5\n"),
        "{done:?}"
    );
}
