//! Ids: newtypes with one text form each, printed and parsed here and nowhere else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is no id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError { text: text.to_owned(), what: $what })
            }
        }
    };
}

number_id!(
    /// A job: `42`. Numbered from 1 by the scheduler, in the order of the journal.
    JobId, "", "job id (a number such as 42)"
);
number_id!(
    /// A worker: `w3`. Numbered from 1 by the scheduler as workers join.
    WorkerId, "w", "worker id (such as w3)"
);
number_id!(
    /// The number of a leadership. Larger is newer; it is one more than the log slot of the fence that began it.
    Term, "t", "term (such as t17)"
);

/// Elements of an array are so far apart where each has a number of its own.
const ELEMENT_DISTANCE: u64 = 1_000_000_000;

impl JobId {
    /// The number of this array's element at `index`, where one is expected that no other job or element has: `8000000042` for
    /// the index 7 of job 42. Decimal, so that people see both.
    pub fn element_number(self, index: u64) -> u64 {
        index
            .saturating_add(1)
            .saturating_mul(ELEMENT_DISTANCE)
            .saturating_add(self.0)
    }
}

/// One index of a job: `42.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The task's index in it, from 0.
    pub index: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

/// A grant: unique without being journalled, since a term is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GrantId {
    /// The leadership that made the grant.
    pub term: Term,
    /// Counts the grants of that term.
    pub number: u64,
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term, self.number)
    }
}

/// Names one submission, chosen at random by the client, so that a repeated submission is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubmissionId(pub u128);

/// The BLAKE3 hash of a blob's content, which is also its name on shared storage: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for BlobId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError {
            text: text.to_owned(),
            what: "blob id (64 hexadecimal digits)",
        };
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        assert_eq!("42".parse(), Ok(JobId(42)));
        assert_eq!(WorkerId(3).to_string().parse(), Ok(WorkerId(3)));
        assert_eq!(
            TaskId {
                job: JobId(42),
                index: 7
            }
            .to_string(),
            "42.7"
        );
        let blob = BlobId(std::array::from_fn(|byte| byte as u8));
        assert_eq!(blob.to_string().parse(), Ok(blob));
    }

    #[test]
    fn a_wrong_text_is_named_in_the_error() {
        let error = "4x2".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`4x2` is not a job id (a number such as 42)");
        assert!("3".parse::<WorkerId>().is_err());
        assert!("é".repeat(32).parse::<BlobId>().is_err());
    }
}
