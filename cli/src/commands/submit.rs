//! `phalanx submit`: from a command line to a job.
//!
//! A [`Draft`] is checked here, without a cluster, so that a mistake costs nothing; [`Draft::send`] uploads and submits.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use phalanx::Client;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::job::{InputChunk, InputTable};
use phalanx_protocol::limits::PARAMETERS_INLINE_BYTES_MAX;
use phalanx_protocol::{
    Encoding, Feeding, IndexRange, Inputs, JobId, JobSpec, KernelWork, Payload, SubmissionId, Work, codec,
};
use serde::de::IgnoredAny;

use crate::args::job::SubmitArguments;
use crate::cluster::Connected;
use crate::inputs::{Chunks, is_rereadable};
use crate::program::{Call, Program};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;

/// A job that was checked as far as this machine can.
#[derive(Debug)]
pub(super) struct Draft {
    arguments: SubmitArguments,
    tasks: Tasks,
    parameters: Vec<u8>,
    submission: SubmissionId,
}

#[derive(Debug)]
enum Tasks {
    Range(IndexRange),
    File(PathBuf),
}

pub(super) async fn run(cluster: &Connected, draft: Draft, ui: Ui) -> Result<ExitCode, CliError> {
    let job = draft.send(&cluster.client).await?;
    ui.data(&Document::new(Content::Submitted { job }), |_| job.to_string())?;
    Ok(ExitCode::Success)
}

impl Draft {
    /// Checks the program, the parameters and the inputs.
    pub(super) fn prepare(arguments: SubmitArguments) -> Result<Self, CliError> {
        let tasks = match (&arguments.range, &arguments.inputs) {
            (Some(range), None) => Tasks::Range(*range),
            (None, Some(path)) => Tasks::File(path.clone()),
            // clap lets neither through
            (Some(_), Some(_)) | (None, None) => {
                return Err(CliError::usage("give either --range or --inputs"));
            }
        };
        Program::open(&arguments.program)?.check(Call {
            kernel: &arguments.kernel,
            indices: matches!(tasks, Tasks::Range(_)),
            parameters: arguments.parameters.is_some(),
            reduce: arguments.reduce,
        })?;
        let parameters = match &arguments.parameters {
            Some(text) => read_parameters(text)?,
            None => Vec::new(),
        };
        if let Tasks::File(path) = &tasks
            && is_rereadable(path)
        {
            // a bad line at the end is found before anything was sent
            Chunks::open(path)?.try_for_each(|chunk| chunk.map(drop))?;
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            CliError::new(
                ExitCode::Internal,
                format!("the system gives no random bytes: {error}"),
            )
        })?;
        let draft = Self {
            arguments,
            tasks,
            parameters,
            submission: SubmissionId(u128::from_le_bytes(random)),
        };
        // the job as it will be, but for what storage will call its parts
        let nothing = phalanx_protocol::BlobId([0; 32]);
        let (inputs, tasks) = match draft.tasks {
            Tasks::Range(range) => (Inputs::Index { first: range.start }, range.len()),
            Tasks::File(_) => (Inputs::Items { table: nothing }, 0),
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

    /// Uploads what storage lacks and submits the job.
    pub(super) async fn send(&self, client: &Client) -> Result<JobId, CliError> {
        let program = client.ensure_program(&self.arguments.program).await?;
        let parameters = match self.parameters.len() {
            0..=PARAMETERS_INLINE_BYTES_MAX => Payload::Inline(Bytes::copy_from_slice(&self.parameters)),
            _ => Payload::Blob(client.ensure_blob(&self.parameters).await?),
        };
        let (inputs, tasks) = match &self.tasks {
            Tasks::Range(range) => (Inputs::Index { first: range.start }, range.len()),
            Tasks::File(path) => {
                let mut table = InputTable::default();
                for chunk in Chunks::open(path)? {
                    let chunk = chunk?;
                    let blob = client.ensure_blob(&chunk.bytes).await?;
                    let items = chunk.items;
                    table.chunks.push(InputChunk { items, blob });
                }
                let tasks = table.chunks.last().map_or(0, |chunk| chunk.items.end);
                let table = client.ensure_blob(&codec::encode(&table)).await?;
                (Inputs::Items { table }, tasks)
            }
        };
        Ok(client
            .submit(self.spec(program, parameters, inputs, tasks))
            .await?)
    }

    fn spec(
        &self,
        program: phalanx_protocol::BlobId,
        parameters: Payload,
        inputs: Inputs,
        tasks: u64,
    ) -> JobSpec {
        let arguments = &self.arguments;
        JobSpec {
            submission: self.submission,
            name: arguments.name.clone().unwrap_or_else(|| arguments.kernel.clone()),
            tasks,
            work: Work::Kernel(KernelWork {
                program,
                kernel: arguments.kernel.clone(),
                parameters,
                inputs,
                encoding: Encoding::Json,
                reduce: arguments.reduce,
            }),
            request: arguments.request(),
            priority: arguments.priority,
            feeding: Feeding::default(),
            failures_max: arguments.failures_max,
            retries: arguments.limits.retries(),
            task_time_limit_millis: arguments.limits.task_time_limit_millis(),
            time_limit_millis: arguments.limits.time_limit_millis(),
            idempotent: false,
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
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
