//! The commands of PBS: scripts as they are, and what programs ask about them.

use crate::command::{eventually, run};
use crate::desk::{Desk, names};
use crate::up::Up;

const WATER: &str = "\
#PBS -N water
#PBS -l select=1:ncpus=2:mpiprocs=2:mem=100mb
#PBS -l walltime=00:05:00
#PBS -q short
cd $PBS_O_WORKDIR
echo \"$PBS_JOBID $PBS_JOBNAME $PBS_QUEUE $PBS_NP $NCPUS $PBS_ENVIRONMENT $1\"
sort $PBS_NODEFILE | uniq -c | awk '{print $1}'
echo oops >&2
exit 3
";

#[test]
fn a_script_of_pbs_runs_as_it_is_and_leaves_its_files() {
    let up = Up::start_wide();
    let desk = Desk::new(up.directory());
    desk.script("water.pbs", WATER);
    let done = desk.run(&["qsub", "-W", "block=true", "water.pbs", "word"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), "1.phalanx\n"),
        "{done:?}"
    );
    assert_eq!(names(&desk.work()), ["water.e1", "water.o1", "water.pbs"]);
    assert_eq!(desk.read("water.o1"), "1 water short 2 2 PBS_BATCH word\n2\n");
    assert_eq!(desk.read("water.e1"), "oops\n");
    // Nextflow, Parsl
    let full = desk.run(&["qstat", "-f", "1.phalanx"]).told();
    assert!(
        full.starts_with("Job Id: 1.phalanx\n    Job_Name = water\n"),
        "{full}"
    );
    assert!(
        full.contains("    job_state = F\n") && full.contains("    Exit_status = 3\n"),
        "{full}"
    );
    let document = desk.run(&["qstat", "-x", "-f", "-F", "json", "1.phalanx"]).told();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["Jobs"]["1.phalanx"]["job_state"], "F");
    let mut piped = desk.command(&["qsub", "-j", "oe", "-o", "both", "-W", "block=true"]);
    let script = desk.work().join("piped");
    std::fs::write(&script, "echo out; echo err >&2; pwd\n").unwrap();
    piped
        .stdin(std::fs::File::open(script).unwrap())
        .env("HOME", desk.work());
    assert_eq!(run(piped).code, Some(0));
    let here = std::fs::canonicalize(desk.work()).unwrap();
    assert_eq!(desk.read("both"), format!("out\nerr\n{}\n", here.display()));
}

#[test]
fn jobs_of_pbs_are_listed_and_ended_by_their_names() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submit = |words: &[&str]| {
        let all = [
            &["qsub", "-N", "long", "-o", "/dev/null", "-j", "oe"],
            words,
            &["--", "sleep", "600"],
        ]
        .concat();
        desk.run(&all).told().trim().to_owned()
    };
    assert_eq!(submit(&["-J", "0-3"]), "1[].phalanx");
    assert_eq!(submit(&["-h"]), "2.phalanx");
    eventually("two run", || {
        desk.run(&["qstat", "-t", "1[].phalanx"])
            .stdout
            .matches(" R ")
            .count()
            == 2
    });
    let table = desk.run(&["qstat"]).told();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[2].starts_with("1[].phalanx       long "), "{table}");
    assert!(
        lines[2].ends_with(" B phalanx") && lines[3].ends_with(" H phalanx"),
        "{table}"
    );
    assert_eq!(desk.run(&["qstat", "-f", "-1", "nowhere"]).told(), "");
    assert_eq!(
        desk.run(&["qstat", "-f", "@phalanx"])
            .told()
            .matches("Job Id: ")
            .count(),
        2
    );
    assert!(
        desk.run(&["qstat", "-B"]).told().contains("\nphalanx "),
        "{:?}",
        desk.run(&["qstat", "-B"])
    );
    let done = desk.run(&["qdel", "2.phalanx", "9.phalanx"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(153), "qdel: Unknown Job Id 9.phalanx\n")
    );
    assert_eq!(desk.run(&["qdel", "1[].phalanx"]).code, Some(0));
    eventually("all are over", || desk.run(&["qstat"]).stdout.is_empty());
    assert_eq!(desk.run(&["qdel", "2.phalanx"]).code, Some(35));
    assert_eq!(desk.run(&["qstat", "7"]).code, Some(153));
    let done = desk.run(&["qsub", "-I"]);
    assert!(done.code == Some(1) && done.stderr.contains("salloc"), "{done:?}");
    let done = desk.run(&["qsub", "-l", "walltime=soon", "--", "true"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("walltime=soon"),
        "{done:?}"
    );
}
