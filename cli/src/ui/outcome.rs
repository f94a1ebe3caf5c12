//! How a job ended: in a line, with its first failures, and as the error of a command that followed it.

use phalanx::JobView;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::{Outcome, TaskFailure};
use phalanx_protocol::{JobId, TaskId};

use super::error::CliError;
use super::style::printable;
use super::units::{count, counted, duration, rate};

/// Failures that are shown.
const FAILURES_SHOWN_MAX: usize = 10;

/// A line per failure, the first ones, and how many more there are.
pub(crate) fn failure_lines(job: JobId, failures: &[TaskFailure], total: u64) -> Vec<String> {
    let shown = failures.iter().take(FAILURES_SHOWN_MAX);
    let mut lines: Vec<String> = shown
        .map(|failure| {
            let task = TaskId {
                job,
                index: failure.index,
            };
            let TaskFailure { cause, message, .. } = failure;
            match message.is_empty() {
                true => format!("{task} {cause}"),
                false => format!("{task} {cause}: {message}"),
            }
        })
        .collect();
    let more = total.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("and {} more", count(more)));
    }
    lines
}

/// How a job ended, in one line.
pub(crate) fn outcome_text(job: &JobView) -> String {
    let id = job.job;
    let millis = job
        .finished_unix_millis
        .map(|end| end.saturating_sub(job.submitted_unix_millis));
    let took = millis.map_or(String::new(), |millis| format!(" in {}", duration(millis)));
    let done = format!("{} of {} done", count(job.done), counted(job.tasks, "task"));
    match &job.outcome {
        None => format!("job {id} is {}: {done}", job.state()),
        // a gang that went on without ranks that it lost
        Some(Outcome::Succeeded) if job.failed > 0 => {
            format!("job {id} succeeded{took}: {done}, {} lost", count(job.failed))
        }
        Some(Outcome::Succeeded) => {
            let speed = match millis {
                Some(millis) if millis > 0 && job.tasks > 0 => {
                    format!(", {}", rate(job.tasks as f64 / (millis as f64 / 1000.0)))
                }
                Some(_) | None => String::new(),
            };
            format!("job {id} succeeded: {}{took}{speed}", counted(job.tasks, "task"))
        }
        Some(Outcome::Failed) => {
            format!("job {id} failed{took}: {done}, {} failed", count(job.failed))
        }
        Some(Outcome::Cancelled { by }) => {
            format!("job {id} was cancelled by {}{took}: {done}", printable(by, 0))
        }
        Some(Outcome::Broken { reason }) => format!("job {id} could not run: {}", printable(reason, 2)),
        Some(Outcome::TimeLimit { millis }) => format!(
            "job {id} was ended at its time limit of {}: {done}",
            duration(*millis)
        ),
    }
}

/// What a command that follows a job ends with, unless every task succeeded.
pub(crate) fn outcome_error(job: &JobView) -> Option<CliError> {
    let id = job.job;
    let results = match job.command {
        None => format!("`phalanx results {id}` prints what the other tasks returned"),
        Some(_) => format!("`phalanx logs {id}` prints what its tasks have printed"),
    };
    match job.outcome.as_ref()? {
        Outcome::Succeeded => None,
        Outcome::Failed => {
            let what = format!(
                "{} of the {} of job {id} failed",
                count(job.failed),
                counted(job.tasks, "task")
            );
            let ended = job.done.saturating_add(job.failed).saturating_add(job.cancelled);
            let unrun = job.tasks.saturating_sub(ended);
            let mut details = failure_lines(id, &job.first_failures, job.failed);
            if job.cancelled > 0 {
                details.push(format!("{} cancelled", counted(job.cancelled, "task")));
            }
            if unrun > 0 {
                details.push(format!("{} not run: the job was stopped", counted(unrun, "task")));
            }
            let error = CliError::new(ExitCode::TasksFailed, what).details(details);
            Some(match job.done {
                0 => error,
                _ => error.hint(results),
            })
        }
        Outcome::Cancelled { .. } => {
            let error = CliError::new(ExitCode::Cancelled, outcome_text(job));
            Some(match job.done {
                0 => error,
                _ => error.hint(results),
            })
        }
        Outcome::TimeLimit { .. } => {
            let error = CliError::new(ExitCode::TasksFailed, outcome_text(job));
            Some(match job.done {
                0 => error,
                _ => error.hint(results),
            })
        }
        Outcome::Broken { .. } => Some(CliError::new(ExitCode::JobBroken, outcome_text(job))),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::FailureCause;

    use super::*;
    use crate::ui::style::Style;
    use crate::ui::views::tests::{finished, job_view};

    #[test]
    fn only_the_first_failures_are_listed() {
        let failures: Vec<TaskFailure> = (0..20)
            .map(|index| TaskFailure {
                index,
                cause: FailureCause::Error,
                message: String::new(),
            })
            .collect();
        let lines = failure_lines(JobId(3), &failures, 1500);
        assert_eq!(lines.len(), FAILURES_SHOWN_MAX + 1);
        assert_eq!(
            (lines[9].as_str(), lines[10].as_str()),
            ("3.9 error", "and 1,490 more")
        );
    }

    #[test]
    fn an_end_is_told_in_one_line() {
        let succeeded = JobView {
            done: 1000,
            failed: 0,
            ..finished(Outcome::Succeeded)
        };
        assert_eq!(
            outcome_text(&succeeded),
            "job 42 succeeded: 1,000 tasks in 1 min 5 s, 15.4 /s"
        );
        let shrunk = JobView {
            done: 998,
            failed: 2,
            ..finished(Outcome::Succeeded)
        };
        assert_eq!(
            outcome_text(&shrunk),
            "job 42 succeeded in 1 min 5 s: 998 of 1,000 tasks done, 2 lost"
        );
        assert_eq!(outcome_error(&shrunk), None);
        assert_eq!(outcome_error(&succeeded), None);
        assert_eq!(outcome_error(&job_view()), None);
        let cancelled = finished(Outcome::Cancelled { by: "eve".to_owned() });
        let error = outcome_error(&cancelled).unwrap();
        assert_eq!(
            (error.code(), error.render(Style::Plain)),
            (
                ExitCode::Cancelled,
                "error: job 42 was cancelled by eve in 1 min 5 s: 512 of 1,000 tasks done\n\n\
                 hint: `phalanx results 42` prints what the other tasks returned\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn failed_tasks_are_told_with_the_first_reasons() {
        let failed = JobView {
            failed: 3,
            first_failures: job_view().first_failures,
            ..finished(Outcome::Failed)
        };
        let error = outcome_error(&failed).unwrap();
        assert_eq!(
            error.render(Style::Plain),
            "error: 3 of the 1,000 tasks of job 42 failed\n  42.7 panicked: boom\n  and 2 more\n  \
             485 tasks not run: the job was stopped\n\n\
             hint: `phalanx results 42` prints what the other tasks returned\n"
        );
        assert_eq!(error.code(), ExitCode::TasksFailed);
    }
}
