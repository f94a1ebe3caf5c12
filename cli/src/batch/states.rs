//! The states of jobs by Slurm's names, long and short, as workflow engines know them.

use std::fmt;

/// What a job or an array's element is doing, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobState {
    Pending,
    Configuring,
    Running,
    Completing,
    Suspended,
    Stopped,
    Requeued,
    Completed,
    Failed,
    Cancelled,
    Timeout,
    OutOfMemory,
    NodeFail,
    BootFail,
    Deadline,
    Preempted,
}

impl JobState {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Pending,
        Self::Configuring,
        Self::Running,
        Self::Completing,
        Self::Suspended,
        Self::Stopped,
        Self::Requeued,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Timeout,
        Self::OutOfMemory,
        Self::NodeFail,
        Self::BootFail,
        Self::Deadline,
        Self::Preempted,
    ];

    /// `PENDING`: `%T` of `squeue`, `State` of `sacct`.
    pub(crate) fn name(self) -> &'static str {
        self.names().0
    }

    /// `PD`: `%t` of `squeue`.
    pub(crate) fn short(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Pending => ("PENDING", "PD"),
            Self::Configuring => ("CONFIGURING", "CF"),
            Self::Running => ("RUNNING", "R"),
            Self::Completing => ("COMPLETING", "CG"),
            Self::Suspended => ("SUSPENDED", "S"),
            Self::Stopped => ("STOPPED", "ST"),
            Self::Requeued => ("REQUEUED", "RQ"),
            Self::Completed => ("COMPLETED", "CD"),
            Self::Failed => ("FAILED", "F"),
            Self::Cancelled => ("CANCELLED", "CA"),
            Self::Timeout => ("TIMEOUT", "TO"),
            Self::OutOfMemory => ("OUT_OF_MEMORY", "OOM"),
            Self::NodeFail => ("NODE_FAIL", "NF"),
            Self::BootFail => ("BOOT_FAIL", "BF"),
            Self::Deadline => ("DEADLINE", "DL"),
            Self::Preempted => ("PREEMPTED", "PR"),
        }
    }

    /// Whether the job has ended and will not run again by itself.
    pub(crate) fn has_ended(self) -> bool {
        match self {
            Self::Pending
            | Self::Configuring
            | Self::Running
            | Self::Completing
            | Self::Suspended
            | Self::Stopped
            | Self::Requeued => false,
            Self::Completed
            | Self::Failed
            | Self::Cancelled
            | Self::Timeout
            | Self::OutOfMemory
            | Self::NodeFail
            | Self::BootFail
            | Self::Deadline
            | Self::Preempted => true,
        }
    }

    /// The state with this name, long or short, in any case.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| {
            [state.name(), state.short()]
                .iter()
                .any(|name| name.eq_ignore_ascii_case(text))
        })
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text names no states.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no state of a job; they are all, {}", known())]
pub(crate) struct StateError {
    text: String,
}

fn known() -> String {
    JobState::ALL.map(JobState::name).join(", ")
}

/// The states of `--states=PD,running`; `all` are all.
///
/// # Errors
///
/// One of them is none.
pub(crate) fn parse_states(text: &str) -> Result<Vec<JobState>, StateError> {
    if text.trim().eq_ignore_ascii_case("all") {
        return Ok(JobState::ALL.to_vec());
    }
    let state = |text: &str| {
        let text = text.trim();
        JobState::named(text).ok_or_else(|| StateError {
            text: text.to_owned(),
        })
    };
    text.split(',').map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_state_has_a_long_and_a_short_name() {
        for (short, name) in [
            ("PD", "PENDING"),
            ("R", "RUNNING"),
            ("CD", "COMPLETED"),
            ("F", "FAILED"),
            ("CA", "CANCELLED"),
            ("TO", "TIMEOUT"),
            ("NF", "NODE_FAIL"),
            ("OOM", "OUT_OF_MEMORY"),
            ("S", "SUSPENDED"),
            ("PR", "PREEMPTED"),
            ("CF", "CONFIGURING"),
            ("CG", "COMPLETING"),
            ("BF", "BOOT_FAIL"),
            ("ST", "STOPPED"),
            ("RQ", "REQUEUED"),
            ("DL", "DEADLINE"),
        ] {
            let state = JobState::named(name).unwrap();
            assert_eq!((state.short(), state.to_string().as_str()), (short, name));
            assert_eq!(JobState::named(&short.to_lowercase()), Some(state));
        }
    }

    #[test]
    fn no_name_means_two_states() {
        let names = JobState::ALL.map(|state| [state.name(), state.short()]);
        assert_eq!(
            names.concat().iter().collect::<BTreeSet<_>>().len(),
            2 * JobState::ALL.len()
        );
    }

    #[test]
    fn states_are_asked_for_by_name_or_all() {
        assert_eq!(
            parse_states("pd,RUNNING , CD"),
            Ok(vec![JobState::Pending, JobState::Running, JobState::Completed])
        );
        assert_eq!(parse_states("all").map(|states| states.len()), Ok(16));
        let error = parse_states("PD,sleeping").unwrap_err().to_string();
        assert!(
            error.starts_with("`sleeping` is no state of a job; they are all, PENDING, "),
            "{error}"
        );
        assert!(parse_states("").is_err());
    }

    #[test]
    fn a_job_that_is_requeued_has_not_ended() {
        let ended = |name: &str| JobState::named(name).unwrap().has_ended();
        assert!(
            ["CD", "F", "CA", "TO", "NF", "OOM", "BF", "PR", "DL"]
                .into_iter()
                .all(ended)
        );
        assert!(!["PD", "CF", "R", "CG", "S", "ST", "RQ"].into_iter().any(ended));
    }
}
