//! Getting to a scheduler, and back to one: a list of addresses, tried in turn, with pauses that grow.
//!
//! Addresses are tried beside each other with a short stagger, because a dead one says nothing and would otherwise cost
//! the whole handshake timeout before its neighbour is asked.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::endpoint::Dialer;
use crate::error::ConnectError;

/// The pause after the first failed round.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long an address has the field to itself before the next one is dialled too.
const STAGGER: Duration = Duration::from_millis(150);
/// Most addresses that are kept beside those that were configured.
const LEARNED_MAX: usize = 64;
/// How often in a row it may be sent on to a leader without a pause. Two standbys that take each other for the leader
/// would otherwise keep their callers running in circles.
const SENT_ON_MAX: u32 = 3;

/// Pauses that double from 50 ms to 2 s, each shortened by up to half at random, so that peers who lost the same
/// scheduler do not come back in step. The same seed gives the same pauses.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// State of a SplitMix64 generator (Steele, Lea, Flood 2014).
    random: u64,
    pause: Duration,
}

impl Backoff {
    /// Pauses drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed,
            pause: PAUSE_MIN,
        }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        // 53 random bits are a fraction in 0..1
        let fraction = (self.next_random() >> 11) as f64 / (1u64 << 53) as f64;
        pause.mul_f64(1.0 - fraction / 2.0)
    }

    /// Begins again with the shortest pause.
    pub fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How long to go on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until this moment; the round of attempts that is then under way is finished. A round in which no address can ever succeed ends it sooner.
    Until(Instant),
    /// For ever, whatever is wrong: a worker outlives its scheduler, an upgrade and a restored credential.
    Forever,
}

impl Patience {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(deadline) => Some(deadline),
            Self::Forever => None,
        }
    }
}

/// A list of scheduler addresses and the state of trying them.
#[derive(Debug)]
pub struct Reconnect {
    dialer: Dialer,
    addresses: Vec<SocketAddr>,
    /// The addresses that were given and not learned: those are never forgotten.
    configured: Vec<SocketAddr>,
    backoff: Backoff,
    /// The address to begin with.
    first_index: usize,
    /// The address of the last connection, until that is settled.
    connected_index: Option<usize>,
    /// Whether the next attempt has to pause first.
    pauses: bool,
    /// How often it was told where the leader is since a connection was of use.
    sent_on_count: u32,
}

impl Reconnect {
    /// Will dial `addresses` in this order; `seed` varies the pauses between processes.
    pub fn new(dialer: Dialer, addresses: Vec<SocketAddr>, seed: u64) -> Self {
        Self {
            dialer,
            configured: addresses.clone(),
            addresses,
            backoff: Backoff::new(seed),
            first_index: 0,
            connected_index: None,
            pauses: false,
            sent_on_count: 0,
        }
    }

    /// The addresses that are tried.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces the list, learned addresses included.
    pub fn set_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.configured.clone_from(&addresses);
        self.addresses = addresses;
        self.first_index = 0;
        self.connected_index = None;
    }

    /// Takes note of what a scheduler said: the leader is at the addresses `leader` (it may not know, then this is
    /// empty), and there are `others`.
    ///
    /// The next attempt begins with the leader, at once, and then goes through what was known before and the others. When
    /// it was sent on more than three times in a row without [`Reconnect::settled`], it pauses first. At most 64 learned
    /// addresses are kept, the leader's before others; the given ones always are.
    pub fn learn(&mut self, leader: &[SocketAddr], others: &[SocketAddr]) {
        let mut known = Vec::new();
        let mut learned_count = 0;
        for address in leader.iter().chain(&self.addresses).chain(others) {
            if known.contains(address) {
                continue;
            }
            if !self.configured.contains(address) {
                if learned_count == LEARNED_MAX {
                    continue;
                }
                learned_count += 1;
            }
            known.push(*address);
        }
        if !leader.is_empty() {
            self.first_index = 0;
            self.connected_index = None;
            self.sent_on_count = self.sent_on_count.saturating_add(1);
            self.pauses &= self.sent_on_count > SENT_ON_MAX;
        }
        self.addresses = known;
    }

    /// Says that the last connection was of use: the next attempt begins with its address, at once. Without this, the
    /// next attempt pauses and begins with the address after it (a standby, say, that accepted and sent us on).
    pub fn settled(&mut self) {
        self.backoff.reset();
        self.pauses = false;
        self.sent_on_count = 0;
        if let Some(index) = self.connected_index.take() {
            self.first_index = index;
        }
    }

    /// Connects to whichever address answers first. Cancel safe: a dropped call leaves no connection behind.
    ///
    /// # Errors
    /// The most telling [`ConnectError`] of the last round, once `patience` is over. Never with [`Patience::Forever`],
    /// unless there is no address at all.
    pub async fn connect(&mut self, patience: Patience) -> Result<Connection, ConnectError> {
        if self.addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        loop {
            if std::mem::replace(&mut self.pauses, true) {
                let pause_end = Instant::now() + self.backoff.next_pause();
                sleep_until(
                    patience
                        .deadline()
                        .map_or(pause_end, |deadline| deadline.min(pause_end)),
                )
                .await;
            }
            let failures = match self.round().await {
                Ok(connection) => return Ok(connection),
                Err(failures) => failures,
            };
            for error in &failures {
                tracing::debug!(error = error as &dyn std::error::Error, "no connection");
            }
            let is_over = match patience {
                Patience::Forever => false,
                Patience::Until(deadline) => {
                    Instant::now() >= deadline || failures.iter().all(ConnectError::is_permanent)
                }
            };
            if is_over {
                return Err(most_telling(failures));
            }
        }
    }

    /// Dials every address once, staggered; the first that accepts wins and the others are let go.
    async fn round(&mut self) -> Result<Connection, Vec<ConnectError>> {
        let count = self.addresses.len();
        let first = self.first_index % count;
        let mut waiting = (0..count).map(|offset| (first + offset) % count);
        let mut dials = JoinSet::new();
        let mut failures = Vec::new();
        let mut next_dial = Instant::now();
        let mut next = waiting.next();
        loop {
            tokio::select! {
                biased;
                Some(dialled) = dials.join_next() => match dialled {
                    Ok((index, Ok(connection))) => {
                        self.connected_index = Some(index);
                        self.first_index = (index + 1) % count;
                        return Ok(connection);
                    }
                    Ok((_, Err(error))) => {
                        failures.push(error);
                        next_dial = Instant::now();
                    }
                    // dials are aborted only by dropping the set, so this is a panic: pass it on
                    Err(error) => if let Ok(panic) = error.try_into_panic() { std::panic::resume_unwind(panic) },
                },
                () = sleep_until(next_dial), if next.is_some() => {
                    if let Some(index) = next {
                        let (dialer, address) = (self.dialer.clone(), self.addresses[index]);
                        dials.spawn(async move { (index, dialer.dial(address).await) });
                    }
                    next = waiting.next();
                    next_dial = Instant::now() + STAGGER;
                }
                else => return Err(failures),
            }
        }
    }
}

/// An answer says more than silence.
fn most_telling(failures: Vec<ConnectError>) -> ConnectError {
    let silent = |error: &ConnectError| matches!(error, ConnectError::NoAnswer { .. });
    let closed = |error: &ConnectError| matches!(error, ConnectError::PortClosed { .. });
    let told = |error: &ConnectError| (error.is_permanent(), !silent(error), !closed(error));
    failures
        .into_iter()
        .max_by_key(told)
        .unwrap_or(ConnectError::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_two_seconds_and_keep_at_least_half() {
        let mut backoff = Backoff::new(7);
        let mut whole = PAUSE_MIN;
        for _ in 0..20 {
            let pause = backoff.next_pause();
            assert!(pause > whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(PAUSE_MAX);
        }
        backoff.reset();
        assert!(backoff.next_pause() <= PAUSE_MIN);
    }

    #[test]
    fn seeds_decide_the_pauses() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..5).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    fn addresses(ports: impl IntoIterator<Item = u16>) -> Vec<SocketAddr> {
        ports
            .into_iter()
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect()
    }

    fn reconnect(ports: impl IntoIterator<Item = u16>) -> Reconnect {
        let lab = crate::Authority::create("lab").unwrap();
        let worker = lab.issue(crate::Role::Worker, "n1").unwrap();
        Reconnect::new(Dialer::new(&worker).unwrap(), addresses(ports), 1)
    }

    #[test]
    fn the_leader_is_tried_first_and_nobody_twice() {
        let mut reconnect = reconnect([1, 2, 3]);
        (reconnect.first_index, reconnect.connected_index) = (2, Some(1));
        reconnect.learn(&addresses([3, 9]), &addresses([2, 4]));
        assert_eq!(reconnect.addresses(), addresses([3, 9, 1, 2, 4]));
        assert_eq!((reconnect.first_index, reconnect.connected_index), (0, None));

        // who does not know the leader does not change what is tried first
        reconnect.first_index = 3;
        reconnect.learn(&[], &addresses([5, 9]));
        assert_eq!(reconnect.addresses(), addresses([3, 9, 1, 2, 4, 5]));
        assert_eq!(reconnect.first_index, 3);
    }

    #[test]
    fn what_is_learned_is_bounded_and_what_was_given_stays() {
        let mut reconnect = reconnect([1, 2]);
        for leader in 1000..2000 {
            reconnect.learn(&addresses([leader]), &addresses(3000..3200));
        }
        let known = reconnect.addresses();
        assert_eq!(known.len(), LEARNED_MAX + 2);
        assert_eq!(known[0], addresses([1999])[0]);
        assert!(addresses([1, 2]).iter().all(|given| known.contains(given)));
    }

    #[test]
    fn it_is_sent_on_at_once_but_not_in_circles() {
        let mut reconnect = reconnect([1, 2]);
        for round in 1..=SENT_ON_MAX + 2 {
            reconnect.pauses = true;
            reconnect.learn(&addresses([1]), &[]);
            assert_eq!(reconnect.pauses, round > SENT_ON_MAX, "round {round}");
        }
        reconnect.settled();
        reconnect.pauses = true;
        reconnect.learn(&[], &addresses([3]));
        assert!(reconnect.pauses, "nobody said where the leader is");
        reconnect.learn(&addresses([1]), &[]);
        assert!(!reconnect.pauses);
    }

    #[test]
    fn a_refusal_is_told_rather_than_silence() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let silence = || ConnectError::NoAnswer {
            address,
            waited: PAUSE_MAX,
        };
        let told = most_telling(vec![silence(), ConnectError::NotScheduler { address }, silence()]);
        assert!(matches!(told, ConnectError::NotScheduler { .. }));
    }
}
