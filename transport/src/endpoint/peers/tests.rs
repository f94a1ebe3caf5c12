//! What hints, questions and answers make of a peer, at moments that the tests choose.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;

#[derive(Debug, Default)]
struct Told(AtomicBool);

impl PortClosed for Told {
    fn port_is_closed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One peer in a table, and a clock.
struct Story {
    peers: Arc<Peers>,
    told: Arc<Told>,
    registration: Option<Registration>,
    begin: Instant,
}

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7878);

impl Story {
    fn of(stage: Stage) -> Self {
        let peers = Arc::<Peers>::default();
        let told = Arc::<Told>::default();
        let weak = Arc::downgrade(&told);
        Self {
            registration: Some(peers.register(PEER, stage, weak)),
            peers,
            told,
            begin: Instant::now(),
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.begin + Duration::from_millis(ms)
    }

    fn hint(&self, ms: u64) {
        self.peers.hinted(PEER, self.at(ms));
    }

    fn ask(&self, ms: u64) {
        self.peers.asked(PEER, self.at(ms));
    }

    /// Whether the peer is found dead by this moment.
    fn is_dead(&self, ms: u64) -> bool {
        for told in self.peers.judge(self.at(ms)) {
            told.port_is_closed();
        }
        self.told.0.load(Ordering::Relaxed)
    }
}

#[test]
fn two_questions_without_an_answer_confirm_a_hint() {
    let story = Story::of(Stage::Established);
    story.hint(0);
    story.ask(30);
    story.ask(90);
    story.ask(150);
    assert!(!story.is_dead(189));
    assert!(story.is_dead(190));
    assert!(!story.peers.has_doubts());
}

#[test]
fn silence_alone_is_no_verdict_while_nobody_was_asked() {
    let story = Story::of(Stage::Established);
    story.ask(0);
    story.ask(10);
    for ms in [20, 50, 100] {
        story.hint(ms);
    }
    assert!(!story.is_dead(10_000));
    // one may have been a mere acknowledgement
    story.ask(10_000);
    assert!(!story.is_dead(20_000));
    story.ask(20_000);
    assert!(!story.is_dead(20_010), "nobody answers at once");
    assert!(story.is_dead(20_100));
}

#[test]
fn hints_about_a_peer_that_answers_change_nothing() {
    for stage in [Stage::Established, Stage::Dialled] {
        let story = Story::of(stage);
        for ms in (0..10_000).step_by(60) {
            story.hint(ms);
            story.ask(ms + 5);
            story.ask(ms + 10);
            story.peers.heard(PEER);
            assert!(!story.peers.has_doubts());
            assert!(!story.is_dead(ms + 59), "{stage:?}");
        }
        assert!(!story.is_dead(20_000));
    }
}

#[test]
fn without_a_hint_a_silent_peer_is_not_in_doubt() {
    let story = Story::of(Stage::Established);
    for ms in 0..1000 {
        story.ask(ms * 10);
    }
    assert!(!story.is_dead(10_000));
    let elsewhere = SocketAddr::new(PEER.ip(), PEER.port() + 1);
    story.peers.hinted(elsewhere, story.at(0));
    assert!(!story.peers.has_doubts(), "nobody is there");
}

#[test]
fn a_dial_is_given_up_after_a_second_hint() {
    let story = Story::of(Stage::Dialled);
    story.hint(0);
    for ms in [15, 45, 105] {
        story.ask(ms);
    }
    assert!(
        !story.is_dead(1000),
        "the listener may have opened its port since"
    );
    let story = Story::of(Stage::Dialled);
    story.hint(0);
    story.hint(15);
    assert!(!story.is_dead(99));
    assert!(story.is_dead(100));
}

#[test]
fn an_address_has_one_form() {
    let story = Story::of(Stage::Dialled);
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), PEER.port()));
    story.peers.hinted(mapped, story.at(0));
    story.hint(0);
    assert!(story.is_dead(100));
}

#[test]
fn who_has_left_is_forgotten_with_the_doubt() {
    let mut story = Story::of(Stage::Established);
    story.hint(0);
    assert!(story.peers.has_doubts());
    story.registration = None;
    assert!(!story.peers.has_doubts());
    assert!(story.peers.lock().by_address.is_empty());
}
