//! `phalanx workers`: who offers what.

use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, WorkerShape};
use crate::ui::error::CliError;
use crate::ui::views::workers_table;

pub(super) async fn run(cluster: &Connected, ui: Ui) -> Result<ExitCode, CliError> {
    let workers = cluster.client.workers().await?;
    let shapes = workers.iter().map(WorkerShape::from).collect();
    ui.data(&Document::new(Content::Workers(shapes)), |style| {
        match workers.is_empty() {
            true => String::new(),
            false => workers_table(&workers, style),
        }
    })?;
    if workers.is_empty() && !ui.is_json() {
        ui.note("no worker has joined; `phalanx worker` starts one");
    }
    Ok(ExitCode::Success)
}
