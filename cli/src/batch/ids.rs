//! Jobs, elements of arrays and steps as people and programs name them: `42`, `42_3`, `42_[1-3,7]`, `42.batch`. Whether they
//! exist is not known here.

use std::fmt;

use phalanx_protocol::JobId;
use phalanx_protocol::command::of_element_number;

use super::array::ArraySpec;

/// What a word stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobWord {
    pub(crate) job: JobId,
    pub(crate) part: JobPart,
    /// `batch`, `0`.
    pub(crate) step: Option<String>,
}

/// Which part of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobPart {
    Whole,
    /// Elements of an array, by the ids that the user knows.
    Elements(ArraySpec),
    /// The element at this position, from 0: what a script of it finds as its own number.
    Position(u64),
}

/// Why a word names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid job id `{text}`; one is written 42, 42_3 or 42_[1-3] for elements of an array, 42.0 or 42.batch for a step"
)]
pub(crate) struct IdError {
    text: String,
}

impl JobWord {
    /// Reads one word.
    ///
    /// # Errors
    ///
    /// It has none of the forms.
    pub(crate) fn parse(text: &str) -> Result<Self, IdError> {
        parse(text.trim()).ok_or_else(|| IdError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<JobWord> {
    let (id, step) = match text.split_once('.') {
        Some((id, step)) if !step.is_empty() => (id, Some(step.to_owned())),
        Some(_) => return None,
        None => (text, None),
    };
    let (number, elements) = match id.split_once('_') {
        Some((number, elements)) => (number, Some(elements)),
        None => (id, None),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = plain.then(|| number.parse().ok())??;
    let (job, part) = match (elements, of_element_number(number)) {
        (None, (job, Some(index))) => (job, JobPart::Position(index)),
        (None | Some("*" | "[*]"), (job, None)) => (job, JobPart::Whole),
        (Some(elements), (job, None)) => (job, JobPart::Elements(ArraySpec::parse(elements).ok()?)),
        (Some(_), (_, Some(_))) => return None,
    };
    (job.0 > 0).then_some(JobWord { job, part, step })
}

impl fmt::Display for JobWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, part, step } = self;
        match part {
            JobPart::Whole => write!(f, "{job}")?,
            JobPart::Elements(elements) if elements.count() == 1 => write!(f, "{job}_{elements}")?,
            JobPart::Elements(elements) => write!(f, "{job}_[{elements}]")?,
            JobPart::Position(index) => {
                write!(f, "{}", phalanx_protocol::command::element_number(*job, *index))?;
            }
        }
        match step {
            Some(step) => write!(f, ".{step}"),
            None => Ok(()),
        }
    }
}

/// The words of a list, which commas separate where they do not stand in brackets: `42,43_[1,3],44`.
pub(crate) fn split(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let comma = |letter: char| {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    let words = list.split(comma).map(str::trim);
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_job_is_named_whole_or_in_parts() {
        for (text, job, part, step) in [
            ("42", 42, JobPart::Whole, None),
            ("42_*", 42, JobPart::Whole, None),
            (
                "42_3",
                42,
                JobPart::Elements(ArraySpec::parse("3").unwrap()),
                None,
            ),
            (
                "42_[1-3,7%2]",
                42,
                JobPart::Elements(ArraySpec::parse("1-3,7%2").unwrap()),
                None,
            ),
            ("42.batch", 42, JobPart::Whole, Some("batch")),
            (
                "42_3.0",
                42,
                JobPart::Elements(ArraySpec::parse("3").unwrap()),
                Some("0"),
            ),
            ("3000000042", 42, JobPart::Position(2), None),
        ] {
            let expected = JobWord {
                job: JobId(job),
                part,
                step: step.map(str::to_owned),
            };
            assert_eq!(JobWord::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "0",
            "-1",
            "+1",
            "42_",
            "42_x",
            "42_[1-3",
            "42.",
            "_3",
            "1000000042_3",
            "42 43",
        ] {
            assert!(JobWord::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_is_cut_at_commas_outside_brackets() {
        assert_eq!(split("42,43_[1,3-5] , 44,"), ["42", "43_[1,3-5]", "44"]);
        assert!(split("").is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(text in "[1-9][0-9]{0,10}(_[0-9]|_\\[[0-9]{1,2}-[0-9]{2,3}\\])?(\\.batch)?") {
            if let Ok(word) = JobWord::parse(&text) {
                prop_assert_eq!(JobWord::parse(&word.to_string()), Ok(word));
            }
        }

        #[test]
        fn any_text_is_a_list_of_words_or_refused(text in "[0-9_,.\\[\\]%é*-]{0,20}") {
            for word in split(&text) {
                let _ = JobWord::parse(word);
            }
        }
    }
}
