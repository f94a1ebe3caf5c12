//! `phalanx shims`: links by which this program is found under the names of Slurm's commands, and of MPI's if asked for.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use phalanx_protocol::exit::ExitCode;

use crate::args::ShimsArguments;
use crate::slurm::{MPI_NAMES, NAMES};
use crate::ui::Ui;
use crate::ui::error::CliError;

pub(super) fn run(arguments: &ShimsArguments, ui: Ui) -> Result<ExitCode, CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::new(ExitCode::Internal, format!("cannot find this program: {error}")))?;
    let directory = &arguments.directory;
    let cannot = |path: &Path, error: io::Error| {
        CliError::new(
            ExitCode::Internal,
            format!("cannot make `{}`: {error}", path.display()),
        )
    };
    fs::create_dir_all(directory).map_err(|error| cannot(directory, error))?;
    let of_mpi = MPI_NAMES.iter().filter(|_| arguments.mpi);
    let names: Vec<&str> = NAMES.iter().chain(of_mpi).map(|(name, _)| *name).collect();
    for name in &names {
        let link = directory.join(name);
        match fs::read_link(&link) {
            // one of ours, perhaps to where this program was before
            Ok(_) => fs::remove_file(&link).map_err(|error| cannot(&link, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                let what = format!("`{}` is there already, and no link", link.display());
                return Err(CliError::usage(what).hint("choose another directory, in front of it in PATH"));
            }
        }
        symlink(&program, &link).map_err(|error| cannot(&link, error))?;
    }
    ui.note(&format!("{} are in {}", names.join(", "), directory.display()));
    Ok(ExitCode::Success)
}
