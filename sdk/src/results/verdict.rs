//! What the end of a job means for who asked for all of it.

use std::time::Duration;

use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::view::JobView;

use crate::error::{FURTHER_FAILURES_MAX, JobError, TaskCause, TaskError};

/// What came of a job's tasks so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tasks whose results were seen.
    pub(super) values: u64,
    failed: u64,
    first: Option<TaskError>,
    further: Vec<TaskError>,
}

impl Tally {
    /// Counts a failure; the first ones are kept.
    pub(super) fn fail(&mut self, error: TaskError) {
        self.failed += 1;
        if self.first.is_none() {
            self.first = Some(error);
        } else if self.further.len() < FURTHER_FAILURES_MAX {
            self.further.push(error);
        }
    }

    fn missing(&self, view: &JobView) -> u64 {
        view.tasks.saturating_sub(self.values + self.failed)
    }

    /// Why tasks are missing, if they are, in a job that is over.
    pub(super) fn shortfall(&self, view: &JobView) -> Option<JobError> {
        let missing = self.missing(view);
        (missing > 0).then(|| {
            ended_early(view).unwrap_or(JobError::Incomplete {
                job: view.job,
                missing,
            })
        })
    }

    /// Whether a job that is over gave all that was asked of it. The first failure is the cause.
    pub(super) fn verdict(self, view: &JobView) -> Result<(), JobError> {
        if let Some(error) = ended_early(view) {
            return Err(error);
        }
        let shortfall = self.shortfall(view);
        match self.first {
            Some(first) => Err(JobError::Failed {
                job: view.job,
                failed: view.failed.max(self.failed),
                tasks: view.tasks,
                first,
                further: self.further,
            }),
            None => shortfall.map_or(Ok(()), Err),
        }
    }
}

impl Tally {
    /// The same of a gang, which may have succeeded without the ranks that it lost. If it has failed, it has for what others did.
    pub(super) fn verdict_of_survivors(mut self, view: &JobView) -> Result<(), JobError> {
        if view.outcome == Some(Outcome::Succeeded) {
            return self.shortfall(view).map_or(Ok(()), Err);
        }
        let is_lost = |error: &TaskError| error.cause == TaskCause::Failed(FailureCause::Lost);
        if let Some(first) = self.first.as_mut().filter(|first| is_lost(first))
            && let Some(cause) = self.further.iter_mut().find(|error| !is_lost(error))
        {
            std::mem::swap(first, cause);
        }
        self.verdict(view)
    }
}

/// The error for a job that did not come to its own end.
fn ended_early(view: &JobView) -> Option<JobError> {
    match view.outcome.as_ref()? {
        Outcome::Cancelled { by } => Some(JobError::Cancelled {
            job: view.job,
            by: by.clone(),
        }),
        Outcome::Broken { reason } => Some(JobError::Broken {
            job: view.job,
            reason: reason.clone(),
        }),
        Outcome::TimeLimit { millis } => Some(JobError::TimeLimit {
            job: view.job,
            limit: Duration::from_millis(*millis),
        }),
        Outcome::Succeeded | Outcome::Failed => None,
    }
}

/// Whether all tasks of a job that is over succeeded, by its view alone; users call its first task `first`.
///
/// # Errors
/// The [`JobError`] that says what went wrong.
pub(crate) fn check_outcome(view: &JobView, first: u64) -> Result<(), JobError> {
    let mut tally = Tally {
        values: view.done,
        ..Tally::default()
    };
    for failure in &view.first_failures {
        tally.fail(TaskError::of(failure.clone(), first));
    }
    tally.failed = view.failed;
    tally.verdict(view)
}
