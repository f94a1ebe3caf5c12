//! Each form of each small value, and what is refused.

use super::*;
use proptest::prelude::*;

fn counted(name: &str, kind: Option<&str>, count: u64) -> Gres {
    Gres {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        count,
    }
}

#[test]
fn counts_begin_at_one() {
    assert_eq!((count("1"), count(" 96 ")), (Ok(1), Ok(96)));
    for text in ["", "0", "-1", "+1", "1.5", "four", "4294967296"] {
        assert_eq!(count(text), Err(ValueError::Count), "{text}");
    }
    assert_eq!(
        (seconds("0"), seconds("-1")),
        (Ok(Duration::ZERO), Err(ValueError::Seconds))
    );
}

#[test]
fn positions_begin_at_zero() {
    assert_eq!((position("0"), position("3")), (Ok(0), Ok(3)));
    assert_eq!(position("-1"), Err(ValueError::Position));
}

#[test]
fn nodes_are_a_number_or_a_span() {
    for (text, least, most) in [("4", 4, 4), ("2-4", 2, 4), ("1k", 1024, 1024), ("3-3", 3, 3)] {
        assert_eq!(nodes(text), Ok(NodeCount { least, most }), "{text}");
    }
    for text in ["", "0", "4-2", "2-", "-2", "a", "1-2-3", "9999999k"] {
        assert_eq!(nodes(text), Err(ValueError::Nodes), "{text}");
    }
}

#[test]
fn resources_of_a_node_have_a_name_a_type_and_a_count() {
    for (text, expected) in [
        ("gpu", vec![counted("gpu", None, 1)]),
        ("gpu:2", vec![counted("gpu", None, 2)]),
        ("gpu:a100:2", vec![counted("gpu", Some("a100"), 2)]),
        ("gpu:v100", vec![counted("gpu", Some("v100"), 1)]),
        ("gres/gpu:1", vec![counted("gpu", None, 1)]),
        ("gres:gpu:1", vec![counted("gpu", None, 1)]),
        (
            "gpu:v100:4,nvme:3600",
            vec![counted("gpu", Some("v100"), 4), counted("nvme", None, 3600)],
        ),
        (
            "bandwidth:lustre:4G",
            vec![counted("bandwidth", Some("lustre"), 4 << 30)],
        ),
        ("craynetwork:0", vec![counted("craynetwork", None, 0)]),
        ("none", vec![]),
    ] {
        assert_eq!(gres(text), Ok(expected), "{text}");
    }
    for text in [
        ":2",
        "gpu::2",
        "gpu:a:b",
        "gpu:a:2:3",
        "gpu,",
        "gpu:a:-1",
        "gpu:-1",
    ] {
        assert_eq!(gres(text), Err(ValueError::Gres), "{text}");
    }
}

#[test]
fn gpus_are_a_count_with_or_without_a_type() {
    for (text, expected) in [
        ("2", vec![counted("gpu", None, 2)]),
        ("a100:2", vec![counted("gpu", Some("a100"), 2)]),
        ("a100", vec![counted("gpu", Some("a100"), 1)]),
        (
            "a100:1,v100:2",
            vec![counted("gpu", Some("a100"), 1), counted("gpu", Some("v100"), 2)],
        ),
        ("0", vec![counted("gpu", None, 0)]),
    ] {
        assert_eq!(gpus(text), Ok(expected), "{text}");
    }
    for text in ["", "a100:", ":2", "a100:x", "-1", "a:b:2", "1,"] {
        assert_eq!(gpus(text), Err(ValueError::Gpus), "{text}");
    }
}

#[test]
fn choices_are_among_words() {
    assert_eq!(
        (open_mode("append"), open_mode("t")),
        (Ok(OpenMode::Append), Ok(OpenMode::Truncate))
    );
    assert_eq!(open_mode("w"), Err(ValueError::OpenMode));
    assert_eq!((yes_no("yes"), yes_no("NO")), (Ok(true), Ok(false)));
    assert_eq!(yes_no("maybe"), Err(ValueError::YesNo));
    assert_eq!(
        (exclusive(None), exclusive(Some("user"))),
        (Ok(Exclusive::Job), Ok(Exclusive::User))
    );
    assert_eq!(exclusive(Some("group")), Err(ValueError::Exclusive));
}

#[test]
fn niceness_and_priority_have_bounds() {
    assert_eq!(
        (nice(None), nice(Some("-5")), nice(Some("0"))),
        (Ok(100), Ok(-5), Ok(0))
    );
    assert_eq!(nice(Some("2147483646")), Err(ValueError::Nice));
    assert_eq!(nice(Some("x")), Err(ValueError::Nice));
    assert_eq!(
        (priority("top"), priority("7")),
        (Ok(Priority::Top), Ok(Priority::Number(7)))
    );
    assert_eq!(priority("-7"), Err(ValueError::Priority));
}

#[test]
fn a_signal_comes_before_the_end_to_the_shell_or_the_steps() {
    use SignalTo::{BatchShell, Steps};
    for (text, number, lead, to) in [
        ("USR1", 10, 60, Steps),
        ("USR2@90", 12, 90, Steps),
        ("B:USR2@30", 12, 30, BatchShell),
        ("b:sigterm@0", 15, 0, BatchShell),
        ("SIGUSR1@120", 10, 120, Steps),
        ("R:10@5", 10, 5, Steps),
        ("RB:INT", 2, 60, BatchShell),
        ("64", 64, 60, Steps),
    ] {
        let lead = Duration::from_secs(lead);
        assert_eq!(
            warning_signal(text),
            Ok(WarningSignal { number, lead, to }),
            "{text}"
        );
    }
    for text in ["X:USR1", "USR1@", "USR1@-5", "USR1@x", "B:B:USR1"] {
        assert!(warning_signal(text).is_err(), "{text}");
    }
    assert_eq!(warning_signal("USR1@65536"), Err(ValueError::SignalLead));
    for name in ["", "USR9", "0", "65", "-1"] {
        let expected = ValueError::SignalName {
            name: name.to_owned(),
        };
        assert_eq!(warning_signal(name), Err(expected), "{name}");
    }
}

#[test]
fn what_is_exported_is_all_some_or_nothing() {
    let named = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    for (text, all, expected) in [
        ("ALL", true, vec![]),
        ("all", true, vec![]),
        ("NONE", false, vec![]),
        ("NIL", false, vec![]),
        ("ALL,SEED=7", true, vec![named("SEED", Some("7"))]),
        (
            "PATH,SEED=7",
            false,
            vec![named("PATH", None), named("SEED", Some("7"))],
        ),
        (
            "A=,B=x=y",
            false,
            vec![named("A", Some("")), named("B", Some("x=y"))],
        ),
        (
            "A='1,2',B=\"3,4\"",
            false,
            vec![named("A", Some("1,2")), named("B", Some("3,4"))],
        ),
    ] {
        assert_eq!(export(text), Ok(Export { all, named: expected }), "{text}");
    }
    for text in ["", "A,,B", "=5", "A='1", "A B"] {
        assert_eq!(export(text), Err(ValueError::Export), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-zA-Zé:,@=\\-'\"]{0,12}") {
        let _ = (nodes(&text), gres(&text), gpus(&text), warning_signal(&text), export(&text));
        let _ = (count(&text), nice(Some(&text)), priority(&text), signal_number(&text));
    }
}
