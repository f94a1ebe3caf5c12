//! What becomes of the tasks of a job, by ranges: what has ended as far as that is durable, and what the model says of the
//! rest.
//!
//! A page costs time in proportion to its length, to the job's open grants and to its tasks with a history, whatever the
//! job's size.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::view::{TASKS_PAGE_MAX, TaskRange, TaskState, TasksPage};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::input::Now;
use crate::job::Job;
use crate::trouble::one;

/// Ranges of one job of which is kept where and when they ended; of more, those with the lowest indices.
const ENDS_KEPT_MAX: usize = 1000;

impl Core {
    /// What becomes of tasks of a job, from the first of `tasks` on, as far as a page goes; `None` if there is no such job.
    pub fn tasks(&self, id: JobId, tasks: IndexRange) -> Option<TasksPage> {
        let job = self.jobs.get(&id).filter(|job| job.seen.accepted)?;
        let asked = tasks.intersection(IndexRange::new(0, job.spec.tasks));
        let unix_millis = |moment: Duration| {
            let ago = self.clock.saturating_sub(moment).as_millis();
            self.unix_millis
                .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
        };
        Some(job.tasks(asked, &unix_millis))
    }
}

/// Where and when tasks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    worker: WorkerId,
    started: Option<Duration>,
    ended: Duration,
    restarts: u32,
}

/// Where and when tasks of a job ended: a bounded number of ranges, in no journal.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// By the first index; ranges do not touch each other with the same end.
    ranges: BTreeMap<u64, (u64, End)>,
}

impl Ends {
    fn note(&mut self, mut range: IndexRange, end: End) {
        self.forget(range);
        if let Some((&start, &(before, of))) = self.ranges.range(..range.start).next_back()
            && before == range.start
            && of == end
        {
            range.start = start;
        }
        self.ranges.insert(range.start, (range.end, end));
        if self.ranges.len() > ENDS_KEPT_MAX {
            self.ranges.pop_last();
        }
    }

    /// Forgets tasks that are to be run again.
    pub(crate) fn forget(&mut self, range: IndexRange) {
        while let Some((known, end)) = self.next(range) {
            self.ranges.remove(&known.start);
            let left = IndexRange {
                end: range.start,
                ..known
            };
            let right = IndexRange {
                start: range.end,
                ..known
            };
            for rest in [left, right].into_iter().filter(|rest| !rest.is_empty()) {
                self.ranges.insert(rest.start, (rest.end, end));
            }
        }
    }

    /// How often tasks of a range had been started before, when they ended.
    pub(crate) fn restarts_in(&self, range: IndexRange) -> Vec<(IndexRange, u32)> {
        let mut from = range.start;
        let ends = std::iter::from_fn(|| {
            let (known, end) = self.next(IndexRange::new(from, range.end))?;
            from = known.end;
            Some((known.intersection(range), end.restarts))
        });
        ends.collect()
    }

    /// The first range that has to do with `range`, whole.
    fn next(&self, range: IndexRange) -> Option<(IndexRange, End)> {
        let before = self.ranges.range(..=range.start).next_back();
        let before = before.filter(|(_, (end, _))| *end > range.start);
        let next = before.or_else(|| self.ranges.range(range.start..).next());
        let next = next.filter(|(start, _)| !range.is_empty() && **start < range.end);
        next.map(|(&start, &(end, of))| (IndexRange { start, end }, of))
    }
}

/// Gathers states; what was told first counts.
struct Survey {
    asked: IndexRange,
    told: Vec<TaskRange>,
    covered: RangeSet,
}

impl Survey {
    /// Tells the state of tasks, in ascending order, as far as nobody told another one. Of more than a page holds, what
    /// lies behind is not asked for any more.
    fn tell(&mut self, ranges: impl Iterator<Item = IndexRange>, of: TaskRange) {
        let mut count = 0;
        for range in ranges {
            if range.start >= self.asked.end {
                return;
            }
            if count >= TASKS_PAGE_MAX {
                self.asked.end = range.start;
                return;
            }
            for range in self.covered.gaps(range.intersection(self.asked)) {
                count += 1;
                self.told.push(TaskRange { range, ..of });
                self.covered.insert(range);
            }
        }
    }

    /// The same of a set, which may be large.
    fn tell_set(&mut self, set: &RangeSet, of: TaskRange) {
        let mut from = self.asked.start;
        let ranges = std::iter::from_fn(|| {
            let next = set.next_from(from)?;
            from = next.end;
            Some(next)
        });
        self.tell(ranges, of);
    }

    /// The page, in which `rest` is the state of all that nobody told, and each piece is what `detailed` makes of it: what
    /// can be said of its beginning.
    fn page(mut self, rest: TaskState, detailed: impl Fn(TaskRange) -> TaskRange) -> TasksPage {
        for range in self.covered.gaps(self.asked) {
            self.told.push(TaskRange { range, ..bare(rest) });
        }
        self.told.sort_by_key(|told| told.range.start);
        let mut page = TasksPage {
            tasks: Vec::new(),
            next: self.asked.start,
        };
        for mut told in self.told {
            told.range = told.range.intersection(self.asked);
            while !told.range.is_empty() {
                let piece = detailed(told);
                told.range.start = piece.range.end;
                if !add(&mut page, piece) {
                    return page;
                }
            }
        }
        page
    }
}

/// Adds what follows; `false` if the page is full.
fn add(page: &mut TasksPage, piece: TaskRange) -> bool {
    let is_full = page.tasks.len() >= TASKS_PAGE_MAX;
    match page.tasks.last_mut() {
        Some(last)
            if *last
                == (TaskRange {
                    range: last.range,
                    ..piece
                }) =>
        {
            last.range.end = piece.range.end
        }
        Some(_) if is_full => return false,
        Some(_) | None => page.tasks.push(piece),
    }
    page.next = piece.range.end;
    true
}

/// A state of which nothing more is known.
fn bare(state: TaskState) -> TaskRange {
    TaskRange {
        range: IndexRange::new(0, 0),
        state,
        worker: None,
        started_unix_millis: None,
        ended_unix_millis: None,
        restarts: 0,
        usage: None,
    }
}

impl Job {
    /// Notes where and when tasks end, if anybody may want to know; before their grant loses them.
    pub(crate) fn note_end(&mut self, now: Now, grant: GrantId, range: IndexRange) {
        let Some(open) = self.grants.get(&grant).filter(|_| self.spec.work.is_command()) else {
            return;
        };
        let end = End {
            worker: open.worker,
            started: open.since,
            ended: now.elapsed,
            restarts: self.restarts(range),
        };
        self.ends.note(range, end);
    }

    fn tasks(&self, asked: IndexRange, unix_millis: &dyn Fn(Duration) -> u64) -> TasksPage {
        let mut survey = Survey {
            asked,
            told: Vec::new(),
            covered: RangeSet::new(),
        };
        survey.tell_set(&self.seen.done, bare(TaskState::Succeeded));
        for (&index, failure) in self.seen.failures.range(asked.start..asked.end.max(asked.start)) {
            let failed = bare(TaskState::Failed(Some(failure.cause)));
            survey.tell(std::iter::once(one(index)), failed);
        }
        survey.tell_set(&self.seen.failed, bare(TaskState::Failed(None)));
        survey.tell_set(&self.seen.cancelled.tasks, bare(TaskState::Cancelled));
        survey.tell_set(&self.ended, bare(TaskState::Ending));
        self.tell_open(&mut survey, unix_millis);
        survey.tell(self.trouble.resting_in(asked).map(one), bare(TaskState::Resting));
        survey.tell_set(&self.gate.blocked, bare(TaskState::Blocked));
        let rest = match self.is_active() {
            true => TaskState::Waiting,
            false => TaskState::Unrun,
        };
        survey.page(rest, |told| self.detailed(told, unix_millis))
    }

    /// Tells what workers have, by grant.
    fn tell_open(&self, survey: &mut Survey, unix_millis: &dyn Fn(Duration) -> u64) {
        let fronts = self.holdings.keys().flat_map(|&worker| self.front(worker));
        let running: RangeSet = fronts.map(one).collect();
        let mut open: Vec<_> = self.grants.values().collect();
        open.sort_by_key(|grant| grant.rest.first());
        for grant in open {
            let of = |state| TaskRange {
                worker: Some(grant.worker),
                started_unix_millis: grant.since.map(unix_millis),
                ..bare(state)
            };
            let runs = grant.rest.iter().flat_map(|range| running.pieces(range));
            survey.tell(runs, of(TaskState::Running));
            let granted = TaskRange {
                started_unix_millis: None,
                ..of(TaskState::Granted)
            };
            survey.tell_set(&grant.rest, granted);
        }
    }

    /// The first of some tasks of whose end nothing is known but that, and those behind it that were requeued as often.
    fn as_often_requeued(&self, told: TaskRange) -> TaskRange {
        let IndexRange { start, .. } = told.range;
        TaskRange {
            range: IndexRange::new(start, self.requeues.cut(told.range)),
            restarts: self.requeues.count(start),
            ..told
        }
    }

    /// The first of some tasks, and those behind it that were started as often.
    fn as_often_started(&self, told: TaskRange) -> TaskRange {
        let range = IndexRange::new(told.range.start, self.cut(told.range));
        TaskRange {
            range,
            restarts: self.restarts(range),
            ..told
        }
    }

    /// The first of some tasks that have ended with what it has used, or those before the first of which that is known.
    fn measured(&self, told: TaskRange) -> TaskRange {
        let IndexRange { start, .. } = told.range;
        match self.seen.used.next(told.range) {
            Some((usage, ended)) if usage.index == start => TaskRange {
                range: usage.range(),
                started_unix_millis: Some(usage.started_unix_millis(ended)),
                ended_unix_millis: Some(ended),
                usage: Some(usage),
                ..told
            },
            Some((usage, _)) => TaskRange {
                range: IndexRange::new(start, usage.index),
                ..told
            },
            None => told,
        }
    }

    /// What is to be said of the first of some tasks, and of those behind it of which the same is to be said.
    fn detailed(&self, told: TaskRange, unix_millis: &dyn Fn(Duration) -> u64) -> TaskRange {
        let IndexRange { start, end } = told.range;
        match told.state {
            TaskState::Succeeded | TaskState::Failed(_) => self.measured(match self.ends.next(told.range) {
                None => self.as_often_requeued(told),
                Some((known, _)) if known.start > start => self.as_often_requeued(TaskRange {
                    range: IndexRange::new(start, known.start),
                    ..told
                }),
                Some((known, of)) => TaskRange {
                    range: IndexRange::new(start, known.end.min(end)),
                    worker: Some(of.worker),
                    started_unix_millis: of.started.map(unix_millis),
                    ended_unix_millis: Some(unix_millis(of.ended)),
                    restarts: of.restarts,
                    ..told
                },
            }),
            TaskState::Waiting
            | TaskState::Blocked
            | TaskState::Resting
            | TaskState::Granted
            | TaskState::Running
            | TaskState::Ending
            | TaskState::Unrun => self.as_often_started(told),
            TaskState::Cancelled => self.measured(self.as_often_started(told)),
        }
    }
}
