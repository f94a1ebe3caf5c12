//! What tasks have used of their machines: of each as it is reported, and of many taken together.

use serde::{Deserialize, Serialize};

use crate::range::IndexRange;

/// What one run of a task has used; of a command, all of its processes that were waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskUsage {
    /// The task's index.
    pub index: u64,
    /// From the start of its process to its end, in milliseconds.
    pub ran_millis: u64,
    /// Cpu time in its programs, in microseconds.
    pub user_micros: u64,
    /// Cpu time in the system on their behalf, in microseconds.
    pub system_micros: u64,
    /// The most memory that one of its processes had resident, in KiB; all of them together, where that was watched and is
    /// more.
    pub rss_kib: u64,
}

impl TaskUsage {
    /// The task, as a range of one.
    pub fn range(&self) -> IndexRange {
        IndexRange::new(self.index, self.index.saturating_add(1))
    }

    /// When it started, given when its end was reported; milliseconds since 1970.
    pub fn started_unix_millis(&self, ended_unix_millis: u64) -> u64 {
        ended_unix_millis.saturating_sub(self.ran_millis)
    }
}

/// What runs of tasks have used together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSum {
    /// How many were measured.
    pub tasks: u64,
    /// How long they ran, one after the other, in milliseconds.
    pub ran_millis: u64,
    /// Cpu time in their programs, in microseconds.
    pub user_micros: u64,
    /// Cpu time in the system on their behalf, in microseconds.
    pub system_micros: u64,
    /// The most that one of them had resident, in KiB.
    pub rss_kib_max: u64,
    /// Which that was, by its index.
    pub rss_task: u64,
    /// When the first of them started; milliseconds since 1970.
    pub first_start_unix_millis: u64,
    /// When the last of them ended; milliseconds since 1970.
    pub last_end_unix_millis: u64,
}

impl UsageSum {
    /// Adds a run whose end was reported then.
    pub fn add(&mut self, usage: &TaskUsage, ended_unix_millis: u64) {
        self.merge(&Self {
            tasks: 1,
            ran_millis: usage.ran_millis,
            user_micros: usage.user_micros,
            system_micros: usage.system_micros,
            rss_kib_max: usage.rss_kib,
            rss_task: usage.index,
            first_start_unix_millis: usage.started_unix_millis(ended_unix_millis),
            last_end_unix_millis: ended_unix_millis,
        });
    }

    /// Adds other runs.
    pub fn merge(&mut self, other: &Self) {
        if other.tasks == 0 {
            return;
        }
        if self.tasks == 0 {
            *self = *other;
            return;
        }
        let sum = |own: &mut u64, more: u64| *own = own.saturating_add(more);
        sum(&mut self.tasks, other.tasks);
        sum(&mut self.ran_millis, other.ran_millis);
        sum(&mut self.user_micros, other.user_micros);
        sum(&mut self.system_micros, other.system_micros);
        if other.rss_kib_max > self.rss_kib_max {
            (self.rss_kib_max, self.rss_task) = (other.rss_kib_max, other.rss_task);
        }
        self.first_start_unix_millis = self.first_start_unix_millis.min(other.first_start_unix_millis);
        self.last_end_unix_millis = self.last_end_unix_millis.max(other.last_end_unix_millis);
    }
}

/// What a record of ended tasks says that they have used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Usage {
    /// Nothing: kernels are not measured.
    #[default]
    Unknown,
    /// Of each, in a job that has at most [`crate::limits::USAGE_TASKS_MAX`] tasks.
    Each {
        /// When their ends were reported; milliseconds since 1970.
        ended_unix_millis: u64,
        /// By index.
        tasks: Vec<TaskUsage>,
    },
    /// Together, in a larger job.
    Sum(UsageSum),
}

impl Usage {
    /// All of it together.
    pub fn sum(&self) -> UsageSum {
        match self {
            Self::Unknown => UsageSum::default(),
            Self::Each {
                ended_unix_millis,
                tasks,
            } => {
                let mut sum = UsageSum::default();
                tasks.iter().for_each(|task| sum.add(task, *ended_unix_millis));
                sum
            }
            Self::Sum(sum) => *sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(index: u64, rss_kib: u64) -> TaskUsage {
        TaskUsage {
            index,
            ran_millis: 100,
            user_micros: 7,
            system_micros: 3,
            rss_kib,
        }
    }

    #[test]
    fn a_sum_knows_its_largest_task_the_first_start_and_the_last_end() {
        let early = Usage::Each {
            ended_unix_millis: 1000,
            tasks: vec![used(4, 50), used(5, 70)],
        };
        let mut sum = UsageSum::default();
        sum.add(&used(9, 60), 2000);
        sum.merge(&early.sum());
        sum.merge(&Usage::Unknown.sum());
        let expected = UsageSum {
            tasks: 3,
            ran_millis: 300,
            user_micros: 21,
            system_micros: 9,
            rss_kib_max: 70,
            rss_task: 5,
            first_start_unix_millis: 900,
            last_end_unix_millis: 2000,
        };
        assert_eq!(sum, expected);
    }
}
