//! `phalanx chaos`: a real cluster of processes on this machine that is disturbed by a seeded schedule while users work on
//! it, and what it survived.
//!
//! The story: [`processes`] starts schedulers and workers in a folder of their own, a job runs undisturbed, [`load`] lets users
//! submit it again and again and compares ([`kernels`]), [`schedule`] says what goes wrong next, here it is done and undone. At the
//! end everything is restored, and every promise is looked at: each job that was acknowledged is there and has all its
//! results, each once and right. [`network`] adds namespaces in which processes can be cut off from each other.

mod kernels;
mod load;
mod network;
mod processes;
mod schedule;
mod shell;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phalanx::{ClientOptions, Cluster};
use phalanx_protocol::exit::ExitCode;
use phalanx_transport::{ClusterDirectory, NewCluster, Role};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::args::daemon::ChaosArguments;
use crate::process::{StopSignals, runtime};
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use crate::ui::units::{counted, duration};
use load::{Load, Tally, Undisturbed, broken_promises};
use network::{Network, Place};
use processes::{Layout, Processes, name};
use schedule::{Disturbance, Schedule, Target, Targets};
use shell::Shell;

/// How long users may take to end their last jobs once nothing goes wrong any more.
const CALM_MAX: Duration = Duration::from_secs(120);
/// How long a user's client bears a cluster that does not answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked whether the users are still content.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &ChaosArguments, ui: Ui) -> Result<ExitCode, CliError> {
    let (schedulers, workers) = (arguments.schedulers as usize, arguments.workers as usize);
    let network = match arguments.network {
        false => None,
        true => match network::enter(schedulers, workers) {
            Place::Inside(network) => Some(network),
            Place::Outside(status) => return of_inside(status),
            Place::Nowhere(reason) => {
                ui.note(&format!(
                    "no network namespaces, so nothing is slowed down or lost, and who is to be silent is stopped: {reason}"
                ));
                None
            }
        },
    };
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => random()?,
    };
    let folder = std::env::temp_dir().join(format!("phalanx-chaos-{}-{seed}", std::process::id()));
    let survived = runtime()?.block_on(async {
        let mut chaos = Chaos::start(&folder, seed, arguments, network, ui).await?;
        let disturbed = chaos.disturb(arguments.duration()).await;
        let calm = chaos.calm_down().await;
        disturbed?;
        calm?;
        chaos.verdict()
    })?;
    ui.data(&Document::new(survived.content(seed)), |_| survived.text(seed))?;
    if survived.findings.is_empty() {
        // it was only of use for finding out what went wrong
        let _ = std::fs::remove_dir_all(&folder);
        return Ok(ExitCode::Success);
    }
    let what = counted(survived.findings.len() as u64, "promise");
    Err(CliError::new(ExitCode::Internal, format!("{what} broken with seed {seed}"))
        .details(survived.findings)
        .hint(format!(
            "logs and storage are in {}; `phalanx chaos --seed {seed}` disturbs at the same moments again",
            folder.display()
        )))
}

/// The end of the process inside the namespaces is our own.
fn of_inside(status: std::process::ExitStatus) -> Result<ExitCode, CliError> {
    match status.code() {
        Some(0) => Ok(ExitCode::Success),
        // it has said why
        Some(_) | None => Err(CliError::silent(ExitCode::Internal)),
    }
}

/// A cluster under disturbance.
struct Chaos {
    ui: Ui,
    signals: StopSignals,
    processes: Processes,
    targets: Vec<Target>,
    schedule: Schedule,
    cluster: Cluster,
    load: Load,
    undisturbed: Arc<Undisturbed>,
    /// What is to be undone, and when.
    due: Vec<(Instant, Undo)>,
    counts: BTreeMap<&'static str, u64>,
    started: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Undo {
    Restore(Target),
    Heal(Target),
}

impl Chaos {
    async fn start(
        folder: &Path,
        seed: u64,
        arguments: &ChaosArguments,
        network: Option<Network>,
        ui: Ui,
    ) -> Result<Self, CliError> {
        let signals = StopSignals::listen()?;
        let directory = ClusterDirectory::create(&folder.join("cluster"), &NewCluster::default())?;
        let layout = Layout {
            program: own_program()?,
            cluster: directory.root.clone(),
            folder: folder.to_owned(),
            schedulers: arguments.schedulers as usize,
            workers: arguments.workers as usize,
        };
        let schedulers = (0..layout.schedulers).map(Target::Scheduler);
        let targets: Vec<Target> = schedulers
            .chain((0..layout.workers).map(Target::Worker))
            .collect();
        let disturbed = Targets {
            schedulers: layout.schedulers,
            workers: layout.workers,
            have_networks: network.is_some(),
            can_lose: network.as_ref().is_some_and(|network| can_lose(network, ui)),
        };
        if let Some(network) = &network {
            network
                .make(&targets)
                .map_err(|reason| CliError::new(ExitCode::Internal, reason))?;
            if let Err(reason) = network.can_delay(targets[0]) {
                ui.note(&format!(
                    "no packet is delayed by itself, slow processes have narrow lines instead: {reason}"
                ));
            }
        }
        let shell = Shell {
            program: layout.program.clone(),
            cluster: layout.cluster.clone(),
            folder: folder.join("files"),
        };
        let processes = Processes::start(layout, network).await?;
        let addresses: Vec<_> = processes
            .addresses()
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let options = ClientOptions {
            patience: PATIENCE,
            ..ClientOptions::default()
        };
        let cluster = Cluster::connect_to(&addresses, &directory.credential(Role::User)?, options)
            .map_err(|error| CliError::from_chain(ExitCode::Internal, &error))?;
        let user = cluster.clone();
        let undisturbed = spawn_blocking(move || Undisturbed::run(&user)).await;
        let undisturbed = undisturbed.unwrap_or_else(|error| Err(error.to_string()));
        let undisturbed = undisturbed.map_err(|reason| CliError::new(ExitCode::Internal, reason))?;
        let undisturbed = Arc::new(undisturbed);
        ui.note(&format!("undisturbed, a job takes {}", millis(undisturbed.took)));
        let load = Load::start(&cluster, arguments.workers as usize, &undisturbed, &shell)
            .map_err(|error| CliError::new(ExitCode::Internal, format!("no threads for users: {error}")))?;
        ui.note(&format!(
            "seed {seed}; logs and storage are in {}",
            folder.display()
        ));
        Ok(Self {
            ui,
            signals,
            processes,
            targets,
            schedule: Schedule::new(seed, disturbed),
            cluster,
            load,
            undisturbed,
            due: Vec::new(),
            counts: BTreeMap::new(),
            started: Instant::now(),
        })
    }

    /// Disturbs for a while, or until a user finds something wrong.
    async fn disturb(&mut self, length: Duration) -> Result<(), CliError> {
        let end = Instant::now() + length;
        loop {
            let (pause, disturbance) = self.schedule.draw();
            let next = Instant::now() + pause;
            self.wait(next.min(end)).await?;
            if Instant::now() >= end || !self.load.tally().findings.is_empty() {
                return Ok(());
            }
            self.carry_out(disturbance).await?;
        }
    }

    /// Undoes what is due until that moment.
    async fn wait(&mut self, until: Instant) -> Result<(), CliError> {
        loop {
            let now = Instant::now();
            let (due, rest) = std::mem::take(&mut self.due)
                .into_iter()
                .partition(|(at, _)| *at <= now);
            self.due = rest;
            let due: Vec<(Instant, Undo)> = due;
            due.into_iter().try_for_each(|(_, undo)| self.undo(undo))?;
            if now >= until {
                return Ok(());
            }
            let next = self.due.iter().map(|(at, _)| *at).chain([until]).min();
            tokio::select! {
                () = sleep_until(next.unwrap_or(until)) => {}
                () = self.signals.next() => return Err(CliError::silent(ExitCode::Interrupted)),
            }
        }
    }

    async fn carry_out(&mut self, disturbance: Disturbance) -> Result<(), CliError> {
        let failed = |reason| CliError::new(ExitCode::Internal, reason);
        let (what, target, undo) = match disturbance {
            Disturbance::Kill(target, away) => {
                let was_alive = self.processes.kill(target).await;
                (
                    was_alive.then_some("killed"),
                    target,
                    Some((away, Undo::Restore(target))),
                )
            }
            Disturbance::Still(target, length) => {
                let stands = self.processes.still(target);
                let undo = stands.then_some((length, Undo::Restore(target)));
                (stands.then_some("stopped for a while"), target, undo)
            }
            Disturbance::Ask(target, away) => {
                let is_asked = self.processes.ask(target);
                (
                    is_asked.then_some("asked to stop"),
                    target,
                    Some((away, Undo::Restore(target))),
                )
            }
            Disturbance::KillHost(worker) => {
                let is_killed = self.processes.kill_host(worker);
                (
                    is_killed.then_some("kernel host killed"),
                    Target::Worker(worker),
                    None,
                )
            }
            Disturbance::CutOff(target, length) => {
                let network = self.processes.network().map(|network| network.cut_off(target));
                network.transpose().map_err(failed)?;
                (Some("cut off"), target, Some((length, Undo::Heal(target))))
            }
            Disturbance::Slow(target, length) => {
                let network = self.processes.network().map(|network| network.slow_down(target));
                network.transpose().map_err(failed)?;
                (Some("slowed down"), target, Some((length, Undo::Heal(target))))
            }
            Disturbance::Lossy(target, percent, length) => {
                let network = self
                    .processes
                    .network()
                    .map(|network| network.lose(target, percent));
                network.transpose().map_err(failed)?;
                (Some("packets lost"), target, Some((length, Undo::Heal(target))))
            }
        };
        if let Some(what) = what {
            let role = match target {
                Target::Scheduler(_) => "scheduler",
                Target::Worker(_) => "worker",
            };
            let after = self.started.elapsed().as_secs_f64();
            self.ui.note(&format!("{after:>6.1} s  {} {what}", name(target)));
            *self.counts.entry(sentence(role, what)).or_default() += 1;
        }
        self.due
            .extend(undo.map(|(after, undo)| (Instant::now() + after, undo)));
        Ok(())
    }

    fn undo(&mut self, undo: Undo) -> Result<(), CliError> {
        match undo {
            Undo::Restore(target) => self.processes.restore(target),
            Undo::Heal(target) => {
                let network = self.processes.network().map(|network| network.heal(target));
                let failed = |reason| CliError::new(ExitCode::Internal, reason);
                network.transpose().map(|_| ()).map_err(failed)
            }
        }
    }

    /// Restores everything, and lets the users end what they began.
    async fn calm_down(&mut self) -> Result<(), CliError> {
        self.due.clear();
        for target in self.targets.clone() {
            self.undo(Undo::Heal(target))?;
            self.undo(Undo::Restore(target))?;
        }
        let end = Instant::now() + CALM_MAX;
        // one that was just asked to stop may have been seen alive
        while !self.load.is_over() && Instant::now() < end {
            self.wait(Instant::now() + LOOK_INTERVAL).await?;
            for target in self.targets.clone() {
                self.undo(Undo::Restore(target))?;
            }
        }
        Ok(())
    }

    /// Looks at everything that was promised.
    fn verdict(self) -> Result<Survived, CliError> {
        let mut tally = self.load.tally();
        let mut findings = std::mem::take(&mut tally.findings);
        match self.load.is_over() {
            true => {
                let jobs = self.cluster.jobs()?;
                findings.extend(broken_promises(&tally, &jobs));
            }
            false => {
                let patience = CALM_MAX.as_secs();
                findings.push(format!(
                    "users still waited for results after {patience} s without disturbance"
                ));
            }
        }
        Ok(Survived {
            took: self.started.elapsed(),
            undisturbed: self.undisturbed.took,
            counts: self.counts,
            tally,
            findings,
        })
    }
}

fn millis(time: Duration) -> String {
    duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn can_lose(network: &Network, ui: Ui) -> bool {
    match network.can_lose() {
        Ok(()) => true,
        Err(reason) => {
            ui.note(&format!("no packets are lost: {reason}"));
            false
        }
    }
}

/// How a disturbance is counted.
fn sentence(role: &str, what: &'static str) -> &'static str {
    match (role, what) {
        ("scheduler", "killed") => "schedulers killed",
        ("scheduler", "stopped for a while") => "schedulers stopped for a while",
        ("scheduler", "asked to stop") => "schedulers asked to stop",
        ("scheduler", "cut off") => "schedulers cut off",
        ("scheduler", "slowed down") => "schedulers slowed down",
        ("scheduler", "packets lost") => "schedulers with packet loss",
        (_, "killed") => "workers killed",
        (_, "stopped for a while") => "workers stopped for a while",
        (_, "asked to stop") => "workers asked to stop",
        (_, "cut off") => "workers cut off",
        (_, "slowed down") => "workers slowed down",
        (_, "packets lost") => "workers with packet loss",
        (_, _) => "kernel hosts killed",
    }
}

/// What came of it.
struct Survived {
    took: Duration,
    undisturbed: Duration,
    counts: BTreeMap<&'static str, u64>,
    tally: Tally,
    findings: Vec<String>,
}

impl Survived {
    fn content(&self, seed: u64) -> Content<'_> {
        Content::Chaos {
            seed,
            seconds: self.took.as_secs_f64(),
            undisturbed_seconds: self.undisturbed.as_secs_f64(),
            disturbances: &self.counts,
            jobs: self.tally.jobs.len() as u64,
            gangs: self.tally.gangs,
            gangs_hit: self.tally.gangs_hit,
            commands: self.tally.commands,
            results: self.tally.results,
            longest_wait_seconds: self.tally.longest_wait.as_secs_f64(),
            findings: &self.findings,
        }
    }

    fn text(&self, seed: u64) -> String {
        let verdict = match self.findings.is_empty() {
            true => "survived",
            false => "NOT survived",
        };
        let took = millis(self.took);
        let mut text = format!("{verdict}, with seed {seed}, in {took}:\n");
        for (what, count) in &self.counts {
            text += &format!("  {count:>4} {what}\n");
        }
        text += &format!(
            "{}, {} ({} had lost ranks), {} and {} were compared with those of an undisturbed run of {}; the longest wait for one was {}\n",
            counted(self.tally.jobs.len() as u64, "job"),
            counted(self.tally.gangs, "gang"),
            self.tally.gangs_hit,
            counted(self.tally.commands, "command"),
            counted(self.tally.results, "result"),
            millis(self.undisturbed),
            millis(self.tally.longest_wait)
        );
        text
    }
}

fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::new(ExitCode::Internal, format!("cannot find this program: {error}")))
}

fn random() -> Result<u64, CliError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::new(ExitCode::Internal, format!("no randomness: {error}")))?;
    Ok(u32::from_le_bytes(bytes).into())
}
