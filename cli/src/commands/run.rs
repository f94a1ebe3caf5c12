//! `phalanx run`: submits a job, shows its progress, prints its results or its output, and answers for its end.

mod follower;
pub(crate) mod input;
mod lines;
mod live;
mod ranks;
mod reason;
mod wish;

use phalanx::{Client, ClientError, JobView, ProgressBar, ResultEvent};
use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;
use tokio::task::JoinHandle;

use super::results::ResultWriter;
use super::submit::Draft;
use super::submit::command::CommandDraft;
use crate::cluster::Connected;
use crate::interrupts::Interrupts;
use crate::ui::error::CliError;
use crate::ui::outcome::{outcome_error, outcome_text};
use crate::ui::{DataStream, Ui};

use input::Input;

pub(super) use follower::{Follower, Until};
pub(super) use live::LiveCopy;

/// Copies what the one command of a job prints, sends it what it is to read, and ends as it ends.
pub(crate) async fn follow_command(
    client: &Client,
    job: JobId,
    input: Option<Input>,
    interrupts: Interrupts,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let manner = follower::Manner {
        is_single: true,
        ranks: None,
        is_live: false,
        explains: false,
        passes_interrupts: false,
    };
    follower::run(client, job, manner, input, interrupts, ui).await
}

/// Submits a gang, copies what all of its ranks print, sends the first what it is to read, and ends as the first that fails.
pub(crate) async fn run_ranks(
    client: &Client,
    draft: &CommandDraft,
    takes_input: bool,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let mut interrupts = Interrupts::listen_to_all()?;
    let job = interrupts.while_submitting(draft.send(client), ui).await?;
    let input = takes_input.then(Input::start);
    let manner = follower::Manner {
        is_single: true,
        ranks: ranks_of(draft),
        is_live: false,
        explains: true,
        passes_interrupts: false,
    };
    follower::run(client, job, manner, input, interrupts, ui).await
}

fn ranks_of(draft: &CommandDraft) -> Option<follower::Ranks> {
    draft.ranks().map(|count| follower::Ranks {
        count,
        are_labelled: draft.is_labelled,
    })
}

pub(super) async fn run(cluster: &Connected, mut draft: Draft, ui: Ui) -> Result<ExitCode, CliError> {
    let mut interrupts = Interrupts::listen()?;
    if let Draft::Command(command) = &mut draft {
        let is_single = command.is_single();
        let takes_input = command.takes_input() && input::is_there();
        if takes_input {
            command.stream_input();
        }
        let ranks = ranks_of(command);
        let is_live = command.printing.is_live(ui);
        // else what an interrupt has ended would begin again
        let passes_interrupts = is_single && !command.repeats_errors();
        let job = interrupts
            .while_submitting(draft.send(&cluster.client), ui)
            .await?;
        let input = takes_input.then(Input::start);
        let manner = follower::Manner {
            is_single,
            ranks,
            is_live,
            explains: true,
            passes_interrupts,
        };
        return follower::run(&cluster.client, job, manner, input, interrupts, ui).await;
    }
    let reduces = draft.reduces();
    let job = interrupts
        .while_submitting(draft.send(&cluster.client), ui)
        .await?;
    let writer = ResultWriter {
        job,
        is_json: ui.is_json(),
        reduces,
    };
    let mut screen = Screen::new(ui);
    let followed = follow(&cluster.client, job, writer, interrupts, &mut screen).await;
    screen.bar.clear();
    let view = match followed {
        Ok(view) => view,
        Err(error) => {
            // nobody is left to read the results; what is asked for is known to be wanted by nobody else
            if error.code() == ExitCode::Success {
                cluster.client.cancel(job).await?;
            }
            return Err(error);
        }
    };
    match outcome_error(&view) {
        Some(error) => Err(error),
        None => {
            ui.note(&outcome_text(&view));
            Ok(ExitCode::Success)
        }
    }
}

/// Follows a job to its end. The first Ctrl-C cancels it, the second leaves.
async fn follow(
    client: &Client,
    job: JobId,
    writer: ResultWriter,
    mut interrupts: Interrupts,
    screen: &mut Screen,
) -> Result<JobView, CliError> {
    let mut results = client.results(job, true);
    let mut watch = client.watch(job);
    let mut is_watching = true;
    let mut is_asked = false;
    let mut cancelling = None;
    let mut reason = std::pin::pin!(reason::of(client, job));
    let mut is_explained = false;
    loop {
        tokio::select! {
            event = results.next() => match event? {
                Some(ResultEvent::Ended(view)) => return Ok(view),
                Some(event) => screen.data(&writer.text(&event)?)?,
                None => return Ok(client.job(job).await?),
            },
            view = watch.next(), if is_watching => match view? {
                Some(view) => screen.bar.update(&view),
                None => is_watching = false,
            },
            told = &mut reason, if !is_explained => {
                is_explained = true;
                if let Some(text) = told {
                    screen.say(&text);
                }
            }
            () = interrupts.next() => {
                if is_asked {
                    screen.bar.clear();
                    screen.ui.note(&format!("left; `phalanx job {job}` tells what became of it"));
                    return Err(CliError::silent(ExitCode::Interrupted));
                }
                screen.say(&format!("cancelling job {job}; Ctrl-C again leaves at once"));
                is_asked = true;
                let client = client.clone();
                cancelling = Some(tokio::spawn(async move { client.cancel(job).await }));
            }
            refused = cancelled(&mut cancelling) => refused?,
        }
    }
}

/// Waits for the answer to a cancellation that was asked for; the job's end follows by itself. Cancel safe.
async fn cancelled(cancelling: &mut Option<JoinHandle<Result<(), ClientError>>>) -> Result<(), CliError> {
    let Some(asked) = cancelling else {
        return std::future::pending().await;
    };
    let answer = asked.await;
    *cancelling = None;
    match answer {
        Ok(answer) => Ok(answer?),
        Err(error) => Err(CliError::from_chain(ExitCode::Internal, &error)),
    }
}

/// Progress on stderr and data on stdout, which may be the same terminal.
struct Screen {
    ui: Ui,
    bar: ProgressBar,
    stream: DataStream,
    /// Data goes above the bar, or the two would overwrite each other.
    shares_terminal: bool,
}

impl Screen {
    fn new(ui: Ui) -> Self {
        Self {
            ui,
            bar: ProgressBar::new(),
            stream: ui.stream(),
            shares_terminal: ui.shares_terminal(),
        }
    }

    fn data(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        if self.shares_terminal {
            self.bar.print_above(text.trim_end_matches('\n'));
            return Ok(());
        }
        self.stream.write(text.as_bytes())?;
        self.stream.flush()
    }

    fn say(&self, text: &str) {
        match self.shares_terminal {
            true => self.bar.print_above(text),
            false => self.ui.note(text),
        }
    }
}
