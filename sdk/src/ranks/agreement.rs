//! Agreement among ranks of which some may have ended, and the communicator of those that are left.
//!
//! The lowest rank that lives leads. The others report their words to it; it waits for each that lives, joins the words
//! bit by bit, and tells the others. Whoever learns a decision tells all the others before it returns. If the leader ends
//! first, the next one leads: a rank that has reported to it heeds its decisions only, and a rank that has returned has told it
//! the decision already, so it decides the same. Of several decisions that it hears, the one of the latest leader counts: the earlier
//! ones are of leaders that nobody alive has followed.
//!
//! It rests on ends that are told truly, and after all that the ended rank has sent.

use serde::{Deserialize, Serialize};

use super::communicator::{Birth, Communicator};
use super::envelope::{Kind, Wanted};
use super::error::CommError;
use super::payload::Payload;

/// What a rank says in an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Saying {
    /// Its own words, to the leader.
    Report(Vec<u64>),
    /// What the rank `leader` has decided.
    Decision { leader: u32, words: Vec<u64> },
}

/// Bits of a word.
const WORD_BITS: usize = u64::BITS as usize;

impl Communicator {
    /// Agrees on the bits that all ranks give that live: the same at each of them, whoever ends meanwhile. Collective among those
    /// that live, and works where the communicator was revoked.
    ///
    /// ```
    /// let agreed = phalanx::ranks::run(3, |comm| comm.agree(0b110 | comm.rank() as u64));
    /// assert!(agreed.into_iter().all(|bits| bits == Ok(0b110)));
    /// ```
    pub fn agree(&self, bits: u64) -> u64 {
        let number = self.next_agreement();
        self.agreed(number, vec![bits])[0]
    }

    /// Makes a communicator of the ranks that live, in the order of their ranks here. All of them get the same, whoever ends
    /// meanwhile; who does is found out by using it. Collective among those that live, and works where the communicator was
    /// revoked.
    ///
    /// ```
    /// phalanx::ranks::run(3, |comm| {
    ///     if comm.rank() == 1 {
    ///         return;
    ///     }
    ///     assert!(comm.barrier().is_err());
    ///     let survivors = comm.shrink();
    ///     assert_eq!(survivors.size(), 2);
    ///     survivors.barrier().unwrap();
    /// });
    /// ```
    pub fn shrink(&self) -> Communicator {
        let number = self.next_agreement();
        let mut living = vec![0; self.size().div_ceil(WORD_BITS)];
        for rank in (0..self.size()).filter(|&rank| self.lives(rank)) {
            living[rank / WORD_BITS] |= 1 << (rank % WORD_BITS);
        }
        let living = self.agreed(number, living);
        let ranks = (0..self.size()).filter(|rank| living[rank / WORD_BITS] & (1 << (rank % WORD_BITS)) != 0);
        let id = self.child_id(Birth::Shrink, number);
        self.subset(id, ranks)
            .expect("all that take part agree that this rank lives")
    }

    fn lives(&self, rank: usize) -> bool {
        let place = self.group().places()[rank];
        self.endpoint().gang().ending(place).is_none()
    }

    /// The words of all that live, joined by `and`.
    fn agreed(&self, number: u64, words: Vec<u64>) -> Vec<u64> {
        let context = self.traffic(Kind::Agreement);
        self.endpoint().mailbox().matching().drop_older(context, number);
        for leader in 0..self.rank() {
            if let Some((decider, decision)) = self.follow(leader, number, &words) {
                self.tell_all(number, decider, &decision);
                return decision;
            }
        }
        self.lead(number, words)
    }

    /// Reports to that leader and waits for a decision; nothing if it ends before.
    fn follow(&self, leader: usize, number: u64, words: &[u64]) -> Option<(u32, Vec<u64>)> {
        self.say(leader, number, &Saying::Report(words.to_vec())).ok()?;
        loop {
            match self.hear(leader, number).ok()? {
                Saying::Decision { leader, words } => return Some((leader, words)),
                // it has reported to this rank, having seen ends that this rank has yet to see
                Saying::Report(_) => {}
            }
        }
    }

    /// Hears all that live, decides, and tells them.
    fn lead(&self, number: u64, words: Vec<u64>) -> Vec<u64> {
        let mut joined = words;
        let mut decided: Option<(u32, Vec<u64>)> = None;
        for rank in self.rank() + 1..self.size() {
            match self.hear(rank, number) {
                Ok(Saying::Report(words)) => {
                    for (joined, word) in joined.iter_mut().zip(words) {
                        *joined &= word;
                    }
                }
                Ok(Saying::Decision { leader, words }) => {
                    if decided.as_ref().is_none_or(|(latest, _)| leader > *latest) {
                        decided = Some((leader, words));
                    }
                }
                // it has ended
                Err(_) => {}
            }
        }
        let decision = decided.map_or(joined, |(_, words)| words);
        self.tell_all(number, self.rank() as u32, &decision);
        decision
    }

    fn tell_all(&self, number: u64, leader: u32, words: &[u64]) {
        let words = words.to_vec();
        let saying = Saying::Decision { leader, words };
        for rank in (0..self.size()).filter(|&rank| rank != self.rank()) {
            // who has ended need not know
            let _ = self.say(rank, number, &saying);
        }
    }

    fn say(&self, rank: usize, number: u64, saying: &Saying) -> Result<(), CommError> {
        let place = self.place(rank)?;
        let payload: Payload = self.payload(place, saying.clone())?;
        self.dispatch(Kind::Agreement, place, number, payload)
    }

    fn hear(&self, rank: usize, number: u64) -> Result<Saying, CommError> {
        let message = self.receive_message(Kind::Agreement, Some(rank), Wanted::One(number))?;
        message.payload.into_value()
    }
}
