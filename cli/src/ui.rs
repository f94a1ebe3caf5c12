//! The terminal: the only place that writes to stdout and stderr.
//!
//! stdout carries data, stderr everything said about it. The pieces return text and are tested as such: [`table`],
//! [`units`], [`views`] (jobs, workers, explanations for people), [`outcome`], [`graph`], [`documents`] (the same for
//! programs), [`error`].

pub(crate) mod documents;
pub(crate) mod error;
pub(crate) mod graph;
pub(crate) mod outcome;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod views;

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::args::OutputForm;
use error::CliError;
use style::Style;

/// Bytes of results that are gathered before they are written.
const STDOUT_BUFFER_BYTES: usize = 64 << 10;

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    form: OutputForm,
    stdout: Style,
    stderr: Style,
}

impl Ui {
    /// Looks at the terminal and at NO_COLOR.
    pub(crate) fn new(form: OutputForm) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = |is_terminal: bool| match is_terminal && !no_color {
            true => Style::Coloured,
            false => Style::Plain,
        };
        Self {
            form,
            stdout: style(io::stdout().is_terminal()),
            stderr: style(io::stderr().is_terminal()),
        }
    }

    /// Whether programs are to read what is printed.
    pub(crate) fn is_json(self) -> bool {
        self.form == OutputForm::Json
    }

    /// Prints what the command was asked for: a document for programs, or a text for people.
    pub(crate) fn data(
        self,
        document: &impl Serialize,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), CliError> {
        let text = match self.is_json() {
            true => documents::line(document)?,
            false => text(self.stdout),
        };
        let mut out = self.stream();
        out.write(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            out.write(b"\n")?;
        }
        out.flush()
    }

    /// For data that comes bit by bit.
    pub(crate) fn stream(self) -> DataStream {
        DataStream {
            out: BufWriter::with_capacity(STDOUT_BUFFER_BYTES, io::stdout().lock()),
        }
    }

    /// Whether a person sees stdout as it is written.
    pub(crate) fn is_seen(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether a person sees stdout and a progress bar in the same place, where the two would overwrite each other.
    pub(crate) fn shares_terminal(self) -> bool {
        // the bar is not drawn where the cursor cannot be moved
        let draws = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        draws && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Says something to the person at the terminal.
    pub(crate) fn note(self, text: &str) {
        say(&format!("{text}\n"));
    }

    /// Says what went wrong, and what to do next.
    pub(crate) fn error(self, error: &CliError) {
        say(&error.render(self.stderr));
    }
}

/// Says a line to the person at the terminal.
pub(crate) fn say_line(line: &str) {
    say(&format!("{line}\n"));
}

/// Prints a line of data.
pub(crate) fn print_line(line: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush());
    written.map_err(CliError::of_stdout)
}

/// Writes to stderr; if that is closed there is nobody to tell.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// stdout while data flows to it.
#[derive(Debug)]
pub(crate) struct DataStream {
    out: BufWriter<StdoutLock<'static>>,
}

impl DataStream {
    /// Writes some bytes, perhaps later.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(CliError::of_stdout)
    }

    /// Writes what is left, now.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::of_stdout)
    }
}
