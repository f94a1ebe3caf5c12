use std::time::Instant;

use super::*;
use crate::memory::MemoryStore;

fn card(name: &str, process: ProcessMark) -> Card {
    Card {
        name: name.to_owned(),
        addresses: vec!["10.0.0.1:7700".to_owned()],
        counter: 0,
        process,
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
fn count_pauses(members: &Members) -> (Result<(), QuietError>, u32) {
    let mut pauses = 0;
    let quiet = wait_for_quiet(members, &ProcessMark::of_this_process(), &mut |_| pauses += 1);
    (quiet, pauses)
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
fn an_empty_storage_is_quiet_at_once() {
    let members = members();
    assert!(matches!(count_pauses(&members), (Ok(()), 0)));
    members
        .beat(&mut card("own", ProcessMark::of_this_process()))
        .unwrap();
    assert!(matches!(count_pauses(&members), (Ok(()), 0)));
}

#[test]
fn a_process_gone_from_this_machine_is_dead_at_once() {
    let members = members();
    let own = ProcessMark::of_this_process();
    // the same process id, started at another time
    members
        .beat(&mut card(
            "old",
            ProcessMark {
                started: own.started + 1,
                ..own
            },
        ))
        .unwrap();
    assert!(matches!(count_pauses(&members), (Ok(()), 0)));
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
    members.beat(&mut card("other", process)).unwrap();
    let watched = count_pauses(&members);
    other.kill().unwrap();
    // not even collected by its parent yet, it counts as gone
    let killed = Instant::now();
    while count_pauses(&members).1 > 0 {
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "a dead process still counts as alive"
        );
    }
    other.wait().unwrap();
    assert!(matches!(watched, (Ok(()), 12)), "{watched:?}");
}

#[test]
fn a_card_that_stands_still_is_given_up_after_a_while() {
    let members = members();
    members.beat(&mut card("n2", elsewhere())).unwrap();
    let (quiet, pauses) = count_pauses(&members);
    quiet.unwrap();
    assert_eq!(LOOK_INTERVAL * pauses, QUIET_MIN);
}

#[test]
fn a_card_that_moves_is_another_scheduler() {
    let members = members();
    let mut other = card("n2", elsewhere());
    members.beat(&mut other).unwrap();
    let mut pauses = 0;
    let busy = wait_for_quiet(&members, &ProcessMark::of_this_process(), &mut |_| {
        pauses += 1;
        if pauses == 3 {
            members.beat(&mut other).unwrap();
        }
    });
    let error = busy.unwrap_err().to_string();
    assert_eq!(
        error,
        "another scheduler, `n2`, works on this storage at 10.0.0.1:7700"
    );
    assert_eq!(pauses, 3);
}

#[test]
fn a_card_that_does_not_read_as_one_is_passed_over() {
    let store = Arc::new(MemoryStore::default());
    store.replace("members/odd", b"{").unwrap();
    assert!(matches!(count_pauses(&Members::new(store)), (Ok(()), 0)));
}
