//! Where a program that uses this crate begins: as a kernel host if a worker started it, else as the driver.

use std::error::Error;
use std::fmt::Debug;
use std::os::fd::AsFd;
use std::process::ExitCode;

use phalanx_protocol::message::host::HOST_FD_VARIABLE;
use rustix::fs::FileType;

use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::host;

/// What the user's `main` takes.
pub trait Argument: Sized {
    /// Gets it.
    ///
    /// # Errors
    /// Why there is none.
    fn obtain() -> Result<Self, Box<dyn Error>>;
}

impl Argument for () {
    fn obtain() -> Result<Self, Box<dyn Error>> {
        Ok(())
    }
}

impl Argument for Cluster {
    fn obtain() -> Result<Self, Box<dyn Error>> {
        Ok(Self::connect_or_embedded()?)
    }
}

/// Runs `body`, which calls the user's `main`, unless a worker started this process to host kernels.
pub fn start<A: Argument>(body: impl FnOnce(A) -> ExitCode) -> ExitCode {
    if let Some(descriptor) = std::env::var_os(HOST_FD_VARIABLE)
        && stdin_is_socket()
    {
        return match host::run_process(&descriptor) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print_error(&error),
        };
    }
    match A::obtain() {
        Ok(argument) => body(argument),
        Err(error) => print_error(error.as_ref()),
    }
}

/// Whether standard input is a socket, as a worker passes it. What a kernel starts inherits the variable, not the socket.
fn stdin_is_socket() -> bool {
    rustix::fs::fstat(std::io::stdin().as_fd())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// An error that the user's `main` returned. The expansion of [`macro@crate::main`] calls `print` on it, and the
/// compiler picks the first of three that fits the error's type: the method below, [`PrintAsError`], [`PrintAsDebug`].
#[derive(Debug)]
pub struct Failure<E>(pub E);

impl Failure<Box<dyn Error + Send + Sync>> {
    /// Prints the error and its causes.
    pub fn print(self) -> ExitCode {
        print_error(self.0.as_ref())
    }
}

/// Prints what can be turned into an error: errors, boxed ones, texts.
pub trait PrintAsError {
    /// Prints the error and its causes.
    fn print(self) -> ExitCode;
}

impl<E: Into<Box<dyn Error>>> PrintAsError for Failure<E> {
    fn print(self) -> ExitCode {
        let error: Box<dyn Error> = self.0.into();
        print_error(error.as_ref())
    }
}

/// Prints anything else that a `main` may return.
pub trait PrintAsDebug {
    /// Prints the value.
    fn print(self) -> ExitCode;
}

impl<E: Debug> PrintAsDebug for &Failure<E> {
    fn print(self) -> ExitCode {
        print_text(&format!("error: {:?}", self.0))
    }
}

fn print_error(error: &(dyn Error + 'static)) -> ExitCode {
    print_text(&error_text(error))
}

#[expect(
    clippy::print_stderr,
    reason = "the program's edge: there is nobody above to report to"
)]
fn print_text(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// `error: what happened`, a line for each cause that the line above does not tell already, and the next step if one of
/// them knows it.
fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut hint = hint_of(error);
    let mut last = error.to_string();
    let mut text = format!("error: {last}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !last.contains(&next) {
            text += "\n  cause: ";
            text += &next;
        }
        hint = hint.or_else(|| hint_of(error));
        last = next;
        cause = error.source();
    }
    if let Some(hint) = hint {
        text += "\n\nhint: ";
        text += hint;
    }
    text
}

fn hint_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    error.downcast_ref::<ClusterError>().and_then(ClusterError::hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the job could not be submitted")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_the_error_and_are_not_repeated() {
        let io = std::io::Error::other("connection refused");
        assert_eq!(
            error_text(&Outer(io)),
            "error: the job could not be submitted\n  cause: connection refused"
        );
    }

    #[test]
    fn without_a_cluster_the_next_step_is_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("no pictures")]
        struct Users(#[source] ClusterError);
        let none = || ClusterError::NoScheduler { root: "/c".into() };
        let hint = "hint: start one with `phalanx scheduler`, or name one in PHALANX_SCHEDULER";
        assert_eq!(
            error_text(&none()),
            format!("error: no scheduler of the cluster `/c` is known\n\n{hint}")
        );
        let boxed: Box<dyn Error + Send + Sync> = none().into();
        assert!(error_text(boxed.as_ref()).ends_with(hint));
        assert_eq!(
            error_text(&Users(none())),
            format!("error: no pictures\n  cause: no scheduler of the cluster `/c` is known\n\n{hint}")
        );
    }

    #[test]
    fn every_error_type_that_a_main_may_return_can_be_printed() {
        #[derive(Debug)]
        struct OnlyDebug;
        let boxed: Box<dyn Error> = "boxed".into();
        let shared: Box<dyn Error + Send + Sync> = "shared".into();
        let codes = [
            Failure(boxed).print(),
            Failure(shared).print(),
            Failure("text").print(),
            Failure(Outer(std::io::Error::other("io"))).print(),
            Failure(OnlyDebug).print(),
        ];
        assert!(codes.iter().all(|code| *code == ExitCode::FAILURE));
    }
}
