//! Exit codes of every Phalanx program, as a documented type.

/// How a program ends, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well; for `run` and `wait`: every task succeeded.
    Success = 0,
    /// Tasks failed.
    TasksFailed = 1,
    /// The command line or an input file is wrong.
    Usage = 2,
    /// The cluster could not be reached, or refused us.
    Unreachable = 3,
    /// The job was cancelled.
    Cancelled = 4,
    /// The job could not run at all.
    JobBroken = 5,
    /// Something else went wrong: storage, a bug.
    Internal = 70,
    /// Interrupted by Ctrl-C (128 + SIGINT).
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
