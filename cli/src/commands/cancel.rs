//! `phalanx cancel`: ends jobs.

use phalanx::JobView;
use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::Outcome;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, JobShape};
use crate::ui::error::CliError;

pub(super) async fn run(cluster: &Connected, jobs: &[JobId], ui: Ui) -> Result<ExitCode, CliError> {
    let mut views = Vec::new();
    let mut failed: Option<CliError> = None;
    // one job that cannot be cancelled does not spare the others
    for &job in jobs {
        match cancel(cluster, job).await {
            Ok(view) => views.push(view),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    ui.error(&earlier);
                }
            }
        }
    }
    let shapes = views.iter().map(JobShape::from).collect();
    ui.data(&Document::new(Content::Jobs(shapes)), |_| {
        views.iter().map(|view| sentence(view) + "\n").collect()
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::Success),
    }
}

async fn cancel(cluster: &Connected, job: JobId) -> Result<JobView, CliError> {
    cluster.client.cancel(job).await?;
    Ok(cluster.client.job(job).await?)
}

fn sentence(view: &JobView) -> String {
    let job = view.job;
    match &view.outcome {
        Some(Outcome::Cancelled { .. }) => format!("job {job} is cancelled"),
        Some(_) => format!("job {job} was over already: it is {}", view.state()),
        None => format!("job {job} is being cancelled"),
    }
}
