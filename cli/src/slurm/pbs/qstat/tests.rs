//! Tables and documents as the callers of `qstat` read them.

use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::TaskState;

use super::*;
use crate::slurm::entry::entries;
use crate::slurm::entry::tests::{batch, tasks};
use crate::slurm::row::tests::scene;

#[test]
fn a_job_is_a_line_a_text_or_an_object() {
    let view = batch(None);
    let scene = scene(Manner::Sacct);
    let entries = entries(&view, &[tasks(0, 1, TaskState::Running)], Grouping::Together);
    assert_eq!(
        row(&scene, &entries[0]),
        "42.phalanx        water            ada               00:01:30 R short"
    );
    let text = full(&scene, &entries[0]);
    assert!(
        text.starts_with("Job Id: 42.phalanx\n    Job_Name = water\n"),
        "{text}"
    );
    assert!(
        text.contains("\n    job_state = R\n") && text.contains("\n    Resource_List.ncpus = 2\n"),
        "{text}"
    );
    let document = json(&scene, &entries);
    let job = &document["Jobs"]["42.phalanx"];
    assert_eq!(
        (&job["job_state"], &job["Resource_List"]["walltime"]),
        (&"R".into(), &"01:00:00".into())
    );
    assert_eq!(job["Resource_List"]["ncpus"], 2);
}

#[test]
fn letters_tell_what_a_job_does() {
    let letters = |change: &dyn Fn(&mut JobView), state| {
        let mut view = batch(None);
        change(&mut view);
        let entries = entries(&view, &[tasks(0, 1, state)], Grouping::Together);
        letter(&entries[0], 2_000_000)
    };
    assert_eq!(letters(&|_| (), TaskState::Waiting), 'Q');
    assert_eq!(letters(&|view| view.held = true, TaskState::Waiting), 'H');
    assert_eq!(
        letters(
            &|view| view.begin_unix_millis = Some(3_000_000),
            TaskState::Waiting
        ),
        'W'
    );
    assert_eq!(letters(&|_| (), TaskState::Running), 'R');
    assert_eq!(
        letters(
            &|view| view.outcome = Some(Outcome::Failed),
            TaskState::Failed(None)
        ),
        'F'
    );
    let mut array = batch(Some("0-1"));
    array.slots = 1;
    let whole = entries(&array, &[], Grouping::Together);
    assert_eq!(
        (name(&whole[0]), letter(&whole[0], 0)),
        ("42[].phalanx".to_owned(), 'B')
    );
    let told = [tasks(0, 1, TaskState::Succeeded), tasks(1, 2, TaskState::Running)];
    let elements = entries(&array, &told, Grouping::OneByOne);
    let shown: Vec<String> = elements
        .iter()
        .map(|entry| format!("{} {}", name(entry), letter(entry, 0)))
        .collect();
    assert_eq!(shown, ["42[0].phalanx X", "42[1].phalanx R"]);
}
