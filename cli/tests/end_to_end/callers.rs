//! Programs of others, unmodified, that believe to be on a Slurm cluster. They are Python's and come from PyPI into a virtual
//! environment, whose folder of programs `PHALANX_CALLERS` names; `.ci/run` makes one. Without it nothing is tested here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{Done, finish_within};
use crate::desk::Desk;
use crate::up::Up;

/// A desk at which the programs of the virtual environment are found.
struct Callers {
    programs: PathBuf,
    desk: Desk,
    up: Up,
}

impl Callers {
    fn start() -> Option<Self> {
        let Some(programs) = std::env::var_os("PHALANX_CALLERS") else {
            eprintln!(
                "skipped: PHALANX_CALLERS names no virtual environment with cli/tests/callers/requirements.txt"
            );
            return None;
        };
        let up = Up::start_wide();
        let desk = Desk::new(up.directory());
        Some(Self {
            programs: programs.into(),
            desk,
            up,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.desk.program(self.programs.join(program), &[]);
        let mut kept = command.get_envs();
        let path = kept.find_map(|(name, value)| value.filter(|_| name == "PATH"));
        let path = format!("{}:{}", self.programs.display(), path.unwrap().display());
        command.env("PATH", path).env("HOME", self.desk.work());
        command
    }

    /// Runs one of the scripts beside these tests.
    fn script(&self, name: &str) -> Done {
        let mut command = self.command("python");
        command.arg(folder().join(name)).arg(self.desk.work());
        run(command)
    }
}

/// Runs a command to its end: those that ask a queue from time to time take theirs.
fn run(mut command: Command) -> Done {
    finish_within(command.spawn().unwrap(), Duration::from_secs(240))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callers")
}

#[test]
fn submitit_runs_functions_and_arrays_and_counts_on_after_a_time_out() {
    let Some(callers) = Callers::start() else { return };
    let done = callers.script("functions.py");
    let expected = "\
functions COMPLETED COMPLETED COMPLETED COMPLETED COMPLETED COMPLETED FAILED
checkpoint 120
";
    assert_eq!((done.stdout.as_str(), done.code), (expected, Some(0)), "{done:?}");
}

#[test]
fn dask_starts_its_workers_and_computes_on_them() {
    let Some(callers) = Callers::start() else { return };
    let done = callers.script("workers.py");
    assert_eq!(
        (done.stdout.as_str(), done.code),
        ("sum 328350\n", Some(0)),
        "{done:?}"
    );
}

#[test]
fn parsl_starts_a_block_and_runs_functions_and_a_command_on_it() {
    let Some(callers) = Callers::start() else { return };
    let done = callers.script("blocks.py");
    let expected = "sum 285\nhello from a block\n";
    assert_eq!((done.stdout.as_str(), done.code), (expected, Some(0)), "{done:?}");
}

#[test]
fn snakemake_runs_a_workflow_whose_rule_fails_once() {
    let Some(callers) = Callers::start() else { return };
    let rules = std::fs::read_to_string(folder().join("snakemake/Snakefile")).unwrap();
    callers.desk.script("Snakefile", &rules);
    let mut command = callers.command("snakemake");
    let options = "--executor slurm --jobs 3 --slurm-no-account --slurm-init-seconds-before-status-checks 1 \
                   --default-resources slurm_partition=phalanx --latency-wait 10";
    command.args(options.split_whitespace());
    let done = run(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(callers.desk.read("sum.txt"), "60\n");
    assert_eq!(callers.desk.read("failed-once"), "");
    // three parts, one of them again, and the sum
    assert_eq!(callers.up.run("jobs --all").lines().len(), 5);
}

#[test]
fn mpi4py_passes_a_message_around_its_ranks() {
    let Some(callers) = Callers::start() else { return };
    for launcher in ["srun", "mpiexec"] {
        let python = callers.programs.join("python");
        let python = python.to_str().unwrap();
        let words = [
            launcher,
            "-n",
            "2",
            python,
            "-m",
            "mpi4py.bench",
            "ringtest",
            "-n",
            "1000",
        ];
        let done = run(callers.desk.command(&words));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.contains("(2 processes, 1000 bytes)"), "{done:?}");
    }
}

#[test]
fn mpi4py_passes_a_message_between_two_workers() {
    let Some(callers) = Callers::start() else { return };
    let python = callers.programs.join("python");
    let ring = format!(
        "run --ranks 2 --nodes 2 -- {} -m mpi4py.bench ringtest -n 1000",
        python.display()
    );
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "2"]);
    let done = up.run(&ring);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("(2 processes, 1000 bytes)"), "{done:?}");
}
