//! How many tasks a slot claims at a time, from its own measurement.

/// What a chunk should take, in nanoseconds: long against what claiming costs, short against a revoke's patience.
const CHUNK_NANOS: u64 = 50_000;
/// Below this a chunk is not split further for the sake of balance.
const CHUNK_NANOS_MIN: u64 = 1_000;
/// How much larger one chunk may be than the one before: tasks further on may be longer.
const GROWTH_MAX: u64 = 16;

/// The size of a slot's next chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    tasks: u64,
}

impl Pace {
    /// Nothing is known: the first chunk is one task.
    pub(super) const fn new() -> Self {
        Self { tasks: 1 }
    }

    /// Learns that a chunk ran `tasks` tasks in `nanos` nanoseconds.
    pub(super) fn measured(&mut self, tasks: u64, nanos: u64) {
        if tasks > 0 {
            let fitting = CHUNK_NANOS.saturating_mul(tasks) / nanos.max(1);
            self.tasks = fitting.clamp(1, self.tasks.saturating_mul(GROWTH_MAX));
        }
    }

    /// The next chunk, when a grant has `remaining` unstarted tasks and `slots` slots share it: never so much that
    /// the others would soon wait for this one.
    pub(super) fn chunk(self, remaining: u64, slots: u64) -> u64 {
        let fair = remaining / (4 * slots.max(1));
        let least = self.tasks * CHUNK_NANOS_MIN / CHUNK_NANOS;
        self.tasks.min(fair.max(least)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_to_their_time_in_steps() {
        let mut pace = Pace::new();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            sizes.push(pace.chunk(u64::MAX, 1));
            pace.measured(sizes[sizes.len() - 1], 10 * sizes[sizes.len() - 1]);
        }
        assert_eq!(sizes, [1, 16, 256, 4096, 5000]);
    }

    #[test]
    fn long_tasks_are_claimed_one_by_one() {
        let mut pace = Pace::new();
        pace.measured(1, 10);
        pace.measured(16, 16 * 60_000);
        assert_eq!(pace.chunk(u64::MAX, 1), 1);
    }

    #[test]
    fn the_end_of_a_grant_is_shared_but_not_ground_to_dust() {
        let pace = Pace { tasks: 5000 };
        assert_eq!(pace.chunk(8000, 2), 1000);
        assert_eq!(pace.chunk(80, 2), 100, "a microsecond's worth");
        assert_eq!(Pace { tasks: 20 }.chunk(80, 2), 10);
        assert_eq!(Pace { tasks: 20 }.chunk(3, 2), 1);
    }

    #[test]
    fn a_chunk_that_ran_nothing_teaches_nothing() {
        let mut pace = Pace { tasks: 7 };
        pace.measured(0, 100);
        assert_eq!(pace.tasks, 7);
    }
}
