//! A job that calls a kernel.

use std::fs;

use bytes::Bytes;
use phalanx::Client;
use phalanx_protocol::dependency::Dependency;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::limits::PARAMETERS_INLINE_BYTES_MAX;
use phalanx_protocol::{
    BlobId, Encoding, Feeding, IndexRange, Inputs, JobId, JobSpec, KernelWork, Payload, Request,
    SubmissionId, Work, WorkerChoice,
};
use serde::de::IgnoredAny;

use super::items::Items;
use super::{begin_unix_millis, new_submission};
use crate::args::job::SubmitArguments;
use crate::program::{Call, CallInputs, Program};
use crate::ui::error::CliError;

/// A call of a kernel, checked.
#[derive(Debug)]
pub(in crate::commands) struct KernelDraft {
    arguments: SubmitArguments,
    kernel: String,
    tasks: Tasks,
    parameters: Vec<u8>,
    submission: SubmissionId,
    pub(super) dependency: Option<Dependency>,
    pub(super) held: bool,
    begin_unix_millis: Option<u64>,
}

#[derive(Debug)]
enum Tasks {
    Range(IndexRange),
    Items(Items),
    Ranks(u32),
}

impl KernelDraft {
    /// Checks the program, the parameters and the inputs.
    pub(super) fn prepare(arguments: SubmitArguments) -> Result<Self, CliError> {
        let kernel = arguments.kernel.clone().unwrap_or_default();
        let gang = &arguments.command.gang;
        let tasks = match (&arguments.range, &arguments.inputs, gang.ranks) {
            (Some(range), None, None) => Tasks::Range(*range),
            (None, Some(path), None) => Tasks::Items(Items::JsonLines(path.clone())),
            (None, None, Some(ranks)) => Tasks::Ranks(ranks),
            _ => {
                return Err(CliError::usage(
                    "a kernel is called for numbers, for inputs or by ranks, and none of these is given",
                )
                .hint("give either --range A..B, --inputs FILE or --ranks N"));
            }
        };
        if gang.label {
            let what = "ranks of a kernel return results, and have no output that could be labelled";
            return Err(CliError::usage(what).hint("leave --label out"));
        }
        if let Some(argument) = arguments.arguments.first() {
            let what = format!("a kernel takes no arguments such as `{}`", argument.display());
            return Err(CliError::usage(what).hint("give what all its tasks share with --parameters"));
        }
        Program::open(arguments.program())?.check(Call {
            kernel: &kernel,
            inputs: match tasks {
                Tasks::Range(_) => CallInputs::Indices,
                Tasks::Items(_) => CallInputs::Lines,
                Tasks::Ranks(_) => CallInputs::Ranks,
            },
            parameters: arguments.parameters.is_some(),
            reduce: arguments.reduce,
        })?;
        let parameters = match &arguments.parameters {
            Some(text) => read_parameters(text)?,
            // all ranks have an input, and one that needs to be told was asked for
            None if matches!(tasks, Tasks::Ranks(_)) => b"null".to_vec(),
            None => Vec::new(),
        };
        if let Tasks::Items(items) = &tasks {
            items.check()?;
        }
        let draft = Self {
            dependency: arguments.waiting.dependency(&[]),
            held: arguments.waiting.hold,
            begin_unix_millis: arguments.waiting.begin.map(begin_unix_millis).transpose()?,
            arguments,
            kernel,
            tasks,
            parameters,
            submission: new_submission()?,
        };
        // the job as it will be, but for what storage will call its parts
        let nothing = BlobId([0; 32]);
        let (inputs, tasks) = match draft.tasks {
            Tasks::Range(range) => (Inputs::Index { first: range.start }, range.len()),
            Tasks::Items(_) => (Inputs::Items { table: nothing }, 0),
            Tasks::Ranks(ranks) => (Inputs::Index { first: 0 }, ranks.into()),
        };
        let spec = draft.spec(nothing, Payload::Inline(Bytes::new()), inputs, tasks);
        spec.check()
            .map_err(|error| CliError::from_chain(ExitCode::Usage, &error))?;
        Ok(draft)
    }

    /// Whether results of neighbours are merged.
    pub(super) fn reduces(&self) -> bool {
        self.arguments.reduce
    }

    /// The job's name.
    pub(super) fn name(&self) -> &str {
        self.arguments.name.as_ref().unwrap_or(&self.kernel)
    }

    /// The kernel's name.
    pub(super) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// What each task needs.
    pub(super) fn request(&self) -> Request {
        self.arguments.request()
    }

    /// What each task may need instead.
    pub(super) fn choice(&self) -> WorkerChoice {
        self.arguments.choice()
    }

    pub(super) fn alternatives(&self) -> Vec<Request> {
        self.arguments.alternatives()
    }

    /// How many tasks there are, if that is known without reading their inputs.
    pub(super) fn tasks(&self) -> Option<u64> {
        match &self.tasks {
            Tasks::Range(range) => Some(range.len()),
            Tasks::Items(_) => None,
            Tasks::Ranks(ranks) => Some(u64::from(*ranks)),
        }
    }

    /// Uploads what storage lacks and submits the job.
    pub(super) async fn send(&self, client: &Client) -> Result<JobId, CliError> {
        let program = client.ensure_program(self.arguments.program()).await?;
        let parameters = match self.parameters.len() {
            0..=PARAMETERS_INLINE_BYTES_MAX => Payload::Inline(Bytes::copy_from_slice(&self.parameters)),
            _ => Payload::Blob(client.ensure_blob(&self.parameters).await?),
        };
        let (inputs, tasks) = match &self.tasks {
            Tasks::Range(range) => (Inputs::Index { first: range.start }, range.len()),
            Tasks::Items(items) => items.send(client).await?,
            Tasks::Ranks(ranks) => (Inputs::Index { first: 0 }, u64::from(*ranks)),
        };
        Ok(client
            .submit(self.spec(program, parameters, inputs, tasks))
            .await?)
    }

    fn spec(&self, program: BlobId, parameters: Payload, inputs: Inputs, tasks: u64) -> JobSpec {
        let arguments = &self.arguments;
        JobSpec {
            submission: self.submission,
            name: self.name().to_owned(),
            tasks,
            work: Work::Kernel(KernelWork {
                program,
                kernel: self.kernel.clone(),
                parameters,
                inputs,
                encoding: Encoding::Json,
                reduce: arguments.reduce,
            }),
            request: arguments.request(),
            alternatives: arguments.alternatives(),
            choice: arguments.choice(),
            priority: arguments.priority,
            feeding: Feeding::default(),
            failures_max: arguments.failures_max,
            retries: arguments.limits.retries(),
            task_time_limit_millis: arguments.limits.task_time_limit_millis(),
            time_limit_millis: arguments.limits.time_limit_millis(),
            idempotent: arguments.idempotent,
            slots_max: arguments.command.at_most,
            dependency: self.dependency.clone(),
            held: self.held,
            begin_unix_millis: self.begin_unix_millis,
            gang: arguments.command.gang.gang(),
        }
    }
}

/// The bytes of the parameters: JSON, given as it is or as `@FILE`.
fn read_parameters(text: &str) -> Result<Vec<u8>, CliError> {
    let (bytes, from) = match text.strip_prefix('@') {
        Some(path) => {
            let bytes = fs::read(path)
                .map_err(|error| CliError::usage(format!("cannot read the parameters `{path}`: {error}")))?;
            (bytes, format!("`{path}`"))
        }
        None => (text.as_bytes().to_vec(), "--parameters".to_owned()),
    };
    let checked: Result<IgnoredAny, _> = serde_json::from_slice(&bytes);
    match checked {
        Ok(_) => Ok(bytes),
        Err(error) => Err(CliError::usage(format!("{from} is not JSON: {error}"))
            .hint("a text needs quotes of its own, as in --parameters '\"text\"'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::style::Style;

    #[test]
    fn parameters_are_json_or_a_file_of_it() {
        assert_eq!(read_parameters(r#"{"width": 8}"#).unwrap(), br#"{"width": 8}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scene.json");
        fs::write(&path, "[1,\n2]\n").unwrap();
        assert_eq!(
            read_parameters(&format!("@{}", path.display())).unwrap(),
            b"[1,\n2]\n"
        );
    }

    #[test]
    fn parameters_that_are_no_json_are_told_with_their_place() {
        assert_eq!(
            read_parameters("text").unwrap_err().render(Style::Plain),
            "error: --parameters is not JSON: expected ident at line 1 column 2\n\n\
             hint: a text needs quotes of its own, as in --parameters '\"text\"'\n"
        );
        assert_eq!(
            read_parameters("@/does/not/exist")
                .unwrap_err()
                .render(Style::Plain),
            "error: cannot read the parameters `/does/not/exist`: No such file or directory (os error 2)\n"
        );
    }
}
