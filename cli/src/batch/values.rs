//! The smaller values of options: counts, nodes, GPUs, signals, what is exported. Larger ones have files of their own.

use std::time::Duration;

use phalanx_protocol::command::{Recipients, Warning};
use phalanx_protocol::signal;

/// How long before the end a signal comes if nothing is said.
const SIGNAL_LEAD_DEFAULT: Duration = Duration::from_secs(60);

/// Slurm's bound on it, in seconds.
const SIGNAL_LEAD_MAX_SECONDS: u64 = 65_535;

/// Slurm's bounds on `--nice`.
const NICE_MAX: i64 = 2_147_483_645;

/// What `--nice` alone means.
const NICE_DEFAULT: i64 = 100;

/// Why a text is no value of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("this is a whole number from 1 on")]
    Count,
    #[error("this is a whole number of seconds from 0 on")]
    Seconds,
    #[error("this is a position, a whole number from 0 on")]
    Position,
    #[error("a number of nodes is written 4, or 2-4 for at least 2 and at most 4")]
    Nodes,
    #[error("GPUs are written 2 or TYPE:2, several types with commas")]
    Gpus,
    #[error("resources of a node are written gpu:2, gpu:TYPE:2 or NAME:COUNT, several with commas")]
    Gres,
    #[error("this is append or truncate")]
    OpenMode,
    #[error("this is yes or no")]
    YesNo,
    #[error("this is a whole number between -{NICE_MAX} and {NICE_MAX}")]
    Nice,
    #[error("a priority is a whole number, or TOP")]
    Priority,
    #[error("a node is had by one job alone (no value), or by one user's (user)")]
    Exclusive,
    #[error("a signal is written [B:]NAME[@SECONDS], as in B:USR1@120")]
    Signal,
    #[error("there is no signal `{name}`; one is written USR1, SIGUSR1 or 10")]
    SignalName { name: String },
    #[error("a signal comes at most {SIGNAL_LEAD_MAX_SECONDS} seconds before the end")]
    SignalLead,
    #[error(
        "what is exported is written ALL, NONE, or NAME and NAME=VALUE with commas between them, as in ALL,SEED=7"
    )]
    Export,
    #[error("this must not be empty")]
    Empty,
}

/// A number without a sign, which `parse` would take.
fn whole(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A count from 1 on.
pub(crate) fn count(text: &str) -> Result<u32, ValueError> {
    let number = whole(text.trim()).and_then(|number| u32::try_from(number).ok());
    number.filter(|&number| number > 0).ok_or(ValueError::Count)
}

/// A position from 0 on.
pub(crate) fn position(text: &str) -> Result<u64, ValueError> {
    whole(text.trim()).ok_or(ValueError::Position)
}

/// A number of seconds from 0 on.
pub(crate) fn seconds(text: &str) -> Result<Duration, ValueError> {
    let number = whole(text.trim()).ok_or(ValueError::Seconds)?;
    Ok(Duration::from_secs(number))
}

/// How many nodes a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeCount {
    /// At least 1.
    pub(crate) least: u32,
    /// At least `least`.
    pub(crate) most: u32,
}

/// `4`, `2-4`, `1k`.
pub(crate) fn nodes(text: &str) -> Result<NodeCount, ValueError> {
    let number = |text: &str| {
        let lower = text.trim().to_ascii_lowercase();
        let (digits, unit) = match lower.strip_suffix('k') {
            Some(digits) => (digits, 1024),
            None => (lower.as_str(), 1),
        };
        count(digits).ok()?.checked_mul(unit)
    };
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Ok(NodeCount { least, most }),
        (_, _) => Err(ValueError::Nodes),
    }
}

/// A count of something that a node has: GPUs of a type, local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gres {
    /// `gpu`, `nvme`.
    pub(crate) name: String,
    /// `a100`.
    pub(crate) kind: Option<String>,
    pub(crate) count: u64,
}

/// `gpu`, `gpu:2`, `gpu:a100:2`, `gpu:1,nvme:100G`; none for `none`.
pub(crate) fn gres(text: &str) -> Result<Vec<Gres>, ValueError> {
    if ["none", ""].contains(&text.trim().to_ascii_lowercase().as_str()) {
        return Ok(Vec::new());
    }
    text.split(',').map(|part| one_gres(part.trim())).collect()
}

fn one_gres(text: &str) -> Result<Gres, ValueError> {
    let text = text
        .strip_prefix("gres/")
        .or(text.strip_prefix("gres:"))
        .unwrap_or(text);
    let fields: Vec<&str> = text.split(':').collect();
    let (name, kind, count) = match *fields.as_slice() {
        [name] => (name, None, Some(1)),
        // the second is a count or a type
        [name, second] => match scaled(second) {
            Some(count) => (name, None, Some(count)),
            None => (name, Some(second), Some(1)),
        },
        [name, kind, count] => (name, Some(kind), scaled(count)),
        _ => return Err(ValueError::Gres),
    };
    let is_name =
        |text: &str| text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    match count {
        Some(count) if is_name(name) && kind.is_none_or(is_name) => Ok(Gres {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            count,
        }),
        _ => Err(ValueError::Gres),
    }
}

/// `100`, `100G`: K, M, G and T count in 1024s.
fn scaled(text: &str) -> Option<u64> {
    let power = ['k', 'm', 'g', 't']
        .iter()
        .position(|&unit| text.to_ascii_lowercase().ends_with(unit));
    match power {
        Some(power) => whole(&text[..text.len() - 1])?.checked_mul(1024_u64.pow(power as u32 + 1)),
        None => whole(text),
    }
}

/// GPUs, as `--gpus` and its like name them: `2`, `a100:2`, `a100:1,v100:1`.
pub(crate) fn gpus(text: &str) -> Result<Vec<Gres>, ValueError> {
    let one = |part: &str| {
        let (kind, count) = match part.split_once(':') {
            Some((kind, count)) => (Some(kind), whole(count)),
            None => match whole(part) {
                Some(count) => (None, Some(count)),
                None => (Some(part), Some(1)),
            },
        };
        let is_kind = |kind: &str| kind.starts_with(|letter: char| letter.is_ascii_alphanumeric());
        let count = count
            .filter(|_| kind.is_none_or(is_kind))
            .ok_or(ValueError::Gpus)?;
        Ok(Gres {
            name: "gpu".to_owned(),
            kind: kind.map(str::to_owned),
            count,
        })
    };
    text.split(',').map(|part| one(part.trim())).collect()
}

/// What becomes of an output file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    Append,
    Truncate,
}

/// `append`, `truncate`, or their first letters.
pub(crate) fn open_mode(text: &str) -> Result<OpenMode, ValueError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "a" | "append" => Ok(OpenMode::Append),
        "t" | "truncate" => Ok(OpenMode::Truncate),
        _ => Err(ValueError::OpenMode),
    }
}

/// `yes` or `no`.
pub(crate) fn yes_no(text: &str) -> Result<bool, ValueError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "1" => Ok(true),
        "no" | "n" | "false" | "0" => Ok(false),
        _ => Err(ValueError::YesNo),
    }
}

/// How much a job lets others before it; without a number, by 100.
pub(crate) fn nice(text: Option<&str>) -> Result<i64, ValueError> {
    let Some(text) = text else {
        return Ok(NICE_DEFAULT);
    };
    let number = text.trim().parse::<i64>().ok();
    number
        .filter(|number| (-NICE_MAX..=NICE_MAX).contains(number))
        .ok_or(ValueError::Nice)
}

/// What a job's priority is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Before all others.
    Top,
    Number(u32),
}

/// `TOP`, `1000`.
pub(crate) fn priority(text: &str) -> Result<Priority, ValueError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("top") {
        return Ok(Priority::Top);
    }
    let number = whole(text).and_then(|number| u32::try_from(number).ok());
    number.map(Priority::Number).ok_or(ValueError::Priority)
}

/// With whom a job's nodes are not shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusive {
    /// With no other job.
    Job,
    /// With no other user.
    User,
}

/// No value, or `user`; `mcs` and `topo` are the nearest that is there.
pub(crate) fn exclusive(text: Option<&str>) -> Result<Exclusive, ValueError> {
    match text.map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "exclusive" | "topo") => Ok(Exclusive::Job),
        Some("user" | "mcs") => Ok(Exclusive::User),
        Some(_) => Err(ValueError::Exclusive),
    }
}

/// Who gets a signal before a job's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalTo {
    /// The batch shell alone: `B:`.
    BatchShell,
    /// The steps, not the shell.
    Steps,
}

/// A signal that comes before a job's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WarningSignal {
    /// Its number on Linux.
    pub(crate) number: i32,
    /// How long before the end.
    pub(crate) lead: Duration,
    pub(crate) to: SignalTo,
}

impl WarningSignal {
    /// The same for a task; `others` get it if the shell is not to be alone.
    pub(crate) fn warning(self, others: Recipients) -> Warning {
        Warning {
            signal: self.number,
            before_millis: u64::try_from(self.lead.as_millis()).unwrap_or(u64::MAX),
            recipients: match self.to {
                SignalTo::BatchShell => Recipients::Leader,
                SignalTo::Steps => others,
            },
        }
    }
}

/// The number of `USR1`, `SIGUSR1`, `usr1` or `10`.
pub(crate) fn signal_number(text: &str) -> Result<i32, ValueError> {
    let upper = text.trim().to_ascii_uppercase();
    let number = whole(&upper).and_then(|number| i32::try_from(number).ok());
    signal::number(&upper)
        .or(number.filter(|number| (1..=64).contains(number)))
        .ok_or_else(|| ValueError::SignalName {
            name: text.to_owned(),
        })
}

/// `[B:]SIG[@seconds]`; `R:` and `RB:`, which are about reservations, count for what is left of them.
pub(crate) fn warning_signal(text: &str) -> Result<WarningSignal, ValueError> {
    let (to, rest) = match text.split_once(':') {
        Some((flags, rest)) => match flags.to_ascii_uppercase().as_str() {
            "B" | "RB" | "BR" => (SignalTo::BatchShell, rest),
            "R" => (SignalTo::Steps, rest),
            _ => return Err(ValueError::Signal),
        },
        None => (SignalTo::Steps, text),
    };
    let (name, lead) = match rest.split_once('@') {
        Some((name, lead)) => {
            let lead = whole(lead).ok_or(ValueError::Signal)?;
            (name, Some(lead))
        }
        None => (rest, None),
    };
    if lead.is_some_and(|lead| lead > SIGNAL_LEAD_MAX_SECONDS) {
        return Err(ValueError::SignalLead);
    }
    Ok(WarningSignal {
        number: signal_number(name)?,
        lead: lead.map_or(SIGNAL_LEAD_DEFAULT, Duration::from_secs),
        to,
    })
}

/// What a job sees of the environment that it is submitted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// All of it.
    pub(crate) all: bool,
    /// These variables, with the values that they have (none) or get.
    pub(crate) named: Vec<(String, Option<String>)>,
}

/// `ALL`, `NONE`, `NIL`, `NAME,NAME=VALUE`; commas in a value are kept by quotes around it.
pub(crate) fn export(text: &str) -> Result<Export, ValueError> {
    let mut export = Export {
        all: false,
        named: Vec::new(),
    };
    for part in split_outside_quotes(text.trim()).ok_or(ValueError::Export)? {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (part.as_str(), None),
        };
        match (name.to_ascii_uppercase().as_str(), &value) {
            ("ALL", None) => export.all = true,
            ("NONE" | "NIL", None) => {}
            (_, _) if is_variable(name) => export.named.push((name.to_owned(), value)),
            (_, _) => return Err(ValueError::Export),
        }
    }
    Ok(export)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == '\0')
}

/// The parts between the commas outside quotes, without the quotes; none if a quote is not closed.
fn split_outside_quotes(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (letter, quote) {
            (',', None) => parts.push(String::new()),
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if open == letter => quote = None,
            (_, _) => parts.last_mut()?.push(letter),
        }
    }
    quote.is_none().then_some(parts)
}

#[cfg(test)]
mod tests;
