//! `phalanx submit`: from a command line, or a file of jobs, to jobs.
//!
//! A [`Draft`] is checked here, without a cluster, so that a mistake costs nothing; [`Draft::send`] uploads and submits. There
//! are two kinds: [`kernel`] and [`command`]; their tasks' [`items`] are read alike. [`several`] has those of a file.

pub(crate) mod absent;
pub(crate) mod command;
pub(crate) mod items;
mod kernel;
pub(super) mod several;

use jiff::Zoned;
use phalanx::Client;
use phalanx_protocol::dependency::{Condition, Dependency, Joined};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::{JobId, Request, SubmissionId, WorkerChoice};

use crate::args::job::SubmitArguments;
use crate::args::waiting::condition_text;
use crate::batch::begin::Begin;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, DraftShape};
use crate::ui::error::CliError;
use crate::ui::views::drafts_table;
use command::CommandDraft;
use kernel::KernelDraft;

/// A job that was checked as far as this machine can.
#[derive(Debug)]
pub(super) enum Draft {
    Kernel(Box<KernelDraft>),
    Command(Box<CommandDraft>),
}

pub(super) async fn run(cluster: &Connected, draft: Draft, ui: Ui) -> Result<ExitCode, CliError> {
    if let Draft::Command(command) = &draft
        && command.is_labelled
    {
        let what = "`submit` shows no output that could be labelled";
        return Err(CliError::usage(what).hint("leave --label out, or use `phalanx run`"));
    }
    if let Draft::Command(command) = &draft
        && let Some(option) = command.printing.given()
    {
        let what = format!("`submit` shows no output, and {option} has no meaning there");
        return Err(CliError::usage(what).hint(format!("leave {option} out, or use `phalanx run`")));
    }
    let job = draft.send(&cluster.client).await?;
    if let Some(absence) = absent::absence(&cluster.client, &draft.choice()).await? {
        ui.note(&absence);
    }
    ui.data(&Document::new(Content::Submitted { job }), |_| job.to_string())?;
    Ok(ExitCode::Success)
}

/// Says what would be submitted.
pub(super) fn describe(drafts: &[DraftShape], ui: Ui) -> Result<ExitCode, CliError> {
    ui.data(&Document::new(Content::WouldSubmit(drafts)), |style| {
        drafts_table(drafts, style)
    })?;
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

    /// Has it wait for this, held or not.
    fn set_waiting(&mut self, dependency: Option<Dependency>, held: bool) {
        match self {
            Self::Kernel(draft) => (draft.dependency, draft.held) = (dependency, held),
            Self::Command(draft) => (draft.spec.dependency, draft.spec.held) = (dependency, held),
        }
    }

    /// What it waits for of jobs that the cluster has.
    fn conditions(&self) -> &[Condition] {
        self.dependency().map_or(&[], |dependency| &dependency.conditions)
    }

    fn dependency(&self) -> Option<&Dependency> {
        match self {
            Self::Kernel(draft) => draft.dependency.as_ref(),
            Self::Command(draft) => draft.spec.dependency.as_ref(),
        }
    }

    /// Which workers it may run on.
    fn choice(&self) -> WorkerChoice {
        match self {
            Self::Kernel(draft) => draft.choice(),
            Self::Command(draft) => draft.spec.choice.clone(),
        }
    }

    /// What each task may need instead of what it needs first.
    fn alternatives(&self) -> Vec<Request> {
        match self {
            Self::Kernel(draft) => draft.alternatives(),
            Self::Command(draft) => draft.spec.alternatives.clone(),
        }
    }

    /// What people and programs are told of it before it is submitted.
    pub(super) fn shape(&self) -> DraftShape {
        let (name, runs, tasks, request) = match self {
            Self::Kernel(draft) => (draft.name(), draft.kernel(), draft.tasks(), draft.request()),
            Self::Command(draft) => (
                draft.spec.name.as_str(),
                draft.spec.work.label(),
                draft.tasks(),
                draft.spec.request.clone(),
            ),
        };
        DraftShape {
            name: name.to_owned(),
            runs: runs.to_owned(),
            tasks,
            request,
            alternatives: self.alternatives(),
            waits_for: self.conditions().iter().map(condition_text).collect(),
            any_of: (self.dependency()).is_some_and(|dependency| dependency.joined == Joined::Any),
        }
    }
}

/// The moment from which a job may start, in milliseconds since 1970, by this machine's clock and time zone.
pub(crate) fn begin_unix_millis(begin: Begin) -> Result<u64, CliError> {
    let moment = begin.moment(&Zoned::now());
    let moment = moment.map_err(|error| CliError::from_chain(ExitCode::Usage, &error))?;
    // what is before 1970 is past all the same
    Ok(u64::try_from(moment.as_millisecond()).unwrap_or(0))
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
