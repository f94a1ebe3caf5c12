//! The one task that owns the worker's state: feeds the agent with what happens and carries out what it decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::message::worker::{FromWorker, Report};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::agent::{Agent, Effect, HostId, HostProgram, Input};
use crate::hosts::cgroup::Cgroups;
use crate::hosts::{ForHost, HOST_MESSAGES_MAX, HostHandle, HostTask, Launcher, Program};
use crate::preparation::Stores;
use crate::session::{SESSION_EVENTS_MAX, Say, SessionEvent, Sessions};
use crate::worker::{StatusBoard, StopWish, WorkerError};

/// Facts from hosts and from storage that the agent has not taken. Each may be as large as a frame, so they are few.
const FACTS_MAX: usize = 16;
/// How long the killed hosts of a stopping worker may take to die.
const HOSTS_END_WAIT: Duration = Duration::from_secs(2);

/// The parts of a worker that the driver is made of.
pub(crate) struct Parts {
    pub(crate) agent: Agent,
    pub(crate) stores: Stores,
    pub(crate) launcher: Arc<dyn Launcher>,
    /// Where the system can be asked to limit the memory of hosts.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) status: Arc<StatusBoard>,
    /// How long what runs may take to end when the worker stops.
    pub(crate) grace: Duration,
    pub(crate) stop: watch::Receiver<StopWish>,
}

/// The worker's state and its ends of all channels.
pub(crate) struct Driver {
    agent: Agent,
    effects: Vec<Effect>,
    stores: Stores,
    launcher: Arc<dyn Launcher>,
    cgroups: Option<Cgroups>,
    status: Arc<StatusBoard>,
    grace: Duration,
    stop: watch::Receiver<StopWish>,
    hosts: BTreeMap<HostId, HostHandle>,
    facts_sender: mpsc::Sender<Input>,
    facts: mpsc::Receiver<Input>,
    session: Option<Session>,
    tasks: JoinSet<()>,
}

/// The way to the scheduler.
struct Session {
    say: mpsc::Sender<Say>,
    reports: mpsc::Sender<Arc<Report>>,
}

/// What woke the driver.
enum Wake {
    Fact(Input),
    Session(Option<SessionEvent>),
    ReportsTaken,
    Deadline,
    Stop(StopWish),
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            agent,
            stores,
            launcher,
            cgroups,
            status,
            grace,
            stop,
        } = parts;
        let (facts_sender, facts) = mpsc::channel(FACTS_MAX);
        Self {
            agent,
            effects: Vec::new(),
            stores,
            launcher,
            cgroups,
            status,
            grace,
            stop,
            hosts: BTreeMap::new(),
            facts_sender,
            facts,
            session: None,
            tasks: JoinSet::new(),
        }
    }

    /// Runs the worker until it is stopped or no scheduler takes it.
    pub(crate) async fn run(
        mut self,
        sessions: impl FnOnce(mpsc::Sender<SessionEvent>) -> Sessions,
    ) -> Result<(), WorkerError> {
        let (events_sender, mut events) = mpsc::channel(SESSION_EVENTS_MAX);
        let mut session_task = JoinSet::new();
        session_task.spawn(sessions(events_sender).run());
        let mut wish = StopWish::GoOn;
        loop {
            match self.wake(&mut events, wish).await {
                Wake::Fact(input) => self.take_in(input),
                Wake::Session(Some(event)) => self.session_event(event),
                // the sessions' task has ended, and says why
                Wake::Session(None) => break,
                Wake::ReportsTaken => {}
                Wake::Stop(wished) => {
                    wish = wished;
                    let grace = match wished {
                        StopWish::AtOnce => Duration::ZERO,
                        StopWish::GoOn | StopWish::InOrder => self.grace,
                    };
                    self.take_in(Input::Stopped { grace });
                }
                Wake::Deadline => self.take_in(Input::Ticked),
            }
            self.pump_reports();
            if self.agent.has_left() || (self.agent.has_stopped() && self.session.is_none()) {
                break;
            }
        }
        let stopping = wish != StopWish::GoOn || self.agent.has_left();
        if !self.agent.has_stopped() {
            let grace = Duration::ZERO;
            self.take_in(Input::Stopped { grace });
        }
        drop(events);
        let ended = self.end_sessions(&mut session_task, stopping).await;
        self.end_hosts().await;
        ended
    }

    async fn wake(&mut self, events: &mut mpsc::Receiver<SessionEvent>, wish: StopWish) -> Wake {
        let due = self.agent.next_deadline().map(Instant::from_std);
        let unsent = self
            .session
            .as_ref()
            .filter(|_| self.agent.next_report().is_some());
        tokio::select! {
            Some(input) = self.facts.recv() => Wake::Fact(input),
            event = events.recv() => Wake::Session(event),
            Some(_) = async { unsent?.reports.reserve().await.ok() } => Wake::ReportsTaken,
            Some(()) = sleep_to(due) => Wake::Deadline,
            // a dropped handle stops the worker too
            wished = self.stop.wait_for(|wished| *wished > wish), if wish < StopWish::AtOnce => {
                Wake::Stop(wished.map_or(StopWish::AtOnce, |wished| *wished))
            }
            // finished tasks are let go as they end; a panic in one is this worker's
            Some(ended) = self.tasks.join_next() => match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                Ok(()) | Err(Err(_)) => Wake::ReportsTaken,
            },
        }
    }

    fn take_in(&mut self, input: Input) {
        if let Input::HostDied { host, .. } | Input::HostFailed { host, .. } = &input {
            self.hosts.remove(host);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.agent.handle(std::time::Instant::now(), input, &mut effects);
        if cfg!(debug_assertions) {
            self.agent.check();
        }
        effects.drain(..).for_each(|effect| self.carry_out(effect));
        self.effects = effects;
    }

    fn session_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Connected { say, reports } => {
                self.session = Some(Session { say, reports });
                self.take_in(Input::Connected);
            }
            // the session was given up: what it has still to say does not count
            SessionEvent::Said(_) if self.session.is_none() => {}
            SessionEvent::Said(message) => {
                self.take_in(Input::Scheduler(message));
                self.status.set_worker(self.agent.worker());
            }
            SessionEvent::Disconnected => {
                self.session = None;
                self.take_in(Input::Disconnected);
            }
            // whoever asks has ended if it does not hear this
            SessionEvent::Unfound(reply) => drop(reply.send(self.agent.holds_work())),
        }
    }

    /// Hands reports to the session's writer as far as it has room.
    fn pump_reports(&mut self) {
        while let Some(session) = &self.session
            && let Some(report) = self.agent.next_report()
            && session.reports.try_send(report).is_ok()
        {
            self.agent.report_sent();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(message) => self.tell(message),
            Effect::TellHost(host, message) => self.tell_host(host, ForHost::Say(message)),
            Effect::Watch(host, limits) => self.tell_host(host, ForHost::Watch(limits)),
            Effect::KillHost(host) => {
                if let Some(handle) = self.hosts.get_mut(&host) {
                    handle.kill = None;
                }
            }
            Effect::EndSession => self.session = None,
            Effect::StartHost { host, program } => self.start_host(host, program),
            Effect::Prepare { job, opening, needs } => {
                let stores = self.stores.clone();
                self.spawn_blocking(move || {
                    let outcome = stores.prepare(opening, &needs);
                    Input::Prepared {
                        job,
                        opening,
                        outcome,
                    }
                });
            }
            Effect::Write(write) => {
                let stores = self.stores.clone();
                self.spawn_blocking(move || Input::Written {
                    job: write.job,
                    opening: write.opening,
                    name: stores.write(&write),
                });
            }
        }
    }

    fn tell(&mut self, message: FromWorker) {
        let Some(session) = &self.session else {
            tracing::debug!(
                ?message,
                "not said: no scheduler is connected, the next session tells what is held"
            );
            return;
        };
        if session.say.try_send(Say::Message(message)).is_err() {
            tracing::warn!("the scheduler does not read what this worker says; connecting again");
            self.session = None;
        }
    }

    fn tell_host(&mut self, host: HostId, message: ForHost) {
        let Some(handle) = self.hosts.get_mut(&host) else {
            return;
        };
        if handle.messages.try_send(message).is_err() {
            // it has ended, or it does not read: its task says so once it is dead
            handle.kill = None;
        }
    }

    fn start_host(&mut self, host: HostId, program: HostProgram) {
        let (messages_sender, messages) = mpsc::channel(HOST_MESSAGES_MAX);
        let (kill_sender, kill) = oneshot::channel();
        let program = match program {
            HostProgram::Blob(program) => Program::File(self.stores.program_path(program)),
            HostProgram::Own => Program::Own,
        };
        let task = HostTask {
            host,
            program,
            mark: self.agent.mark(host),
            launcher: Arc::clone(&self.launcher),
            boards: self.stores.boards(),
            cgroups: self.cgroups.clone(),
            messages,
            kill,
            facts: self.facts_sender.clone(),
        };
        self.hosts.insert(
            host,
            HostHandle {
                messages: messages_sender,
                kill: Some(kill_sender),
            },
        );
        self.tasks.spawn(task.run());
    }

    fn spawn_blocking(&mut self, work: impl FnOnce() -> Input + Send + 'static) {
        let facts = self.facts_sender.clone();
        self.tasks.spawn(async move {
            match tokio::task::spawn_blocking(work).await {
                // if nobody listens any more, the worker has ended
                Ok(input) => drop(facts.send(input).await),
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic)
                    }
                }
            }
        });
    }

    /// Lets the last session deliver what it was given, if this worker stops; else asks why the sessions ended.
    async fn end_sessions(
        &mut self,
        session_task: &mut JoinSet<Result<(), WorkerError>>,
        stopping: bool,
    ) -> Result<(), WorkerError> {
        let is_finishing = self
            .session
            .take()
            .is_some_and(|session| session.say.try_send(Say::Finish).is_ok());
        if stopping && !is_finishing {
            session_task.abort_all();
        }
        match session_task.join_next().await {
            Some(Ok(_)) if stopping => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Waits until the killed hosts are dead; what is still being written is left behind.
    async fn end_hosts(mut self) {
        self.hosts.clear();
        drop(self.facts_sender);
        // without a listener, tasks that wait to say something end
        self.facts.close();
        let deadline = Instant::now() + HOSTS_END_WAIT;
        while let Ok(Some(_)) = timeout_at(deadline, self.tasks.join_next()).await {}
    }
}

/// `None` at once if there is no such moment.
async fn sleep_to(due: Option<Instant>) -> Option<()> {
    sleep_until(due?).await;
    Some(())
}
