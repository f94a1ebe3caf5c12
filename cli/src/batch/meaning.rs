//! What becomes of each option here, in one line: for `--help`, and for the reference that is made of it.

use super::options::{Command, OptionKind as Kind, OptionSpec};

/// How far a word of Slurm's is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It does what it does under Slurm.
    Honoured,
    /// It is accepted, and kept with the job where that is submitted; it changes nothing.
    Recorded,
    /// It is accepted and changes nothing, which is told.
    Warned,
}

/// What an option does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) standing: Standing,
    pub(crate) text: &'static str,
}

const fn honoured(text: &'static str) -> Meaning {
    Meaning {
        standing: Standing::Honoured,
        text,
    }
}

const fn recorded(text: &'static str) -> Meaning {
    Meaning {
        standing: Standing::Recorded,
        text,
    }
}

const fn warned(text: &'static str) -> Meaning {
    Meaning {
        standing: Standing::Warned,
        text,
    }
}

/// What this option of a command does.
pub(crate) fn meaning(command: Command, spec: &OptionSpec) -> Meaning {
    match command {
        Command::Sbatch | Command::Salloc => of_job(spec.kind),
        Command::Srun => of_step(spec.kind),
    }
}

/// Of an option by which a job is submitted.
#[rustfmt::skip] // a table: one kind of option a line
fn of_job(kind: Kind) -> Meaning {
    match kind {
        Kind::Array => honoured("one element for each number; of any size; %N at a time"),
        Kind::Begin => honoured("not before now+COUNT[unit], a time of day or a date"),
        Kind::Chdir => honoured("working directory, also for relative names of files"),
        Kind::CpusPerGpu => warned("ask for --cpus-per-task"),
        Kind::CpusPerTask => honoured("cpus of each task"),
        Kind::Dependency => honoured("waits for other jobs, or for elements of arrays"),
        Kind::Error => honoured("file for standard error"),
        Kind::Exclude => honoured("it runs on none of these nodes"),
        Kind::Exclusive => honoured("the job has a node for itself; with =user others may run there, which is told"),
        Kind::Export => honoured("ALL, NONE, or the variables that are passed on"),
        Kind::ExportFile => warned("use --export"),
        Kind::Gpus => honoured("gpus of the job, of any type or of one, which no other job has"),
        Kind::GpusPerNode => honoured("gpus of each node"),
        Kind::GpusPerTask => honoured("gpus of each task"),
        Kind::Gres => honoured("gpus; others of the names that workers offer, else told not to be counted"),
        Kind::Help => honoured("shows this"),
        Kind::Hint => honoured("nomultithread, compute_bound: bound to cpus of different cores"),
        Kind::Hold => honoured("waits until it is released"),
        Kind::IgnorePbs => honoured("#PBS lines are comments"),
        Kind::Immediate => warned("the job waits as any other"),
        Kind::Input => honoured("file for standard input, which else is empty"),
        Kind::JobId => recorded("the scheduler numbers jobs"),
        Kind::JobName => honoured("the job's name; else that of the script"),
        Kind::KillOnInvalidDependency => honoured("yes: cancelled once its dependency cannot be met"),
        Kind::Mem => honoured("memory of the job, which it must not exceed; 0 is no bound"),
        Kind::MemPerCpu => honoured("memory for each of its cpus"),
        Kind::MemPerGpu => honoured("memory for each of its gpus"),
        Kind::Nice => honoured("lets others go first"),
        Kind::NoRequeue => honoured("a job whose worker is lost fails"),
        Kind::Nodelist => honoured("on as many of these as it has nodes, or on all and others; else it waits"),
        Kind::Nodes => honoured("so many workers at a time, of a range the least; one for each element"),
        Kind::Ntasks => honoured("tasks that srun starts"),
        Kind::NtasksPerGpu => warned("ask for --ntasks"),
        Kind::NtasksPerNode => honoured("tasks that srun starts on each node"),
        Kind::OpenMode => honoured("append to output files, or truncate them"),
        Kind::Output => honoured("file for standard output; its directory is made"),
        Kind::Overcommit => recorded("kept with the job"),
        Kind::Distribution => recorded("kept with the job; its steps are asked themselves"),
        Kind::Parsable => honoured("prints the number alone; ;CLUSTER behind it if one was named"),
        Kind::Partition => recorded("there is one; the name is shown and passed on"),
        Kind::Priority => honoured("goes before jobs with a lower number; TOP before all"),
        Kind::Quiet => honoured("says nothing but errors"),
        Kind::Recorded => recorded("kept with the job"),
        Kind::Requeue => honoured("a job whose worker is lost runs again, as it does anyway"),
        Kind::Signal => honoured("signal before the time is over: B: the shell, else its steps"),
        Kind::TestOnly => honoured("checks, asks a running cluster who could hold it, submits nothing"),
        Kind::Time => honoured("limit: SIGTERM then, SIGKILL 30 s later; none if it is not said"),
        Kind::Usage => honoured("shows one line"),
        Kind::Verbose => recorded("there is no more to say"),
        Kind::Version => honoured("shows the version of phalanx"),
        Kind::Wait => honoured("waits for the job's end and exits with its code"),
        Kind::Wrap => honoured("this command is the script"),
        // options of steps, which jobs do not have
        Kind::Bcast | Kind::CpuBind | Kind::Exact | Kind::KillOnBadExit | Kind::Label | Kind::Mpi | Kind::MultiProg
        | Kind::Overlap | Kind::Pty | Kind::Relative | Kind::StepWait | Kind::Unbuffered | Kind::Whole => of_step(kind),
    }
}

/// Of an option of a step, inside a job; outside one, srun submits a job with the options of sbatch.
#[rustfmt::skip] // a table: one kind of option a line
fn of_step(kind: Kind) -> Meaning {
    match kind {
        Kind::Bcast => recorded("ranks run on the node that has the program"),
        Kind::Chdir => honoured("working directory of the ranks"),
        Kind::CpuBind => honoured("binds ranks to cpus of a pinned job; in any job to those that it names"),
        Kind::CpusPerTask => honoured("cpus of each rank: makes the step --exact, which those of the job do not"),
        Kind::Error => honoured("file for standard error, by rank or for all"),
        Kind::Exact => honoured("the step has the cpus that its ranks need, and waits until so many are free"),
        Kind::Exclusive => honoured("--exact"),
        Kind::Immediate => honoured("the step does not wait for cpus, or so many seconds at the most"),
        Kind::Overcommit => honoured("more ranks than the job has cpus need no warning"),
        Kind::Overlap => honoured("the step shares the job's cpus with others, and waits for none"),
        Kind::Quiet => honoured("does not say that it waits"),
        Kind::Whole => honoured("the step has all cpus of the job, whatever says --exact"),
        Kind::Export => honoured("variables that the ranks get besides"),
        Kind::Gpus => honoured("gpus that it has to itself and waits for, on all its nodes together"),
        Kind::GpusPerNode => honoured("the same on each of its nodes"),
        Kind::GpusPerTask => honoured("gpus of each rank, which sees no others; also what the job has said"),
        Kind::Gres => honoured("gpu is --gpus-per-node, none shows no gpus; others change nothing"),
        Kind::Help => honoured("shows this"),
        Kind::Input => honoured("file for standard input, none, or the only rank that gets what srun reads"),
        Kind::KillOnBadExit => honoured("one failed rank ends the step"),
        Kind::Label => honoured("puts its rank before each line"),
        Kind::Mpi => recorded("ranks find PMI, whatever it says"),
        Kind::MultiProg => honoured("its argument is a file that names the program of each rank"),
        Kind::Ntasks => honoured("number of ranks; else that of the job"),
        Kind::NtasksPerNode => honoured("so many on each node, or at most so many if their number is said"),
        Kind::Nodes => honoured("nodes of the job that it is on, at least; else as many as it has ranks"),
        Kind::Nodelist => honoured("the nodes of the job that it may be on"),
        Kind::Exclude => honoured("nodes of the job that it may not be on"),
        Kind::Relative => honoured("it is on nodes of the job from that one on, the first of which is 0"),
        Kind::Distribution => honoured("block: rank after rank on the same node; cyclic: on node after node"),
        Kind::OpenMode => honoured("append to output files, or truncate them"),
        Kind::Output => honoured("file for standard output; %t makes one for each rank"),
        Kind::Unbuffered => honoured("nothing is buffered"),
        Kind::Usage => honoured("shows one line"),
        Kind::Version => honoured("shows the version of phalanx"),
        Kind::Array | Kind::Begin | Kind::CpusPerGpu | Kind::Dependency | Kind::ExportFile | Kind::Hint
        | Kind::Hold | Kind::IgnorePbs | Kind::JobId
        | Kind::JobName | Kind::KillOnInvalidDependency | Kind::Mem | Kind::MemPerCpu | Kind::MemPerGpu | Kind::Nice
        | Kind::NoRequeue | Kind::NtasksPerGpu | Kind::Parsable | Kind::Partition
        | Kind::Priority | Kind::Pty | Kind::Recorded | Kind::Requeue | Kind::Signal
        | Kind::StepWait | Kind::TestOnly | Kind::Time | Kind::Verbose | Kind::Wait | Kind::Wrap => {
            recorded("a step changes nothing by it; outside a job it is the job's")
        }
    }
}
