//! `phalanx wait`: follows jobs to their ends.

use phalanx::{Client, JobView, ProgressBar};
use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, JobShape};
use crate::ui::error::CliError;
use crate::ui::outcome::{outcome_error, outcome_text};

pub(super) async fn run(cluster: &Connected, jobs: &[JobId], ui: Ui) -> Result<ExitCode, CliError> {
    // a job that is not there is told before the others are waited for
    for &job in jobs {
        cluster.client.job(job).await?;
    }
    let mut views = Vec::new();
    for &job in jobs {
        views.push(wait(&cluster.client, job).await?);
    }
    let shapes = views.iter().map(JobShape::from).collect();
    ui.data(&Document::new(Content::Jobs(shapes)), |_| {
        views.iter().map(|view| outcome_text(view) + "\n").collect()
    })?;
    let mut worst = ExitCode::Success;
    for error in views.iter().filter_map(outcome_error) {
        ui.error(&error);
        if error.code().number() > worst.number() {
            worst = error.code();
        }
    }
    Ok(worst)
}

/// The job at its end.
async fn wait(client: &Client, job: JobId) -> Result<JobView, CliError> {
    let mut bar = ProgressBar::new();
    let mut watch = client.watch(job);
    let mut last = None;
    while let Some(view) = watch.next().await? {
        bar.update(&view);
        last = Some(view);
    }
    bar.clear();
    match last {
        Some(view) => Ok(view),
        None => Ok(client.job(job).await?),
    }
}
