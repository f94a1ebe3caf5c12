//! Lines of lists, by the formats that programs ask for.

use phalanx::JobView;
use phalanx_protocol::TaskUsage;
use phalanx_protocol::view::{TaskRange, TaskState};

use super::*;
use crate::batch::lists::Format;
use crate::slurm::entry::tests::{batch, tasks};
use crate::slurm::entry::{Grouping, entries};

pub(in crate::slurm) fn scene(manner: Manner) -> Scene {
    let ada = Person {
        uid: 1000,
        gid: 1001,
        group: "staff".to_owned(),
    };
    Scene {
        manner,
        now: 1_091_000,
        nodes: [(WorkerId(3), "node7".to_owned())].into(),
        nodes_of: BTreeMap::new(),
        first: None,
        people: [("ada".to_owned(), ada)].into(),
        unit: None,
    }
}

fn shown(view: &JobView, told: &[TaskRange], format: &Format, manner: Manner, step: Step) -> Vec<String> {
    let scene = scene(manner);
    let entries = entries(view, told, Grouping::Together);
    let lines = entries.iter().map(|entry| Line {
        scene: &scene,
        entry,
        step,
    });
    lines.map(|line| format.render(&line)).collect()
}

fn squeue(view: &JobView, told: &[TaskRange], format: &str) -> Vec<String> {
    let format = Format::squeue_letters(format).unwrap();
    shown(view, told, &format, Manner::Squeue, Step::None)
}

fn sacct(view: &JobView, told: &[TaskRange], format: &str, step: Step) -> Vec<String> {
    let format = Format::sacct(format).unwrap().delimited("|", false);
    shown(view, told, &format, Manner::Sacct, step)
}

#[test]
fn squeue_shows_what_callers_look_for() {
    let view = batch(Some("0-9"));
    let told = [
        tasks(0, 1, TaskState::Succeeded),
        tasks(1, 2, TaskState::Running),
        tasks(2, 10, TaskState::Waiting),
    ];
    assert_eq!(
        squeue(&view, &told, "%i %t"),
        ["42_0 CD", "42_1 R", "42_[2-9] PD"]
    );
    assert_eq!(
        squeue(&view, &told, "%i|%T"),
        ["42_0|COMPLETED", "42_1|RUNNING", "42_[2-9]|PENDING"]
    );
    assert_eq!(
        squeue(&view, &told, "%A %F %K %M %l %L %N %R"),
        [
            "1000000042 42 0 1:00 1:00:00 59:00 node7 node7",
            "2000000042 42 1 1:30 1:00:00 58:30 node7 node7",
            "42 42 2-9 0:00 1:00:00 1:00:00  (Resources)",
        ]
    );
    assert_eq!(
        squeue(
            &batch(None),
            &[],
            "%j %u %U %g %a %P %q %D %C %c %m %k %S %e %Z %o"
        ),
        ["water ada 1000 staff lab short normal 1 2 1 1G (null) N/A N/A /home/ada /home/ada/water.sh"]
    );
}

#[test]
fn sacct_shows_what_callers_look_for() {
    let view = batch(Some("0-9"));
    let told = [
        tasks(
            0,
            1,
            TaskState::Failed(Some(phalanx_protocol::record::FailureCause::Exit(3))),
        ),
        tasks(1, 2, TaskState::Running),
        tasks(2, 10, TaskState::Waiting),
    ];
    let format = "JobID,JobIDRaw,State,ExitCode,Elapsed,AllocCPUS,NodeList,Partition,Account";
    assert_eq!(
        sacct(&view, &told, format, Step::None),
        [
            "42_0|42_0|FAILED|3:0|00:01:00|2|node7|short|lab",
            "42_1|42_1|RUNNING|0:0|00:01:30|2|node7|short|lab",
            "42_[2-9]|42|PENDING|0:0|00:00:00|0|None assigned|short|lab",
        ]
    );
    assert_eq!(
        sacct(
            &view,
            &told[..1],
            "JobID,JobName,State,Partition,User,ReqMem,CPUTimeRAW",
            Step::Batch
        ),
        ["42_0.batch|batch|FAILED||||120"]
    );
    assert_eq!(
        sacct(&view, &told[2..], "Start,End,ReqMem,Comment,MaxRSS", Step::None),
        ["Unknown|Unknown|1G||"]
    );
}

#[test]
fn what_was_used_stands_in_the_line_of_the_step_and_cpu_time_in_both() {
    let view = batch(None);
    let told = [TaskRange {
        usage: Some(TaskUsage {
            index: 0,
            ran_millis: 60_000,
            user_micros: 1_250_000,
            system_micros: 300_999,
            rss_kib: 51_200,
        }),
        ..tasks(0, 1, TaskState::Running)
    }];
    let format = "JobID,MaxRSS,AveRSS,TotalCPU,UserCPU,SystemCPU,AveCPU";
    assert_eq!(
        sacct(&view, &told, format, Step::None),
        ["42|||00:01.550|00:01.250|00:00.300|"]
    );
    assert_eq!(
        sacct(&view, &told, format, Step::Batch),
        ["42.batch|51200K|51200K|00:01.550|00:01.250|00:00.300|00:00:01"]
    );
    let mut program = view;
    program.command.as_mut().unwrap().facts.remove(facts::SCRIPT);
    assert_eq!(
        sacct(&program, &told, "MaxRSS,AveCPU", Step::None),
        ["51200K|00:00:01"]
    );
}

#[test]
fn what_slurm_counts_and_we_do_not_is_empty_and_what_was_waited_is_said_of_the_job() {
    let view = batch(None);
    let told = [tasks(0, 1, TaskState::Running)];
    let format = "JobID,MaxVMSize,Flags,Planned,PlannedCPURAW,Suspended";
    assert_eq!(
        sacct(&view, &told, format, Step::None),
        ["42|||00:00:01|2|00:00:00"]
    );
    assert_eq!(
        sacct(&view, &told, format, Step::Batch),
        ["42.batch|||||00:00:00"]
    );
}

#[test]
fn memory_is_shown_in_the_unit_that_was_asked_for() {
    let mut view = batch(None);
    view.request.memory_bytes = 2560 << 20;
    let usage = TaskUsage {
        index: 0,
        ran_millis: 1,
        user_micros: 1,
        system_micros: 1,
        rss_kib: 51_200,
    };
    let told = [TaskRange {
        usage: Some(usage),
        ..tasks(0, 1, TaskState::Running)
    }];
    let show = |unit: Option<&str>, step| {
        let mut scene = scene(Manner::Sacct);
        scene.unit = unit.and_then(MemoryUnit::parse);
        let entries = entries(&view, &told, Grouping::Together);
        let format = Format::sacct("ReqMem,MaxRSS").unwrap().delimited("|", false);
        format.render(&Line {
            scene: &scene,
            entry: &entries[0],
            step,
        })
    };
    assert_eq!(show(None, Step::None), "2560M|");
    assert_eq!(show(Some("G"), Step::None), "2.50G|");
    assert_eq!(show(None, Step::Batch), "|51200K");
    assert_eq!(show(Some("M"), Step::Batch), "|50M");
}

#[test]
fn a_cancelled_job_says_by_whom() {
    let view = JobView {
        outcome: Some(Outcome::Cancelled { by: "ada".to_owned() }),
        finished_unix_millis: Some(1_002_000),
        ..batch(None)
    };
    assert_eq!(sacct(&view, &[], "State", Step::None), ["CANCELLED by 1000"]);
    assert_eq!(squeue(&view, &[], "%T"), ["CANCELLED"]);
}

#[test]
fn files_are_named_as_they_lie_there() {
    let view = batch(Some("0-9"));
    let told = [tasks(1, 2, TaskState::Running)];
    assert_eq!(
        sacct(&view, &told, "StdOut,StdErr,StdIn", Step::None),
        ["/home/ada/out-42_1|/home/ada/out-42_1|/dev/null"]
    );
    assert_eq!(
        sacct(&batch(None), &[], "StdOut", Step::None),
        ["/home/ada/out-42"]
    );
}
