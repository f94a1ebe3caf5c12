//! Commands as child processes, each with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The lines of stdout of a command that has gone well.
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.lines().collect()
    }

    /// What a command that has gone well has printed.
    pub(crate) fn told(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it wrote to stderr, but why its job had not begun: that is told where it takes long, as on a slow machine.
    pub(crate) fn errors(&self) -> String {
        let lines = self.stderr.split_inclusive('\n');
        let is_why = |line: &str| line.starts_with("job ") && line.contains(" waits");
        lines.filter(|line| !is_why(line)).collect()
    }

    /// The document on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        let document: serde_json::Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{error}: {self:?}");
        });
        assert_eq!(document["version"], 1, "{document}");
        document
    }
}

/// The command under test, with nothing of this test's own environment that it would obey.
pub(crate) fn phalanx() -> Command {
    plain(Command::new(env!("CARGO_BIN_EXE_phalanx")))
}

/// The kernel program, as a driver.
pub(crate) fn driver() -> Command {
    plain(Command::new(fixture()))
}

/// Who runs the tests, as the system's list of users says; as the environment says if it is not listed there.
pub(crate) fn login() -> String {
    let named = Command::new("id")
        .arg("-un")
        .output()
        .expect("every Unix has `id`");
    let name = String::from_utf8_lossy(&named.stdout).trim().to_owned();
    let is_listed = std::fs::read_to_string("/etc/passwd").is_ok_and(|users| {
        let prefix = format!("{name}:");
        users.lines().any(|line| line.starts_with(&prefix))
    });
    if is_listed { name } else { "ada".to_owned() }
}

/// A command without this test's own environment, whose output is read.
pub(crate) fn plain(mut command: Command) -> Command {
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("PHALANX_")) {
        command.env_remove(name);
    }
    command
        .env("USER", "ada")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The kernel program, which cargo builds beside the command.
pub(crate) fn fixture() -> PathBuf {
    example("fixture_kernels")
}

/// A program that cargo builds beside the command.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_phalanx"));
    let path = path.with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is not there: build it with `cargo build -p phalanx-cli --examples`",
        path.display()
    );
    path
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Done {
    finish(command.spawn().expect("the command starts"))
}

/// Waits for a process's end and for everything that it wrote; kills it at the deadline.
pub(crate) fn finish(child: Child) -> Done {
    finish_within(child, DEADLINE)
}

/// The same with a deadline of one's own.
pub(crate) fn finish_within(mut child: Child, deadline: Duration) -> Done {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        let mut pipe = pipe.expect("a pipe");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        receiver
    };
    let stdout = read(
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    );
    let stderr = read(
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    );
    // both are closed by its end, and by that of whatever it left behind
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(deadline), stderr.recv_timeout(deadline)) else {
        let _ = child.kill();
        panic!("process {} did not end in {deadline:?}", child.id());
    };
    let code = child.wait().expect("its end can be waited for").code();
    Done { code, stdout, stderr }
}

/// Lines as they come, from a thread that ends with the pipe.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A command that is watched while it runs. It is killed if it is still there at the end.
pub(crate) struct Watched {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Watched {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        Self {
            stdout: lines(child.stdout.take().expect("a pipe")),
            stderr: lines(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    pub(crate) fn line(&self) -> String {
        line_of(&self.stdout).expect("one more line")
    }

    /// The next line on stderr.
    pub(crate) fn error_line(&self) -> String {
        line_of(&self.stderr).expect("one more line")
    }

    /// How it ends, and what is left of its output.
    pub(crate) fn finish(mut self) -> Done {
        let rest = |lines: &Receiver<String>| -> String {
            let rest = std::iter::from_fn(|| line_of(lines));
            rest.map(|line| line + "\n").collect()
        };
        // both are closed by its end
        let (stdout, stderr) = (rest(&self.stdout), rest(&self.stderr));
        let code = self.child.wait().expect("its end can be waited for").code();
        Done { code, stdout, stderr }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line; none if no more comes.
fn line_of(lines: &Receiver<String>) -> Option<String> {
    match lines.recv_timeout(DEADLINE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("nothing came in {DEADLINE:?}"),
    }
}

/// Sends a signal to a process that this test started, or that such a process did.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).expect("the process is there");
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        thread::yield_now();
        // another process has to do something first, and there is nothing to wait on
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether a process is there and not just waiting to be buried.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // the state follows the name, which is in parentheses
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
