//! A cluster from its start to its end: who is ready, who has ended, and who stops first.

use std::time::Duration;

use phalanx_protocol::Resources;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::resources::format_bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::member::{Event, mind};
use super::plan::Plan;
use crate::process::StopSignals;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, UpMemberShape};
use crate::ui::error::CliError;

/// How long members may take until they are ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// Events of members that wait to be told.
const EVENT_QUEUE_MAX: usize = 64;

/// A process that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ready {
    name: String,
    pid: u32,
}

/// The cluster while it is up. Workers and scheduler have a signal to stop each, so that workers stop first.
pub(super) struct Up {
    ui: Ui,
    signals: StopSignals,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    workers: JoinSet<()>,
    stop_workers: watch::Sender<bool>,
    scheduler: JoinSet<()>,
    stop_scheduler: watch::Sender<bool>,
}

impl Up {
    pub(super) fn new(ui: Ui) -> Result<Self, CliError> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        Ok(Self {
            ui,
            signals: StopSignals::listen()?,
            events,
            sender,
            workers: JoinSet::new(),
            stop_workers: watch::channel(false).0,
            scheduler: JoinSet::new(),
            stop_scheduler: watch::channel(false).0,
        })
    }

    /// Starts everything and waits for a reason to stop.
    pub(super) async fn go(&mut self, plan: &Plan<'_>) -> Result<ExitCode, CliError> {
        let stop = self.stop_scheduler.subscribe();
        self.scheduler
            .spawn(mind(plan.scheduler(), stop, self.sender.clone()));
        let Some(scheduler) = self.ready(1).await?.pop() else {
            return Ok(ExitCode::Success);
        };
        let (scheduler, address) = scheduler;
        let members = plan.workers(&address);
        let count = members.len();
        for member in members {
            let stop = self.stop_workers.subscribe();
            self.workers.spawn(mind(member, stop, self.sender.clone()));
        }
        let mut workers: Vec<Ready> = self
            .ready(count)
            .await?
            .into_iter()
            .map(|(ready, _)| ready)
            .collect();
        if workers.len() < count {
            return Ok(ExitCode::Success);
        }
        workers.sort_by_key(|worker| worker.pid);
        self.tell(plan, &scheduler, &address, &workers)?;
        self.wait().await
    }

    /// Waits until `count` members are ready, with the addresses they tell; fewer if a signal asks to stop.
    async fn ready(&mut self, count: usize) -> Result<Vec<(Ready, String)>, CliError> {
        let deadline = tokio::time::Instant::now() + READY_MAX;
        let mut ready = Vec::new();
        while ready.len() < count {
            tokio::select! {
                () = self.signals.next() => return Ok(Vec::new()),
                () = tokio::time::sleep_until(deadline) => {
                    let what = format!("the cluster was not ready within {} s", READY_MAX.as_secs());
                    return Err(CliError::new(ExitCode::Internal, what)
                        .hint("PHALANX_LOG=info shows what its processes do"));
                }
                Some(event) = self.events.recv() => match event {
                    Event::Ready { name, pid, address } => ready.push((Ready { name, pid }, address)),
                    Event::Left { name } => {
                        let what = format!("{name} left before the cluster was ready");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                    // why was told by itself, on the same stderr
                    Event::Ended { name, how, .. } => {
                        let what = format!("{name} ended before it was ready ({how})");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                    Event::NotStarted { name, error } => {
                        let what = format!("{name} cannot be started: {error}");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                },
            }
        }
        Ok(ready)
    }

    fn tell(
        &self,
        plan: &Plan<'_>,
        scheduler: &Ready,
        address: &str,
        workers: &[Ready],
    ) -> Result<(), CliError> {
        let root = plan.directory.root.display().to_string();
        let shape = |ready: &Ready| UpMemberShape {
            name: ready.name.clone(),
            pid: ready.pid,
        };
        let document = Document::new(Content::Up {
            directory: root.clone(),
            address: address.to_owned(),
            scheduler: shape(scheduler),
            workers: workers.iter().map(shape).collect(),
        });
        // another terminal may not have this one's environment
        let is_default =
            std::env::home_dir().is_some_and(|home| home.join(".phalanx") == plan.directory.root);
        let export = (!is_default).then_some(root.as_str());
        self.ui
            .data(&document, |_| up_text(&root, export, address, &plan.share))
    }

    /// Waits for a reason to stop, and tells what happens meanwhile.
    async fn wait(&mut self) -> Result<ExitCode, CliError> {
        loop {
            tokio::select! {
                () = self.signals.next() => {
                    self.ui.note("stopping the workers, then the scheduler");
                    return Ok(ExitCode::Success);
                }
                Some(event) = self.events.recv() => match event {
                    Event::Ready { name, pid, .. } => {
                        self.ui.note(&format!("worker {name} is back (process {pid})"));
                    }
                    Event::Ended { name, how, restart_in: Some(pause) } => {
                        let pause = pause.as_secs_f64();
                        self.ui.note(&format!("worker {name} ended ({how}); it is started again in {pause} s"));
                    }
                    Event::Ended { name, how, restart_in: None } => {
                        let what = format!("the {name} ended ({how}), and the cluster with it");
                        return Err(CliError::new(ExitCode::Internal, what)
                            .hint("`phalanx up` starts it again; what was acknowledged is on storage"));
                    }
                    Event::Left { name } => self.ui.note(&format!("worker {name} has left")),
                    Event::NotStarted { name, error } => {
                        self.ui.note(&format!("worker {name} cannot be started again yet: {error}"));
                    }
                },
            }
        }
    }

    /// Stops the workers, then the scheduler. Events are dropped: their ends are wanted now.
    pub(super) async fn stop(mut self) {
        self.events.close();
        let _ = self.stop_workers.send(true);
        while self.workers.join_next().await.is_some() {}
        let _ = self.stop_scheduler.send(true);
        while self.scheduler.join_next().await.is_some() {}
    }
}

fn up_text(root: &str, export: Option<&str>, address: &str, share: &[Resources]) -> String {
    let (cpus, memory): (Vec<String>, u64) = (
        share.iter().map(|one| one.cpus.to_string()).collect(),
        share.first().map_or(0, |one| one.memory_bytes),
    );
    let workers = match share.len() {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let mut text = format!(
        "cluster {root} is up: scheduler at {address}, {workers} ({} cpus, {} each)\n\nin another terminal:\n",
        cpus.join(" + "),
        format_bytes(memory),
    );
    if let Some(root) = export {
        text += &format!("  export PHALANX_CLUSTER={root}\n");
    }
    text += "  phalanx run PROGRAM --kernel NAME --range 0..1000\n  phalanx workers\n\nCtrl-C stops it.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_up_says_how_to_use_it() {
        let one = Resources {
            cpus: 4,
            memory_bytes: 8 << 30,
            ..Resources::default()
        };
        let share = [one.clone(), one];
        let expected = "\
cluster /srv/lab is up: scheduler at 127.0.0.1:7878, 2 workers (4 + 4 cpus, 8 GiB each)

in another terminal:
  export PHALANX_CLUSTER=/srv/lab
  phalanx run PROGRAM --kernel NAME --range 0..1000
  phalanx workers

Ctrl-C stops it.
";
        assert_eq!(
            up_text("/srv/lab", Some("/srv/lab"), "127.0.0.1:7878", &share),
            expected
        );
        assert!(!up_text("/srv/lab", None, "127.0.0.1:7878", &share).contains("export"));
    }
}
