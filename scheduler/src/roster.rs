//! Who else there is: writes this scheduler's card, reads the others', and tells who seems to lead.
//!
//! One thread does both, since calls on storage block. What it finds is a guess, made to know when an attempt to take the lead is
//! worth its while and where to send workers and clients; safety never rests on it. [`Observer`] guesses, without a clock or
//! storage of its own.

use std::collections::BTreeMap;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use phalanx_protocol::Term;
use phalanx_storage::members::BEAT_INTERVAL;
use phalanx_storage::{Card, Members, ProcessMark};
use tokio::sync::{oneshot, watch};

/// How often it is looked whether processes of this machine are still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long another one's attempt to take the lead is waited for.
const CANDIDACY_MAX: Duration = Duration::from_secs(30);

/// What the cards say of the other schedulers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster {
    /// Where the one is that leads; `None` if it seems dead, or if there is none.
    pub(crate) leader: Option<Vec<String>>,
    /// The highest term on any card, also of one that seems dead.
    pub(crate) term: Term,
    /// Where the living ones are, the leader before others.
    pub(crate) living: Vec<String>,
    /// How many of the living ones come before this one.
    pub(crate) rank: u32,
    /// Whether a living one is about to take the lead.
    pub(crate) has_candidate: bool,
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            leader: None,
            term: Term(0),
            living: Vec::new(),
            rank: 0,
            has_candidate: false,
        }
    }
}

/// What was seen of one card.
#[derive(Debug)]
struct Seen {
    card: Card,
    /// When it was first seen as it is now.
    changed: Instant,
    candidate_since: Option<Instant>,
}

/// Judges the cards of others by how they change.
#[derive(Debug)]
struct Observer {
    name: String,
    process: ProcessMark,
    takeover_after: Duration,
    seen: BTreeMap<String, Seen>,
    looked: Option<Instant>,
}

impl Observer {
    fn new(own: &Card, takeover_after: Duration) -> Self {
        Self {
            name: own.name.clone(),
            process: own.process.clone(),
            takeover_after,
            seen: BTreeMap::new(),
            looked: None,
        }
    }

    /// These are the cards now.
    fn look(&mut self, now: Instant, cards: Vec<Card>) {
        self.looked = Some(now);
        self.seen
            .retain(|name, _| cards.iter().any(|card| card.name == *name));
        for card in cards.into_iter().filter(|card| card.name != self.name) {
            let former = self.seen.get(&card.name);
            let changed = match former {
                Some(seen) if seen.card == card => seen.changed,
                Some(_) | None => now,
            };
            let since = former.and_then(|seen| seen.candidate_since).unwrap_or(now);
            let candidate_since = card.is_candidate.then_some(since);
            let seen = Seen {
                card,
                changed,
                candidate_since,
            };
            self.seen.insert(seen.card.name.clone(), seen);
        }
    }

    /// The cards could not be read: this time proves nothing.
    fn look_in_vain(&mut self, now: Instant) {
        if let Some(blind) = self.looked.replace(now).map(|looked| now - looked) {
            for seen in self.seen.values_mut() {
                seen.changed += blind;
            }
        }
    }

    /// What follows from what was seen, as of the last look. Processes of this machine are looked at now.
    fn roster(&self) -> Roster {
        let looked = self.looked;
        let still = |since: Instant| looked.map_or(Duration::ZERO, |looked| looked - since);
        let lives = |seen: &&Seen| {
            still(seen.changed) < self.takeover_after && !seen.card.process.is_gone(&self.process)
        };
        let last = self.seen.values().max_by_key(|seen| seen.card.term);
        let leader = last.filter(|seen| seen.card.term.is_some()).filter(lives);
        let mut living: Vec<&Seen> = self.seen.values().filter(lives).collect();
        let before = living.iter().filter(|seen| seen.card.name < self.name).count();
        let tries = |seen: &&Seen| {
            seen.candidate_since
                .is_some_and(|since| still(since) < CANDIDACY_MAX)
        };
        let has_candidate = living.iter().copied().any(|seen| tries(&seen));
        living.sort_by_key(|seen| std::cmp::Reverse(seen.card.term));
        Roster {
            leader: leader.map(|seen| seen.card.addresses.clone()),
            term: last.and_then(|seen| seen.card.term).unwrap_or(Term(0)),
            living: living
                .iter()
                .flat_map(|seen| seen.card.addresses.clone())
                .collect(),
            rank: u32::try_from(before).unwrap_or(u32::MAX),
            has_candidate,
        }
    }
}

/// What the thread is told.
enum Order {
    /// This scheduler is something else from now on.
    Announce { term: Option<Term>, is_candidate: bool },
    /// Look at once, and say when that is done.
    Look(oneshot::Sender<()>),
}

/// Keeps this scheduler's card, and an eye on the others'. Removes the card when dropped.
pub(crate) struct Watcher {
    orders: Option<std_mpsc::Sender<Order>>,
    roster: watch::Receiver<Roster>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Writes the card and looks at the others' for the first time; then goes on on a thread. Blocks.
    pub(crate) fn start(members: Members, card: Card, takeover_after: Duration) -> std::io::Result<Self> {
        let (orders, told) = std_mpsc::channel();
        let (publish, roster) = watch::channel(Roster::default());
        let mut watch = Watch {
            observer: Observer::new(&card, takeover_after),
            members,
            card,
            publish,
            is_failing: false,
        };
        watch.beat();
        watch.look();
        let thread = thread::Builder::new()
            .name("cards".to_owned())
            .spawn(move || watch.run(&told))?;
        Ok(Self {
            orders: Some(orders),
            roster,
            thread: Some(thread),
        })
    }

    /// What is known of the others, as it changes.
    pub(crate) fn roster(&self) -> watch::Receiver<Roster> {
        self.roster.clone()
    }

    /// Says on the card what this scheduler is.
    pub(crate) fn announce(&self, term: Option<Term>, is_candidate: bool) {
        self.order(Order::Announce { term, is_candidate });
    }

    /// Looks at the cards at once.
    pub(crate) async fn look(&self) {
        let (done, looked) = oneshot::channel();
        self.order(Order::Look(done));
        // an error means that the thread is gone, and with it all news
        let _ = looked.await;
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // fails only if the thread has panicked, which it has said
            let _ = orders.send(order);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // it holds nothing that a panic could harm
            let _ = thread.join();
        }
    }
}

/// The thread's.
struct Watch {
    observer: Observer,
    members: Members,
    card: Card,
    publish: watch::Sender<Roster>,
    is_failing: bool,
}

impl Watch {
    fn run(mut self, orders: &std_mpsc::Receiver<Order>) {
        let mut beat = Instant::now();
        loop {
            match orders.recv_timeout(LOOK_INTERVAL) {
                Ok(Order::Announce { term, is_candidate }) => {
                    (self.card.term, self.card.is_candidate) = (term, is_candidate);
                    self.beat();
                }
                Ok(Order::Look(done)) => {
                    self.look();
                    // whoever asked may have been stopped meanwhile
                    let _ = done.send(());
                }
                Err(std_mpsc::RecvTimeoutError::Timeout) if beat.elapsed() >= BEAT_INTERVAL => {
                    beat = Instant::now();
                    self.beat();
                    self.look();
                }
                Err(std_mpsc::RecvTimeoutError::Timeout) => self.tell(),
                Err(std_mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.members.remove(&self.card.name) {
            tracing::warn!(%error, "cannot remove the member card; others will watch it for a while");
        }
    }

    fn beat(&mut self) {
        match (self.members.beat(&mut self.card), self.is_failing) {
            (Ok(()), _) => self.is_failing = false,
            (Err(_), true) => {}
            (Err(error), false) => {
                self.is_failing = true;
                tracing::warn!(%error, "cannot rewrite the member card");
            }
        }
    }

    fn look(&mut self) {
        match self.members.list() {
            Ok(cards) => self.observer.look(Instant::now(), cards),
            Err(error) => {
                tracing::debug!(%error, "cannot read the member cards");
                self.observer.look_in_vain(Instant::now());
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let roster = self.observer.roster();
        self.publish.send_if_modified(|known| {
            let is_new = *known != roster;
            *known = roster;
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
