//! Ctrl-C from before a job is submitted until its end: none is lost in between, or the job would go on with nobody there.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use phalanx_protocol::exit::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ui::Ui;
use crate::ui::error::CliError;

/// The interrupts of a command that waits for what it submits. The first asks to cancel it, the second to leave, unless a
/// program is to have them: [`crate::commands::run`].
#[derive(Debug)]
pub(crate) struct Interrupts {
    streams: Vec<Signal>,
    /// One came that nobody has obeyed yet.
    is_pending: bool,
}

impl Interrupts {
    /// Begins to listen; a tokio runtime must be there. To be called before anything is submitted.
    pub(crate) fn listen() -> Result<Self, CliError> {
        Self::listen_to(&[SignalKind::interrupt()])
    }

    /// The same where the command stands for what it started, as one that is not submitted would: whoever ends the command, as
    /// `timeout` does, or closes its terminal, interrupts it.
    pub(crate) fn listen_to_all() -> Result<Self, CliError> {
        Self::listen_to(&[
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ])
    }

    fn listen_to(kinds: &[SignalKind]) -> Result<Self, CliError> {
        let streams: Result<Vec<Signal>, _> = kinds.iter().map(|kind| signal(*kind)).collect();
        let streams = streams.map_err(|error| {
            CliError::new(ExitCode::Internal, format!("cannot listen to signals: {error}"))
        })?;
        Ok(Self {
            streams,
            is_pending: false,
        })
    }

    /// Waits for a signal. Cancel safe.
    async fn signalled(&mut self) {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            match streams.any(|stream| stream.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Waits for the answer to a submission. One interrupt is kept for whoever can obey it then, the second leaves.
    ///
    /// # Errors
    /// That of the submission, or the user has left.
    pub(crate) async fn while_submitting<T>(
        &mut self,
        submission: impl Future<Output = Result<T, CliError>>,
        ui: Ui,
    ) -> Result<T, CliError> {
        let mut submission = pin!(submission);
        loop {
            tokio::select! {
                answer = &mut submission => return answer,
                () = self.signalled() => {
                    if self.is_pending {
                        ui.note("left before the submission was answered; `phalanx jobs` tells what became of it");
                        return Err(CliError::silent(ExitCode::Interrupted));
                    }
                    self.is_pending = true;
                    ui.note("what is being submitted will be cancelled; Ctrl-C again leaves at once");
                }
            }
        }
    }

    /// Whether one came while the submission was not answered, and [`Self::next`] returns at once.
    pub(crate) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        if !std::mem::take(&mut self.is_pending) {
            self.signalled().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Kind, getpid, kill_process};

    use super::*;
    use crate::args::OutputForm;

    /// One test, since all tests of a process may share its signals.
    #[tokio::test]
    async fn an_interrupt_during_a_submission_is_obeyed_after_it_and_a_second_leaves() {
        let ui = Ui::new(OutputForm::Human);
        let mut interrupts = Interrupts::listen().unwrap();
        let interrupt = || kill_process(getpid(), Kind::INT).unwrap();
        let mut own = signal(SignalKind::interrupt()).unwrap();
        // lets the other listener have it, too, whichever is asked first
        let let_hear = async || {
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        };
        let answered = interrupts.while_submitting(
            async {
                interrupt();
                own.recv().await;
                let_hear().await;
                Ok(7)
            },
            ui,
        );
        assert_eq!(answered.await, Ok(7));
        assert!(interrupts.is_pending());
        interrupts.next().await;
        assert!(!interrupts.is_pending());

        let never = async {
            interrupt();
            own.recv().await;
            let_hear().await;
            interrupt();
            std::future::pending::<Result<(), CliError>>().await
        };
        let left = interrupts.while_submitting(never, ui).await.unwrap_err();
        assert_eq!(left.code(), ExitCode::Interrupted);
    }
}
