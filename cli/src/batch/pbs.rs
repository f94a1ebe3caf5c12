//! The second dialect: the words of a `#PBS` line, turned into the options of `sbatch` that mean the same.
//!
//! Both families are read, Torque (`nodes=1:ppn=4`, `-t`) and PBS Pro (`select=1:ncpus=4`, `-J`). What each `-l` resource
//! means is in [`resources`].

mod resources;

use super::getopt::Given;
use super::options::{Command, by_long};

/// Options that take a value, those that don't, and of both those that change nothing here.
const WITH_VALUE: &str = "aAcCdeJjklmMNopPqrStTuvWw";
const FLAGS: &str = "hIVXz";
const WITHOUT_MEANING: &str = "cCkTuX";

/// What a `#PBS` line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PbsLine {
    pub(crate) given: Vec<Given>,
    /// Whether standard error goes where standard output does (`-j`).
    pub(crate) joined: Option<bool>,
    /// What runs a script that doesn't say so itself (`-S`).
    pub(crate) shell: Option<String>,
    /// Somebody wants to sit in front of the job (`-I`).
    pub(crate) interactive: bool,
    /// What is no option or resource, as it was written.
    pub(crate) unknown: Vec<String>,
    /// From the first word on that is no option.
    pub(crate) rest: Vec<String>,
}

/// Why a `#PBS` line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PbsError {
    #[error("`-{option}` needs a value")]
    MissingValue { option: char },
    #[error("-l walltime={value}: a time is written SECONDS, MM:SS or HH:MM:SS")]
    Walltime { value: String },
    #[error("-l {name}={value}: memory is a number with a unit b, kb, mb, gb or tb, as in 8gb")]
    Memory { name: String, value: String },
    #[error("-l {name}={value}: this is a whole number from 1 on")]
    Count { name: String, value: String },
    #[error(
        "-l {value}: chunks of different kinds cannot run as one job here; ask for one kind, or submit two jobs"
    )]
    Chunks { value: String },
    #[error("-j {value}: this is oe, eo or n")]
    Join { value: String },
    #[error("-r {value}: this is y or n")]
    Rerun { value: String },
    #[error("-a {value}: a time is written [[[[CC]YY]MM]DD]hhmm[.SS], as in 1630 or 01311630")]
    Begin { value: String },
    #[error(
        "-W depend={value}: `{kind}` waits for something that this job cannot know; use afterok, afterany, afternotok or after"
    )]
    Depend { value: String, kind: String },
    #[error("-p {value}: this is a whole number between -1024 and 1023")]
    Priority { value: String },
}

/// Reads the words of a `#PBS` line.
///
/// # Errors
///
/// An option lacks its value, or has one that means nothing.
pub(crate) fn parse(words: &[String]) -> Result<PbsLine, PbsError> {
    let mut line = PbsLine::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            line.rest.push(word.clone());
            line.rest.extend(words.cloned());
            break;
        };
        for (position, letter) in letters.char_indices() {
            let attached = &letters[position + letter.len_utf8()..];
            if WITH_VALUE.contains(letter) {
                let value = match attached {
                    "" => words.next().ok_or(PbsError::MissingValue { option: letter })?,
                    _ => attached,
                };
                line.option(letter, value)?;
                break;
            }
            if !FLAGS.contains(letter) {
                line.unknown.push(format!("-{letter}"));
                break;
            }
            line.option(letter, "")?;
        }
    }
    Ok(line)
}

impl PbsLine {
    fn give(&mut self, long: &str, value: &str) {
        if let Some(spec) = by_long(Command::Sbatch, long) {
            let value = Some(value.to_owned());
            self.given.push(Given { spec, value });
        }
    }

    fn flag(&mut self, long: &str) {
        if let Some(spec) = by_long(Command::Sbatch, long) {
            self.given.push(Given { spec, value: None });
        }
    }

    fn option(&mut self, letter: char, value: &str) -> Result<(), PbsError> {
        let owned = || value.to_owned();
        match letter {
            _ if WITHOUT_MEANING.contains(letter) => {}
            'N' => self.give("job-name", value),
            'A' | 'P' => self.give("account", value),
            'q' => self.give("partition", value),
            'M' => self.give("mail-user", value),
            'm' => self.give("mail-type", value),
            'o' => self.give("output", &file_pattern(value)),
            'e' => self.give("error", &file_pattern(value)),
            'd' | 'w' => self.give("chdir", value),
            't' | 'J' => self.give("array", value),
            'V' => self.give("export", "ALL"),
            // alone it would export these only; more does no harm, and with -V it is what is meant
            'v' => self.give("export", &format!("ALL,{value}")),
            'S' => self.shell = Some(owned()),
            'I' => self.interactive = true,
            'h' => self.flag("hold"),
            'z' => self.flag("quiet"),
            'r' => match value {
                "y" => self.flag("requeue"),
                "n" => self.flag("no-requeue"),
                _ => return Err(PbsError::Rerun { value: owned() }),
            },
            'j' => match value {
                "oe" | "eo" => self.joined = Some(true),
                "n" => self.joined = Some(false),
                _ => return Err(PbsError::Join { value: owned() }),
            },
            'p' => {
                let number = value.parse::<i32>().ok();
                let number = number.filter(|number| (-1024..1024).contains(number));
                let number = number.ok_or_else(|| PbsError::Priority { value: owned() })?;
                self.give("nice", &(-number).to_string());
            }
            'a' => {
                let begin = begin(value).ok_or_else(|| PbsError::Begin { value: owned() })?;
                self.give("begin", &begin);
            }
            'W' => self.attributes(value)?,
            'l' => resources::read(self, value)?,
            _ => self.unknown.push(format!("-{letter}")),
        }
        Ok(())
    }

    /// `-W depend=afterok:12`, `-W block=true,umask=022`.
    fn attributes(&mut self, text: &str) -> Result<(), PbsError> {
        if let Some(depend) = text.strip_prefix("depend=") {
            // its commas are its own
            let dependency = dependency(depend)?;
            self.give("dependency", &dependency);
            return Ok(());
        }
        for attribute in text.split(',') {
            match attribute.split_once('=') {
                Some(("block", "true")) => self.flag("wait"),
                Some(
                    ("block", _) | ("group_list" | "umask" | "x" | "sandbox" | "stagein" | "stageout", _),
                ) => {}
                _ => self.unknown.push(format!("-W {attribute}")),
            }
        }
        Ok(())
    }
}

/// A file's name as a pattern: without its host, and with our letters for PBS's variables.
fn file_pattern(value: &str) -> String {
    let path = match value.split_once(':') {
        Some((host, path)) if !host.contains('/') => path,
        _ => value,
    };
    let mut pattern = path.replace('%', "%%");
    for (variable, letter) in [
        ("PBS_JOBID", "%j"),
        ("PBS_JOBNAME", "%x"),
        ("PBS_ARRAYID", "%a"),
        ("PBS_ARRAY_INDEX", "%a"),
    ] {
        pattern = pattern.replace(&format!("${{{variable}}}"), letter);
        pattern = pattern.replace(&format!("${variable}"), letter);
    }
    pattern.replace("^array_index^", "%a")
}

/// `1630` as `16:30`, `01311630` as `01/31T16:30`; with a year before that, and seconds after a point.
fn begin(value: &str) -> Option<String> {
    let (digits, seconds) = match value.split_once('.') {
        Some((digits, seconds)) => (digits, Some(seconds)),
        None => (value, None),
    };
    if !digits
        .bytes()
        .chain(seconds.unwrap_or("").bytes())
        .all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let (day, time) = digits.split_at(digits.len().checked_sub(4)?);
    let seconds = seconds.map_or_else(String::new, |seconds| format!(":{seconds}"));
    let clock = format!("{}:{}{seconds}", &time[..2], &time[2..]);
    match day.len() {
        0 => Some(clock),
        4 => Some(format!("{}/{}T{clock}", &day[..2], &day[2..])),
        6 => Some(format!("20{}-{}-{}T{clock}", &day[..2], &day[2..4], &day[4..])),
        8 => Some(format!("{}-{}-{}T{clock}", &day[..4], &day[4..6], &day[6..])),
        _ => None,
    }
}

/// `afterok:12.server:13[4]` as `afterok:12:13_4`.
fn dependency(value: &str) -> Result<String, PbsError> {
    let mut parts = Vec::new();
    for part in value.split(',') {
        let mut fields = part.trim().split(':');
        let kind = fields.next().unwrap_or_default();
        // those on all elements of an array are those on the array here
        let name = kind.strip_suffix("array").unwrap_or(kind);
        if !["after", "afterok", "afternotok", "afterany"].contains(&name) {
            return Err(PbsError::Depend {
                value: value.to_owned(),
                kind: kind.to_owned(),
            });
        }
        let jobs = fields.map(|job| {
            let id = job.split_once('.').map_or(job, |(id, _server)| id);
            match id.split_once('[') {
                Some((id, "]")) => id.to_owned(),
                Some((id, element)) => format!("{id}_{}", element.trim_end_matches(']')),
                None => id.to_owned(),
            }
        });
        let fields: Vec<String> = std::iter::once(name.to_owned()).chain(jobs).collect();
        parts.push(fields.join(":"));
    }
    Ok(parts.join(","))
}

#[cfg(test)]
mod tests;
