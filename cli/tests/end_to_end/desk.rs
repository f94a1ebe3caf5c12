//! A folder to submit from, with Slurm's commands in PATH.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::command::{Done, phalanx, run};

/// A folder to submit from, with the commands in PATH.
pub(crate) struct Desk {
    folder: TempDir,
    cluster: PathBuf,
}

impl Desk {
    pub(crate) fn new(cluster: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut shims = phalanx();
        shims.args(["shims", "--mpi"]).arg(folder.path().join("bin"));
        assert_eq!(run(shims).code, Some(0));
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder, cluster }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A command of Slurm's, without what Slurm itself may have set around this test.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let program = self.folder.path().join("bin").join(words[0]);
        self.program(program, &words[1..])
    }

    /// Any program, which finds these commands.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
        let bin = self.folder.path().join("bin");
        let mut command = phalanx();
        let variables = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
        let variables: Vec<_> = variables.collect();
        command = Command::new(program);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let slurm = std::env::vars_os().map(|(name, _)| name);
        for name in slurm.filter(|name| is_slurm(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap();
        let own = Path::new(env!("CARGO_BIN_EXE_phalanx")).parent().unwrap();
        command
            .args(words)
            .env("PATH", format!("{}:{path}:{}", bin.display(), own.display()))
            .env("PHALANX_CLUSTER", &self.cluster)
            .current_dir(self.work())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        run(self.command(words))
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        std::fs::write(self.work().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.work().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; there are {:?}", path.display(), names(&self.work()));
        })
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether a variable is one that Slurm's commands obey.
fn is_slurm(name: &str) -> bool {
    let prefixes = ["SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SINFO_", "SALLOC_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}
