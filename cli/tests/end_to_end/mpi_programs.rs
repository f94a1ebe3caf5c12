//! MPI programs of others, unmodified, in the folder that `PHALANX_MPI_PROGRAMS` names; `cli/tests/mpi/install.sh` makes one,
//! and `.ci/run` calls it. Without it nothing is tested here, nor what it could not get.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{Done, finish_within};
use crate::desk::Desk;
use crate::up::Up;

/// A desk at which these programs can be run.
struct Programs {
    folder: PathBuf,
    desk: Desk,
    _up: Up,
}

impl Programs {
    /// `None` if that one is not there.
    fn start(needed: &str) -> Option<Self> {
        Self::start_on(needed, Up::start_wide)
    }

    /// The same with another cluster than one of a single worker.
    fn start_on(needed: &str, start: impl FnOnce() -> Up) -> Option<Self> {
        let Some(folder) = std::env::var_os("PHALANX_MPI_PROGRAMS").map(PathBuf::from) else {
            eprintln!("skipped: PHALANX_MPI_PROGRAMS names no folder of cli/tests/mpi/install.sh");
            return None;
        };
        if !folder.join(needed).exists() {
            eprintln!("skipped: there is no {}", folder.join(needed).display());
            return None;
        }
        let up = start();
        let desk = Desk::new(up.directory());
        Some(Self {
            folder,
            desk,
            _up: up,
        })
    }

    fn path(&self, program: &str) -> String {
        self.folder.join(program).to_str().unwrap().to_owned()
    }

    /// Runs one of Slurm's commands, or another program, where these programs find their libraries.
    fn run(&self, words: &[&str]) -> Done {
        self.run_within(words, Duration::from_secs(240))
    }

    fn run_within(&self, words: &[&str], deadline: Duration) -> Done {
        let mut command = match words[0].contains('/') {
            true => self.desk.program(words[0], &words[1..]),
            false => self.desk.command(words),
        };
        self.surround(&mut command);
        finish_within(command.spawn().unwrap(), deadline)
    }

    fn surround(&self, command: &mut Command) {
        let lib = self.folder.join("lib");
        let mut kept = command.get_envs();
        let path = kept.find_map(|(name, value)| value.filter(|_| name == "PATH"));
        let programs = self.folder.join("root/usr/bin");
        let path = format!("{}:{}", path.unwrap().display(), programs.display());
        command
            // the last place to look for what the machine lacks, as `make`
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", format!("{0}:{0}/blas", lib.display()))
            .env("OPAL_PREFIX", self.folder.join("root/usr"))
            .env("PMIX_LIBDIR", lib.join("pmix2/lib"));
    }
}

/// Sections of hpcc's report, each with a line that begins and one that ends it.
const SECTIONS: usize = 17;

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mpi").join(name)
}

#[test]
fn mpich_example_computes_pi() {
    let Some(programs) = Programs::start("cpi") else {
        return;
    };
    let cpi = programs.path("cpi");
    for (launcher, ranks) in [("srun", 2), ("mpiexec", 4)] {
        let done = programs.run(&[launcher, "-n", &ranks.to_string(), &cpi]);
        let mut ranks_said: Vec<&str> = done.lines();
        ranks_said.sort_unstable();
        for rank in 0..ranks {
            let said = format!("Process {rank} of {ranks} is on ");
            assert!(ranks_said.iter().any(|line| line.starts_with(&said)), "{done:?}");
        }
        assert!(done.stdout.contains("pi is approximately 3.14159265"), "{done:?}");
    }
}

#[test]
fn mpich_programs_do_not_wait_for_ranks_that_are_none_of_mpi() {
    let start = || Up::start_equipped(&["--workers", "2", "--cpus", "2"]);
    let Some(programs) = Programs::start_on("cpi", start) else {
        return;
    };
    let cpi = programs.path("cpi");
    for line in [
        format!("mpiexec -n 1 true : -n 1 {cpi}"),
        format!("mpiexec -n 1 -host a true : -n 1 -host b {cpi}"),
        format!("mpiexec -n 1 -host a true : -n 1 -host a {cpi} : -n 1 -host b {cpi}"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = programs.run(&words);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let said = "rank 0 ended without MPI_Init, and rank";
        assert!(ended.stderr.contains(said), "{line}: {ended:?}");
    }
}

#[test]
fn programs_of_mpich_and_open_mpi_run_on_both_nodes_of_a_script() {
    let start = || Up::start_equipped(&["--workers", "2", "--cpus", "4"]);
    let Some(programs) = Programs::start_on("programs.done", start) else {
        return;
    };
    let (cpi, lammps) = (programs.path("cpi"), programs.path("root/usr/bin/lmp"));
    let melt = programs.path("root/usr/share/lammps/examples/melt/in.melt");
    let script = format!(
        "#!/bin/bash\n#SBATCH -N 2 --ntasks-per-node=2 -o both.txt\nsrun {cpi}\nmpiexec -n 2 {cpi}\nsrun -n 2 {lammps} -in {melt}\n"
    );
    programs.desk.script("both.sh", &script);
    let done = programs.run(&["sbatch", "--wait", "both.sh"]);
    let told = programs.desk.read("both.txt");
    assert_eq!(done.code, Some(0), "{told}");
    for said in [
        "Process 3 of 4 is on ",
        "Process 1 of 2 is on ",
        " on 2 procs for 250 steps",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert_eq!(
        told.matches("pi is approximately 3.14159265").count(),
        2,
        "{told}"
    );
}

#[test]
fn hpcc_passes_all_its_own_checks() {
    let Some(programs) = Programs::start("root/usr/bin/hpcc") else {
        return;
    };
    std::fs::copy(here("hpccinf.txt"), programs.desk.work().join("hpccinf.txt")).unwrap();
    let done = programs.run(&["mpiexec", "-n", "2", &programs.path("root/usr/bin/hpcc")]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = programs.desk.read("hpccoutf.txt");
    let count = |text: &str| told.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("Success=1"), 1, "{told}");
    assert_eq!(count(" section."), 2 * SECTIONS, "{told}");
    assert_eq!(count("FAILED"), 0, "{told}");
    // of MPIRandomAccess and its variant
    assert_eq!(
        count("RandomAccess_Errors=0") + count("LCG_Errors=0"),
        2,
        "{told}"
    );
    // PTRANS measures five times; what it says by the clock of its cpus it leaves out where that has not moved. HPL has one problem
    let by_wall = |line: &&str| line.trim_start().starts_with("WALL ") && line.contains(" PASSED ");
    assert_eq!(told.lines().filter(by_wall).count(), 5, "{told}");
    assert_eq!(count("...... PASSED"), 1, "{told}");
}

/// The table of LAMMPS's report: lines of numbers.
fn thermo(report: &str) -> Vec<&str> {
    let lines = report.lines().map(str::trim);
    lines
        .skip_while(|line| !line.starts_with("Step Temp"))
        .skip(1)
        .take_while(|line| line.split_whitespace().all(|word| word.parse::<f64>().is_ok()))
        .collect()
}

#[test]
fn lammps_melts_as_it_does_under_mpirun() {
    let Some(programs) = Programs::start("root/usr/bin/lmp") else {
        return;
    };
    let lammps = programs.path("root/usr/bin/lmp");
    let melt = programs.path("root/usr/share/lammps/examples/melt/in.melt");
    let here = programs.run(&["mpiexec", "-n", "2", &lammps, "-in", &melt]);
    assert_eq!(here.code, Some(0), "{here:?}");
    assert!(here.stdout.contains(" on 2 procs for 250 steps"), "{here:?}");
    let mpirun = programs.path("root/usr/bin/mpirun.openmpi");
    // nothing but this machine, which need not have ssh
    let options = "--allow-run-as-root --oversubscribe --mca plm isolated -n 2";
    let line = format!("{mpirun} {options} {lammps} -in {melt}");
    let words: Vec<&str> = line.split(' ').collect();
    let there = programs.run(&words);
    assert_eq!(there.code, Some(0), "{there:?}");
    assert!(there.stdout.contains(" on 2 procs for 250 steps"), "{there:?}");
    let table = thermo(&here.stdout);
    assert_eq!(table.len(), 6, "{here:?}");
    assert_eq!(table, thermo(&there.stdout));
}

#[test]
fn open_mpi_finds_its_ranks_on_one_worker_and_on_two_however_they_are_dealt_out() {
    let two_workers = || Up::start_equipped(&["--workers", "2", "--cpus", "2"]);
    let Some(programs) = Programs::start_on("shared", two_workers) else {
        return;
    };
    let shared = programs.path("shared");
    let phalanx = env!("CARGO_BIN_EXE_phalanx");
    let one = format!("srun -n 2 {shared}");
    let cyclic = format!("{phalanx} run --ranks 4 --nodes 2 --rank-map cyclic -- {shared}");
    // both workers are on this machine, where Open MPI uses no loopback unless it is told
    let named = format!("mpiexec --mca btl_tcp_if_include lo -hosts a:2,b:2 -n 4 {shared}");
    let uneven = format!("mpiexec --mca btl_tcp_if_include lo -hosts a:2,b:1 -n 3 {shared}");
    for (line, on_node, sum) in [
        (one, &[2, 2][..], 1),
        (cyclic, &[2, 2, 2, 2], 6),
        (named, &[2, 2, 2, 2], 6),
        (uneven, &[2, 2, 1], 3),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let done = programs.run(&words);
        assert_eq!(done.code, Some(0), "{done:?}");
        let ranks = on_node.len();
        for (rank, shared) in on_node.iter().enumerate() {
            let said = format!("{rank} of {ranks}, {shared} on its node, sum {sum}");
            assert!(done.lines().contains(&said.as_str()), "{said}: {done:?}");
        }
        assert_eq!(done.lines().len(), ranks, "{done:?}");
    }
}

/// What each rank says of its library, once it has heard of all.
const TOLD: &str = "\
import os
from mpi4py import MPI
ranks = MPI.COMM_WORLD.allreduce(1)
os.write(1, f'{ranks} ranks of {MPI.Get_library_version()[:18]}\\n'.encode())
";

#[test]
fn ranks_of_intel_mpi_find_each_other_on_one_worker_and_on_two() {
    let Some(programs) = Programs::start("intel.done") else {
        return;
    };
    let python = programs.path("intel/bin/python");
    programs.desk.script("told.py", TOLD);
    let told = programs.desk.work().join("told.py");
    let told = told.to_str().unwrap();
    let all = ["2 ranks of Intel(R) MPI Libra"; 2];
    for launcher in ["srun", "mpiexec"] {
        let command = programs
            .desk
            .command(&[launcher, "-n", "2", &python, told])
            .spawn();
        let done = finish_within(command.unwrap(), Duration::from_secs(120));
        assert_eq!(done.lines(), all, "{done:?}");
    }
    let benchmark = programs.path("intel/bin/IMB-MPI1");
    let line = format!("mpiexec -n 2 {benchmark} -npmin 2 -iter 10 -msglog 0:4 Allreduce");
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = programs.desk.command(&words);
    command.env("LD_LIBRARY_PATH", programs.path("intel/lib"));
    let done = finish_within(command.spawn().unwrap(), Duration::from_secs(120));
    assert!(done.stdout.contains("# #processes = 2"), "{done:?}");

    let up = Up::start();
    let done = up.run(&format!("run --ranks 2 --nodes 2 -- {python} {told}"));
    assert_eq!(done.lines(), all, "{done:?}");
}

/// Runs a list of tests of MPICH's own suite by the suite's own means, as steps of a job; what is said at the end.
fn run_list(programs: &Programs, name: &str, list: &str) -> String {
    let suite = programs.path(&format!("suite/{name}"));
    let script = format!(
        "#!/bin/bash\n#SBATCH -n {RANKS_MAX} -o {name}.txt\ncd {suite} || exit\n\
         exec ../runtests -tests={list} -mpiexec='timeout 180 mpiexec' -xmlfile=ran.xml\n"
    );
    programs.desk.script("list.sh", &script);
    let done = programs.run_within(&["sbatch", "--wait", "list.sh"], Duration::from_secs(600));
    assert_eq!(done.code, Some(0), "{done:?}");
    programs.desk.read(&format!("{name}.txt"))
}

/// The lists of the suite that are run, one after the other: their ranks wait by spinning.
const LISTS: [&str; 3] = ["comm", "pt2pt", "coll"];
/// Ranks that one of its tests has at the most.
const RANKS_MAX: &str = "33";

#[test]
fn mpich_test_suite_passes() {
    let start = || Up::start_equipped(&["--workers", "1", "--cpus", RANKS_MAX]);
    let Some(programs) = Programs::start_on("programs.done", start) else {
        return;
    };
    for name in LISTS {
        let list = here(&format!("{name}.list"));
        let text = std::fs::read_to_string(&list).unwrap();
        let tests = text.lines().filter(|line| !line.starts_with('#')).count();
        let told = run_list(&programs, name, list.to_str().unwrap());
        let passed = format!("\n All {tests} tests passed!\n");
        assert!(told.contains(&passed), "{told}");
    }
}
