//! A user without a line of Rust: arrays of small shell commands by this same binary, whose output and files are looked at.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use phalanx::JobId;
use phalanx_protocol::exit::ExitCode;

use super::PATIENCE;

/// Elements of each array.
pub(super) const ELEMENTS: u64 = 20;
/// What each element does: it takes a moment, prints, and leaves a file in the folder that is its argument.
const SCRIPT: &str = "i=$PHALANX_ARRAY_TASK_ID; sleep 0.05; echo element $i; \
    echo file $i > $0/$i.$$ && mv $0/$i.$$ $0/$i && cat $0/$i";
/// The pause before a command is tried again that did not reach the cluster.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Where commands are started.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    /// This binary.
    pub(super) program: PathBuf,
    /// The cluster directory.
    pub(super) cluster: PathBuf,
    /// For the files of elements.
    pub(super) folder: PathBuf,
}

impl Shell {
    /// Runs an array to its end and looks at what it has left; `promised` hears of it once it is acknowledged.
    ///
    /// # Errors
    /// What is not as it would be undisturbed.
    pub(super) fn array(&self, turn: u64, promised: impl FnOnce(JobId)) -> Result<(), String> {
        let folder = self.folder.join(turn.to_string());
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
        let array = format!("--array=0-{}", ELEMENTS - 1);
        let text = folder.display().to_string();
        // hosts of commands are killed, and no command is to blame
        let limit = "--crash-limit=1000";
        let words = ["submit", &array, limit, "--", "sh", "-c", SCRIPT, &text];
        let id = self.run(&words)?.trim().to_owned();
        let job: JobId = id.parse().map_err(|_| format!("`{id}` is no job"))?;
        promised(job);
        self.run(&["wait", &id])?;
        let printed = self.run(&["logs", &id])?;
        let expected: String = (0..ELEMENTS)
            .map(|index| format!("element {index}\nfile {index}\n"))
            .collect();
        if printed != expected {
            return Err(format!("job {job}: its elements printed {printed:?}"));
        }
        (0..ELEMENTS)
            .try_for_each(|index| is_left(&folder, index).map_err(|wrong| format!("job {job}: {wrong}")))
    }

    /// What a command prints, which is tried again while it does not reach the cluster.
    fn run(&self, words: &[&str]) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let unreachable = i32::from(ExitCode::Unreachable.number());
        loop {
            let done = Command::new(&self.program)
                .args(words)
                .env("PHALANX_CLUSTER", &self.cluster)
                .output()
                .map_err(|error| format!("`phalanx {}` does not start: {error}", words[0]))?;
            if done.status.success() {
                return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
            }
            if done.status.code() != Some(unreachable) || Instant::now() > deadline {
                let said = String::from_utf8_lossy(&done.stderr);
                return Err(format!(
                    "`phalanx {}` ended with {}: {said}",
                    words[0], done.status
                ));
            }
            sleep(RETRY_PAUSE);
        }
    }
}

/// Looks at the file of an element.
fn is_left(folder: &Path, index: u64) -> Result<(), String> {
    let path = folder.join(index.to_string());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    match text == format!("file {index}\n") {
        true => Ok(()),
        false => Err(format!("`{}` holds {text:?}", path.display())),
    }
}
