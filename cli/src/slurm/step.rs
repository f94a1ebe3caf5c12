//! The ranks of a step, started side by side as this process's own children, on cpus of the job that it runs in: those that
//! are given to the step ([`cpus`], [`lease`]), of which each rank may have its own ([`binding`]).

mod binding;
mod cpus;
mod input;
mod lease;
mod mpi;
mod streams;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use phalanx_protocol::step::STEP_VARIABLE;
use rustix::process::Signal as Number;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::binding::{Bound, Wish};
use self::input::Broadcast;
pub(super) use self::input::Source;
use self::lease::Lease;
use self::mpi::{Departure, Mpi};
use super::{Complaint, Name, say};
use crate::batch::settings::BatchSettings;

/// What a shell exits with if a program is not there, or cannot be started.
pub(super) const NOT_FOUND: u8 = 127;
pub(super) const NOT_STARTED: u8 = 126;

/// What one rank runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// Which of the programs that were named together it is.
    pub(super) section: u32,
    /// Which variables of this process it has.
    pub(super) passed: Passed,
    /// Variables of its own.
    pub(super) environment: Vec<(String, String)>,
    /// Where it starts, if not where this process is.
    pub(super) directory: Option<PathBuf>,
}

/// Which variables a program has of those around this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Passed {
    #[default]
    All,
    /// These.
    Named(Vec<String>),
}

impl Passed {
    /// Whether it has that one.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|named| named.as_bytes() == name),
        }
    }

    /// Has it have that one too.
    pub(super) fn add(&mut self, name: &str) {
        match self {
            Self::All => {}
            Self::Named(names) => names.push(name.to_owned()),
        }
    }
}

/// The ranks of a step.
pub(super) struct Step {
    /// Under which name this process was started.
    name: Name,
    settings: BatchSettings,
    /// By rank.
    programs: Vec<Program>,
    job: u64,
    /// Its number in the job.
    step: u32,
    node: String,
    /// What it has of the job's cpus, where somebody gives them out.
    lease: Option<Lease>,
    wish: Wish,
    /// What its ranks may use.
    bound: Bound,
}

/// How the ranks are doing.
#[derive(Debug, Default)]
struct Course {
    waiting: JoinSet<Ended>,
    /// Tells ranks to end; but not this one.
    end: watch::Sender<Option<But>>,
    highest: u8,
    /// How those did counts that were told to end.
    counts_told: bool,
    /// Those that are left were told to end: how they do concerns nobody.
    is_ending: bool,
}

/// The rank that is left alone when the others are told to end.
type But = Option<u32>;

/// How a rank ended.
#[derive(Debug)]
struct Ended {
    rank: u32,
    status: io::Result<ExitStatus>,
    was_told: bool,
}

impl Course {
    /// Waits for a rank beside the others.
    fn watch(&mut self, rank: u32, mut child: Child) {
        let mut told = self.end.subscribe();
        self.waiting.spawn(async move {
            let is_meant = |end: &Option<But>| end.is_some_and(|but| but != Some(rank));
            let ended = tokio::select! {
                status = child.wait() => Some(status),
                // the sender lives as long as this
                _ = told.wait_for(is_meant) => None,
            };
            match ended {
                Some(status) => Ended {
                    rank,
                    status,
                    was_told: false,
                },
                None => {
                    // it may just have ended
                    let _ = child.start_kill();
                    Ended {
                        rank,
                        status: child.wait().await,
                        was_told: true,
                    }
                }
            }
        });
    }

    /// Ends all ranks but one.
    fn end_others(&mut self, but: But) {
        self.is_ending = true;
        self.end.send_replace(Some(but));
    }
}

impl Step {
    /// The next step of the job that this process is in. Blocks until it may begin, and says so; to be called within a runtime.
    pub(super) fn new(
        name: Name,
        settings: BatchSettings,
        programs: Vec<Program>,
    ) -> Result<Self, Complaint> {
        // what warns ranks does not end one that waits for its turn
        let _told = ignored(&[SignalKind::user_defined1(), SignalKind::user_defined2()])?;
        let wish = Wish::parse(settings.step.cpu_bind.as_deref().unwrap_or_default())
            .map_err(|error| Complaint::new(error.to_string()))?;
        let job = number("SLURM_JOB_ID").unwrap_or_default();
        let mut step = Self {
            name,
            programs,
            job,
            // what salloc has started is on no node
            node: std::env::var("SLURMD_NODENAME")
                .or_else(|_| std::env::var("SLURM_JOB_NODELIST"))
                .unwrap_or_default(),
            step: 0,
            settings,
            lease: None,
            wish,
            bound: Bound::Unknown,
        };
        step.lease = step.ask()?;
        // what salloc has started asks nobody, and its steps have no numbers
        step.step = step.lease.as_ref().map_or(0, |lease| lease.grant().step);
        step.bound = step.bind()?;
        Ok(step)
    }

    /// Starts all ranks and waits for them; returns the highest of their codes.
    pub(super) async fn run(mut self) -> Result<u8, Complaint> {
        // what is told to the whole process group is told to the ranks, which are in it; this process waits for them
        let _told = ignored(&[
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ])?;
        let mut mpi = Mpi::start(self.job, &self.programs)?;
        let mut course = Course::default();
        let mut copying = JoinSet::new();
        let mut broadcast = Broadcast::default();
        for (rank, program) in (0..).zip(&self.programs) {
            let mut command = self.command(rank, program)?;
            let end = mpi.give(rank, &mut command)?;
            let started = phalanx::tell_own_pid(command.as_std_mut(), "SLURM_TASK_PID")
                .and_then(|()| self.spawn(rank, &mut command));
            drop(end);
            match started {
                Ok(mut child) => {
                    self.tell_binding(rank, child.id());
                    self.copy(rank, &mut child, &mut copying);
                    broadcast.add(&mut child);
                    course.watch(rank, child);
                }
                Err(error) => {
                    let program = program.words.first().map_or("", String::as_str);
                    self.say(&format!("cannot start `{program}`: {error}"));
                    course.highest = match error.kind() == io::ErrorKind::NotFound {
                        true => NOT_FOUND,
                        false => NOT_STARTED,
                    };
                    // ranks that find themselves too few would wait for the others
                    course.end_others(None);
                    break;
                }
            }
        }
        tokio::select! {
            () = self.follow(&mut course, &mut mpi) => {}
            never = broadcast.run() => match never {},
        }
        while copying.join_next().await.is_some() {}
        if let Some(lease) = self.lease.take() {
            lease.done();
        }
        Ok(course.highest)
    }

    /// Waits for all ranks, and ends those that would wait for others in vain.
    async fn follow(&self, course: &mut Course, mpi: &mut Mpi) {
        let kills = self.settings.step.kill_on_bad_exit == Some(true);
        let patience = self.settings.step.wait.filter(|wait| !wait.is_zero());
        let mut left = self.programs.len();
        // of the others, once the first has ended
        let mut deadline = None;
        loop {
            if left < self.programs.len() && deadline.is_none() {
                deadline = patience.map(|patience| Instant::now() + patience);
            }
            tokio::select! {
                // the status of a rank that is missed comes before what its others make of it
                biased;
                ended = course.waiting.join_next() => match ended {
                    Some(Ok(Ended { was_told: true, .. })) if !course.counts_told => left -= 1,
                    Some(Ok(Ended { rank, status: Ok(status), .. })) => {
                        left -= 1;
                        let code = code(status);
                        if code != 0 {
                            self.say(&format!("{}: task {rank}: {}", self.node, how(status)));
                            if kills && !course.is_ending {
                                course.counts_told = true;
                                course.end_others(Some(rank));
                            }
                        }
                        course.highest = course.highest.max(code);
                    }
                    Some(_) => left -= 1,
                    None => return,
                },
                departure = mpi.departed(), if !course.is_ending => self.part(&departure, course),
                () = until(deadline), if !course.is_ending => {
                    self.say(&format!("{left} tasks still run when --wait is over, and are ended"));
                    course.highest = course.highest.max(1);
                    course.end_others(None);
                }
            }
        }
    }

    /// Ends the ranks that one of them has left behind.
    fn part(&self, departure: &Departure, course: &mut Course) {
        match departure {
            Departure::Aborted { rank, code } => {
                self.say(&format!(
                    "task {rank} called MPI_Abort with {code}: the others are ended"
                ));
                // a code that a process cannot exit with is still none of success
                let code = u8::try_from(code & 0xff).ok().filter(|&code| code != 0);
                course.highest = course.highest.max(code.unwrap_or(1));
                course.end_others(None);
            }
            Departure::Lost { rank, nonsense } => {
                let why = match nonsense {
                    Some(nonsense) => format!("asked for what is no PMI-1: {nonsense}"),
                    None => "ended without MPI_Finalize".to_owned(),
                };
                self.say(&format!("task {rank} {why}: the others are ended"));
                course.highest = course.highest.max(1);
                course.end_others(nonsense.is_none().then_some(*rank));
            }
        }
    }

    fn command(&self, rank: u32, program: &Program) -> Result<Command, Complaint> {
        let (name, arguments) = program
            .words
            .split_first()
            .ok_or_else(|| Complaint::new(format!("task {rank} has no program")))?;
        let ranks = self.n_ranks();
        let mut command = Command::new(name);
        command.args(arguments).kill_on_drop(true);
        if let Some(directory) = program.directory.as_ref() {
            command.current_dir(directory);
        }
        if program.passed != Passed::All {
            let is_passed = |name: &OsStr| program.passed.has(name.as_bytes()) || is_of_job(name);
            let own = std::env::vars_os().map(|(name, _)| name);
            own.filter(|name| !is_passed(name)).for_each(|name| {
                command.env_remove(name);
            });
        }
        for (name, value) in [
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", rank),
            ("SLURM_NODEID", 0),
            ("SLURM_NTASKS", ranks),
            ("SLURM_NPROCS", ranks),
            ("SLURM_STEP_NUM_TASKS", ranks),
            ("SLURM_STEP_NUM_NODES", 1),
            (STEP_VARIABLE, self.step),
            ("SLURM_STEPID", self.step),
        ] {
            command.env(name, value.to_string());
        }
        let all: Vec<String> = (0..ranks).map(|rank| rank.to_string()).collect();
        command.env("SLURM_GTIDS", all.join(","));
        command.env("SLURM_STEP_NODELIST", &self.node);
        command.env("SLURM_STEP_TASKS_PER_NODE", ranks.to_string());
        if let Some(cpus) = self.settings.cpus_per_task {
            command.env("SLURM_CPUS_PER_TASK", cpus.to_string());
        }
        self.tell_cpus(&mut command);
        for (name, value) in &program.environment {
            command.env(name, value);
        }
        self.streams(rank, &mut command)?;
        Ok(command)
    }

    fn say(&self, line: &str) {
        say(self.name, "error", line);
    }
}

/// Whether a variable says something of the job, so that all of its programs have it.
fn is_of_job(name: &OsStr) -> bool {
    ["SLURM_", "PBS_", "PHALANX_"]
        .iter()
        .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// Waits for a moment; for ever, if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A number in the environment.
pub(super) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Has signals of these kinds not end this process.
fn ignored(kinds: &[SignalKind]) -> Result<Vec<Signal>, Complaint> {
    let listen =
        |&kind| signal(kind).map_err(|error| Complaint::new(format!("cannot listen to signals: {error}")));
    kinds.iter().map(listen).collect()
}

/// What a shell would say that a process ended with.
pub(super) fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(1),
        (None, signal) => 128_u8.saturating_add(u8::try_from(signal.unwrap_or(0)).unwrap_or(0)),
    }
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => signal_text(signal),
        None => format!("Exited with exit code {}", status.code().unwrap_or_default()),
    }
}

/// As the C library words it, and Slurm with it.
fn signal_text(number: i32) -> String {
    let text = match Number::from_named_raw(number) {
        Some(Number::HUP) => "Hangup",
        Some(Number::INT) => "Interrupt",
        Some(Number::QUIT) => "Quit",
        Some(Number::ILL) => "Illegal instruction",
        Some(Number::ABORT) => "Aborted",
        Some(Number::BUS) => "Bus error",
        Some(Number::FPE) => "Floating point exception",
        Some(Number::KILL) => "Killed",
        Some(Number::USR1) => "User defined signal 1",
        Some(Number::SEGV) => "Segmentation fault",
        Some(Number::USR2) => "User defined signal 2",
        Some(Number::PIPE) => "Broken pipe",
        Some(Number::TERM) => "Terminated",
        _ => return format!("Terminated by signal {number}"),
    };
    text.to_owned()
}
