//! A file of jobs and of what they wait for of each other, in TOML.
//!
//! A table `[job.NAME]` says of a job what the options of `phalanx submit` say, under the same names: [`words`] makes its
//! command line of it, so that whatever can be said there can be said here. `[defaults]` holds for all jobs. [`order`] puts
//! the jobs in an order in which each comes after those that it waits for. Nothing is decided here about clusters; every
//! mistake is told with its file, line and key.

mod order;
#[cfg(test)]
mod tests;
mod words;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::job::SubmitArguments;
use crate::args::waiting::Relation;
use crate::program::nearest;
use crate::ui::error::CliError;
use words::Keys;

/// Jobs of one file.
pub(crate) const JOBS_MAX: usize = 1000;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The tables that a file may have.
const TABLES: [&str; 2] = ["defaults", "job"];
const SHAPE_HINT: &str = "each job is a table of its own, as in [job.train]";

/// Jobs, each behind those of the file that it waits for, else in the order in which they are written.
#[derive(Debug)]
pub(crate) struct JobFile {
    pub(crate) jobs: Vec<FileJob>,
}

/// One job of a file.
#[derive(Debug)]
pub(crate) struct FileJob {
    /// The name of its table.
    pub(crate) name: String,
    /// What its command line would say, apart from what it waits for in the file.
    pub(crate) arguments: SubmitArguments,
    /// What it waits for in the file: how, and the position of the other job in [`JobFile::jobs`].
    pub(crate) after: Vec<(Relation, usize)>,
    /// Where its table is, for what is found wrong with it later.
    pub(crate) place: String,
}

/// A job whose dependencies are names yet.
#[derive(Debug)]
struct NamedJob {
    name: String,
    arguments: SubmitArguments,
    after: Vec<NamedEdge>,
    span: Range<usize>,
}

/// A job's wait for another one.
#[derive(Debug)]
struct NamedEdge {
    relation: Relation,
    on: String,
    span: Range<usize>,
}

impl JobFile {
    /// Reads a file, checks all of it, and orders its jobs.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CliError::usage(format!("cannot read the job file `{}`: {error}", path.display()))
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(&format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8 text"))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CliError> {
        let source = Source {
            path: path.to_owned(),
            text,
        };
        let document = DeTable::parse(text).map_err(|error| {
            let what = error.message().replace('\n', ", ");
            match error.span() {
                Some(span) => source.error(&span, format!("this is not TOML: {what}")),
                None => CliError::usage(format!("`{}` is not TOML: {what}", path.display())),
            }
        })?;
        let document = document.get_ref();
        for (key, value) in in_order(document) {
            if !TABLES.contains(&key.get_ref().as_ref()) {
                let what = format!("`{}` is no table of a job file", key.get_ref());
                return Err(source.error(&key.span(), what).hint(SHAPE_HINT));
            }
            if !value.get_ref().is_table() {
                return Err(source.not_a_table(key, value));
            }
        }
        let keys = Keys::new();
        let defaults = document
            .get("defaults")
            .and_then(|value| value.get_ref().as_table());
        if let Some(defaults) = defaults {
            keys.check_defaults(defaults, &source)?;
        }
        let mut jobs = Vec::new();
        let tables = document.get("job").and_then(|value| value.get_ref().as_table());
        for (key, value) in tables.into_iter().flat_map(|tables| in_order(tables)) {
            let Some(table) = value.get_ref().as_table() else {
                let what = format!("`{}` has to be a job's table", key.get_ref());
                return Err(source.error(&key.span(), what).hint(SHAPE_HINT));
            };
            jobs.push(keys.job(key, table, defaults, &source)?);
        }
        if jobs.is_empty() {
            let what = format!("the job file `{}` has no jobs", path.display());
            return Err(CliError::usage(what).hint(SHAPE_HINT));
        }
        if jobs.len() > JOBS_MAX {
            let what = format!(
                "the job file `{}` has {} jobs, more than {JOBS_MAX}",
                path.display(),
                jobs.len()
            );
            return Err(CliError::usage(what).hint("jobs of the same kind are one job with an `array`"));
        }
        order::order(jobs, &source)
    }
}

/// A table's entries as they are written.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A file's name and text, to say where something is.
#[derive(Debug)]
struct Source<'a> {
    path: PathBuf,
    text: &'a str,
}

impl Source<'_> {
    /// The line, from 1, on which something begins.
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// `jobs.toml:12`.
    fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.path.display(), self.line(span))
    }

    /// Something that is wrong at a place.
    fn error(&self, span: &Range<usize>, what: impl std::fmt::Display) -> CliError {
        CliError::usage(format!("{}: {what}", self.place(span)))
    }

    fn not_a_table(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> CliError {
        let what = format!(
            "`{}` has to be a table, and is {}",
            key.get_ref(),
            kind_text(value.get_ref())
        );
        self.error(&key.span(), what).hint(SHAPE_HINT)
    }
}

/// A kind of value, in words.
fn kind_text(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What somebody probably meant.
fn meant(wanted: &str, known: &[String]) -> Option<String> {
    nearest(wanted, known).map(|name| format!("did you mean `{name}`?"))
}
