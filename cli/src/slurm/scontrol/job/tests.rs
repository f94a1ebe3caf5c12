//! `scontrol show job` as programs read it: items without blanks around their `=`.

use std::collections::BTreeMap;

use phalanx_protocol::view::TaskState;

use super::*;
use crate::slurm::entry::entries;
use crate::slurm::entry::tests::{batch, tasks};
use crate::slurm::row::tests::scene;

#[test]
fn a_job_is_shown_as_keys_and_values() {
    let view = batch(None);
    let told = [tasks(0, 1, TaskState::Running)];
    let entries = entries(&view, &told, Grouping::Together);
    let text = Layout::Lines.render(&sheet(&scene(Manner::Sacct), &entries[0]));
    assert!(
        text.starts_with("JobId=42 JobName=water\n   UserId=ada(1000) GroupId=staff(1001) "),
        "{text}"
    );
    let items: BTreeMap<&str, &str> = text
        .split_whitespace()
        .filter_map(|item| item.split_once('='))
        .collect();
    for (key, value) in [
        ("JobState", "RUNNING"),
        ("Reason", "None"),
        ("Requeue", "1"),
        ("Restarts", "0"),
        ("ExitCode", "0:0"),
        ("RunTime", "00:01:30"),
        ("TimeLimit", "01:00:00"),
        ("Partition", "short"),
        ("NodeList", "node7"),
        ("BatchHost", "node7"),
        ("NumNodes", "1"),
        ("NumCPUs", "2"),
        ("NumTasks", "2"),
        ("MinMemoryNode", "1G"),
        ("Command", "/home/ada/water.sh"),
        ("WorkDir", "/home/ada"),
        ("StdErr", "/home/ada/out-42"),
        ("StdIn", "/dev/null"),
        ("StdOut", "/home/ada/out-42"),
        ("TresPerNode", "gres:gpu:1"),
    ] {
        assert_eq!(items.get(key), Some(&value), "{key}: {text}");
    }
    assert!(
        !Layout::OneLine
            .render(&sheet(&scene(Manner::Sacct), &entries[0]))
            .contains('\n')
    );
}

#[test]
fn elements_name_their_array() {
    let mut view = batch(Some("1-9:2"));
    view.slots_max = Some(2);
    let told = [tasks(0, 1, TaskState::Running), tasks(1, 5, TaskState::Waiting)];
    let entries = entries(&view, &told, Grouping::Together);
    let first = |entry| Layout::OneLine.render(&vec![name(entry)]);
    assert_eq!(
        first(&entries[0]),
        "JobId=1000000042 ArrayJobId=42 ArrayTaskId=1 ArrayTaskThrottle=2 JobName=water"
    );
    assert_eq!(
        first(&entries[1]),
        "JobId=42 ArrayJobId=42 ArrayTaskId=3-9:2%2 ArrayTaskThrottle=2 JobName=water"
    );
}
