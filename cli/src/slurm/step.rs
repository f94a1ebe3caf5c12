//! The ranks of a step, started side by side on cpus of the job that it runs in: those that are given to the step ([`cpus`],
//! [`lease`]), of which each rank may have its own ([`binding`]), as of the job's gpus ([`gpus`]). Where the job has several nodes, they are on these ([`layout`]):
//! on this one as this process's own children, on each other one as those of a process ([`outpost`]) to which it is connected
//! ([`far`]).

mod binding;
mod course;
mod cpus;
mod far;
mod gpus;
mod input;
mod layout;
mod lease;
mod mpi;
mod outpost;
mod spreading;
mod streams;
pub(super) mod words;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use phalanx_protocol::hostlist;
use phalanx_protocol::step::{PASSED_ON, STEP_VARIABLE, STEPS_VARIABLE};
use rustix::process::Signal as Number;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::binding::{Bound, Wish};
use self::course::{Course, Ended, Living};
use self::far::FarError;
pub(super) use self::far::connect;
pub(super) use self::input::Source;
use self::input::{Broadcast, Reader};
use self::layout::Layout;
pub(super) use self::layout::Order;
use self::lease::Lease;
use self::mpi::{Departure, Mpi};
pub(super) use self::outpost::run as keep_ranks;
use self::spreading::pass_on;
use super::spec::by_node;
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
    /// What it has of the job's cpus, where somebody gives them out.
    lease: Option<Lease>,
    wish: Wish,
    /// Which rank is where.
    layout: Layout,
    /// What its ranks may use, by its nodes.
    bounds: Vec<Bound>,
}

impl Step {
    /// The next step of the job that this process is in. Blocks until it may begin, and says so; to be called within a runtime.
    pub(super) fn new(
        name: Name,
        settings: BatchSettings,
        programs: Vec<Program>,
        order: &Order,
    ) -> Result<Self, Complaint> {
        // what warns ranks does not end one that waits for its turn
        let _told = ignored([SignalKind::user_defined1(), SignalKind::user_defined2()])?;
        let wish = Wish::parse(settings.step.cpu_bind.as_deref().unwrap_or_default())
            .map_err(|error| Complaint::new(error.to_string()))?;
        let job = number("SLURM_JOB_ID").unwrap_or_default();
        // what salloc has started is on no node
        let node = std::env::var("SLURMD_NODENAME")
            .or_else(|_| std::env::var("SLURM_JOB_NODELIST"))
            .unwrap_or_default();
        let ranks = u32::try_from(programs.len()).unwrap_or(u32::MAX);
        let mut step = Self {
            name,
            layout: Layout::on_one(&node, ranks.max(1)),
            programs,
            job,
            step: 0,
            settings,
            lease: None,
            wish,
            bounds: Vec::new(),
        };
        let nodes = job_nodes();
        step.lease = step.ask(&nodes)?;
        let asked = step.settings.nodes.map_or(1, |nodes| nodes.least);
        if nodes.len() == 1 && asked > 1 {
            // as many ranks as were asked for, which is what programs depend on
            let what =
                format!("the step asks for {asked} nodes and can have one, on which all its tasks are");
            say(name, "warning", &what);
        }
        if let Some(lease) = step.lease.as_ref().filter(|_| nodes.len() > 1) {
            step.layout = Layout::new(&lease.grant().shares, &nodes, order);
        }
        // what salloc has started asks nobody, and its steps have no numbers
        step.step = step.lease.as_ref().map_or(0, |lease| lease.grant().step);
        step.bounds = step.bind()?;
        Ok(step)
    }

    /// Starts all ranks and waits for them; returns the highest of their codes.
    pub(super) async fn run(mut self) -> Result<u8, Complaint> {
        // what is told to the whole process group is told to the ranks, which are in it; this process waits for them
        let told = ignored(PASSED_ON.map(SignalKind::from_raw))?;
        let mut mpi = Mpi::start(self.job, &self.programs, self.layout.node_of())?;
        let mut course = Course::default();
        let mut copying = JoinSet::new();
        let mut broadcast = Broadcast::default();
        let fars = self.start_far(&mut mpi, &mut course, &mut copying, &mut broadcast)?;
        let _passing = pass_on(told, &fars);
        for (rank, program) in (0..).zip(&self.programs) {
            if self.layout.node(rank).position > 0 {
                continue;
            }
            let mut command = self.command(rank, program, &mpi)?;
            self.streams(rank, &mut command)?;
            let end = mpi.give(rank, &mut command)?;
            let started = phalanx::tell_own_pid(command.as_std_mut(), "SLURM_TASK_PID")
                .and_then(|()| self.spawn(rank, &mut command));
            drop(end);
            match started {
                Ok(mut child) => {
                    self.tell_binding(rank, child.id());
                    self.copy(rank, &mut child, &mut copying);
                    if let Some(stdin) = child.stdin.take() {
                        broadcast.add(Reader::Here(stdin));
                    }
                    course.watch(rank, Living::Here(child));
                }
                Err(error) => {
                    let why = error.to_string();
                    let error = match error.kind() == io::ErrorKind::NotFound {
                        true => FarError::NotFound(why),
                        false => FarError::NotStarted(why),
                    };
                    course.highest = course.highest.max(self.tell_not_run(rank, &error));
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

    /// Says why a rank does not run, or nobody knows how it ended; the code for that.
    fn tell_not_run(&self, rank: u32, error: &FarError) -> u8 {
        let program = self
            .programs
            .get(rank as usize)
            .and_then(|program| program.words.first());
        let program = program.map_or("", String::as_str);
        match error {
            FarError::NotFound(_) | FarError::NotStarted(_) => {
                self.say(&format!("cannot start `{program}`: {error}"));
            }
            FarError::Lost => {
                let node = &self.layout.node(rank).name;
                self.say(&format!("{node}: task {rank}: {error}"));
            }
        }
        match error {
            FarError::NotFound(_) => NOT_FOUND,
            FarError::NotStarted(_) => NOT_STARTED,
            FarError::Lost => 1,
        }
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
                            let node = &self.layout.node(rank).name;
                            self.say(&format!("{node}: task {rank}: {}", how(status)));
                            if kills && !course.is_ending {
                                course.counts_told = true;
                                course.end_others(Some(rank));
                            }
                        }
                        course.highest = course.highest.max(code);
                    }
                    Some(Ok(Ended { rank, status: Err(error), .. })) => {
                        left -= 1;
                        if !course.is_ending {
                            course.highest = course.highest.max(self.tell_not_run(rank, &error));
                            // ranks that find themselves too few would wait for the others
                            course.end_others(None);
                        }
                    }
                    Some(Err(_)) => left -= 1,
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
                let (why, next) = match nonsense {
                    Some(nonsense) => (
                        format!("asked for what is no PMI-1: {nonsense}"),
                        "build it with MPICH, Intel MPI or Open MPI 4",
                    ),
                    None => (
                        "ended without MPI_Finalize".to_owned(),
                        "see what it printed, and have it call MPI_Finalize before it ends",
                    ),
                };
                self.say(&format!("task {rank} {why}: the others are ended; {next}"));
                course.highest = course.highest.max(1);
                course.end_others(nonsense.is_none().then_some(*rank));
            }
            Departure::Missed(missed) => {
                let (story, next) = (missed.story("task"), missed.next_step());
                self.say(&format!("{story}: the others are ended; {next}"));
                course.highest = course.highest.max(1);
                // it may have ended as it did for a reason
                let absence = missed.absence;
                course.end_others((!absence.has_finalized).then_some(absence.rank));
            }
        }
    }

    fn command(&self, rank: u32, program: &Program, mpi: &Mpi) -> Result<Command, Complaint> {
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
        let (node_index, local) = self.layout.place(rank);
        let node = self.layout.node(rank);
        let nodes = u32::try_from(self.layout.nodes.len()).unwrap_or(u32::MAX);
        for (name, value) in [
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", local),
            ("SLURM_NODEID", node_index),
            ("SLURM_NTASKS", ranks),
            ("SLURM_NPROCS", ranks),
            ("SLURM_STEP_NUM_TASKS", ranks),
            ("SLURM_STEP_NUM_NODES", nodes),
            (STEP_VARIABLE, self.step),
            ("SLURM_STEPID", self.step),
        ] {
            command.env(name, value.to_string());
        }
        let here: Vec<String> = node.ranks.iter().map(|rank| rank.to_string()).collect();
        command.env("SLURM_GTIDS", here.join(","));
        command.env("SLURM_STEP_NODELIST", hostlist::compress(&self.layout.names()));
        let counts = self.layout.nodes.iter().map(|node| node.ranks.len());
        let counts = counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        command.env("SLURM_STEP_TASKS_PER_NODE", by_node(counts));
        if let Some(cpus) = self.settings.cpus_per_task {
            command.env("SLURM_CPUS_PER_TASK", cpus.to_string());
        }
        self.tell_cpus(rank, &mut command);
        if let Some(gpus) = self.gpus(rank).filter(|_| node.position == 0) {
            gpus.tell(&mut command);
        }
        mpi.tell(rank, (local, node.ranks.len()), &mut command);
        for (name, value) in &program.environment {
            command.env(name, value);
        }
        Ok(command)
    }

    fn say(&self, line: &str) {
        say(self.name, "error", line);
    }
}

/// The names of the job's nodes, in order; only one if steps cannot reach others.
pub(super) fn job_nodes() -> Vec<String> {
    let is_reachable = std::env::var_os(STEPS_VARIABLE).is_some();
    let list = std::env::var("SLURM_JOB_NODELIST").ok().filter(|_| is_reachable);
    let nodes = list.and_then(|list| hostlist::expand(&list).ok());
    nodes
        .filter(|nodes| !nodes.is_empty())
        .unwrap_or_else(|| vec![String::new()])
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
fn ignored(kinds: impl IntoIterator<Item = SignalKind>) -> Result<Vec<Signal>, Complaint> {
    let listen =
        |kind| signal(kind).map_err(|error| Complaint::new(format!("cannot listen to signals: {error}")));
    kinds.into_iter().map(listen).collect()
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
