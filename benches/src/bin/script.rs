//! How long a batch script takes on an idle cluster, from the start of `sbatch` to the first line of output in its file,
//! beside `sh` running the same script.
//!
//! `cargo build --release && cargo run --release -p phalanx-benches --bin script`

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use phalanx_benches::{percentile, seconds_text};

const RUNS: usize = 5;
const SCRIPTS: usize = 40;
const SCRIPT: &str = "#!/bin/sh\n#SBATCH --output=first-line.txt\necho begun\n";
/// A script that has written nothing by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let program = std::env::current_exe()?.with_file_name("phalanx");
    if !program.exists() {
        return Err(format!(
            "{} is not there: `cargo build --release` makes it",
            program.display()
        )
        .into());
    }
    let desk = Desk::start(folder.path(), &program)?;
    let (mut submitted, mut written, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    desk.submit()?;
    for _ in 0..RUNS {
        for _ in 0..SCRIPTS / RUNS {
            let (until_submitted, until_written) = desk.submit()?;
            submitted.push(until_submitted);
            written.push(until_written);
            bare.push(desk.bare()?);
        }
    }
    println!("{:<40}{:>10}{:>12}", "", "p50", "p99");
    let row = |what: &str, times: &[f64]| {
        let (p50, p99) = (percentile(times, 50.0), percentile(times, 99.0));
        println!("{what:<40}{:>10}{:>12}", seconds_text(p50), seconds_text(p99));
    };
    row("`sh script`, start to first line", &bare);
    row("`sbatch script`, start to its answer", &submitted);
    row("`sbatch script`, start to first line", &written);
    Ok(())
}

/// A cluster of the command line's, and a folder with a script in it; the cluster ends when this is dropped.
struct Desk {
    folder: PathBuf,
    up: Child,
}

impl Desk {
    fn start(folder: &Path, program: &Path) -> Result<Self, Box<dyn Error>> {
        fs::write(folder.join("script.sh"), SCRIPT)?;
        symlink(program, folder.join("sbatch"))?;
        let mut up = Command::new(program)
            .args(["--output", "json", "up", "--workers", "1"])
            .env("PHALANX_CLUSTER", folder.join("cluster"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = up.stdout.take().ok_or("a pipe was asked for")?;
        let desk = Self {
            folder: folder.to_owned(),
            up,
        };
        // one document says that it is up
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.is_empty() {
            true => Err("the cluster does not start".into()),
            false => Ok(desk),
        }
    }

    /// Submits the script; says how many seconds it took until it was accepted, and until its file held a line.
    fn submit(&self) -> Result<(f64, f64), Box<dyn Error>> {
        let output = self.folder.join("first-line.txt");
        // the one before may not have been there
        let _ = fs::remove_file(&output);
        let start = Instant::now();
        let mut sbatch = Command::new(self.folder.join("sbatch"))
            .arg("script.sh")
            .current_dir(&self.folder)
            .env("PHALANX_CLUSTER", self.folder.join("cluster"))
            .stdout(Stdio::null())
            .spawn()?;
        let (mut answered, mut written) = (None, None);
        while answered.is_none() || written.is_none() {
            if answered.is_none() && sbatch.try_wait()?.is_some() {
                answered = Some(start.elapsed().as_secs_f64());
            }
            if written.is_none() && fs::metadata(&output).is_ok_and(|file| file.len() > 0) {
                written = Some(start.elapsed().as_secs_f64());
            }
            if start.elapsed() > PATIENCE {
                return Err("the script does not run; its cluster may be too small".into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok((answered.unwrap_or_default(), written.unwrap_or_default()))
    }

    fn bare(&self) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let mut child = Command::new("sh")
            .arg("script.sh")
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a pipe was asked for")?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        let seconds = start.elapsed().as_secs_f64();
        child.wait()?;
        Ok(seconds)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // its members end with it
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.up),
            rustix::process::Signal::TERM,
        );
        let _ = self.up.wait();
    }
}
