//! Output that went into files of the user's, from these to this terminal: of all tasks, or of one while it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use phalanx::Client;
use phalanx_protocol::view::{TaskRange, TaskState};
use phalanx_protocol::{IndexRange, JobId, TaskId, WorkerId};

use super::super::output::{Copied, Followed, Rest, pass_on};
use super::files::{FileError, Files, Names, Tail};
use crate::ui::error::CliError;
use crate::ui::{DataStream, Ui};

/// Bytes of a file that one look takes while its task is followed.
const LOOK_BYTES_MAX: u64 = 1 << 20;
/// How long the file of a task that runs may be absent until that is said.
const ABSENCE_MAX: Duration = Duration::from_secs(5);
/// How long a task that was told to end must have written nothing to be taken for ended.
const QUIET_MIN: Duration = Duration::from_secs(2);

/// Copies the files of a job's tasks, each as far as it is when its turn comes.
#[derive(Debug)]
pub(super) struct FilesCopy<'a> {
    job: JobId,
    files: &'a Files<'a>,
    nodes: Nodes,
    stream: DataStream,
    /// Files that several tasks write to; they are copied once.
    seen: BTreeSet<PathBuf>,
    /// The first that could not be copied, and how many others could not.
    failed: Option<(CliError, u64)>,
}

/// Copies the files of one task while it writes.
#[derive(Debug)]
pub(super) struct TaskFiles<'a> {
    task: TaskId,
    files: &'a Files<'a>,
    nodes: Nodes,
    stream: DataStream,
    ui: Ui,
    tails: Vec<Tail>,
    has_begun: bool,
    /// Since when nothing new was there, nor was it told to end.
    quiet_since: Instant,
    was_told: bool,
    /// Since when a file is missed that should be there; nothing once that was said.
    missed_since: Option<Instant>,
    is_said: bool,
}

/// What stands in the way of a copy.
#[derive(Debug)]
enum Obstacle {
    File(FileError),
    /// Nobody reads it, or the like.
    Ours(CliError),
}

/// The names of workers, which are asked for when one is wanted.
#[derive(Debug, Default)]
struct Nodes {
    names: BTreeMap<WorkerId, String>,
    /// Those that have left.
    gone: BTreeSet<WorkerId>,
}

/// Where a task has run, as far as that is known.
#[derive(Debug)]
struct Place {
    task: TaskId,
    node: Option<String>,
}

impl<'a> FilesCopy<'a> {
    pub(super) fn new(job: JobId, files: &'a Files<'a>, ui: Ui) -> Self {
        Self {
            job,
            files,
            nodes: Nodes::default(),
            stream: ui.stream(),
            seen: BTreeSet::new(),
            failed: None,
        }
    }

    /// To be called at the end.
    ///
    /// # Errors
    /// Names the first file that could not be copied.
    pub(super) fn finish(self) -> Result<(), CliError> {
        match self.failed {
            None => Ok(()),
            Some((error, 0)) => Err(error),
            Some((error, 1)) => Err(error.detail("nor can one other file")),
            Some((error, others)) => Err(error.detail(format!("nor can {others} other files"))),
        }
    }

    async fn task(&mut self, client: &Client, index: u64, found: &TaskRange) -> Result<(), CliError> {
        let job = self.job;
        let place = Place {
            task: TaskId { job, index },
            node: self.nodes.name(client, found.worker).await?,
        };
        let Some(names) = self.files.names(index, place.node.as_deref()) else {
            self.failed(place.nameless(self.files));
            return Ok(());
        };
        for mut tail in tails(names) {
            if !self.files.are_each_ones_own() && !self.seen.insert(tail.path.clone()) {
                continue;
            }
            let (stream, is_error) = (&mut self.stream, tail.is_error);
            let copied = tail.more(u64::MAX, |bytes| Ok(pass_on(stream, bytes, is_error)?));
            match copied {
                Ok(_) => {}
                Err(Obstacle::File(error)) if error.is_absence() && !has_surely_begun(found.state) => {}
                Err(Obstacle::File(error)) => self.failed(place.unreadable(&tail, &error)),
                Err(Obstacle::Ours(error)) => return Err(error),
            }
        }
        self.stream.flush()
    }

    fn failed(&mut self, error: CliError) {
        match &mut self.failed {
            Some((_, others)) => *others += 1,
            None => self.failed = Some((error, 0)),
        }
    }
}

impl Copied for FilesCopy<'_> {
    async fn all(&mut self, client: &Client, tasks: IndexRange) -> Result<(), CliError> {
        let mut left = tasks;
        if self.files.is_spread() {
            left.end = left.end.min(1);
        }
        while !left.is_empty() {
            let page = client.tasks(self.job, left).await?;
            for found in page.tasks.iter().filter(|found| may_have_begun(found)) {
                for index in found.range.start..found.range.end {
                    self.task(client, index, found).await?;
                }
            }
            // a page without end would be asked for for ever
            left.start = page.next.max(left.start + 1);
        }
        Ok(())
    }
}

impl<'a> TaskFiles<'a> {
    pub(super) fn new(task: TaskId, files: &'a Files<'a>, ui: Ui) -> Self {
        Self {
            task,
            files,
            nodes: Nodes::default(),
            stream: ui.stream(),
            ui,
            tails: Vec::new(),
            has_begun: false,
            quiet_since: Instant::now(),
            was_told: false,
            missed_since: None,
            is_said: false,
        }
    }

    /// Has the files that are read be those of a place; one that runs again may be elsewhere.
    fn find(&mut self, place: &Place) -> Result<(), CliError> {
        let names = self.files.names(self.task.index, place.node.as_deref());
        let found = tails(names.ok_or_else(|| place.nameless(self.files))?);
        let paths = |tails: &[Tail]| tails.iter().map(|tail| tail.path.clone()).collect::<Vec<_>>();
        if paths(&found) != paths(&self.tails) {
            self.tails = found;
        }
        Ok(())
    }

    /// Copies what is new in all files; says whether anything was.
    fn look(&mut self, place: &Place, state: TaskState) -> Result<bool, CliError> {
        let mut is_news = false;
        let mut is_missed = false;
        for tail in &mut self.tails {
            let (stream, is_error) = (&mut self.stream, tail.is_error);
            let copied = tail.more(LOOK_BYTES_MAX, |bytes| Ok(pass_on(stream, bytes, is_error)?));
            match copied {
                Ok(copied) => {
                    is_news |= copied;
                    self.has_begun = true;
                }
                // it is about to be made, or was never needed
                Err(Obstacle::File(error)) if error.is_absence() && !has_ended_itself(state) => {
                    is_missed |= state == TaskState::Running;
                    let since = *self.missed_since.get_or_insert_with(Instant::now);
                    if is_missed && !self.is_said && since.elapsed() > ABSENCE_MAX {
                        self.is_said = true;
                        self.ui.note(&place.absent(tail));
                    }
                }
                Err(Obstacle::File(error)) => return Err(place.unreadable(tail, &error)),
                Err(Obstacle::Ours(error)) => return Err(error),
            }
        }
        if !is_missed {
            self.missed_since = None;
        }
        self.stream.flush()?;
        Ok(is_news)
    }
}

impl Followed for TaskFiles<'_> {
    fn has_begun(&self) -> bool {
        self.has_begun
    }

    async fn more(&mut self, client: &Client) -> Result<Rest, CliError> {
        let TaskId { job, index } = self.task;
        let page = client.tasks(job, IndexRange::new(index, index + 1)).await?;
        let Some(found) = page.tasks.first().filter(|found| may_have_begun(found)) else {
            return Ok(Rest::Nothing);
        };
        let place = Place {
            task: self.task,
            node: self.nodes.name(client, found.worker).await?,
        };
        self.find(&place)?;
        let is_news = self.look(&place, found.state)?;
        // one that was told to end may still write; nobody says when it is gone
        let is_told = matches!(found.state, TaskState::Cancelled | TaskState::Unrun);
        if is_news || (is_told && !self.was_told) {
            self.quiet_since = Instant::now();
        }
        self.was_told = is_told;
        let is_quiet = !self.has_begun || self.quiet_since.elapsed() > QUIET_MIN;
        let is_over = has_ended_itself(found.state) || (is_told && is_quiet);
        Ok(Rest::of(is_news, is_over))
    }
}

impl From<FileError> for Obstacle {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<CliError> for Obstacle {
    fn from(error: CliError) -> Self {
        Self::Ours(error)
    }
}

impl Nodes {
    async fn name(&mut self, client: &Client, worker: Option<WorkerId>) -> Result<Option<String>, CliError> {
        let Some(worker) = worker else { return Ok(None) };
        if !self.names.contains_key(&worker) && !self.gone.contains(&worker) {
            let views = client.workers().await?.into_iter();
            self.names.extend(views.map(|view| (view.worker, view.name)));
            if !self.names.contains_key(&worker) {
                self.gone.insert(worker);
            }
        }
        Ok(self.names.get(&worker).cloned())
    }
}

impl Place {
    /// The file, as a person needs to know it.
    fn named(&self, tail: &Tail) -> String {
        let what = if tail.is_error { "errors" } else { "output" };
        let node = self.node.as_ref();
        let node = node.map_or_else(
            || "a node that has left".to_owned(),
            |node| format!("node {node}"),
        );
        format!(
            "`{}`, the {what} of task {} on {node}",
            tail.path.display(),
            self.task
        )
    }

    fn unreadable(&self, tail: &Tail, error: &FileError) -> CliError {
        let told = CliError::usage(format!("cannot read {}: {error}", self.named(tail)));
        match (error, &self.node) {
            (FileError::NotKept, _) => told,
            (FileError::Unreadable(_), Some(node)) => told.hint(format!(
                "if this machine does not see the files of {node}, look there; without --stdout output is kept with the job"
            )),
            (FileError::Unreadable(_), None) => told,
        }
    }

    fn absent(&self, tail: &Tail) -> String {
        format!(
            "{} is not there yet, as far as this machine sees",
            self.named(tail)
        )
    }

    fn nameless(&self, files: &Files<'_>) -> CliError {
        let what = format!(
            "cannot tell where the output of task {} is: the name has its node in it, which has left",
            self.task
        );
        CliError::usage(what).hint(format!("it is one of `{}`", files.pattern().display()))
    }
}

fn tails(names: Names) -> Vec<Tail> {
    let Names { output, error } = names;
    let error = error.map(|error| Tail::new(error, true));
    [Tail::new(output, false)].into_iter().chain(error).collect()
}

/// Whether there may be something in a task's files: it runs, has run, or did so before it was stopped.
pub(super) fn may_have_begun(found: &TaskRange) -> bool {
    match found.state {
        TaskState::Waiting | TaskState::Blocked | TaskState::Granted => found.restarts > 0,
        TaskState::Resting
        | TaskState::Running
        | TaskState::Ending
        | TaskState::Succeeded
        | TaskState::Failed(_)
        | TaskState::Cancelled
        | TaskState::Unrun => true,
    }
}

/// Whether a task must have had its files.
fn has_surely_begun(state: TaskState) -> bool {
    state == TaskState::Running || has_ended_itself(state)
}

/// Whether a task has ended of itself, so that nothing writes to its files any more.
fn has_ended_itself(state: TaskState) -> bool {
    match state {
        TaskState::Ending | TaskState::Succeeded | TaskState::Failed(_) => true,
        TaskState::Waiting
        | TaskState::Blocked
        | TaskState::Resting
        | TaskState::Granted
        | TaskState::Running
        | TaskState::Cancelled
        | TaskState::Unrun => false,
    }
}
