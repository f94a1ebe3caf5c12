//! From the keys of a job's table to its command line, which clap reads as it reads any other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{NamedEdge, NamedJob, Source, in_order, kind_text, meant};
use crate::args::job::SubmitCommand;
use crate::args::waiting::Relation;
use crate::ui::error::CliError;

/// What a script begins with.
const SCRIPT_MARK: &[u8] = b"#!";
/// The keys that say what runs.
const WORK_KEYS: [&str; 3] = ["command", "script", "program"];
/// Keys of a job that are no options.
const OWN_KEYS: [&str; 4] = ["command", "script", "program", "args"];
/// Options that say something about the file itself, or about what is shown of its jobs.
const OTHER_OPTIONS: [&str; 5] = ["file", "dry-run", "help", "live", "grouped"];
const HELP_HINT: &str =
    "keys are the options of `phalanx submit` without their dashes; `phalanx submit --help` explains them";

/// What those look for who know other files of jobs.
const DEPENDENCY_HINT: &str = "`afterok`, `afterany`, `afternotok`, `after` and `aftercorr` name the jobs that it waits for, as in afterok = [\"train\"]";

type Key<'i> = Spanned<Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// The keys that a job may have.
#[derive(Debug)]
pub(super) struct Keys {
    command: clap::Command,
    /// By their names, what their options take.
    options: BTreeMap<String, ArgAction>,
}

/// A command line as it grows, and where its options were said.
#[derive(Debug, Default)]
struct Line {
    options: Vec<OsString>,
    /// The program and its arguments.
    rest: Vec<OsString>,
    spans: BTreeMap<String, Range<usize>>,
}

impl Keys {
    pub(super) fn new() -> Self {
        let command = SubmitCommand::augment_args(clap::Command::new("job"));
        let options = command.get_arguments().filter_map(|argument| {
            let name = argument.get_long()?.to_owned();
            Some((name, argument.get_action().clone()))
        });
        let options = options
            .filter(|(name, _)| !OTHER_OPTIONS.contains(&name.as_str()))
            .collect();
        Self { command, options }
    }

    /// Checks the names in the table that holds for all jobs; what they say is checked with each job.
    pub(super) fn check_defaults(&self, table: &DeTable<'_>, source: &Source<'_>) -> Result<(), CliError> {
        for (key, _) in in_order(table) {
            let name = key.get_ref().as_ref();
            let is_own = OWN_KEYS.contains(&name) || name == "name" || relation(name).is_some();
            if is_own {
                let what = format!("`{name}` in [defaults] cannot be the same for all jobs");
                return Err(source
                    .error(&key.span(), what)
                    .hint("say it in the tables of the jobs"));
            }
            self.check_name(key, "[defaults]", source)?;
        }
        Ok(())
    }

    /// The job of a table.
    pub(super) fn job(
        &self,
        key: &Key<'_>,
        table: &DeTable<'_>,
        defaults: Option<&DeTable<'_>>,
        source: &Source<'_>,
    ) -> Result<NamedJob, CliError> {
        let name = key.get_ref().to_string();
        let owner = format!("the job `{name}`");
        let mut line = Line::default();
        let mut after = Vec::new();
        for (key, value) in in_order(table) {
            self.check_name(key, &owner, source)?;
            let word = key.get_ref().as_ref();
            line.spans.insert(word.to_owned(), key.span());
            match relation(word) {
                Some(relation) => edges(relation, key, value, &mut line, &mut after, source)?,
                None if OWN_KEYS.contains(&word) => {}
                None => self.option(key, value, &mut line, source)?,
            }
        }
        line.rest = work(key, table, source)?;
        for (key, value) in defaults.into_iter().flat_map(|defaults| in_order(defaults)) {
            if !table.contains_key(key.get_ref().as_ref()) {
                line.spans.insert(key.get_ref().to_string(), key.span());
                self.option(key, value, &mut line, source)?;
            }
        }
        if !table.contains_key("name") {
            line.options.push(format!("--name={name}").into());
        }
        let submit = self.read(&line, key, source)?;
        Ok(NamedJob {
            name,
            arguments: submit.job,
            after,
            span: key.span(),
        })
    }

    fn check_name(&self, key: &Key<'_>, owner: &str, source: &Source<'_>) -> Result<(), CliError> {
        let name = key.get_ref().as_ref();
        if self.options.contains_key(name) || OWN_KEYS.contains(&name) {
            return Ok(());
        }
        let known: Vec<String> = self
            .options
            .keys()
            .cloned()
            .chain(OWN_KEYS.map(str::to_owned))
            .collect();
        let hint = match name.starts_with("depend") {
            true => DEPENDENCY_HINT.to_owned(),
            false => meant(&name.replace('_', "-"), &known).unwrap_or_else(|| HELP_HINT.to_owned()),
        };
        let what = format!("`{name}` of {owner} is no key of a job");
        Err(source.error(&key.span(), what).hint(hint))
    }

    /// Adds what an option's key says.
    fn option(
        &self,
        key: &Key<'_>,
        value: &Value<'_>,
        line: &mut Line,
        source: &Source<'_>,
    ) -> Result<(), CliError> {
        let name = key.get_ref().as_ref();
        let wrong = |expected: &str| wrong_kind(key, value, expected, source);
        let is_list = matches!(self.options.get(name), Some(ArgAction::Append));
        let is_switch = matches!(self.options.get(name), Some(ArgAction::SetTrue));
        if is_switch {
            match value.get_ref().as_bool() {
                Some(true) => line.options.push(format!("--{name}").into()),
                Some(false) => {}
                None => return Err(wrong("true or false")),
            }
            return Ok(());
        }
        if let Some(values) = value.get_ref().as_array().filter(|_| is_list) {
            for value in values {
                let text = scalar(value.get_ref()).ok_or_else(|| wrong("a list of texts or numbers"))?;
                line.say(name, &text);
            }
            return Ok(());
        }
        if let Some(table) = value.get_ref().as_table().filter(|_| is_list) {
            for (inner, value) in in_order(table) {
                let text = scalar(value.get_ref()).ok_or_else(|| wrong("a table of texts or numbers"))?;
                line.say(name, &format!("{}={text}", inner.get_ref()));
            }
            return Ok(());
        }
        let expected = match is_list {
            true => "a text, a list or a table",
            false => "a text or a number",
        };
        let text = scalar(value.get_ref()).ok_or_else(|| wrong(expected))?;
        line.say(name, &text);
        Ok(())
    }

    /// Reads the line as clap does, and words what is wrong with it by the keys of the file.
    fn read(&self, line: &Line, job: &Key<'_>, source: &Source<'_>) -> Result<SubmitCommand, CliError> {
        let words = [OsString::from("job")].into_iter();
        let words = words
            .chain(line.options.iter().cloned())
            .chain([OsString::from("--")])
            .chain(line.rest.iter().cloned());
        let matches = self.command.clone().try_get_matches_from(words);
        let submit = matches.and_then(|matches| SubmitCommand::from_arg_matches(&matches));
        submit.map_err(|error| mistake(&error, line, job, source))
    }
}

impl Line {
    /// Adds an option with its value.
    fn say(&mut self, name: &str, value: &str) {
        self.options.push(format!("--{name}={value}").into());
    }
}

/// What a key of a dependency is called.
fn relation(name: &str) -> Option<Relation> {
    Relation::ALL.into_iter().find(|relation| relation.word() == name)
}

/// Names of other jobs of the file, and ids of jobs of the cluster.
fn edges(
    relation: Relation,
    key: &Key<'_>,
    value: &Value<'_>,
    line: &mut Line,
    after: &mut Vec<NamedEdge>,
    source: &Source<'_>,
) -> Result<(), CliError> {
    let values = match value.get_ref() {
        DeValue::Array(values) => values.iter().collect(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => vec![value],
    };
    for value in values {
        match value.get_ref() {
            DeValue::String(on) => after.push(NamedEdge {
                relation,
                on: on.to_string(),
                span: value.span(),
            }),
            DeValue::Integer(id) => line.say(relation.word(), &id.to_string()),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                let expected = "a job's name, its id on the cluster, or a list of these";
                return Err(wrong_kind(key, value, expected, source));
            }
        }
    }
    Ok(())
}

/// The program and its arguments.
fn work(job: &Key<'_>, table: &DeTable<'_>, source: &Source<'_>) -> Result<Vec<OsString>, CliError> {
    let named: Vec<(&Key<'_>, &Value<'_>)> = in_order(table)
        .into_iter()
        .filter(|(key, _)| WORK_KEYS.contains(&key.get_ref().as_ref()))
        .collect();
    let &[(key, value)] = named.as_slice() else {
        let (place, what) = match named.get(1) {
            None => (
                job.span(),
                format!("the job `{}` does not say what runs", job.get_ref()),
            ),
            Some((second, _)) => {
                let first = named[0].0.get_ref();
                let second_name = second.get_ref();
                (
                    second.span(),
                    format!(
                        "`{first}` and `{second_name}` of the job `{}` exclude each other",
                        job.get_ref()
                    ),
                )
            }
        };
        let hint = "give one of: command = [\"prog\", \"arg\"], command = \"a line for the shell\", script = \"job.sh\"; or program and kernel";
        return Err(source.error(&place, what).hint(hint));
    };
    let arguments = match table.get_key_value("args") {
        Some((key, value)) => texts(key, value, source)?,
        None => Vec::new(),
    };
    match (key.get_ref().as_ref(), value.get_ref()) {
        ("command", DeValue::String(text)) => {
            let shell = ["sh", "-c", text.as_ref(), "sh"].map(OsString::from);
            Ok(match arguments.is_empty() {
                // `$0` is of no use to what has no arguments
                true => shell[..3].to_vec(),
                false => [shell.to_vec(), arguments].concat(),
            })
        }
        ("command", _) => {
            let words = texts(key, value, source)?;
            match words.is_empty() {
                true => Err(wrong_kind(key, value, "a program with its arguments", source)),
                false => Ok([words, arguments].concat()),
            }
        }
        (word, DeValue::String(path)) => {
            let path = match word == "script" {
                true => script(key, path, source)?,
                false => path.to_string(),
            };
            Ok([vec![path.into()], arguments].concat())
        }
        (_, _) => Err(wrong_kind(key, value, "the path of a file", source)),
    }
}

/// A script's path, which is looked for nowhere else.
fn script(key: &Key<'_>, path: &str, source: &Source<'_>) -> Result<String, CliError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SCRIPT_MARK.len() as u64).read_to_end(&mut start));
    read.map_err(|error| source.error(&key.span(), format!("cannot read the script `{path}`: {error}")))?;
    if start != SCRIPT_MARK {
        let what = format!("`{path}` is no script: its first line does not begin with #!");
        return Err(source
            .error(&key.span(), what)
            .hint("begin it with the interpreter, as in #!/bin/sh, or name a program by `command`"));
    }
    Ok(match path.contains('/') {
        true => path.to_owned(),
        false => format!("./{path}"),
    })
}

/// A list of words.
fn texts(key: &Key<'_>, value: &Value<'_>, source: &Source<'_>) -> Result<Vec<OsString>, CliError> {
    let wrong = || wrong_kind(key, value, "a list of texts or numbers", source);
    let values = value.get_ref().as_array().ok_or_else(wrong)?;
    let words = values
        .iter()
        .map(|value| scalar(value.get_ref()).map(OsString::from).ok_or_else(wrong));
    words.collect()
}

/// A value as it would stand on a command line.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn wrong_kind(key: &Key<'_>, value: &Value<'_>, expected: &str, source: &Source<'_>) -> CliError {
    // what is wrong with a list or a table where one belongs is in it
    let kind = kind_text(value.get_ref());
    let of_what = match kind.starts_with("a ") && expected.starts_with(&format!("{kind} of")) {
        true => " of something else",
        false => "",
    };
    let what = format!("`{}` has to be {expected}, and is {kind}{of_what}", key.get_ref());
    source.error(&key.span(), what).hint(HELP_HINT)
}

/// What clap has to say, about keys.
fn mistake(error: &clap::Error, line: &Line, job: &Key<'_>, source: &Source<'_>) -> CliError {
    let names = |kind| names_in(error.get(kind));
    let (first, others) = (names(ContextKind::InvalidArg), names(ContextKind::PriorArg));
    // the later of those that it is about
    let span = first
        .iter()
        .chain(&others)
        .filter_map(|name| line.spans.get(name));
    let span = span.max_by_key(|span| span.start).cloned().unwrap_or(job.span());
    let job = job.get_ref();
    let quoted = |names: &[String]| -> String {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    let kind = error.kind();
    let what = if kind == ErrorKind::ArgumentConflict {
        let (one, other) = (quoted(&first), quoted(&others));
        format!("{one} and {other} of the job `{job}` exclude each other")
    } else if kind == ErrorKind::MissingRequiredArgument {
        format!("the job `{job}` needs {} too", quoted(&first))
    } else {
        let value = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => format!(" cannot be `{value}`"),
            Some(_) | None => " is wrong".to_owned(),
        };
        let reason = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        format!("{} of the job `{job}`{value}: {reason}", quoted(&first))
    };
    source.error(&span, what).hint(HELP_HINT)
}

/// The options that an error is about, as keys: `time-limit` of `--time-limit <TIME>`.
fn names_in(value: Option<&ContextValue>) -> Vec<String> {
    let texts = match value {
        Some(ContextValue::String(text)) => std::slice::from_ref(text),
        Some(ContextValue::Strings(texts)) => texts.as_slice(),
        Some(_) | None => &[],
    };
    let name = |text: &String| {
        let text = text.trim_start_matches('-');
        let end = text.find([' ', '=', '[']).unwrap_or(text.len());
        text[..end].to_owned()
    };
    texts.iter().map(name).collect()
}
