//! The lists that callers of Slurm's commands read: of jobs, elements of arrays, nodes.

use crate::command::eventually;
use crate::desk::Desk;
use crate::up::Up;

/// A script that says that it is there, and waits until it may go on.
const GATE: &str = "#!/bin/bash
touch here-$SLURM_ARRAY_TASK_ID
while [ ! -e go ]; do sleep 0.05; done
exit $SLURM_ARRAY_TASK_ID
";

fn stdout(desk: &Desk, words: &[&str]) -> String {
    let done = desk.run(words);
    assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    done.stdout
}

/// As whom the cluster knows the first job that waits or runs.
fn user(desk: &Desk) -> String {
    stdout(desk, &["squeue", "-h", "-o", "%u"])
        .lines()
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn lists_of_nodes_need_no_cluster() {
    let desk = Desk::new("/does/not/exist".into());
    assert_eq!(
        stdout(&desk, &["scontrol", "show", "hostnames", "n[008-010,12],login"]),
        "n008\nn009\nn010\nn12\nlogin\n"
    );
    assert_eq!(
        stdout(&desk, &["scontrol", "show", "hostlist", "n1,n2,n4"]),
        "n[1-2,4]\n"
    );
    let mut command = desk.command(&["scontrol", "show", "hostname"]);
    command.env("SLURM_JOB_NODELIST", "n[1-2]");
    assert_eq!(crate::command::run(command).stdout, "n1\nn2\n");
    let done = desk.run(&["scontrol", "show", "hostnames"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("$SLURM_JOB_NODELIST"), "{done:?}");
    let done = desk.run(&["scontrol", "show", "hostnames", "n[1-"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("bracket"),
        "{done:?}"
    );
}

#[test]
fn jobs_and_elements_are_listed_while_they_wait_run_and_have_ended() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    desk.script("gate.sh", GATE);
    let submitted = [
        "sbatch",
        "--parsable",
        "-J",
        "gate",
        "-p",
        "short",
        "-A",
        "lab",
        "--array",
        "0-5%2",
        "gate.sh",
    ];
    assert_eq!(stdout(&desk, &submitted), "1\n");
    eventually("two elements run", || {
        ["here-0", "here-1"]
            .iter()
            .all(|name| desk.work().join(name).exists())
    });
    let user = stdout(&desk, &["squeue", "-h", "-o", "%u"])
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let mut lines: Vec<String> = stdout(
        &desk,
        &[
            "squeue",
            "--noheader",
            "-o",
            "%i %t",
            "-t",
            "all",
            "-p",
            "short",
            "-u",
            &user,
        ],
    )
    .lines()
    .map(str::to_owned)
    .collect();
    lines.sort();
    assert_eq!(lines, ["1_0 R", "1_1 R", "1_[2-5%2] PD"]);
    assert_eq!(stdout(&desk, &["squeue", "-h", "-r", "--me"]).lines().count(), 6);
    assert_eq!(
        stdout(&desk, &["squeue", "-h", "-t", "PD", "-o", "%r"]),
        "JobArrayTaskLimit\n"
    );
    assert_eq!(stdout(&desk, &["squeue", "-h", "-p", "long"]), "");
    let default = stdout(&desk, &["squeue"]);
    assert!(default.starts_with(
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"
    ));
    assert_eq!(
        stdout(
            &desk,
            &[
                "sacct",
                "-X",
                "-n",
                "-P",
                "-o",
                "JobID,State,JobName,Partition,Account"
            ]
        ),
        "1_0|RUNNING|gate|short|lab\n1_1|RUNNING|gate|short|lab\n1_[2-5%2]|PENDING|gate|short|lab\n"
    );
    let shown = stdout(&desk, &["scontrol", "show", "job", "1_0"]);
    assert!(
        shown.starts_with("JobId=1000000001 ArrayJobId=1 ArrayTaskId=0 "),
        "{shown}"
    );
    assert!(shown.contains("\n   JobState=RUNNING Reason=None "), "{shown}");
    std::fs::write(desk.work().join("go"), "").unwrap();
    assert_eq!(up.run("wait 1").code, Some(1));
    assert_eq!(stdout(&desk, &["squeue", "-h"]), "");
    let all = stdout(&desk, &["squeue", "-h", "-t", "all", "-o", "%i|%T"]);
    assert_eq!(all.lines().count(), 6, "{all}");
    assert!(
        all.contains("1_0|COMPLETED\n") && all.contains("1_5|FAILED\n"),
        "{all}"
    );
    let ended = stdout(
        &desk,
        &[
            "sacct",
            "-j",
            "1_0,1_3",
            "--parsable2",
            "-n",
            "-o",
            "JobID,State,ExitCode,NodeList",
        ],
    );
    let lines: Vec<&str> = ended.lines().collect();
    assert_eq!(lines.len(), 4, "{ended}");
    assert!(
        lines[0].starts_with("1_0|COMPLETED|0:0|") && !lines[0].ends_with("assigned"),
        "{ended}"
    );
    assert!(lines[1].starts_with("1_0.batch|COMPLETED|0:0|"), "{ended}");
    assert!(
        lines[2].starts_with("1_3|FAILED|3:0|") && lines[3].starts_with("1_3.batch|FAILED|3:0|"),
        "{ended}"
    );
}

#[test]
fn what_engines_ask_of_finished_jobs_is_answered() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submit = |name: &str, command: &str| {
        let words = [
            "sbatch",
            "--parsable",
            "--job-name",
            name,
            "--comment",
            "rule_a",
            "--wait",
            "--wrap",
            command,
        ];
        desk.run(&words).stdout.trim().to_owned()
    };
    let done = submit("run-1", "true");
    let failed = submit("run-1", "exit 4");
    submit("run-2", "true");
    // Snakemake
    let asked = "sacct -X --parsable2 --clusters all --noheader --format=JobIdRaw,State --starttime now-2days --endtime now --name run-1";
    let words: Vec<&str> = asked.split(' ').collect();
    assert_eq!(
        stdout(&desk, &words),
        format!("{done}|COMPLETED\n{failed}|FAILED\n")
    );
    let asked = "squeue --format %i|%T --states=all --noheader --name run-1";
    let words: Vec<&str> = asked.split(' ').collect();
    assert_eq!(stdout(&desk, &words).lines().count(), 2);
    // Parsl
    let asked = format!("sacct -X --noheader --format=jobid,state%20 --job {done},{failed}");
    let words: Vec<&str> = asked.split(' ').collect();
    let told = stdout(&desk, &words);
    let pairs: Vec<Vec<&str>> = told
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(pairs, [[done.as_str(), "COMPLETED"], [failed.as_str(), "FAILED"]]);
    assert_eq!(desk.run(&["sacct", "-X"]).code, Some(0));
    // submitit
    let told = stdout(
        &desk,
        &[
            "sacct",
            "-o",
            "JobID,State,NodeList",
            "--parsable2",
            "-j",
            &done,
            "-j",
            &failed,
        ],
    );
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "JobID|State|NodeList");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with(&format!("{failed}|FAILED|"))),
        "{told}"
    );
    // what is over since yesterday is not listed
    assert_eq!(
        stdout(
            &desk,
            &["sacct", "-n", "-X", "-S", "2020-01-01", "-E", "2020-01-02"]
        ),
        ""
    );
    let done = desk.run(&["squeue", "-j", "99"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("Invalid job id specified"), "{done:?}");
    let done = desk.run(&["scontrol", "show", "job", "99"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("no job 99"),
        "{done:?}"
    );
}

#[test]
fn a_job_that_begins_later_says_when() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submit = |begin: &str| {
        stdout(
            &desk,
            &["sbatch", "--parsable", "--begin", begin, "--wrap", "true"],
        )
    };
    submit("2037-01-31T16:00");
    submit("tomorrow");
    let told = stdout(&desk, &["squeue", "-h", "-o", "%i %t %r %S"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "1 PD BeginTime 2037-01-31T16:00:00");
    assert!(
        lines[1].starts_with("2 PD BeginTime 20") && lines[1].ends_with("T00:00:00"),
        "{told}"
    );
}

#[test]
fn nodes_and_the_partition_are_shown() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    assert_eq!(
        stdout(&desk, &["sinfo", "-h", "-o", "%P %D %t %C"]),
        "phalanx* 2 idle 0/2/0/2\n"
    );
    let names = stdout(&desk, &["sinfo", "-h", "-N", "-o", "%N"]);
    let nodes = stdout(
        &desk,
        &["scontrol", "show", "node", names.lines().next().unwrap()],
    );
    assert!(nodes.contains("CPUAlloc=0 CPUEfctv=1 CPUTot=1 "), "{nodes}");
    let partition = stdout(&desk, &["scontrol", "show", "partition"]);
    assert!(
        partition.contains("State=UP TotalCPUs=2 TotalNodes=2 "),
        "{partition}"
    );
    assert!(stdout(&desk, &["scontrol", "show", "config"]).contains("\nMinJobAge               = 300 sec\n"));
    let done = desk.run(&["scontrol", "show", "node", "nowhere"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("Node nowhere not found"),
        "{done:?}"
    );
    let done = desk.run(&["sinfo", "--stats"]);
    assert!(
        done.code == Some(1) && done.stderr.starts_with("sinfo: error: unexpected argument"),
        "{done:?}"
    );
}

#[test]
fn jobs_are_ended_by_name_or_by_what_they_are() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submit = |words: &[&str]| {
        let all = [
            &["sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 600"],
            words,
        ]
        .concat();
        stdout(&desk, &all).trim().to_owned()
    };
    let states = || stdout(&desk, &["sacct", "-X", "-n", "-P", "-o", "JobID,State%9"]);
    let ended = |job: &str| {
        eventually("it is over", || {
            let told = states();
            told.lines()
                .any(|line| line.starts_with(&format!("{job}|CANCELLED")))
        });
    };
    let (first, second) = (submit(&[]), submit(&["-J", "second"]));
    let held = submit(&["--hold"]);
    let last = submit(&["--hold", "-J", "last"]);
    assert_eq!(stdout(&desk, &["scancel", &first]), "");
    ended(&first);
    // ended already: no error
    assert_eq!(desk.run(&["scancel", &first, "--clusters=all"]).stderr, "");
    let done = desk.run(&["scancel", "99", &held]);
    assert_eq!(done.code, Some(1));
    assert_eq!(
        done.stderr,
        "scancel: error: Kill job error on job id 99: Invalid job id specified\n"
    );
    ended(&held);
    stdout(&desk, &["scancel", "--me", "-t", "RUNNING"]);
    ended(&second);
    assert!(states().contains(&format!("{last}|PENDING")));
    stdout(&desk, &["scancel", "--name", "last"]);
    ended(&last);
    let array = submit(&["--array", "1-8", "--open-mode=append"]);
    eventually("two run", || {
        stdout(&desk, &["squeue", "-h", "-t", "R", "-j", &array])
            .lines()
            .count()
            == 2
    });
    assert_eq!(
        stdout(
            &desk,
            &["scancel", &format!("{array}_1"), &format!("{array}_[5-7]")]
        ),
        ""
    );
    eventually("these are over, and the next has begun", || {
        let told = stdout(&desk, &["squeue", "-h", "-o", "%i %t", "-t", "all", "-j", &array]);
        let mut lines: Vec<&str> = told.lines().collect();
        lines.sort_unstable();
        let expected = ["_1 CA", "_2 R", "_3 R", "_5 CA", "_6 CA", "_7 CA", "_[4,8] PD"];
        lines == expected.map(|end| format!("{array}{end}"))
    });
    stdout(&desk, &["scancel", "-u", &user(&desk)]);
    eventually("all are over", || stdout(&desk, &["squeue", "-h"]).is_empty());
    let done = desk.run(&["scancel"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("No job identification provided"),
        "{done:?}"
    );
}

#[test]
fn jobs_start_from_the_top_when_they_are_requeued() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let script = "#!/bin/bash
#SBATCH --open-mode=append
echo run ${SLURM_RESTART_COUNT:-0}
if [ -z \"$SLURM_RESTART_COUNT\" ]; then scontrol requeue $SLURM_JOB_ID; sleep 600; fi
";
    desk.script("again.sh", script);
    assert_eq!(
        desk.run(&["sbatch", "--wait", "-o", "log", "again.sh"]).code,
        Some(0)
    );
    assert_eq!(desk.read("log"), "run 0\nrun 1\n");
    assert!(stdout(&desk, &["scontrol", "show", "job", "1"]).contains(" Restarts=1 "));
    assert_eq!(
        desk.run(&["sbatch", "--wait", "--array=3-4", "-o", "log-%a", "again.sh"])
            .code,
        Some(0)
    );
    assert_eq!(desk.read("log-4"), "run 0\nrun 1\n");
    stdout(&desk, &["scontrol", "requeue", "2_4"]);
    assert_eq!(up.run("wait 2").code, Some(0));
    assert_eq!(
        (desk.read("log-3"), desk.read("log-4")),
        ("run 0\nrun 1\n".into(), "run 0\nrun 1\nrun 2\n".into())
    );
    let done = desk.run(&["scontrol", "requeuehold", "1"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("it is over"),
        "{done:?}"
    );
    desk.script("gate.sh", GATE);
    stdout(&desk, &["sbatch", "gate.sh"]);
    eventually("it runs", || desk.work().join("here-").exists());
    stdout(&desk, &["scontrol", "requeuehold", "3"]);
    eventually("it waits", || {
        stdout(&desk, &["squeue", "-h", "-j", "3", "-o", "%t %r"]) == "PD JobHeldUser\n"
    });
    std::fs::write(desk.work().join("go"), "").unwrap();
    stdout(&desk, &["scontrol", "release", "3"]);
    assert_eq!(up.run("wait 3").code, Some(0));
    let done = desk.run(&["scontrol", "requeue", "99"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("cannot requeue job 99: Invalid job id"),
        "{done:?}"
    );
}
