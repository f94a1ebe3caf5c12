//! The command line, as clap reads it: what can be asked for, in the order in which a newcomer needs it.
//!
//! Only declarations here; the commands themselves are in `commands`. [`job`] holds what `submit` and `run` share,
//! [`gang`] what is said of ranks, [`daemon`] what the long-running roles take, [`storage`] what is asked of the storage, [`values`] the small languages of
//! sizes, times, ranges and resources, [`waiting`] what a job waits for.

pub(crate) mod command;
pub(crate) mod daemon;
pub(crate) mod gang;
pub(crate) mod job;
pub(crate) mod placement;
pub(crate) mod storage;
pub(crate) mod values;
pub(crate) mod waiting;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use phalanx_protocol::JobId;

use crate::batch::values::signal_number;
use crate::targets::Target;
use command::PrintingArguments;
use daemon::{ChaosArguments, InitArguments, SchedulerArguments, UpArguments, WorkerArguments};
use job::SubmitCommand;
use storage::StorageArguments;

const AFTER_LONG_HELP: &str = "\
Exit codes:
    0  all went well; for `run` and `wait`: every task succeeded
       (`run` with one command: whatever that ended with, 128 and the number if by a signal)
    1  tasks failed
    2  the command line, the program or an inputs file is wrong
    3  the cluster could not be reached, or refused us
    4  the job was cancelled
    5  the job could not run at all
   70  something else went wrong: storage, a bug
  130  interrupted by Ctrl-C

Results and tables go to stdout, everything else to stderr. Colours appear on terminals only and obey NO_COLOR.

A first job, with the example program `ep` (cargo build --release):
    phalanx up --workers 2 &
    phalanx run target/release/ep --kernel gaussians --range 0..256
";

/// Runs parallel work on every core you can reach
#[derive(Debug, Parser)]
#[command(name = "phalanx", version, after_long_help = AFTER_LONG_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Cluster directory: keys, addresses, storage
    ///
    /// The directory that `phalanx init` made. Default: ~/.phalanx.
    /// Example: --cluster /srv/lab
    #[arg(long, value_name = "DIR", env = "PHALANX_CLUSTER", global = true)]
    pub(crate) cluster: Option<PathBuf>,

    /// Address of a scheduler, host:port; may be repeated
    ///
    /// Where to find the cluster, if not where its directory says. Several are separated by commas or given by
    /// repeating the option. Default: `schedulers` in cluster.toml, else the running schedulers' cards on its storage.
    /// Example: --scheduler head1:7878,head2:7878
    #[arg(
        long,
        value_name = "ADDR",
        env = "PHALANX_SCHEDULER",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) scheduler: Vec<String>,

    /// Form of what is printed to stdout
    ///
    /// `json` prints one document per command, and a line per result; each has a `version`, now 1.
    /// Example: --output json
    #[arg(long, value_name = "FORM", default_value = "human", global = true)]
    pub(crate) output: OutputForm,
}

/// The form of what goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputForm {
    /// Tables and sentences
    Human,
    /// JSON with a version
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine
    ///
    /// Makes the cluster directory if there is none, starts a scheduler and workers as processes of their own, and
    /// keeps them running until Ctrl-C or SIGTERM. A worker that dies is started again.
    /// Example: phalanx up --workers 2
    Up(UpArguments),

    /// End a cluster that runs in the background
    ///
    /// Its workers leave first; jobs that have not ended go on when it is up again.
    /// Example: phalanx down
    Down,

    /// Submit a job, watch it, print its results
    ///
    /// A program's output goes to stdout and stderr as it comes; one that is run once ends this command with its own exit
    /// code. For kernels:
    /// Results go to stdout in the order of their indices, one JSON value per line; the progress bar and a summary go
    /// to stderr. Ctrl-C is sent on to a program that is run once, which may do about it what it likes; a second one within 5 s
    /// cancels the job, as the first does with any other; the next leaves at once. Tasks that fail are listed at the end and
    /// make the exit code 1.
    /// Examples: phalanx run -- make -C sim all
    /// phalanx run target/release/ep --kernel gaussians --range 0..256
    Run(SubmitCommand),

    /// Start the ranks of an MPI program, as `mpiexec` does
    ///
    /// Takes the options of MPICH's, Intel's and Open MPI's `mpiexec`; `phalanx mpiexec --help` lists them, and `phalanx shims
    /// --mpi` makes it known as `mpiexec` and `mpirun`. Inside a job its ranks run there, elsewhere as a job, on as many workers
    /// as it takes; where no cluster runs, one is started in the background. Options of `phalanx` itself are written before it.
    /// Ends as the first rank that fails.
    /// Example: phalanx mpiexec -n 4 ./solver : -n 1 ./monitor
    #[command(disable_help_flag = true)]
    Mpiexec(MpiexecArguments),

    /// Keep the ranks of a step on another node than its launcher, which is standard input
    #[command(hide = true)]
    StepRanks,

    /// Receive a file from another node of a job, which is standard input
    #[command(hide = true)]
    StepFile,

    /// Submit a job and print its id
    ///
    /// A program of kernels is checked before anything is sent: that it is a kernel program for this machine, that it has the
    /// kernel, and that the kernel takes what it will be given. The id is printed once the job is on durable storage.
    /// Examples: phalanx submit --array 0-99 ./job.sh
    /// phalanx submit target/release/ep --kernel gaussians --range 0..256
    Submit(SubmitCommand),

    /// Print what a job's commands have printed
    ///
    /// Standard output to stdout, standard error to stderr, task by task: what is kept with the job, or what is in the files that
    /// it was to go to (`--stdout`, batch scripts), if this machine sees them.
    /// Examples: phalanx logs 42, phalanx logs 42.7 --follow
    Logs(LogsArguments),

    /// List jobs
    ///
    /// Without options: your jobs that wait or run, and those that ended in the last hour.
    /// Example: phalanx jobs --state failed
    Jobs(JobsArguments),

    /// Show one job
    ///
    /// Its state, progress, needs, and the first failures.
    /// Example: phalanx job 42
    Job(JobArguments),

    /// Wait for jobs to end
    ///
    /// Shows progress bars on stderr, then one line per job. The exit code is the worst of the jobs'.
    /// Example: phalanx wait 42 43
    Wait(JobsToWaitFor),

    /// Print the results of a job
    ///
    /// Waits for those that are not there yet. One JSON value per line; with `--output json` each line also tells the
    /// task's index, and failed tasks have a line too.
    /// Example: phalanx results 42 > results.jsonl
    Results(ResultsArguments),

    /// Cancel jobs, or tasks of jobs
    ///
    /// Tasks that have not started never will, and those that run are ended (kernels see it by `is_cancelled`); finished results
    /// are kept. Of a job of which only tasks are named, the others go on. Cancelling what is over does nothing.
    /// Example: phalanx cancel 42 43.7 44.0-99
    Cancel(JobsToCancel),

    /// Send a signal to what runs of jobs
    ///
    /// Goes to the programs of tasks that run now, and to all that these have started in their process groups; tasks that do
    /// not run never hear of it. Tasks go on unless the signal ends them, and then have failed as after any other. Kernels take none.
    /// Example: phalanx signal USR1 42 43.7 44.0-99
    Signal(SignalArguments),

    /// Keep jobs from starting anything more
    ///
    /// Tasks that run go on; nothing else starts until the job is released.
    /// Example: phalanx hold 42
    Hold(JobsToHold),

    /// Let jobs that are held go on
    ///
    /// Example: phalanx release 42
    Release(JobsToHold),

    /// Run the failed tasks of a job again
    ///
    /// And those that were not run because the job was stopped. Results that are there stay. A job that was cancelled, or
    /// could not run at all, stays as it is.
    /// Example: phalanx retry 42
    Retry(JobArguments),

    /// Start jobs, or tasks of jobs, from the top
    ///
    /// Those that have ended, and those that run: these are ended first, and how does not count. A task finds in
    /// `PHALANX_RESTART_COUNT` how often it was started before; it may requeue itself. Results of kernels that are there stay.
    /// Example: phalanx requeue 42 43.7 44.0-99
    Requeue(JobsToRequeue),

    /// Say why a job, or a task, is where it is
    ///
    /// The reason in a sentence, also why tasks wait while others of the job run; then what each worker offers.
    /// Examples: phalanx explain 42, phalanx explain 42.7
    Explain(ExplainArguments),

    /// Draw jobs and what they wait for of each other
    ///
    /// Those of a job file, or a job of the cluster and all that are connected to it, with their states.
    /// Examples: phalanx graph jobs.toml, phalanx graph 42
    Graph(GraphArguments),

    /// List workers
    ///
    /// What each has, what is free, and whose tasks it runs.
    /// Example: phalanx workers
    Workers,

    /// List the kernels in a program
    ///
    /// Reads the program's file without running it; no cluster is needed.
    /// Example: phalanx kernels target/release/ep
    Kernels(KernelsArguments),

    /// Make a cluster directory: keys, addresses, storage
    ///
    /// Makes a certificate authority and a credential for each role, in files that only you can read. Refuses to
    /// touch a directory that is not empty.
    /// Example: phalanx init /srv/lab --schedulers head:7878
    Init(InitArguments),

    /// Install Slurm's and PBS's commands: sbatch, squeue, qsub and others
    ///
    /// Makes links to this program under their names. With DIR in PATH, batch scripts run as they are.
    /// Example: phalanx shims ~/.local/bin
    Shims(ShimsArguments),

    /// Run a scheduler in the foreground
    ///
    /// Logs to stderr; PHALANX_LOG says how much (error, warn, info, debug, trace; default: info). SIGTERM or Ctrl-C
    /// stop it; what it acknowledged is on storage.
    /// Example: phalanx scheduler --listen 0.0.0.0:7878
    Scheduler(SchedulerArguments),

    /// Run a worker in the foreground
    ///
    /// Offers this machine's cpus and memory. Logs to stderr; PHALANX_LOG says how much (default: info). SIGTERM or
    /// Ctrl-C stop it: it takes nothing more on and leaves once what runs has ended, at the latest after --grace; what is
    /// unfinished then runs elsewhere. A second one does not wait. `phalanx worker drain` does so without a limit of time.
    /// Example: phalanx worker --cpus 8 --resource gpu=1
    Worker(WorkerArguments),

    /// Disturb a cluster made for it, and see what it survives
    ///
    /// Starts schedulers and workers as processes of their own in a temporary folder, lets users work on them, and
    /// kills, stops and restarts what it likes, at moments drawn from a seed. Then every result is compared with
    /// what it must be, and every acknowledged job looked for. Exits with 0 if nothing was lost, doubled or wrong.
    /// Example: phalanx chaos --seconds 60
    Chaos(ChaosArguments),

    /// Look at what lies on the shared storage
    ///
    /// Reads only, beside running schedulers or without any.
    /// Example: phalanx storage check
    Storage(StorageArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobsArguments {
    /// List all jobs of all users, however old
    ///
    /// Example: phalanx jobs --all
    #[arg(long)]
    pub(crate) all: bool,

    /// List this user's jobs
    ///
    /// Default: your own, as your credential names you. Example: phalanx jobs --user ada
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub(crate) user: Option<String>,

    /// List jobs in this state only, however old
    ///
    /// Several are separated by commas. Example: phalanx jobs --state waiting,running
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<JobState>,
}

/// The states of a job, as people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobState {
    /// Holds no slots yet
    Waiting,
    /// Holds slots
    Running,
    /// Every task succeeded
    Succeeded,
    /// Some tasks failed
    Failed,
    /// Somebody cancelled it
    Cancelled,
    /// It could not run at all
    Broken,
}

impl JobState {
    /// The word that [`phalanx_protocol::view::JobView::state`] uses.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Broken => "broken",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobArguments {
    /// The job's id
    ///
    /// Example: 42
    #[arg(value_name = "ID")]
    pub(crate) job: JobId,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobsToWaitFor {
    /// The jobs' ids
    ///
    /// Example: 42 43
    #[arg(value_name = "ID", required = true)]
    pub(crate) jobs: Vec<JobId>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobsToCancel {
    /// The jobs' ids, each alone or with a task's index or a range of them
    ///
    /// Example: 42 43.7 44.0-99
    #[arg(value_name = "ID[.TASKS]", required = true)]
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SignalArguments {
    /// The signal: its name, with SIG or without, or its number
    ///
    /// Example: USR1, SIGTERM, 15
    #[arg(value_name = "SIGNAL", value_parser = signal_number)]
    pub(crate) signal: i32,

    /// The jobs' ids, each alone or with a task's index or a range of them
    ///
    /// Example: 42 43.7 44.0-99
    #[arg(value_name = "ID[.TASKS]", required = true)]
    pub(crate) targets: Vec<Target>,

    /// Send it only to the process that was started
    ///
    /// Default: also to what that has started.
    /// Example: phalanx signal --leader USR1 42
    #[arg(long)]
    pub(crate) leader: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobsToRequeue {
    /// The jobs' ids, each alone or with a task's index or a range of them
    ///
    /// Example: 42 43.7 44.0-99
    #[arg(value_name = "ID[.TASKS]", required = true)]
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArguments {
    /// The job's id, alone or with the index of a task
    ///
    /// Example: 42.7
    #[arg(value_name = "ID[.TASK]")]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobsToHold {
    /// The jobs' ids
    ///
    /// Example: 42 43
    #[arg(value_name = "ID", required = true)]
    pub(crate) jobs: Vec<JobId>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArguments {
    /// The job's id
    ///
    /// Example: 42
    #[arg(value_name = "ID")]
    pub(crate) job: JobId,

    /// Print results as they come, in no particular order
    ///
    /// Default: in the order of indices. Use `--output json` to see which is which.
    /// Example: phalanx results 42 --as-completed --output json
    #[arg(long)]
    pub(crate) as_completed: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArguments {
    /// The job's id, or a task's: ID.INDEX
    ///
    /// Example: 42.7
    #[arg(value_name = "ID[.TASK]")]
    pub(crate) target: LogTarget,

    /// Go on until the job, or the task, has ended
    ///
    /// Example: phalanx logs 42 -f
    #[arg(long, short)]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) printing: PrintingArguments,
}

/// Whose output is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogTarget {
    pub(crate) job: JobId,
    /// All tasks, if absent.
    pub(crate) task: Option<u64>,
}

impl std::str::FromStr for LogTarget {
    type Err = phalanx_protocol::id::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((job, task)) => Ok(Self {
                job: job.parse()?,
                task: Some(task.parse::<JobId>()?.0),
            }),
            None => Ok(Self {
                job: text.parse()?,
                task: None,
            }),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct GraphArguments {
    /// A job file, or the id of a job
    ///
    /// A number is an id; a file with such a name is written ./42. Example: jobs.toml
    #[arg(value_name = "FILE|ID")]
    pub(crate) subject: PathBuf,

    /// Form of the drawing
    ///
    /// `text` for the terminal, `dot` for Graphviz. Example: phalanx graph 42 --format dot | dot -Tsvg > jobs.svg
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: GraphForm,
}

/// The form of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// Lines and names
    Text,
    /// Graphviz's language
    Dot,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MpiexecArguments {
    /// Options, program and arguments
    ///
    /// Example: -n 4 ./solver
    #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShimsArguments {
    /// Directory for the links; made if it is not there
    ///
    /// Example: ~/.local/bin
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Also `mpiexec` and `mpirun`
    ///
    /// They start ranks of MPI programs, inside a job on its cpus, elsewhere as a job, as `phalanx mpiexec` does. Example: --mpi
    #[arg(long)]
    pub(crate) mpi: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KernelsArguments {
    /// The program's file
    ///
    /// Example: target/release/ep
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: PathBuf,
}

#[cfg(test)]
mod tests;
