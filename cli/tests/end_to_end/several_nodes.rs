//! Batch jobs on several nodes: one job, whose script runs on the first of them and knows the others.

use rustix::process::Signal;

use crate::command::{eventually, send};
use crate::desk::Desk;
use crate::up::Up;

/// A cluster of so many workers with four cpus.
fn cluster(workers: &str) -> (Up, Desk) {
    let up = Up::start_equipped(&["--workers", workers, "--cpus", "4"]);
    let desk = Desk::new(up.directory());
    (up, desk)
}

/// What a command says that must not fail.
fn told(desk: &Desk, words: &[&str]) -> String {
    let done = desk.run(words);
    assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    done.stdout.trim_end().to_owned()
}

/// The state of a job that has ended.
fn ended(desk: &Desk, job: &str, format: &str) -> String {
    let format = format!("--format={format}");
    told(desk, &["sacct", "-X", "-n", "-P", "-j", job, &format])
}

/// Submits a script of these lines, with options.
fn submit(desk: &Desk, options: &[&str], lines: &str) -> String {
    desk.script("job.sh", &format!("#!/bin/bash\n{lines}"));
    told(desk, &[&["sbatch", "--parsable"], options, &["job.sh"]].concat())
}

fn has(desk: &Desk, name: &str) -> bool {
    desk.work().join(name).exists()
}

/// The processes of workers by the names that scripts know them by.
fn worker_pid(up: &Up, name: &str) -> u32 {
    let workers = up.document["workers"].as_array().unwrap();
    let found = workers.iter().find(|worker| worker["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is none of {workers:?}"));
    u32::try_from(found["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_job_on_two_nodes_runs_its_script_on_the_first_and_ends_with_it() {
    let (_up, desk) = cluster("2");
    let lines = "
echo \"$SLURM_NNODES $SLURM_JOB_NUM_NODES, $SLURM_NTASKS as $SLURM_TASKS_PER_NODE, $SLURM_JOB_CPUS_PER_NODE, $SLURM_NODEID\"
names=( $(scontrol show hostnames) )
echo \"${#names[@]} $(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | sort -u | wc -l)\"
[ \"${names[0]}\" = \"$SLURMD_NODENAME\" ] && echo first
squeue -h -j $SLURM_JOB_ID -o '%i %t %D %C' --noheader
[ \"$(squeue -h -j $SLURM_JOB_ID -o %N)\" = \"$SLURM_JOB_NODELIST\" ] && echo listed
scontrol show job $SLURM_JOB_ID | grep -o -e 'NumNodes=[0-9]*' -e 'NumCPUs=[0-9]*' -e 'BatchHost=.*' | sed s/$SLURMD_NODENAME/first/
sinfo -h -o %C
exit 3
";
    let options = ["--wait", "-N", "2", "--ntasks-per-node=2", "-o", "out.txt"];
    desk.script("job.sh", &format!("#!/bin/bash\n{lines}"));
    let done = desk.run(&[&["sbatch", "--parsable"], &options[..], &["job.sh"]].concat());
    assert_eq!(done.code, Some(3), "{done:?}");
    let job = done.stdout.trim();
    let expected = format!(
        "2 2, 4 as 2(x2), 2(x2), 0\n2 2\nfirst\n{job} R 2 4\nlisted\nBatchHost=first\nNumNodes=2\nNumCPUs=4\n4/4/0/8\n"
    );
    assert_eq!(desk.read("out.txt"), expected);
    assert_eq!(
        ended(&desk, job, "JobID,State,ExitCode,NNodes,NCPUS"),
        format!("{job}|FAILED|3:0|2|4")
    );
    assert_eq!(told(&desk, &["squeue", "-h"]), "");
    // what kept the other node is gone
    eventually("all cpus are free", || {
        told(&desk, &["sinfo", "-h", "-o", "%C"]) == "0/8/0/8"
    });
    let job = submit(&desk, &["--wait", "-N2", "-o", "/dev/null"], "true");
    assert_eq!(ended(&desk, &job, "State,ExitCode"), "COMPLETED|0:0");
}

#[test]
fn a_job_whose_other_node_is_lost_starts_again_on_two_or_has_failed() {
    let (up, desk) = cluster("3");
    let lines = "
echo $SLURM_JOB_NODELIST > nodes.part
mv nodes.part nodes-${SLURM_RESTART_COUNT:-0}
while [ ! -e go ]; do sleep 0.05; done
";
    let second = |name: &str| {
        let list = desk.read(name);
        let names = told(&desk, &["scontrol", "show", "hostnames", list.trim()]);
        names.lines().nth(1).unwrap().to_owned()
    };
    let job = submit(&desk, &["-N2", "-o", "/dev/null"], lines);
    eventually("its script runs", || has(&desk, "nodes-0"));
    let lost = second("nodes-0");
    send(worker_pid(&up, &lost), Signal::KILL);
    eventually("its script runs again", || has(&desk, "nodes-1"));
    assert_ne!(second("nodes-1"), lost);
    assert_eq!(
        told(&desk, &["squeue", "-h", "-j", &job, "-O", "RestartCnt,NumNodes"])
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["1", "2"]
    );
    desk.script("go", "");
    eventually("it has ended", || ended(&desk, &job, "State") == "COMPLETED");
    for name in ["go", "nodes-0", "nodes-1"] {
        std::fs::remove_file(desk.work().join(name)).unwrap();
    }
    let job = submit(&desk, &["-N2", "--no-requeue", "-o", "/dev/null"], lines);
    eventually("its script runs", || has(&desk, "nodes-0"));
    send(worker_pid(&up, &second("nodes-0")), Signal::KILL);
    eventually("it has ended", || ended(&desk, &job, "State") == "NODE_FAIL");
}

#[test]
fn a_job_on_two_nodes_is_limited_cancelled_and_signalled_as_any_other() {
    let (_up, desk) = cluster("2");
    let waits = "
trap 'echo told >> told.txt' USR1
touch runs
while :; do sleep 0.05; done
";
    let job = submit(&desk, &["-N2", "-o", "/dev/null"], waits);
    eventually("it runs", || has(&desk, "runs"));
    assert_eq!(desk.run(&["scancel", "-b", "-s", "USR1", &job]).code, Some(0));
    eventually("it is told", || has(&desk, "told.txt"));
    assert_eq!(told(&desk, &["squeue", "-h", "-o", "%t"]), "R");
    assert_eq!(desk.run(&["scancel", &job]).code, Some(0));
    eventually("it is cancelled", || {
        ended(&desk, &job, "State").starts_with("CANCELLED")
    });
    eventually("all cpus are free", || {
        told(&desk, &["sinfo", "-h", "-o", "%C"]) == "0/8/0/8"
    });
    let job = submit(&desk, &["-N2", "-t", "0:01", "-o", "/dev/null"], "sleep 100");
    eventually("its time is over", || ended(&desk, &job, "State") == "TIMEOUT");
    let line = "sbatch --wait -N2 -n4 -c2 -a 1-2 -o element-%a.txt --wrap";
    let says = "echo $SLURM_NNODES $SLURM_NTASKS $SLURM_CPUS_ON_NODE; srun -l hostname | wc -l";
    let words: Vec<&str> = line.split(' ').chain([says]).collect();
    let array = desk.run(&words);
    assert_eq!(array.code, Some(0), "{array:?}");
    let warning =
        "each element of the array runs on one node, and has what it would have on one of 2: 2 tasks of 4";
    assert!(array.stderr.contains(warning), "{array:?}");
    assert_eq!(
        ["element-1.txt", "element-2.txt"].map(|file| desk.read(file)),
        ["1 2 4\n2\n"; 2]
    );
    let waits = desk.run(&["sbatch", "-N3", "--wrap", "true"]);
    assert!(
        waits
            .stderr
            .contains("needs 3 nodes at a time and the cluster has 2"),
        "{waits:?}"
    );
    assert_eq!(told(&desk, &["squeue", "-h", "-o", "%t %D %r"]), "PD 3 Resources");
}

#[test]
fn scripts_of_pbs_find_their_nodes_in_a_file() {
    let (_up, desk) = cluster("2");
    desk.script(
        "pbs.sh",
        "#!/bin/sh\n#PBS -l nodes=2:ppn=2\n#PBS -j oe -o pbs.txt\ncd $PBS_O_WORKDIR\n\
         echo \"$PBS_NUM_NODES of $PBS_NUM_PPN: $PBS_NP\"\nsort $PBS_NODEFILE | uniq -c | awk '{print $1}'\n\
         [ \"$(head -n 1 $PBS_NODEFILE)\" = $SLURMD_NODENAME ] && echo first\n",
    );
    let done = desk.run(&["qsub", "-W", "block=true", "pbs.sh"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(desk.read("pbs.txt"), "2 of 2: 4\n2\n2\nfirst\n");
}
