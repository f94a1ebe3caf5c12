//! Reads a list of words as options, as `getopt_long` does: `--long=val`, `--long val`, `--lo val` where that can mean
//! one option only, `-s val`, `-sval`, bundled flags `-Hv`; up to `--` or the first word that is no option.
//!
//! What the values mean is not known here.

use super::options::{Argument, Command, OptionSpec, by_long, by_short, of_command};

/// One option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) spec: &'static OptionSpec,
    pub(crate) value: Option<String>,
}

/// What a list of words says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// In the order of the words.
    pub(crate) given: Vec<Given>,
    /// What is no option of the command, as it was written, without its value.
    pub(crate) unknown: Vec<String>,
    /// From the first word on that is no option.
    pub(crate) rest: Vec<String>,
}

/// What becomes of an option that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnUnknown {
    /// It is an error: somebody sits before the command line.
    Refuse,
    /// It is told once, with all others: a script must run.
    Collect,
}

/// Why a list of words cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("there is no option `{option}`{}", suggestion(.nearest))]
    Unknown {
        option: String,
        nearest: Option<&'static str>,
    },
    #[error("`{option}` may mean any of --{}", .candidates.join(", --"))]
    Ambiguous {
        option: String,
        candidates: Vec<&'static str>,
    },
    #[error("`{option}` needs a value")]
    MissingValue { option: String },
    #[error("`{option}` takes no value, but has `{value}`")]
    NeedlessValue { option: String, value: String },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean --{name}?"))
}

/// Reads `words` as options of `command`.
///
/// # Errors
///
/// An option lacks its value, has one that it doesn't take, or is cut too short; with [`OnUnknown::Refuse`] also one that
/// the command doesn't have.
pub(crate) fn parse<S: AsRef<str>>(
    command: Command,
    words: &[S],
    on_unknown: OnUnknown,
) -> Result<Parsed, OptionError> {
    let mut reader = Reader {
        command,
        on_unknown,
        parsed: Parsed::default(),
    };
    let mut words = words.iter().map(AsRef::as_ref).peekable();
    while let Some(word) = words.peek().copied() {
        if word == "--" {
            words.next();
            break;
        }
        if !word.starts_with('-') || word == "-" {
            break;
        }
        words.next();
        match word.strip_prefix("--") {
            Some(long) => reader.long(long, &mut words)?,
            None => reader.bundle(&word[1..], &mut words)?,
        }
    }
    reader.parsed.rest = words.map(str::to_owned).collect();
    Ok(reader.parsed)
}

struct Reader {
    command: Command,
    on_unknown: OnUnknown,
    parsed: Parsed,
}

type Words<'w, I> = std::iter::Peekable<I>;

impl Reader {
    /// `--name`, `--name=value`, `--name value`.
    fn long<'w, I: Iterator<Item = &'w str>>(
        &mut self,
        word: &str,
        words: &mut Words<'w, I>,
    ) -> Result<(), OptionError> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let option = format!("--{name}");
        let Some(spec) = self.find_long(name)? else {
            return self.unknown(option, nearest(self.command, name), attached.is_some(), words);
        };
        let value = match (spec.argument, attached) {
            (Argument::Flag, Some(value)) => {
                return Err(OptionError::NeedlessValue {
                    option,
                    value: value.to_owned(),
                });
            }
            (Argument::Flag | Argument::Optional, None) => None,
            (Argument::Required | Argument::Optional, Some(value)) => Some(value),
            (Argument::Required, None) => Some(words.next().ok_or(OptionError::MissingValue { option })?),
        };
        self.push(spec, value);
        Ok(())
    }

    /// `-s`, `-sval`, `-s val`, `-Hv`: the word without its dash.
    fn bundle<'w, I: Iterator<Item = &'w str>>(
        &mut self,
        bundle: &str,
        words: &mut Words<'w, I>,
    ) -> Result<(), OptionError> {
        for (position, letter) in bundle.char_indices() {
            let attached = &bundle[position + letter.len_utf8()..];
            let option = format!("-{letter}");
            let Some(spec) = by_short(self.command, letter) else {
                return self.unknown(option, None, !attached.is_empty(), words);
            };
            match spec.argument {
                Argument::Flag => self.push(spec, None),
                Argument::Optional => {
                    self.push(spec, Some(attached).filter(|value| !value.is_empty()));
                    return Ok(());
                }
                Argument::Required => {
                    let value = match attached {
                        "" => words.next().ok_or(OptionError::MissingValue { option })?,
                        _ => attached,
                    };
                    self.push(spec, Some(value));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, spec: &'static OptionSpec, value: Option<&str>) {
        let value = value.map(str::to_owned);
        self.parsed.given.push(Given { spec, value });
    }

    /// The option with this name, or the only one that it is the beginning of.
    fn find_long(&self, name: &str) -> Result<Option<&'static OptionSpec>, OptionError> {
        if let Some(spec) = by_long(self.command, name) {
            return Ok(Some(spec));
        }
        let candidates: Vec<&'static OptionSpec> = of_command(self.command)
            .filter(|spec| !name.is_empty() && spec.long.starts_with(name))
            .collect();
        match candidates.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            _ => Err(OptionError::Ambiguous {
                option: format!("--{name}"),
                candidates: candidates.iter().map(|spec| spec.long).collect(),
            }),
        }
    }

    /// Tells or keeps an option that is not known, and passes over what looks like its value.
    fn unknown<'w, I: Iterator<Item = &'w str>>(
        &mut self,
        option: String,
        nearest: Option<&'static str>,
        has_value: bool,
        words: &mut Words<'w, I>,
    ) -> Result<(), OptionError> {
        match self.on_unknown {
            OnUnknown::Refuse => return Err(OptionError::Unknown { option, nearest }),
            OnUnknown::Collect => {}
        }
        if !has_value {
            words.next_if(|word| !word.starts_with('-'));
        }
        self.parsed.unknown.push(option);
        Ok(())
    }
}

/// The command's option whose name is most like this one, if any is much like it.
pub(super) fn nearest(command: Command, name: &str) -> Option<&'static str> {
    let candidates = of_command(command).map(|spec| (edits(name, spec.long), spec.long));
    let (edits, long) = candidates.min()?;
    (edits <= 1 + name.len() / 5).then_some(long)
}

/// How many letters must be added, removed or changed to make one text the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (position, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[position + 1];
            row[position + 1] = changed.min(diagonal + 1).min(row[position] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str, on_unknown: OnUnknown) -> Result<Parsed, OptionError> {
        parse(
            Command::Sbatch,
            &line.split_whitespace().collect::<Vec<_>>(),
            on_unknown,
        )
    }

    /// The options of a line as `name=value name`, and what is left.
    fn told(line: &str) -> (String, String) {
        let parsed = read(line, OnUnknown::Refuse).unwrap();
        let given = parsed.given.iter().map(|given| match &given.value {
            Some(value) => format!("{}={value}", given.spec.long),
            None => given.spec.long.to_owned(),
        });
        (given.collect::<Vec<_>>().join(" "), parsed.rest.join(" "))
    }

    #[test]
    fn a_value_is_given_in_any_of_four_forms() {
        for line in ["--time=5", "--time 5", "-t 5", "-t5"] {
            assert_eq!(told(line).0, "time=5", "{line}");
        }
        assert_eq!(told("--time=a=b").0, "time=a=b");
        assert_eq!(told("--job-name=").0, "job-name=");
        assert_eq!(told("-t -5").0, "time=-5");
    }

    #[test]
    fn flags_come_alone_or_bundled() {
        for (line, given) in [
            ("-H --parsable", "hold parsable"),
            ("-HQvn4", "hold quiet verbose ntasks=4"),
            ("-HJ name", "hold job-name=name"),
            ("--requeue --no-requeue", "requeue no-requeue"),
        ] {
            assert_eq!(told(line).0, given, "{line}");
        }
    }

    #[test]
    fn an_optional_value_is_attached_or_not_there() {
        for (line, given, rest) in [
            ("--exclusive", "exclusive", ""),
            ("--exclusive=user", "exclusive=user", ""),
            ("--nice 5", "nice", "5"),
            ("--nice=-5", "nice=-5", ""),
            ("-k", "no-kill", ""),
            ("-koff", "no-kill=off", ""),
        ] {
            assert_eq!(told(line), (given.to_owned(), rest.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_long_name_may_be_cut_as_long_as_it_means_one_option() {
        for (line, given) in [
            ("--dep=1", "dependency=1"),
            ("--part x", "partition=x"),
            ("--exclusi", "exclusive"),
            ("--mem=4", "mem=4"),
        ] {
            assert_eq!(told(line).0, given, "{line}");
        }
        let candidates = vec!["time", "time-min"];
        let option = "--tim".to_owned();
        assert_eq!(
            read("--tim=4", OnUnknown::Refuse),
            Err(OptionError::Ambiguous { option, candidates })
        );
    }

    #[test]
    fn options_end_at_the_first_word_that_is_none() {
        for (line, given, rest) in [
            ("-n 4 job.sh -t 5", "ntasks=4", "job.sh -t 5"),
            ("-n 4 -- -t 5", "ntasks=4", "-t 5"),
            ("-n 4 - -t 5", "ntasks=4", "- -t 5"),
            ("", "", ""),
            ("--", "", ""),
        ] {
            assert_eq!(told(line), (given.to_owned(), rest.to_owned()), "{line}");
        }
    }

    #[test]
    fn on_the_command_line_an_unknown_option_is_refused_with_the_one_that_was_meant() {
        for (line, option, nearest) in [
            ("--cpu-per-task=4", "--cpu-per-task", Some("cpus-per-task")),
            ("--jobname=x", "--jobname", Some("job-name")),
            ("--job_name=x", "--job_name", Some("job-name")),
            ("--no-such-thing", "--no-such-thing", None),
            ("-z", "-z", None),
            ("-Hz5", "-z", None),
        ] {
            let option = option.to_owned();
            assert_eq!(
                read(line, OnUnknown::Refuse),
                Err(OptionError::Unknown { option, nearest }),
                "{line}"
            );
        }
        assert_eq!(
            read("--cpu-per-task=4", OnUnknown::Refuse)
                .unwrap_err()
                .to_string(),
            "there is no option `--cpu-per-task`; did you mean --cpus-per-task?"
        );
    }

    #[test]
    fn in_a_script_unknown_options_are_passed_over_with_their_values() {
        let parsed = read("--new=1 -n 4 --newer 7 -z -Hy9 -t 5", OnUnknown::Collect).unwrap();
        assert_eq!(parsed.unknown, ["--new", "--newer", "-z", "-y"]);
        let names: Vec<&str> = parsed.given.iter().map(|given| given.spec.long).collect();
        assert_eq!(names, ["ntasks", "hold", "time"]);
        assert!(parsed.rest.is_empty());
    }

    #[test]
    fn a_missing_or_needless_value_is_refused_everywhere() {
        for on_unknown in [OnUnknown::Refuse, OnUnknown::Collect] {
            for (line, option) in [("--time", "--time"), ("-t", "-t"), ("-Ht", "-t")] {
                let option = option.to_owned();
                assert_eq!(
                    read(line, on_unknown),
                    Err(OptionError::MissingValue { option }),
                    "{line}"
                );
            }
            let option = "--hold".to_owned();
            let value = "yes".to_owned();
            assert_eq!(
                read("--hold=yes", on_unknown),
                Err(OptionError::NeedlessValue { option, value })
            );
        }
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("mem", "mme", 2),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(words in prop::collection::vec("[-=a-zA-Zé0-9]{0,8}", 0..8)) {
            let parsed = parse(Command::Srun, &words, OnUnknown::Collect);
            if let Ok(parsed) = parsed {
                prop_assert!(parsed.given.len() + parsed.unknown.len() + parsed.rest.len() <= words.concat().len() + words.len());
            }
        }
    }
}
