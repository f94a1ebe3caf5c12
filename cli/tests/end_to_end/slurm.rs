//! Slurm's commands: batch scripts as they are, and what they leave.

use crate::command::{phalanx, run};
use crate::desk::{Desk, names};
use crate::up::Up;

const WATER: &str = "\
#!/bin/bash
#SBATCH --job-name=water   # its name
#SBATCH -n 2 --cpus-per-task 1
#SBATCH --time=00:05:00
#SBATCH -A project --mail-type=END
#SBATCH --output=out/%x-%j.txt

#SBATCH --mem 100M
echo \"$SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_NTASKS $SLURM_CPUS_PER_TASK $SLURM_MEM_PER_NODE $SLURM_JOB_ACCOUNT: $*\"
echo \"$PWD $SLURM_SUBMIT_DIR\"
#SBATCH --ntasks=9
";

#[test]
fn a_batch_script_runs_as_it_is_and_leaves_its_files() {
    // its ranks need two cpus
    let up = Up::start_wide();
    let desk = Desk::new(up.directory());
    desk.script("water.sh", WATER);
    let done = desk.run(&["sbatch", "--wait", "water.sh", "a", "b c"]);
    assert_eq!(done.stdout, "Submitted batch job 1\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr
            .contains("line 11 comes after the first command and is not read"),
        "{done:?}"
    );
    let here = std::fs::canonicalize(desk.work()).unwrap();
    let expected = format!("1 water 2 1 100 project: a b c\n{0} {0}\n", here.display());
    assert_eq!(desk.read("out/water-1.txt"), expected);
    // the command line goes before the environment, and that before the script
    let mut command = desk.command(&["sbatch", "--parsable", "--wait", "-J", "ice", "water.sh"]);
    command
        .env("SBATCH_ACCOUNT", "other")
        .env("SBATCH_JOB_NAME", "steam");
    assert_eq!(run(command).stdout, "2\n");
    assert!(desk.read("out/ice-2.txt").starts_with("2 ice 2 1 100 other: \n"));
    let inside = "#!/bin/sh\n#SBATCH -n 2\nsrun -l sh -c 'echo rank $SLURM_PROCID of $SLURM_NTASKS' | sort\n\
                  srun -n 3 sh -c 'exit $SLURM_PROCID' 2> /dev/null\necho code $?\n";
    desk.script("ranks.sh", inside);
    assert_eq!(desk.run(&["sbatch", "--wait", "ranks.sh"]).code, Some(0));
    assert_eq!(
        desk.read("slurm-3.out"),
        "0: rank 0 of 2\n1: rank 1 of 2\ncode 2\n"
    );
}

#[test]
fn arrays_wrapped_commands_and_scripts_from_a_pipe_are_jobs_too() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let wrapped =
        "echo $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MAX; exit $SLURM_ARRAY_TASK_ID";
    let done = desk.run(&["sbatch", "--wait", "--array=1-5:2%1", "--wrap", wrapped]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(5), "Submitted batch job 1\n")
    );
    assert_eq!(
        names(&desk.work()),
        ["slurm-1_1.out", "slurm-1_3.out", "slurm-1_5.out"]
    );
    assert_eq!(desk.read("slurm-1_3.out"), "3 3 5\n");
    desk.script(
        "piped.sh",
        "#!/bin/sh\n#SBATCH -o piped.out -e piped.err\necho out; echo err >&2; kill -KILL $$\n",
    );
    let mut command = desk.command(&["sbatch", "--wait"]);
    command.stdin(std::fs::File::open(desk.work().join("piped.sh")).unwrap());
    assert_eq!(run(command).code, Some(1), "a signal counts as 1");
    assert_eq!(
        (desk.read("piped.out").as_str(), desk.read("piped.err").as_str()),
        ("out\n", "err\n")
    );
    // overwritten, unless it is to be kept
    for (mode, expected) in [("truncate", "again\n"), ("append", "again\nagain\n")] {
        let mode = format!("--open-mode={mode}");
        desk.run(&[
            "sbatch",
            "--wait",
            &mode,
            "-o",
            "piped.out",
            "--wrap",
            "echo again",
        ]);
        assert_eq!(desk.read("piped.out"), expected);
    }
    desk.script("windows.sh", "#!/bin/bash\r\n#SBATCH -J win\r\necho fine\r\n");
    let done = desk.run(&["sbatch", "--wait", "-o", "win.out", "windows.sh"]);
    assert!(done.stderr.contains("ends removed"), "{done:?}");
    assert_eq!(desk.read("win.out"), "fine\n");
    let done = desk.run(&["srun", "-n", "1", "sh", "-c", "echo streamed; exit 6"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(6), "streamed\n"));
}

#[test]
fn a_job_waits_for_one_element_of_an_array() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let gate = up.file("gate", "");
    let script = format!(
        "if [ $SLURM_ARRAY_TASK_ID = 5 ]; then while [ -e {} ]; do sleep 0.05; done; fi; echo $SLURM_ARRAY_TASK_ID; [ $SLURM_ARRAY_TASK_ID != 9 ]",
        gate.display()
    );
    let array = desk.run(&["sbatch", "--parsable", "--array=5,7-9:2", "--wrap", &script]);
    let array = array.stdout.trim();
    let after = |condition: &str, element: u64| {
        let wanted = format!("{condition}:{array}_{element}");
        desk.run(&["sbatch", "--parsable", "-d", &wanted, "--wrap", "echo after"])
    };
    let last = after("afterok", 5).stdout.trim().to_owned();
    let seventh = after("afterok", 7).stdout.trim().to_owned();
    let ninth = after("afternotok", 9).stdout.trim().to_owned();
    for job in [&seventh, &ninth] {
        assert_eq!(up.run(&format!("wait {job}")).code, Some(0));
    }
    assert_eq!(up.job(&last)["state"], "waiting");
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(up.run(&format!("wait {last}")).code, Some(0));
    let none = after("afterok", 6);
    assert!(
        none.stderr.contains(&format!(
            "element 6 of job {array}, which has none of that number"
        )),
        "{none:?}"
    );
    let start = after("after", 5);
    assert!(
        start.stderr.contains("waits for the start of one element"),
        "{start:?}"
    );
}

#[test]
fn jobs_wait_for_others_as_their_dependencies_say() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submit = |words: &[&str]| {
        let all = [
            &["sbatch", "--parsable", "-o", "log", "--open-mode=append"],
            words,
        ]
        .concat();
        desk.run(&all).told().trim().to_owned()
    };
    let first = submit(&["--hold", "--wrap", "echo first"]);
    let second = submit(&["-d", &format!("afterok:{first}"), "--wrap", "echo second; exit 1"]);
    let never = submit(&["-d", &format!("afterok:{second}"), "--wrap", "echo never"]);
    let killed = submit(&[
        "-d",
        &format!("afterok:{second}"),
        "--kill-on-invalid-dep=yes",
        "--wrap",
        "echo never",
    ]);
    let last = submit(&["-d", &format!("afternotok:{second}"), "--wrap", "echo last"]);
    let explained = up.run(&format!("explain {second}"));
    assert!(
        explained.stdout.contains(&format!("job {first}")),
        "{explained:?}"
    );
    assert_eq!(up.run(&format!("release {first}")).code, Some(0));
    assert_eq!(up.run(&format!("wait {last}")).code, Some(0));
    assert_eq!(desk.read("log"), "first\nsecond\nlast\n");
    assert_eq!(up.run(&format!("wait {killed}")).code, Some(4));
    assert_eq!(up.job(&never)["state"], "waiting");
    let explained = up.run(&format!("explain {never}"));
    assert!(explained.stdout.contains("never"), "{explained:?}");
}

#[test]
fn a_held_job_waits_for_its_release() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    assert_eq!(
        desk.run(&["sbatch", "--parsable", "--hold", "--wrap", "echo went"])
            .told(),
        "1\n"
    );
    let done = up.run("explain 1");
    assert!(done.stdout.contains("is held"), "{done:?}");
    assert_eq!(up.job("1")["state"], "waiting");
    assert_eq!(up.run("release 1").code, Some(0));
    assert_eq!(up.run("wait 1").code, Some(0));
    assert_eq!(desk.read("slurm-1.out"), "went\n");
}

#[test]
fn a_warning_reaches_what_the_script_has_started_or_the_script_alone() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let step = "#!/bin/bash\n#SBATCH --time=1:00\nsh -c 'trap \"echo step told; exit 0\" USR1; while :; do sleep 0.05; done'\necho on\n";
    desk.script("step.sh", step);
    assert_eq!(
        desk.run(&["sbatch", "--wait", "--signal=USR1@52", "step.sh"])
            .code,
        Some(0)
    );
    // before that, its shell may say how what it was waiting for ended
    assert!(desk.read("slurm-1.out").ends_with("step told\non\n"));
    let shell = "#!/bin/bash\n#SBATCH --time=1:00\ntrap 'echo shell told; exit 0' USR2\nwhile :; do sleep 0.05; done\n";
    desk.script("shell.sh", shell);
    assert_eq!(
        desk.run(&["sbatch", "--wait", "--signal=B:USR2@52", "shell.sh"])
            .code,
        Some(0)
    );
    assert_eq!(desk.read("slurm-2.out"), "shell told\n");
}

#[test]
fn what_cannot_be_submitted_is_told_and_nothing_is_left() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let told = |words: &[&str]| {
        let done = desk.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
        assert!(done.stderr.starts_with("sbatch: error: "), "{done:?}");
        done.stderr
    };
    assert!(told(&["sbatch", "--tme=3", "x"]).contains("did you mean --time?"));
    assert!(told(&["sbatch", "--mem=lots", "--wrap", "true"]).contains("--mem=lots"));
    assert!(told(&["sbatch", "nowhere.sh"]).contains("Unable to open file nowhere.sh"));
    assert!(told(&["sbatch", "--wrap", "true", "-c", "4000"]).contains("cannot ever start"));
    assert!(told(&["sbatch", "--wrap", "true", "-d", "afterok:1"]).contains("job 1"));
    assert!(told(&["sbatch", "--wrap", "true", "-d", "afterok:x"]).contains("`x` is no job"));
    desk.script("plain.sh", "echo hi\n");
    assert!(told(&["sbatch", "plain.sh"]).contains("#!/bin/bash"));
    desk.script("bad.sh", "#!/bin/sh\n\n#SBATCH --time=soon\ntrue\n");
    assert!(told(&["sbatch", "bad.sh"]).contains("line 3 of the script"));
    assert_eq!(up.run("jobs --all").lines().len(), 0);
}

#[test]
fn where_no_cluster_runs_sbatch_starts_one_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new(folder.path().join("home/phalanx"));
    let done = desk.run(&["sbatch", "--wait", "--wrap", "echo hello"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), "Submitted batch job 1\n"),
        "{done:?}"
    );
    assert_eq!(desk.read("slurm-1.out"), "hello\n");
    assert_eq!(
        desk.run(&["sbatch", "--parsable", "--wait", "--wrap", "true"])
            .told(),
        "2\n"
    );
    let as_phalanx = |word: &str| {
        let mut command = phalanx();
        command
            .args(word.split_whitespace())
            .env("PHALANX_CLUSTER", folder.path().join("home/phalanx"));
        run(command)
    };
    let twice = as_phalanx("up --detach");
    assert_eq!(twice.code, Some(2));
    assert!(
        twice.stderr.contains("runs in the background already"),
        "{twice:?}"
    );
    assert_eq!(as_phalanx("down").code, Some(0));
    assert_eq!(as_phalanx("down").code, Some(3));
    assert_eq!(as_phalanx("up --detach --cpus 1").code, Some(0));
    assert!(as_phalanx("jobs --all").stdout.contains("wrap"));
    assert_eq!(as_phalanx("down").code, Some(0));
}

#[test]
fn a_job_may_begin_at_a_time_of_day_or_on_a_date() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    let submitted = desk.run(&[
        "sbatch",
        "--parsable",
        "--begin=2099-12-24T08:00",
        "--wrap",
        "true",
    ]);
    assert_eq!(submitted.lines(), ["1"]);
    assert_eq!(up.run("submit --begin tomorrow true").lines(), ["2"]);
    for id in ["1", "2"] {
        let document = up.run(&format!("--output json explain {id}")).json();
        assert_eq!(document["explanation"]["verdict"], "not_yet", "{document}");
    }
    // what lies behind us is no reason to wait
    assert_eq!(up.run("run --begin 2020-02-29 true").code, Some(0));
    let wrong = up.run("submit --begin 2026-02-30 true");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:?}");
}

#[test]
fn a_script_that_asks_for_gpus_is_told_which_are_its_own() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "4", "--gpus", "a100:3"]);
    let desk = Desk::new(up.directory());
    let script = "#!/bin/bash\n#SBATCH --gres=gpu:a100:2\n#SBATCH -o gpus.txt\n#SBATCH --hint=nomultithread\n\
                  echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS $SLURM_GPUS_ON_NODE\n\
                  nproc\n";
    desk.script("gpus.sh", script);
    assert_eq!(desk.run(&["sbatch", "--wait", "gpus.sh"]).code, Some(0));
    assert_eq!(desk.read("gpus.txt"), "0,1 0,1 2\n1\n");
    for (option, count) in [
        ("--gpus-per-task=1", 2),
        ("-G3", 3),
        ("--gpus-per-node=a100:1", 1),
    ] {
        let submitted = desk.run(&[
            "sbatch",
            "--wait",
            "-n2",
            option,
            "-o",
            "more.txt",
            "--wrap",
            "echo $SLURM_GPUS_ON_NODE",
        ]);
        assert_eq!(submitted.code, Some(0), "{submitted:?}");
        assert_eq!(desk.read("more.txt"), format!("{count}\n"), "{option}");
    }
    let refused = desk.run(&["sbatch", "--gres=gpu:v100:1", "--wrap", "true"]);
    assert!(refused.stderr.contains("1 gpu:v100"), "{refused:?}");
}
