//! The two clocks by which a leader judges how long ago it was last sure of itself. The rest of this crate is handed moments.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in this process's time. It means nothing to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Moment {
    /// Since the machine booted, with the time that it was suspended.
    pub boot: Duration,
    /// Since the machine booted, without that.
    pub monotonic: Duration,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            boot: read(ClockId::Boottime),
            monotonic: read(ClockId::Monotonic),
        }
    }

    /// How long ago `earlier` was, by the clock that says more; zero if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        let boot = self.boot.saturating_sub(earlier.boot);
        boot.max(self.monotonic.saturating_sub(earlier.monotonic))
    }

    /// The moment that much later.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self {
            boot: self.boot.saturating_add(pause),
            monotonic: self.monotonic.saturating_add(pause),
        }
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_more_counts() {
        let start = Moment::default();
        let slept = Moment {
            boot: Duration::from_secs(40),
            monotonic: Duration::from_secs(2),
        };
        assert_eq!(slept.since(start), Duration::from_secs(40));
        assert_eq!(start.since(slept), Duration::ZERO);
        assert!(Moment::now().boot > Duration::ZERO);
    }
}
