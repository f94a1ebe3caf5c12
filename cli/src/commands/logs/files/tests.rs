use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use phalanx_protocol::ArrayIds;
use phalanx_protocol::command::ArrayPart;
use phalanx_protocol::view::CommandView;

use super::*;
use crate::ui::views::tests::job_view;

fn job(tasks: u64, is_array: bool, known: &[(&str, &str)]) -> JobView {
    let part = ArrayPart {
        first: 5,
        count: tasks,
        step: 1,
    };
    let facts = known
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let mut facts: BTreeMap<String, String> = facts.collect();
    facts.insert(facts::DIRECTORY.to_owned(), "/work".to_owned());
    JobView {
        tasks,
        command: Some(Box::new(CommandView {
            array: is_array.then(|| ArrayIds::new(vec![part]).unwrap()),
            facts,
        })),
        ..job_view()
    }
}

#[test]
fn names_are_those_that_the_worker_found() {
    let view = job(2, true, &[("output", "%x-%A_%a.%N"), ("error", "/e/%j")]);
    let files = Files::of(&view).unwrap();
    let names = files.names(1, Some("n01")).unwrap();
    assert_eq!(names.output, Path::new("/work/nightly-42_6.n01"));
    assert_eq!(names.error.as_deref(), Some(Path::new("/e/2000000042")));
    assert_eq!(files.names(1, None), None);
    let view = job(1, false, &[("output", "o.%j"), ("error", "./o.42")]);
    let names = Files::of(&view).unwrap().names(0, None).unwrap();
    assert_eq!(names.output, Path::new("/work/o.42"));
    assert!(Files::of(&job(1, false, &[])).is_none());
}

#[test]
fn it_is_known_whether_tasks_share_their_files() {
    for (is_array, output, is_spread, shared, own) in [
        (true, "%A_%a", false, false, true),
        (true, "%j", false, false, true),
        (true, "%A", false, true, false),
        (true, "%b", false, false, false),
        (true, "%A.%N", false, false, false),
        (false, "%j", false, true, false),
        (false, "%N", false, false, false),
        (false, "%N", true, true, false),
    ] {
        let nodes = ("nodes", "2");
        let known = [("output", output), nodes];
        let view = job(2, is_array, &known[..if is_spread { 2 } else { 1 }]);
        let files = Files::of(&view).unwrap();
        let found = (files.are_shared(), files.are_each_ones_own());
        assert_eq!(found, (shared, own), "{output}");
    }
}

fn read(tail: &mut Tail, bytes_max: u64) -> Result<String, FileError> {
    let mut all = Vec::new();
    tail.more(bytes_max, |bytes| {
        all.extend_from_slice(bytes);
        Ok::<(), FileError>(())
    })?;
    Ok(String::from_utf8(all).unwrap())
}

#[test]
fn what_a_file_has_gained_is_read_and_all_of_one_that_was_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut tail = Tail::new(path.clone(), false);
    assert!(read(&mut tail, 100).unwrap_err().is_absence());
    let mut file = File::create(&path).unwrap();
    file.write_all(b"one two").unwrap();
    assert_eq!(read(&mut tail, 4).unwrap(), "one ");
    assert_eq!(read(&mut tail, 100).unwrap(), "two");
    assert_eq!(read(&mut tail, 100).unwrap(), "");
    file.write_all(b" three").unwrap();
    assert_eq!(read(&mut tail, 100).unwrap(), " three");
    fs::write(&path, "four").unwrap();
    assert_eq!(read(&mut tail, 100).unwrap(), "four");
    // begun anew, and as long
    fs::write(&path, "five").unwrap();
    assert_eq!(read(&mut tail, 100).unwrap(), "five");
    // another file of this name, and a longer one
    let other = folder.path().join("other");
    fs::write(&other, "six and seven").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(read(&mut tail, 100).unwrap(), "six and seven");
}

#[test]
fn what_keeps_nothing_is_not_waited_for() {
    let mut null = Tail::new(PathBuf::from("/dev/null"), false);
    assert!(matches!(read(&mut null, 1), Err(FileError::NotKept)));
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut pipe = Tail::new(pipe, false);
    assert!(matches!(read(&mut pipe, 1), Err(FileError::NotKept)));
}
