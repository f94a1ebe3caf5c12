//! Lines that several tasks print at the same time: each as a whole, and with its task's number if that is wanted.

use std::collections::BTreeMap;

use crate::commands::output::pass_on;
use crate::ui::error::CliError;
use crate::ui::{DataStream, Ui};

/// A line that is longer is shown in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What tasks print, on its way to the terminal.
#[derive(Debug)]
pub(super) struct Lines {
    stream: DataStream,
    /// How wide the number of a task is that each line begins with, if it does.
    label_width: Option<usize>,
    /// What the last lines of tasks have of their own so far, those of their output and of their errors.
    unfinished: BTreeMap<u64, [Vec<u8>; 2]>,
}

impl Lines {
    /// Those of so many tasks.
    pub(super) fn new(tasks: u64, are_labelled: bool, ui: Ui) -> Self {
        let width = tasks.saturating_sub(1).to_string().len();
        Self {
            stream: ui.stream(),
            label_width: are_labelled.then_some(width),
            unfinished: BTreeMap::new(),
        }
    }

    /// Shows the lines that some bytes of a task finish.
    pub(super) fn add(&mut self, task: u64, bytes: &[u8], is_error: bool) -> Result<(), CliError> {
        let slot = usize::from(is_error);
        let known = self.unfinished.get_mut(&task);
        let mut text = known.map_or_else(Vec::new, |known| std::mem::take(&mut known[slot]));
        text.extend_from_slice(bytes);
        let end = match text.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => last + 1,
            None if text.len() > LINE_BYTES_MAX => text.len(),
            None => 0,
        };
        for line in text[..end].split_inclusive(|&byte| byte == b'\n') {
            self.show(task, line, is_error)?;
        }
        text.drain(..end);
        if !text.is_empty() {
            self.unfinished.entry(task).or_default()[slot] = text;
        }
        Ok(())
    }

    /// Shows lines of a task that will not be finished.
    pub(super) fn finish(&mut self, task: u64) -> Result<(), CliError> {
        let unfinished = self.unfinished.remove(&task).into_iter().flatten();
        for (mut line, is_error) in unfinished.zip([false, true]) {
            if !line.is_empty() {
                // else the label of the next would not be at a line's beginning
                line.extend(self.label_width.map(|_| b'\n'));
                self.show(task, &line, is_error)?;
            }
        }
        Ok(())
    }

    /// Shows what is left, of all tasks.
    pub(super) fn finish_all(&mut self) -> Result<(), CliError> {
        while let Some((&task, _)) = self.unfinished.first_key_value() {
            self.finish(task)?;
        }
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.stream.flush()
    }

    fn show(&mut self, task: u64, line: &[u8], is_error: bool) -> Result<(), CliError> {
        let label = self.label_width.map(|width| format!("{task:>width$}: "));
        let line = [label.unwrap_or_default().as_bytes(), line].concat();
        pass_on(&mut self.stream, &line, is_error)
    }
}
