//! `phalanx explain`: why a job is where it is, or one of its tasks.

use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::targets::Target;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, ExplanationShape};
use crate::ui::error::CliError;
use crate::ui::views::explanation_text;
use crate::ui::views::idle::{job_text, task_text};

pub(super) async fn run(cluster: &Connected, target: Target, ui: Ui) -> Result<ExitCode, CliError> {
    let Target { job, tasks } = target;
    if tasks.is_some_and(|tasks| tasks.len() > 1) {
        return Err(CliError::usage("one task is explained at a time").hint("write its index, as in 42.7"));
    }
    let explanation = cluster.client.explain(job).await?;
    let task = match tasks {
        None => None,
        Some(tasks) => {
            let page = cluster.client.tasks(job, tasks).await?;
            let found = page.tasks.into_iter().next().ok_or_else(|| {
                let all = explanation.job.tasks;
                CliError::usage(format!("job {job} has no task {}: it has {all}", tasks.start))
                    .hint("its tasks are counted from 0")
            });
            Some(found?)
        }
    };
    let text = match &task {
        Some(task) => task_text(&explanation, task),
        None => job_text(&explanation),
    };
    let shape = ExplanationShape::new(&explanation, task.as_ref(), text.clone());
    ui.data(&Document::new(Content::Explanation(shape)), |style| {
        explanation_text(&explanation, text, style)
    })?;
    Ok(ExitCode::Success)
}
