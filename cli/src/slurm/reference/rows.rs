//! The rows: options as they are, everything else by hand.

use crate::batch::environment::variables;
use crate::batch::meaning::{Standing, meaning};
use crate::batch::options::{Argument, Command, OptionSpec, by_long, of_command};
use crate::slurm::NAMES;

/// How far a word is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Yes,
    Recorded,
    Told,
    Refused,
    Absent,
}

impl Here {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Recorded => "recorded",
            Self::Told => "told",
            Self::Refused => "refused",
            Self::Absent => "not there",
        }
    }

    fn of(standing: Standing) -> Self {
        match standing {
            Standing::Honoured => Self::Yes,
            Standing::Recorded => Self::Recorded,
            Standing::Warned => Self::Told,
        }
    }
}

pub(super) struct Row {
    /// What cases call it.
    pub(super) name: String,
    /// As it stands in the table.
    pub(super) shown: String,
    pub(super) here: Here,
    pub(super) text: String,
}

pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) rows: Vec<Row>,
}

/// What is honoured and shown by no case; tests elsewhere have it.
pub(super) const WITHOUT_CASE: &[&str] = &[];

/// What a job tells its steps that is said of the job only.
const OF_JOB: &[&str] = &["srun SLURM_GPUS", "srun SLURM_GPUS_PER_NODE", "srun SLURM_GRES"];

/// All of the page.
pub(super) fn all() -> Vec<Section> {
    vec![
        Section {
            title: "Commands",
            text: "One binary answers to these names; `phalanx shims DIR` makes the links.",
            rows: commands(),
        },
        Section {
            title: "Options of sbatch",
            text: "On the command line and in `#SBATCH` lines. Options that are not in this list are named in one warning when a script has \
                   them, and refused on the command line.",
            rows: options(Command::Sbatch),
        },
        Section {
            title: "Options of srun",
            text: "Inside a job srun starts ranks. Outside one it submits a job, by the options of sbatch, and copies what it prints.",
            rows: options(Command::Srun),
        },
        Section {
            title: "Variables that stand for options of sbatch",
            text: "",
            rows: option_variables(Command::Sbatch),
        },
        Section {
            title: "Variables that stand for options of srun",
            text: "",
            rows: option_variables(Command::Srun),
        },
        Section {
            title: "Variables that scripts find",
            text: "",
            rows: table(VARIABLES),
        },
        Section {
            title: "Patterns in names of files",
            text: "",
            rows: table(PATTERNS),
        },
        Section {
            title: "How directives and values are written",
            text: "",
            rows: table(FORMS),
        },
        Section {
            title: "What scripts and callers rely on",
            text: "",
            rows: table(RULES),
        },
        Section {
            title: "PBS",
            text: "`#PBS` lines of Torque and PBS Pro are a second dialect of sbatch. A script with such lines finds PBS's variables too.",
            rows: table(PBS),
        },
    ]
}

fn options(command: Command) -> Vec<Row> {
    let prefix = match command {
        Command::Srun => "srun ",
        Command::Sbatch | Command::Salloc => "",
    };
    let row = |spec: &OptionSpec| {
        let meaning = meaning(command, spec);
        let short = spec
            .short
            .map_or_else(String::new, |letter| format!("`-{letter}`, "));
        let value = match spec.argument {
            Argument::Flag => "",
            Argument::Required => "=VALUE",
            Argument::Optional => "[=VALUE]",
        };
        Row {
            name: format!("{prefix}--{}", spec.long),
            shown: format!("{short}`--{}{value}`", spec.long),
            here: Here::of(meaning.standing),
            text: meaning.text.to_owned(),
        }
    };
    of_command(command).map(row).collect()
}

fn option_variables(command: Command) -> Vec<Row> {
    let prefix = match command {
        Command::Srun => "srun ",
        Command::Sbatch | Command::Salloc => "",
    };
    let row = |&(variable, option): &(&str, &str)| {
        let standing = by_long(command, option).map(|spec| meaning(command, spec).standing);
        let name = format!("{prefix}{variable}");
        let is_of_job = OF_JOB.contains(&name.as_str());
        Row {
            here: match is_of_job {
                true => Here::Recorded,
                false => standing.map_or(Here::Absent, Here::of),
            },
            name,
            shown: format!("`{variable}`"),
            text: match is_of_job {
                true => {
                    format!("`--{option}` of the job, whose steps share what it has unless they say more")
                }
                false => format!("`--{option}`"),
            },
        }
    };
    variables(command).iter().map(row).collect()
}

fn commands() -> Vec<Row> {
    let row = |&(name, text): &(&str, &str)| Row {
        name: name.to_owned(),
        shown: format!("`{name}`"),
        here: match NAMES.iter().any(|(known, _)| *known == name) {
            true => Here::Yes,
            false => Here::Absent,
        },
        text: text.to_owned(),
    };
    COMMANDS.iter().map(row).collect()
}

fn table(rows: &[(&str, Here, &str)]) -> Vec<Row> {
    let row = |&(name, here, text): &(&str, Here, &str)| Row {
        name: name.to_owned(),
        shown: match name.split_once(": ") {
            // the kind is for the cases
            Some(("rule", rest)) => rest.to_owned(),
            Some((kind, rest)) => format!("{kind}: {rest}"),
            None => format!("`{name}`"),
        },
        here,
        text: text.to_owned(),
    };
    rows.iter().map(row).collect()
}

const COMMANDS: &[(&str, &str)] = &[
    (
        "sbatch",
        "submits a script; starts a cluster of the user's own in the background where none runs",
    ),
    ("srun", "starts the ranks of a step; outside a job it submits one"),
    ("salloc", "a job for commands that are typed"),
    ("squeue", "lists jobs"),
    ("sacct", "lists jobs that have ended too, and what they used"),
    ("scancel", "ends jobs, or sends a signal to what runs of them"),
    (
        "scontrol",
        "shows jobs and nodes, holds, releases and requeues jobs, expands lists of nodes",
    ),
    ("sinfo", "lists nodes"),
    ("seff", "how well a job has used its cpus and memory"),
    (
        "sbcast",
        "copies a file to all nodes of a job, or to none; on one machine once",
    ),
    ("qsub", "submits a script as PBS does"),
    ("qstat", "lists jobs as PBS does"),
    ("qdel", "ends jobs"),
];

use Here::{Recorded, Refused, Yes};

#[rustfmt::skip] // a table
const VARIABLES: &[(&str, Here, &str)] = &[
    ("SLURM_JOB_ID", Yes, "the job's number; of an element the array's and 10^9 for each place in it, from 1"),
    ("SLURM_JOBID", Yes, "the same under its old name"),
    ("SLURM_JOB_NAME", Yes, "the job's name"),
    ("SLURM_JOB_ACCOUNT", Yes, "what --account said, if anything"),
    ("SLURM_JOB_QOS", Yes, "what --qos said"),
    ("SLURM_JOB_RESERVATION", Yes, "what --reservation said"),
    ("SLURM_JOB_PARTITION", Yes, "what --partition said; else phalanx"),
    ("SLURM_JOB_USER", Yes, "who submitted it"),
    ("SLURM_JOB_UID", Yes, "their number"),
    ("SLURM_JOB_GID", Yes, "that of their group"),
    ("SLURM_CLUSTER_NAME", Yes, "phalanx"),
    ("SLURM_SUBMIT_DIR", Yes, "where it was submitted"),
    ("SLURM_SUBMIT_HOST", Yes, "on which machine"),
    ("SLURM_JOB_NODELIST", Yes, "the names of its workers, as a list: n[1-2]"),
    ("SLURM_NODELIST", Yes, "the same under its old name"),
    ("SLURMD_NODENAME", Yes, "the name of the worker that runs this"),
    ("SLURM_TOPOLOGY_ADDR", Yes, "the same"),
    ("SLURM_JOB_NUM_NODES", Yes, "number of nodes"),
    ("SLURM_NNODES", Yes, "the same under its old name"),
    ("SLURM_NODEID", Yes, "the position of its node in the step, from 0; 0 in the script"),
    ("SLURM_NTASKS", Yes, "number of tasks, if the job says how many; of ranks in a step"),
    ("SLURM_NPROCS", Yes, "the same under its old name"),
    ("SLURM_TASKS_PER_NODE", Yes, "number of tasks on each node, 2(x2),1, also if the job does not say"),
    ("SLURM_NTASKS_PER_NODE", Yes, "what --ntasks-per-node said"),
    ("SLURM_CPUS_PER_TASK", Yes, "what --cpus-per-task said"),
    ("SLURM_CPUS_ON_NODE", Yes, "cpus of the job on the node; in a step its own"),
    ("SLURM_JOB_CPUS_PER_NODE", Yes, "cpus of the job on each node: 4(x2)"),
    ("SLURM_MEM_PER_NODE", Yes, "memory that --mem asked for, in MiB"),
    ("SLURM_MEM_PER_CPU", Yes, "memory that --mem-per-cpu asked for, in MiB"),
    ("SLURM_MEM_PER_GPU", Yes, "memory that --mem-per-gpu asked for, in MiB"),
    ("SLURM_GPUS", Yes, "what --gpus said"),
    ("SLURM_GPUS_PER_NODE", Yes, "what --gpus-per-node or --gres said"),
    ("SLURM_GPUS_PER_TASK", Yes, "what --gpus-per-task said"),
    ("SLURM_GPUS_ON_NODE", Yes, "number of gpus of the job on the node; of a step that asks for some, its own"),
    ("SLURM_JOB_GPUS", Yes, "which gpus of the node the job has"),
    ("SLURM_STEP_GPUS", Yes, "which of them the step has; a rank sees its own in CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES"),
    ("SLURM_ARRAY_JOB_ID", Yes, "the number of the array"),
    ("SLURM_ARRAY_TASK_ID", Yes, "the element's number in it"),
    ("SLURM_ARRAY_TASK_COUNT", Yes, "how many elements there are"),
    ("SLURM_ARRAY_TASK_MIN", Yes, "the lowest number"),
    ("SLURM_ARRAY_TASK_MAX", Yes, "the highest number"),
    ("SLURM_ARRAY_TASK_STEP", Yes, "their distance"),
    ("SLURM_RESTART_COUNT", Yes, "how often the job was begun again; absent before"),
    ("SLURM_PROCID", Yes, "the rank in a step, from 0; 0 in the script"),
    ("SLURM_LOCALID", Yes, "the rank on its node"),
    ("SLURM_STEP_ID", Yes, "the number of the step in its job, from 0; 0 in each step below salloc"),
    ("SLURM_STEP_NUM_TASKS", Yes, "ranks of the step"),
    ("SLURM_STEP_NUM_NODES", Yes, "nodes of the step"),
    ("SLURM_STEP_NODELIST", Yes, "the names of its workers, as a list"),
    ("SLURM_STEP_TASKS_PER_NODE", Yes, "ranks of the step on each node, 2(x2)"),
    ("SLURM_CPU_BIND", Yes, "the three below as --cpu-bind takes them"),
    ("SLURM_CPU_BIND_VERBOSE", Yes, "quiet or verbose"),
    ("SLURM_CPU_BIND_TYPE", Yes, "mask_cpu: where ranks are bound; else none"),
    ("SLURM_CPU_BIND_LIST", Yes, "the cpus of each rank as bits"),
    ("SLURM_JOB_START_TIME", Yes, "when the script was started, in seconds since 1970"),
    ("SLURM_JOB_END_TIME", Yes, "when its time is over; absent without a limit"),
    ("SLURM_JOB_DEPENDENCY", Yes, "what --dependency said"),
    ("SLURM_GTIDS", Yes, "all ranks of the step; 0 in the script"),
    ("SLURM_TASK_PID", Yes, "the number of the process that was started"),
    ("PMI_RANK", Yes, "the rank in a step, with PMI_SIZE and PMI_FD: by these MPI libraries find each other"),
    ("ENVIRONMENT", Yes, "BATCH"),
];

#[rustfmt::skip] // a table
const PATTERNS: &[(&str, Here, &str)] = &[
    ("%j", Yes, "$SLURM_JOB_ID"),
    ("%J", Yes, "the same; in a step with its number behind a point"),
    ("%A", Yes, "the array's number; in other jobs the job's"),
    ("%a", Yes, "the element's number in the array; in other jobs 4294967294"),
    ("%b", Yes, "its last digit"),
    ("%x", Yes, "the job's name"),
    ("%u", Yes, "the user's name"),
    ("%N", Yes, "the node's name"),
    ("%n", Yes, "the node's place in the job, from 0"),
    ("%s", Yes, "the step's number; batch in the script"),
    ("%t", Yes, "the rank in its step"),
    ("%%", Yes, "%"),
    ("pattern: %4j", Yes, "digits fill numbers up with zeros"),
    ("pattern: backslash", Yes, "takes all letters their meaning"),
];

#[rustfmt::skip] // a table
const FORMS: &[(&str, Here, &str)] = &[
    ("form: --long=val", Yes, "an option of a directive"),
    ("form: --long val", Yes, "the same"),
    ("form: -s val", Yes, "the same"),
    ("form: -sval", Yes, "the same"),
    ("form: short option with a long value", Yes, "blanks in quotes"),
    ("form: several on a line", Yes, "options with blanks between them"),
    ("form: trailing comment", Yes, "what stands behind a # that begins a word is a comment"),
    ("form: quotes", Yes, "\", ' and \\ keep blanks and signs from their meaning"),
    ("form: $ stays literal", Yes, "variables are not replaced"),
    ("form: ##SBATCH is a comment", Yes, "as is # SBATCH"),
    ("form: here documents", Yes, "directives in them are not the script's"),
    ("form: #PHALANX", Yes, "a line of directives for us only, which goes before the others"),
    ("time: M", Yes, "minutes"),
    ("time: M:S", Yes, "minutes and seconds"),
    ("time: H:M:S", Yes, "hours, minutes, seconds"),
    ("time: D-H", Yes, "days and hours"),
    ("time: D-H:M", Yes, "days, hours, minutes"),
    ("time: D-H:M:S", Yes, "days, hours, minutes, seconds"),
    ("time: unlimited", Yes, "UNLIMITED, INFINITE, -1 and 0"),
    ("memory: bare number", Yes, "MiB"),
    ("memory: K", Yes, "KiB"),
    ("memory: M", Yes, "MiB"),
    ("memory: G", Yes, "GiB"),
    ("memory: T", Yes, "TiB"),
    ("memory: all of a node", Yes, "0 is no bound"),
    ("array: list and range", Yes, "1,3,5-7"),
    ("array: limit", Yes, "%N: so many at a time"),
    ("array: no bound", Yes, "numbers and their count may be of any size"),
    ("dependency: after", Yes, "begun, and so many minutes (+N) have passed"),
    ("dependency: afterany", Yes, "ended; so is a number alone"),
    ("dependency: afterok", Yes, "ended well"),
    ("dependency: afternotok", Yes, "ended badly"),
    ("dependency: aftercorr", Yes, "the element of the same number ended well; arrays that do not begin with the same numbers are refused"),
    ("dependency: singleton", Yes, "no earlier job of this name and user is left"),
    ("dependency: AND", Yes, "`,` and `:` between jobs"),
    ("dependency: OR", Yes, "`?` between conditions"),
    ("dependency: never satisfied", Yes, "it stays and is shown as such, or is cancelled (--kill-on-invalid-dep=yes)"),
    ("dependency: one element", Yes, "12_3"),
    ("dependency: after one element", Refused, "after and aftercorr name jobs"),
    ("interpreter: bash -l", Yes, "a login shell"),
    ("interpreter: env bash", Yes, "found in PATH"),
    ("interpreter: env", Yes, "any other language whose comments begin with #"),
    ("interpreter: sh", Yes, "with options of its own"),
    ("interpreter: any", Yes, "any program that takes a file"),
];

#[rustfmt::skip] // a table
const RULES: &[(&str, Here, &str)] = &[
    ("rule: Submitted batch job", Yes, "what sbatch prints, with the number"),
    ("rule: precedence", Yes, "the command line goes before variables, and these before the script"),
    ("rule: directives end at the first command", Yes, "later ones are named in a warning"),
    ("rule: unknown options", Yes, "of a script are named in one warning; on the command line they are errors"),
    ("rule: wrong values are errors", Yes, "with their place, what is wrong and what would be right"),
    ("rule: a script needs an interpreter", Yes, "a first line with #!; else sbatch refuses it"),
    ("rule: carriage returns", Yes, "are taken away, and told"),
    ("rule: where the script is looked for", Yes, "by its path, in the working directory, in PATH"),
    ("rule: script on standard input", Yes, "if none is named"),
    ("rule: arguments after the script", Yes, "are the script's"),
    ("rule: the script is copied", Yes, "when it is submitted; so is the environment"),
    ("rule: the script is called slurm_script", Yes, "as its own $0"),
    ("rule: the environment is exported", Yes, "all of it, unless --export says what"),
    ("rule: umask and limits", Yes, "are those of the submission"),
    ("rule: process limit", Yes, "so is the number of processes"),
    ("rule: standard input is empty", Yes, "unless --input names a file"),
    ("rule: default output file", Yes, "slurm-%j.out in the working directory"),
    ("rule: default output file of an array", Yes, "slurm-%A_%a.out"),
    ("rule: stderr is merged", Yes, "into standard output, unless --error names a file"),
    ("rule: output is truncated", Yes, "unless --open-mode=append"),
    ("rule: output directories are made", Yes, "under Slurm a job whose directory is not there fails without a word"),
    ("rule: output may be any bytes", Yes, "it goes into the file as it is"),
    ("rule: output that cannot be written", Yes, "the job fails, and says why"),
    ("rule: exit code with --wait", Yes, "the script's; 1 after a signal; the highest of an array"),
    ("rule: time limit", Yes, "SIGTERM to all processes, SIGKILL 30 s later"),
    ("rule: memory limit", Yes, "who uses more is killed"),
    ("rule: --signal=B: tells the batch shell", Yes, "and nobody else"),
    ("rule: --signal tells the steps", Yes, "and not the batch shell"),
    ("rule: scancel --signal tells what runs", Yes, "its steps; with --batch the shell, with --full both. What waits is told nothing"),
    ("rule: scancel ends a step", Yes, "42.0; so does --signal tell it alone. 42.batch is the shell, and with it the job. Of a step that is over nothing is said"),
    ("rule: --array with a step", Yes, "0-8:4"),
    ("rule: --array with a limit", Yes, "1-3%2"),
    ("rule: requeue", Yes, "by scontrol requeue, or when its worker is lost: from the top, under the same number"),
    ("rule: dependency on an unknown job", Yes, "is refused"),
    ("rule: jobs from jobs", Yes, "what is submitted from a job knows nothing of that one's variables"),
    ("rule: srun starts the ranks", Yes, "--ntasks alone starts nothing: the script runs once"),
    ("rule: the status of srun is the highest", Yes, "of its ranks'; 128 and the signal after one"),
    ("rule: srun passes on what it reads", Yes, "to all ranks, or as --input says; outside a job, too. The slowest reader sets the pace of all"),
    ("rule: steps side by side", Yes, "with & and wait: --exact steps as far as there are cpus for them, in the order in which they fit"),
    ("rule: a step has all cpus", Yes, "of its job, so that the next waits and says so; unless it is --exact or they are to --overlap"),
    ("rule: steps inside steps", Yes, "find room beside the step that starts them; where there never is any, they share its cpus instead of waiting for ever"),
    ("rule: more ranks than cpus", Yes, "share what the job has, with a warning; Slurm refuses them without --overcommit"),
    ("rule: mpirun waits for nobody", Yes, "its ranks are on the job's cpus beside all others"),
    ("rule: srun outside a job", Yes, "submits one, copies what it prints, and exits with its code; Ctrl-C cancels it, and then that is 143"),
    ("rule: nothing is left running", Yes, "what a script leaves in the background ends with it"),
    ("rule: #SBATCH goes before #PBS", Yes, "where a script has both"),
    ("caller: Nextflow", Yes, "its scripts, alone and as arrays"),
    ("caller: Snakemake", Yes, "its command line"),
    ("caller: submitit", Yes, "its scripts"),
    ("caller: dask-jobqueue", Yes, "its scripts"),
    ("caller: Parsl", Yes, "its scripts"),
];

#[rustfmt::skip] // a table
const PBS: &[(&str, Here, &str)] = &[
    ("PBS -N", Yes, "--job-name"),
    ("PBS -A", Yes, "--account, as -P"),
    ("PBS -q", Recorded, "--partition"),
    ("PBS -l walltime", Yes, "--time, in seconds, MM:SS or HH:MM:SS"),
    ("PBS -l nodes", Yes, "nodes=N:ppn=M: --nodes, --ntasks-per-node"),
    ("PBS -l select", Yes, "select=N:ncpus=C:mpiprocs=M:mem=S: --nodes, --ntasks-per-node, --cpus-per-task, --mem"),
    ("PBS -l mem", Yes, "--mem; pmem is --mem-per-cpu"),
    ("PBS -o", Yes, "--output"),
    ("PBS -e", Yes, "--error"),
    ("PBS -j", Yes, "oe, eo: one file for both"),
    ("PBS -J", Yes, "--array, as -t"),
    ("PBS -h", Yes, "--hold"),
    ("PBS -r", Yes, "y, n: --requeue, --no-requeue"),
    ("PBS -V", Yes, "--export=ALL; -v names variables besides"),
    ("PBS -W depend", Yes, "--dependency"),
    ("PBS -m", Recorded, "--mail-type"),
    ("PBS -M", Recorded, "--mail-user"),
    ("PBS_O_WORKDIR", Yes, "where it was submitted; the script begins there too"),
    ("PBS_JOBID", Yes, "$SLURM_JOB_ID"),
    ("PBS_JOBNAME", Yes, "$SLURM_JOB_NAME"),
    ("PBS_QUEUE", Yes, "$SLURM_JOB_PARTITION"),
    ("PBS_NODEFILE", Yes, "a file with a line for each cpu, node after node"),
    ("PBS_NP", Yes, "cpus"),
    ("PBS_NUM_NODES", Yes, "number of nodes"),
    ("PBS_NUM_PPN", Yes, "cpus of each node"),
    ("NCPUS", Yes, "cpus"),
    ("PBS_ARRAY_INDEX", Yes, "$SLURM_ARRAY_TASK_ID; PBS_ARRAYID too"),
    ("PBS_O_LOGNAME", Yes, "who submitted it; PBS_O_HOME, _PATH, _SHELL, _LANG and _HOST likewise"),
];
