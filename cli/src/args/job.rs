//! What a job is made from on the command line: shared by `submit`, `run` and, key by key, the job file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phalanx_protocol::{IndexRange, Request, Retries, WorkerChoice};

use super::command::CommandArguments;
use super::placement::PlacementArguments;
use super::values::{NamedResource, parse_range, parse_size, parse_time};
use super::waiting::WaitingArguments;

/// One job, or those of a file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SubmitCommand {
    /// Take the jobs of a TOML file, and what they wait for of each other
    ///
    /// Each job is a table [job.NAME] whose keys are named as the options here, beside `command` (a list of words, or a text
    /// for the shell), `script` and `args`; `afterok` and the like name other jobs of the file. None starts before all are
    /// accepted. `phalanx graph FILE` draws them.
    /// Example: phalanx submit --file jobs.toml
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["SubmitArguments", "CommandArguments", "LimitArguments", "WaitingArguments"])]
    pub(crate) file: Option<PathBuf>,

    /// Check everything and say what would be submitted
    ///
    /// Nothing is sent, and no cluster needed. Example: phalanx submit --file jobs.toml --dry-run
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) job: SubmitArguments,
}

/// A job.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SubmitArguments {
    /// Program or script to run; behind `--` if it has options of its own
    ///
    /// Looked for in PATH, on the workers. A script (its file begins with `#!`) is copied now, so that it may be changed
    /// while the job waits. With --kernel: an executable built with the crate `phalanx`; the cluster gets a copy of it.
    /// Examples: hostname, ./job.sh, target/release/ep --kernel gaussians
    #[arg(value_name = "PROGRAM", required_unless_present = "file")]
    pub(crate) program: Option<PathBuf>,

    /// Its arguments
    ///
    /// With --each-line or --from-json, `{}` stands for the task's item; with --array, for its number.
    /// Example: phalanx run -- tar -czf out.tgz data
    #[arg(value_name = "ARG")]
    pub(crate) arguments: Vec<OsString>,

    /// Kernel to call, by its function's name
    ///
    /// `phalanx kernels PROGRAM` lists them. Without it the program itself is run, once for each task.
    /// Example: --kernel gaussians
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: Option<String>,

    #[command(flatten)]
    pub(crate) command: CommandArguments,

    /// Call it once for each number A, A+1, .., B-1
    ///
    /// For kernels that take a `u64`. Tasks are numbered from 0: task i gets the number A+i.
    /// Example: --range 0..1_000_000
    #[arg(long, short, value_name = "A..B", value_parser = parse_range, requires = "kernel")]
    pub(crate) range: Option<IndexRange>,

    /// Call it once for each line of a file
    ///
    /// Each line is one JSON value of the kernel's input type; line 1 is task 0.
    /// Example: --inputs sequences.jsonl
    #[arg(
        long,
        short,
        value_name = "FILE",
        requires = "kernel",
        conflicts_with = "range"
    )]
    pub(crate) inputs: Option<PathBuf>,

    /// Parameters that all tasks share, as JSON or @FILE
    ///
    /// For kernels that take parameters. Examples: --parameters '{"width":800}', --parameters @scene.json
    #[arg(long, short, value_name = "JSON|@FILE", requires = "kernel")]
    pub(crate) parameters: Option<String>,

    /// Cpus that each task needs
    ///
    /// Unit: cpus; the kernel's rayon pool has as many threads. Example: --cpus 4
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: u32,

    /// Memory that each task needs
    ///
    /// Unit: bytes, or with K, M, G, T (1024s). Tasks that use more are killed with their process.
    /// Default: none in particular, and no limit. Example: --memory 2G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,

    /// Other resource that each task needs; may be repeated
    ///
    /// By the name that workers offer it under; may have up to four decimals.
    /// Examples: --resource licence=1, --resource scratch=0.25
    #[arg(long = "resource", value_name = "NAME=N")]
    pub(crate) resources: Vec<NamedResource>,

    #[command(flatten)]
    pub(crate) placement: PlacementArguments,

    /// Jobs with a higher priority go first
    ///
    /// Example: --priority 10
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,

    /// Name of the job, for people
    ///
    /// Default: the kernel's or the program's name. Example: --name nightly
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Stop the job once more tasks than this have failed
    ///
    /// Default: all tasks are run, however many fail. Example: --failures-max 0
    #[arg(long, value_name = "N")]
    pub(crate) failures_max: Option<u64>,

    /// Run tasks of slow or stopped workers elsewhere too, at the job's end
    ///
    /// For kernels that may run twice at the same time for the same task without harm. At most 5 % of the job's slots
    /// do that, for tasks that take much longer than usual; whichever run ends first counts.
    /// Default: a task runs twice only if its worker is given up. Example: --idempotent
    #[arg(long, requires = "kernel")]
    pub(crate) idempotent: bool,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    #[command(flatten)]
    pub(crate) waiting: WaitingArguments,

    /// Merge results on the workers: one value per range
    ///
    /// For kernels with #[phalanx::kernel(reduce = ..)]. The values of neighbouring tasks are merged where they were
    /// computed; what is left, a value for each of a few ranges, is printed as {"range":"0-99","value":..}. Merging
    /// those needs the program's own types: use the crate `phalanx` to get the one value.
    /// Example: phalanx run target/release/ep --kernel gaussians --range 0..256 --reduce
    #[arg(long, requires = "kernel")]
    pub(crate) reduce: bool,
}

/// How often tasks are run again, and how long they may take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LimitArguments {
    /// Run a task again after an error, so many times
    ///
    /// An error or a panic of a kernel; a command that ends with another status than 0, or by a signal.
    /// Example: --retries 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// Fail a task that has crashed its process so many times
    ///
    /// A task that may have been the cause of a crash runs alone the next time, the others just run again.
    /// Example: --crash-limit 1
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) crash_limit: u32,

    /// Fail a task whose worker was lost so many times
    ///
    /// Default: it runs again however often its worker is lost. Example: --lost-limit 5
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) lost_limit: Option<u32>,

    /// Run a task again after it took too long, so many times
    ///
    /// See --task-time-limit. Example: --timeout-retries 1
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) timeout_retries: u32,

    /// Rest before a task runs again after an error or a timeout
    ///
    /// Unit: seconds, or with ms, s, m, h. It doubles with each retry, up to a minute. Example: --backoff 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) backoff: Duration,

    /// Longest time that one run of a task may take
    ///
    /// Unit: seconds, or with ms, s, m, h, d, or [DAYS-]HH:MM:SS. A task over it is killed with its process.
    /// Default: for ever. Example: --task-time-limit 10m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) task_time_limit: Option<Duration>,

    /// Longest time that the job may take
    ///
    /// From its first slot on; its tasks are told to save their state, then ended. Unit: as --task-time-limit.
    /// Default: for ever. Example: --time-limit 2-00:00:00
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) time_limit: Option<Duration>,
}

impl LimitArguments {
    /// How often tasks are run again.
    pub(crate) fn retries(&self) -> Retries {
        Retries {
            errors: self.retries,
            crash_limit: self.crash_limit,
            lost_limit: self.lost_limit,
            timeouts: self.timeout_retries,
            backoff_millis: millis(self.backoff),
        }
    }

    /// How long one run of a task may take, in milliseconds.
    pub(crate) fn task_time_limit_millis(&self) -> Option<u64> {
        self.task_time_limit.map(millis)
    }

    /// How long the job may take, in milliseconds.
    pub(crate) fn time_limit_millis(&self) -> Option<u64> {
        self.time_limit.map(millis)
    }
}

/// A time in whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SubmitArguments {
    /// The program; clap sees to it that there is one where there is no file of jobs.
    pub(crate) fn program(&self) -> &Path {
        self.program.as_deref().unwrap_or(Path::new(""))
    }

    /// What each task needs.
    pub(crate) fn request(&self) -> Request {
        let mut request = Request {
            cpus: self.cpus,
            memory_bytes: self.memory.unwrap_or(0),
            ..Request::default()
        };
        for resource in &self.resources {
            request.add(&resource.name, resource.amount);
        }
        self.placement.apply(&mut request);
        request
    }

    /// The workers that it may run on.
    pub(crate) fn choice(&self) -> WorkerChoice {
        self.placement.choice()
    }

    /// What each may need instead, in order of preference.
    pub(crate) fn alternatives(&self) -> Vec<Request> {
        let first = self.request();
        let alternatives = self.placement.or.iter();
        alternatives.map(|alternative| alternative.of(&first)).collect()
    }
}
