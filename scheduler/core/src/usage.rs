//! What tasks of a job have used, as far as that is durable: of each in jobs of at most [`USAGE_TASKS_MAX`] tasks, of all
//! together in every one. What a record says is decided here too, so that a large job's journal grows by its reports and not
//! by its tasks.

use phalanx_protocol::limits::USAGE_TASKS_MAX;
use phalanx_protocol::{IndexRange, RangeSet, TaskUsage, Usage, UsageSum};

/// What is known of a job.
#[derive(Debug, Default)]
pub(crate) struct Used {
    sum: UsageSum,
    /// By index, with when the end was reported in milliseconds since 1970.
    tasks: Vec<(TaskUsage, u64)>,
}

/// What a record is to say of tasks that ended just now, of a job of so many `tasks`.
pub(crate) fn of_ended(
    tasks: u64,
    mut reported: Vec<TaskUsage>,
    ended: &RangeSet,
    unix_millis: u64,
) -> Usage {
    reported.retain(|task| ended.contains(task.index));
    // one that was run twice at a time may be told of twice
    reported.sort_unstable_by_key(|task| task.index);
    reported.dedup_by_key(|task| task.index);
    if reported.is_empty() {
        return Usage::Unknown;
    }
    let each = Usage::Each {
        ended_unix_millis: unix_millis,
        tasks: reported,
    };
    match tasks <= USAGE_TASKS_MAX {
        true => each,
        false => Usage::Sum(each.sum()),
    }
}

impl Used {
    /// Takes in what a durable record says.
    pub(crate) fn add(&mut self, usage: &Usage) {
        self.sum.merge(&usage.sum());
        let Usage::Each {
            ended_unix_millis,
            tasks,
        } = usage
        else {
            return;
        };
        for &task in tasks {
            let used = (task, *ended_unix_millis);
            match self.position(task.index) {
                Ok(at) => self.tasks[at] = used,
                Err(at) => self.tasks.insert(at, used),
            }
        }
    }

    /// Forgets what was used in the last run of tasks that run again; it stays in the sum.
    pub(crate) fn run_again(&mut self, range: IndexRange) {
        self.tasks.retain(|(task, _)| !range.contains(task.index));
    }

    /// What all runs have used together.
    pub(crate) fn sum(&self) -> Option<UsageSum> {
        Some(self.sum).filter(|sum| sum.tasks > 0)
    }

    /// The first task of a range of which it is known what it used, and when its end was reported.
    pub(crate) fn next(&self, range: IndexRange) -> Option<(TaskUsage, u64)> {
        let (Ok(at) | Err(at)) = self.position(range.start);
        let next = self.tasks.get(at).copied();
        next.filter(|(task, _)| range.contains(task.index))
    }

    fn position(&self, index: u64) -> Result<usize, usize> {
        self.tasks.binary_search_by_key(&index, |(task, _)| task.index)
    }

    /// As a snapshot has it.
    pub(crate) fn to_snapshot(&self) -> (UsageSum, Vec<(TaskUsage, u64)>) {
        (self.sum, self.tasks.clone())
    }

    /// As it was when the snapshot was made.
    pub(crate) fn restore(sum: UsageSum, mut tasks: Vec<(TaskUsage, u64)>) -> Self {
        tasks.sort_by_key(|(task, _)| task.index);
        Self { sum, tasks }
    }
}
