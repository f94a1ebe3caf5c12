use std::fs::FileTimes;
use std::time::SystemTime;

use super::*;

fn storage() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    (folder, directory)
}

/// Runs a check on nameless staging and on the fallback with names.
fn on_both(check: impl Fn(&Directory)) {
    for nameless in [true, false] {
        let (_folder, directory) = storage();
        directory.nameless_works.store(nameless, Ordering::Relaxed);
        check(&directory);
    }
}

#[test]
fn the_first_create_wins_and_keeps_its_body() {
    on_both(|store| {
        assert_eq!(store.put_if_absent("a/b/c", b"first").unwrap(), Put::Created);
        assert_eq!(store.put_if_absent("a/b/c", b"second").unwrap(), Put::Exists);
        assert_eq!(store.get("a/b/c").unwrap().unwrap(), b"first");
        // nothing is left of the loser, and nothing shows but the object
        let names: Vec<_> = fs::read_dir(store.path("a/b"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["c"]);
    });
}

#[test]
fn racing_creates_have_one_winner() {
    on_both(|store| {
        for round in 0..10 {
            let key = format!("race/{round}");
            let winners: usize = std::thread::scope(|scope| {
                let put = |body: u8| (store.put_if_absent(&key, &[body]).unwrap() == Put::Created) as usize;
                let racers: Vec<_> = (0..4).map(|body| scope.spawn(move || put(body))).collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).sum()
            });
            assert_eq!(winners, 1);
        }
    });
}

#[test]
fn absent_objects_are_no_error() {
    let (_folder, store) = storage();
    assert_eq!(store.get("a/b").unwrap(), None);
    assert_eq!(store.get_range("a/b", 0, 1).unwrap(), None);
    assert!(store.list("a/", None).unwrap().is_empty());
    store.delete("a/b").unwrap();
}

#[test]
fn ranges_end_where_the_object_ends() {
    let (_folder, store) = storage();
    store.put_if_absent("a", b"0123456789").unwrap();
    assert_eq!(store.get_range("a", 3, 4).unwrap().unwrap(), b"3456");
    assert_eq!(store.get_range("a", 8, 4).unwrap().unwrap(), b"89");
    assert_eq!(store.get_range("a", 11, 4).unwrap().unwrap(), b"");
    assert_eq!(store.get_range("a", u64::MAX, usize::MAX).unwrap().unwrap(), b"");
}

#[test]
fn listings_are_ordered_and_go_on_after_a_key() {
    let (_folder, store) = storage();
    for key in [
        "log/1/a",
        "log/0/b",
        "log/0/a",
        "log/10/a",
        "other/x",
        "log/0.txt",
    ] {
        store.put_if_absent(key, b"").unwrap();
    }
    fs::write(store.path("log/.staging-1-1"), b"").unwrap();
    let all = ["log/0.txt", "log/0/a", "log/0/b", "log/1/a", "log/10/a"];
    assert_eq!(store.list("log/", None).unwrap(), all);
    for (index, after) in all.iter().enumerate() {
        assert_eq!(store.list("log/", Some(after)).unwrap(), all[index + 1..]);
    }
    assert_eq!(store.list("log/1", None).unwrap(), ["log/1/a", "log/10/a"]);
    assert_eq!(store.list("", None).unwrap().len(), 6);
}

#[test]
fn replace_overwrites_and_delete_removes() {
    let (_folder, store) = storage();
    store.replace("members/s1", b"1").unwrap();
    store.replace("members/s1", b"2").unwrap();
    assert_eq!(store.get("members/s1").unwrap().unwrap(), b"2");
    assert_eq!(store.list("members/", None).unwrap(), ["members/s1"]);
    store.delete("members/s1").unwrap();
    assert_eq!(store.get("members/s1").unwrap(), None);
}

#[test]
fn only_old_staging_files_are_swept() {
    let (folder, store) = storage();
    store.put_if_absent("jobs/1", b"").unwrap();
    let (old, young) = (store.path("jobs/.staging-1-1"), store.path("jobs/.staging-1-2"));
    fs::write(&old, b"").unwrap();
    fs::write(&young, b"").unwrap();
    let long_ago = SystemTime::now() - 2 * STAGING_AGE_MIN;
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_times(FileTimes::new().set_modified(long_ago))
        .unwrap();
    Directory::open(folder.path()).unwrap();
    assert!(!old.exists() && young.exists());
}

#[test]
fn a_folder_that_was_removed_meanwhile_is_made_again() {
    let (_folder, store) = storage();
    store.put_if_absent("jobs/1/a", b"").unwrap();
    fs::remove_dir_all(store.path("jobs")).unwrap();
    // the first call may fail, with an unknown outcome; it must not go on failing
    let _ = store.put_if_absent("jobs/1/b", b"");
    store.put_if_absent("jobs/1/b", b"").unwrap();
    assert_eq!(store.list("jobs/", None).unwrap(), ["jobs/1/b"]);
}
