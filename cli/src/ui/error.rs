//! What a person is told when a command fails: the thing and the reason, details under it, the next step.

use std::error::Error;
use std::io;

use phalanx_protocol::exit::ExitCode;

use super::style::{Style, Tone, printable};

/// The end of a command that did not go well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    what: String,
    details: Vec<String>,
    hint: Option<String>,
    code: ExitCode,
}

impl CliError {
    pub(crate) fn new(code: ExitCode, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            details: Vec::new(),
            hint: None,
            code,
        }
    }

    /// An error of the command line or of a file that it names.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, what)
    }

    /// An error and its causes, in one line: each cause that the text before it does not tell already.
    pub(crate) fn from_chain(code: ExitCode, error: &dyn Error) -> Self {
        Self::new(code, chain(error))
    }

    /// The end that is not told: the exit code says all, or somebody else has told it.
    pub(crate) fn silent(code: ExitCode) -> Self {
        Self::new(code, "")
    }

    /// What could not be written to stdout. A reader that left (`| head`) has what it wanted: that is no error.
    pub(crate) fn of_stdout(error: io::Error) -> Self {
        match error.kind() == io::ErrorKind::BrokenPipe {
            true => Self::silent(ExitCode::Success),
            false => Self::new(ExitCode::Internal, format!("cannot write to stdout: {error}")),
        }
    }

    /// The same, said of a place.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    pub(crate) fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(str::to_owned).or(self.hint);
        self
    }

    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// What is told, as lines without any mark; none if it is silent.
    pub(crate) fn plain_lines(&self) -> Vec<String> {
        if self.what.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![self.what.clone()];
        lines.extend(self.details.iter().cloned());
        lines.extend(self.hint.iter().map(|hint| format!("hint: {hint}")));
        lines
    }

    /// The lines for stderr; none if it is silent.
    pub(crate) fn render(&self, style: Style) -> String {
        if self.what.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "{} {}\n",
            style.paint(Tone::Bad, "error:"),
            printable(&self.what, 2)
        );
        for detail in &self.details {
            text += &format!("  {}\n", printable(detail, 4));
        }
        if let Some(hint) = &self.hint {
            text += &format!("\n{} {}\n", style.paint(Tone::Busy, "hint:"), printable(hint, 2));
        }
        text
    }
}

/// An error's text and its causes', each cause once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `inputs.jsonl`")]
    struct Unreadable(#[source] io::Error);

    #[test]
    fn an_error_names_the_thing_the_reason_and_the_next_step() {
        let error =
            CliError::usage("job 42 cannot start: each task needs 64 cpus, the largest worker has 48")
                .detail("workers w3 and w5 are draining")
                .hint("`phalanx explain 42` lists what each worker offers");
        assert_eq!(
            error.render(Style::Plain),
            "error: job 42 cannot start: each task needs 64 cpus, the largest worker has 48\n  \
             workers w3 and w5 are draining\n\nhint: `phalanx explain 42` lists what each worker offers\n"
        );
    }

    #[test]
    fn colour_sets_off_only_the_labels() {
        let text = CliError::usage("bad").hint("better").render(Style::Coloured);
        assert_eq!(text, "\x1b[31merror:\x1b[0m bad\n\n\x1b[36mhint:\x1b[0m better\n");
    }

    #[test]
    fn causes_follow_the_error_in_its_line() {
        let error = Unreadable(io::Error::other("the disk is gone"));
        let error = CliError::from_chain(ExitCode::Usage, &error);
        assert_eq!(
            error.render(Style::Plain),
            "error: cannot read `inputs.jsonl`: the disk is gone\n"
        );
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let error = CliError::of_stdout(io::ErrorKind::BrokenPipe.into());
        assert_eq!(
            (error.code(), error.render(Style::Plain)),
            (ExitCode::Success, String::new())
        );
    }
}
