//! Jobs and tasks as the scheduler tells them, and the entries that come of them.

use std::collections::BTreeMap;

use phalanx_protocol::JobId;
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::view::CommandView;

use super::*;
use crate::ui::views::tests::job_view;

/// A batch job of one task, or an array.
pub(in crate::slurm) fn batch(array: Option<&str>) -> JobView {
    let ids = array.map(|text| ArraySpec::parse(text).unwrap().ids());
    let known = [
        (facts::SCRIPT, "/home/ada/water.sh"),
        (facts::DIRECTORY, "/home/ada"),
        (
            facts::OUTPUT,
            if array.is_some() { "out-%A_%a" } else { "out-%j" },
        ),
        (facts::PARTITION, "short"),
        (facts::ACCOUNT, "lab"),
        (facts::RANKS, "2"),
        (facts::REQUEUE, "1"),
    ];
    JobView {
        name: "water".to_owned(),
        tasks: ids.as_ref().map_or(1, ArrayIds::count),
        command: Some(Box::new(CommandView {
            array: ids,
            facts: known
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        })),
        done: 0,
        failed: 0,
        slots: 0,
        workers: 0,
        first_failures: Vec::new(),
        task_time_limit_millis: Some(3_600_000),
        ..job_view()
    }
}

/// Neighbouring tasks; on worker 3 since a second after the submission, if they have begun.
pub(in crate::slurm) fn tasks(start: u64, end: u64, state: TaskState) -> TaskRange {
    let has_begun = !matches!(state, TaskState::Waiting | TaskState::Blocked | TaskState::Unrun);
    let has_ended = matches!(state, TaskState::Succeeded | TaskState::Failed(_));
    TaskRange {
        usage: None,
        range: IndexRange::new(start, end),
        state,
        worker: has_begun.then_some(WorkerId(3)),
        started_unix_millis: has_begun.then_some(1_001_000),
        ended_unix_millis: has_ended.then_some(1_061_000),
        restarts: 0,
    }
}

fn lines(view: &JobView, tasks: &[TaskRange], grouping: Grouping) -> Vec<String> {
    let entries = entries(view, tasks, grouping);
    entries
        .iter()
        .map(|entry| format!("{} {}", entry.id(), entry.state.short()))
        .collect()
}

#[test]
fn an_array_is_one_entry_for_each_element_that_has_begun_and_one_for_those_that_wait() {
    let mut view = batch(Some("1-9:2,20-29"));
    view.slots_max = Some(4);
    let told = [
        tasks(0, 1, TaskState::Succeeded),
        tasks(1, 2, TaskState::Failed(Some(FailureCause::TimeLimit))),
        tasks(2, 4, TaskState::Running),
        tasks(4, 5, TaskState::Granted),
        tasks(5, 6, TaskState::Resting),
        tasks(6, 7, TaskState::Ending),
        tasks(7, 15, TaskState::Waiting),
    ];
    assert_eq!(
        lines(&view, &told, Grouping::Together),
        [
            "42_1 CD",
            "42_3 TO",
            "42_5 R",
            "42_7 R",
            "42_21 CG",
            "42_[9,20,22-29%4] PD"
        ]
    );
    let one_by_one = lines(&view, &told, Grouping::OneByOne);
    assert_eq!((one_by_one.len(), one_by_one[14].as_str()), (15, "42_29 PD"));
}

#[test]
fn how_an_element_ended_is_told_by_its_cause() {
    let view = batch(Some("0-6"));
    for (cause, state, exit) in [
        (Some(FailureCause::Exit(3)), JobState::Failed, (3, 0)),
        (Some(FailureCause::Signal(9)), JobState::Failed, (0, 9)),
        (Some(FailureCause::TimeLimit), JobState::Timeout, (0, 15)),
        (Some(FailureCause::Memory), JobState::OutOfMemory, (0, 125)),
        (Some(FailureCause::Lost), JobState::NodeFail, (1, 0)),
        (None, JobState::Failed, (1, 0)),
    ] {
        let told = [tasks(0, 1, TaskState::Failed(cause))];
        let entries = entries(&view, &told, Grouping::Together);
        assert_eq!((entries[0].state, entries[0].exit()), (state, exit), "{cause:?}");
    }
    let cancelled = [tasks(0, 1, TaskState::Cancelled)];
    assert_eq!(lines(&view, &cancelled, Grouping::Together), ["42_0 CA"]);
}

#[test]
fn what_a_job_left_unrun_ended_as_the_job_did() {
    let mut view = batch(Some("0-1"));
    for (outcome, expected) in [
        (Outcome::Cancelled { by: "ada".to_owned() }, "42_0 CA"),
        (Outcome::TimeLimit { millis: 5 }, "42_0 TO"),
        (
            Outcome::Broken {
                reason: String::new(),
            },
            "42_0 F",
        ),
        (Outcome::Failed, "42_0 CA"),
    ] {
        view.outcome = Some(outcome);
        assert_eq!(
            lines(&view, &[tasks(0, 1, TaskState::Unrun)], Grouping::Together),
            [expected]
        );
    }
}

#[test]
fn a_job_of_one_task_is_what_its_task_is_until_it_is_over() {
    let mut view = batch(None);
    let state = |view: &JobView, state| lines(view, &[tasks(0, 1, state)], Grouping::Together).concat();
    assert_eq!(state(&view, TaskState::Waiting), "42 PD");
    assert_eq!(state(&view, TaskState::Running), "42 R");
    assert_eq!(state(&view, TaskState::Ending), "42 CG");
    view.outcome = Some(Outcome::Failed);
    assert_eq!(
        state(&view, TaskState::Failed(Some(FailureCause::TimeLimit))),
        "42 TO"
    );
    view.first_failures = vec![TaskFailure {
        index: 0,
        cause: FailureCause::Memory,
        message: String::new(),
    }];
    assert_eq!(state(&view, TaskState::Failed(None)), "42 OOM");
    view.outcome = Some(Outcome::Succeeded);
    assert_eq!(state(&view, TaskState::Succeeded), "42 CD");
}

#[test]
fn a_job_of_many_tasks_that_is_no_array_is_one_entry() {
    let view = job_view();
    assert_eq!(lines(&view, &[], Grouping::OneByOne), ["42 R"]);
    let waiting = JobView { slots: 0, ..view };
    assert_eq!(lines(&waiting, &[], Grouping::OneByOne), ["42 PD"]);
}

#[test]
fn a_job_on_several_nodes_is_one_entry_that_does_as_its_script_does() {
    let mut view = batch(None);
    view.tasks = 2;
    let facts = view.command.as_mut().map(|command| &mut command.facts);
    facts.unwrap().insert(facts::NODES.to_owned(), "2".to_owned());
    view.request.cpus = 3;
    let elsewhere = TaskRange {
        worker: Some(WorkerId(4)),
        ..tasks(1, 2, TaskState::Running)
    };
    let told = [tasks(0, 1, TaskState::Running), elsewhere];
    let running = &entries(&view, &told, Grouping::Together)[0];
    assert_eq!((running.id().as_str(), running.state), ("42", JobState::Running));
    assert_eq!((running.nodes(), running.cpus()), (2, 6));
    assert_eq!(running.members, [WorkerId(3), WorkerId(4)]);
    view.outcome = Some(Outcome::Failed);
    let lost = TaskRange {
        state: TaskState::Failed(Some(FailureCause::Lost)),
        ..elsewhere
    };
    let told = [tasks(0, 1, TaskState::Unrun), lost];
    assert_eq!(lines(&view, &told, Grouping::Together), ["42 NF"]);
}

#[test]
fn time_runs_from_the_start_to_the_end_or_to_now() {
    let view = batch(Some("0-3"));
    let told = [
        tasks(0, 1, TaskState::Succeeded),
        tasks(1, 2, TaskState::Running),
        tasks(2, 4, TaskState::Waiting),
    ];
    let entries = entries(&view, &told, Grouping::Together);
    let seconds = |at: usize| entries[at].elapsed(1_011_000).map(|time| time.as_secs());
    assert_eq!(
        [seconds(0), seconds(1), seconds(2)],
        [Some(60), Some(10), Some(0)]
    );
    assert_eq!(entries[0].number(), 1_000_000_042);
    // a new leader does not know it
    let forgotten = TaskRange {
        started_unix_millis: None,
        ended_unix_millis: None,
        ..told[0]
    };
    let entries = super::entries(&view, &[forgotten], Grouping::Together);
    assert_eq!(entries[0].elapsed(1_011_000), None);
}

#[test]
fn the_reason_is_the_one_that_counts() {
    let reason = |change: &dyn Fn(&mut JobView), waits| {
        let mut view = batch(None);
        change(&mut view);
        let entries = entries(&view, &[tasks(0, 1, TaskState::Waiting)], Grouping::Together);
        entries[0].reason(2_000_000, waits)
    };
    let cases: BTreeMap<&str, &str> = [
        ("first", reason(&|_| (), Waits::First)),
        ("behind", reason(&|_| (), Waits::Behind)),
        ("held", reason(&|view| view.held = true, Waits::Behind)),
        (
            "later",
            reason(&|view| view.begin_unix_millis = Some(3_000_000), Waits::First),
        ),
        (
            "waits",
            reason(&|view| view.waits_for = vec![JobId(1)], Waits::First),
        ),
        ("never", reason(&|view| view.never = true, Waits::First)),
        (
            "full",
            reason(
                &|view| {
                    view.slots_max = Some(2);
                    view.slots = 2;
                },
                Waits::First,
            ),
        ),
        (
            "failed",
            reason(&|view| view.outcome = Some(Outcome::Failed), Waits::First),
        ),
        (
            "done",
            reason(&|view| view.outcome = Some(Outcome::Succeeded), Waits::First),
        ),
    ]
    .into();
    let expected = [
        ("first", "Resources"),
        ("behind", "Priority"),
        ("held", "JobHeldUser"),
        ("later", "BeginTime"),
        ("waits", "Dependency"),
        ("never", "DependencyNeverSatisfied"),
        ("full", "JobArrayTaskLimit"),
        ("failed", "NonZeroExitCode"),
        ("done", "None"),
    ];
    assert_eq!(cases, expected.into());
}
