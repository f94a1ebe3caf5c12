//! `phalanx job`: one job, whole.

use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use super::now_unix_millis;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use crate::ui::views::job_text;

pub(super) async fn run(cluster: &Connected, job: JobId, ui: Ui) -> Result<ExitCode, CliError> {
    let view = cluster.client.job(job).await?;
    ui.data(&Document::new(Content::Job((&view).into())), |style| {
        job_text(&view, now_unix_millis(), style)
    })?;
    Ok(ExitCode::Success)
}
