//! `mpiexec` and `mpirun` outside of jobs: ranks of several programs on several workers, in one MPI world.

use std::io::Write;
use std::process::Stdio;

use crate::command::{finish, run};
use crate::desk::Desk;
use crate::mpi::{RANK, script_silent};
use crate::up::Up;

fn two_workers() -> Up {
    Up::start_equipped(&["--workers", "2", "--cpus", "2"])
}

/// A rank that meets the others, and says where it is and what it finds.
fn desk(up: &Up) -> Desk {
    let desk = Desk::new(up.directory());
    desk.script("rank.sh", RANK);
    std::fs::create_dir(desk.work().join("sub")).unwrap();
    let who = "ask 'cmd=get_appnum'\necho \"$PMI_RANK is on $PHALANX_NODE_INDEX of $PHALANX_NODES in $(basename $PWD), $answer, $COLOUR, $MPI_LOCALRANKID of $MPI_LOCALNRANKS there\"\n";
    desk.script("who.sh", &format!("{RANK}{who}"));
    desk
}

#[test]
fn programs_with_a_colon_between_them_are_one_world_on_several_workers() {
    let up = two_workers();
    let desk = desk(&up);
    let words = "mpiexec -l -genv COLOUR red -n 1 -host a bash who.sh : -n 2 -host b -wdir sub -env COLOUR blue bash ../who.sh : \
                 -n 1 -host a bash who.sh";
    let words: Vec<&str> = words.split_whitespace().collect();
    let done = desk.run(&words);
    assert_eq!(done.code, Some(0), "{done:?}");
    for line in [
        "0: 0 of 4: cmd=get_result rc=0 msg=success value=of-1",
        "3: 3 of 4: cmd=get_result rc=0 msg=success value=of-0",
        "0: 0 is on 0 of 2 in work, cmd=appnum rc=0 appnum=0, red, 0 of 2 there",
        "1: 1 is on 1 of 2 in sub, cmd=appnum rc=0 appnum=1, blue, 0 of 2 there",
        "2: 2 is on 1 of 2 in sub, cmd=appnum rc=0 appnum=1, blue, 1 of 2 there",
        "3: 3 is on 0 of 2 in work, cmd=appnum rc=0 appnum=2, red, 1 of 2 there",
    ] {
        assert!(done.lines().contains(&line), "{line}: {done:?}");
    }
    assert_eq!(done.lines().len(), 8, "{done:?}");
}

#[test]
fn nobody_waits_on_one_worker_for_a_rank_that_has_ended_without_mpi_init_on_another() {
    let up = two_workers();
    let desk = desk(&up);
    script_silent(&desk);
    for line in [
        "mpiexec -n 1 -host a bash silent.sh : -n 1 -host b bash waits_late.sh",
        // another on its node keeps that from saying farewell, and waits too
        "mpiexec -n 1 -host a bash silent_late.sh : -n 1 -host b bash waits.sh : -n 1 -host a bash rank.sh",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = desk.run(&words);
        let said = "rank 0 ended without MPI_Init, and rank";
        assert!(ended.stderr.contains(said), "{ended:?}");
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn ranks_go_to_as_many_workers_as_they_need_and_the_first_failure_is_the_end() {
    let up = two_workers();
    let desk = desk(&up);
    // no worker has room for three
    let done = desk.run(&["mpirun", "-np", "3", "bash", "who.sh"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("2 is on 1 of 2"), "{done:?}");
    let script = "[ $PMI_RANK = 2 ] && exit 7; sleep 100";
    let failed = desk.run(&["mpirun", "-np", "3", "sh", "-c", script]);
    assert_eq!(failed.code, Some(7), "{failed:?}");
    let aborted = desk.run(&["mpiexec", "-n", "2", "-ppn", "1", "bash", "rank.sh", "abort"]);
    assert_eq!(aborted.code, Some(9), "{aborted:?}");
    let named = "mpiexec: error: rank 1 called MPI_Abort with 9: all were ended";
    assert!(aborted.stderr.contains(named), "{aborted:?}");
    let limited = desk.run(&["mpiexec", "--timeout", "1", "sleep", "100"]);
    assert_eq!(limited.code, Some(1), "{limited:?}");
    assert!(limited.stderr.contains("time limit of 1 s"), "{limited:?}");
    let mut command = desk.command(&["mpiexec", "sleep", "100"]);
    command.env("MPIEXEC_TIMEOUT", "1");
    let limited = run(command);
    assert_eq!(limited.code, Some(1), "{limited:?}");
    assert!(limited.stderr.contains("time limit of 1 s"), "{limited:?}");
    let script = "#!/bin/sh\n#SBATCH -o limited.txt\nmpiexec -n 2 sleep 100\necho $?\nmpiexec --timeout 60 true\necho $?\n";
    desk.script("limited.sh", script);
    let mut command = desk.command(&["sbatch", "--wait", "limited.sh"]);
    command.env("MPIEXEC_TIMEOUT", "1");
    assert_eq!(run(command).code, Some(0));
    assert_eq!(
        desk.read("limited.txt"),
        "mpiexec: error: APPLICATION TIMED OUT, TIMEOUT = 1s\n1\n0\n"
    );
}

#[test]
fn rank_0_alone_reads_what_mpiexec_is_given_and_few_variables_are_passed_on_if_that_is_said() {
    let up = Up::start_wide();
    let desk = desk(&up);
    let given = |words: &[&str]| {
        let mut command = desk.command(words);
        command
            .stdin(Stdio::piped())
            .env("COLOUR", "red")
            .env("TASTE", "sweet");
        let mut child = command.spawn().unwrap();
        // whoever reads nothing may be gone already
        let _ = child.stdin.take().unwrap().write_all(b"hello\n");
        let done = finish(child);
        assert_eq!(done.code, Some(0), "{done:?}");
        let mut lines: Vec<String> = done.lines().iter().map(|&line| line.to_owned()).collect();
        lines.sort_unstable();
        lines
    };
    let script = "echo \"$PMI_RANK read $(cat) $COLOUR $TASTE\"";
    let read = given(&[
        "mpiexec",
        "-genvlist",
        "PATH,TASTE",
        "-n",
        "2",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(read, ["0 read hello  sweet", "1 read   sweet"]);
    let read = given(&["mpiexec", "-stdin", "none", "sh", "-c", script]);
    assert_eq!(read, ["0 read  red sweet"]);
    let refused = desk.run(&["mpiexec", "-stdin", "all", "true"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("mpiexec: error: hint: write -stdin none"),
        "{refused:?}"
    );
    // inside of a job as well
    let step = format!(
        "#!/bin/sh\n#SBATCH -o step.txt\nexport COLOUR=red\nmpiexec -envlist PATH sh -c '{script}' < /dev/null\n"
    );
    desk.script("step.sh", &step);
    let done = desk.run(&["sbatch", "--wait", "step.sh"]);
    assert_eq!(
        (done.code, desk.read("step.txt").as_str()),
        (Some(0), "0 read   \n")
    );
}

#[test]
fn phalanx_is_mpiexec_too_and_starts_a_cluster_where_none_runs() {
    let folder = tempfile::tempdir().unwrap();
    let as_phalanx = |words: &[&str]| {
        let mut command = crate::command::phalanx();
        command
            .arg("--cluster")
            .arg(folder.path().join("lab"))
            .args(words);
        run(command)
    };
    let help = as_phalanx(&["mpiexec", "--help"]);
    assert!(
        help.stdout.starts_with("Usage: mpiexec [OPTIONS..] PROGRAM"),
        "{help:?}"
    );
    let done = as_phalanx(&[
        "mpiexec",
        "-n",
        "1",
        "sh",
        "-c",
        "echo $PHALANX_RANK of $PHALANX_RANKS; exit 3",
    ]);
    let ended = as_phalanx(&["down"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), "0 of 1\n"),
        "{done:?}"
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
