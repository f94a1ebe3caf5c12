//! `phalanx signal`: sends a signal to what runs of jobs.

use phalanx_protocol::JobId;
use phalanx_protocol::command::{Recipients, TaskSignal};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::signal;

use crate::args::SignalArguments;
use crate::cluster::Connected;
use crate::targets::{Tasks, by_job};
use crate::ui::Ui;
use crate::ui::error::CliError;

pub(super) async fn run(
    cluster: &Connected,
    arguments: &SignalArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let signal = TaskSignal {
        number: arguments.signal,
        recipients: match arguments.leader {
            true => Recipients::Leader,
            false => Recipients::All,
        },
    };
    let mut failed: Option<CliError> = None;
    // one job that takes none does not spare the others
    for (job, what) in by_job(&arguments.targets) {
        let (tasks, whose) = match what {
            Tasks::All => (None, "what runs of it"),
            Tasks::These(tasks) => (Some(tasks), "what runs of these tasks"),
        };
        match cluster.client.signal(job, tasks, signal).await {
            Ok(()) => ui.note(&sentence(job, signal.number, whose)),
            Err(error) => {
                if let Some(earlier) = failed.replace(error.into()) {
                    ui.error(&earlier);
                }
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::Success),
    }
}

fn sentence(job: JobId, number: i32, whose: &str) -> String {
    let name = signal::name(number).unwrap_or_else(|| number.to_string());
    format!("job {job}: {whose} was sent {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_by_its_name() {
        let said = sentence(JobId(42), 10, "what runs of it");
        assert_eq!(said, "job 42: what runs of it was sent SIGUSR1");
    }
}
