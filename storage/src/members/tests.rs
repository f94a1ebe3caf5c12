use std::time::Instant;

use super::*;
use crate::memory::MemoryStore;

fn card(name: &str, process: ProcessMark) -> Card {
    Card {
        name: name.to_owned(),
        addresses: vec!["10.0.0.1:7700".to_owned()],
        counter: 0,
        process,
        term: None,
        is_candidate: false,
    }
}

fn elsewhere() -> ProcessMark {
    let boot_id = "another boot".to_owned();
    ProcessMark {
        host: "n2".to_owned(),
        boot_id,
        ..ProcessMark::of_this_process()
    }
}

fn members() -> Members {
    Members::new(Arc::new(MemoryStore::default()))
}

/// Counts pauses instead of sleeping.
fn count_pauses(members: &Members, name: &str) -> (Result<(), NameError>, u32) {
    let mut pauses = 0;
    let own = ProcessMark::of_this_process();
    let free = wait_for_name(members, name, &own, &mut |_| pauses += 1);
    (free, pauses)
}

#[test]
fn cards_are_listed_until_they_are_removed() {
    let members = members();
    let (mut a, mut b) = (card("a", elsewhere()), card("b", elsewhere()));
    members.beat(&mut b).unwrap();
    members.beat(&mut a).unwrap();
    members.beat(&mut a).unwrap();
    assert_eq!(a.counter, 2);
    assert_eq!(members.list().unwrap(), [a, b.clone()]);
    members.remove("a").unwrap();
    assert_eq!(members.list().unwrap(), [b]);
}

#[test]
fn a_name_that_nobody_else_has_is_free_at_once() {
    let members = members();
    assert!(matches!(count_pauses(&members, "own"), (Ok(()), 0)));
    members
        .beat(&mut card("own", ProcessMark::of_this_process()))
        .unwrap();
    members.beat(&mut card("other", elsewhere())).unwrap();
    assert!(matches!(count_pauses(&members, "own"), (Ok(()), 0)));
}

#[test]
fn a_process_gone_from_this_machine_is_dead_at_once() {
    let members = members();
    let own = ProcessMark::of_this_process();
    // the same process id, started at another time
    let old = ProcessMark {
        started: own.started + 1,
        ..own
    };
    members.beat(&mut card("s1", old)).unwrap();
    assert!(matches!(count_pauses(&members, "s1"), (Ok(()), 0)));
}

#[test]
fn a_running_process_on_this_machine_is_watched() {
    let members = members();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let started = start_time(other.id()).unwrap();
    let process = ProcessMark {
        pid: other.id(),
        started,
        ..ProcessMark::of_this_process()
    };
    members.beat(&mut card("s1", process)).unwrap();
    let watched = count_pauses(&members, "s1");
    other.kill().unwrap();
    // not even collected by its parent yet, it counts as gone
    let killed = Instant::now();
    while count_pauses(&members, "s1").1 > 0 {
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "a dead process still counts as alive"
        );
    }
    other.wait().unwrap();
    assert!(matches!(watched, (Ok(()), 12)), "{watched:?}");
}

#[test]
fn a_card_that_stands_still_gives_its_name_up_after_a_while() {
    let members = members();
    members.beat(&mut card("s1", elsewhere())).unwrap();
    let (free, pauses) = count_pauses(&members, "s1");
    free.unwrap();
    assert_eq!(LOOK_INTERVAL * pauses, QUIET_MIN);
}

#[test]
fn a_card_that_moves_holds_its_name() {
    let members = members();
    let mut other = card("s1", elsewhere());
    members.beat(&mut other).unwrap();
    let mut pauses = 0;
    let taken = wait_for_name(&members, "s1", &ProcessMark::of_this_process(), &mut |_| {
        pauses += 1;
        if pauses == 3 {
            members.beat(&mut other).unwrap();
        }
    });
    let error = taken.unwrap_err().to_string();
    assert_eq!(
        error,
        "another scheduler of the name `s1` works on this storage at 10.0.0.1:7700"
    );
    assert_eq!(pauses, 3);
}

#[test]
fn a_card_that_does_not_read_as_one_is_passed_over() {
    let store = Arc::new(MemoryStore::default());
    store.replace("members/odd", b"{").unwrap();
    assert!(matches!(count_pauses(&Members::new(store), "odd"), (Ok(()), 0)));
}

#[test]
fn cards_of_the_first_release_read_as_those_of_standbys() {
    let process = r#"{"host":"h","boot_id":"b","namespace":"n","pid":5,"started":6}"#;
    let text = format!(r#"{{"name":"s1","addresses":["h:1"],"counter":9,"process":{process}}}"#);
    let store = Arc::new(MemoryStore::default());
    store.replace("members/s1", text.as_bytes()).unwrap();
    let cards = Members::new(store).list().unwrap();
    assert_eq!(
        (cards[0].term, cards[0].is_candidate, cards[0].counter),
        (None, false, 9)
    );
}

#[test]
fn who_led_last_is_named_first() {
    let folder = tempfile::tempdir().unwrap();
    let members = Members::new(Arc::new(crate::Directory::open(folder.path()).unwrap()));
    for (name, term) in [("a", None), ("b", Some(Term(5))), ("c", Some(Term(9)))] {
        let mut card = Card {
            term,
            addresses: vec![name.to_owned()],
            ..card(name, elsewhere())
        };
        members.beat(&mut card).unwrap();
    }
    assert_eq!(addresses_at(folder.path()), ["c", "b", "a"]);
}
