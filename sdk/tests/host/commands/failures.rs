//! Tasks that cannot begin, and what is said of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use phalanx_protocol::CommandPlan;
use phalanx_protocol::command::{Action, Output, TaskInput};
use phalanx_protocol::record::FailureCause;

use super::{Shop, command, program, shell};

/// How a task fails that runs a file of that content and mode, with the file's path written as `FILE`.
#[track_caller]
fn failure_of(content: &[u8], mode: u32) -> (FailureCause, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tool");
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let shop = Shop::run(&program(&[file.to_str().unwrap()]), command());
    let failure = shop.failure(0);
    (
        failure.cause,
        failure.message.replace(file.to_str().unwrap(), "FILE"),
    )
}

#[test]
fn a_program_that_cannot_be_started_is_told_apart_as_shells_do() {
    assert_eq!(
        failure_of(b"#!/no/such/interpreter\n", 0o755),
        (
            FailureCause::Exit(127),
            "cannot start `FILE`: the interpreter that its first line names is not there".to_owned()
        )
    );
    let (cause, message) = failure_of(b"#!/bin/sh\n", 0o644);
    assert_eq!(cause, FailureCause::Exit(126));
    assert_eq!(message, "cannot start `FILE`: Permission denied (os error 13)");
    let (cause, message) = failure_of(b"\x7fELF no program of this machine \0", 0o755);
    assert_eq!(cause, FailureCause::Exit(126));
    assert_eq!(message, "cannot start `FILE`: Exec format error (os error 8)");
    let mut plan = program(&["true"]);
    plan.directory = Bytes::from_static(b"/no/such");
    let shop = Shop::run(&plan, command());
    assert_eq!(
        shop.failure(0).message,
        "its working directory `/no/such` is not there on this worker"
    );
}

#[test]
fn text_that_does_not_say_what_runs_it_is_run_by_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tool");
    fs::write(&file, "echo \"$1\" \"$PHALANX_TASK_INDEX\"\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let plan = program(&[file.to_str().unwrap(), "item {}"]);
    let mut shop = Shop::in_folder(folder, &plan, command());
    shop.driver.grant(1, 0..2);
    shop.driver.await_ended(2);
    assert_eq!(shop.printed(0) + &shop.printed(1), "item 0 0\nitem 1 1\n");
}

#[test]
fn a_script_that_does_not_say_what_runs_it_is_no_script() {
    let plan = CommandPlan {
        action: Action::Script {
            content: Bytes::from_static(b"echo hello\n"),
            arguments: Vec::new(),
        },
        ..program(&[])
    };
    let shop = Shop::run(&plan, command());
    let failure = shop.failure(0);
    assert_eq!(failure.cause, FailureCause::Exit(126));
    assert!(
        failure.message.contains("does not begin with `#!`"),
        "{}",
        failure.message
    );
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let files = |output: &str, error: Option<&str>| Output::Files {
        output: output.to_owned(),
        error: error.map(str::to_owned),
        append: false,
    };
    let told = |plan: &CommandPlan| {
        let shop = Shop::run(plan, command());
        let failure = shop.failure(0);
        assert_eq!(failure.cause, FailureCause::Error);
        failure.message.clone()
    };
    let mut plan = shell("exit 0");
    plan.output = files("/proc/no/such/file", None);
    let message = told(&plan);
    assert!(
        message.starts_with("cannot write its output to `/proc/no/such/file`: "),
        "{message}"
    );
    plan.output = files("/dev/null", Some("/tmp"));
    let message = told(&plan);
    assert!(
        message.starts_with("cannot write its output to `/tmp`: Is a directory"),
        "{message}"
    );
    plan.output = Output::Packed;
    plan.input = TaskInput::File("no/such/input".to_owned());
    let message = told(&plan);
    assert!(
        message.starts_with("cannot read its input `/no/such/input`: No such file"),
        "{message}"
    );
}

#[test]
fn ten_to_the_five_tasks_that_all_fail_are_all_told() {
    const TASKS: u64 = 100_000;
    let mut plan = shell("exit 0");
    plan.input = TaskInput::File("/no/such/input".to_owned());
    let mut shop = Shop::open(&plan, command());
    shop.driver.grant(1, 0..TASKS);
    let ended = shop.driver.await_ended(TASKS);
    assert_eq!(ended.failed.len() as u64, TASKS);
    assert!(
        ended.messages > 5,
        "they are not kept until the end: {}",
        ended.messages
    );
}

#[test]
fn an_item_that_no_argument_can_have_fails_its_own_task_only() {
    use phalanx_protocol::message::host::{HostInputs, ToHost};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items");
    let items: [&[u8]; 3] = [b"one", b"t\0o", b"th\xffee"];
    let encoded = items.map(|item| [&(item.len() as u32).to_le_bytes(), item].concat());
    fs::write(&file, encoded.concat()).unwrap();
    let mut shop = Shop::in_folder(folder, &program(&["echo", "<{}>"]), command());
    shop.driver.send(&ToHost::Grant {
        grant: crate::driver::grant_id(1),
        range: (0..3).into(),
        inputs: HostInputs::Items(vec![((0..3).into(), file)]),
        restarts: 0,
    });
    shop.driver.await_ended(3);
    assert_eq!(shop.printed(0), "<one>\n");
    assert_eq!(
        shop.failure(1).message,
        "its item has a zero byte, which no argument can have"
    );
    assert_eq!(shop.printed(2), "<th\u{fffd}ee>\n");
}
