//! `phalanx requeue`: starts jobs, or some of their tasks, from the top.

use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::targets::{Target, Tasks, by_job};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, RequeuedShape};
use crate::ui::error::CliError;
use crate::ui::units::counted;

pub(super) async fn run(cluster: &Connected, targets: &[Target], ui: Ui) -> Result<ExitCode, CliError> {
    let mut requeued = Vec::new();
    let mut failed: Option<CliError> = None;
    // one job that cannot be requeued does not spare the others
    for (job, what) in by_job(targets) {
        let tasks = match what {
            Tasks::All => None,
            Tasks::These(tasks) => Some(tasks),
        };
        match cluster.client.requeue(job, tasks).await {
            Ok(tasks) => requeued.push(RequeuedShape { job, tasks }),
            Err(error) => {
                if let Some(earlier) = failed.replace(error.into()) {
                    ui.error(&earlier);
                }
            }
        }
    }
    let text: String = requeued
        .iter()
        .map(|done| sentence(done.job, done.tasks))
        .collect();
    ui.data(&Document::new(Content::Requeued(requeued)), |_| text)?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::Success),
    }
}

fn sentence(job: JobId, tasks: u64) -> String {
    let verb = if tasks == 1 { "starts" } else { "start" };
    format!("job {job}: {} {verb} from the top\n", counted(tasks, "task"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_and_several_are_told_as_people_would() {
        assert_eq!(sentence(JobId(42), 1), "job 42: 1 task starts from the top\n");
        assert_eq!(sentence(JobId(42), 3), "job 42: 3 tasks start from the top\n");
    }
}
