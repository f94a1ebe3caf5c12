//! Variables that stand for options: `SBATCH_TIMELIMIT=5`. The environment is given as pairs, it is not read here.

use std::collections::BTreeMap;

use super::getopt::Given;
use super::options::{Argument, Command, by_long};
use super::values::yes_no;

/// An option that a variable stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromEnvironment {
    pub(crate) variable: &'static str,
    pub(crate) given: Given,
}

/// Variables of `sbatch`, and the options that they stand for.
const SBATCH: &[(&str, &str)] = &[
    ("SBATCH_ACCOUNT", "account"),
    ("SBATCH_ACCTG_FREQ", "acctg-freq"),
    ("SBATCH_ARRAY_INX", "array"),
    ("SBATCH_BATCH", "batch"),
    ("SBATCH_CLUSTERS", "clusters"),
    ("SLURM_CLUSTERS", "clusters"),
    ("SBATCH_CONSTRAINT", "constraint"),
    ("SBATCH_CONTAINER", "container"),
    ("SBATCH_CORE_SPEC", "core-spec"),
    ("SBATCH_CPUS_PER_GPU", "cpus-per-gpu"),
    ("SBATCH_DELAY_BOOT", "delay-boot"),
    ("SBATCH_DISTRIBUTION", "distribution"),
    ("SBATCH_ERROR", "error"),
    ("SBATCH_EXCLUSIVE", "exclusive"),
    ("SBATCH_EXPORT", "export"),
    ("SBATCH_GET_USER_ENV", "get-user-env"),
    ("SBATCH_GPUS", "gpus"),
    ("SBATCH_GPUS_PER_NODE", "gpus-per-node"),
    ("SBATCH_GPUS_PER_TASK", "gpus-per-task"),
    ("SBATCH_GPU_BIND", "gpu-bind"),
    ("SBATCH_GPU_FREQ", "gpu-freq"),
    ("SBATCH_GRES", "gres"),
    ("SBATCH_GRES_FLAGS", "gres-flags"),
    ("SBATCH_HINT", "hint"),
    ("SLURM_HINT", "hint"),
    ("SBATCH_IGNORE_PBS", "ignore-pbs"),
    ("SBATCH_INPUT", "input"),
    ("SBATCH_JOB_NAME", "job-name"),
    ("SBATCH_MEM_BIND", "mem-bind"),
    ("SBATCH_MEM_PER_CPU", "mem-per-cpu"),
    ("SBATCH_MEM_PER_GPU", "mem-per-gpu"),
    ("SBATCH_MEM_PER_NODE", "mem"),
    ("SBATCH_NETWORK", "network"),
    ("SBATCH_NO_KILL", "no-kill"),
    ("SBATCH_NO_REQUEUE", "no-requeue"),
    ("SBATCH_OPEN_MODE", "open-mode"),
    ("SBATCH_OUTPUT", "output"),
    ("SBATCH_OVERCOMMIT", "overcommit"),
    ("SBATCH_PARTITION", "partition"),
    ("SBATCH_POWER", "power"),
    ("SBATCH_PROFILE", "profile"),
    ("SBATCH_QOS", "qos"),
    ("SBATCH_REQUEUE", "requeue"),
    ("SBATCH_REQ_SWITCH", "switches"),
    ("SBATCH_RESERVATION", "reservation"),
    ("SBATCH_SIGNAL", "signal"),
    ("SBATCH_SPREAD_JOB", "spread-job"),
    ("SBATCH_THREAD_SPEC", "thread-spec"),
    ("SBATCH_THREADS_PER_CORE", "threads-per-core"),
    ("SBATCH_TIMELIMIT", "time"),
    ("SBATCH_TRES_BIND", "tres-bind"),
    ("SBATCH_USE_MIN_NODES", "use-min-nodes"),
    ("SBATCH_WAIT", "wait"),
    ("SBATCH_WAIT_ALL_NODES", "wait-all-nodes"),
    ("SBATCH_WCKEY", "wckey"),
];

/// Variables of `salloc`.
const SALLOC: &[(&str, &str)] = &[
    ("SALLOC_ACCOUNT", "account"),
    ("SALLOC_CONSTRAINT", "constraint"),
    ("SALLOC_EXCLUSIVE", "exclusive"),
    ("SALLOC_GPUS", "gpus"),
    ("SALLOC_GPUS_PER_NODE", "gpus-per-node"),
    ("SALLOC_GPUS_PER_TASK", "gpus-per-task"),
    ("SALLOC_GRES", "gres"),
    ("SALLOC_IMMEDIATE", "immediate"),
    ("SALLOC_MEM_PER_CPU", "mem-per-cpu"),
    ("SALLOC_MEM_PER_GPU", "mem-per-gpu"),
    ("SALLOC_MEM_PER_NODE", "mem"),
    ("SALLOC_PARTITION", "partition"),
    ("SALLOC_QOS", "qos"),
    ("SALLOC_RESERVATION", "reservation"),
    ("SALLOC_SIGNAL", "signal"),
    ("SALLOC_TIMELIMIT", "time"),
    ("SALLOC_WCKEY", "wckey"),
];

/// Variables of `srun`: what the job that it runs in got, and what somebody set for it.
const SRUN: &[(&str, &str)] = &[
    ("SLURM_ACCOUNT", "account"),
    ("SLURM_BCAST", "bcast"),
    ("SLURM_CONSTRAINT", "constraint"),
    ("SLURM_CPU_BIND", "cpu-bind"),
    ("SLURM_CPUS_PER_TASK", "cpus-per-task"),
    ("SRUN_CPUS_PER_TASK", "cpus-per-task"),
    ("SLURM_DISTRIBUTION", "distribution"),
    ("SLURM_EXACT", "exact"),
    ("SLURM_EXCLUSIVE", "exclusive"),
    ("SRUN_EXPORT_ENV", "export"),
    ("SLURM_EXPORT_ENV", "export"),
    ("SLURM_GPUS", "gpus"),
    ("SLURM_GPUS_PER_NODE", "gpus-per-node"),
    ("SLURM_GPUS_PER_TASK", "gpus-per-task"),
    ("SLURM_GRES", "gres"),
    ("SLURM_HINT", "hint"),
    ("SLURM_IMMEDIATE", "immediate"),
    ("SLURM_JOB_ID", "jobid"),
    ("SLURM_JOB_NAME", "job-name"),
    ("SLURM_JOB_NUM_NODES", "nodes"),
    ("SLURM_KILL_BAD_EXIT", "kill-on-bad-exit"),
    ("SLURM_LABELIO", "label"),
    ("SLURM_MPI_TYPE", "mpi"),
    ("SLURM_NTASKS", "ntasks"),
    ("SLURM_NTASKS_PER_NODE", "ntasks-per-node"),
    ("SLURM_OPEN_MODE", "open-mode"),
    ("SLURM_OVERCOMMIT", "overcommit"),
    ("SLURM_OVERLAP", "overlap"),
    ("SLURM_PARTITION", "partition"),
    ("SLURM_QOS", "qos"),
    ("SLURM_SIGNAL", "signal"),
    ("SLURM_STDERRMODE", "error"),
    ("SLURM_STDINMODE", "input"),
    ("SLURM_STDOUTMODE", "output"),
    ("SLURM_TIMELIMIT", "time"),
    ("SLURM_UNBUFFEREDIO", "unbuffered"),
    ("SLURM_WAIT", "wait"),
    ("SLURM_WORKING_DIR", "chdir"),
];

/// The variables of a command with the long names of the options that they stand for.
pub(crate) fn variables(command: Command) -> &'static [(&'static str, &'static str)] {
    match command {
        Command::Sbatch => SBATCH,
        Command::Srun => SRUN,
        Command::Salloc => SALLOC,
    }
}

/// The options that variables stand for, in the order of the tables: of two variables for one option, the later wins.
/// Variables that no table has are none of ours. A flag is given unless its variable says no.
pub(crate) fn options<I>(command: Command, variables: I) -> Vec<FromEnvironment>
where
    I: IntoIterator<Item = (String, String)>,
{
    let table = self::variables(command);
    let variables: BTreeMap<String, String> = variables
        .into_iter()
        .filter(|(name, _)| table.iter().any(|(variable, _)| variable == name))
        .collect();
    let found = |&(variable, long): &(&'static str, &str)| {
        let value = variables.get(variable)?;
        let spec = by_long(command, long)?;
        let value = match spec.argument {
            Argument::Flag if yes_no(value) == Ok(false) => return None,
            Argument::Flag => None,
            Argument::Optional => Some(value.clone()).filter(|value| !value.is_empty()),
            // an empty one says nothing
            Argument::Required if value.is_empty() => return None,
            Argument::Required => Some(value.clone()),
        };
        Some(FromEnvironment {
            variable,
            given: Given { spec, value },
        })
    };
    table.iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(command: Command, variables: &[(&str, &str)]) -> Vec<String> {
        let pairs = variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let text = |found: FromEnvironment| match found.given.value {
            Some(value) => format!("{}={value}", found.given.spec.long),
            None => found.given.spec.long.to_owned(),
        };
        options(command, pairs).into_iter().map(text).collect()
    }

    #[test]
    fn every_variable_stands_for_an_option_of_its_command() {
        for (command, table) in [
            (Command::Sbatch, SBATCH),
            (Command::Salloc, SALLOC),
            (Command::Srun, SRUN),
        ] {
            for (variable, long) in table {
                assert!(by_long(command, long).is_some(), "{variable}");
            }
        }
    }

    #[test]
    fn variables_stand_for_options() {
        for (variable, value, option) in [
            ("SBATCH_ACCOUNT", "lab", "account=lab"),
            ("SBATCH_PARTITION", "gpu", "partition=gpu"),
            ("SBATCH_TIMELIMIT", "1:00:00", "time=1:00:00"),
            ("SBATCH_ARRAY_INX", "0-9", "array=0-9"),
            ("SBATCH_JOB_NAME", "x", "job-name=x"),
            ("SBATCH_OPEN_MODE", "append", "open-mode=append"),
            ("SBATCH_EXPORT", "NONE", "export=NONE"),
            ("SBATCH_REQUEUE", "", "requeue"),
            ("SBATCH_NO_REQUEUE", "1", "no-requeue"),
            ("SBATCH_EXCLUSIVE", "user", "exclusive=user"),
            ("SBATCH_EXCLUSIVE", "", "exclusive"),
            ("SBATCH_MEM_PER_NODE", "4G", "mem=4G"),
        ] {
            assert_eq!(
                told(Command::Sbatch, &[(variable, value)]),
                [option],
                "{variable}={value}"
            );
        }
    }

    #[test]
    fn what_says_no_or_nothing_is_not_given() {
        for (variable, value) in [
            ("SBATCH_WAIT", "no"),
            ("SBATCH_REQUEUE", "0"),
            ("SBATCH_PARTITION", ""),
            ("SBATCH_NEW_THING", "1"),
            ("SALLOC_PARTITION", "x"),
            ("PATH", "/bin"),
        ] {
            assert!(
                told(Command::Sbatch, &[(variable, value)]).is_empty(),
                "{variable}={value}"
            );
        }
    }

    #[test]
    fn the_order_of_the_environment_does_not_matter() {
        let pairs = [
            ("SBATCH_TIMELIMIT", "5"),
            ("SBATCH_NO_REQUEUE", ""),
            ("SBATCH_ACCOUNT", "a"),
        ];
        let backwards = [pairs[2], pairs[1], pairs[0]];
        let expected = ["account=a", "no-requeue", "time=5"];
        assert_eq!(told(Command::Sbatch, &pairs), expected);
        assert_eq!(told(Command::Sbatch, &backwards), expected);
    }

    #[test]
    fn srun_reads_what_the_job_got() {
        let variables = [
            ("SLURM_NTASKS", "8"),
            ("SLURM_JOB_ID", "42"),
            ("SLURM_CPUS_PER_TASK", "2"),
        ];
        assert_eq!(
            told(Command::Srun, &variables),
            ["cpus-per-task=2", "jobid=42", "ntasks=8"]
        );
    }
}
