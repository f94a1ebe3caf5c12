//! `phalanx worker drain`: has a worker finish what runs and leave.

use std::time::Duration;

use phalanx_protocol::WorkerId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;

/// How often is looked whether the worker is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(in crate::commands) async fn run(
    cluster: &Connected,
    worker: WorkerId,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    cluster.client.drain(worker).await?;
    ui.note(&format!("worker {worker} drains; Ctrl-C leaves it at that"));
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        let workers = cluster.client.workers().await?;
        if workers.iter().all(|view| view.worker != worker) {
            break;
        }
    }
    let document = Document::new(Content::Drained {
        worker: worker.to_string(),
    });
    ui.data(&document, |_| format!("worker {worker} has left"))?;
    Ok(ExitCode::Success)
}
