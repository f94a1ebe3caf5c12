//! MPI libraries that are installed here: the same measurements by them, in the same run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a directory with an `mpicc` and an `mpiexec` of MPICH, for one that is not on the search path.
const MPICH_VARIABLE: &str = "PHALANX_BENCH_MPICH";

/// A library with its compiled program.
#[derive(Debug)]
pub struct Peer {
    /// As it is shown.
    pub name: &'static str,
    program: PathBuf,
    launcher: PathBuf,
    variables: &'static [(&'static str, &'static str)],
}

/// It does not start as root or with more ranks than cores unless it is told to.
const OPEN_MPI: [(&str, &str); 3] = [
    ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
    ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
];
const OPEN_MPI_TCP: [(&str, &str); 4] = [
    OPEN_MPI[0],
    OPEN_MPI[1],
    OPEN_MPI[2],
    ("OMPI_MCA_btl", "tcp,self"),
];

/// Compiles the program in `scratch` for each library that is there, and says on stderr which are not. Open MPI comes twice:
/// over shared memory, and over TCP.
pub fn peers(scratch: &Path) -> Vec<Peer> {
    let mpich = std::env::var_os(MPICH_VARIABLE).map(PathBuf::from);
    let of_mpich = |own: &str, otherwise: &str| match &mpich {
        Some(directory) => directory.join(own),
        None => PathBuf::from(otherwise),
    };
    let candidates = [
        (
            "Open MPI",
            PathBuf::from("mpicc.openmpi"),
            PathBuf::from("mpirun.openmpi"),
            &OPEN_MPI[..],
        ),
        (
            "Open MPI, TCP",
            PathBuf::from("mpicc.openmpi"),
            PathBuf::from("mpirun.openmpi"),
            &OPEN_MPI_TCP[..],
        ),
        (
            "MPICH",
            of_mpich("mpicc", "mpicc.mpich"),
            of_mpich("mpiexec", "mpiexec.hydra"),
            &[],
        ),
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/mpi.c");
    let mut peers = Vec::new();
    for (number, (name, compiler, launcher, variables)) in candidates.into_iter().enumerate() {
        let program = scratch.join(format!("mpi-{number}"));
        let compiled = Command::new(&compiler)
            .args([
                OsStr::new("-O2"),
                OsStr::new("-o"),
                program.as_os_str(),
                source.as_os_str(),
            ])
            .output();
        match compiled {
            Ok(done) if done.status.success() => peers.push(Peer {
                name,
                program,
                launcher,
                variables,
            }),
            Ok(done) => eprintln!("{name} is left out: {}", String::from_utf8_lossy(&done.stderr)),
            Err(error) => eprintln!("{name} is left out: {}: {error}", compiler.display()),
        }
    }
    peers
}

impl Peer {
    /// The numbers that the program prints, by line.
    ///
    /// # Errors
    /// A sentence: it cannot be started, or does not end well.
    pub fn run(&self, ranks: usize, words: &[String]) -> Result<Vec<Vec<f64>>, String> {
        let mut command = Command::new(&self.launcher);
        command
            .arg("-n")
            .arg(ranks.to_string())
            .arg(&self.program)
            .args(words);
        command.envs(self.variables.iter().copied());
        let done = command
            .output()
            .map_err(|error| format!("{}: {}: {error}", self.name, self.launcher.display()))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            return Err(format!("{}: {}: {said}", self.name, done.status));
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let numbers = |line: &str| line.split_ascii_whitespace().flat_map(str::parse).collect();
        Ok(text.lines().map(numbers).collect())
    }
}
