//! What tasks of a job print, while they run: whole lines, each with its task's number.
//!
//! Of tasks that run for a while the output is copied piece by piece, of all others once they have ended. So a job of many
//! short tasks costs hardly more than one whose output is not watched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phalanx::{Client, JobView, ResultEvent};
use phalanx_protocol::message::client::{OutputPage, OutputPosition, OutputQuery};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::view::{TaskState, TasksPage};
use phalanx_protocol::{IndexRange, JobId, RangeSet};
use tokio::time::Instant;

use super::follower::LAST_WORDS_MAX;
use super::lines::Lines;
use crate::commands::output::after;
use crate::ui::Ui;
use crate::ui::error::CliError;

/// Tasks that are copied from while they run; of more, those with the lowest indices.
const RUNNING_MAX: usize = 256;
/// The shortest and the longest pause between two looks at what runs.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A look that takes long, since there is much to go through, is followed by a pause so many times as long.
const PAUSE_FACTOR: u32 = 8;

/// Copies what tasks of a job print.
#[derive(Debug)]
pub(in crate::commands) struct LiveCopy<'a> {
    client: &'a Client,
    job: JobId,
    tasks: u64,
    lines: Lines,
    running: Running,
}

/// What is known of tasks that run.
#[derive(Debug, Default)]
struct Running {
    /// Those before it have ended.
    ended: u64,
    /// Where the next page of tasks begins.
    next: u64,
    /// Those that ran when they were last looked at, and were not copied from so far.
    seen: BTreeSet<u64>,
    /// How far those were copied that have run for a while, and whose end was not told.
    copied: BTreeMap<u64, OutputPosition>,
    /// Those of them that write nothing more, as it seems; they may run again.
    quiet: BTreeSet<u64>,
}

impl<'a> LiveCopy<'a> {
    /// Of a job of so many tasks.
    pub(in crate::commands) fn new(client: &'a Client, job: JobId, tasks: u64, ui: Ui) -> Self {
        Self {
            client,
            job,
            tasks,
            lines: Lines::new(tasks, tasks > 1, ui),
            running: Running::default(),
        }
    }

    /// Copies to the job's end.
    pub(in crate::commands) async fn run(mut self) -> Result<JobView, CliError> {
        let mut results = self.client.results(self.job, false);
        let mut pause = PAUSE_MIN;
        let mut look_at = Instant::now() + pause;
        let view = loop {
            tokio::select! {
                event = results.next() => match event? {
                    Some(ResultEvent::Block { keep, .. } | ResultEvent::NoResults(keep)) => {
                        for range in keep {
                            self.ended(range).await?;
                        }
                    }
                    Some(ResultEvent::Failed(failures)) => {
                        // many fail together, and each question takes its time
                        let failed: RangeSet = failures.iter().map(TaskFailure::range).collect();
                        for range in failed.iter() {
                            self.ended(range).await?;
                        }
                    }
                    Some(ResultEvent::Ended(view)) => break view,
                    None => break self.client.job(self.job).await?,
                },
                () = tokio::time::sleep_until(look_at) => {
                    let began = Instant::now();
                    pause = match self.look().await? {
                        true => PAUSE_MIN,
                        false => (pause * 2).min(PAUSE_MAX),
                    };
                    look_at = Instant::now() + pause.max(began.elapsed() * PAUSE_FACTOR);
                }
            }
        };
        self.last_words().await?;
        self.lines.finish_all()?;
        Ok(view)
    }

    /// Looks which tasks run, and copies what those have printed that have done so for a while; says whether that was anything.
    async fn look(&mut self) -> Result<bool, CliError> {
        let asked = IndexRange::new(self.running.next.min(self.tasks), self.tasks);
        let page = self.client.tasks(self.job, asked).await?;
        self.running.take_in(asked, &page);
        let mut is_news = false;
        for task in self.running.loud() {
            is_news |= self.more_of(task).await?;
        }
        self.lines.flush()?;
        Ok(is_news)
    }

    /// Copies what a task has printed since the last time, or says that it prints no more.
    async fn more_of(&mut self, task: u64) -> Result<bool, CliError> {
        let had = self.running.copied.get(&task).copied().unwrap_or_default();
        let page = self.page(IndexRange::new(task, task + 1), had).await?;
        let position = page.position;
        if position.attempt.is_some() && position != had {
            if had.attempt.is_some() && had.attempt != position.attempt {
                self.lines.finish(task)?;
            }
            self.show(&page)?;
            self.running.copied.insert(task, position);
            return Ok(true);
        }
        if page.has_ended {
            self.running.quiet.insert(task);
            self.lines.finish(task)?;
        }
        Ok(false)
    }

    /// Copies what is left of tasks that have ended.
    async fn ended(&mut self, range: IndexRange) -> Result<(), CliError> {
        let mut left = range;
        for task in self.running.copied_of(range) {
            self.all(IndexRange::new(left.start, task)).await?;
            while self.more_of(task).await? {}
            self.lines.finish(task)?;
            self.running.forget(task);
            left.start = task + 1;
        }
        self.all(left).await?;
        self.lines.flush()
    }

    /// Copies all that tasks have printed which have ended, and were not copied from before.
    async fn all(&mut self, tasks: IndexRange) -> Result<(), CliError> {
        let mut left = tasks;
        let mut had = OutputPosition::default();
        let mut last = None;
        while !left.is_empty() {
            let page = self.page(left, had).await?;
            for piece in &page.pieces {
                if let Some(before) = last.replace(piece.task).filter(|&before| before != piece.task) {
                    self.lines.finish(before)?;
                }
                self.lines.add(piece.task, &piece.bytes, piece.is_error)?;
            }
            (left.start, had) = after(&page, left.start, had);
        }
        last.map_or(Ok(()), |last| self.lines.finish(last))
    }

    /// What was ended by force may still have something to say; nobody waits for a worker that does not come back.
    async fn last_words(&mut self) -> Result<(), CliError> {
        let deadline = Instant::now() + LAST_WORDS_MAX;
        loop {
            let loud = self.running.loud();
            if loud.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            let mut is_news = false;
            for task in loud {
                is_news |= self.more_of(task).await?;
            }
            self.lines.flush()?;
            if !is_news {
                tokio::time::sleep(PAUSE_MIN).await;
            }
        }
    }

    async fn page(&self, tasks: IndexRange, had: OutputPosition) -> Result<OutputPage, CliError> {
        let query = OutputQuery {
            job: self.job,
            tasks,
            had,
            bytes_max: u64::MAX,
        };
        Ok(self.client.output(query).await?)
    }

    fn show(&mut self, page: &OutputPage) -> Result<(), CliError> {
        let mut pieces = page.pieces.iter();
        pieces.try_for_each(|piece| self.lines.add(piece.task, &piece.bytes, piece.is_error))
    }
}

impl Running {
    /// Takes in which tasks run, of those that a page tells of.
    fn take_in(&mut self, asked: IndexRange, page: &TasksPage) {
        let told = IndexRange::new(asked.start, page.next.max(asked.start));
        let running = page
            .tasks
            .iter()
            .filter(|found| found.state == TaskState::Running);
        let running = running.flat_map(|found| found.range.start..found.range.end);
        let running: BTreeSet<u64> = running.take(RUNNING_MAX).collect();
        for &task in &running {
            self.quiet.remove(&task);
            let is_known = self.copied.contains_key(&task);
            let has_room = self.copied.len() - self.quiet.len() < RUNNING_MAX;
            if !is_known && has_room && self.seen.remove(&task) {
                self.copied.insert(task, OutputPosition::default());
            }
        }
        self.seen.retain(|&task| !told.contains(task));
        let new = running.into_iter().filter(|task| !self.copied.contains_key(task));
        self.seen.extend(new);
        for found in &page.tasks {
            if found.range.start > self.ended || !has_ended(found.state) {
                break;
            }
            self.ended = self.ended.max(found.range.end);
        }
        let is_last = page.next >= asked.end || page.next <= asked.start;
        self.next = if is_last { self.ended } else { page.next };
    }

    /// Those to copy from.
    fn loud(&self) -> Vec<u64> {
        let copied = self.copied.keys().copied();
        copied.filter(|task| !self.quiet.contains(task)).collect()
    }

    /// Those of a range that were copied from.
    fn copied_of(&self, range: IndexRange) -> Vec<u64> {
        self.copied
            .range(range.start..range.end)
            .map(|(&task, _)| task)
            .collect()
    }

    fn forget(&mut self, task: u64) {
        self.copied.remove(&task);
        self.quiet.remove(&task);
    }
}

fn has_ended(state: TaskState) -> bool {
    match state {
        TaskState::Succeeded | TaskState::Failed(_) | TaskState::Cancelled | TaskState::Unrun => true,
        TaskState::Waiting
        | TaskState::Blocked
        | TaskState::Resting
        | TaskState::Granted
        | TaskState::Running
        | TaskState::Ending => false,
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::view::TaskRange;

    use super::*;

    fn page(states: &[(u64, TaskState)]) -> TasksPage {
        let mut start = 0;
        let mut tasks = Vec::new();
        for &(count, state) in states {
            let range = IndexRange::new(start, start + count);
            start = range.end;
            tasks.push(TaskRange {
                range,
                state,
                worker: None,
                started_unix_millis: None,
                ended_unix_millis: None,
                restarts: 0,
                usage: None,
            });
        }
        TasksPage { tasks, next: start }
    }

    #[test]
    fn only_what_still_runs_at_the_next_look_is_copied_from() {
        let mut running = Running::default();
        let all = IndexRange::new(0, 9);
        running.take_in(all, &page(&[(3, TaskState::Running), (6, TaskState::Waiting)]));
        assert!(running.loud().is_empty());
        let ended = (1, TaskState::Succeeded);
        running.take_in(
            all,
            &page(&[ended, (3, TaskState::Running), (5, TaskState::Waiting)]),
        );
        assert_eq!(running.loud(), [1, 2]);
        // the next page begins with what has not ended
        assert_eq!(running.next, 1);
        running.quiet.insert(1);
        assert_eq!((running.loud(), running.copied_of(all)), (vec![2], vec![1, 2]));
        running.forget(2);
        assert_eq!((running.loud(), running.copied_of(all)), (vec![], vec![1]));
    }

    #[test]
    fn of_a_long_list_one_page_is_looked_at_at_a_time_and_a_bounded_number_copied_from() {
        let mut running = Running::default();
        let count = RUNNING_MAX as u64 + 9;
        let all = IndexRange::new(0, 10 * count);
        let first = page(&[(count, TaskState::Running)]);
        running.take_in(all, &first);
        assert_eq!(running.next, count);
        let rest = TasksPage {
            tasks: Vec::new(),
            next: 10 * count,
        };
        running.take_in(IndexRange::new(count, 10 * count), &rest);
        assert_eq!(running.next, 0);
        running.take_in(all, &first);
        running.take_in(all, &first);
        assert_eq!(running.loud().len(), RUNNING_MAX);
        let others = page(&[(count, TaskState::Granted), (9, TaskState::Running)]);
        running.take_in(all, &others);
        running.take_in(all, &others);
        assert_eq!(running.loud().len(), RUNNING_MAX);
    }
}
