//! `phalanx results`, and the writing of results that it shares with `run`.

use std::fmt::Write as _;

use phalanx::ResultEvent;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::{Encoding, IndexRange, JobId};
use serde_json::value::RawValue;

use crate::args::ResultsArguments;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Document, RangeText, ResultLine, line};
use crate::ui::error::CliError;
use crate::ui::outcome::outcome_error;

pub(super) async fn run(
    cluster: &Connected,
    arguments: &ResultsArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let job = arguments.job;
    let view = cluster.client.job(job).await?;
    let writer = ResultWriter {
        job,
        is_json: ui.is_json(),
        reduces: view.reduce,
    };
    if view.command.is_some() {
        return Err(
            CliError::usage(format!("job {job} runs programs, which return nothing"))
                .hint(format!("`phalanx logs {job}` prints what they have printed")),
        );
    }
    if view.encoding != Encoding::Json {
        return Err(writer.not_json());
    }
    let mut results = cluster.client.results(job, !arguments.as_completed);
    let mut stream = ui.stream();
    while let Some(event) = results.next().await? {
        stream.write(writer.text(&event)?.as_bytes())?;
        stream.flush()?;
        if let ResultEvent::Ended(view) = event {
            return match outcome_error(&view) {
                Some(error) => Err(error),
                None => Ok(ExitCode::Success),
            };
        }
    }
    Ok(ExitCode::Success)
}

/// Turns results into lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResultWriter {
    pub(super) job: JobId,
    /// Each line is a document; else just the value.
    pub(super) is_json: bool,
    /// Whether blocks hold one merged value each.
    pub(super) reduces: bool,
}

impl ResultWriter {
    /// The lines for stdout.
    pub(super) fn text(&self, event: &ResultEvent) -> Result<String, CliError> {
        match event {
            ResultEvent::Block { range, keep, bytes } => self.block(*range, keep, bytes),
            ResultEvent::Failed(failures) if self.is_json => failures.iter().map(failed_line).collect(),
            // failures are listed at the end, and tasks that return nothing have nothing to print
            ResultEvent::Failed(_) | ResultEvent::NoResults(_) | ResultEvent::Ended(_) => Ok(String::new()),
        }
    }

    fn block(&self, range: IndexRange, keep: &[IndexRange], bytes: &[u8]) -> Result<String, CliError> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.not_json())?;
        let text = text.strip_suffix('\n').ok_or_else(|| self.not_json())?;
        let lines = text.split('\n').count() as u64;
        match self.reduces {
            true if lines == 1 && keep == [range] => self.merged(range, text),
            false if lines == range.len() => self.values(range, keep, text),
            true | false => Err(self.not_json()),
        }
    }

    fn merged(&self, range: IndexRange, text: &str) -> Result<String, CliError> {
        let value = self.value(text)?;
        let range = RangeText(range);
        let content = ResultLine::Merged { range, value };
        match self.is_json {
            true => line(&Document::new(content)),
            false => line(&content),
        }
    }

    fn values(&self, range: IndexRange, keep: &[IndexRange], text: &str) -> Result<String, CliError> {
        let mut out = String::with_capacity(text.len() + 1);
        for (text, index) in text.split('\n').zip(range.start..) {
            if !keep.iter().any(|piece| piece.contains(index)) {
                continue;
            }
            let value = self.value(text)?;
            match self.is_json {
                true => out += &line(&Document::new(ResultLine::Value { index, value }))?,
                false => {
                    // a String takes everything
                    let _ = writeln!(out, "{}", value.get());
                }
            }
        }
        Ok(out)
    }

    fn value<'a>(&self, text: &'a str) -> Result<&'a RawValue, CliError> {
        serde_json::from_str(text).map_err(|_| self.not_json())
    }

    fn not_json(&self) -> CliError {
        let job = self.job;
        CliError::usage(format!(
            "the results of job {job} are not JSON: the job was submitted by a program"
        ))
        .hint("read them in that program, with the crate `phalanx`; only it knows their types")
    }
}

fn failed_line(failure: &TaskFailure) -> Result<String, CliError> {
    line(&Document::new(ResultLine::Failed {
        index: failure.index,
        error: failure.into(),
    }))
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::FailureCause;

    use super::*;
    use crate::ui::style::Style;

    const HUMAN: ResultWriter = ResultWriter {
        job: JobId(42),
        is_json: false,
        reduces: false,
    };
    const JSON: ResultWriter = ResultWriter {
        is_json: true,
        ..HUMAN
    };

    /// A block with results of `range`, of which the ranges `keep` count.
    fn block(range: (u64, u64), keep: &[(u64, u64)], bytes: &'static [u8]) -> ResultEvent {
        let range_of = |&(start, end): &(u64, u64)| IndexRange::new(start, end);
        ResultEvent::Block {
            range: range_of(&range),
            keep: keep.iter().map(range_of).collect(),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn values_are_lines_and_only_those_that_count_are_printed() {
        let event = block((5, 9), &[(5, 6), (7, 9)], b"1\n\"two\"\n[3]\n{\"a\": 4}\n");
        assert_eq!(HUMAN.text(&event).unwrap(), "1\n[3]\n{\"a\": 4}\n");
        assert_eq!(
            JSON.text(&event).unwrap(),
            "{\"version\":1,\"index\":5,\"value\":1}\n{\"version\":1,\"index\":7,\"value\":[3]}\n\
             {\"version\":1,\"index\":8,\"value\":{\"a\": 4}}\n"
        );
    }

    #[test]
    fn a_merged_value_tells_its_range() {
        let event = block((0, 100), &[(0, 100)], b"4950\n");
        let reducing = ResultWriter {
            reduces: true,
            ..HUMAN
        };
        assert_eq!(
            reducing.text(&event).unwrap(),
            "{\"range\":\"0-99\",\"value\":4950}\n"
        );
        let documents = ResultWriter {
            is_json: true,
            ..reducing
        };
        assert_eq!(
            documents.text(&event).unwrap(),
            "{\"version\":1,\"range\":\"0-99\",\"value\":4950}\n"
        );
        let single = block((7, 8), &[(7, 8)], b"7\n");
        assert_eq!(reducing.text(&single).unwrap(), "{\"range\":\"7\",\"value\":7}\n");
        assert_eq!(HUMAN.text(&single).unwrap(), "7\n");
    }

    #[test]
    fn failures_have_a_line_for_programs_only() {
        let event = ResultEvent::Failed(vec![TaskFailure {
            index: 3,
            cause: FailureCause::Error,
            message: "odd".to_owned(),
        }]);
        assert_eq!(HUMAN.text(&event).unwrap(), "");
        assert_eq!(
            JSON.text(&event).unwrap(),
            "{\"version\":1,\"index\":3,\"error\":{\"cause\":\"error\",\"message\":\"odd\"}}\n"
        );
    }

    #[test]
    fn results_of_a_program_are_left_to_it() {
        let blocks: [&[u8]; 6] = [
            b"\x05\x07",
            b"\xff\xfe\n",
            b"1\n2\n3\n",
            b"1\n",
            b"\n\n",
            b"a\nb\n",
        ];
        for bytes in blocks {
            let event = block((0, 2), &[(0, 1)], bytes);
            assert_eq!(
                HUMAN.text(&event).unwrap_err().render(Style::Plain),
                "error: the results of job 42 are not JSON: the job was submitted by a program\n\n\
                 hint: read them in that program, with the crate `phalanx`; only it knows their types\n"
            );
        }
    }
}
