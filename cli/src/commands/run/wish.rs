//! What an interrupt of `phalanx run` asks for. Sends nothing itself.

use std::time::Duration;

use tokio::time::Instant;

/// An interrupt that comes so soon after one that was passed on asks for more than that.
pub(super) const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The program is to be interrupted, as a terminal would, and may do about it what it likes.
    Pass,
    /// The job is to end.
    Cancel,
    /// Nobody waits for that end any more.
    Leave,
}

/// What was asked for so far.
#[derive(Debug)]
pub(super) struct Wishes {
    passes: bool,
    passed_at: Option<Instant>,
    is_cancelled: bool,
}

impl Wishes {
    /// Of a job whose program gets interrupts, or of one that is cancelled by the first.
    pub(super) fn new(passes: bool) -> Self {
        Self {
            passes,
            passed_at: None,
            is_cancelled: false,
        }
    }

    /// What an interrupt asks for now.
    pub(super) fn next(&mut self, now: Instant) -> Wish {
        if self.is_cancelled {
            return Wish::Leave;
        }
        let is_again = self.passed_at.is_some_and(|at| now < at + AGAIN_WITHIN);
        if self.passes && !is_again {
            self.passed_at = Some(now);
            return Wish::Pass;
        }
        self.cancel()
    }

    /// The job is to end, since there is nothing to interrupt.
    pub(super) fn cancel(&mut self) -> Wish {
        self.is_cancelled = true;
        Wish::Cancel
    }

    /// Whether the program was interrupted, so that its end by that is no surprise.
    pub(super) fn was_passed(&self) -> bool {
        self.passed_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_passed_on_the_next_cancels_and_the_third_leaves() {
        let now = Instant::now();
        let mut wishes = Wishes::new(true);
        assert_eq!(wishes.next(now), Wish::Pass);
        assert_eq!(wishes.next(now + AGAIN_WITHIN / 2), Wish::Cancel);
        assert_eq!(wishes.next(now + AGAIN_WITHIN * 9), Wish::Leave);
    }

    #[test]
    fn a_program_that_lives_with_interrupts_gets_each_that_stands_alone() {
        let now = Instant::now();
        let mut wishes = Wishes::new(true);
        assert_eq!(wishes.next(now), Wish::Pass);
        assert_eq!(wishes.next(now + AGAIN_WITHIN), Wish::Pass);
        assert_eq!(wishes.next(now + AGAIN_WITHIN * 3 / 2), Wish::Cancel);
    }

    #[test]
    fn what_is_no_single_program_is_cancelled_by_the_first() {
        let now = Instant::now();
        let mut wishes = Wishes::new(false);
        assert_eq!(wishes.next(now), Wish::Cancel);
        assert_eq!(wishes.next(now), Wish::Leave);
        assert!(!wishes.was_passed());
    }
}
