//! The commands of PBS on the same jobs: `qsub`, `qstat`, `qdel`. A job is `42.phalanx` there, an array `42[].phalanx`, its
//! element `42[3].phalanx`.

pub(super) mod qdel;
pub(super) mod qstat;
pub(super) mod qsub;

use super::Complaint;
use super::entry::{Entry, Part, array};
use crate::batch::ids::JobWord;

/// What PBS calls its server.
const SERVER: &str = "phalanx";

/// The job that a word of PBS's means: `42`, `42.phalanx`, `42[3].phalanx`, `42[1-3]`, `42[]`.
fn job_word(text: &str) -> Result<JobWord, Complaint> {
    let wrong = || {
        Complaint::new(format!(
            "illegally formed job identifier: {text}; one is written 42.{SERVER}, or 42[3].{SERVER} for an element of an array"
        ))
    };
    let id = text.split_once('.').map_or(text, |(id, _server)| id);
    let id = match id.split_once('[') {
        Some((number, "]")) => number.to_owned(),
        Some((number, elements)) => {
            let elements = elements.strip_suffix(']').ok_or_else(wrong)?;
            format!("{number}_[{elements}]")
        }
        None => id.to_owned(),
    };
    // what only Slurm writes so is no id here
    match id.contains('_') && !text.contains('[') {
        true => Err(wrong()),
        false => JobWord::parse(&id).map_err(|_| wrong()),
    }
}

/// What PBS calls an entry.
fn name(entry: &Entry<'_>) -> String {
    let job = entry.view.job;
    match &entry.part {
        Part::Element { number, .. } => format!("{job}[{number}].{SERVER}"),
        Part::Whole if array(entry.view).is_none() => format!("{job}.{SERVER}"),
        Part::Whole | Part::Waiting(_) => format!("{job}[].{SERVER}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_pbs_is_one_of_ours() {
        for (text, ours) in [
            ("42", "42"),
            ("42.phalanx", "42"),
            ("42.some.host", "42"),
            ("42[]", "42"),
            ("42[].phalanx", "42"),
            ("42[3].phalanx", "42_3"),
            ("42[1-3]", "42_[1-3]"),
            ("4000000042.phalanx", "4000000042"),
        ] {
            assert_eq!(job_word(text).unwrap(), JobWord::parse(ours).unwrap(), "{text}");
        }
        for text in ["", "x", "42[", "42[x]", "42_3", ".phalanx", "[3]"] {
            assert!(job_word(text).is_err(), "{text}");
        }
    }
}
