//! `phalanx logs`: what a job's commands have printed.

use std::time::Duration;

use phalanx::JobView;
use phalanx_protocol::IndexRange;
use phalanx_protocol::command::facts;
use phalanx_protocol::exit::ExitCode;

use super::output::{OutputCopy, Rest, TaskCopy};
use super::run::{Follower, Until};
use crate::args::LogsArguments;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::error::CliError;

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
    let mut copy = OutputCopy::new(target.job, ui);
    let is_over = view.outcome.is_some();
    match target.task {
        Some(task) if arguments.follow && !is_over => {
            let follower = Follower::new(client, target.job);
            let mut one = TaskCopy {
                copy: &mut copy,
                task,
            };
            follower.one(&mut one, Until::AttemptEnds).await?;
        }
        None if arguments.follow && !is_over => {
            Follower::new(client, target.job)
                .each_as_it_ends(&mut copy)
                .await?;
        }
        Some(task) => copy.all(client, IndexRange::new(task, task + 1)).await?,
        None => copy.all(client, IndexRange::new(0, view.tasks)).await?,
    }
    Ok(ExitCode::Success)
}

/// Whether the job has output here at all.
fn check(view: &JobView, task: Option<u64>) -> Result<(), CliError> {
    let job = view.job;
    let Some(command) = &view.command else {
        return Err(
            CliError::usage(format!("job {job} calls a kernel, and keeps no output"))
                .hint(format!("`phalanx results {job}` prints what its tasks returned")),
        );
    };
    if let Some(output) = command.facts.get(facts::OUTPUT) {
        let directory = command.facts.get(facts::DIRECTORY).map_or("", String::as_str);
        let what = format!("the output of job {job} goes to files, not to the cluster's storage");
        return Err(CliError::usage(what).hint(format!("look at `{output}` in `{directory}`")));
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
