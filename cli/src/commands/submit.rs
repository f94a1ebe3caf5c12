//! `phalanx submit`: from a command line to a job.
//!
//! A [`Draft`] is checked here, without a cluster, so that a mistake costs nothing; [`Draft::send`] uploads and submits. There
//! are two kinds: [`kernel`] and [`command`]; their tasks' [`items`] are read alike.

pub(crate) mod command;
pub(crate) mod items;
mod kernel;

use phalanx::Client;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::{JobId, SubmissionId};

use crate::args::job::SubmitArguments;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use command::CommandDraft;
use kernel::KernelDraft;

/// A job that was checked as far as this machine can.
#[derive(Debug)]
pub(super) enum Draft {
    Kernel(Box<KernelDraft>),
    Command(Box<CommandDraft>),
}

pub(super) async fn run(cluster: &Connected, draft: Draft, ui: Ui) -> Result<ExitCode, CliError> {
    let job = draft.send(&cluster.client).await?;
    ui.data(&Document::new(Content::Submitted { job }), |_| job.to_string())?;
    Ok(ExitCode::Success)
}

impl Draft {
    /// Checks what can be checked without a cluster.
    pub(super) fn prepare(arguments: SubmitArguments) -> Result<Self, CliError> {
        Ok(match arguments.kernel.is_some() {
            true => Self::Kernel(Box::new(KernelDraft::prepare(arguments)?)),
            false => Self::Command(Box::new(CommandDraft::prepare(arguments)?)),
        })
    }

    /// Whether results of neighbours are merged.
    pub(super) fn reduces(&self) -> bool {
        match self {
            Self::Kernel(draft) => draft.reduces(),
            Self::Command(_) => false,
        }
    }

    /// Uploads what storage lacks and submits the job.
    pub(super) async fn send(&self, client: &Client) -> Result<JobId, CliError> {
        match self {
            Self::Kernel(draft) => draft.send(client).await,
            Self::Command(draft) => draft.send(client).await,
        }
    }
}

/// A name for one submission.
pub(crate) fn new_submission() -> Result<SubmissionId, CliError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        CliError::new(
            ExitCode::Internal,
            format!("the system gives no random bytes: {error}"),
        )
    })?;
    Ok(SubmissionId(u128::from_le_bytes(random)))
}
