//! `phalanx explain`: why a job is where it is.

use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, ExplanationShape};
use crate::ui::error::CliError;
use crate::ui::views::{explanation_text, verdict_text};

pub(super) async fn run(cluster: &Connected, job: JobId, ui: Ui) -> Result<ExitCode, CliError> {
    let explanation = cluster.client.explain(job).await?;
    let shape = ExplanationShape::new(&explanation, verdict_text(&explanation));
    ui.data(&Document::new(Content::Explanation(shape)), |style| {
        explanation_text(&explanation, style)
    })?;
    Ok(ExitCode::Success)
}
