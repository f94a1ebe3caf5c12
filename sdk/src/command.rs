//! Tasks that are processes: any program, or a script, one process group per task.
//!
//! The story: [`Commands`] opens a job's plan and is a [`Runner`] like any kernel's, so that claiming, revoking and reporting
//! are those of kernels. For each task it makes an [`invocation`], gives it its [`variables`], opens where its output goes
//! ([`outlet`]), finds what an earlier attempt has saved, and lets [`process`] run it to its end. [`orphans`] sees to it that nothing of a task
//! outlives it; [`steps`] gives out its cpus to the steps of a script.

mod capture;
mod cgroup;
mod descriptors;
mod feeder;
mod invocation;
mod keeping;
mod last_words;
mod members;
mod memory;
mod nodes;
mod orphans;
mod outlet;
mod own_pid;
mod process;
mod program;
mod ranks;
mod reap;
mod relay;
mod rlimits;
mod steps;
mod tally;
mod variables;
mod wake;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::command::{Dialect, Recipients, TaskSignal, Warning};
use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::{COMMAND_GRACE_MILLIS_MAX, COMMAND_PLAN_BYTES_MAX};
use phalanx_protocol::message::host::{HostCommand, HostGang, HostParameters};
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::step::{PASSED_ON, STEPS_VARIABLE, StepReach, StepRefusal, ToStep};
use phalanx_protocol::{CommandPlan, JobId, TaskId, TaskUsage, codec};
use phalanx_storage::CheckpointDirectories;
use rustix::process::Signal;

pub use self::capture::Surroundings;
use self::cgroup::Cgroups;
use self::invocation::Invocation;
use self::keeping::Keeper;
use self::members::Members;
use self::orphans::Running;
use self::outlet::{Names, Outlet, Outlets, Streams};
pub use self::own_pid::tell_own_pid;
use self::process::{Ending, Limits, Order};
use self::ranks::Ranks;
use self::relay::Relay;
use self::steps::{NodeStock, Steps};
use self::variables::Variables;
use self::wake::Wake;
use crate::host::gang_link::GangLink;
use crate::host::{lock, panics};
use crate::kernel::collect::join;
use crate::kernel::output::{Block, ChunkOutput, Piece, Yield};
use crate::kernel::runner::{Chunk, ChunkInputs, Failed, Runner, Stop};

/// Where a program may keep what it needs to go on after its end; a directory that it makes itself.
const CHECKPOINT_VARIABLE: &str = "PHALANX_CHECKPOINT_DIR";
/// Lines of the file of nodes that scripts of PBS find.
const RANKS_LISTED_MAX: usize = 65_536;

/// A job's commands, ready to be run.
pub(crate) struct Commands {
    job: JobId,
    command: HostCommand,
    plan: CommandPlan,
    invocation: Invocation,
    variables: Variables,
    outlets: Outlets,
    saved: CheckpointDirectories,
    running: Arc<Running>,
    /// The start of the gang whose ranks its tasks are, if they are.
    ranks: Mutex<Option<Arc<Ranks>>>,
    /// That of the job whose nodes its tasks are, if they are.
    members: Mutex<Option<Arc<Members>>>,
    /// By which these talk.
    relay: Arc<Mutex<Weak<Relay>>>,
    rlimits: rlimits::Changes,
    /// Where the system can be asked to limit memory, if that is limited.
    cgroups: Option<Cgroups>,
    wake: Wake,
    /// Where launchers of steps ask for cpus, if its tasks are scripts that may have some.
    steps: Option<Steps>,
    scratch: PathBuf,
}

/// What is different from task to task.
struct Task<'a> {
    index: u64,
    /// Its number in the array.
    number: Option<u64>,
    item: Option<&'a [u8]>,
}

/// The lines of the file of nodes that scripts of PBS look for: one for each rank.
fn node_lines(plan: &CommandPlan) -> usize {
    let mut said = plan.environment.iter().rev();
    let said = said.find(|(name, _)| &name[..] == b"PBS_NP");
    let ranks = said.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    ranks.unwrap_or(1).min(RANKS_LISTED_MAX)
}

/// Where that file is.
fn nodes_file(scratch: &Path) -> PathBuf {
    scratch.join("nodes")
}

/// Writes that file for a job on this node, and says where it is.
fn list_nodes(plan: &mut CommandPlan, node: &str, scratch: &Path) -> io::Result<()> {
    let path = nodes_file(scratch);
    fs::write(&path, format!("{node}\n").repeat(node_lines(plan)))?;
    let path = Bytes::copy_from_slice(path.as_os_str().as_bytes());
    plan.environment.push((Bytes::from_static(b"PBS_NODEFILE"), path));
    Ok(())
}

impl Commands {
    /// Readies a job's commands; makes this process their keeper.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(crate) fn open(
        job: JobId,
        command: HostCommand,
        storage: PathBuf,
    ) -> Result<Box<dyn Runner>, String> {
        let mut plan = read_plan(&command.plan)?;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what}: {error}")
        };
        let scratch = command.scratch.clone();
        fs::create_dir_all(&scratch).map_err(failed("this worker's cache fails"))?;
        descriptors::keep_to_itself().map_err(failed("the system does not say which files are open"))?;
        orphans::adopt().map_err(failed("this process cannot keep others"))?;
        if let Some(mask) = plan.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        }
        if plan.dialect == Dialect::Pbs {
            list_nodes(&mut plan, &command.worker, &scratch)
                .map_err(failed("the list of nodes cannot be written"))?;
        }
        let invocation = Invocation::open(&plan, &scratch).map_err(failed("the script cannot be written"))?;
        let running = Arc::new(Running::new().map_err(failed("the system does not tell of processes"))?);
        let relay = Arc::<Mutex<Weak<Relay>>>::default();
        Ok(Box::new(Self {
            job,
            variables: Variables::new(job, &command, &plan),
            saved: CheckpointDirectories::new(&storage),
            outlets: Outlets::new(job, storage, &plan).map_err(failed("the system has no empty file"))?,
            ranks: Mutex::default(),
            members: Mutex::default(),
            steps: open_steps(&plan, &scratch, &running, &relay),
            relay,
            rlimits: rlimits::Changes::to(&plan.limits),
            cgroups: Some(command.request.memory_bytes)
                .filter(|&bytes| bytes > 0)
                .and_then(|_| Cgroups::find()),
            wake: Wake::new().map_err(failed("the system gives no event"))?,
            running,
            command,
            plan,
            invocation,
            scratch,
        }))
    }

    /// Runs one task to its end; notes what it has used.
    fn run_task(
        &self,
        chunk: &Chunk<'_>,
        index: u64,
        outlet: &mut Outlet,
        used: &mut Vec<TaskUsage>,
    ) -> Result<(), Failed> {
        let error = |message: String| (FailureCause::Error, message);
        let item = match &chunk.inputs {
            ChunkInputs::Index { .. } => None,
            ChunkInputs::Items(file) => {
                let item = file
                    .item(index)
                    .map_err(|message| (FailureCause::Input, message))?;
                Some(item)
            }
        };
        let members = lock(&self.members).clone();
        if let Some(members) = members.filter(|members| !members.leads(index)) {
            return self.keep(&members, index, chunk);
        }
        let number = self.command.array.as_ref().and_then(|array| array.id(index));
        let names = Names {
            job: self.job,
            index,
            number,
            name: &self.plan.name,
            user: &self.command.user,
            node: &self.command.worker,
        };
        let streams = self
            .outlets
            .begin(outlet, &self.plan, &names, index, chunk.grant)
            .map_err(error)?;
        let task = Task { index, number, item };
        let ended = self.execute(&task, streams, chunk, used);
        outlet
            .end(index, chunk.grant, ended.is_ok())
            .map_err(|cause| error(format!("the end of its output cannot be noted: {cause}")))?;
        ended
    }

    /// Keeps this node for the script of its job until that is ended, and leaves nothing behind.
    fn keep(&self, members: &Members, index: u64, chunk: &Chunk<'_>) -> Result<(), Failed> {
        let failed = |error: io::Error| (FailureCause::Error, format!("cannot keep its node: {error}"));
        let limits = self.limits();
        let cgroup = self.cgroups.as_ref().zip(limits.memory);
        let cgroup =
            cgroup.and_then(|(cgroups, bytes)| cgroups.task(&format!("task-{index}-{}", chunk.grant), bytes));
        let wake = self.running.keep((chunk.grant, index)).map_err(failed)?;
        // it may have been told so before anybody could know of it
        if chunk.context.is_cancelled() {
            wake.raise();
        }
        let relay = members.relay();
        let keeper = Keeper {
            running: &self.running,
            relay: relay.as_deref(),
            ends: [&self.wake, &wake],
            grace: limits.grace,
            start: &|program| {
                self.variables.set_of_node(program, index);
                self.variables.set_place(program, chunk.context.place());
                program.start(&self.rlimits, cgroup.as_ref())
            },
        };
        let kept = keeper.keep();
        if let Some(cgroup) = &cgroup {
            cgroup.kill();
        }
        self.running.ended(index);
        self.running.sweep();
        kept.map_err(failed)?;
        Err((FailureCause::Error, "it was ended".to_owned()))
    }

    /// Runs a task's process to its end; notes what it has used.
    fn execute(
        &self,
        task: &Task<'_>,
        streams: Streams,
        chunk: &Chunk<'_>,
        used: &mut Vec<TaskUsage>,
    ) -> Result<(), Failed> {
        let &Task { index, number, item } = task;
        let ranks = lock(&self.ranks).clone();
        let order = Order {
            limits: self.limits(),
            rlimits: &self.rlimits,
            cgroups: self.cgroups.as_ref(),
            wake: &self.wake,
            running: &self.running,
            task: index,
            ranks: ranks.as_deref(),
            context: chunk.context,
            grant: chunk.grant,
        };
        let checkpoints = self.checkpoints(index, chunk.grant)?;
        if let Some(steps) = &self.steps {
            let mut nodes = vec![NodeStock::of_task(&self.command, chunk.context.place())];
            let others = lock(&self.members)
                .as_ref()
                .map_or(1, |members| members.node_count())
                - 1;
            nodes.extend(vec![NodeStock::elsewhere(&self.command); others]);
            steps.begin(index, nodes);
        }
        let ended = loop {
            let mut program = self
                .invocation
                .program(index, number.unwrap_or(index), item)
                .map_err(|message| (FailureCause::Error, message))?;
            self.variables
                .set(&mut program, index, number, item, chunk.grant, chunk.restarts);
            program.env(CHECKPOINT_VARIABLE, &checkpoints);
            self.variables.set_place(&mut program, chunk.context.place());
            match &self.steps {
                Some(steps) => program.env(STEPS_VARIABLE, steps.socket()),
                // it may have been submitted by a script that has one
                None => program.env_remove(STEPS_VARIABLE),
            };
            if let Some(ranks) = &ranks {
                ranks.set(&mut program, index);
            }
            if let Some(members) = lock(&self.members).as_ref() {
                members.set(&mut program);
            }
            program.lend(streams.files());
            match process::run(&program, &order) {
                Err(error) if self.invocation.try_by_shell(index, &error) => {}
                ended => {
                    break ended.map(|(ending, usage)| {
                        used.push(usage);
                        ending
                    });
                }
            }
        };
        if let Ok(over @ (Ending::TimeLimit(_) | Ending::Memory(..))) = &ended {
            let id = TaskId { job: self.job, index };
            streams.note(&format!("phalanx: task {id} ended: {}", over.reason()));
        }
        if let Some(steps) = &self.steps {
            steps.end(index);
        }
        let ended = match ended {
            Ok(Ending::Exit(0)) => Ok(()),
            Ok(_) if chunk.context.is_cancelled() => Err((FailureCause::Error, "it was ended".to_owned())),
            Ok(over) => Err((over.cause(), over.reason())),
            Err(error) => Err(self.invocation.not_started(index, &error)),
        };
        let members = lock(&self.members).clone();
        match (ranks, members) {
            (Some(ranks), _) => ranks.judge(index, ended),
            (None, Some(members)) => members.judge(ended),
            (None, None) => ended,
        }
    }

    fn leave_others(&self) {
        if let Some(relay) = lock(&self.relay).upgrade() {
            relay.leave();
        }
    }

    /// Takes in on which nodes the job is that is about to start.
    fn begin_on_nodes(&self, gang: HostGang, link: Option<Arc<GangLink>>) {
        let nodes = u32::try_from(gang.placement.nodes.len()).unwrap_or(u32::MAX);
        let relay = link.map(|link| Relay::begin(link, gang.node, nodes));
        let relay = relay.and_then(|relay| {
            let begun = relay.inspect_err(|error| {
                tracing::warn!(%error, "steps cannot reach the other nodes of their job");
            });
            begun.ok().map(Arc::new)
        });
        *lock(&self.relay) = relay.as_ref().map(Arc::downgrade).unwrap_or_default();
        let members = Members::new(gang.placement, relay);
        if self.plan.dialect == Dialect::Pbs
            && let Err(error) = members.list(&nodes_file(&self.scratch), node_lines(&self.plan))
        {
            tracing::warn!(%error, "the list of nodes cannot be written");
        }
        *lock(&self.members) = Some(Arc::new(members));
    }

    /// The directory in which an attempt at a task keeps its checkpoints, with what the last one has left.
    fn checkpoints(&self, index: u64, attempt: Attempt) -> Result<PathBuf, Failed> {
        let task = TaskId { job: self.job, index };
        match self.saved.carry_over(task, attempt) {
            Ok(_) => Ok(self.saved.path(task, attempt)),
            // to begin anew could cost days
            Err(error) => {
                let message = format!("what it has saved before cannot be carried over: {error}");
                Err((FailureCause::Error, message))
            }
        }
    }

    fn limits(&self) -> Limits {
        let millis = Duration::from_millis;
        let time = self.command.task_time_limit_millis.map(millis);
        let warn = |warning: &Warning, limit: Duration| {
            let at = limit.saturating_sub(millis(warning.before_millis));
            (at, warning.signal, warning.recipients)
        };
        let memory = self.command.request.memory_bytes;
        Limits {
            time,
            memory: (memory > 0).then_some(memory),
            warning: self
                .plan
                .warning
                .as_ref()
                .zip(time)
                .map(|(warning, limit)| warn(warning, limit)),
            grace: millis(self.plan.grace_millis.min(COMMAND_GRACE_MILLIS_MAX)),
        }
    }
}

impl Runner for Commands {
    fn run(&self, chunk: &Chunk<'_>, output: &mut ChunkOutput) -> u64 {
        let IndexRange { start, end } = chunk.range;
        let mut outlet = self.outlets.take();
        let running = chunk.context.running();
        let mut index = start;
        while index < end {
            if chunk.interrupt.load(Ordering::Relaxed) || output.is_full() {
                break;
            }
            running.store(index, Ordering::Relaxed);
            let run = || self.run_task(chunk, index, &mut outlet, &mut output.usage);
            // one that goes wrong here ends its own task, as one of a kernel's does
            let ended = catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|payload| Err((FailureCause::Error, panics::message(payload.as_ref()))));
            match ended {
                Ok(()) => output.push(Piece {
                    grant: chunk.grant,
                    range: IndexRange::new(index, index + 1),
                    yielded: Yield::Bytes(0),
                }),
                Err((cause, message)) => output.fail(chunk.grant, index, cause, message),
            }
            index += 1;
        }
        self.outlets.give_back(outlet);
        index
    }

    fn gather(&self, outputs: Vec<ChunkOutput>) -> Result<Vec<Block>, String> {
        self.outlets
            .sync()
            .map_err(|error| format!("the output of its tasks cannot be kept: {error}"))?;
        Ok(join(outputs))
    }

    fn begin_gang(&self, gang: HostGang, link: Option<Arc<GangLink>>) {
        if let Some(before) = lock(&self.ranks).take() {
            before.retire();
        }
        if gang.placement.is_led {
            return self.begin_on_nodes(gang, link);
        }
        let sections = self.invocation.sections(gang.placement.node_of.len());
        match Ranks::begin(self.job, gang, &sections, link, &self.running) {
            Ok(ranks) => *lock(&self.ranks) = Some(Arc::new(ranks)),
            // they find no exchange, and say so themselves
            Err(error) => tracing::warn!(%error, "the ranks of a gang cannot be connected with each other"),
        }
    }

    fn stop(&self, stop: Stop) {
        match stop {
            // the job may go on elsewhere, and its other nodes are told of that by nobody sooner
            Stop::InGrace | Stop::AtOnce => self.leave_others(),
            Stop::Tasks(..) => {}
        }
        match stop {
            Stop::InGrace => self.wake.raise(),
            Stop::AtOnce => self.running.kill_all(),
            Stop::Tasks(grant, range) => self.running.end(grant, range),
        }
    }

    fn signal(&self, grant: GrantId, tasks: IndexRange, signal: TaskSignal) {
        let tell = |pid| process::tell(pid, signal.number, signal.recipients);
        self.running.signal(grant, tasks, signal);
        // launchers pass on what they are told themselves
        match signal.recipients {
            Recipients::Step(_) => self.running.each_of_steps(tell),
            Recipients::Others | Recipients::All if !PASSED_ON.contains(&signal.number) => {
                let tell_all = |pid| process::tell(pid, signal.number, Recipients::All);
                self.running.each_of_steps(tell_all);
            }
            Recipients::Leader | Recipients::Others | Recipients::All => {}
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if let Some(ranks) = lock(&self.ranks).take() {
            ranks.retire();
        }
        self.leave_others();
        self.running.kill_all();
        // what is left of it lies in the worker's cache, which it sweeps when it starts
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Has launchers of steps ask for cpus, if the job's tasks may have some.
fn open_steps(
    plan: &CommandPlan,
    scratch: &Path,
    running: &Arc<Running>,
    relay: &Arc<Mutex<Weak<Relay>>>,
) -> Option<Steps> {
    match plan.dialect {
        Dialect::Phalanx => return None,
        Dialect::Slurm | Dialect::Pbs => {}
    }
    let running = Arc::clone(running);
    let end_ranks = move |task, step| {
        let kill = |pid| process::tell(pid, Signal::KILL.as_raw(), Recipients::Step(step));
        running.at_leader(task, kill);
    };
    let relay = Arc::clone(relay);
    let reach = move |reach: StepReach, socket: UnixStream| match lock(&relay).upgrade() {
        Some(relay) => relay.reach(reach, socket),
        None => {
            let (node, why) = (reach.node, "the job has no other nodes".to_owned());
            // it may be gone
            let _ = steps::tell(&socket, &ToStep::Refused(StepRefusal::Unreachable { node, why }));
        }
    };
    let opened = Steps::open(scratch, Box::new(end_ranks), Box::new(reach));
    // steps run without it, all at once
    opened
        .inspect_err(|error| tracing::warn!(%error, "the steps of scripts cannot ask for cpus"))
        .ok()
}

/// The plan, from the message or its file.
fn read_plan(parameters: &HostParameters) -> Result<CommandPlan, String> {
    let bytes = match parameters {
        HostParameters::Inline(bytes) => bytes.to_vec(),
        HostParameters::File(path) => {
            fs::read(path).map_err(|error| format!("the command's plan cannot be read: {error}"))?
        }
    };
    if bytes.len() > COMMAND_PLAN_BYTES_MAX {
        return Err(format!(
            "the command's plan has {} bytes, at most {COMMAND_PLAN_BYTES_MAX} are allowed",
            bytes.len()
        ));
    }
    codec::decode(&bytes).map_err(|error| format!("the command's plan is no such thing: {error}"))
}

/// An attempt at a task, for variables and names.
type Attempt = GrantId;
