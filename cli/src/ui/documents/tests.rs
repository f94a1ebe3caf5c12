//! Shapes of documents, letter by letter, since programs read them.

use phalanx_protocol::UsageSum;
use phalanx_protocol::view::{CommandView, Explanation, Idle, TaskRange, TaskState, Verdict};

use super::*;
use crate::ui::views::tests::{explanation, job_view, worker_view};

fn json(content: Content<'_>) -> String {
    line(&Document::new(content)).unwrap()
}

#[test]
fn a_job_keeps_its_shape() {
    let view = job_view();
    let expected = concat!(
        r#"{"version":1,"job":{"id":42,"name":"nightly","user":"ada","kernel":"count","state":"running","#,
        r#""reason":null,"priority":5,"request":{"cpus":2,"memory_bytes":1073741824,"named":{"gpu":1}},"#,
        r#""tasks":1000,"done":512,"failed":1,"cancelled":0,"resting":0,"slots":4,"workers":2,"#,
        r#""tasks_per_second":83.25,"submitted_unix_millis":1000000,"finished_unix_millis":null,"#,
        r#""first_failures":[{"index":7,"cause":"panic","message":"boom"}]}}"#,
        "\n"
    );
    assert_eq!(json(Content::Job((&view).into())), expected);
    assert_eq!(json(Content::Jobs(vec![])), "{\"version\":1,\"jobs\":[]}\n");
}

#[test]
fn a_command_is_called_so_and_not_a_kernel() {
    let mut view = job_view();
    view.kernel = "sleep 1".to_owned();
    view.command = Some(Box::new(CommandView {
        array: None,
        facts: BTreeMap::new(),
    }));
    let text = json(Content::Job((&view).into()));
    let named = r#""user":"ada","command":"sleep 1","state":"running","#;
    assert!(text.contains(named), "{text}");
    assert!(!text.contains("kernel") && !text.contains("usage"), "{text}");
    view.usage = Some(UsageSum {
        tasks: 1,
        ran_millis: 2,
        user_micros: 3,
        system_micros: 4,
        rss_kib_max: 5,
        rss_task: 6,
        first_start_unix_millis: 7,
        last_end_unix_millis: 8,
    });
    let text = json(Content::Job((&view).into()));
    let used = concat!(
        r#","usage":{"tasks":1,"ran_millis":2,"user_micros":3,"system_micros":4,"rss_bytes_max":5120,"rss_task":6,"#,
        r#""first_start_unix_millis":7,"last_end_unix_millis":8}}}"#,
        "\n"
    );
    assert!(text.ends_with(used), "{text}");
}

#[test]
fn a_worker_keeps_its_shape() {
    let view = worker_view();
    let expected = concat!(
        r#"{"version":1,"workers":[{"id":"w3","name":"node7","address":"10.0.0.7:40000","#,
        r#""capacity":{"cpus":8,"memory_bytes":17179869184,"named":{"gpu":2}},"#,
        r#""free":{"cpus":6,"memory_bytes":16106127360,"named":{"gpu":1}},"jobs":[42],"tasks_ended":512,"draining":false}]}"#,
        "\n"
    );
    assert_eq!(json(Content::Workers(vec![(&view).into()])), expected);
}

#[test]
fn an_explanation_keeps_its_shape() {
    let explanation = Explanation {
        idle: vec![Idle {
            tasks: 3,
            why: Verdict::Resting,
        }],
        ..explanation(Verdict::Behind {
            jobs: vec![JobId(40), JobId(41)],
        })
    };
    let task = TaskRange {
        range: IndexRange::new(7, 8),
        state: TaskState::Blocked,
        worker: None,
        started_unix_millis: None,
        ended_unix_millis: None,
        restarts: 0,
        usage: None,
    };
    let shape = ExplanationShape::new(&explanation, Some(&task), "because".to_owned());
    let text = json(Content::Explanation(shape));
    assert!(
        text.starts_with(r#"{"version":1,"explanation":{"job":{"id":42,"#),
        "{text}"
    );
    let end = concat!(
        r#""verdict":"behind","text":"because","behind":[40,41],"idle":[{"tasks":3,"verdict":"resting","#,
        r#""text":"3 tasks were run in vain, and rest before they are run again.","behind":[]}],"#,
        r#""task":{"index":7,"state":"blocked"},"offers":[{"worker":"w3","name":"node7","#,
        r#""capacity":{"cpus":8,"memory_bytes":17179869184,"named":{"gpu":2}},"#,
        r#""slots_capacity":2,"slots_free":0,"slots_held":1}]}}"#,
        "\n"
    );
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn results_are_lines_that_tell_their_task() {
    let value: Box<RawValue> = serde_json::from_str("[1, 2]").unwrap();
    let lines = [
        ResultLine::Value {
            index: 7,
            value: &value,
        },
        ResultLine::Merged {
            range: RangeText(IndexRange::new(0, 100)),
            value: &value,
        },
        ResultLine::Failed {
            index: 9,
            error: (&job_view().first_failures[0]).into(),
        },
    ]
    .map(|content| line(&Document::new(content)).unwrap());
    assert_eq!(
        lines,
        [
            "{\"version\":1,\"index\":7,\"value\":[1, 2]}\n",
            "{\"version\":1,\"range\":\"0-99\",\"value\":[1, 2]}\n",
            "{\"version\":1,\"index\":9,\"error\":{\"cause\":\"panic\",\"message\":\"boom\"}}\n",
        ]
    );
}
