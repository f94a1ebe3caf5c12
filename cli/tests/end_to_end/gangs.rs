//! Gangs: ranks of a job that start together, and of which none is left behind.

use std::io::{BufRead, BufReader, Read};

use rustix::process::Signal;

use crate::command::{eventually, example, send};
use crate::mpi::RANK;
use crate::up::Up;

#[test]
fn ranks_of_a_gang_know_who_they_are_and_meet_as_mpi_programs_do() {
    let up = Up::start_wide();
    let rank = up.file("rank.sh", RANK);
    let done = up.run(&format!("run --ranks 3 -- bash {}", rank.display()));
    assert_eq!(done.code, Some(0), "{done:?}");
    for (rank, neighbour) in [(0, 1), (1, 2), (2, 0)] {
        let line = format!("{rank} of 3: cmd=get_result rc=0 msg=success value=of-{neighbour}");
        assert!(done.stdout.contains(&line), "{done:?}");
    }
    let who = up.file(
        "who.sh",
        "echo $PHALANX_RANK/$PHALANX_RANKS $PHALANX_NODE_INDEX/$PHALANX_NODES $PHALANX_EPOCH\n",
    );
    let done = up.run(&format!("run --ranks 2 -- sh {}", who.display()));
    let mut lines = done.lines();
    lines.sort_unstable();
    assert!(
        lines[0].contains("0/2 0/1 1") && lines[1].contains("1/2 0/1 1"),
        "{done:?}"
    );
}

#[test]
fn a_function_for_ranks_is_run_from_the_command_line() {
    let up = Up::start_wide();
    let program = example("fixture_ranks");
    let program = program.display();
    let done = up.run(&format!("run {program} --kernel who --ranks 3"));
    assert_eq!(
        (done.code, done.lines()),
        (Some(0), vec!["[0,3]", "[1,3]", "[2,3]"]),
        "{done:?}"
    );
    // two numbers: the ranks' sum, and how many are on a node
    let gate = up.file("gate.go", "");
    let gate = serde_json::Value::from(gate.with_extension("").to_str().unwrap());
    let rounds = format!("run {program} --kernel rounds --ranks 2 --parameters {gate}");
    let done = up.run(&rounds);
    assert_eq!(
        (done.code, done.lines()),
        (Some(0), vec!["[1,2]", "[1,2]"]),
        "{done:?}"
    );
    for (options, said) in [
        ("who", "nothing says by how many"),
        ("who --ranks 2 --range 0..2", "cannot be used with"),
        ("who --ranks 2 --label", "have no output that could be labelled"),
        ("rounds --ranks 2", "takes parameters of type `String`"),
        ("who --ranks 2 --parameters 1", "takes no parameters"),
    ] {
        let range = if options == "who" { " --range 0..2" } else { "" };
        let refused = up.run(&format!("run {program} --kernel {options}{range}"));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    let refused = up.run("run --ranks 2 --on-loss shrink -- true");
    assert!(refused.stderr.contains("#[phalanx::ranks]"), "{refused:?}");
}

#[test]
fn what_ranks_print_is_shown_line_by_line_while_they_run() {
    let up = Up::start_wide();
    let gate = up.file("gate", "");
    std::fs::remove_file(&gate).unwrap();
    let script = format!(
        "echo begun; printf unfinished >&2; while [ ! -e {} ]; do sleep 0.05; done; echo ended",
        gate.display()
    );
    let script = up.file("rank.sh", &script);
    let mut command = up.command(&format!("run --ranks 2 --label -- sh {}", script.display()));
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut runs = command.spawn().unwrap();
    let mut stdout = BufReader::new(runs.stdout.take().unwrap());
    let mut lines = ["", ""].map(|_| {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    });
    lines.sort_unstable();
    assert_eq!(lines, ["0: begun\n", "1: begun\n"], "while both run");
    std::fs::write(&gate, "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let mut rest: Vec<&str> = rest.lines().collect();
    rest.sort_unstable();
    assert_eq!(rest, ["0: ended", "1: ended"]);
    let mut errors = String::new();
    runs.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(
        errors.contains("0: unfinished") && errors.contains("1: unfinished"),
        "{errors}"
    );
    assert!(runs.wait().unwrap().success());
    let refused = up.run("submit --ranks 2 --label -- true");
    assert!(refused.stderr.contains("`submit` shows no output"), "{refused:?}");
}

/// Two workers with room for two ranks each.
fn two_workers() -> Up {
    Up::start_equipped(&["--workers", "2", "--cpus", "2"])
}

#[test]
fn ranks_on_two_workers_meet_as_mpi_programs_do() {
    let up = two_workers();
    let who = "echo rank $PHALANX_RANK is on $PHALANX_NODE_INDEX of $PHALANX_NODES\n";
    let rank = up.file("rank.sh", &format!("{RANK}{who}"));
    for (options, nodes) in [
        ("--nodes 2", [0, 0, 1, 1]),
        // as many as have room
        ("", [0, 0, 1, 1]),
        ("--ranks-per-node 2 --rank-map cyclic", [0, 1, 0, 1]),
        ("--rank-map 0,1,1,0", [0, 1, 1, 0]),
    ] {
        let done = up.run(&format!("run --ranks 4 {options} -- bash {}", rank.display()));
        assert_eq!(done.code, Some(0), "{done:?}");
        for (rank, node) in nodes.into_iter().enumerate() {
            let neighbour = (rank + 1) % 4;
            let met = format!("{rank} of 4: cmd=get_result rc=0 msg=success value=of-{neighbour}");
            let place = format!("rank {rank} is on {node} of 2");
            assert!(
                done.stdout.contains(&met) && done.stdout.contains(&place),
                "{done:?}"
            );
        }
    }
    let refused = up.run("run --ranks 2 --nodes 3 -- true");
    assert!(
        refused.stderr.contains("2 ranks cannot be spread over 3 nodes"),
        "{refused:?}"
    );
    let mistaken = up.run("run --ranks 2 --rank-map spiral -- true");
    assert!(
        mistaken
            .stderr
            .contains("not `block`, `cyclic` or the place of each rank"),
        "{mistaken:?}"
    );
}

/// A script of ranks that say where they are, and how many cpus each has.
const WHERE: &str =
    "echo rank $PHALANX_RANK is on $PHALANX_NODE_INDEX of $PHALANX_NODES with $PHALANX_CPUS\n";

#[test]
fn ranks_have_the_cpus_that_each_needs_and_go_where_these_are() {
    let up = two_workers();
    let script = up.file("where.sh", WHERE);
    for (options, expected) in [
        (
            "--cpus 2",
            ["rank 0 is on 0 of 2 with 2", "rank 1 is on 1 of 2 with 2"],
        ),
        (
            "--cpus 1",
            ["rank 0 is on 0 of 1 with 1", "rank 1 is on 0 of 1 with 1"],
        ),
        // a worker each, of which one cpu is used
        (
            "--exclusive=task",
            ["rank 0 is on 0 of 2 with 1", "rank 1 is on 1 of 2 with 1"],
        ),
    ] {
        let done = up.run(&format!("run --ranks 2 {options} -- sh {}", script.display()));
        let mut lines = done.lines();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{done:?}");
    }
    let refused = up.run("run --ranks 2 --cpus 3 -- true");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    let why = "each task needs 3 cpus, the largest worker has 2 cpus";
    assert!(refused.stderr.contains(why), "{refused:?}");
    // there is room for it in one cluster, and not in this one
    let waits = up.run("submit --ranks 3 --cpus 2 -- true");
    let explained = up.run(&format!("explain {}", waits.lines()[0]));
    let needs = "it needs 3 slots; 2 of 2 free";
    assert!(explained.stdout.contains(needs), "{explained:?}");
}

#[test]
fn pinned_ranks_run_on_cpus_of_their_own() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "2"]);
    let script = up.file("cpus.sh", "grep Cpus_allowed_list /proc/self/status | cut -f 2\n");
    let machine = std::thread::available_parallelism().unwrap().get();
    for how in ["spread", "compact"] {
        let run = format!("run --ranks 2 --cpus 1 --pin {how} -- sh {}", script.display());
        let done = up.run(&run);
        let mut cpus = done.lines();
        cpus.sort_unstable();
        let is_one = |cpu: &&str| cpu.parse::<u32>().is_ok();
        assert!(cpus.len() == 2 && cpus.iter().all(is_one), "{done:?}");
        cpus.dedup();
        assert_eq!(cpus.len(), machine.min(2), "{done:?}");
    }
    let run = format!("run --ranks 1 --cpus 2 --pin compact -- sh {}", script.display());
    let done = up.run(&run);
    let has_both = done.stdout.contains(['-', ',']);
    assert!(has_both || machine < 2, "{done:?}");
}

#[test]
fn an_exclusive_gang_shares_its_workers_with_nobody_and_waits_until_they_are_empty() {
    let up = two_workers();
    let gate = up.directory().with_file_name("gate");
    let script = format!("until [ -e {} ]; do sleep 0.02; done\n", gate.display());
    let script = up.file("gated.sh", &script);
    let submit = |options: &str| {
        let submitted = up.run(&format!("submit {options} -- sh {}", script.display()));
        submitted.lines()[0].to_owned()
    };
    let runs = |job: &str| eventually("it runs", || up.job(job)["state"] == "running");
    let says = |job: &str, words: &str| {
        let explained = up.run(&format!("explain {job}"));
        assert!(explained.stdout.contains(words), "{words}: {explained:?}");
    };
    let end = |jobs: &[&String]| {
        std::fs::write(&gate, "").unwrap();
        for job in jobs {
            let waited = up.run(&format!("wait {job}"));
            assert_eq!(waited.code, Some(0), "{waited:?}");
        }
        std::fs::remove_file(&gate).unwrap();
    };
    // on both workers, of which one has a cpu left
    let exclusive = submit("--ranks 3 --exclusive");
    runs(&exclusive);
    let (task, gang) = (submit(""), submit("--ranks 2 --exclusive"));
    let theirs = format!("the workers where there is room are exclusively those of job {exclusive}");
    says(&task, &theirs);
    let held = format!("it needs 2 slots; 0 of 4 free, the others are held by job {exclusive}");
    says(&gang, &held);
    end(&[&exclusive, &task, &gang]);

    let task = submit("");
    runs(&task);
    let gang = submit("--ranks 2 --nodes 2 --exclusive");
    let held = format!("it needs 2 slots on 2 nodes; 2 of 4 free, the others are held by job {task}");
    says(&gang, &held);
    // it runs on, although its slot is kept
    says(&task, "is running: 0 of 1 task are done, on 1 slot of 1 worker");
    assert_eq!(up.job(&task)["state"], "running");
    end(&[&task, &gang]);
}

/// What is said of rank 1 where it is killed: how it ended may be known too late.
const DIED: [&str; 2] = ["rank 1 ended without MPI_Finalize: all were ended", "SIGKILL"];

#[test]
fn a_rank_that_aborts_on_one_worker_ends_those_of_the_other() {
    let up = two_workers();
    let rank = up.file("rank.sh", RANK);
    for (how, named) in [
        ("abort", &["rank 1 called MPI_Abort with 9: all were ended"][..]),
        ("die", &DIED[..]),
    ] {
        // rank 0 waits for it in a barrier, on the other worker
        let run = format!(
            "run --ranks 2 --nodes 2 --retries 0 -- bash {} {how}",
            rank.display()
        );
        let ended = up.run(&run);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(
            named.iter().any(|named| ended.stderr.contains(named)),
            "{ended:?}"
        );
    }
}

#[test]
fn ranks_of_a_killed_worker_and_those_that_wait_for_them_start_again_where_there_is_room() {
    let up = two_workers();
    let (rank, starts) = (up.file("rank.sh", RANK), up.file("starts", ""));
    let script = format!(
        "echo $PHALANX_RANK $PHALANX_EPOCH >> {}\n[ $PHALANX_EPOCH$PHALANX_RANK != 11 ] || sleep 100\nexec bash {}\n",
        starts.display(),
        rank.display()
    );
    let script = up.file("start.sh", &script);
    let submitted = up.run(&format!(
        "submit --ranks 2 --nodes 2 -- bash {}",
        script.display()
    ));
    let job = submitted.lines()[0].to_owned();
    let started = || std::fs::read_to_string(&starts).unwrap();
    eventually("both ranks have started", || started().lines().count() == 2);
    let placed = up.job(&job)["workers"].clone();
    assert_eq!(placed, 2, "each is on a worker of its own");
    // rank 0 is in the barrier, or on its way there
    send(up.worker_pids()[1], Signal::KILL);
    let waited = up.run(&format!("wait {job}"));
    assert_eq!(waited.code, Some(0), "{waited:?}");
    let started = started();
    let mut started: Vec<&str> = started.lines().collect();
    started.sort_unstable();
    assert_eq!(started, ["0 1", "0 2", "1 1", "1 2"]);
    let printed = up.run(&format!("logs {job}")).stdout;
    assert!(
        printed.contains("value=of-0") && printed.contains("value=of-1"),
        "{printed}"
    );
}

#[test]
fn a_rank_that_aborts_or_dies_ends_its_gang_and_is_named() {
    let up = Up::start_wide();
    let rank = up.file("rank.sh", RANK);
    let aborted = up.run(&format!("run --ranks 2 -- bash {} abort", rank.display()));
    assert_ne!(aborted.code, Some(0), "{aborted:?}");
    assert!(
        aborted
            .stderr
            .contains("rank 1 called MPI_Abort with 9: all were ended"),
        "{aborted:?}"
    );
    let died = up.run(&format!("run --ranks 2 -- bash {} die", rank.display()));
    assert!(DIED.iter().any(|named| died.stderr.contains(named)), "{died:?}");
}

#[test]
fn a_gang_that_is_too_wide_waits_and_says_for_what() {
    let up = Up::start_wide();
    let submitted = up.run("submit --ranks 5 -- true");
    let explained = up.run(&format!("explain {}", submitted.lines()[0]));
    assert!(
        explained.stdout.contains("it needs 5 slots; 4 of 4 free"),
        "{explained:?}"
    );
    let mut command = up.command("run --ranks 5 -- true");
    command.stderr(std::process::Stdio::piped());
    let mut waits = command.spawn().unwrap();
    let mut stderr = BufReader::new(waits.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("it needs 5 slots; 4 of 4 free"), "{line}");
    let job = line.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(up.run(&format!("cancel {job}")).code, Some(0));
    line.clear();
    stderr.read_to_string(&mut line).unwrap();
    assert!(!line.contains("it needs"), "it is told once: {line}");
    assert!(!waits.wait().unwrap().success());
    let mistaken = up.run("run --ranks 2 --array 1-2 -- true");
    assert_eq!(mistaken.code, Some(2), "{mistaken:?}");
}

#[test]
fn a_gang_whose_worker_is_killed_starts_again_in_its_next_epoch() {
    let up = Up::start_wide();
    let begun = up.file("begun", "");
    let script = format!(
        "[ $PHALANX_EPOCH -gt 1 ] || {{ echo $PHALANX_RANK >> {}; sleep 1000; }}\necho rank $PHALANX_RANK in epoch $PHALANX_EPOCH\n",
        begun.display()
    );
    let script = up.file("epochs.sh", &script);
    let submitted = up.run(&format!("submit --ranks 3 -- sh {}", script.display()));
    let job = submitted.lines()[0].to_owned();
    eventually("all ranks have started", || {
        std::fs::read_to_string(&begun).unwrap().lines().count() == 3
    });
    send(up.worker_pids()[0], Signal::KILL);
    let waited = up.run(&format!("wait {job}"));
    assert_eq!(waited.code, Some(0), "{waited:?}");
    let printed = up.run(&format!("logs {job}")).stdout;
    for rank in 0..3 {
        assert!(printed.contains(&format!("rank {rank} in epoch 2")), "{printed}");
    }
}
