use std::os::unix::fs::PermissionsExt;

use super::*;

const TASK: TaskId = TaskId {
    job: JobId(42),
    index: 7,
};

fn attempt(term: u64, number: u64) -> GrantId {
    GrantId {
        term: Term(term),
        number,
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    directories: CheckpointDirectories,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directories = CheckpointDirectories::new(folder.path());
        Self {
            _folder: folder,
            directories,
        }
    }

    /// Saves as a program does: beside, then renamed into place.
    fn save(&self, attempt: GrantId, name: &str, text: &str) {
        let folder = self.directories.path(TASK, attempt);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }

    fn saved(&self, attempt: GrantId, name: &str) -> Option<String> {
        fs::read_to_string(self.directories.path(TASK, attempt).join(name)).ok()
    }

    fn carry_over(&self, attempt: GrantId) -> bool {
        self.directories.carry_over(TASK, attempt).unwrap()
    }

    fn kept(&self) -> Vec<GrantId> {
        attempts(&self.directories.of_task(TASK)).unwrap()
    }
}

#[test]
fn the_next_attempt_finds_what_the_last_one_saved_and_a_zombie_cannot_change_it() {
    let fixture = Fixture::new();
    let (first, second, third) = (attempt(1, 9), attempt(1, 10), attempt(2, 1));
    assert!(!fixture.carry_over(first), "nobody has saved anything");
    fixture.save(first, "state", "5");
    assert!(fixture.carry_over(second));
    assert_eq!(fixture.saved(second, "state").as_deref(), Some("5"));
    // the first one still runs: it renames, and writes in place
    fixture.save(first, "state", "6");
    let path = fixture.directories.path(TASK, second).join("log");
    fs::write(fixture.directories.path(TASK, first).join("log"), "zombie").unwrap();
    assert!(!path.exists());
    assert_eq!(fixture.saved(second, "state").as_deref(), Some("5"));
    fixture.save(second, "state", "7");
    assert!(fixture.carry_over(third));
    assert_eq!(fixture.saved(third, "state").as_deref(), Some("7"));
}

#[test]
fn a_file_that_a_zombie_appends_to_stays_as_it_was_copied() {
    use std::io::Write;

    let fixture = Fixture::new();
    fixture.save(attempt(1, 1), "log", "a");
    let log = fixture.directories.path(TASK, attempt(1, 1)).join("log");
    assert!(fixture.carry_over(attempt(1, 2)));
    let mut zombie = File::options().append(true).open(log).unwrap();
    zombie.write_all(b"b").unwrap();
    assert_eq!(fixture.saved(attempt(1, 2), "log").as_deref(), Some("a"));
}

#[test]
fn an_attempt_that_saves_nothing_hands_on_what_it_got() {
    let fixture = Fixture::new();
    fixture.save(attempt(1, 1), "state", "5");
    assert!(fixture.carry_over(attempt(1, 2)));
    assert!(fixture.carry_over(attempt(1, 3)));
    assert_eq!(fixture.saved(attempt(1, 3), "state").as_deref(), Some("5"));
    assert_eq!(
        fixture.kept(),
        [attempt(1, 2), attempt(1, 3)],
        "the last two are kept"
    );
}

#[test]
fn what_was_not_copied_to_its_end_is_nobodys_checkpoint() {
    let fixture = Fixture::new();
    fixture.save(attempt(1, 1), "state", "5");
    let folder = fixture.directories.of_task(TASK);
    // the worker of the second attempt died while it copied
    let torn = folder.join(name(attempt(1, 2)) + UNFINISHED);
    fs::create_dir(&torn).unwrap();
    fs::write(torn.join("state"), "").unwrap();
    assert!(fixture.carry_over(attempt(1, 3)));
    assert_eq!(fixture.saved(attempt(1, 3), "state").as_deref(), Some("5"));
    // and one that is tried again begins anew
    assert!(fixture.carry_over(attempt(1, 2)));
    assert_eq!(fixture.saved(attempt(1, 2), "state").as_deref(), Some("5"));
}

#[test]
fn directories_links_and_permissions_are_carried_over() {
    let fixture = Fixture::new();
    let from = fixture.directories.path(TASK, attempt(1, 1));
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::write(from.join("deep/er/file"), vec![7; 100_000]).unwrap();
    fs::write(from.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("deep/er", from.join("latest")).unwrap();
    assert!(fixture.carry_over(attempt(1, 2)));
    let to = fixture.directories.path(TASK, attempt(1, 2));
    assert_eq!(fs::read(to.join("latest/file")).unwrap(), vec![7; 100_000]);
    assert_eq!(fs::read_link(to.join("latest")).unwrap(), Path::new("deep/er"));
    let mode = fs::metadata(to.join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

/// Copies the first attempt's directory while a zombie does something at each look at it.
fn copy_while(fixture: &Fixture, mut zombie: impl FnMut(&Path, u32)) -> (PathBuf, Result<(), CarryError>) {
    let from = fixture.directories.path(TASK, attempt(1, 1));
    let to = from.with_file_name("copy");
    let mut looks = 0;
    let mut copy = Copy {
        entries_left: ENTRIES_MAX,
        meanwhile: &mut |folder| {
            if folder == from {
                looks += 1;
                zombie(folder, looks);
            }
        },
    };
    let copied = copy.directory(&from, &to, DEPTH_MAX);
    (to, copied)
}

#[test]
fn a_state_that_gets_another_name_while_it_is_copied_is_found() {
    let fixture = Fixture::new();
    let from = fixture.directories.path(TASK, attempt(1, 1));
    fs::create_dir_all(from.join("state1")).unwrap();
    fs::write(from.join("state1/one"), "1").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH;
    File::open(&from).unwrap().set_modified(long_ago).unwrap();
    let (to, copied) = copy_while(&fixture, |folder, look| {
        if look == 1 {
            fs::create_dir(folder.join("state2")).unwrap();
            fs::write(folder.join("state2/one"), "2").unwrap();
            fs::remove_dir_all(folder.join("state1")).unwrap();
        }
    });
    copied.unwrap();
    assert_eq!(fs::read_to_string(to.join("state2/one")).unwrap(), "2");
    assert!(!to.join("state1").exists(), "nothing is left of what went away");
}

#[test]
fn a_directory_that_never_rests_is_told_of() {
    let fixture = Fixture::new();
    fixture.save(attempt(1, 1), "state", "5");
    let (_, copied) = copy_while(&fixture, |folder, look| {
        let moment = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(look));
        File::open(folder).unwrap().set_modified(moment).unwrap();
    });
    assert!(matches!(copied, Err(CarryError::Unsteady { .. })), "{copied:?}");
}

#[test]
fn endless_depth_is_refused_and_leaves_no_directory_of_the_attempt() {
    let fixture = Fixture::new();
    let from = fixture.directories.path(TASK, attempt(1, 1));
    fs::create_dir_all(from.join(vec!["d"; DEPTH_MAX].join("/"))).unwrap();
    let refused = fixture.directories.carry_over(TASK, attempt(1, 2));
    assert!(matches!(refused, Err(CarryError::TooMany { .. })), "{refused:?}");
    assert!(!fixture.directories.path(TASK, attempt(1, 2)).exists());
}

#[test]
fn the_directories_of_a_finished_job_are_cleared_and_no_others() {
    let fixture = Fixture::new();
    fixture.save(attempt(1, 1), "state", "x");
    let other = TaskId {
        job: JobId(421),
        index: 7,
    };
    let kept = fixture.directories.path(other, attempt(1, 1));
    fs::create_dir_all(&kept).unwrap();
    fixture.directories.clear(TASK.job).unwrap();
    fixture.directories.clear(TASK.job).unwrap();
    assert_eq!((fixture.kept(), kept.exists()), (Vec::new(), true));
}
