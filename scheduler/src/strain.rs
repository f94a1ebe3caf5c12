//! Whether shared storage keeps up: what people and the core are told of it, and when. No storage and no clock of its own.
//!
//! A failure that is over at once is nobody's business, since every append is repeated. One that lasts, records that wait for
//! too long and records that wait in too great a number are: from then on submissions are refused with the reason, while
//! workers go on with what they have.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long storage may fail before anybody is told.
const FAILING_TOLD_AFTER: Duration = Duration::from_secs(1);
/// How long the oldest record may wait before storage counts as too slow.
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// How short that wait must be again before it does not.
const QUICK_AGAIN: Duration = Duration::from_secs(1);
/// How exactly waiting is measured.
const STEP: Duration = Duration::from_millis(100);
/// Bytes that may wait for the storage before workers have to wait too: a quarter of what the journal can hold back.
pub(crate) const LAG_BYTES_MAX: usize = 64 << 20;

/// Watches over a leader's storage.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// Records not yet durable: the last one of each step, and when the first of the step was appended.
    waiting: VecDeque<(u64, Instant)>,
    failing: Option<(Instant, String)>,
    is_slow: bool,
    is_full: bool,
    told: Option<String>,
}

impl Strain {
    /// Records up to this one were appended. A few hundred marks are kept at the most: a lead expires before.
    pub(crate) fn appended(&mut self, sequence: u64, now: Instant) {
        match self.waiting.back_mut() {
            Some((last, first)) if now.saturating_duration_since(*first) < STEP => *last = sequence,
            Some(_) | None => self.waiting.push_back((sequence, now)),
        }
    }

    /// Records up to this one are durable.
    pub(crate) fn durable(&mut self, upto_sequence: u64) {
        while self
            .waiting
            .pop_front_if(|(last, _)| *last <= upto_sequence)
            .is_some()
        {}
    }

    /// An append has failed and is being repeated.
    pub(crate) fn fails(&mut self, error: String, now: Instant) {
        let since = self.failing.take().map_or(now, |(since, _)| since);
        self.failing = Some((since, error));
    }

    /// Appends succeed again.
    pub(crate) fn works(&mut self) {
        self.failing = None;
    }

    /// Judges anew, by how many bytes wait in the journal; returns what is to be told if that has changed.
    pub(crate) fn judge(&mut self, now: Instant, bytes_waiting: usize) -> Option<Option<String>> {
        let oldest = self.waiting.front();
        let waited = oldest.map_or(Duration::ZERO, |&(_, first)| now.saturating_duration_since(first));
        let limit = if self.is_slow { QUICK_AGAIN } else { SLOW_AFTER };
        self.is_slow = waited >= limit;
        let limit = if self.is_full {
            LAG_BYTES_MAX / 2
        } else {
            LAG_BYTES_MAX
        };
        self.is_full = bytes_waiting >= limit;
        let error = match &self.failing {
            Some((since, error)) if now.saturating_duration_since(*since) >= FAILING_TOLD_AFTER => {
                Some(error.clone())
            }
            Some(_) | None if self.is_full => Some(format!(
                "shared storage is too slow: more than {} MiB wait to be written",
                LAG_BYTES_MAX >> 21
            )),
            Some(_) | None if self.is_slow => Some(format!(
                "shared storage is too slow: what was to be written has waited for more than {} s",
                QUICK_AGAIN.as_secs()
            )),
            Some(_) | None => None,
        };
        if error == self.told {
            return None;
        }
        self.told.clone_from(&error);
        Some(error)
    }

    /// What was told last.
    pub(crate) fn told(&self) -> Option<&String> {
        self.told.as_ref()
    }

    /// When to judge again though nothing happens.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        if self.told.is_some() {
            return None;
        }
        let failing = self.failing.as_ref();
        let told = failing.map(|(since, _)| *since + FAILING_TOLD_AFTER);
        let slow = self.waiting.front().map(|(_, first)| *first + SLOW_AFTER);
        told.into_iter().chain(slow).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);

    #[test]
    fn a_failure_that_is_over_at_once_is_not_told_and_one_that_lasts_is() {
        let (mut strain, start) = (Strain::default(), Instant::now());
        strain.fails("EIO".to_owned(), start);
        assert_eq!(strain.judge(start, 0), None);
        let told_at = strain.next_look().unwrap();
        strain.works();
        assert_eq!((strain.judge(told_at, 0), strain.next_look()), (None, None));
        strain.fails("EIO".to_owned(), start);
        strain.fails("EIO again".to_owned(), told_at);
        assert_eq!(strain.judge(told_at, 0), Some(Some("EIO again".to_owned())));
        assert_eq!(strain.told(), Some(&"EIO again".to_owned()));
        assert_eq!((strain.judge(told_at, 0), strain.next_look()), (None, None));
        strain.works();
        assert_eq!(strain.judge(told_at, 0), Some(None));
    }

    #[test]
    fn storage_is_slow_when_the_oldest_record_waits_for_long_and_until_none_does() {
        let (mut strain, start) = (Strain::default(), Instant::now());
        strain.appended(1, start);
        strain.appended(2, start + MOMENT);
        strain.appended(3, start + STEP);
        assert_eq!(strain.next_look(), Some(start + SLOW_AFTER));
        strain.durable(1);
        assert_eq!(strain.judge(start + SLOW_AFTER - MOMENT, 0), None);
        assert!(matches!(strain.judge(start + SLOW_AFTER, 0), Some(Some(_))));
        strain.durable(2);
        // the next one has waited for almost as long
        assert_eq!(strain.judge(start + SLOW_AFTER, 0), None);
        strain.durable(3);
        assert_eq!(strain.judge(start + SLOW_AFTER, 0), Some(None));
        strain.appended(4, start + SLOW_AFTER);
        assert_eq!(strain.judge(start + SLOW_AFTER + QUICK_AGAIN, 0), None);
    }

    #[test]
    fn storage_is_slow_when_too_much_waits_and_until_half_of_it_does() {
        let (mut strain, start) = (Strain::default(), Instant::now());
        assert_eq!(strain.judge(start, LAG_BYTES_MAX - 1), None);
        assert!(matches!(strain.judge(start, LAG_BYTES_MAX), Some(Some(_))));
        assert_eq!(strain.judge(start, LAG_BYTES_MAX - 1), None);
        assert_eq!(strain.judge(start, LAG_BYTES_MAX / 2 - 1), Some(None));
    }
}
