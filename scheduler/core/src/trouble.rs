//! Tasks that were run in vain: how often and for what, which of them rest before they are run again, and which are
//! suspected of killing kernel hosts.
//!
//! Only such tasks cost memory, and they are bounded. The counts are not journalled: a new leader begins them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx_protocol::job::Retries;
use phalanx_protocol::limits::{BACKOFF_MILLIS_MAX, MESSAGE_BYTES_MAX, RETRIED_TASKS_MAX};
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::{IndexRange, RangeSet};

/// How long a worker that was lost may take to come back before what it may have run is failed for that.
const LOST_WINDOW: Duration = Duration::from_secs(3);

/// Rests end at multiples of this, so that many of them end at once.
const REST_STEP_MILLIS: u64 = 10;

/// How often a task was run in vain, by what went wrong.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tries {
    errors: u32,
    crashes: u32,
    lost: u32,
    timeouts: u32,
}

impl Tries {
    fn total(self) -> u32 {
        let counts = [self.errors, self.crashes, self.lost, self.timeouts];
        counts.into_iter().fold(0, u32::saturating_add)
    }
}

/// How a kernel host died.
#[derive(Debug)]
pub(crate) struct HostDeath {
    /// Tasks that are to blame, as its worker says.
    pub(crate) blamed: Vec<u64>,
    pub(crate) cause: FailureCause,
    pub(crate) how: String,
}

/// What is to become of a task that was run in vain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits again.
    Wait,
    /// It rests up to then.
    Rest(Duration),
    /// It has failed.
    Fail(TaskFailure),
}

#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// Tasks with a history that have not ended.
    tries: BTreeMap<u64, Tries>,
    /// Tasks that rest, and until when.
    resting: BTreeMap<u64, Duration>,
    /// The same, the earliest first.
    due: BTreeSet<(Duration, u64)>,
    /// Tasks whose last worker was lost, and which process that was: if that comes back, it was only not to be reached.
    lost_with: BTreeMap<u64, u128>,
    /// Tasks in whose company a host died, and which have not ended: they run alone.
    suspected: BTreeSet<u64>,
    /// Those of them that wait.
    pub(crate) suspects: RangeSet,
}

impl Trouble {
    /// Tasks that rest.
    pub(crate) fn resting(&self) -> u64 {
        self.resting.len() as u64
    }

    /// The tasks of a range that rest, in order.
    pub(crate) fn resting_in(&self, range: IndexRange) -> impl Iterator<Item = u64> {
        let range = range.start..range.end.max(range.start);
        self.resting.range(range).map(|(&index, _)| index)
    }

    /// Where a range is to be cut, so that what comes first is one task with a history, or has none of those.
    pub(crate) fn cut(&self, range: IndexRange) -> u64 {
        let first = self.tries.range(range.start..range.end.max(range.start)).next();
        match first {
            Some((&index, _)) if index == range.start => index + 1,
            Some((&index, _)) => index,
            None => range.end,
        }
    }

    /// How often the one task of a range was run in vain; 0 for several.
    pub(crate) fn restarts(&self, range: IndexRange) -> u32 {
        match self.tries.get(&range.start) {
            Some(tries) if range.len() == 1 => tries.total(),
            Some(_) | None => 0,
        }
    }

    /// Whether a task is to run alone.
    pub(crate) fn is_suspected(&self, index: u64) -> bool {
        self.suspected.contains(&index)
    }

    /// Removes from `tasks` all that have a history.
    pub(crate) fn leave_out_tried(&self, tasks: &mut RangeSet) {
        self.tries.keys().for_each(|&index| tasks.remove(one(index)));
    }

    /// Lets every suspect run among others, as far as none waits apart.
    pub(crate) fn suspect_nobody(&mut self) {
        self.suspected.clear();
    }

    /// Takes the suspects out of what begins to wait: they wait apart.
    pub(crate) fn set_apart(&mut self, waiting: &mut RangeSet, range: IndexRange) {
        for &index in self.suspected.range(range.start..range.end.max(range.start)) {
            waiting.remove(one(index));
            self.suspects.insert(one(index));
        }
    }

    /// Lets a task rest.
    pub(crate) fn rest(&mut self, index: u64, until: Duration) {
        self.resting.insert(index, until);
        self.due.insert((until, index));
    }

    /// The tasks that have rested enough.
    pub(crate) fn rested(&mut self, now: Duration) -> Vec<u64> {
        let later = self.due.split_off(&(now, u64::MAX));
        let rested = std::mem::replace(&mut self.due, later);
        let indices: Vec<u64> = rested.into_iter().map(|(_, index)| index).collect();
        indices.iter().for_each(|index| {
            self.resting.remove(index);
        });
        indices
    }

    /// Takes tasks out of those that rest or wait apart, wherever they are; returns how many those were.
    pub(crate) fn take(&mut self, range: IndexRange) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut taken = 0;
        for (index, until) in self.resting.extract_if(range.start..range.end, |_, _| true) {
            self.due.remove(&(until, index));
            taken += 1;
        }
        let apart = self.suspects.len();
        self.suspects.remove(range);
        taken + apart - self.suspects.len()
    }

    /// Forgets the history of tasks that ended.
    pub(crate) fn forget(&mut self, range: IndexRange) {
        if !self.tries.is_empty() && !range.is_empty() {
            let ended = self.tries.extract_if(range.start..range.end, |_, _| true);
            for (index, _) in ended {
                self.suspected.remove(&index);
                self.lost_with.remove(&index);
            }
        }
    }

    /// Counts a failure that a worker reported at `now`, and decides.
    pub(crate) fn failed(&mut self, retries: &Retries, failure: TaskFailure, now: Duration) -> Fate {
        let is_timeout = match failure.cause {
            FailureCause::Error
            | FailureCause::Panic
            | FailureCause::Memory
            | FailureCause::Exit(_)
            | FailureCause::Signal(_) => false,
            FailureCause::TimeLimit => true,
            FailureCause::Input | FailureCause::Result | FailureCause::Crash | FailureCause::Lost => {
                return Fate::Fail(failure);
            }
        };
        let allowed = if is_timeout {
            retries.timeouts
        } else {
            retries.errors
        };
        let Some(tries) = self.entry(failure.index, allowed > 0) else {
            return Fate::Fail(failure);
        };
        let count = if is_timeout {
            &mut tries.timeouts
        } else {
            &mut tries.errors
        };
        *count = count.saturating_add(1);
        let count = *count;
        if count <= allowed {
            return Fate::Rest(rest_until(retries, count, now));
        }
        Fate::Fail(with_suffix(failure, count))
    }

    /// Counts the death of a kernel host that a task is blamed for, and decides.
    pub(crate) fn blamed(&mut self, retries: &Retries, index: u64, death: &HostDeath, now: Duration) -> Fate {
        let cause = death.cause;
        let fail = |cause, message| {
            Fate::Fail(TaskFailure {
                index,
                cause,
                message,
            })
        };
        let is_timeout = cause == FailureCause::TimeLimit;
        let again = if is_timeout {
            retries.timeouts > 0
        } else {
            retries.crash_limit > 1
        };
        let entry = self.entry(index, again);
        let mut once = Tries::default();
        let tries = entry.unwrap_or(&mut once);
        if is_timeout {
            tries.timeouts = tries.timeouts.saturating_add(1);
            let count = tries.timeouts;
            if again && count <= retries.timeouts && self.tries.contains_key(&index) {
                return Fate::Rest(rest_until(retries, count, now));
            }
            return fail(cause, format!("{}{}", short(&death.how), times(count)));
        }
        tries.crashes = tries.crashes.saturating_add(1);
        let count = tries.crashes;
        if count < retries.crash_limit && self.tries.contains_key(&index) {
            self.suspected.insert(index);
            return Fate::Wait;
        }
        let how = short(&death.how);
        match cause {
            FailureCause::Memory => fail(cause, format!("{how}{}", times(count))),
            FailureCause::Error
            | FailureCause::Panic
            | FailureCause::Input
            | FailureCause::Result
            | FailureCause::Crash
            | FailureCause::TimeLimit
            | FailureCause::Lost
            | FailureCause::Exit(_)
            | FailureCause::Signal(_) => {
                let times = if count > 1 {
                    format!(" {count} times")
                } else {
                    String::new()
                };
                fail(
                    FailureCause::Crash,
                    format!("poisoned: index {index} killed its kernel host{times}: {how}"),
                )
            }
        }
    }

    /// Counts the loss of a worker, the process `instance`, that may have run a task, and decides; `limit` is how many may be
    /// lost. A task that has reached it is not failed before that process has had time to come back.
    pub(crate) fn lost(&mut self, limit: u32, index: u64, instance: u128, now: Duration) -> Fate {
        let Some(tries) = self.entry(index, true) else {
            return Fate::Wait;
        };
        tries.lost = tries.lost.saturating_add(1);
        let is_last = tries.lost >= limit;
        self.lost_with.insert(index, instance);
        match is_last {
            true => Fate::Rest(now + LOST_WINDOW),
            false => Fate::Wait,
        }
    }

    /// What becomes of a task that has rested, if so many workers may be lost under it.
    pub(crate) fn after_rest(&self, limit: u32, index: u64) -> Fate {
        let lost = self.tries.get(&index).map_or(0, |tries| tries.lost);
        if lost < limit {
            return Fate::Wait;
        }
        let message = format!("its worker was lost while it may have run{}", times(lost));
        Fate::Fail(TaskFailure {
            index,
            cause: FailureCause::Lost,
            message,
        })
    }

    /// A process that was lost is back: takes back what was counted for that. Returns the tasks that rested for nothing else
    /// and now wait; `limit` is as before.
    pub(crate) fn found(&mut self, limit: u32, instance: u128) -> Vec<u64> {
        let with_it: Vec<u64> = self
            .lost_with
            .extract_if(.., |_, of| *of == instance)
            .map(|(index, _)| index)
            .collect();
        let mut waiting = Vec::new();
        for index in with_it {
            let Some(tries) = self.tries.get_mut(&index) else {
                continue;
            };
            let was_last = tries.lost >= limit;
            tries.lost -= 1;
            if was_last && let Some(until) = self.resting.remove(&index) {
                self.due.remove(&(until, index));
                waiting.push(index);
            }
        }
        waiting
    }

    /// The history of a task; `None` if it has none, and is not to get one or there is no room for more.
    fn entry(&mut self, index: u64, make: bool) -> Option<&mut Tries> {
        if make && self.tries.len() < RETRIED_TASKS_MAX {
            return Some(self.tries.entry(index).or_default());
        }
        self.tries.get_mut(&index)
    }

    /// The places that it knows of, for ONCE; asserts that they fit together, and to what has ended.
    pub(crate) fn check(&self, ended: &RangeSet) -> Vec<IndexRange> {
        let has_ended = |&index: &u64| ended.contains(index);
        assert!(
            !self.tries.keys().any(has_ended),
            "the history of a task that has ended is not forgotten"
        );
        assert_eq!(self.resting.len(), self.due.len(), "every rest has one end");
        let apart = self.suspects.iter().flat_map(|range| range.start..range.end);
        for index in apart {
            assert!(
                self.suspected.contains(&index),
                "{index} waits apart, unsuspected"
            );
        }
        let known = |index: &u64| self.tries.contains_key(index);
        assert!(self.suspected.iter().all(known), "a suspect has no history");
        let counted = |index: &u64| self.tries.get(index).is_some_and(|tries| tries.lost > 0);
        assert!(self.lost_with.keys().all(counted), "a loss is not counted");
        let resting = self.resting.keys().map(|&index| one(index));
        self.suspects.iter().chain(resting).collect()
    }
}

/// When a task may run again after its `count`th run in vain.
pub(crate) fn rest_until(retries: &Retries, count: u32, now: Duration) -> Duration {
    let doubled = 1_u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
    let rest = retries
        .backoff_millis
        .saturating_mul(doubled)
        .min(BACKOFF_MILLIS_MAX);
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let until = now.saturating_add(rest).saturating_add(REST_STEP_MILLIS);
    Duration::from_millis(until - until % REST_STEP_MILLIS)
}

fn times(count: u32) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!(", {count} times"),
    }
}

/// Leaves room for what is added to a text.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX - 100)]
}

fn with_suffix(mut failure: TaskFailure, count: u32) -> TaskFailure {
    if count > 1 {
        failure.message = format!("{} (it ran {count} times)", short(&failure.message));
    }
    failure
}

/// The range of one index.
pub(crate) fn one(index: u64) -> IndexRange {
    IndexRange::new(index, index + 1)
}
