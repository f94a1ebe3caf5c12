//! `phalanx cancel`: ends jobs, or some of their tasks.

use phalanx::JobView;
use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::Outcome;

use crate::cluster::Connected;
use crate::targets::{Target, Tasks, by_job};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, JobShape};
use crate::ui::error::CliError;
use crate::ui::units::{count, counted};

pub(super) async fn run(cluster: &Connected, targets: &[Target], ui: Ui) -> Result<ExitCode, CliError> {
    let (mut views, mut sentences) = (Vec::new(), Vec::new());
    let mut failed: Option<CliError> = None;
    // one job that cannot be cancelled does not spare the others
    for (job, what) in by_job(targets) {
        match cancel(cluster, job, what).await {
            Ok((view, sentence)) => {
                views.push(view);
                sentences.push(sentence + "\n");
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    ui.error(&earlier);
                }
            }
        }
    }
    let shapes = views.iter().map(JobShape::from).collect();
    ui.data(&Document::new(Content::Jobs(shapes)), |_| sentences.concat())?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::Success),
    }
}

/// What is said of the job afterwards, too.
async fn cancel(cluster: &Connected, job: JobId, what: Tasks) -> Result<(JobView, String), CliError> {
    let client = &cluster.client;
    match what {
        Tasks::All => {
            client.cancel(job).await?;
            let view = client.job(job).await?;
            let sentence = sentence(&view);
            Ok((view, sentence))
        }
        Tasks::These(tasks) => {
            let asked = tasks.len();
            let cancelled = client.cancel_tasks(job, tasks).await?;
            let sentence = tasks_sentence(job, asked, cancelled);
            Ok((client.job(job).await?, sentence))
        }
    }
}

fn tasks_sentence(job: JobId, asked: u64, cancelled: u64) -> String {
    let tasks = |count: u64| (counted(count, "task"), if count == 1 { "is" } else { "are" });
    let (these, verb) = tasks(cancelled);
    match (cancelled, asked - cancelled.min(asked)) {
        (0, over) => {
            let (these, _) = tasks(over);
            let had = if over == 1 { "it had" } else { "they had" };
            format!("job {job}: {these}, but {had} ended already")
        }
        (_, 0) => format!("job {job}: {these} {verb} cancelled"),
        (_, over) => format!(
            "job {job}: {these} {verb} cancelled, {} had ended already",
            count(over)
        ),
    }
}

fn sentence(view: &JobView) -> String {
    let job = view.job;
    match &view.outcome {
        Some(Outcome::Cancelled { .. }) => format!("job {job} is cancelled"),
        Some(_) => format!("job {job} was over already: it is {}", view.state()),
        None => format!("job {job} is being cancelled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_tasks_were_still_to_be_cancelled_is_told() {
        let said = |asked, cancelled| tasks_sentence(JobId(42), asked, cancelled);
        assert_eq!(said(1, 1), "job 42: 1 task is cancelled");
        assert_eq!(said(10, 7), "job 42: 7 tasks are cancelled, 3 had ended already");
        assert_eq!(said(1, 0), "job 42: 1 task, but it had ended already");
        assert_eq!(said(2, 0), "job 42: 2 tasks, but they had ended already");
    }
}
