//! Batch scripts as people write them, run for real: each case of `tests/corpus` in a folder of its own, on one cluster.

mod case;
mod text;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use self::case::{Call, Case};
use self::text::Values;
use crate::command::{DEADLINE, Done, finish_within, login};
use crate::desk::Desk;
use crate::up::Up;

/// Cases that run at a time.
const AT_A_TIME: usize = 8;

#[test]
fn scripts_of_the_corpus_leave_what_they_leave_under_slurm() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let cases = case::read_all(&folder);
    // what a single one is looked for by
    let only = std::env::var("PHALANX_CORPUS_CASE").ok();
    let cases = cases
        .into_iter()
        .filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only)));
    let waiting = Mutex::new(cases.collect::<VecDeque<_>>());
    let count = waiting.lock().unwrap().len();
    assert!(count > 0, "there is no such case");
    let up = Up::start_roomy();
    let desk = Desk::new(up.directory());
    let node = up.run("--output json workers").json()["workers"][0]["name"].take();
    let node = node.as_str().unwrap();
    let failed = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = next(&waiting) {
                    if let Some(program) = case.needs.iter().find(|program| !is_there(program)) {
                        eprintln!("skipped: {} needs {program}", case.name);
                    } else if let Err(what) = check(&case, &desk, node) {
                        failed.lock().unwrap().insert(case.name.clone(), what);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let told: Vec<String> = failed
        .iter()
        .map(|(name, what)| format!("== {name}\n{what}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} cases:\n{}",
        failed.len(),
        told.join("\n")
    );
}

fn next(waiting: &Mutex<VecDeque<Case>>) -> Option<Case> {
    waiting.lock().unwrap().pop_front()
}

/// Whether a program is in PATH; `root` is who runs the tests.
fn is_there(program: &str) -> bool {
    if program == "root" {
        return rustix::process::getuid().is_root();
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs a case; says what is not as it should be.
fn check(case: &Case, desk: &Desk, node: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let folder = std::fs::canonicalize(folder.path())
        .map(|path| (folder, path))
        .unwrap();
    let (_keeper, folder) = folder;
    let mut values = Values::default();
    values.know("dir", &folder.display().to_string());
    values.know("node", node);
    values.know("user", &login());
    values.know(
        "host",
        read_to_string(Path::new("/proc/sys/kernel/hostname")).trim(),
    );
    values.know("uid", &rustix::process::getuid().as_raw().to_string());
    values.know("gid", &rustix::process::getgid().as_raw().to_string());
    let mut before: BTreeSet<String> = case.given.keys().cloned().collect();
    if let Some(script) = &case.script {
        let name = format!("{}.sh", case.name);
        std::fs::copy(script, folder.join(&name)).unwrap();
        before.insert(name);
    }
    for (name, content) in &case.given {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, values.fill(content)).unwrap();
        if content.starts_with("#!") {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    let mut wrong = Vec::new();
    for call in &case.calls {
        let child = shell(call, case, desk, &folder, &values).spawn().unwrap();
        // some wait until the worker is all theirs
        let done = finish_within(child, 3 * DEADLINE);
        compare(call, &done, &mut values, &mut wrong);
    }
    compare_files(case, &folder, &before, &mut values, &mut wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

/// The shell that carries out a line, with Slurm's commands in PATH.
fn shell(call: &Call, case: &Case, desk: &Desk, folder: &Path, values: &Values) -> Command {
    let mut command = desk.program("/bin/sh", &["-c", &values.fill(&call.run)]);
    command
        .current_dir(folder)
        .env("USER", login())
        .env("PWD", folder);
    for (name, value) in &case.env {
        command.env(name, values.fill(value));
    }
    command
}

fn compare(call: &Call, done: &Done, values: &mut Values, wrong: &mut Vec<String>) {
    let run = &call.run;
    if done.code != Some(call.code) {
        wrong.push(format!(
            "`{run}` exited with {:?} instead of {}",
            done.code, call.code
        ));
    }
    for (name, expected, found) in [
        ("stdout", &call.stdout, &done.stdout),
        ("stderr", &call.stderr, &done.stderr),
    ] {
        if !values.is_match(expected, found) {
            wrong.push(format!(
                "{name} of `{run}`:\n{}",
                difference(&values.fill(expected), found)
            ));
        }
    }
}

/// The files that a case has left, and no others, with what must be in them.
fn compare_files(
    case: &Case,
    folder: &Path,
    before: &BTreeSet<String>,
    values: &mut Values,
    wrong: &mut Vec<String>,
) {
    let mut found = BTreeSet::new();
    list(folder, folder, &mut found);
    let exact = case.files.iter().map(|expected| (expected, false));
    let unordered = case.unordered.iter().map(|expected| (expected, true));
    let mut expected_names = BTreeSet::new();
    for ((pattern, expected), in_any_order) in exact.chain(unordered) {
        let name = values.fill(pattern);
        expected_names.insert(name.clone());
        if !found.contains(&name) {
            wrong.push(format!("there is no file `{name}`"));
            continue;
        }
        let content = read_to_string(&folder.join(&name));
        let content = if in_any_order { sorted(&content) } else { content };
        let expected = if in_any_order {
            sorted(expected)
        } else {
            expected.clone()
        };
        if !values.is_match(&expected, &content) {
            let difference = difference(&values.fill(&expected), &content);
            wrong.push(format!("file `{name}`:\n{difference}"));
        }
    }
    for name in found.difference(&expected_names) {
        if !before.contains(name) {
            let content = read_to_string(&folder.join(name));
            wrong.push(format!(
                "nobody expected a file `{name}`:\n{}",
                difference("", &content)
            ));
        }
    }
}

/// All files in a folder and those below it.
fn list(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => list(root, &path, found),
            false => {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
}

/// Bytes that are no text are shown as `�`.
fn read_to_string(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Lines that should be there with a minus, those that are with a plus; common ones at both ends once.
fn difference(expected: &str, found: &str) -> String {
    let lines = |text: &str| -> Vec<String> {
        text.split_inclusive('\n')
            .map(|line| format!("{line:?}"))
            .collect()
    };
    let (expected, found) = (lines(expected), lines(found));
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let start = expected.iter().zip(&found).take_while(same).count();
    let shorter = expected.len().min(found.len()) - start;
    let end = expected
        .iter()
        .rev()
        .zip(found.iter().rev())
        .take_while(same)
        .count()
        .min(shorter);
    let marked = |mark: &str, lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| format!("  {mark} {line}")).collect()
    };
    [
        marked(" ", &expected[..start]),
        marked("-", &expected[start..expected.len() - end]),
        marked("+", &found[start..found.len() - end]),
        marked(" ", &expected[expected.len() - end..]),
    ]
    .concat()
    .join("\n")
}
