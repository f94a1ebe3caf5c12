//! One process of the cluster: started, waited for, started again if it dies, and stopped.
//!
//! A member says on stdout that it is ready, with the document that its command prints; its log goes to our stderr. It
//! has a process group of its own, so that a Ctrl-C in the terminal reaches `phalanx up` alone, which then stops its
//! members in order. A process is signalled only while it is ours to wait for, so its id cannot be another's by then.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::process::{LOG_VARIABLE, STOP_MAX};

/// The pause before the first restart; doubled by each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A member that has lived as long is started again without delay, should it end.
const LIFE_OF_A_HEALTHY_MEMBER: Duration = Duration::from_secs(20);
/// How long a member may take to stop before it is killed; it limits itself to less.
const KILL_AFTER: Duration = STOP_MAX.saturating_add(Duration::from_secs(2));

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Scheduler,
    Worker,
}

/// Which member something is about, for people: `worker node-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Scheduler => "scheduler",
            Kind::Worker => "worker",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// A process that is to run.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) label: Label,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Where it listens, if it does: once it has said where that is, it comes back at the same place.
    pub(super) listen: Option<String>,
}

/// What became of a member.
#[derive(Debug)]
pub(super) enum Event {
    /// It does its work. `address` is empty but for a scheduler.
    Ready { label: Label, pid: u32, address: String },
    /// It ended without being asked to, and is started again after a pause.
    Ended {
        label: Label,
        how: String,
        restart_in: Duration,
    },
    /// It ended in order without being asked to by us: it was drained, or told to stop.
    Left { label: Label },
    /// The system did not start it.
    NotStarted { label: Label, error: io::Error },
}

/// What a member prints when it is ready, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Scheduler { address: String },
    Worker {},
}

/// Minds a member until `stop` is true; returns once its process is gone.
pub(super) async fn mind(mut member: Member, mut stop: watch::Receiver<bool>, events: mpsc::Sender<Event>) {
    let mut pause = PAUSE_MIN;
    while !*stop.borrow() {
        let started = Instant::now();
        let ended = match member.start() {
            Ok(child) => match live(&mut member, child, &mut stop, &events).await {
                Some(Ok(status)) if status.success() && member.label.kind == Kind::Worker => {
                    let label = member.label.clone();
                    let _ = events.send(Event::Left { label }).await;
                    return;
                }
                Some(status) => Ok(how(status)),
                None => return,
            },
            Err(error) => Err(error),
        };
        if started.elapsed() > LIFE_OF_A_HEALTHY_MEMBER {
            pause = PAUSE_MIN;
        }
        let label = member.label.clone();
        let event = match ended {
            Ok(how) => Event::Ended {
                label,
                how,
                restart_in: pause,
            },
            Err(error) => Event::NotStarted { label, error },
        };
        // nobody listens any more when everything is being stopped
        let _ = events.send(event).await;
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut stop) => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Member {
    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(self.listen.iter().flat_map(|listen| ["--listen", listen]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // in the foreground, only what is wrong is of interest
        if std::env::var_os(LOG_VARIABLE).is_none_or(|value| value.is_empty()) {
            command.env(LOG_VARIABLE, "warn");
        }
        command.spawn()
    }
}

/// Waits for a process: how it ended by itself, or `None` after it was stopped.
async fn live(
    member: &mut Member,
    mut child: Child,
    stop: &mut watch::Receiver<bool>,
    events: &mpsc::Sender<Event>,
) -> Option<io::Result<ExitStatus>> {
    let mut stdout = child.stdout.take().map(|out| BufReader::new(out).lines());
    loop {
        tokio::select! {
            // what it said is told before its end
            biased;
            () = stopped(stop) => {
                end(child).await;
                return None;
            }
            line = next_line(&mut stdout) => {
                if let Some(event) = line.and_then(|line| ready(member, &child, &line)) {
                    if let (Event::Ready { address, .. }, Some(listen)) = (&event, &mut member.listen) {
                        listen.clone_from(address);
                    }
                    let _ = events.send(event).await;
                }
            }
            status = child.wait() => return Some(status),
        }
    }
}

/// Waits until members are to stop, or nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// The next line of its stdout; waits for ever once there will be none.
async fn next_line(stdout: &mut Option<tokio::io::Lines<BufReader<ChildStdout>>>) -> Option<String> {
    let Some(lines) = stdout else {
        return std::future::pending().await;
    };
    match lines.next_line().await {
        Ok(Some(line)) => Some(line),
        Ok(None) | Err(_) => {
            *stdout = None;
            None
        }
    }
}

/// What a line of stdout says, if it is the document that a role prints when it is ready.
fn ready(member: &Member, child: &Child, line: &str) -> Option<Event> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(Event::Ready {
        label: member.label.clone(),
        pid: child.id()?,
        address: match told_of(document)? {
            Told::Scheduler { address } => address,
            Told::Worker {} => String::new(),
        },
    })
}

/// The document's content without its version.
fn told_of(mut document: serde_json::Value) -> Option<Told> {
    document.as_object_mut()?.remove("version")?;
    serde_json::from_value(document).ok()
}

/// Asks a process to stop, then makes it.
async fn end(mut child: Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    if asked && timeout(KILL_AFTER, child.wait()).await.is_ok() {
        return;
    }
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a process could not be killed");
    }
}

fn how(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end is unknown: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Member {
        Member {
            label: Label {
                kind: Kind::Worker,
                name: "m".to_owned(),
            },
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            listen: None,
        }
    }

    #[tokio::test]
    async fn a_member_is_ready_when_it_says_so_and_its_end_is_told() {
        let (sender, mut events) = mpsc::channel(8);
        let (stopper, stop) = watch::channel(false);
        let script = r#"echo noise; echo '{"version":1,"scheduler":{"name":"s","address":"1.2.3.4:5","pid":6}}'; exit 3"#;
        let minding = tokio::spawn(mind(shell(script), stop, sender));
        let Some(Event::Ready { label, address, .. }) = events.recv().await else {
            panic!("it was not ready");
        };
        assert_eq!(
            (label.to_string().as_str(), address.as_str()),
            ("worker m", "1.2.3.4:5")
        );
        let Some(Event::Ended { how, restart_in, .. }) = events.recv().await else {
            panic!("it did not end");
        };
        assert_eq!((how.as_str(), restart_in), ("exit status: 3", PAUSE_MIN));
        stopper.send(true).unwrap();
        minding.await.unwrap();
    }

    #[tokio::test]
    async fn a_scheduler_that_died_comes_back_where_it_was() {
        let (sender, mut events) = mpsc::channel(8);
        let (stopper, stop) = watch::channel(false);
        // says where it was told to listen, unless the system chooses: then it is port 5
        let script = r#"port=${2#*:}; [ $port = 0 ] && port=5
            echo "{\"version\":1,\"scheduler\":{\"name\":\"s\",\"address\":\"h:$port\",\"pid\":6}}""#;
        let mut member = shell(script);
        member.arguments.push("name".into());
        member.label.kind = Kind::Scheduler;
        member.listen = Some("h:0".to_owned());
        let minding = tokio::spawn(mind(member, stop, sender));
        for _ in 0..2 {
            let Some(Event::Ready { address, .. }) = events.recv().await else {
                panic!("it was not ready");
            };
            assert_eq!(address, "h:5");
            assert!(matches!(events.recv().await, Some(Event::Ended { .. })));
        }
        stopper.send(true).unwrap();
        minding.await.unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_died_is_started_again_and_stopped_when_asked() {
        let (sender, mut events) = mpsc::channel(8);
        let (stopper, stop) = watch::channel(false);
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        // the first life ends at once, the second goes on
        let script = format!(
            "if [ -e {0} ]; then echo '{{\"version\":1,\"worker\":{{\"id\":\"w1\"}}}}'; exec sleep 1000; fi; \
             touch {0}; kill -9 $$",
            mark.display()
        );
        let minding = tokio::spawn(mind(shell(&script), stop, sender));
        let Some(Event::Ended { how, restart_in, .. }) = events.recv().await else {
            panic!("it did not end");
        };
        assert_eq!((how.as_str(), restart_in), ("signal: 9 (SIGKILL)", PAUSE_MIN));
        let Some(Event::Ready { pid, .. }) = events.recv().await else {
            panic!("it was not started again");
        };
        stopper.send(true).unwrap();
        timeout(Duration::from_secs(30), minding).await.unwrap().unwrap();
        assert!(
            !PathBuf::from(format!("/proc/{pid}")).exists(),
            "process {pid} is left"
        );
    }

    #[tokio::test]
    async fn a_worker_that_left_in_order_is_not_started_again() {
        let (sender, mut events) = mpsc::channel(8);
        let (_keep, stop) = watch::channel(false);
        mind(shell("exit 0"), stop, sender).await;
        assert!(matches!(events.recv().await, Some(Event::Left { label }) if label.name == "m"));
        assert!(events.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told() {
        let (sender, mut events) = mpsc::channel(8);
        let (stopper, stop) = watch::channel(false);
        let member = Member {
            program: "/does/not/exist".into(),
            ..shell("")
        };
        let minding = tokio::spawn(mind(member, stop, sender));
        assert!(matches!(events.recv().await, Some(Event::NotStarted { .. })));
        stopper.send(true).unwrap();
        minding.await.unwrap();
    }
}
