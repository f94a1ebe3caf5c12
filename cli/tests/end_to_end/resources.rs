//! Gpus, pinning and parts of resources, from the command line to the task.

use std::process::Command;

use crate::command::run;
use crate::up::Up;

fn words(up: &Up, line: &str, script: &str) -> Command {
    let mut command = up.command(line);
    command.args(["--", "sh", "-c", script]);
    command
}

/// A line of shell that goes on once `count` tasks of its kind have come so far.
fn meet(up: &Up, name: &str, count: u32) -> String {
    let folder = up.directory().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.display();
    format!(
        "touch {folder}/$PHALANX_TASK_INDEX; while [ $(ls {folder} | wc -l) -lt {count} ]; do sleep 0.02; done"
    )
}

#[test]
fn tasks_that_run_at_the_same_time_have_gpus_of_their_own() {
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "2", "--gpus", "a100:1,v100:1"]);
    let workers = up.run("workers --output json").json();
    let named = &workers["workers"][0]["capacity"]["named"];
    assert_eq!(
        (&named["gpu"], &named["gpu:a100"], &named["gpu:v100"]),
        (&2.into(), &1.into(), &1.into())
    );
    let script = format!(
        "echo $CUDA_VISIBLE_DEVICES $PHALANX_GPUS; {}",
        meet(&up, "all", 4)
    );
    let done = run(words(&up, "run --array 0-3 --gpus 1", &script));
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["0 0", "1 1", "2 2", "3 3"], "{done:?}");
    // one of that type is on each of two workers
    let script = format!("echo $PHALANX_GPUS; {}", meet(&up, "typed", 2));
    let done = run(words(&up, "run --array 0-1 --gpus v100:1", &script));
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "3"], "{done:?}");
    // halves share
    let script = format!("echo $PHALANX_GPUS; {}", meet(&up, "halves", 4));
    let done = run(words(&up, "run --array 0-3 --gpus a100:0.5", &script));
    let mut lines = done.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "0", "2", "2"], "{done:?}");
    let refused = up.run("run --gpus 3 true");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("3 gpu"), "{refused:?}");
    let refused = up.run("run --gpus 1.5 true");
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[test]
fn pinned_tasks_run_on_cpus_of_their_own() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "2"]);
    let script = format!(
        "grep Cpus_allowed_list /proc/self/status | cut -f 2; {}",
        meet(&up, "all", 2)
    );
    let done = run(words(&up, "run --array 0-1 --pin spread", &script));
    let allowed = std::thread::available_parallelism().unwrap().get();
    let mut cpus = done.lines();
    cpus.sort_unstable();
    assert!(
        cpus.len() == 2 && cpus.iter().all(|cpu| cpu.parse::<u32>().is_ok()),
        "{done:?}"
    );
    cpus.dedup();
    assert_eq!(cpus.len(), allowed.min(2), "{done:?}");
}

#[test]
fn a_task_may_ask_for_a_part_of_a_resource() {
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "4", "--resource", "licence=0.5"]);
    // two at a time, who wait for each other
    let folder = |name: &str| {
        let folder = up.directory().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    };
    let (begun, now) = (folder("begun"), folder("now"));
    let script = format!(
        "i=$PHALANX_TASK_INDEX; touch {now}/$i {begun}/$i
        while [ $(ls {begun} | wc -l) -lt $((i / 2 * 2 + 2)) ]; do sleep 0.02; done
        ls {now} | wc -l; rm {now}/$i"
    );
    let done = run(words(&up, "run --array 0-5 --resource licence=0.25", &script));
    let counts: Vec<u32> = done
        .lines()
        .iter()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(counts.len(), 6, "{done:?}");
    assert!(counts.iter().all(|&count| count <= 2), "{counts:?}");
}

#[test]
fn tasks_run_in_another_way_where_the_first_is_not_to_be_had() {
    let script = "echo cpus $PHALANX_CPUS gpus ${PHALANX_GPUS-none}";
    let line = "run --array 0-1 --gpus 1 --or cpus=2";
    for (equipment, expected) in [("1", "cpus 1 gpus 0"), ("0", "cpus 2 gpus none")] {
        let up = Up::start_equipped(&["--workers", "1", "--cpus", "2", "--gpus", equipment]);
        let done = run(words(&up, line, script));
        assert_eq!(done.lines(), [expected, expected], "{done:?}");
        let told = up.run("job 1");
        assert!(told.stdout.contains("1 cpu, 1 gpu; or 2 cpus"), "{told:?}");
    }
    let up = Up::start_equipped(&["--workers", "1", "--cpus", "2", "--gpus", "0"]);
    let refused = up.run("run --gpus 1 --or cpus=16 true");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    let said = "each task needs 1 cpu, 1 gpu; or 16 cpus, the largest worker has 2 cpus";
    assert!(refused.stderr.contains(said), "{refused:?}");
    let wrong = up.run("run --or cpus=none true");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("`none` is no number of cpus"), "{wrong:?}");
}
