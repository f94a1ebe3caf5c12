//! `phalanx logs`: what a job's commands have printed.
//!
//! It is kept on the cluster's storage, or went to files of the user's: [`files`] finds these, [`copy`] shows them.

mod copy;
mod files;

use std::time::Duration;

use phalanx::{Client, JobView};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::{IndexRange, TaskId};

use super::output::{Copied, OutputCopy, Rest, TaskCopy};
use super::run::{Follower, LiveCopy, Until};
use crate::args::LogsArguments;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::error::CliError;

use copy::{FilesCopy, TaskFiles, may_have_begun};
use files::Files;

/// The shortest and the longest pause between two looks at what a task writes.
pub(super) const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);
pub(super) const LOOK_PAUSE_MAX: Duration = Duration::from_millis(250);

pub(super) async fn run(
    cluster: &Connected,
    arguments: &LogsArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let client = &cluster.client;
    let target = arguments.target;
    let view = client.job(target.job).await?;
    check(&view, target.task)?;
    if let Some(text) = waits(client, &view, target.task).await? {
        ui.note(&text);
    }
    let follows = arguments.follow && view.outcome.is_none();
    match Files::of(&view) {
        Some(files) if follows => follow_files(client, &view, target.task, &files, ui).await?,
        Some(files) => {
            let mut copy = FilesCopy::new(target.job, &files, ui);
            copy.all(client, asked(&view, target.task)).await?;
            copy.finish()?;
        }
        None if follows && target.task.is_none() && arguments.printing.is_live(ui) && view.tasks > 1 => {
            LiveCopy::new(client, view.job, view.tasks, ui).run().await?;
        }
        None if follows => follow_kept(client, &view, target.task, ui).await?,
        None => {
            let mut copy = OutputCopy::new(target.job, ui);
            copy.all(client, asked(&view, target.task)).await?;
        }
    }
    Ok(ExitCode::Success)
}

/// Follows output that is kept on the cluster's storage.
async fn follow_kept(client: &Client, view: &JobView, task: Option<u64>, ui: Ui) -> Result<(), CliError> {
    let mut copy = OutputCopy::new(view.job, ui);
    let follower = Follower::new(client, view.job);
    let (task, until) = match task {
        Some(task) => (task, Until::AttemptEnds),
        None if view.tasks == 1 => (0, Until::JobEnds),
        None => {
            follower.each_as_it_ends(&mut copy).await?;
            return Ok(());
        }
    };
    let copy = &mut copy;
    follower.one(&mut TaskCopy { copy, task }, until).await?;
    Ok(())
}

/// Follows output that goes to files of the user's.
async fn follow_files(
    client: &Client,
    view: &JobView,
    task: Option<u64>,
    files: &Files<'_>,
    ui: Ui,
) -> Result<(), CliError> {
    let job = view.job;
    let follower = Follower::new(client, job);
    let (index, until) = match task {
        Some(task) => (task, Until::AttemptEnds),
        None if files.are_shared() => (0, Until::JobEnds),
        None => {
            let mut copy = FilesCopy::new(job, files, ui);
            follower.each_as_it_ends(&mut copy).await?;
            return copy.finish();
        }
    };
    let mut one = TaskFiles::new(TaskId { job, index }, files, ui);
    follower.one(&mut one, until).await?;
    Ok(())
}

/// The tasks that are meant.
fn asked(view: &JobView, task: Option<u64>) -> IndexRange {
    match task {
        Some(task) => IndexRange::new(task, task + 1),
        None => IndexRange::new(0, view.tasks),
    }
}

/// What to say of a job or a task of which nothing has begun, and so nothing was printed.
async fn waits(client: &Client, view: &JobView, task: Option<u64>) -> Result<Option<String>, CliError> {
    let job = view.job;
    let ended = view.done + view.failed + view.cancelled + view.resting;
    if view.outcome.is_some() || ended == view.tasks {
        return Ok(None);
    }
    let what = match task {
        None if view.slots == 0 && ended == 0 => format!("job {job} has not begun"),
        None => return Ok(None),
        Some(index) => {
            let page = client.tasks(job, asked(view, task)).await?;
            if page.tasks.first().is_none_or(may_have_begun) {
                return Ok(None);
            }
            format!("task {} has not begun", TaskId { job, index })
        }
    };
    Ok(Some(format!("{what}; `phalanx explain {job}` says why")))
}

/// Whether the job has output at all, and such a task.
fn check(view: &JobView, task: Option<u64>) -> Result<(), CliError> {
    let job = view.job;
    if view.command.is_none() {
        return Err(
            CliError::usage(format!("job {job} calls a kernel, and keeps no output"))
                .hint(format!("`phalanx results {job}` prints what its tasks returned")),
        );
    }
    if let Some(task) = task.filter(|&task| task >= view.tasks) {
        let last = view.tasks.saturating_sub(1);
        return Err(CliError::usage(format!("job {job} has no task {task}"))
            .hint(format!("its tasks are {job}.0 to {job}.{last}")));
    }
    Ok(())
}

/// The next pause after a look that found something, or nothing.
pub(super) fn next_pause(pause: Duration, found: Rest) -> Duration {
    match found {
        Rest::Something => LOOK_PAUSE_MIN,
        Rest::Nothing | Rest::Ended => (pause * 2).min(LOOK_PAUSE_MAX),
    }
}
