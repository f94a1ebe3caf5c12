//! `phalanx retry`: runs the failed tasks of a job again.

use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use crate::ui::units::counted;

pub(super) async fn run(cluster: &Connected, job: JobId, ui: Ui) -> Result<ExitCode, CliError> {
    let tasks = cluster.client.retry(job).await?;
    ui.data(&Document::new(Content::Reopened { job, tasks }), |_| {
        sentence(job, tasks)
    })?;
    Ok(ExitCode::Success)
}

fn sentence(job: JobId, tasks: u64) -> String {
    let verb = if tasks == 1 { "runs" } else { "run" };
    format!("job {job}: {} {verb} again", counted(tasks, "task"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_and_several_are_told_as_people_would() {
        assert_eq!(sentence(JobId(42), 1), "job 42: 1 task runs again");
        assert_eq!(sentence(JobId(42), 3), "job 42: 3 tasks run again");
    }
}
