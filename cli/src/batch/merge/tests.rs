//! Whole scripts with an environment and a command line, and what is said about them.

use std::time::Duration;

use super::super::dependency::Join;
use super::super::directives::read_directives;
use super::super::environment;
use super::super::time::TimeLimit;
use super::super::values::{Exclusive, Gres, NodeCount, OpenMode, SignalTo};
use super::*;

fn try_merge(script: &str, variables: &[(&str, &str)], line: &str) -> Result<Merged, SettingError> {
    let script = read_directives(script.as_bytes()).unwrap();
    let pairs = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let environment = environment::options(Command::Sbatch, pairs);
    let words: Vec<&str> = line.split_whitespace().collect();
    let parsed = getopt::parse(Command::Sbatch, &words, OnUnknown::Refuse).unwrap();
    merge(Command::Sbatch, &script, &environment, &parsed.given)
}

fn merged(script: &str, variables: &[(&str, &str)], line: &str) -> BatchSettings {
    try_merge(script, variables, line).unwrap().settings
}

fn line(line: &str) -> BatchSettings {
    merged("#!/bin/bash\n", &[], line)
}

fn gpu(kind: Option<&str>, count: u64) -> Gres {
    Gres {
        name: "gpu".to_owned(),
        kind: kind.map(str::to_owned),
        count,
    }
}

fn minutes(minutes: u64) -> Option<TimeLimit> {
    Some(TimeLimit::Limited(Duration::from_secs(60 * minutes)))
}

const SCRIPT: &str = "\
#!/bin/bash -l
#SBATCH --job-name=water      # the name
#SBATCH -o logs/%x-%j.out
#SBATCH -e logs/%x-%j.err
#SBATCH -N 2 --ntasks-per-node=4
#SBATCH -c 8
#SBATCH --time=1-12:00:00
#SBATCH --mem 16G
#SBATCH --gres=gpu:a100:2,nvme:100
#SBATCH --partition=gpu --account=lab
#SBATCH --mail-type=END --mail-user=a@b.example
#SBATCH --array=0-99%10
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --hint=nomultithread

srun ./water
";

#[test]
fn a_script_says_what_it_wants() {
    let Merged { settings, warnings } = try_merge(SCRIPT, &[], "").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(settings.job_name.as_deref(), Some("water"));
    assert_eq!(settings.output.as_deref(), Some("logs/%x-%j.out"));
    assert_eq!(settings.error.as_deref(), Some("logs/%x-%j.err"));
    assert_eq!(settings.nodes, Some(NodeCount { least: 2, most: 2 }));
    assert_eq!(
        (settings.ntasks_per_node, settings.cpus_per_task),
        (Some(4), Some(8))
    );
    assert_eq!(settings.time_limit, minutes(36 * 60));
    assert_eq!(settings.memory, Some(Memory::PerNode(16 << 30)));
    assert_eq!(settings.gpus_per_node, [gpu(Some("a100"), 2)]);
    assert_eq!(settings.gres.len(), 1);
    assert_eq!(settings.partition.as_deref(), Some("gpu"));
    let array = settings.array.as_ref().unwrap();
    assert_eq!((array.count(), array.limit), (100, Some(10)));
    let signal = settings.signal.unwrap();
    assert_eq!((signal.number, signal.to), (10, SignalTo::BatchShell));
    assert_eq!(settings.open_mode, Some(OpenMode::Append));
    for (name, value) in [
        ("account", "lab"),
        ("mail-type", "END"),
        ("mail-user", "a@b.example"),
        ("hint", "nomultithread"),
    ] {
        assert_eq!(settings.recorded(name), Some(value));
    }
    assert_eq!(settings.recorded("qos"), None);
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_script() {
    let script = "#!/bin/sh\n#SBATCH -t 1 -J script -p script -A script\n";
    let variables = [
        ("SBATCH_TIMELIMIT", "2"),
        ("SBATCH_JOB_NAME", "variable"),
        ("SBATCH_ACCOUNT", "variable"),
    ];
    let settings = merged(script, &variables, "-t 3");
    assert_eq!(settings.time_limit, minutes(3));
    assert_eq!(settings.job_name.as_deref(), Some("variable"));
    assert_eq!(settings.partition.as_deref(), Some("script"));
    assert_eq!(settings.recorded, [("account".to_owned(), "variable".to_owned())]);
}

#[test]
fn of_two_lines_the_later_wins() {
    let script =
        "#!/bin/sh\n#SBATCH -t 1 --requeue\n#SBATCH -t 2 --no-requeue\n#PHALANX -t 3\n#SBATCH -t 4\n";
    let settings = merged(script, &[], "");
    assert_eq!(
        settings.time_limit,
        minutes(3),
        "our own directives win over the others'"
    );
    assert_eq!(settings.requeue, Some(false));
}

#[test]
fn options_of_the_command_line_have_their_values() {
    assert_eq!(line("--mem=0").memory, Some(Memory::WholeNode));
    assert_eq!(
        line("--mem-per-cpu=2000").memory,
        Some(Memory::PerCpu(2000 << 20))
    );
    assert_eq!(line("--mem-per-gpu=8G").memory, Some(Memory::PerGpu(8 << 30)));
    assert_eq!(line("-G a100:3").gpus, [gpu(Some("a100"), 3)]);
    assert_eq!(line("--gpus-per-task=1").gpus_per_task, [gpu(None, 1)]);
    assert_eq!(
        line("--gres=gpu:1 --gpus-per-node=4").gpus_per_node,
        [gpu(None, 4)]
    );
    assert_eq!(line("--exclusive").exclusive, Some(Exclusive::Job));
    assert_eq!(line("-w n[1-3] -x n2").nodelist, ["n1", "n2", "n3"]);
    assert_eq!(line("-w n[1-3] -x n2").exclude, ["n2"]);
    assert_eq!(line("-d afterok:1?afterok:2").dependency.unwrap().join, Join::Any);
    assert_eq!(line("--dependency=").dependency, None);
    assert_eq!(
        line("--kill-on-invalid-dep=yes").kill_on_invalid_dependency,
        Some(true)
    );
    assert_eq!(line("--nice --hold").nice, Some(100));
    assert_eq!(
        line("-b now+1hour").begin,
        Some(Begin::In(Duration::from_secs(3600)))
    );
    assert_eq!(line("--version").question, Some(Question::Version));
    assert_eq!(line("--export=NONE").export.map(|export| export.all), Some(false));
    let settings = line("--parsable -W --test-only -Q --wrap=hostname -D /tmp --no-requeue -H");
    assert!(settings.parsable && settings.wait && settings.test_only && settings.quiet && settings.hold);
    assert_eq!(
        (settings.wrap.as_deref(), settings.chdir.as_deref()),
        (Some("hostname"), Some("/tmp"))
    );
}

#[test]
fn what_workflow_engines_pass_is_understood() {
    let nextflow = merged(
        "#!/bin/bash\n#SBATCH -J nf-task\n#SBATCH -o /w/.command.log\n#SBATCH --no-requeue\n\
         #SBATCH --signal B:USR2@30\n#SBATCH -c 4\n#SBATCH -t 01:00:00\n#SBATCH --mem 4096M\n#SBATCH -p short\n\
         #SBATCH --array 0-9\nNXF_CHDIR=/w\n",
        &[],
        "",
    );
    assert_eq!((nextflow.requeue, nextflow.cpus_per_task), (Some(false), Some(4)));
    assert_eq!(nextflow.memory, Some(Memory::PerNode(4 << 30)));
    assert_eq!(nextflow.array.map(|array| array.count()), Some(10));
    let snakemake = line(
        "--parsable --job-name 1b2c --output /l/%j.log --export=ALL --comment rule_all -A lab -p short -t 30 \
         --mem 1000 --nodes=1 --ntasks=1 --cpus-per-task=2 -C intel --qos normal --requeue -D /w --wrap=x",
    );
    assert_eq!(
        (snakemake.requeue, snakemake.cpus_per_task),
        (Some(true), Some(2))
    );
    assert_eq!(snakemake.recorded("comment"), Some("rule_all"));
}

#[test]
fn what_is_not_known_is_one_warning() {
    let script = "#!/bin/sh\n#SBATCH --new=1 -n 4\n#SBATCH --tme 7\n#SBATCH -t 5 minutes\n#SBATCH --new2\n";
    let Merged { settings, warnings } = try_merge(script, &[], "").unwrap();
    assert_eq!((settings.ntasks, settings.time_limit), (Some(4), minutes(5)));
    assert_eq!(
        warnings,
        [
            "line 4 of the script: `minutes` is no option, and what follows on the line is not read; begin options \
             with - or --, and put values with blanks into quotes",
            "the script has options that are not known here and change nothing: --new (line 2), --tme (line 3; did you mean \
             --time?), \
             --new2 (line 5)",
        ]
    );
}

#[test]
fn parts_of_a_heterogeneous_job_are_read_as_one_and_that_is_told() {
    let script = "#!/bin/sh\n#SBATCH -n 1\n#SBATCH hetjob\n#SBATCH -n 2\n";
    let Merged { settings, warnings } = try_merge(script, &[], "").unwrap();
    assert_eq!(settings.ntasks, Some(2));
    assert_eq!(
        warnings,
        [
            "line 3 of the script: `hetjob`: a job of different parts is not there; all options are read as those of one, \
          the later ones in place of the earlier"
        ]
    );
}

#[test]
fn remarks_about_the_script_are_warnings() {
    let warnings = try_merge("echo\n#SBATCH -n 4\n", &[], "").unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "line 1 does not say what runs the script; begin it with #!/bin/bash",
            "line 2 comes after the first command and is not read; move #SBATCH lines to the top",
        ]
    );
}

#[test]
fn an_error_names_the_option_its_value_the_place_and_what_would_be_right() {
    let error = |script: &str, variables: &[(&str, &str)], line: &str| {
        try_merge(script, variables, line).unwrap_err().to_string()
    };
    let bare = "#!/bin/sh\n";
    for (told, expected) in [
        (
            error("#!/bin/sh\n\n#SBATCH --mem=lots\n", &[], ""),
            "line 3 of the script: --mem=lots: memory is a whole number of MiB, or one with a unit K, M, G or T, as in \
             4000 or 16G",
        ),
        (
            error(bare, &[("SBATCH_TIMELIMIT", "soon")], ""),
            "the variable SBATCH_TIMELIMIT: --time=soon: a time is written M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, as in \
             90 (minutes) or 1-12:00:00, or UNLIMITED",
        ),
        (
            error(bare, &[], "-n 0"),
            "the command line: --ntasks=0: this is a whole number from 1 on",
        ),
        (
            error("#!/bin/sh\n#SBATCH --time\n", &[], ""),
            "line 2 of the script: `--time` needs a value",
        ),
        (
            error("#!/bin/sh\n#PBS -l walltime=soon\n", &[], ""),
            "line 2 of the script: -l walltime=soon: a time is written SECONDS, MM:SS or HH:MM:SS",
        ),
        (
            error("#!/bin/sh\n#SBATCH --mem=1G\n#SBATCH --mem-per-cpu=1G\n", &[], ""),
            "line 3 of the script: --mem-per-cpu and --mem (line 2 of the script) exclude each other; keep one of them",
        ),
    ] {
        assert_eq!(told, expected);
    }
}

#[test]
fn memory_may_be_said_otherwise_in_a_later_place() {
    let script = "#!/bin/sh\n#SBATCH --mem=1G\n";
    assert_eq!(
        merged(script, &[], "--mem-per-cpu=2G").memory,
        Some(Memory::PerCpu(2 << 30))
    );
    assert_eq!(
        merged("#!/bin/sh\n#SBATCH --mem=1G --mem=2G\n", &[], "").memory,
        Some(Memory::PerNode(2 << 30))
    );
}

#[test]
fn every_option_can_be_given() {
    use super::super::options::{Argument, of_command};
    for command in [Command::Sbatch, Command::Srun, Command::Salloc] {
        for spec in of_command(command) {
            // a value that each of them takes, if there is one
            let values = ["1", "n1", "yes", "append", "USR1", "afterok:1", "12:00"];
            let taken = |value: &&str| {
                let value = (spec.argument == Argument::Required).then(|| (*value).to_owned());
                let given = Given { spec, value };
                merge(command, &Directives::default(), &[], &[given]).is_ok()
            };
            assert!(values.iter().any(taken), "{command:?} --{}", spec.long);
        }
    }
}

#[test]
fn the_second_dialect_gives_the_same_settings() {
    let script = "#!/bin/bash\n#PBS -N water\n#PBS -l nodes=2:ppn=4,walltime=1:30:00\n#PBS -l mem=8gb\n#PBS -j oe\n\
                  #PBS -t 0-9%2\n#PBS -W depend=afterok:12.server\n#PBS -q long -A lab -V\n";
    let settings = merged(script, &[], "");
    let slurm = "#!/bin/bash\n#SBATCH -J water -N 2 --ntasks-per-node=4 -t 1:30:00 --mem=8G -a 0-9%2 -d afterok:12\n\
                 #SBATCH -p long -A lab --export=ALL\n";
    let mut expected = merged(slurm, &[], "");
    (expected.joined, expected.pbs) = (Some(true), true);
    assert_eq!(settings, expected);
    let ignored = merged(script, &[], "--ignore-pbs");
    assert_eq!((ignored.job_name, ignored.ignore_pbs), (None, true));
}

#[test]
fn slurms_directives_win_over_the_second_dialects() {
    let settings = merged("#!/bin/sh\n#SBATCH -J slurm\n#PBS -N pbs\n", &[], "");
    assert_eq!(settings.job_name.as_deref(), Some("slurm"));
}
