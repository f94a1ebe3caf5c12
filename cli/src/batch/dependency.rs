//! What a job waits for: `afterok:12:13,afterany:14_3`. Whether these jobs exist is not known here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use phalanx_protocol::JobId;

/// A job, or one element of an array: `12`, `12_3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobElement {
    pub(crate) job: JobId,
    /// The array id of the element, as the user wrote it.
    pub(crate) element: Option<u64>,
}

impl FromStr for JobElement {
    type Err = DependencyError;

    fn from_str(text: &str) -> Result<Self, DependencyError> {
        let wrong = || DependencyError::Job {
            text: text.to_owned(),
        };
        let (job, element) = match text.split_once('_') {
            Some((job, element)) => (job, Some(number(element).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let job = number(job).filter(|&job| job > 0).ok_or_else(wrong)?;
        Ok(Self {
            job: JobId(job),
            element,
        })
    }
}

impl fmt::Display for JobElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            Some(element) => write!(f, "{}_{element}", self.job),
            None => write!(f, "{}", self.job),
        }
    }
}

/// What must have become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It started, this long ago, or was cancelled.
    After { delay: Duration },
    /// It ended, one way or the other.
    AfterAny,
    /// It succeeded.
    AfterOk,
    /// It failed.
    AfterNotOk,
    /// The element with the same id succeeded.
    AfterCorr,
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Self::After { .. } => "after",
            Self::AfterAny => "afterany",
            Self::AfterOk => "afterok",
            Self::AfterNotOk => "afternotok",
            Self::AfterCorr => "aftercorr",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "after" => Self::After {
                delay: Duration::ZERO,
            },
            // nothing is staged out after a job's end here
            "afterany" | "afterburstbuffer" => Self::AfterAny,
            "afterok" => Self::AfterOk,
            "afternotok" => Self::AfterNotOk,
            "aftercorr" => Self::AfterCorr,
            _ => return None,
        })
    }
}

/// One thing that a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    /// A job, and what must have become of it.
    Job { condition: Condition, on: JobElement },
    /// All earlier jobs of the same user with the same name.
    Singleton,
}

/// Whether all terms must hold, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    All,
    Any,
}

/// All that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// At least one.
    pub(crate) terms: Vec<Term>,
    pub(crate) join: Join,
}

/// Why a text names no dependency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DependencyError {
    #[error(
        "`{text}` is no dependency; one is written afterok:ID[:ID...] (or after, afterany, afternotok, aftercorr) or singleton"
    )]
    Form { text: String },
    #[error("`{text}` is no job; one is written 12, or 12_3 for an element of an array")]
    Job { text: String },
    #[error("`{text}` has a delay, which only `after` takes, in minutes: after:12+5")]
    Delay { text: String },
    #[error("`,` (all of them) and `?` (one of them) cannot be mixed")]
    Mixed,
}

impl Dependency {
    /// Reads what a job waits for; a job's id alone is `afterany`.
    ///
    /// # Errors
    ///
    /// See [`DependencyError`].
    pub(crate) fn parse(text: &str) -> Result<Self, DependencyError> {
        let text = text.trim();
        let join = match (text.contains(','), text.contains('?')) {
            (true, true) => return Err(DependencyError::Mixed),
            (_, true) => Join::Any,
            (_, false) => Join::All,
        };
        let mut terms = Vec::new();
        for part in text.split([',', '?']) {
            read_part(part.trim(), &mut terms)?;
        }
        Ok(Self { terms, join })
    }
}

/// Adds the terms of one part between the commas: a condition and its jobs.
fn read_part(part: &str, terms: &mut Vec<Term>) -> Result<(), DependencyError> {
    let wrong = || DependencyError::Form {
        text: part.to_owned(),
    };
    if part.eq_ignore_ascii_case("singleton") {
        terms.push(Term::Singleton);
        return Ok(());
    }
    let Some((name, jobs)) = part.split_once(':') else {
        // the old form
        let on = part.parse().map_err(|_| wrong())?;
        terms.push(Term::Job {
            condition: Condition::AfterAny,
            on,
        });
        return Ok(());
    };
    let condition = Condition::named(name).ok_or_else(wrong)?;
    for job in jobs.split(':') {
        terms.push(term(condition, job)?);
    }
    Ok(())
}

/// One job of a condition, with its delay.
fn term(condition: Condition, text: &str) -> Result<Term, DependencyError> {
    let Some((job, minutes)) = text.split_once('+') else {
        return Ok(Term::Job {
            condition,
            on: text.parse()?,
        });
    };
    let wrong = || DependencyError::Delay {
        text: text.to_owned(),
    };
    match condition {
        Condition::After { .. } => {
            let seconds = number(minutes)
                .and_then(|minutes| minutes.checked_mul(60))
                .ok_or_else(wrong)?;
            let condition = Condition::After {
                delay: Duration::from_secs(seconds),
            };
            Ok(Term::Job {
                condition,
                on: job.parse()?,
            })
        }
        Condition::AfterAny | Condition::AfterOk | Condition::AfterNotOk | Condition::AfterCorr => {
            Err(wrong())
        }
    }
}

/// A number without a sign, which `parse` would take.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

impl fmt::Display for Dependency {
    /// As it is written, each job with its condition, as `squeue` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = match self.join {
            Join::All => ",",
            Join::Any => "?",
        };
        for (position, term) in self.terms.iter().enumerate() {
            if position > 0 {
                f.write_str(join)?;
            }
            match term {
                Term::Singleton => f.write_str("singleton")?,
                Term::Job { condition, on } => {
                    write!(f, "{}:{on}", condition.name())?;
                    if let Condition::After { delay } = condition
                        && !delay.is_zero()
                    {
                        write!(f, "+{}", delay.as_secs() / 60)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        Dependency::parse(text).unwrap().to_string()
    }

    fn job(job: u64, element: Option<u64>) -> JobElement {
        JobElement {
            job: JobId(job),
            element,
        }
    }

    #[test]
    fn a_condition_holds_for_each_of_its_jobs() {
        let dependency = Dependency::parse("afterok:12:13_4,singleton").unwrap();
        let condition = Condition::AfterOk;
        assert_eq!(
            dependency,
            Dependency {
                terms: vec![
                    Term::Job {
                        condition,
                        on: job(12, None)
                    },
                    Term::Job {
                        condition,
                        on: job(13, Some(4))
                    },
                    Term::Singleton,
                ],
                join: Join::All,
            }
        );
    }

    #[test]
    fn all_conditions_are_known() {
        for (text, expected) in [
            ("after:1", "after:1"),
            ("after:1+5:2+10:3", "after:1+5,after:2+10,after:3"),
            ("after:1_2+5", "after:1_2+5"),
            ("afterany:1:2", "afterany:1,afterany:2"),
            ("afterok:1", "afterok:1"),
            ("afternotok:1", "afternotok:1"),
            ("aftercorr:1", "aftercorr:1"),
            ("afterburstbuffer:1", "afterany:1"),
            ("AfterOK:1", "afterok:1"),
            ("singleton", "singleton"),
            ("12", "afterany:12"),
            ("12_0", "afterany:12_0"),
            (" afterok:1 , afterany:2 ", "afterok:1,afterany:2"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_question_mark_is_or_and_does_not_mix_with_and() {
        let dependency = Dependency::parse("afterok:1?afternotok:2").unwrap();
        assert_eq!((dependency.terms.len(), dependency.join), (2, Join::Any));
        assert_eq!(dependency.to_string(), "afterok:1?afternotok:2");
        assert_eq!(
            Dependency::parse("afterok:1?afterok:2,afterok:3"),
            Err(DependencyError::Mixed)
        );
    }

    #[test]
    fn what_is_no_dependency_is_refused() {
        let text = |text: &str| text.to_owned();
        for (dependency, part) in [
            ("", ""),
            ("afterok", "afterok"),
            ("afterok:1,", ""),
            ("before:1", "before:1"),
            ("singleton:1", "singleton:1"),
            ("expand:1", "expand:1"),
        ] {
            assert_eq!(
                Dependency::parse(dependency),
                Err(DependencyError::Form { text: text(part) }),
                "{dependency}"
            );
        }
        for (dependency, part) in [
            ("afterok:", ""),
            ("afterok:x", "x"),
            ("afterok:1:", ""),
            ("afterok:0", "0"),
            ("afterok:1_", "1_"),
            ("afterok:1_2_3", "1_2_3"),
            ("afterok:-1", "-1"),
            ("after:+5", ""),
        ] {
            assert_eq!(
                Dependency::parse(dependency),
                Err(DependencyError::Job { text: text(part) }),
                "{dependency}"
            );
        }
        for (dependency, part) in [("afterok:1+5", "1+5"), ("after:1+", "1+"), ("after:1+x", "1+x")] {
            assert_eq!(
                Dependency::parse(dependency),
                Err(DependencyError::Delay { text: text(part) }),
                "{dependency}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(
            terms in prop::collection::vec((0u8..6, 1u64..100, prop::option::of(0u64..9), 0u64..3), 1..6),
            any in any::<bool>(),
        ) {
            let term = |(kind, number, element, minutes)| {
                let condition = match kind {
                    0 => Condition::After { delay: Duration::from_secs(60 * minutes) },
                    1 => Condition::AfterAny,
                    2 => Condition::AfterOk,
                    3 => Condition::AfterNotOk,
                    4 => Condition::AfterCorr,
                    _ => return Term::Singleton,
                };
                Term::Job { condition, on: job(number, element) }
            };
            let terms: Vec<Term> = terms.into_iter().map(term).collect();
            // of a single term nobody can tell
            let join = if any && terms.len() > 1 { Join::Any } else { Join::All };
            let dependency = Dependency { terms, join };
            prop_assert_eq!(Dependency::parse(&dependency.to_string()), Ok(dependency));
        }
    }
}
