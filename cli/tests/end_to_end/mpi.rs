//! Ranks of a step: what MPI programs ask for is there, and nobody waits for a rank that has gone.

use crate::desk::Desk;
use crate::up::Up;

/// A rank that speaks PMI-1, as an MPI library does: it puts its card, waits for all, and gets its neighbour's.
pub(crate) const RANK: &str = "\
#!/bin/bash
ask() {
    echo \"$1\" >&$PMI_FD
    read -r answer <&$PMI_FD
}
ask 'cmd=init pmi_version=1 pmi_subversion=1'
ask \"cmd=put kvsname=x key=card-$PMI_RANK value=of-$PMI_RANK\"
ask 'cmd=barrier_in'
ask \"cmd=get kvsname=x key=card-$(((PMI_RANK + 1) % PMI_SIZE))\"
echo \"$PMI_RANK of $PMI_SIZE: $answer\"
case $PMI_RANK:$1 in
    1:abort) echo 'cmd=abort exitcode=9' >&$PMI_FD; sleep 100 ;;
    1:die) kill -KILL $$ ;;
esac
[ -z \"$1\" ] || ask 'cmd=barrier_in'
ask 'cmd=finalize'
";

fn desk(up: &Up) -> Desk {
    let desk = Desk::new(up.directory());
    desk.script("rank.sh", RANK);
    desk
}

#[test]
fn ranks_of_a_step_meet_as_mpi_programs_do() {
    let up = Up::start_wide();
    let desk = desk(&up);
    let expected = "\
0 of 3: cmd=get_result rc=0 msg=success value=of-1
1 of 3: cmd=get_result rc=0 msg=success value=of-2
2 of 3: cmd=get_result rc=0 msg=success value=of-0
";
    let step = "#!/bin/bash\n#SBATCH -n 3 -o ranks.txt\nsrun -n 3 bash rank.sh | sort\nmpiexec -n 2 bash rank.sh : -n 1 bash rank.sh | sort\nsrun -n 2 sh -c 'echo $MPI_LOCALRANKID of $MPI_LOCALNRANKS' | sort\n";
    desk.script("job.sh", step);
    assert_eq!(desk.run(&["sbatch", "--wait", "job.sh"]).code, Some(0));
    assert_eq!(
        desk.read("ranks.txt"),
        format!("{expected}{expected}0 of 2\n1 of 2\n")
    );
}

#[test]
fn a_step_that_asks_for_more_nodes_than_its_job_has_says_that_it_is_on_one_and_one_that_names_hosts_is_refused()
 {
    let up = Up::start_wide();
    let desk = desk(&up);
    let script = "#!/bin/sh\n#SBATCH -n 2 -o nodes.txt\nsrun -N 1 true\nsrun -N 2 -n 2 echo here\nmpiexec -hosts a,b -n 2 true\n";
    desk.script("nodes.sh", script);
    assert_eq!(desk.run(&["sbatch", "--wait", "nodes.sh"]).code, Some(1));
    let printed = desk.read("nodes.txt");
    let told = "srun: warning: the step asks for 2 nodes and can have one, on which all its tasks are";
    assert_eq!(printed.matches(told).count(), 1, "{printed}");
    assert_eq!(printed.matches("here\n").count(), 2, "{printed}");
    let refused = "mpiexec: error: 2 hosts are named, and the job has 1";
    assert!(printed.contains(refused), "{printed}");
}

#[test]
fn nobody_waits_for_a_rank_that_aborts_or_dies() {
    let up = Up::start_wide();
    let desk = desk(&up);
    let aborted = desk.run(&["mpiexec", "-n", "2", "bash", "rank.sh", "abort"]);
    assert_eq!(aborted.code, Some(9), "{aborted:?}");
    assert!(
        aborted
            .stderr
            .contains("rank 1 called MPI_Abort with 9: all were ended"),
        "{aborted:?}"
    );
    let died = desk.run(&["srun", "-n", "2", "bash", "rank.sh", "die"]);
    assert_eq!(died.code, Some(137), "{died:?}");
    assert!(
        died.stderr
            .contains("task 1 ended without MPI_Finalize: the others are ended; see what it printed"),
        "{died:?}"
    );
    assert!(died.stderr.contains("task 1: Killed"), "{died:?}");
}

/// Ends without a word: at once, or when others are about to wait for it.
pub(crate) const SILENT: &str = "touch gone\n";
pub(crate) const SILENT_LATE: &str = "until [ -e begun ]; do sleep 0.02; done\n";
/// Waits for the others in a barrier: once one of them has gone, or before.
pub(crate) const WAITS_LATE: &str = "until [ -e gone ]; do sleep 0.02; done\nexec bash rank.sh\n";
pub(crate) const WAITS: &str = "touch begun\nexec bash rank.sh\n";

pub(crate) fn script_silent(desk: &Desk) {
    desk.script("silent.sh", SILENT);
    desk.script("silent_late.sh", SILENT_LATE);
    desk.script("waits_late.sh", WAITS_LATE);
    desk.script("waits.sh", WAITS);
}

#[test]
fn nobody_waits_for_a_rank_that_ends_without_mpi_init_or_finalizes_early() {
    let up = Up::start_wide();
    let desk = desk(&up);
    script_silent(&desk);
    let farewell = RANK.split_once("ask \"cmd=put").unwrap().0.to_owned() + "ask 'cmd=finalize'\n";
    desk.script("early.sh", &farewell);
    desk.script("both.conf", "0 bash waits.sh\n1 bash silent_late.sh\n");
    for (line, said) in [
        (
            "mpiexec -n 1 bash silent.sh : -n 1 bash waits_late.sh",
            "rank 0 ended without MPI_Init, and rank 1 waits for it: all were ended; have all ranks of an MPI job call MPI_Init",
        ),
        (
            "mpiexec -n 2 bash waits.sh : -n 1 bash silent_late.sh",
            "rank 2 ended without MPI_Init, and rank",
        ),
        (
            "mpiexec -n 1 bash rank.sh : -n 1 bash early.sh",
            "rank 1 called MPI_Finalize, and rank 0 still waits for it: all were ended; build all programs",
        ),
        (
            "srun -n 2 --multi-prog both.conf",
            "srun: error: task 1 ended without MPI_Init, and task 0 waits for it: the others are ended; have all ranks",
        ),
    ] {
        for mark in ["gone", "begun"] {
            let _ = std::fs::remove_file(desk.work().join(mark));
        }
        let words: Vec<&str> = line.split(' ').collect();
        let ended = desk.run(&words);
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_rank_that_fails_before_mpi_init_while_others_wait_for_it_is_the_cause() {
    let up = Up::start_wide();
    let desk = desk(&up);
    script_silent(&desk);
    for (end, code) in [("exit 3", 3), ("kill -SEGV $$", 139)] {
        desk.script("fails.sh", &format!("{SILENT_LATE}{end}\n"));
        desk.script("both.conf", "0 bash waits.sh\n1 bash fails.sh\n");
        for line in [
            "mpiexec -n 1 bash waits.sh : -n 1 bash fails.sh",
            "srun -n 2 --multi-prog both.conf",
        ] {
            let _ = std::fs::remove_file(desk.work().join("begun"));
            let words: Vec<&str> = line.split(' ').collect();
            let ended = desk.run(&words);
            assert_eq!(ended.code, Some(code), "{ended:?}");
            // outside a job its own end may be all that is to be said
            let is_step = line.starts_with("srun");
            assert!(
                !is_step || ended.stderr.contains("task 1 ended without MPI_Init"),
                "{ended:?}"
            );
        }
    }
}

#[test]
fn programs_that_are_none_of_mpi_are_not_missed() {
    let up = Up::start_wide();
    let desk = desk(&up);
    desk.script(
        "three.sh",
        "case $PMI_RANK in 0) : ;; *) exec echo $PMI_RANK ;; esac\n",
    );
    for launcher in ["mpiexec", "srun"] {
        let done = desk.run(&[launcher, "-n", "3", "bash", "three.sh"]);
        let mut lines = done.lines();
        lines.sort_unstable();
        assert_eq!((done.code, lines), (Some(0), vec!["1", "2"]), "{done:?}");
    }
}

#[test]
fn each_rank_of_a_step_may_run_a_program_of_its_own() {
    let up = Up::start_wide();
    let desk = desk(&up);
    desk.script("programs.conf", "0 echo master %t\n1-2 echo helper %t %o\n");
    desk.script(
        "job.sh",
        "#!/bin/bash\n#SBATCH -n 3 -o programs.txt\nsrun -n 3 --multi-prog programs.conf | sort\n",
    );
    assert_eq!(desk.run(&["sbatch", "--wait", "job.sh"]).code, Some(0));
    assert_eq!(desk.read("programs.txt"), "helper 1 0\nhelper 2 1\nmaster 0\n");
}
