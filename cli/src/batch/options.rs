//! The options of `sbatch`, `srun` and `salloc`: their names, whether they take a value, what they mean here.
//!
//! This is the only list of them. An option that has no meaning on machines without accounts, partitions' rules or mail is
//! [`OptionKind::Recorded`]: accepted, kept, shown. Those that are not in the list are unknown.

use Argument::{Flag, Optional, Required};
use OptionKind as Kind;

/// A command of Slurm that takes job options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Sbatch,
    Srun,
    Salloc,
}

impl Command {
    fn bit(self) -> u8 {
        match self {
            Self::Sbatch => BATCH,
            Self::Srun => RUN,
            Self::Salloc => ALLOC,
        }
    }
}

const BATCH: u8 = 1;
const RUN: u8 = 2;
const ALLOC: u8 = 4;
const ALL: u8 = BATCH | RUN | ALLOC;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Flag,
    Required,
    /// Only one that is attached to it: `--nice=5`.
    Optional,
}

/// What an option means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionKind {
    Array,
    Bcast,
    Begin,
    Chdir,
    CpuBind,
    CpusPerGpu,
    CpusPerTask,
    Dependency,
    Error,
    Distribution,
    Exact,
    Exclude,
    Exclusive,
    Export,
    ExportFile,
    Gpus,
    GpusPerNode,
    GpusPerTask,
    Gres,
    Help,
    Hint,
    Hold,
    IgnorePbs,
    Immediate,
    Input,
    JobId,
    JobName,
    KillOnBadExit,
    KillOnInvalidDependency,
    Label,
    Mem,
    MemPerCpu,
    MemPerGpu,
    Mpi,
    MultiProg,
    Nice,
    NoRequeue,
    Nodelist,
    Nodes,
    Ntasks,
    NtasksPerGpu,
    NtasksPerNode,
    OpenMode,
    Output,
    Overcommit,
    Overlap,
    Parsable,
    Partition,
    Priority,
    Pty,
    Quiet,
    /// Accepted and kept; it changes nothing.
    Recorded,
    Relative,
    Requeue,
    Signal,
    StepWait,
    TestOnly,
    Time,
    Unbuffered,
    Usage,
    Verbose,
    Version,
    Wait,
    Whole,
    Wrap,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) argument: Argument,
    pub(crate) kind: OptionKind,
    commands: u8,
}

const fn both(
    short: char,
    long: &'static str,
    argument: Argument,
    kind: OptionKind,
    commands: u8,
) -> OptionSpec {
    OptionSpec {
        long,
        short: Some(short),
        argument,
        kind,
        commands,
    }
}

const fn long(long: &'static str, argument: Argument, kind: OptionKind, commands: u8) -> OptionSpec {
    OptionSpec {
        long,
        short: None,
        argument,
        kind,
        commands,
    }
}

/// An option that is accepted and kept.
const fn kept(long: &'static str, argument: Argument, commands: u8) -> OptionSpec {
    self::long(long, argument, Kind::Recorded, commands)
}

/// All options. One name may have several entries, for different commands.
static OPTIONS: &[OptionSpec] = &[
    both('A', "account", Required, Kind::Recorded, ALL),
    both('a', "array", Required, Kind::Array, BATCH),
    both('B', "extra-node-info", Required, Kind::Recorded, ALL),
    both('b', "begin", Required, Kind::Begin, ALL),
    both('C', "constraint", Required, Kind::Recorded, ALL),
    both('c', "cpus-per-task", Required, Kind::CpusPerTask, ALL),
    both('D', "chdir", Required, Kind::Chdir, ALL),
    both('d', "dependency", Required, Kind::Dependency, ALL),
    both('E', "preserve-env", Flag, Kind::Recorded, RUN),
    both('e', "error", Required, Kind::Error, BATCH | RUN),
    both('F', "nodefile", Required, Kind::Recorded, ALL),
    both('G', "gpus", Required, Kind::Gpus, ALL),
    both('H', "hold", Flag, Kind::Hold, ALL),
    both('h', "help", Flag, Kind::Help, ALL),
    both('I', "immediate", Optional, Kind::Immediate, RUN | ALLOC),
    both('i', "input", Required, Kind::Input, BATCH | RUN),
    both('J', "job-name", Required, Kind::JobName, ALL),
    both('K', "kill-command", Optional, Kind::Recorded, ALLOC),
    both('K', "kill-on-bad-exit", Optional, Kind::KillOnBadExit, RUN),
    both('k', "no-kill", Optional, Kind::Recorded, ALL),
    both('L', "licenses", Required, Kind::Recorded, ALL),
    both('l', "label", Flag, Kind::Label, RUN),
    both('M', "clusters", Required, Kind::Recorded, ALL),
    both('m', "distribution", Required, Kind::Distribution, ALL),
    both('N', "nodes", Required, Kind::Nodes, ALL),
    both('n', "ntasks", Required, Kind::Ntasks, ALL),
    both('O', "overcommit", Flag, Kind::Overcommit, ALL),
    both('o', "output", Required, Kind::Output, BATCH | RUN),
    both('p', "partition", Required, Kind::Partition, ALL),
    both('Q', "quiet", Flag, Kind::Quiet, ALL),
    both('q', "qos", Required, Kind::Recorded, ALL),
    both('r', "relative", Required, Kind::Relative, RUN),
    both('S', "core-spec", Required, Kind::Recorded, ALL),
    both('s', "oversubscribe", Flag, Kind::Recorded, ALL),
    both('T', "threads", Required, Kind::Recorded, RUN),
    both('t', "time", Required, Kind::Time, ALL),
    both('u', "unbuffered", Flag, Kind::Unbuffered, RUN),
    both('V', "version", Flag, Kind::Version, ALL),
    both('v', "verbose", Flag, Kind::Verbose, ALL),
    both('W', "wait", Flag, Kind::Wait, BATCH),
    both('W', "wait", Required, Kind::StepWait, RUN),
    both('w', "nodelist", Required, Kind::Nodelist, ALL),
    both('X', "disable-status", Flag, Kind::Recorded, RUN),
    both('x', "exclude", Required, Kind::Exclude, ALL),
    both('Z', "no-allocate", Flag, Kind::Recorded, RUN),
    long("bcast", Optional, Kind::Bcast, RUN),
    long("cpu-bind", Required, Kind::CpuBind, RUN),
    long("cpu_bind", Required, Kind::CpuBind, RUN),
    long("cpus-per-gpu", Required, Kind::CpusPerGpu, ALL),
    long("exact", Flag, Kind::Exact, RUN),
    long("exclusive", Optional, Kind::Exclusive, ALL),
    long("export", Required, Kind::Export, BATCH | RUN),
    long("export-file", Required, Kind::ExportFile, BATCH),
    long("gpus-per-node", Required, Kind::GpusPerNode, ALL),
    long("gpus-per-task", Required, Kind::GpusPerTask, ALL),
    long("gres", Required, Kind::Gres, ALL),
    long("ignore-pbs", Flag, Kind::IgnorePbs, BATCH),
    long("jobid", Required, Kind::JobId, BATCH | RUN),
    long(
        "kill-on-invalid-dep",
        Required,
        Kind::KillOnInvalidDependency,
        BATCH,
    ),
    long("mem", Required, Kind::Mem, ALL),
    long("mem-per-cpu", Required, Kind::MemPerCpu, ALL),
    long("mem-per-gpu", Required, Kind::MemPerGpu, ALL),
    long("mpi", Required, Kind::Mpi, RUN),
    long("multi-prog", Flag, Kind::MultiProg, RUN),
    long("nice", Optional, Kind::Nice, ALL),
    long("no-requeue", Flag, Kind::NoRequeue, BATCH),
    long("ntasks-per-gpu", Required, Kind::NtasksPerGpu, ALL),
    long("ntasks-per-node", Required, Kind::NtasksPerNode, ALL),
    long("open-mode", Required, Kind::OpenMode, BATCH | RUN),
    long("overlap", Flag, Kind::Overlap, RUN),
    long("parsable", Flag, Kind::Parsable, BATCH),
    long("priority", Required, Kind::Priority, ALL),
    long("pty", Optional, Kind::Pty, RUN),
    long("requeue", Flag, Kind::Requeue, BATCH),
    long("signal", Required, Kind::Signal, ALL),
    long("tasks-per-node", Required, Kind::NtasksPerNode, ALL),
    long("test-only", Flag, Kind::TestOnly, BATCH | RUN),
    long("usage", Flag, Kind::Usage, ALL),
    long("whole", Flag, Kind::Whole, RUN),
    long("workdir", Required, Kind::Chdir, BATCH),
    long("wrap", Required, Kind::Wrap, BATCH),
    kept("accel-bind", Required, RUN),
    kept("acctg-freq", Required, ALL),
    kept("batch", Required, BATCH),
    kept("bb", Required, ALL),
    kept("bbf", Required, ALL),
    kept("bcast-exclude", Required, RUN),
    kept("bell", Flag, ALLOC),
    kept("cluster-constraint", Required, BATCH | RUN),
    kept("comment", Required, ALL),
    kept("compress", Optional, RUN),
    kept("consolidate-segments", Flag, ALL),
    kept("container", Required, ALL),
    kept("container-id", Required, ALL),
    kept("contiguous", Flag, ALL),
    kept("cores-per-socket", Required, ALL),
    kept("cpu-freq", Required, ALL),
    kept("deadline", Required, ALL),
    kept("delay-boot", Required, ALL),
    kept("epilog", Required, RUN),
    kept("external-launcher", Flag, RUN),
    kept("extra", Required, ALL),
    kept("get-user-env", Optional, BATCH | ALLOC),
    kept("gid", Required, ALL),
    kept("gpu-bind", Required, ALL),
    kept("gpu-freq", Required, ALL),
    kept("gpus-per-socket", Required, ALL),
    kept("gres-flags", Required, ALL),
    kept("het-group", Required, RUN),
    long("hint", Required, Kind::Hint, ALL),
    kept("interactive", Flag, RUN),
    kept("mail-type", Required, ALL),
    kept("mail-user", Required, ALL),
    kept("mcs-label", Required, ALL),
    kept("mem-bind", Required, ALL),
    kept("mem_bind", Required, ALL),
    kept("mincpus", Required, ALL),
    kept("msg-timeout", Required, RUN),
    kept("network", Required, ALL),
    kept("no-bell", Flag, ALLOC),
    kept("no-shell", Flag, ALLOC),
    kept("ntasks-per-core", Required, ALL),
    kept("ntasks-per-socket", Required, ALL),
    kept("oom-kill-step", Optional, ALL),
    kept("power", Required, ALL),
    kept("prefer", Required, ALL),
    kept("profile", Required, ALL),
    kept("prolog", Required, RUN),
    kept("propagate", Optional, BATCH | RUN),
    kept("quit-on-interrupt", Flag, RUN),
    kept("reboot", Flag, ALL),
    kept("reservation", Required, ALL),
    kept("resv-ports", Optional, RUN),
    kept("segment", Required, ALL),
    kept("send-libs", Optional, RUN),
    kept("share", Flag, ALL),
    kept("slurmd-debug", Required, RUN),
    kept("sockets-per-node", Required, ALL),
    kept("spread-job", Flag, ALL),
    kept("stepmgr", Flag, ALL),
    kept("switches", Required, ALL),
    kept("task-epilog", Required, RUN),
    kept("task-prolog", Required, RUN),
    kept("thread-spec", Required, ALL),
    kept("threads-per-core", Required, ALL),
    kept("time-min", Required, ALL),
    kept("tmp", Required, ALL),
    kept("treewidth", Required, RUN),
    kept("tres-bind", Required, ALL),
    kept("tres-per-task", Required, ALL),
    kept("uid", Required, ALL),
    kept("umask", Required, BATCH),
    kept("use-min-nodes", Flag, ALL),
    kept("wait-all-nodes", Required, BATCH | ALLOC),
    kept("wckey", Required, ALL),
    kept("x11", Optional, ALL),
];

/// The options of one command, in the order of the list.
pub(crate) fn of_command(command: Command) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS
        .iter()
        .filter(move |spec| spec.commands & command.bit() != 0)
}

/// The option of a command with exactly this long name.
pub(crate) fn by_long(command: Command, name: &str) -> Option<&'static OptionSpec> {
    of_command(command).find(|spec| spec.long == name)
}

/// The option of a command with this letter.
pub(crate) fn by_short(command: Command, letter: char) -> Option<&'static OptionSpec> {
    of_command(command).find(|spec| spec.short == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const COMMANDS: [Command; 3] = [Command::Sbatch, Command::Srun, Command::Salloc];

    #[test]
    fn no_command_has_a_name_or_a_letter_twice() {
        for command in COMMANDS {
            let mut names = BTreeSet::new();
            let mut letters = BTreeSet::new();
            for spec in of_command(command) {
                assert!(names.insert(spec.long), "{command:?} --{}", spec.long);
                if let Some(letter) = spec.short {
                    assert!(letters.insert(letter), "{command:?} -{letter}");
                }
            }
        }
    }

    #[test]
    fn all_that_real_scripts_say_is_known() {
        for (letter, name) in [
            (Some('t'), "time"),
            (Some('J'), "job-name"),
            (Some('p'), "partition"),
            (Some('N'), "nodes"),
            (Some('c'), "cpus-per-task"),
            (Some('o'), "output"),
            (Some('A'), "account"),
            (Some('e'), "error"),
            (None, "ntasks-per-node"),
            (Some('n'), "ntasks"),
            (None, "gres"),
            (None, "mem"),
            (None, "hint"),
            (None, "mem-per-cpu"),
            (Some('C'), "constraint"),
            (Some('q'), "qos"),
            (Some('a'), "array"),
            (None, "mail-type"),
            (None, "mail-user"),
            (None, "reservation"),
            (None, "gpus-per-node"),
            (Some('G'), "gpus"),
            (None, "open-mode"),
            (Some('d'), "dependency"),
            (Some('x'), "exclude"),
            (None, "signal"),
            (Some('L'), "licenses"),
            (None, "comment"),
        ] {
            let spec = by_long(Command::Sbatch, name).unwrap();
            assert_eq!((spec.short, spec.argument), (letter, Required), "{name}");
        }
        assert_eq!(by_long(Command::Sbatch, "exclusive").unwrap().argument, Optional);
    }

    #[test]
    fn what_srun_is_told_inside_scripts_is_known() {
        for (letter, kind) in [
            ('n', Kind::Ntasks),
            ('N', Kind::Nodes),
            ('c', Kind::CpusPerTask),
            ('K', Kind::KillOnBadExit),
            ('l', Kind::Label),
            ('u', Kind::Unbuffered),
            ('W', Kind::StepWait),
        ] {
            assert_eq!(by_short(Command::Srun, letter).unwrap().kind, kind, "-{letter}");
        }
        for name in [
            "ntasks-per-node",
            "mpi",
            "exact",
            "overlap",
            "cpu-bind",
            "multi-prog",
            "output",
        ] {
            assert_ne!(
                by_long(Command::Srun, name).unwrap().kind,
                Kind::Recorded,
                "--{name}"
            );
        }
    }

    #[test]
    fn one_letter_may_mean_different_things_to_different_commands() {
        let kind = |command| by_short(command, 'W').map(|spec| spec.kind);
        assert_eq!(COMMANDS.map(kind), [Some(Kind::Wait), Some(Kind::StepWait), None]);
    }

    #[test]
    fn what_has_no_meaning_here_is_kept() {
        for name in [
            "account",
            "qos",
            "mail-type",
            "mail-user",
            "reservation",
            "licenses",
            "comment",
            "constraint",
        ] {
            let spec = by_long(Command::Sbatch, name).unwrap();
            assert_eq!(spec.kind, Kind::Recorded, "{name}");
        }
    }
}
