//! Jobs that name the workers that they run on, or not on, and resources that some worker may offer.

use crate::command::{eventually, run};
use crate::desk::Desk;
use crate::up::Up;

/// The names of the workers.
fn names(up: &Up) -> Vec<String> {
    let document = up.run("workers --output json").json();
    let workers = document["workers"].as_array().unwrap();
    let mut names: Vec<String> = workers
        .iter()
        .map(|worker| worker["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_script_runs_on_the_nodes_that_it_names() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let names = names(&up);
    let [first, second] = &names[..] else {
        panic!("two workers: {names:?}");
    };
    let ran_on = |options: &[&str]| {
        let all = [
            "sbatch",
            "--wait",
            "-o",
            "where.txt",
            "--wrap",
            "echo $SLURMD_NODENAME",
        ];
        let done = desk.run(&[&all[..], options].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        desk.read("where.txt").trim().to_owned()
    };
    for name in &names {
        assert_eq!(&ran_on(&["-w", name]), name);
        assert_eq!(&ran_on(&["--nodelist", &format!("none[1-3],{name}")]), name);
    }
    assert_eq!(&ran_on(&["-x", first]), second);
    assert_eq!(&ran_on(&["-x", second]), first);
    let srun = desk.run(&["srun", "-x", first, "printenv", "SLURMD_NODENAME"]);
    assert_eq!(srun.stdout.trim(), second, "{srun:?}");
    let salloc = desk.run(&[
        "salloc",
        "-Q",
        "-w",
        second,
        "sh",
        "-c",
        "echo $SLURM_JOB_NODELIST",
    ]);
    assert_eq!(salloc.stdout.trim(), second, "{salloc:?}");
    for name in &names {
        let mut command = up.command("run --on");
        command.args([name, "--", "printenv", "PHALANX_WORKER"]);
        assert_eq!(run(command).stdout.trim(), name);
    }
    let mut command = up.command("run --not-on");
    command.args([first, "--", "printenv", "PHALANX_WORKER"]);
    assert_eq!(run(command).stdout.trim(), second);
}

#[test]
fn a_job_on_several_nodes_has_those_that_it_names() {
    let up = Up::start_equipped(&["--workers", "3", "--cpus", "1"]);
    let desk = Desk::new(up.directory());
    let names = names(&up);
    let had = |options: &[&str]| {
        let script = "scontrol show hostnames";
        let all = ["sbatch", "--wait", "-o", "nodes.txt", "--wrap", script];
        let done = desk.run(&[&all[..], options].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        let nodes = desk.read("nodes.txt");
        nodes.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(had(&["-N", "2", "-w", &names[1..].join(",")]), names[1..]);
    assert_eq!(
        had(&["-N", "2", "-x", &names[1]]),
        [names[0].clone(), names[2].clone()]
    );
    let both = had(&["-N", "2", "-w", &names[2]]);
    assert!(both.len() == 2 && both.contains(&names[2]), "{both:?}");
}

#[test]
fn a_script_for_a_node_that_is_not_there_waits_and_everybody_says_so() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let names = names(&up);
    let done = desk.run(&["sbatch", "-w", "far[7-8]", "--wrap", "true"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), "Submitted batch job 1\n")
    );
    let told =
        "sbatch: warning: the job waits for a worker that has not joined: it may run on far[7-8] only\n";
    assert_eq!(done.stderr, told);
    let done = desk.run(&["sbatch", "-x", &names.join(","), "--wrap", "true"]);
    assert!(done.stderr.contains("all among the excluded"), "{done:?}");
    eventually("both are shown", || {
        let shown = desk.run(&["squeue", "-h", "-S", "i", "-o", "%i %r %n|%x"]).told();
        let excluded = desk
            .run(&["scontrol", "show", "hostnames", &names.join(",")])
            .stdout;
        assert_eq!(excluded.lines().count(), 2);
        shown.starts_with("1 ReqNodeNotAvail far[7-8]|\n2 ReqNodeNotAvail |")
    });
    let job = desk.run(&["scontrol", "show", "job", "1"]);
    assert!(
        job.stdout.contains("ReqNodeList=far[7-8] ExcNodeList=(null)"),
        "{job:?}"
    );
    let explained = up.run("explain 1");
    let sentence = "job 1 waits for workers that have not joined: far[7-8].";
    assert!(explained.stdout.starts_with(sentence), "{explained:?}");
    let explained = up.run("explain 2");
    assert!(
        explained
            .stdout
            .contains("job 2 waits for other workers: it may run on all but"),
        "{explained:?}"
    );
    let tested = desk.run(&["sbatch", "--test-only", "-w", "far7", "--wrap", "true"]);
    assert_eq!(tested.code, Some(1), "{tested:?}");
    let noted = up.run("submit --on far9 true");
    assert_eq!(noted.stdout, "3\n");
    assert!(noted.stderr.contains("it may run on far9 only"), "{noted:?}");
}

#[test]
fn other_resources_count_where_a_worker_offers_them() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "4", "--resource", "nvme=100"]);
    let desk = Desk::new(up.directory());
    let done = desk.run(&["sbatch", "--hold", "--gres=nvme:60", "--wrap", "true"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert!(up.run("job 1").stdout.contains("1 cpu, 60 nvme"));
    let done = desk.run(&["sbatch", "--wait", "--gres=tape:1,nvme:1", "--wrap", "true"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = "sbatch: warning: no worker offers tape: that is recorded only (`phalanx worker --resource NAME=N` offers some)\n";
    assert_eq!(done.stderr, told);
    let refused = desk.run(&["sbatch", "--gres=nvme:101", "--wrap", "true"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("101 nvme"), "{refused:?}");
}
