use std::sync::Arc;

use phalanx_storage::Directory;

use super::*;

const TAKEOVER: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

fn mark(boot_id: &str) -> ProcessMark {
    ProcessMark {
        boot_id: boot_id.to_owned(),
        ..ProcessMark::of_this_process()
    }
}

fn card(name: &str, counter: u64, term: Option<u64>) -> Card {
    Card {
        name: name.to_owned(),
        addresses: vec![format!("{name}:1")],
        counter,
        process: mark("another boot"),
        term: term.map(Term),
        is_candidate: false,
    }
}

fn observer() -> Observer {
    let own = Card {
        process: ProcessMark::of_this_process(),
        ..card("m", 0, None)
    };
    Observer::new(&own, TAKEOVER)
}

#[test]
fn a_leader_whose_card_stands_still_is_given_up_after_a_while() {
    let (mut observer, start) = (observer(), Instant::now());
    for (seconds, counter, leads) in [
        (0, 1, true),
        (1, 1, true),
        (2, 2, true),
        (3, 2, true),
        (4, 2, false),
    ] {
        observer.look(start + seconds * SECOND, vec![card("a", counter, Some(7))]);
        let roster = observer.roster();
        assert_eq!(roster.leader.is_some(), leads, "after {seconds} s");
        assert_eq!(roster.term, Term(7));
    }
    observer.look(start + 5 * SECOND, vec![card("a", 3, Some(7))]);
    assert_eq!(observer.roster().leader, Some(vec!["a:1".to_owned()]));
}

#[test]
fn a_leader_whose_process_is_gone_from_this_machine_is_given_up_at_once() {
    let (mut observer, start) = (observer(), Instant::now());
    let own = ProcessMark::of_this_process();
    let mut leader = card("a", 1, Some(7));
    leader.process = ProcessMark {
        started: own.started + 1,
        ..own
    };
    observer.look(start, vec![leader.clone()]);
    assert_eq!(observer.roster().leader, None);
    leader.process = ProcessMark::of_this_process();
    leader.counter += 1;
    observer.look(start, vec![leader]);
    assert!(observer.roster().leader.is_some());
}

#[test]
fn the_highest_term_leads_whoever_else_believes_so() {
    let (mut observer, start) = (observer(), Instant::now());
    let cards = || vec![card("a", 1, Some(7)), card("b", 1, Some(30)), card("c", 1, None)];
    observer.look(start, cards());
    let roster = observer.roster();
    assert_eq!(roster.leader, Some(vec!["b:1".to_owned()]));
    assert_eq!(roster.living, ["b:1", "a:1", "c:1"]);
    // an older one that moves does not hide that the newer one is dead
    let mut later = cards();
    later[0].counter += 1;
    observer.look(start + TAKEOVER, later);
    assert_eq!(observer.roster().leader, None);
    assert_eq!(observer.roster().living, ["a:1"]);
}

#[test]
fn storage_that_cannot_be_read_makes_nobody_dead() {
    let (mut observer, start) = (observer(), Instant::now());
    observer.look(start, vec![card("a", 1, Some(7))]);
    observer.look_in_vain(start + 10 * SECOND);
    assert!(observer.roster().leader.is_some());
    observer.look(start + 11 * SECOND, vec![card("a", 1, Some(7))]);
    assert!(observer.roster().leader.is_some(), "one second of sight");
    observer.look(start + 12 * SECOND, vec![card("a", 1, Some(7))]);
    assert_eq!(observer.roster().leader, None);
}

#[test]
fn standbys_come_in_the_order_of_their_names_and_wait_for_one_that_tries() {
    let (mut observer, start) = (observer(), Instant::now());
    let mut cards = vec![card("a", 1, None), card("b", 1, None), card("z", 1, None)];
    observer.look(start, cards.clone());
    let roster = observer.roster();
    assert_eq!((roster.rank, roster.has_candidate), (2, false));
    cards[2].is_candidate = true;
    observer.look(start, cards.clone());
    assert!(observer.roster().has_candidate);
    for card in &mut cards {
        card.counter += 1;
    }
    observer.look(start + CANDIDACY_MAX, cards);
    assert!(
        !observer.roster().has_candidate,
        "it cannot be waited for for ever"
    );
}

#[tokio::test]
async fn a_card_says_what_its_owner_is_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let members = Members::new(Arc::new(Directory::open(folder.path()).unwrap()));
    let own = Card {
        process: ProcessMark::of_this_process(),
        ..card("m", 0, None)
    };
    let watcher = Watcher::start(members.clone(), own, TAKEOVER).unwrap();
    assert_eq!(members.list().unwrap()[0].term, None);
    watcher.announce(Some(Term(3)), false);
    watcher.look().await;
    assert_eq!(members.list().unwrap()[0].term, Some(Term(3)));
    drop(watcher);
    assert_eq!(members.list().unwrap(), []);
}
