//! `phalanx hold` and `phalanx release`: jobs that are not to go on for a while.

use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;

use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::error::CliError;

/// What is done to the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Hold,
    Release,
}

pub(super) async fn run(
    cluster: &Connected,
    jobs: &[JobId],
    hold: Hold,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    for &job in jobs {
        match hold {
            Hold::Hold => {
                cluster.client.hold(job).await?;
                ui.note(&format!(
                    "job {job} is held: what runs goes on, nothing more of it starts"
                ));
            }
            Hold::Release => {
                cluster.client.release(job).await?;
                ui.note(&format!("job {job} is released"));
            }
        }
    }
    Ok(ExitCode::Success)
}
