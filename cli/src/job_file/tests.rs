use std::path::Path;

use phalanx_protocol::dependency::{Condition, Joined, Never};
use phalanx_protocol::{JobId, Request};

use super::*;
use crate::ui::style::Style;

fn parse(text: &str) -> JobFile {
    match JobFile::parse(Path::new("jobs.toml"), text) {
        Ok(file) => file,
        Err(error) => panic!("{}", error.render(Style::Plain)),
    }
}

/// What is said of a file that is wrong.
fn told(text: &str) -> String {
    let error = JobFile::parse(Path::new("jobs.toml"), text).unwrap_err();
    assert_eq!(error.code(), phalanx_protocol::exit::ExitCode::Usage);
    error.render(Style::Plain)
}

fn words(job: &FileJob) -> Vec<String> {
    let program = job.arguments.program().to_string_lossy().into_owned();
    let rest = job.arguments.arguments.iter();
    std::iter::once(program)
        .chain(rest.map(|word| word.to_string_lossy().into_owned()))
        .collect()
}

const KEYS_HINT: &str = "\nhint: keys are the options of `phalanx submit` without their dashes; `phalanx submit --help` \
                         explains them\n";

#[test]
fn a_job_says_what_its_command_line_would() {
    let file = parse(
        r#"
        [job.train]
        command = ["python", "train.py", "--seed", 7]
        args = ["{}"]
        array = "0-9%4"
        cpus = 2
        memory = "4G"
        resource = { gpu = 1, "disk.fast" = 3 }
        env = ["A=1", "B"]
        time-limit = "2h"
        retries = 3
        priority = -5
        hold = true
        clean-env = false
        afterok = [12, 13]
        singleton = true
        any-of = true
        cancel-if-never = true
        name = "nightly training"
        "#,
    );
    let [train] = file.jobs.as_slice() else {
        panic!("{file:?}");
    };
    assert_eq!(train.name, "train");
    assert_eq!(words(train), ["python", "train.py", "--seed", "7", "{}"]);
    let arguments = &train.arguments;
    assert_eq!(arguments.name.as_deref(), Some("nightly training"));
    assert_eq!(
        arguments.request(),
        Request {
            cpus: 2,
            memory_bytes: 4 << 30,
            named: [("disk.fast".to_owned(), 3.into()), ("gpu".to_owned(), 1.into())].into(),
            ..Request::default()
        }
    );
    assert_eq!(arguments.command.array.as_deref(), Some("0-9%4"));
    assert_eq!(arguments.command.env, ["A=1", "B"]);
    assert_eq!(arguments.limits.time_limit_millis(), Some(7_200_000));
    assert_eq!((arguments.limits.retries, arguments.priority), (3, -5));
    assert!(arguments.waiting.hold && !arguments.command.clean_env);
    let dependency = arguments.waiting.dependency(&[]).unwrap();
    assert_eq!(
        (dependency.joined, dependency.conditions, dependency.never),
        (
            Joined::Any,
            vec![
                Condition::AfterOk(JobId(12)),
                Condition::AfterOk(JobId(13)),
                Condition::Singleton,
            ],
            Never::Cancel,
        )
    );
}

#[test]
fn a_command_that_is_a_text_is_a_line_for_the_shell() {
    let file = parse(
        r#"
        [job.a]
        command = "cat out/*.txt | wc -l"
        [job.b]
        command = 'echo "$1"'
        args = ["x y"]
        "#,
    );
    assert_eq!(words(&file.jobs[0]), ["sh", "-c", "cat out/*.txt | wc -l"]);
    assert_eq!(words(&file.jobs[1]), ["sh", "-c", "echo \"$1\"", "sh", "x y"]);
    assert_eq!(file.jobs[0].arguments.name.as_deref(), Some("a"));
}

#[test]
fn what_the_options_of_a_program_look_like_is_its_own_affair() {
    let file = parse("[job.a]\ncommand = [\"tar\", \"--array\", \"-x\", \"--\", \"--file\"]\n");
    assert_eq!(words(&file.jobs[0]), ["tar", "--array", "-x", "--", "--file"]);
}

#[test]
fn a_kernel_is_called_as_on_the_command_line() {
    let file =
        parse("[job.ep]\nprogram = \"target/release/ep\"\nkernel = \"gaussians\"\nrange = \"0..256\"\n");
    let arguments = &file.jobs[0].arguments;
    assert_eq!(arguments.kernel.as_deref(), Some("gaussians"));
    assert_eq!(words(&file.jobs[0]), ["target/release/ep"]);
}

#[test]
fn a_time_to_begin_at_may_be_a_date_of_toml() {
    let begin = |text: &str| {
        let file = parse(&format!("[job.a]\ncommand = ['true']\nbegin = {text}\n"));
        file.jobs[0].arguments.waiting.begin.unwrap()
    };
    for (date, text) in [
        ("2026-12-24T08:00:00", "2026-12-24T08:00"),
        ("2026-12-24", "2026-12-24"),
        ("16:00:00", "16:00"),
    ] {
        assert_eq!(begin(date), crate::batch::begin::Begin::parse(text).unwrap());
    }
}

#[test]
fn defaults_hold_unless_the_job_says_otherwise() {
    let file = parse(
        r#"
        [defaults]
        cpus = 4
        hold = true
        env = { OMP_NUM_THREADS = 4 }
        [job.a]
        command = ["a"]
        [job.b]
        command = ["b"]
        cpus = 1
        hold = false
        "#,
    );
    let [a, b] = [&file.jobs[0].arguments, &file.jobs[1].arguments];
    assert_eq!((a.cpus, a.waiting.hold), (4, true));
    assert_eq!((b.cpus, b.waiting.hold), (1, false));
    assert_eq!(
        (&a.command.env, &b.command.env),
        (
            &vec!["OMP_NUM_THREADS=4".to_owned()],
            &vec!["OMP_NUM_THREADS=4".to_owned()]
        )
    );
}

#[test]
fn each_job_comes_behind_those_that_it_waits_for_else_as_written() {
    let file = parse(
        r#"
        [job.report]
        command = ["report"]
        afterok = ["train", "check"]
        afterany = "late"
        [job.other]
        command = ["other"]
        [job.check]
        command = ["check"]
        after = "train"
        [job.train]
        command = ["train"]
        [job.late]
        command = ["late"]
        "#,
    );
    let names: Vec<&str> = file.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["other", "train", "check", "late", "report"]);
    assert_eq!(file.jobs[2].after, [(Relation::After, 1)]);
    assert_eq!(
        file.jobs[4].after,
        [
            (Relation::AfterAny, 3),
            (Relation::AfterOk, 1),
            (Relation::AfterOk, 2),
        ]
    );
}

#[test]
fn a_circle_is_told_with_all_its_jobs_and_lines() {
    let text = "[job.first]\ncommand = \"true\"\n[job.a]\ncommand = \"true\"\nafterok = \"c\"\n\
                [job.b]\ncommand = \"true\"\nafterany = [\n  \"first\",\n  \"a\",\n]\n\
                [job.c]\ncommand = \"true\"\nafterok = \"b\"\n[job.d]\ncommand = \"true\"\nafterok = \"c\"\n";
    assert_eq!(
        told(text),
        "error: jobs.toml:3: these jobs wait for each other in a circle, so that none could ever start\n  \
         `a` afterok `c` (line 5)\n  `c` afterok `b` (line 14)\n  `b` afterany `a` (line 10)\n\n\
         hint: take one of these dependencies out\n"
    );
    assert_eq!(
        told("[job.a]\ncommand = \"true\"\nafterok = \"a\"\n"),
        "error: jobs.toml:1: the job `a` waits for itself\n\nhint: take one of these dependencies out\n"
    );
}

#[test]
fn a_job_that_the_file_does_not_have_is_told_with_what_was_meant() {
    let with = |on: &str| {
        told(&format!(
            "[job.prepare]\ncommand = \"true\"\n[job.b]\ncommand = \"true\"\nafterok = \"{on}\"\n"
        ))
    };
    assert_eq!(
        with("prepar"),
        "error: jobs.toml:5: `afterok` of the job `b` names `prepar`, and the file has no such job\n\n\
         hint: did you mean `prepare`?\n"
    );
    assert!(with("zzz").ends_with("hint: it has `prepare`, `b`\n"));
    assert!(
        with("12")
            .ends_with("hint: a job that the cluster has already is written as a number, afterok = 12\n")
    );
}

#[test]
fn keys_and_tables_that_are_not_known_are_told_with_what_was_meant() {
    assert_eq!(
        told("[job.a]\ncommand = \"true\"\ntime_limit = \"1h\"\n"),
        "error: jobs.toml:3: `time_limit` of the job `a` is no key of a job\n\nhint: did you mean `time-limit`?\n"
    );
    let looked_for = told("[job.a]\ncommand = \"true\"\ndepends_on = \"b\"\n");
    assert!(
        looked_for.contains("hint: `afterok`, `afterany`,"),
        "{looked_for}"
    );
    assert_eq!(
        told("[job.a]\ncommand = \"true\"\nfile = \"x\"\n"),
        format!("error: jobs.toml:3: `file` of the job `a` is no key of a job\n{KEYS_HINT}")
    );
    assert_eq!(
        told("[jobs.a]\ncommand = \"true\"\n"),
        "error: jobs.toml:1: `jobs` is no table of a job file\n\nhint: each job is a table of its own, as in [job.train]\n"
    );
    assert!(
        told("[[job]]\nname = \"a\"\n")
            .starts_with("error: jobs.toml:1: `job` has to be a table, and is a list\n")
    );
    assert!(told("job = 3\n").starts_with("error: jobs.toml:1: `job` has to be a table, and is a number\n"));
    assert!(
        told("[job]\ncommand = \"true\"\n")
            .starts_with("error: jobs.toml:2: `command` has to be a job's table\n")
    );
    assert_eq!(
        told("[defaults]\ncpu = 1\n[job.a]\ncommand = \"true\"\n"),
        "error: jobs.toml:2: `cpu` of [defaults] is no key of a job\n\nhint: did you mean `cpus`?\n"
    );
    assert_eq!(
        told("[defaults]\nafterok = 1\n"),
        "error: jobs.toml:1: `afterok` in [defaults] cannot be the same for all jobs\n\n\
         hint: say it in the tables of the jobs\n"
            .replace(":1:", ":2:")
    );
    assert_eq!(
        told("# nothing\n"),
        "error: the job file `jobs.toml` has no jobs\n\nhint: each job is a table of its own, as in [job.train]\n"
    );
}

#[test]
fn wrong_values_are_told_with_file_line_and_key() {
    let with = |line: &str| {
        let text = told(&format!("[job.a]\ncommand = \"true\"\n{line}\n"));
        text.strip_prefix("error: jobs.toml:3: ")
            .unwrap_or_else(|| panic!("{line}: {text}"))
            .split_once("\n\n")
            .unwrap()
            .0
            .to_owned()
    };
    for (line, expected) in [
        (
            "cpus = 0",
            "`cpus` of the job `a` cannot be `0`: 0 is not in 1..=4294967295",
        ),
        (
            "cpus = \"two\"",
            "`cpus` of the job `a` cannot be `two`: invalid digit found in string",
        ),
        (
            "cpus = true",
            "`cpus` has to be a text or a number, and is true or false",
        ),
        ("cpus = [1]", "`cpus` has to be a text or a number, and is a list"),
        ("hold = 1", "`hold` has to be true or false, and is a number"),
        (
            "env = [true]",
            "`env` has to be a list of texts or numbers, and is a list of something else",
        ),
        (
            "env = { A = [] }",
            "`env` has to be a table of texts or numbers, and is a table of something else",
        ),
        (
            "env = false",
            "`env` has to be a text, a list or a table, and is true or false",
        ),
        (
            "args = \"x\"",
            "`args` has to be a list of texts or numbers, and is a text",
        ),
        (
            "afterok = 1.5",
            "`afterok` has to be a job's name, its id on the cluster, or a list of these, and is a number",
        ),
        (
            "time-limit = \"soon\"",
            "`time-limit` of the job `a` cannot be `soon`: a time is a number with an optional unit, as in 90s, 10m, \
             1.5h or 500ms, or [DAYS-]HH:MM:SS",
        ),
        (
            "script = \"x.sh\"",
            "`command` and `script` of the job `a` exclude each other",
        ),
    ] {
        assert_eq!(with(line), expected, "{line}");
    }
    assert!(
        told("[job.a]\ncommand = \"true\"\nreduce = true\n")
            .starts_with("error: jobs.toml:1: the job `a` needs `kernel` too\n")
    );
    assert_eq!(
        told("[job.a]\neach-line = \"f\"\ncommand = \"true\"\narray = \"0-3\"\n"),
        format!("error: jobs.toml:4: `each-line` and `array` of the job `a` exclude each other\n{KEYS_HINT}")
    );
}

#[test]
fn a_job_says_what_runs_once() {
    assert!(
        told("[job.a]\ncpus = 1\n")
            .starts_with("error: jobs.toml:1: the job `a` does not say what runs\n\nhint: give one of: ")
    );
    assert!(
        told("[job.a]\ncommand = []\n")
            .starts_with("error: jobs.toml:2: `command` has to be a program with its arguments")
    );
    assert!(
        told("[job.a]\nscript = 1\n")
            .starts_with("error: jobs.toml:2: `script` has to be the path of a file, and is a number")
    );
    assert!(
        told("[job.a]\nscript = \"/does/not/exist\"\n")
            .starts_with("error: jobs.toml:2: cannot read the script `/does/not/exist`: No such file")
    );
    assert!(
        told("[job.a]\nscript = \"/dev/zero\"\n").contains("is no script"),
        "it has no end"
    );
    assert!(
        told("[job.a]\nscript = \"/dev/null\"\n")
            .contains("is no script: its first line does not begin with #!")
    );
}

#[test]
fn what_is_no_toml_and_names_that_come_twice_are_told_with_their_line() {
    let text = told("[job.a]\ncommand = \"true\"\ncpus = = 1\n");
    assert!(
        text.starts_with("error: jobs.toml:3: this is not TOML: "),
        "{text}"
    );
    let text = told("[job.a]\ncommand = \"true\"\n[job.a]\ncommand = \"false\"\n");
    assert!(
        text.starts_with("error: jobs.toml:3: this is not TOML: duplicate key"),
        "{text}"
    );
    let text = told("[job.a]\ncpus = 1\ncpus = 2\n");
    assert!(
        text.starts_with("error: jobs.toml:3: this is not TOML: duplicate key"),
        "{text}"
    );
}

#[test]
fn a_file_with_too_many_jobs_is_refused() {
    let jobs = |count: usize| -> String {
        (0..count)
            .map(|number| format!("[job.j{number}]\ncommand = \"true\"\n"))
            .collect()
    };
    let text = told(&jobs(JOBS_MAX + 1));
    assert!(
        text.starts_with("error: the job file `jobs.toml` has 1001 jobs, more than 1000\n"),
        "{text}"
    );
    assert_eq!(parse(&jobs(JOBS_MAX)).jobs.len(), JOBS_MAX);
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let told = |path: &Path| JobFile::read(path).unwrap_err().render(Style::Plain);
    assert_eq!(
        told(Path::new("/does/not/exist.toml")),
        "error: cannot read the job file `/does/not/exist.toml`: No such file or directory (os error 2)\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, b"\xff").unwrap();
    assert!(told(&path).ends_with("it is not UTF-8 text\n"));
}
