//! The `phalanx` command: every role of a cluster in one binary, and everything that people ask of one.
//!
//! Nothing is decided here that another program could not decide with the crate `phalanx`: this is words, files and
//! processes. It is the only crate that writes to a terminal, and that in [`ui`] alone.
//!
//! Reading order: [`args`] (what can be asked), [`commands`] (one file per command), [`cluster`] (how a scheduler is
//! found), [`batch`] (batch scripts and their options as values), [`program`], [`inputs`] and [`job_file`] (what is checked
//! before anything is sent), [`targets`] (how jobs and tasks are written), [`process`] (signals, parents, logs), [`ui`] (how
//! it is told).

mod args;
mod batch;
mod cluster;
mod commands;
mod inputs;
mod interrupts;
mod job_file;
mod process;
mod program;
mod slurm;
mod targets;
mod ui;

use clap::Parser;

/// The same binary is the kernel host of `phalanx chaos`.
#[phalanx::main]
fn main() -> std::process::ExitCode {
    let mut words = std::env::args_os();
    if let Some(name) = words.next().as_deref().and_then(slurm::name) {
        let words: Vec<std::ffi::OsString> = words.collect();
        return slurm::run(name, &words).into();
    }
    let arguments = args::Arguments::parse();
    let ui = ui::Ui::new(arguments.global.output);
    match commands::run(arguments, ui) {
        Ok(code) => code.into(),
        Err(error) => {
            ui.error(&error);
            error.code().into()
        }
    }
}
