//! How long no scheduler has taken this worker, and when it may give up.
//!
//! An idle worker gives up after `rejoin_for`. One that holds tasks, or reports that nobody has acknowledged, does not: work is
//! not lost because schedulers are away over night. It ends only if the shared storage itself, where a scheduler would come
//! back, has been gone for as long. Pure, but for the clock's type.

use std::time::Duration;

use tokio::time::Instant;

/// How long the same addresses are tried before the source is asked again.
const ROUND: Duration = Duration::from_secs(2);
/// How often it is said that there is no scheduler.
const WORD_INTERVAL: Duration = Duration::from_secs(300);

/// A search for a scheduler that takes this worker.
#[derive(Debug)]
pub(super) struct Search {
    rejoin_for: Duration,
    since: Instant,
    next_word: Instant,
    storage_gone_since: Option<Instant>,
}

impl Search {
    /// Begins now; `rejoin_for` of [`Duration::MAX`] never ends.
    pub(super) fn begin(rejoin_for: Duration, now: Instant) -> Self {
        Self {
            rejoin_for,
            since: now,
            next_word: now + WORD_INTERVAL,
            storage_gone_since: None,
        }
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Until when to try before the next decision; later than `now`, also when the limit is behind.
    pub(super) fn round_end(&self, now: Instant) -> Instant {
        let limit = self.since.checked_add(self.rejoin_for);
        let limit = limit.filter(|&limit| limit > now);
        limit.map_or(now + ROUND, |limit| limit.min(now + ROUND))
    }

    /// Whether a worker that holds nothing gives up.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.lasted(now) >= self.rejoin_for
    }

    /// Notes whether the storage is gone; says whether a worker gives up whatever it holds.
    pub(super) fn is_in_vain(&mut self, now: Instant, storage_is_gone: bool) -> bool {
        if !storage_is_gone {
            self.storage_gone_since = None;
            return false;
        }
        let gone_since = *self.storage_gone_since.get_or_insert(now);
        now.saturating_duration_since(gone_since) >= self.rejoin_for
    }

    /// Whether it is time to say that there is no scheduler; once for each time.
    pub(super) fn is_word_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next_word;
        if is_due {
            self.next_word = now + WORD_INTERVAL;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn rounds_end_at_the_limit_and_go_on_behind_it() {
        let start = Instant::now();
        let search = Search::begin(MINUTE, start);
        assert_eq!(search.round_end(start), start + ROUND);
        let late = start + MINUTE - ROUND / 2;
        assert_eq!(
            (search.round_end(late), search.is_over(late)),
            (start + MINUTE, false)
        );
        let over = start + MINUTE;
        assert_eq!(
            (search.round_end(over), search.is_over(over)),
            (over + ROUND, true)
        );
    }

    #[test]
    fn a_search_without_a_limit_does_not_end() {
        let start = Instant::now();
        let mut search = Search::begin(Duration::MAX, start);
        let year = start + MINUTE * 60 * 24 * 365;
        assert_eq!(
            (search.round_end(year), search.is_over(year)),
            (year + ROUND, false)
        );
        assert!(!search.is_in_vain(start, true) && !search.is_in_vain(year, true));
    }

    #[test]
    fn storage_has_to_be_gone_for_the_whole_time() {
        let start = Instant::now();
        let mut search = Search::begin(MINUTE, start);
        let mut look = |minutes, gone| search.is_in_vain(start + MINUTE * minutes, gone);
        assert!(!look(1, true));
        assert!(!look(2, false), "it was mounted again");
        assert!(!look(3, true));
        assert!(look(4, true));
    }

    #[test]
    fn it_is_said_once_in_a_while_that_there_is_no_scheduler() {
        let start = Instant::now();
        let mut search = Search::begin(Duration::MAX, start);
        let seconds = (0..=1000).step_by(2);
        let words: Vec<u64> = seconds
            .filter(|&second| search.is_word_due(start + Duration::from_secs(second)))
            .collect();
        assert_eq!(words, [300, 600, 900]);
    }
}
