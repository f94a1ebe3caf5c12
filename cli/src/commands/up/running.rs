//! A cluster from its start to its end: who is ready, who has ended, and who stops first.

use std::time::Duration;

use phalanx_protocol::Resources;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::resources::format_bytes;
use phalanx_storage::members::addresses_at;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::member::{Event, Label, mind};
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
    label: Label,
    pid: u32,
    /// Where it listens; empty but for a scheduler.
    address: String,
}

/// The cluster while it is up. Workers and schedulers have a signal to stop each, so that workers stop first.
pub(super) struct Up {
    ui: Ui,
    signals: StopSignals,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    workers: JoinSet<()>,
    stop_workers: watch::Sender<bool>,
    schedulers: JoinSet<()>,
    stop_schedulers: watch::Sender<bool>,
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
            schedulers: JoinSet::new(),
            stop_schedulers: watch::channel(false).0,
        })
    }

    /// Starts everything and waits for a reason to stop.
    pub(super) async fn go(&mut self, plan: &Plan<'_>) -> Result<ExitCode, CliError> {
        let members = plan.schedulers();
        let count = members.len();
        for member in members {
            let stop = self.stop_schedulers.subscribe();
            self.schedulers.spawn(mind(member, stop, self.sender.clone()));
        }
        let schedulers = self.ready(count).await?;
        if schedulers.len() < count {
            return Ok(ExitCode::Success);
        }
        let addresses: Vec<&str> = schedulers.iter().map(|one| one.address.as_str()).collect();
        let members = plan.workers(&addresses.join(","));
        let count = members.len();
        for member in members {
            let stop = self.stop_workers.subscribe();
            self.workers.spawn(mind(member, stop, self.sender.clone()));
        }
        let workers = self.ready(count).await?;
        if workers.len() < count {
            return Ok(ExitCode::Success);
        }
        self.tell(plan, &schedulers, &workers)?;
        self.wait().await
    }

    /// Waits until `count` members are ready, and returns them in the order of their processes; none if a signal asks to stop.
    async fn ready(&mut self, count: usize) -> Result<Vec<Ready>, CliError> {
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
                    Event::Ready { label, pid, address } => ready.push(Ready { label, pid, address }),
                    Event::Left { label } => {
                        let what = format!("{label} left before the cluster was ready");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                    // why was told by itself, on the same stderr
                    Event::Ended { label, how, .. } => {
                        let what = format!("{label} ended before it was ready ({how})");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                    Event::NotStarted { label, error } => {
                        let what = format!("{label} cannot be started: {error}");
                        return Err(CliError::new(ExitCode::Internal, what));
                    }
                },
            }
        }
        ready.sort_by_key(|one| one.pid);
        Ok(ready)
    }

    fn tell(&self, plan: &Plan<'_>, schedulers: &[Ready], workers: &[Ready]) -> Result<(), CliError> {
        // workers have joined by now, so one of them leads, and its card says so
        let cards = addresses_at(&plan.directory.storage_path());
        let Some(leader) = leader_of(schedulers, &cards) else {
            return Ok(());
        };
        let root = plan.directory.root.display().to_string();
        let shape = |ready: &Ready| UpMemberShape {
            name: ready.label.name.clone(),
            pid: ready.pid,
        };
        let document = Document::new(Content::Up {
            directory: root.clone(),
            address: leader.address.clone(),
            scheduler: shape(leader),
            schedulers: schedulers.iter().map(shape).collect(),
            workers: workers.iter().map(shape).collect(),
        });
        // another terminal may not have this one's environment
        let is_default =
            std::env::home_dir().is_some_and(|home| home.join(".phalanx") == plan.directory.root);
        let export = (!is_default).then_some(root.as_str());
        self.ui.data(&document, |_| {
            up_text(&root, export, &leader.address, schedulers.len(), &plan.share)
        })
    }

    /// Waits for a reason to stop, and tells what happens meanwhile.
    async fn wait(&mut self) -> Result<ExitCode, CliError> {
        loop {
            tokio::select! {
                () = self.signals.next() => {
                    self.ui.note("stopping the workers, then the schedulers");
                    return Ok(ExitCode::Success);
                }
                Some(event) = self.events.recv() => match event {
                    Event::Ready { label, pid, .. } => {
                        self.ui.note(&format!("{label} is back (process {pid})"));
                    }
                    Event::Ended { label, how, restart_in } => {
                        let pause = restart_in.as_secs_f64();
                        self.ui.note(&format!("{label} ended ({how}); it is started again in {pause} s"));
                    }
                    Event::Left { label } => self.ui.note(&format!("{label} has left")),
                    Event::NotStarted { label, error } => {
                        self.ui.note(&format!("{label} cannot be started again yet: {error}"));
                    }
                },
            }
        }
    }

    /// Stops the workers, then the schedulers. Events are dropped: their ends are wanted now.
    pub(super) async fn stop(mut self) {
        self.events.close();
        let _ = self.stop_workers.send(true);
        while self.workers.join_next().await.is_some() {}
        let _ = self.stop_schedulers.send(true);
        while self.schedulers.join_next().await.is_some() {}
    }
}

/// The scheduler that is named first by the cards; by its port, since a card names no unspecified address.
fn leader_of<'a>(schedulers: &'a [Ready], cards: &[String]) -> Option<&'a Ready> {
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
    let leads = |one: &&Ready| {
        cards
            .first()
            .is_some_and(|first| port(first) == port(&one.address))
    };
    schedulers.iter().find(leads).or(schedulers.first())
}

fn up_text(
    root: &str,
    export: Option<&str>,
    address: &str,
    schedulers: usize,
    share: &[Resources],
) -> String {
    let (cpus, memory): (Vec<String>, u64) = (
        share.iter().map(|one| one.cpus.to_string()).collect(),
        share.first().map_or(0, |one| one.memory_bytes),
    );
    let workers = match share.len() {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let standbys = match schedulers {
        0 | 1 => String::new(),
        2 => ", 1 standby".to_owned(),
        count => format!(", {} standbys", count - 1),
    };
    let mut text = format!(
        "cluster {root} is up: scheduler at {address}{standbys}, {workers} ({} cpus, {} each)\n\nin another terminal:\n",
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
            up_text("/srv/lab", Some("/srv/lab"), "127.0.0.1:7878", 1, &share),
            expected
        );
        let text = up_text("/srv/lab", None, "127.0.0.1:7878", 3, &share);
        assert!(!text.contains("export"));
        assert!(
            text.contains("scheduler at 127.0.0.1:7878, 2 standbys, 2 workers"),
            "{text}"
        );
    }
}
