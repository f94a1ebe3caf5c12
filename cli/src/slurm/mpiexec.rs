//! `mpiexec`, `mpirun`: ranks of an MPI program, with the options that MPICH's and Open MPI's share; `:` between programs
//! that are started together. Inside a job its ranks run there; outside one, a job is submitted first.

use std::path::PathBuf;

use super::step::{Program, Step};
use super::{Complaint, Name, srun};
use crate::batch::settings::BatchSettings;
use crate::process::runtime;

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let launch = parse(words)?;
    let programs = launch.programs();
    let settings = BatchSettings {
        ntasks: u32::try_from(programs.len()).ok(),
        ..launch.settings
    };
    match std::env::var_os("SLURM_JOB_ID").is_some() {
        true => runtime()?.block_on(Step::new(Name::Mpiexec, settings, programs)?.run()),
        false => {
            let program = programs.first().and_then(|first| first.words.first().cloned());
            srun::submit(Name::Mpiexec, settings, &program.unwrap_or_default(), words)
        }
    }
}

/// What is to be started.
#[derive(Debug, Default)]
struct Launch {
    settings: BatchSettings,
    /// Programs and how many ranks run each.
    sections: Vec<(u32, Program)>,
}

impl Launch {
    /// By rank.
    fn programs(&self) -> Vec<Program> {
        let each = self.sections.iter();
        each.flat_map(|(ranks, program)| vec![program.clone(); *ranks as usize])
            .collect()
    }
}

/// Ranks that may be asked for.
const RANKS_MAX: u32 = 65_536;

fn parse(words: &[String]) -> Result<Launch, Complaint> {
    let mut launch = Launch::default();
    // rank 0 alone reads what this process is given
    launch.settings.input = Some("0".to_owned());
    let mut of_all = Vec::new();
    for (section, words) in (0..).zip(words.split(|word| word == ":")) {
        let mut program = Program {
            section,
            environment: of_all.clone(),
            ..Program::default()
        };
        let mut ranks = 1;
        let mut rest = words.iter();
        while let Some(word) = rest.as_slice().first().filter(|word| word.starts_with('-')) {
            rest.next();
            let mut value = || {
                let missing = || Complaint::new(format!("`{word}` needs a value"));
                rest.next().cloned().ok_or_else(missing)
            };
            match word.trim_start_matches('-') {
                "n" | "np" | "c" => ranks = count(word, &value()?)?,
                "env" | "genv" => {
                    let variable = (value()?, value()?);
                    if word.ends_with("genv") {
                        of_all.push(variable.clone());
                    }
                    program.environment.push(variable);
                }
                // Open MPI's: one that is set here is there anyway
                "x" => {
                    if let Some((name, value)) = value()?.split_once('=') {
                        program.environment.push((name.to_owned(), value.to_owned()));
                    }
                }
                "wdir" | "wd" | "dir" => program.directory = Some(PathBuf::from(value()?)),
                "ppn" | "perhost" | "npernode" | "N" => {
                    launch.settings.ntasks_per_node = Some(count(word, &value()?)?);
                }
                "l" | "prepend-rank" | "tag-output" => launch.settings.step.label = true,
                // where ranks go is the cluster's business; how they are bound and what carries them is theirs
                "host" | "hosts" | "H" | "f" | "hostfile" | "machinefile" | "map-by" | "bind-to"
                | "rank-by" | "launcher" | "rmk" | "genvlist" => drop(value()?),
                "mca" | "gmca" => drop((value()?, value()?)),
                "genvall" | "oversubscribe" | "allow-run-as-root" | "report-bindings" => {}
                _ => {
                    return Err(Complaint::new(format!(
                        "`{word}` is no option that is known here; -n, -ppn, -env, -genv, -wdir, -l and -host are"
                    )));
                }
            }
        }
        program.words = rest.cloned().collect();
        if program.words.is_empty() {
            return Err(Complaint::new(
                "no program is named; write it behind the options, as in mpiexec -n 4 ./solver",
            ));
        }
        launch.sections.push((ranks, program));
    }
    Ok(launch)
}

fn count(option: &str, text: &str) -> Result<u32, Complaint> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=RANKS_MAX).contains(number));
    let wrong = || {
        Complaint::new(format!(
            "`{option} {text}` is no number of ranks, from 1 to {RANKS_MAX}"
        ))
    };
    number.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Launch, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words).map_err(|complaint| complaint.lines.join("; "))
    }

    #[test]
    fn programs_are_started_side_by_side_with_their_own_surroundings() {
        let launch = read("-genv A 1 -n 2 ./a -n 9 : -np 1 -env B 2 -wdir /tmp ./b x").unwrap();
        let programs = launch.programs();
        assert_eq!(programs.len(), 3);
        assert_eq!(
            (programs[1].section, programs[1].words.join(" ")),
            (0, "./a -n 9".into())
        );
        let last = &programs[2];
        assert_eq!((last.section, last.words.join(" ")), (1, "./b x".into()));
        assert_eq!(
            last.environment,
            [("A", "1"), ("B", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        assert_eq!(last.directory, Some(PathBuf::from("/tmp")));
    }

    #[test]
    fn options_of_both_families_are_taken() {
        let launch =
            read("--oversubscribe --mca btl vader,self -H localhost -ppn 2 -l -x PATH -x A=b ./a").unwrap();
        assert_eq!(launch.settings.ntasks_per_node, Some(2));
        assert!(launch.settings.step.label);
        assert_eq!(
            launch.programs()[0].environment,
            [("A".to_owned(), "b".to_owned())]
        );
    }

    #[test]
    fn mistakes_are_named() {
        let said = |line: &str| read(line).unwrap_err();
        assert_eq!(
            said("-n 4"),
            "no program is named; write it behind the options, as in mpiexec -n 4 ./solver"
        );
        assert_eq!(said("-n 0 ./a"), "`-n 0` is no number of ranks, from 1 to 65536");
        assert_eq!(said("-n"), "`-n` needs a value");
        assert_eq!(
            said("--dance ./a"),
            "`--dance` is no option that is known here; -n, -ppn, -env, -genv, -wdir, -l and -host are"
        );
    }
}
