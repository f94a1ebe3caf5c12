//! What is said of a command on the command line: how many tasks, with what, where their output goes, what they wait for.

use std::path::PathBuf;
use std::time::Duration;

use super::gang::GangArguments;
use super::values::parse_time;
use crate::batch::values::{WarningSignal, warning_signal};
use crate::ui::Ui;

/// How a program is run as a job.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Commands")]
pub(crate) struct CommandArguments {
    /// Run it once for each of these numbers
    ///
    /// Ids and ranges, with a step and a limit of how many run at a time. Each task finds its own number in
    /// PHALANX_ARRAY_TASK_ID, and `{}` in the arguments stands for it.
    /// Examples: --array 0-99, --array 1,3,5-7, --array 0-1000:10%8
    #[arg(long, short, value_name = "IDS", conflicts_with_all = ["kernel", "each_line", "from_json"])]
    pub(crate) array: Option<String>,

    /// Run it once for each line of a file
    ///
    /// `{}` in the arguments stands for the line; without one it becomes the last argument. Also in PHALANX_ITEM.
    /// Example: phalanx run --each-line urls.txt -- curl -sO {}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "from_json"])]
    pub(crate) each_line: Option<PathBuf>,

    /// Run it once for each item of a JSON list
    ///
    /// Or for each line of a file with a JSON value per line. As --each-line, with the value's text. Example: phalanx run --from-json cases.json -- ./simulate {}
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub(crate) from_json: Option<PathBuf>,

    /// Run at most so many tasks at a time
    ///
    /// Default: as many as there is room for. Example: --at-most 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) at_most: Option<u32>,

    /// File for what tasks print, instead of the cluster's storage
    ///
    /// In the name, %j stands for the job (of an array's task: the task's own number among jobs), %A for the
    /// array, %a for the task's number, %x for the job's name. Default: it is kept with the
    /// job, and `phalanx logs ID` prints it. Example: --stdout out/%a.txt
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub(crate) stdout: Option<String>,

    /// File for what tasks print as errors
    ///
    /// Default: where --stdout goes. Example: --stderr err/%a.txt
    #[arg(long, value_name = "FILE", requires = "stdout")]
    pub(crate) stderr: Option<String>,

    /// Append to these files rather than overwrite them
    ///
    /// Example: --stdout all.log --append
    #[arg(long, requires = "stdout")]
    pub(crate) append: bool,

    /// File that tasks read as their input
    ///
    /// May be a pattern, as --stdout. Default: for `run` with one program its own standard input, else nothing.
    /// Example: --stdin case%a.dat
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub(crate) stdin: Option<String>,

    /// Working directory of the tasks
    ///
    /// Default: the current one. Example: --chdir /scratch/run7
    #[arg(long, short = 'D', value_name = "DIR", conflicts_with = "kernel")]
    pub(crate) chdir: Option<PathBuf>,

    /// Variable that tasks get; may be repeated
    ///
    /// Beside those that are set now. Without a value: as it is now, which is only of use with --clean-env. Example: --env OMP_NUM_THREADS=4
    #[arg(long, value_name = "NAME[=VALUE]", conflicts_with = "kernel")]
    pub(crate) env: Vec<String>,

    /// Pass no variables on but those that --env names
    ///
    /// Example: --clean-env --env PATH
    #[arg(long, conflicts_with = "kernel")]
    pub(crate) clean_env: bool,

    /// Send a signal before a task's time is over
    ///
    /// So long before its --task-time-limit; unit: seconds, 60 unless given. The program and all that it has started get it;
    /// of a script only what it has started, with `B:` only its shell. Examples: --signal USR1@120, --signal B:TERM@30
    #[arg(long, value_name = "[B:]SIG[@SECONDS]", value_parser = warning_signal, requires = "task_time_limit", conflicts_with = "kernel")]
    pub(crate) signal: Option<WarningSignal>,

    /// How long a task that is to end (SIGTERM) may take until it is killed
    ///
    /// Unit: seconds, or with ms, s, m; at most 30 s. Example: --grace 5s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) grace: Duration,

    #[command(flatten)]
    pub(crate) printing: PrintingArguments,

    #[command(flatten)]
    pub(crate) gang: GangArguments,
}

/// How the output of several tasks is shown while they run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct PrintingArguments {
    /// Print lines of tasks as they come, each with its task's number
    ///
    /// For `run` and `logs --follow` of several tasks; lines are whole, and begin with the index that `logs ID.TASK` takes.
    /// Default: so on a terminal. Example: phalanx run --live --array 0-9 -- ./simulate {} | tee log
    #[arg(long, conflicts_with = "grouped")]
    live: bool,

    /// Print what each task has printed in one piece, once it has ended
    ///
    /// For `run` and `logs --follow` of several tasks, in the order of their ends. Default: so into files and pipes.
    /// Example: phalanx run --grouped --array 0-9 -- ./simulate {}
    #[arg(long)]
    grouped: bool,
}

impl PrintingArguments {
    /// Whether lines are shown as they come.
    pub(crate) fn is_live(self, ui: Ui) -> bool {
        self.live || (!self.grouped && ui.is_seen())
    }

    /// The option that was given, if any was.
    pub(crate) fn given(self) -> Option<&'static str> {
        match (self.live, self.grouped) {
            (true, _) => Some("--live"),
            (false, true) => Some("--grouped"),
            (false, false) => None,
        }
    }
}
