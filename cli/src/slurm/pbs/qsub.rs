//! `qsub`: a batch script with `#PBS` lines becomes a job, as PBS would run it: in the home directory, with the files
//! `name.o42` and `name.e42` where it was submitted.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use phalanx_protocol::command::Dialect;

use super::super::{Complaint, Name, home, say, sbatch, spec};
use super::SERVER;
use crate::batch::directives::{Dialect as Written, Directives, read_directives};
use crate::batch::merge::{Merged, merge};
use crate::batch::options::Command;
use crate::batch::pbs::{self, PbsLine};
use crate::batch::settings::BatchSettings;
use crate::commands::submit::absent::remarks;
use crate::commands::submit::command::CommandDraft;
use crate::process::runtime;
use crate::ui::print_line;

const USAGE: &str = "\
Usage: qsub [OPTIONS...] [SCRIPT [ARGS...]]
       qsub [OPTIONS...] -- PROGRAM [ARGS...]

Submits a batch script, and prints the job's name. Without a script it is read from standard input.

  -N NAME            the job's name
  -l LIST            what it needs: select=1:ncpus=4:mem=8gb, nodes=1:ppn=4, walltime=1:00:00
  -o FILE  -e FILE   where its output goes; -j oe: both into one
  -q NAME            its queue, which is recorded
  -A NAME            its account, which is recorded
  -J 0-9  -t 0-9     an array
  -v NAME=VALUE,..   variables; those of the submission are passed on
  -W depend=afterok:42   what it waits for; -W block=true: waits for its end
  -h                 held until it is released
  -d DIR             its working directory; default: the home directory
  -S SHELL           what runs a script that doesn't say so itself
  -r y|n             whether it runs again if its node is lost";

/// What runs a script that nothing is said about.
const SHELL_DEFAULT: &str = "/bin/sh";

pub(in crate::slurm) fn run(words: &[String]) -> Result<u8, Complaint> {
    if let Some(text) = asked(words) {
        print_line(text)?;
        return Ok(0);
    }
    // what stands behind is a program of its own
    let (words, program) = match words.iter().position(|word| word == "--") {
        Some(at) => (&words[..at], Some(&words[at + 1..])),
        None => (words, None),
    };
    let line = pbs::parse(words).map_err(|error| Complaint::new(error.to_string()))?;
    if let Some(option) = line.unknown.first() {
        return Err(Complaint::new(format!(
            "there is no `{option}`; qsub --help lists what there is"
        )));
    }
    let mut script = match program {
        Some([]) => return Err(Complaint::new("no program is named behind --")),
        Some(program) => wrapped(program),
        None => read(&line.rest)?,
    };
    let mut directives =
        read_directives(&script.content).map_err(|error| Complaint::new(error.to_string()))?;
    directives
        .directives
        .retain(|directive| directive.dialect == Written::Pbs);
    let shell = shell_of(&line, &directives);
    let (settings, warnings) = settings(&line, &directives)?;
    if line.interactive || shell.1 {
        return Err(Complaint::new(
            "-I: a job that one sits in front of is had with salloc, which starts a shell with the same cpus",
        ));
    }
    if directives.interpreter.is_none() {
        script.content = [format!("#!{}\n", shell.0).as_bytes(), &script.content].concat();
    }
    let script = script.without_carriage_returns();
    warnings
        .iter()
        .for_each(|warning| say(Name::Qsub, "warning", warning));
    let (draft, warnings) = draft(settings.clone(), script)?;
    warnings
        .iter()
        .for_each(|warning| say(Name::Qsub, "warning", warning));
    submit(&settings, &draft)
}

/// What is printed if somebody only asks.
fn asked(words: &[String]) -> Option<&'static str> {
    match words.first()?.as_str() {
        "--help" => Some(USAGE),
        "--version" => Some(concat!("pbs_version = phalanx-", env!("CARGO_PKG_VERSION"))),
        _ => None,
    }
}

/// A program with its arguments as a script.
fn wrapped(program: &[String]) -> spec::Script {
    let quoted = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    let words: Vec<String> = program.iter().map(quoted).collect();
    let name = Path::new(&program[0]).file_name();
    spec::Script {
        name: name.map_or_else(|| program[0].clone(), |name| name.to_string_lossy().into_owned()),
        shown: program.join(" "),
        place: None,
        content: format!("#!/bin/sh\nexec {}\n", words.join(" ")).into_bytes(),
        arguments: Vec::new(),
    }
}

/// The script that is meant: a file, or standard input.
fn read(rest: &[String]) -> Result<spec::Script, Complaint> {
    let Some(name) = rest.first().filter(|name| *name != "-") else {
        let mut content = Vec::new();
        let read = std::io::stdin().read_to_end(&mut content);
        read.map_err(|error| Complaint::new(format!("cannot read the script from standard input: {error}")))?;
        return Ok(spec::Script {
            name: "STDIN".to_owned(),
            shown: "standard input".to_owned(),
            place: None,
            content,
            arguments: Vec::new(),
        });
    };
    let content = std::fs::read(name).map_err(|error| {
        Complaint::new(format!(
            "script file {name}: {error}; give its path, as in ./job.sh"
        ))
    })?;
    Ok(spec::Script {
        name: Path::new(name)
            .file_name()
            .map_or_else(|| name.clone(), |file| file.to_string_lossy().into_owned()),
        shown: name.clone(),
        place: std::path::absolute(name)
            .ok()
            .map(|path| path.display().to_string()),
        content,
        arguments: rest[1..].to_vec(),
    })
}

/// What runs the script if it doesn't say so, and whether a line of it asks for somebody in front of it.
fn shell_of(line: &PbsLine, directives: &Directives) -> (String, bool) {
    let said = directives
        .directives
        .iter()
        .filter_map(|directive| pbs::parse(&directive.words).ok());
    let (mut shell, mut interactive) = (None, false);
    for said in said {
        shell = said.shell.or(shell);
        interactive |= said.interactive;
    }
    let own = || std::env::var("SHELL").ok().filter(|shell| shell.starts_with('/'));
    let shell = line.shell.clone().or(shell).or_else(own);
    // `-S /bin/bash@host`
    let shell = shell.and_then(|shell| shell.split(['@', ',']).next().map(str::to_owned));
    (shell.unwrap_or_else(|| SHELL_DEFAULT.to_owned()), interactive)
}

/// All that is asked for, with PBS's places for files, and what is to be said about it.
fn settings(line: &PbsLine, directives: &Directives) -> Result<(BatchSettings, Vec<String>), Complaint> {
    let directives = Directives {
        // a script of PBS need not say what runs it
        remarks: Vec::new(),
        ..directives.clone()
    };
    let Merged {
        mut settings,
        warnings,
    } = merge(Command::Sbatch, &directives, &[], &line.given)
        .map_err(|error| Complaint::new(error.to_string()))?;
    settings.joined = line.joined.or(settings.joined);
    let here = std::env::current_dir()
        .map_err(|error| Complaint::new(format!("the working directory cannot be told: {error}")))?;
    let pattern = |given: Option<String>, letter: char| {
        let own = match settings.array.is_some() {
            true => format!("%x.{letter}%A.%a"),
            false => format!("%x.{letter}%A"),
        };
        let place = here.join(given.unwrap_or_default());
        // a folder, in which it has its own name
        match place.is_dir() {
            true => place.join(own),
            false => place,
        }
        .display()
        .to_string()
    };
    let (output, error) = (
        pattern(settings.output.take(), 'o'),
        pattern(settings.error.take(), 'e'),
    );
    settings.output = Some(output);
    settings.error = Some(error);
    if settings.chdir.is_none() {
        settings.chdir = std::env::var("HOME").ok().filter(|home| Path::new(home).is_dir());
    }
    Ok((settings, warnings))
}

/// The job, with PBS's variables instead of Slurm's.
fn draft(settings: BatchSettings, script: spec::Script) -> Result<(CommandDraft, Vec<String>), Complaint> {
    let (mut draft, warnings) = spec::draft(&settings, script)?;
    let plan = &mut draft.plan;
    let slurm = |name: &str| {
        let found = plan
            .environment
            .iter()
            .find(|(known, _)| &known[..] == name.as_bytes());
        found.map_or_else(String::new, |(_, value)| {
            String::from_utf8_lossy(value).into_owned()
        })
    };
    let own = |name: &str| std::env::var(name).unwrap_or_default();
    let shape = spec::Shape::of(&settings);
    let queue = slurm("SLURM_JOB_PARTITION");
    let variables = [
        ("PBS_ENVIRONMENT", "PBS_BATCH".to_owned()),
        ("PBS_O_HOME", own("HOME")),
        ("PBS_O_HOST", slurm("SLURM_SUBMIT_HOST")),
        ("PBS_O_LOGNAME", own("USER")),
        ("PBS_O_PATH", own("PATH")),
        ("PBS_O_QUEUE", queue.clone()),
        ("PBS_O_SHELL", own("SHELL")),
        ("PBS_O_WORKDIR", slurm("SLURM_SUBMIT_DIR")),
        ("PBS_QUEUE", queue),
        ("PBS_SERVER", SERVER.to_owned()),
        ("PBS_NUM_NODES", shape.nodes.to_string()),
        ("PBS_NUM_PPN", shape.ranks_per_node().to_string()),
        ("PBS_NP", shape.ranks.to_string()),
        ("NCPUS", shape.cpus_per_node().to_string()),
    ];
    plan.environment.retain(|(name, _)| !name.starts_with(b"SLURM_"));
    for (name, value) in variables {
        plan.environment
            .push((Bytes::from_static(name.as_bytes()), Bytes::from(value)));
    }
    plan.dialect = Dialect::Pbs;
    Ok((draft, warnings))
}

fn submit(settings: &BatchSettings, draft: &CommandDraft) -> Result<u8, Complaint> {
    runtime()?.block_on(async {
        let cluster = home::connected_or_started().await?;
        if !settings.quiet {
            sbatch::warn_of_few_nodes(Name::Qsub, &cluster.client, &draft.spec).await?;
        }
        let job = draft.send(&cluster.client).await?;
        let remarks = remarks(&cluster.client, draft).await?;
        remarks
            .iter()
            .for_each(|remark| say(Name::Qsub, "warning", remark));
        if !settings.quiet {
            let brackets = if settings.array.is_some() { "[]" } else { "" };
            print_line(&format!("{job}{brackets}.{SERVER}"))?;
        }
        let code = match settings.wait {
            true => sbatch::wait(&cluster.client, job).await?,
            false => 0,
        };
        cluster.client.close().await;
        Ok(code)
    })
}
