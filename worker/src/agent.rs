//! The decisions of a worker: facts in, effects out. Pure: no clock, no socket, no process.
//!
//! [`Agent::handle`] is the one entry point; the driver feeds it and carries the effects out. A job is opened by the
//! scheduler ([`Agent::opened`]), prepared (its program and inputs), seated in a kernel host ([`Agent::seat`]), fed
//! with grants, and closed. Three things are never mixed up: what the scheduler wants, what a host was told, and what a
//! host has confirmed ([`crate::ledger`], invariant SLOT). What a host says ended is held until a report says so, and
//! the report is kept until it is durable ([`crate::outbox`], invariant KEEP).

mod hosting;
mod job;
mod leaving;
mod reporting;
mod seats;
mod session;
mod standstill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use phalanx_protocol::limits::COMMAND_GRACE_MILLIS_MAX;
use phalanx_protocol::message::host::{FromHost, Progress, ToHost};
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{BlobId, GrantId, IndexRange, JobId, Resources, Work, WorkerId};

use crate::equipment::Equipment;
use crate::inputs::InputFiles;
use crate::ledger::Ledger;
use crate::outbox::Outbox;
use job::Job;
use seats::Seats;
use standstill::STANDSTILL;

/// Jobs that may be open here at a time; each has a process.
pub(crate) const JOBS_OPEN_MAX: usize = 1024;
/// Ranges that a worker says it holds when it joins, so that this fits a frame; jobs beyond are closed.
pub(crate) const HELD_RANGES_MAX: usize = 16_384;
/// Grants of one job that a worker holds at a time.
pub(crate) const GRANTS_PER_JOB_MAX: usize = 65_536;
/// How long cancelled tasks of a closed job may go on before their host is killed.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// The same for commands, which their host kills itself after a grace of their own.
pub(crate) const COMMANDS_CLOSE_GRACE: Duration =
    Duration::from_millis(COMMAND_GRACE_MILLIS_MAX + CLOSE_GRACE.as_millis() as u64);
/// Kernel hosts without a job that are kept for the next one.
pub(crate) const IDLE_HOSTS_MAX: usize = 4;
/// How long a kernel host without a job is kept.
pub(crate) const IDLE_HOST_KEPT: Duration = Duration::from_secs(60);
/// How long a job waits for a host that is just closing its last one, before it gets a new process.
pub(crate) const CLOSING_HOST_WAIT: Duration = Duration::from_millis(50);
/// The first pause before a result file is written again; it doubles up to [`WRITE_PAUSE_MAX`].
pub(crate) const WRITE_PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long a stopping worker waits for its last reports to become durable.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(2);
/// The longest pause before a result file is written again.
pub(crate) const WRITE_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A kernel host of this worker, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostId(pub(crate) u64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostProgram {
    /// A user's program.
    Blob(BlobId),
    /// This worker's own, as a host of commands.
    Own,
}

impl HostProgram {
    /// What a job's host runs.
    fn of(work: &Work) -> Self {
        work.program().map_or(Self::Own, Self::Blob)
    }

    /// How long it may take to close a job.
    fn close_grace(self) -> Duration {
        match self {
            Self::Blob(_) => CLOSE_GRACE,
            Self::Own => COMMANDS_CLOSE_GRACE,
        }
    }
}

/// One opening of a job here, counted from 1: what belongs to an earlier one is not mistaken for this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opening(pub(crate) u64);

/// Why a job cannot run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// As a sentence.
    pub(crate) reason: String,
    /// Whether it is the job's fault.
    pub(crate) fatal: bool,
}

/// How a host came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// `signal 11 (SIGSEGV)`, `exit status 3`, `used 9.1 GiB of 8 GiB`.
    pub(crate) how: String,
    /// Its program ended itself.
    pub(crate) by_itself: bool,
    /// What those who are to blame are blamed for.
    pub(crate) cause: FailureCause,
    /// Tasks that may be to blame, in order; those that have been reported since are not.
    pub(crate) blamed: Vec<u64>,
}

impl Death {
    /// Of a host that this worker killed for reasons of its own: nobody is to blame.
    pub(crate) fn killed(how: &str) -> Self {
        Self {
            how: how.to_owned(),
            by_itself: false,
            cause: FailureCause::Crash,
            blamed: Vec::new(),
        }
    }
}

/// What the tasks of a job may use, so that its host is killed if they use more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// One run of a task.
    pub(crate) task_time: Option<Duration>,
    /// Each slot; 0: as much as there is.
    pub(crate) memory_bytes: u64,
}

/// Where hosts find what is not in their messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folders {
    /// The root of the shared storage: checkpoints, output.
    pub(crate) storage: PathBuf,
    /// This node's folder for what hosts need for a while, each in a folder of its own.
    pub(crate) scratch: PathBuf,
}

/// What a job needs from shared storage before it can run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Copy and check this program.
    pub(crate) program: Option<BlobId>,
    /// Read these parameters.
    pub(crate) parameters: Option<BlobId>,
    /// Read this input table and look for its chunks.
    pub(crate) table: Option<BlobId>,
}

/// What was needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The program that is now in the cache.
    pub(crate) program: Option<BlobId>,
    /// The file of the parameters.
    pub(crate) parameters: Option<PathBuf>,
    /// The input files.
    pub(crate) inputs: Option<InputFiles>,
}

/// Results that have to be durable before they are reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResultWrite {
    pub(crate) job: JobId,
    pub(crate) opening: Opening,
    pub(crate) grant: GrantId,
    pub(crate) range: IndexRange,
    pub(crate) portion: Progress,
}

/// A fact.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection to a scheduler stands, and nothing has been said on it.
    Connected,
    /// It is gone.
    Disconnected,
    /// The scheduler said something.
    Scheduler(ToWorker),
    /// The job's needs were met, or not.
    Prepared {
        job: JobId,
        opening: Opening,
        outcome: Result<Prepared, Obstacle>,
    },
    /// A host runs and speaks our version.
    HostStarted(HostId),
    /// A host could not be started, or is no host of ours.
    HostFailed { host: HostId, obstacle: Obstacle },
    /// A host said something.
    Host(HostId, FromHost),
    /// A host that had started, or was killed, is gone.
    HostDied { host: HostId, death: Death },
    /// A result file is durable under that name, or was not written.
    Written {
        job: JobId,
        opening: Opening,
        name: Option<String>,
    },
    /// The operator ends this worker; what runs has that long.
    Stopped { grace: Duration },
    /// [`Agent::next_deadline`] was reached.
    Ticked,
}

/// Something to be done, in order. Reports are not among them: see [`Agent::next_report`].
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Tell the scheduler, on the control stream.
    Tell(FromWorker),
    /// Meet a job's needs; answer with [`Input::Prepared`].
    Prepare {
        job: JobId,
        opening: Opening,
        needs: Needs,
    },
    /// Start a host; answer with [`Input::HostStarted`] or [`Input::HostFailed`].
    StartHost { host: HostId, program: HostProgram },
    /// Tell a host.
    TellHost(HostId, ToHost),
    /// Kill a host if the job that is opened on it next uses more; answer with [`Input::HostDied`].
    Watch(HostId, Limits),
    /// End a host's process; answer with [`Input::HostDied`].
    KillHost(HostId),
    /// Write a result file; answer with [`Input::Written`].
    Write(ResultWrite),
    /// Give the session up and look for another.
    EndSession,
}

/// Whether this worker is here to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Working,
    /// It takes nothing on and leaves once what runs has ended; at the latest then, if there is a limit.
    Draining(Option<Instant>),
    /// It has stopped, and leaves once its reports are durable, or then.
    Stopping(Instant),
    /// It has said that it leaves.
    Left,
}

impl Presence {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Stopping(until) => Some(until),
            Self::Draining(until) => until,
            Self::Working | Self::Left => None,
        }
    }
}

/// The state of a worker.
#[derive(Debug)]
pub(crate) struct Agent {
    instance: u128,
    name: String,
    capacity: Resources,
    folders: Folders,
    worker: Option<WorkerId>,
    /// The scheduler has welcomed this session.
    joined: bool,
    presence: Presence,
    jobs: BTreeMap<JobId, Job>,
    openings: u64,
    seats: Seats,
    ledger: Ledger,
    outbox: Outbox,
    /// Programs that lie checked in the cache.
    programs: BTreeSet<BlobId>,
    /// Without a look at the clock for so long, this worker has stood still: for as long its scheduler waits for a sign of it.
    standstill: Duration,
    /// When a fact was taken in last.
    awake: Option<Instant>,
}

impl Agent {
    /// A worker that has not joined.
    pub(crate) fn new(
        instance: u128,
        name: String,
        capacity: Resources,
        equipment: Equipment,
        folders: Folders,
    ) -> Self {
        Self {
            instance,
            name,
            ledger: Ledger::new(capacity.clone(), equipment),
            capacity,
            folders,
            worker: None,
            joined: false,
            presence: Presence::Working,
            jobs: BTreeMap::new(),
            openings: 0,
            seats: Seats::default(),
            outbox: Outbox::default(),
            programs: BTreeSet::new(),
            standstill: STANDSTILL,
            awake: None,
        }
    }

    /// Takes a fact in and appends what follows from it to `effects`.
    pub(crate) fn handle(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        self.notice_standstill(now, &input, effects);
        match input {
            Input::Connected => self.connected(now, effects),
            Input::Disconnected => self.joined = false,
            Input::Scheduler(message) => self.told(now, message, effects),
            Input::Prepared {
                job,
                opening,
                outcome,
            } => self.prepared(now, job, opening, outcome, effects),
            Input::HostStarted(host) => self.host_started(now, host, effects),
            Input::HostFailed { host, obstacle } => self.host_failed(host, obstacle, effects),
            Input::Host(host, message) => self.heard(now, host, message, effects),
            Input::HostDied { host, death } => self.host_died(host, death, effects),
            Input::Written { job, opening, name } => self.written(now, job, opening, name, effects),
            Input::Stopped { grace } => self.stopped(now, grace, effects),
            Input::Ticked => self.ticked(now, effects),
        }
        self.leave_if_done(now, effects);
        self.pause_or_resume(effects);
    }

    /// When [`Input::Ticked`] is wanted next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.values().filter_map(Job::deadline);
        jobs.chain(self.seats.deadline())
            .chain(self.presence.deadline())
            .chain(self.next_look())
            .min()
    }

    /// The id that the scheduler gave, once it has.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// The next report to be sent, if this session may send any.
    pub(crate) fn next_report(&self) -> Option<std::sync::Arc<Report>> {
        self.joined.then(|| self.outbox.next_unsent().cloned()).flatten()
    }

    /// Notes that [`Agent::next_report`] is with the session's writer.
    pub(crate) fn report_sent(&mut self) {
        self.outbox.mark_sent();
    }

    /// Whether work would be lost with this worker: tasks that it holds, or reports that nobody has acknowledged.
    pub(crate) fn holds_work(&self) -> bool {
        self.holds_tasks() || !self.outbox.is_empty()
    }

    /// Whether this worker only waits for its last reports to become durable, or has left.
    pub(crate) fn has_stopped(&self) -> bool {
        matches!(self.presence, Presence::Stopping(_) | Presence::Left)
    }

    /// Whether this worker has said that it leaves.
    pub(crate) fn has_left(&self) -> bool {
        self.presence == Presence::Left
    }

    /// What tells a host and all that it starts from any other on any node.
    pub(crate) fn mark(&self, host: HostId) -> String {
        format!("{:032x}-{host}", self.instance)
    }

    /// Where a program lies in a cache.
    pub(crate) fn program_path(cache: &std::path::Path, program: BlobId) -> PathBuf {
        cache.join("programs").join(program.to_string())
    }

    fn ticked(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.seats
            .expired(now)
            .into_iter()
            .for_each(|host| self.kill(host, effects));
        let due = |job: &&Job| job.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| due(job))
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            self.job_due(now, id, effects);
        }
    }

    fn pause_or_resume(&mut self, effects: &mut Vec<Effect>) {
        let storage_fails = self.jobs.values().any(Job::write_fails);
        if let Some(paused) = self.outbox.pause_change(storage_fails) {
            tracing::debug!(paused, "hosts pause while reports wait to become durable");
            let jobs = self.jobs.values().filter(|job| !job.suspended);
            let hosts = jobs.filter_map(Job::open_host);
            effects.extend(hosts.map(|host| Effect::TellHost(host, ToHost::Pause(paused))));
        }
    }

    /// Asserts the invariants. Costs time in proportion to everything it knows.
    ///
    /// # Panics
    /// If one does not hold, with its name.
    pub(crate) fn check(&self) {
        self.ledger.check();
        self.outbox.check();
        for (&id, job) in &self.jobs {
            if let Some(host) = job.host() {
                assert_eq!(self.seats.job_of(host), Some(id), "a job and its host agree");
            }
        }
    }
}
