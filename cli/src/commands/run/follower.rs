//! Follows a job of commands: its output as it comes, and its end.

use std::pin::pin;
use std::time::Duration;

use phalanx::{Client, ClientError, JobView, ResultEvent};
use phalanx_protocol::command::{Recipients, TaskSignal};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::limits::COMMAND_GRACE_MILLIS_MAX;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{FailureCause, Outcome, TaskFailure};
use phalanx_protocol::{JobId, RangeSet};
use rustix::process::Signal;
use tokio::time::Instant;

use super::super::logs::{LOOK_PAUSE_MIN, next_pause};
use super::super::output::{Copied, Followed, OutputCopy, Rest, TaskCopy};
use super::input::Input;
use super::live::LiveCopy;
use super::ranks::RanksCopy;
use super::reason;
use super::wish::{AGAIN_WITHIN, Wish, Wishes};
use crate::interrupts::Interrupts;
use crate::ui::Ui;
use crate::ui::error::CliError;
use crate::ui::outcome::{outcome_error, outcome_text};

/// How long a program that was told to end may still be copied: its longest grace, and a moment.
pub(super) const LAST_WORDS_MAX: Duration = Duration::from_millis(COMMAND_GRACE_MILLIS_MAX + 1_000);

/// The way to a job's end.
#[derive(Debug)]
pub(in crate::commands) struct Follower<'a> {
    client: &'a Client,
    job: JobId,
}

/// How a job is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// It is one command, whose end is this one's.
    pub(super) is_single: bool,
    /// Ranks, of which all are followed at once.
    pub(super) ranks: Option<Ranks>,
    /// Of several tasks, lines are copied as they come; else what each has printed once it has ended.
    pub(super) is_live: bool,
    /// Tells why it does not begin, if it does not.
    pub(super) explains: bool,
    /// Interrupts go to the program, unless they come so fast that they are meant for the job.
    pub(super) passes_interrupts: bool,
}

/// The ranks of a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ranks {
    pub(super) count: u64,
    /// Each of their lines begins with their number.
    pub(super) are_labelled: bool,
}

/// Copies the job's output, sends it its input, and ends as it ends. What Ctrl-C asks for, [`Wishes`] knows.
pub(super) async fn run(
    client: &Client,
    job: JobId,
    manner: Manner,
    mut input: Option<Input>,
    mut interrupts: Interrupts,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let Manner {
        is_single, explains, ..
    } = manner;
    // what came before there was a program was not meant for it
    let mut wishes = Wishes::new(manner.passes_interrupts && !interrupts.is_pending());
    let mut followed = pin!(copied(client, job, manner, ui));
    let mut sent = pin!(async {
        match &mut input {
            Some(input) => input.send(client, job).await,
            None => Ok(()),
        }
    });
    let mut reason = pin!(reason::of(client, job));
    let mut is_explained = !explains;
    let mut is_sent = false;
    let view = loop {
        tokio::select! {
            view = &mut followed => break view,
            done = &mut sent, if !is_sent => {
                is_sent = true;
                if let Err(error) = done {
                    // it would wait for the rest for ever, or take what it has for all
                    client.cancel(job).await?;
                    return Err(error);
                }
            }
            told = &mut reason, if !is_explained => {
                is_explained = true;
                if let Some(text) = told {
                    ui.note(&text);
                }
            }
            () = interrupts.next() => tokio::select! {
                done = obey(&mut wishes, client, job, ui) => done?,
                // the cluster does not answer
                () = interrupts.next() => return Err(left(job, ui)),
            },
        }
    };
    let view = match view {
        Ok(view) => view,
        Err(error) => {
            // nobody is left to read the output; what is asked for is known to be wanted by nobody else
            if error.code() == ExitCode::Success {
                client.cancel(job).await?;
            }
            return Err(error);
        }
    };
    match (outcome_error(&view), is_single) {
        (None, true) => Ok(ExitCode::Success),
        (None, false) => {
            ui.note(&outcome_text(&view));
            Ok(ExitCode::Success)
        }
        (Some(_), true) if wishes.was_passed() && is_interrupted(&view) => {
            Err(CliError::silent(ExitCode::Interrupted))
        }
        (Some(error), true) => Err(single_error(&view).unwrap_or(error)),
        (Some(error), false) => Err(error),
    }
}

/// Does what an interrupt asks for.
///
/// # Errors
/// That of the cluster, or the user has left.
async fn obey(wishes: &mut Wishes, client: &Client, job: JobId, ui: Ui) -> Result<(), CliError> {
    let mut wish = wishes.next(Instant::now());
    if wish == Wish::Pass {
        let interrupt = TaskSignal {
            number: Signal::INT.as_raw(),
            recipients: Recipients::All,
        };
        match client.signal(job, None, interrupt).await {
            Ok(()) => {
                let seconds = AGAIN_WITHIN.as_secs();
                ui.note(&format!(
                    "sent to the program; Ctrl-C again within {seconds} s cancels job {job}"
                ));
            }
            // it has just ended, which is about to be told
            Err(ClientError::Refused(Refusal::Over(_))) => {}
            Err(ClientError::Refused(Refusal::NothingRuns { .. })) => wish = wishes.cancel(),
            Err(error) => return Err(error.into()),
        }
    }
    match wish {
        Wish::Pass => Ok(()),
        Wish::Cancel => {
            ui.note(&format!("cancelling job {job}; Ctrl-C again leaves at once"));
            Ok(client.cancel(job).await?)
        }
        Wish::Leave => Err(left(job, ui)),
    }
}

/// The user waits no longer.
fn left(job: JobId, ui: Ui) -> CliError {
    ui.note(&format!("left; `phalanx job {job}` tells what became of it"));
    CliError::silent(ExitCode::Interrupted)
}

/// Copies the job's output to its end.
async fn copied(client: &Client, job: JobId, manner: Manner, ui: Ui) -> Result<JobView, CliError> {
    let follower = Follower::new(client, job);
    if let Some(Ranks { count, are_labelled }) = manner.ranks {
        let mut ranks = RanksCopy::new(job, count, are_labelled, ui);
        let view = follower.one(&mut ranks, Until::JobEnds).await?;
        ranks.finish()?;
        return Ok(view);
    }
    if manner.is_live && !manner.is_single {
        let tasks = client.job(job).await?.tasks;
        return LiveCopy::new(client, job, tasks, ui).run().await;
    }
    let mut copy = OutputCopy::new(job, ui);
    match manner.is_single {
        true => {
            let mut only = TaskCopy {
                copy: &mut copy,
                task: 0,
            };
            follower.one(&mut only, Until::JobEnds).await
        }
        false => follower.each_as_it_ends(&mut copy).await,
    }
}

/// Whether an interrupt has ended the command.
fn is_interrupted(view: &JobView) -> bool {
    let interrupt = FailureCause::Signal(Signal::INT.as_raw() as u8);
    let first = view.first_failures.first();
    view.outcome == Some(Outcome::Failed) && first.is_some_and(|failure| failure.cause == interrupt)
}

/// The end of a command as its own: its exit code, and no more words than it takes.
fn single_error(view: &JobView) -> Option<CliError> {
    let failure = view
        .first_failures
        .first()
        .filter(|_| view.outcome == Some(Outcome::Failed))?;
    let code = match failure.cause {
        FailureCause::Exit(status) => status,
        FailureCause::Signal(signal) => 128_u8.saturating_add(signal),
        FailureCause::Error
        | FailureCause::Panic
        | FailureCause::Input
        | FailureCause::Result
        | FailureCause::Crash
        | FailureCause::TimeLimit
        | FailureCause::Memory
        | FailureCause::Lost => return None,
    };
    // what a program exits with is its own affair, and mostly told by itself
    Some(match (failure.cause, failure.message.is_empty()) {
        (FailureCause::Exit(_), true) => CliError::silent(ExitCode::Command(code)),
        (cause @ FailureCause::Signal(_), false) => {
            let what = format!("job {}: {cause} ({})", view.job, failure.message);
            CliError::new(ExitCode::Command(code), what)
        }
        (_, false) => CliError::new(ExitCode::Command(code), failure.message.clone()),
        (cause, true) => CliError::new(ExitCode::Command(code), format!("job {}: {cause}", view.job)),
    })
}

/// How long one task is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Until {
    JobEnds,
    AttemptEnds,
}

impl<'a> Follower<'a> {
    pub(in crate::commands) fn new(client: &'a Client, job: JobId) -> Self {
        Self { client, job }
    }

    /// Copies what is written, while it is, up to the end of the job, or of the attempt at the task if that is enough.
    pub(in crate::commands) async fn one(
        &self,
        copy: &mut impl Followed,
        until: Until,
    ) -> Result<JobView, CliError> {
        let mut watch = self.client.watch(self.job);
        let mut last = None;
        let mut pause = LOOK_PAUSE_MIN;
        loop {
            tokio::select! {
                view = watch.next() => match view? {
                    Some(view) => last = Some(view),
                    None => break,
                },
                () = tokio::time::sleep(pause) => {
                    let found = copy.more(self.client).await?;
                    if found == Rest::Ended && until == Until::AttemptEnds {
                        break;
                    }
                    pause = next_pause(pause, found);
                }
            }
        }
        // what was ended by force may still have its last words; nobody waits for a worker that does not come back
        let deadline = Instant::now() + LAST_WORDS_MAX;
        loop {
            match copy.more(self.client).await? {
                Rest::Ended => break,
                Rest::Nothing if !copy.has_begun() || Instant::now() > deadline => break,
                Rest::Nothing => tokio::time::sleep(LOOK_PAUSE_MIN).await,
                Rest::Something => {}
            }
        }
        match last {
            Some(view) => Ok(view),
            None => Ok(self.client.job(self.job).await?),
        }
    }

    /// Copies what each task has written once it has ended, in the order in which they end.
    pub(in crate::commands) async fn each_as_it_ends(
        &self,
        copy: &mut impl Copied,
    ) -> Result<JobView, CliError> {
        let mut results = self.client.results(self.job, false);
        while let Some(event) = results.next().await? {
            match event {
                ResultEvent::Block { keep, .. } | ResultEvent::NoResults(keep) => {
                    for range in keep {
                        copy.all(self.client, range).await?;
                    }
                }
                ResultEvent::Failed(failures) => {
                    // many fail together, and each question takes its time
                    let failed: RangeSet = failures.iter().map(TaskFailure::range).collect();
                    for range in failed.iter() {
                        copy.all(self.client, range).await?;
                    }
                }
                ResultEvent::Ended(view) => return Ok(view),
            }
        }
        Ok(self.client.job(self.job).await?)
    }
}
