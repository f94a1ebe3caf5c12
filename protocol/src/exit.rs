//! Exit codes of every Phalanx program, as a documented type.

/// How a program ends, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: all went well; for `run` and `wait`: every task succeeded.
    Success,
    /// 1: tasks failed.
    TasksFailed,
    /// 2: the command line or an input file is wrong.
    Usage,
    /// 3: the cluster could not be reached, or refused us.
    Unreachable,
    /// 4: the job was cancelled.
    Cancelled,
    /// 5: the job could not run at all.
    JobBroken,
    /// 70: something else went wrong: storage, a bug.
    Internal,
    /// 130 (128 + SIGINT): interrupted by Ctrl-C.
    Interrupted,
    /// What the one command of a job ended with: its status, or 128 and its signal.
    Command(u8),
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TasksFailed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Cancelled => 4,
            Self::JobBroken => 5,
            Self::Internal => 70,
            Self::Interrupted => 130,
            Self::Command(number) => number,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}
