//! What `phalanx logs` shows of jobs whose output went to files of the user's.

use std::time::{Duration, Instant};

use crate::command::{Watched, eventually, run};
use crate::desk::Desk;
use crate::up::Up;

#[test]
fn files_of_a_batch_job_are_shown_as_if_they_were_kept() {
    let up = Up::start();
    let desk = Desk::new(up.directory());
    desk.script(
        "both.sh",
        "#!/bin/sh\n#SBATCH -o new/%x-%j.%N.txt -e %j.err\necho out; echo err >&2\n",
    );
    assert_eq!(desk.run(&["sbatch", "--wait", "both.sh"]).code, Some(0));
    for target in ["1", "1.0", "1 -f"] {
        let shown = up.run(&format!("logs {target}"));
        assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(shown.code, Some(0));
    }
    let done = desk.run(&[
        "sbatch",
        "--wait",
        "--array=3-7:2",
        "--wrap",
        "echo n$SLURM_ARRAY_TASK_ID",
    ]);
    assert_eq!(done.code, Some(0));
    assert_eq!(up.run("logs 2").lines(), ["n3", "n5", "n7"]);
    assert_eq!(up.run("logs 2.1").lines(), ["n5"]);
    assert_eq!(up.run("logs 2.3").code, Some(2));
    // all into one file, which is shown once
    let shared = "submit --array 0-2 --at-most 1 --append --stdout all.txt --stderr all.txt --chdir";
    let mut command = up.command(shared);
    command.arg(desk.work()).args(["--", "echo", "n{}"]);
    let id = run(command).lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let shown = up.run(&format!("logs {id}"));
    assert_eq!(shown.lines().len(), 3, "{shown:?}");
}

#[test]
fn a_file_is_followed_while_its_task_writes_and_from_anew_if_it_is_requeued() {
    let up = Up::start();
    let gate = up.file("gate", "");
    let script = format!(
        "echo r$PHALANX_RESTART_COUNT; while [ -e {} ]; do sleep 0.05; done; echo end",
        gate.display()
    );
    let mut command = up.command("submit --stdout followed.txt --chdir");
    command
        .arg(gate.parent().unwrap())
        .args(["--", "sh", "-c", &script]);
    let id = run(command).lines()[0].to_owned();
    let follower = Watched::start(up.command(&format!("logs {id} --follow")));
    assert_eq!(follower.line(), "r0");
    assert_eq!(up.run(&format!("requeue {id}")).code, Some(0));
    assert_eq!(follower.line(), "r1");
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(follower.finish().lines(), ["end"]);
}

#[test]
fn the_last_words_of_a_cancelled_task_are_shown() {
    let up = Up::start();
    let folder = up.file("mark", "");
    let script = "trap 'sleep 0.7; echo told; sleep 0.3; echo over; exit 1' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = up.command("submit --array 4,6 --stdout %a.txt --chdir");
    command
        .arg(folder.parent().unwrap())
        .args(["--", "sh", "-c", script]);
    let id = run(command).lines()[0].to_owned();
    let follower = Watched::start(up.command(&format!("logs {id}.1 -f")));
    assert_eq!(follower.line(), "ready");
    // it has been silent for so long that it would be taken for ended if it had been told to
    let silent_since = Instant::now();
    eventually("it is silent", || silent_since.elapsed() > Duration::from_secs(3));
    assert_eq!(up.run(&format!("cancel {id}")).code, Some(0));
    let done = follower.finish();
    // the shell may say that its `sleep` was ended
    assert!(done.stdout.ends_with("told\nover\n"), "{done:?}");
    assert_eq!(done.code, Some(0));
}

#[test]
fn what_cannot_be_shown_is_named_with_its_place() {
    let up = Up::start();
    let folder = up.file("mark", "").parent().unwrap().to_owned();
    let id = up.run("submit --stdout /dev/null -- echo").lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    let shown = up.run(&format!("logs {id}"));
    let said = format!("error: cannot read `/dev/null`, the output of task {id}.0 on node ");
    assert!(
        shown.code == Some(2) && shown.stderr.starts_with(&said) && shown.stderr.contains("is not kept"),
        "{shown:?}"
    );
    let mut command = up.command("submit --array 0-2 --stdout t%a.txt --chdir");
    command.arg(&folder).args(["--", "echo", "n{}"]);
    let id = run(command).lines()[0].to_owned();
    assert_eq!(up.run(&format!("wait {id}")).code, Some(0));
    std::fs::remove_file(folder.join("t0.txt")).unwrap();
    std::fs::remove_file(folder.join("t2.txt")).unwrap();
    let shown = up.run(&format!("logs {id}"));
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(2), "n1\n"));
    let path = folder.join("t0.txt").display().to_string();
    for said in [
        &path,
        "nor can one other file",
        "No such file",
        "if this machine does not see",
    ] {
        assert!(shown.stderr.contains(said), "{shown:?}");
    }
    // what waits is no mistake
    let id = up.run("submit --hold --stdout t.txt -- echo").lines()[0].to_owned();
    for (target, what) in [(id.clone(), "job"), (format!("{id}.0"), "task")] {
        let shown = up.run(&format!("logs {target}"));
        let said = format!("{what} {target} has not begun; `phalanx explain {id}` says why\n");
        assert_eq!(
            (shown.code, shown.stdout, shown.stderr),
            (Some(0), String::new(), said)
        );
    }
}

#[test]
fn a_single_program_is_followed_while_it_runs() {
    let up = Up::start();
    let script = "trap 'echo told; exit 0' USR1; echo ready; while :; do sleep 0.05; done";
    let mut command = up.command("submit -- sh -c");
    command.arg(script);
    let id = run(command).lines()[0].to_owned();
    let follower = Watched::start(up.command(&format!("logs {id} -f")));
    assert_eq!(follower.line(), "ready");
    assert_eq!(up.run(&format!("signal USR1 {id}")).code, Some(0));
    assert_eq!(follower.finish().lines(), ["told"]);
}
