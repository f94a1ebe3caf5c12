//! Which scheduler to go to: the addresses that this worker was given and those that schedulers told, and which leader it has
//! seen last.

use std::net::SocketAddr;

use phalanx_protocol::Term;
use phalanx_protocol::limits::SCHEDULER_ADDRESSES_MAX;
use phalanx_transport::{Dialer, Reconnect};

use crate::worker::AddressSource;

/// The way to a leader.
#[derive(Debug)]
pub(super) struct Route<'a> {
    source: &'a AddressSource,
    given: Vec<SocketAddr>,
    /// What the last leader said.
    told: Vec<SocketAddr>,
    /// The highest term that has welcomed this worker.
    term: Term,
    pub(super) reconnect: Reconnect,
}

impl<'a> Route<'a> {
    pub(super) fn new(source: &'a AddressSource, dialer: Dialer, seed: u64) -> Self {
        let given = source.ask();
        Self {
            source,
            reconnect: Reconnect::new(dialer, given.clone(), seed),
            given,
            told: Vec::new(),
            term: Term(0),
        }
    }

    /// Whether there is no address at all.
    pub(super) fn is_empty(&self) -> bool {
        self.reconnect.addresses().is_empty()
    }

    /// Asks the source again; what schedulers told stays known.
    pub(super) fn ask_again(&mut self) {
        let now = self.source.ask();
        if now != self.given {
            self.reconnect.set_addresses(now.clone());
            self.reconnect.learn(&[], &self.told);
            self.given = now;
        }
    }

    /// The leader has said where schedulers are.
    pub(super) fn tell(&mut self, addresses: &[String]) {
        self.told = addresses
            .iter()
            .take(SCHEDULER_ADDRESSES_MAX)
            .filter_map(|text| text.parse().ok())
            .collect();
        self.reconnect.learn(&[], &self.told);
    }

    /// A scheduler that does not lead has said where the leader is: addresses separated by commas, or nothing.
    pub(super) fn send_on(&mut self, text: &str) {
        let addresses = text.split(',').take(SCHEDULER_ADDRESSES_MAX);
        let leader: Vec<SocketAddr> = addresses.filter_map(|text| text.parse().ok()).collect();
        self.reconnect.learn(&leader, &[]);
    }

    /// Whether a leader of this term may command this worker: one of a lower term than was seen has been deposed.
    pub(super) fn admits(&mut self, term: Term) -> bool {
        self.term = self.term.max(term);
        term == self.term
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use phalanx_transport::{Authority, Role};

    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|&port| ([10, 0, 0, 1], port).into()).collect()
    }

    #[test]
    fn what_schedulers_told_stays_known_when_the_given_addresses_change() {
        let given = Arc::new(Mutex::new(addresses(&[1])));
        let asked = Arc::clone(&given);
        let source = AddressSource::new(move || asked.lock().unwrap().clone());
        let credential = Authority::create("lab")
            .unwrap()
            .issue(Role::Worker, "n")
            .unwrap();
        let mut route = Route::new(&source, Dialer::new(&credential).unwrap(), 1);
        route.tell(&[
            "10.0.0.1:1".to_owned(),
            "10.0.0.1:2".to_owned(),
            "nonsense".to_owned(),
        ]);
        assert_eq!(route.reconnect.addresses(), addresses(&[1, 2]));
        *given.lock().unwrap() = addresses(&[3]);
        route.ask_again();
        assert_eq!(route.reconnect.addresses(), addresses(&[3, 1, 2]));
        // whoever is named as the leader comes first
        route.send_on("10.0.0.1:4,10.0.0.1:2");
        assert_eq!(route.reconnect.addresses(), addresses(&[4, 2, 3, 1]));
        route.send_on("");
        assert_eq!(route.reconnect.addresses(), addresses(&[4, 2, 3, 1]));
    }

    #[test]
    fn a_leader_of_a_lower_term_than_was_seen_is_not_obeyed() {
        let source = AddressSource::new(Vec::new);
        let credential = Authority::create("lab")
            .unwrap()
            .issue(Role::Worker, "n")
            .unwrap();
        let mut route = Route::new(&source, Dialer::new(&credential).unwrap(), 1);
        let admitted = [17, 17, 40, 17, 40].map(|term| route.admits(Term(term)));
        assert_eq!(admitted, [true, true, true, false, true]);
    }
}
