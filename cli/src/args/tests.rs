use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use phalanx_protocol::{IndexRange, Request};

use super::*;

/// Without what the environment of the test says.
fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    for name in ["cluster", "scheduler"] {
        command = command.mut_arg(name, |argument| argument.env(None::<&str>));
    }
    let words = ["phalanx"].into_iter().chain(line.split_whitespace());
    let matches = command.try_get_matches_from(words)?;
    clap::FromArgMatches::from_arg_matches(&matches)
}

fn refused(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn submitted(line: &str) -> job::SubmitArguments {
    let command = parse(line).unwrap().command;
    let (Command::Submit(arguments) | Command::Run(arguments)) = command else {
        panic!("{command:?}");
    };
    arguments.job
}

#[test]
fn the_declarations_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_help_renders_and_begins_with_a_short_line() {
    let mut root = Arguments::command();
    root.build();
    let mut commands = vec![&root];
    commands.extend(
        root.get_subcommands()
            .filter(|command| command.get_name() != "help" && !command.is_hide_set()),
    );
    assert!(commands.len() > 10);
    for command in commands {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && about.len() < 70, "{name}: {about}");
        let mut owned = command.clone();
        for (kind, text) in [("-h", owned.render_help()), ("--help", owned.render_long_help())] {
            let text = text.to_string();
            let first = text.lines().next().unwrap_or_default();
            assert!(!first.is_empty() && first.len() < 70, "{name} {kind}: {first}");
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let id = argument.get_id();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && help.len() < 70, "{name} {id}: {help}");
        }
    }
}

#[test]
fn long_help_gives_an_example_of_every_command_and_option() {
    let root = Arguments::command();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command
            .get_long_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(about.contains("Example"), "{}: {about}", command.get_name());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let help = argument
                .get_long_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("xample"),
                "{} {}: {help}",
                command.get_name(),
                argument.get_id()
            );
        }
    }
}

#[test]
fn the_exit_codes_are_those_of_the_protocol() {
    use phalanx_protocol::exit::ExitCode;
    let help = Arguments::command().render_long_help().to_string();
    for code in [
        ExitCode::Success,
        ExitCode::TasksFailed,
        ExitCode::Usage,
        ExitCode::Unreachable,
        ExitCode::Cancelled,
        ExitCode::JobBroken,
        ExitCode::Internal,
        ExitCode::Interrupted,
    ] {
        let number = format!("\n{:>5}  ", code.number());
        assert!(help.contains(&number), "{code:?}: {help}");
    }
}

#[test]
fn a_job_is_read_whole() {
    let line = "submit prog --kernel square --range 5..15 --cpus 2 --memory 1G --resource gpu=1 --resource disk=3 \
                --priority -4 --name nightly --failures-max 0 --reduce --idempotent --parameters {}";
    let arguments = submitted(line);
    assert_eq!(arguments.range, Some(IndexRange::new(5, 15)));
    assert_eq!(
        arguments.request(),
        Request {
            cpus: 2,
            memory_bytes: 1 << 30,
            named: [("disk".to_owned(), 3.into()), ("gpu".to_owned(), 1.into())].into(),
            ..Request::default()
        }
    );
    assert_eq!(
        (arguments.priority, arguments.failures_max, arguments.reduce),
        (-4, Some(0), true)
    );
    assert!(arguments.idempotent);
    let least = submitted("run prog -k text -i in.jsonl");
    assert_eq!(least.request(), Request::default());
    assert!(!least.idempotent, "only its user can know");
}

#[test]
fn retries_and_limits_of_a_job_are_read() {
    use phalanx_protocol::Retries;
    let least = submitted("run prog -k text -i in.jsonl").limits;
    assert_eq!(least.retries(), Retries::default());
    assert_eq!(
        (least.task_time_limit_millis(), least.time_limit_millis()),
        (None, None)
    );
    let line = "run prog -k text -i in.jsonl --retries 2 --crash-limit 1 --lost-limit 5 --timeout-retries 4 \
                --backoff 100ms --task-time-limit 10m --time-limit 1-00:00:00";
    let all = submitted(line).limits;
    let retries = Retries {
        errors: 2,
        crash_limit: 1,
        lost_limit: Some(5),
        timeouts: 4,
        backoff_millis: 100,
    };
    assert_eq!(all.retries(), retries);
    assert_eq!(
        (all.task_time_limit_millis(), all.time_limit_millis()),
        (Some(600_000), Some(86_400_000))
    );
    assert_eq!(
        refused("submit prog -k square -r 0..3 --time-limit soon"),
        "error: invalid value 'soon' for '--time-limit <TIME>': a time is a number with an optional unit, as in 90s, \
         10m, 1.5h or 500ms, or [DAYS-]HH:MM:SS"
    );
}

#[test]
fn a_worker_is_started_or_drained() {
    let worker = |line: &str| {
        let command = parse(line).unwrap().command;
        let Command::Worker(arguments) = command else {
            panic!("{command:?}");
        };
        arguments
    };
    let started = worker("worker --cpus 2 --grace 1.5s");
    assert!(started.action.is_none() && started.grace.as_millis() == 1500);
    let drained = worker("--output json worker drain w3");
    assert!(
        matches!(drained.action, Some(daemon::WorkerAction::Drain(arguments)) if arguments.worker.0 == 3)
    );
    assert_eq!(
        refused("worker drain 3x"),
        "error: invalid value '3x' for '<ID>': `3x` is not a worker id (such as w3)"
    );
}

#[test]
fn a_job_needs_its_tasks_once() {
    let kind = |line: &str| parse(line).unwrap_err().kind();
    assert_eq!(kind("run prog -r 0..3"), ErrorKind::MissingRequiredArgument);
    assert_eq!(
        kind("run prog -k square -r 0..3 -i f"),
        ErrorKind::ArgumentConflict
    );
}

#[test]
fn wrong_values_are_told_with_what_would_be_right() {
    assert_eq!(
        refused("run prog -k square -r 10"),
        "error: invalid value '10' for '--range <A..B>': a range is written A..B, as in 0..1000 (0 to 999), or A..=B \
         with B included"
    );
    assert_eq!(
        refused("submit prog -k square -r 0..3 --memory lots"),
        "error: invalid value 'lots' for '--memory <SIZE>': a size is a number with an optional unit, as in 8G, \
         512MiB or 1.5T"
    );
    assert_eq!(
        refused("job x"),
        "error: invalid value 'x' for '<ID>': `x` is not a job id (a number such as 42)"
    );
    assert_eq!(
        refused("submit prog -k square -r 0..3 --cpus 0"),
        "error: invalid value '0' for '--cpus <N>': 0 is not in 1..=4294967295"
    );
    assert_eq!(
        refused("worker --resource memory=5"),
        "error: invalid value 'memory=5' for '--resource <NAME=N>': bytes of memory have an option of their own, \
         --memory"
    );
}

#[test]
fn global_options_stand_anywhere() {
    let arguments =
        parse("--output json workers --cluster /srv/lab --scheduler a:1,b:2 --scheduler c:3").unwrap();
    assert_eq!(arguments.global.output, OutputForm::Json);
    assert_eq!(arguments.global.cluster, Some("/srv/lab".into()));
    assert_eq!(arguments.global.scheduler, ["a:1", "b:2", "c:3"]);
}

#[test]
fn states_are_words() {
    let Command::Jobs(arguments) = parse("jobs --state waiting,broken").unwrap().command else {
        panic!("no jobs");
    };
    let words: Vec<&str> = arguments.state.into_iter().map(JobState::word).collect();
    assert_eq!(words, ["waiting", "broken"]);
    assert!(Arguments::try_parse_from(["phalanx", "jobs", "--state", "gone"]).is_err());
}
