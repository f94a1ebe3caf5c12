//! Jobs and tasks of jobs as users write them: `42`, `42.7`, `42.0-99`. Whether these exist is not known here.

use std::str::FromStr;

use phalanx_protocol::{IndexRange, JobId, RangeSet};

/// A job, or some of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) job: JobId,
    /// All, if absent.
    pub(crate) tasks: Option<IndexRange>,
}

/// What of a job is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tasks {
    All,
    These(RangeSet),
}

/// Why a text names no job and no tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("`{text}` is no job and no task; one writes 42, 42.7 for a task or 42.0-99 for several")]
    Form { text: String },
    #[error("`{text}` ends before it begins")]
    Backwards { text: String },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Form {
            text: text.to_owned(),
        };
        let (job, tasks) = match text.split_once('.') {
            Some((job, tasks)) => (job, Some(tasks)),
            None => (text, None),
        };
        let job = number(job).ok_or_else(wrong)?;
        let Some(tasks) = tasks else {
            return Ok(Self {
                job: JobId(job),
                tasks: None,
            });
        };
        let (first, last) = tasks.split_once('-').unwrap_or((tasks, tasks));
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        if last < first {
            return Err(TargetError::Backwards {
                text: text.to_owned(),
            });
        }
        let end = last.checked_add(1).ok_or_else(wrong)?;
        Ok(Self {
            job: JobId(job),
            tasks: Some(IndexRange::new(first, end)),
        })
    }
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// What of each job is meant, in the order in which jobs are first named.
pub(crate) fn by_job(targets: &[Target]) -> Vec<(JobId, Tasks)> {
    let mut jobs: Vec<(JobId, Tasks)> = Vec::new();
    for target in targets {
        let known = jobs.iter_mut().find(|(job, _)| *job == target.job);
        match (known, target.tasks) {
            (Some((_, Tasks::These(tasks))), Some(range)) => tasks.insert(range),
            (Some((_, Tasks::All)), _) => {}
            (Some((_, tasks)), None) => *tasks = Tasks::All,
            (None, Some(range)) => jobs.push((target.job, Tasks::These(range.into()))),
            (None, None) => jobs.push((target.job, Tasks::All)),
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn jobs_tasks_and_ranges_are_told_apart() {
        let told = |text| {
            let target = target(text);
            (target.job.0, target.tasks.map(|range| (range.start, range.end)))
        };
        assert_eq!(told("42"), (42, None));
        assert_eq!(told("42.7"), (42, Some((7, 8))));
        assert_eq!(told("42.0-99"), (42, Some((0, 100))));
        assert_eq!(told("42.5-5"), (42, Some((5, 6))));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "x",
            "42.",
            ".7",
            "42.x",
            "42.1-",
            "42.-1",
            "42.1-2-3",
            "42.7.1",
            "+42",
            "42. 7",
            "42_7",
            "42.18446744073709551615",
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(matches!(error, TargetError::Form { .. }), "{text}: {error}");
        }
        let error = "42.9-3".parse::<Target>().unwrap_err();
        assert_eq!(error.to_string(), "`42.9-3` ends before it begins");
    }

    #[test]
    fn what_is_meant_of_a_job_is_taken_together() {
        let targets = ["42.7", "43", "42.9-10", "43.1", "44.1", "44"].map(target);
        let tasks = [IndexRange::new(7, 8), IndexRange::new(9, 11)];
        assert_eq!(
            by_job(&targets),
            [
                (JobId(42), Tasks::These(tasks.into_iter().collect())),
                (JobId(43), Tasks::All),
                (JobId(44), Tasks::All),
            ]
        );
    }
}
