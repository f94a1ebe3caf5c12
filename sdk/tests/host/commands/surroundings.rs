//! What tasks find around them.

use bytes::Bytes;
use phalanx_protocol::CommandPlan;
use phalanx_protocol::command::{Action, Dialect, Section, TaskInput};
use phalanx_protocol::message::host::HostCommand;
use rustix::process::{Resource, getrlimit};

use super::{Shop, array, bytes, command, program, shell};

#[test]
fn a_task_has_the_variables_of_its_submission_and_its_own_and_no_others() {
    let mut plan = program(&["env"]);
    plan.environment
        .push((Bytes::from_static(b"GREETING"), Bytes::from_static(b"a b=c")));
    let mut shop = Shop::open(
        &plan,
        HostCommand {
            array: array(7, 2),
            ..command()
        },
    );
    shop.driver.grant(1, 0..2);
    shop.driver.await_ended(2);
    let printed = shop.printed(1);
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    let saved = lines
        .extract_if(.., |line| line.starts_with("PHALANX_CHECKPOINT_DIR=/"))
        .collect::<Vec<_>>();
    let [saved] = saved.as_slice() else {
        panic!("{saved:?}");
    };
    assert!(
        saved.ends_with("/jobs/1/saved/1/00000000000000000001-00000000000000000001"),
        "{saved}"
    );
    assert_eq!(
        lines,
        [
            "GREETING=a b=c",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "PHALANX_ARRAY_TASK_ID=8",
            "PHALANX_ATTEMPT=t1-1",
            "PHALANX_CPUS=1",
            "PHALANX_JOB_ID=1",
            "PHALANX_JOB_NAME=test",
            "PHALANX_RESTART_COUNT=0",
            "PHALANX_TASK_ID=1.1",
            "PHALANX_TASK_INDEX=1",
            "PHALANX_WORKER=node",
        ]
    );
}

#[test]
fn other_dialects_have_their_words() {
    let find = |dialect: Dialect, count: u64| {
        let mut plan = shell("env | grep -E '^(SLURM|PBS)' | sort | tr '\\n' ' '");
        plan.dialect = dialect;
        let numbers = (count > 0).then(|| array(3, count)).flatten();
        let shop = Shop::run(
            &plan,
            HostCommand {
                array: numbers,
                ..command()
            },
        );
        shop.printed(0)
    };
    let alone = find(Dialect::Slurm, 0);
    assert!(
        alone.contains("SLURM_JOBID=1 SLURM_JOB_ID=1 ") && !alone.contains("ARRAY"),
        "{alone}"
    );
    let many = find(Dialect::Slurm, 5);
    for word in [
        "SLURM_ARRAY_JOB_ID=1 ",
        "SLURM_ARRAY_TASK_ID=3 ",
        "SLURM_ARRAY_TASK_MAX=7 ",
        "SLURM_JOB_ID=1000000001 ",
        "SLURM_PROCID=0 ",
    ] {
        assert!(many.contains(word), "{word} is not in {many}");
    }
    assert!(find(Dialect::Pbs, 2).contains("PBS_ARRAY_INDEX=3 PBS_JOBID=1000000001 "));
}

#[test]
fn umask_and_limits_are_those_of_the_submission_as_far_as_may_be() {
    let mut plan = shell("umask; ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Ss");
    let stack = getrlimit(Resource::Stack);
    let highest = stack.maximum.unwrap_or(u64::MAX);
    plan.umask = Some(0o027);
    plan.limits = vec![
        // open files and core: lowered; stack: raised as far as it goes; and one that nobody knows
        (7, 123, 456),
        (4, 0, u64::MAX),
        (3, u64::MAX, u64::MAX),
        (99, 1, 1),
    ];
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let shop = Shop::run(&plan, command());
    rustix::process::umask(before);
    let stack = match highest {
        u64::MAX => "unlimited".to_owned(),
        bytes => (bytes / 1024).to_string(),
    };
    assert_eq!(shop.printed(0), format!("0027\n123\n456\n0\n{stack}\n"));
    let own = getrlimit(Resource::Nofile);
    assert_ne!(own.current, Some(123), "the host keeps its own");
}

#[test]
fn standard_input_is_empty_or_a_file_and_nothing_else_is_open() {
    // as whoever started this process may have left it some
    let left = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
    let shop = Shop::run(&shell("cat; exec ls /proc/self/fd"), command());
    // the last one is the list itself
    assert_eq!(shop.printed(0), "0\n1\n2\n3\n");
    drop(shop);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in-1.txt"), "typed\n").unwrap();
    let mut plan = shell("cat");
    plan.directory = Bytes::copy_from_slice(folder.path().to_str().unwrap().as_bytes());
    plan.input = TaskInput::File("in-%j.txt".to_owned());
    let mut shop = Shop::in_folder(folder, &plan, command());
    shop.driver.grant(1, 0..1);
    shop.driver.await_ended(1);
    assert_eq!(shop.printed(0), "typed\n");
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    let plan = CommandPlan {
        action: Action::Program(vec![
            Bytes::from_static(b"sh"),
            Bytes::from_static(b"-c"),
            Bytes::from_static(b"printf %s \"$1\" | od -An -tx1; printf '\\200' | od -An -tx1 >&2"),
            Bytes::from_static(b"name"),
            Bytes::from_static(b"\xff\xfe{}\n"),
        ]),
        ..program(&[])
    };
    let shop = Shop::run(&plan, command());
    assert_eq!(shop.printed(0), " ff fe 30 0a\n< 80\n>");
}

#[test]
fn a_script_is_run_by_what_its_first_line_names_with_its_arguments() {
    let plan = CommandPlan {
        action: Action::Script {
            content: Bytes::from_static(b"#!/bin/sh -e\necho \"$#: $1 $2 in $PWD\"\nfalse\necho not here\n"),
            arguments: vec![Bytes::from_static(b"a b"), Bytes::from_static(b"{}")],
        },
        placeholders: false,
        ..program(&[])
    };
    let shop = Shop::run(&plan, command());
    assert_eq!(shop.printed(0), "2: a b {} in /\n");
    assert_eq!(
        shop.failure(0).cause,
        phalanx_protocol::record::FailureCause::Exit(1)
    );
}

#[test]
fn programs_side_by_side_have_their_own_words_variables_and_directories() {
    let section =
        |ranks, text: &str, own: &[(&'static str, &'static str)], directory: Option<&'static str>| Section {
            ranks,
            words: bytes(&["sh", "-c", text]),
            environment: own
                .iter()
                .map(|&(name, value)| {
                    (
                        Bytes::from_static(name.as_bytes()),
                        Bytes::from_static(value.as_bytes()),
                    )
                })
                .collect(),
            directory: directory.map(|directory| Bytes::from_static(directory.as_bytes())),
        };
    let mut plan = program(&[]);
    plan.environment
        .push((Bytes::from_static(b"COLOUR"), Bytes::from_static(b"red")));
    plan.action = Action::Sections(vec![
        section(2, "echo first $COLOUR in $PWD", &[], None),
        section(
            1,
            "echo second $COLOUR in $PWD",
            &[("COLOUR", "blue")],
            Some("usr"),
        ),
    ]);
    let mut shop = Shop::open(&plan, command());
    shop.driver.grant(1, 0..4);
    shop.driver.await_ended(4);
    for (task, expected) in [
        (0, "first red in /\n"),
        (1, "first red in /\n"),
        (2, "second blue in /usr\n"),
        // nobody else is there for it
        (3, "second blue in /usr\n"),
    ] {
        assert_eq!(shop.printed(task), expected);
    }
}

#[test]
fn of_several_tasks_the_first_reads_what_is_sent() {
    let mut plan = shell("cat; echo over");
    plan.input = TaskInput::Streamed;
    let mut shop = Shop::open(&plan, command());
    let sent =
        phalanx_storage::StreamedInput::new(&shop.folder.path().join("storage"), phalanx_protocol::JobId(1));
    sent.put(0, b"hello\n", true).unwrap();
    shop.driver.grant(1, 0..2);
    shop.driver.await_ended(2);
    assert_eq!(
        (shop.printed(0), shop.printed(1)),
        ("hello\nover\n".to_owned(), "over\n".to_owned())
    );
}
