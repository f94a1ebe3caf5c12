//! The words of `mpiexec` as what is to be started.

use std::path::PathBuf;
use std::time::Duration;

use phalanx_protocol::Pin;

use super::options::{Meaning, Reach, find, help};
use super::{Launch, RANKS_MAX, Section, hosts};
use crate::slurm::Complaint;
use crate::slurm::step::{Passed, Program};

/// How Open MPI's parameters are called as variables.
const PARAMETER_PREFIX: &str = "OMPI_MCA_";

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A text about this command.
    Text(String),
    Ranks(Launch),
}

/// Reads the words, and those of a file if they name one.
///
/// # Errors
/// Says which word is wrong.
pub(super) fn launch(words: &[String]) -> Result<Asked, Complaint> {
    let meaning = words.first().and_then(|word| find(word));
    match (meaning.map(|(_, meaning)| meaning), words) {
        (Some(Meaning::Configuration), [_, path]) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Complaint::new(format!("cannot open `{path}`: {error}")))?;
            Reader::default().all(&of_lines(&text))
        }
        (Some(_) | None, words) => Reader::default().all(words),
    }
}

/// The words of a file with a program on each line.
fn of_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.collect::<Vec<_>>().join(&":".to_owned())
}

/// What was read so far.
#[derive(Debug)]
struct Reader {
    launch: Launch,
    /// Of all programs that follow.
    environment: Vec<(String, String)>,
    passed: Passed,
    /// That of the program whose options are read.
    section: Section,
    /// How many ranks it has, if that is said.
    ranks: Option<u32>,
    /// Ranks of each node, as many as there are nodes if nothing else is said.
    fills_nodes: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            launch: Launch {
                sections: Vec::new(),
                hosts: Vec::new(),
                ranks_per_node: None,
                cpus_per_rank: None,
                is_cyclic: false,
                pin: None,
                is_labelled: false,
                time_limit: None,
                // rank 0 alone reads what this process is given
                input: "0".to_owned(),
            },
            environment: Vec::new(),
            passed: Passed::All,
            section: Section::default(),
            ranks: None,
            fills_nodes: false,
        }
    }
}

impl Reader {
    fn all(mut self, words: &[String]) -> Result<Asked, Complaint> {
        for (number, words) in (0..).zip(words.split(|word| word == ":")) {
            self.section = Section {
                program: Program {
                    section: number,
                    environment: self.environment.clone(),
                    passed: self.passed.clone(),
                    ..Program::default()
                },
                ..Section::default()
            };
            self.ranks = None;
            if let Some(text) = self.section(words)? {
                return Ok(Asked::Text(text));
            }
            let section = std::mem::take(&mut self.section);
            let ranks = self.ranks.unwrap_or_else(|| self.ranks_unsaid(&section));
            self.launch.sections.push(Section { ranks, ..section });
        }
        let ranks = self.launch.ranks();
        match ranks <= RANKS_MAX {
            true => Ok(Asked::Ranks(self.launch)),
            false => Err(Complaint::with_hint(
                format!("{ranks} ranks are asked for, and a gang has at most {RANKS_MAX}"),
                "ask for fewer, and have each use threads: -cpus-per-rank N",
            )),
        }
    }

    /// How many ranks a program has that does not say so.
    fn ranks_unsaid(&self, section: &Section) -> u32 {
        let each = self.launch.ranks_per_node.filter(|_| self.fills_nodes);
        let hosts = match section.hosts.is_empty() {
            true => &self.launch.hosts,
            false => &section.hosts,
        };
        let names: std::collections::BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let nodes = u32::try_from(names.len()).unwrap_or(u32::MAX).max(1);
        each.map_or(1, |each| each.saturating_mul(nodes))
    }

    /// Reads the options of a program, and the program; or finds out that a text is asked for.
    fn section(&mut self, words: &[String]) -> Result<Option<String>, Complaint> {
        let mut rest = words.iter();
        while let Some(word) = rest.as_slice().first().filter(|word| word.starts_with('-')) {
            rest.next();
            let (names, meaning) = find(word).ok_or_else(|| {
                Complaint::with_hint(
                    format!("`{word}` is no option that is known here"),
                    "`mpiexec --help` lists those that are",
                )
            })?;
            let mut values = Vec::new();
            for _ in names {
                let missing = || Complaint::new(format!("`{word}` needs a value"));
                values.push(rest.next().ok_or_else(missing)?.as_str());
            }
            if let Some(text) = answer(meaning) {
                return Ok(Some(text));
            }
            self.option(word, meaning, &values)?;
        }
        let program = &mut self.section.program;
        program.words = rest.cloned().collect();
        match program.words.is_empty() {
            true => Err(Complaint::new(
                "no program is named; write it behind the options, as in mpiexec -n 4 ./solver",
            )),
            false => Ok(None),
        }
    }

    /// Takes an option that has as many values as it should.
    fn option(&mut self, word: &str, meaning: Meaning, values: &[&str]) -> Result<(), Complaint> {
        let value = values.first().copied().unwrap_or_default();
        let second = values.get(1).copied().unwrap_or_default();
        let launch = &mut self.launch;
        match meaning {
            Meaning::Ranks => self.ranks = Some(ranks(word, value)?),
            Meaning::RanksPerNode => launch.ranks_per_node = Some(ranks(word, value)?),
            Meaning::RanksOfEachNode => {
                launch.ranks_per_node = Some(ranks(word, value)?);
                self.fills_nodes = true;
            }
            Meaning::OneOnEachNode => {
                launch.ranks_per_node = Some(1);
                self.fills_nodes = true;
            }
            Meaning::CpusPerRank => launch.cpus_per_rank = Some(count(word, value)?),
            Meaning::Host => self.section.hosts.extend(hosts::of_list(value)?),
            Meaning::Hosts => launch.hosts.extend(hosts::of_list(value)?),
            Meaning::HostFile => launch.hosts.extend(hosts::of_file(value)?),
            Meaning::Cyclic => launch.is_cyclic = true,
            Meaning::MapBy => self.map_by(word, value)?,
            Meaning::BindTo => launch.pin = Some(pin(word, value)?),
            Meaning::Variable(reach) => self.set(reach, value.to_owned(), second),
            Meaning::Component(reach) => self.set(reach, format!("{PARAMETER_PREFIX}{value}"), second),
            Meaning::PassNamed(reach) => {
                let names = value.split(',').map(str::to_owned);
                self.pass(reach, Passed::Named(names.collect()));
            }
            Meaning::PassNone(reach) => self.pass(reach, Passed::Named(Vec::new())),
            Meaning::PassAll(reach) => self.pass(reach, Passed::All),
            Meaning::Export => match value.split_once('=') {
                Some((name, value)) => self.set(Reach::This, name.to_owned(), value),
                // it is passed on already, unless few are
                None => self.section.program.passed.add(value),
            },
            Meaning::SearchPath => {
                let path = std::env::var("PATH").unwrap_or_default();
                self.set(Reach::This, "PATH".to_owned(), &format!("{value}:{path}"));
            }
            Meaning::Directory => self.section.program.directory = Some(PathBuf::from(value)),
            Meaning::Label => launch.is_labelled = true,
            Meaning::TimeLimit => launch.time_limit = Some(Duration::from_secs(count(word, value)?.into())),
            Meaning::Input => value.clone_into(&mut launch.input),
            Meaning::Nothing => {}
            Meaning::Configuration => {
                let what = format!("`{word}` is not the only option");
                return Err(Complaint::with_hint(what, "write the others into its file"));
            }
            Meaning::Refused(why) => {
                return Err(Complaint::with_hint(format!("`{word}` is not done here"), why));
            }
            // they end the reading
            Meaning::Help | Meaning::Version => {}
        }
        Ok(())
    }

    fn set(&mut self, reach: Reach, name: String, value: &str) {
        let variable = (name, value.to_owned());
        if reach == Reach::All {
            self.environment.push(variable.clone());
        }
        self.section.program.environment.push(variable);
    }

    fn pass(&mut self, reach: Reach, passed: Passed) {
        if reach == Reach::All {
            self.passed.clone_from(&passed);
        }
        self.section.program.passed = passed;
    }

    /// `node`, `ppr:2:node`, `slot:PE=2`; what is meant for parts of a node changes nothing.
    fn map_by(&mut self, word: &str, text: &str) -> Result<(), Complaint> {
        let lower = text.to_ascii_lowercase();
        let words: Vec<&str> = lower.split([':', ',']).collect();
        if let ["ppr", each, object, ..] = words.as_slice() {
            if *object != "node" {
                let what = format!("`{word} {text}`: how many ranks a part of a node has is not said here");
                return Err(Complaint::with_hint(what, "write ppr:N:node"));
            }
            self.launch.ranks_per_node = Some(ranks(word, each)?);
        }
        self.launch.is_cyclic |= words.first() == Some(&"node");
        if let Some(cpus) = words.iter().find_map(|word| word.strip_prefix("pe=")) {
            self.launch.cpus_per_rank = Some(count(word, cpus)?);
        }
        Ok(())
    }
}

/// The answer to an option that asks for a text.
fn answer(meaning: Meaning) -> Option<String> {
    if meaning == Meaning::Help {
        return Some(help());
    }
    (meaning == Meaning::Version).then(|| concat!("phalanx ", env!("CARGO_PKG_VERSION")).to_owned())
}

/// How ranks are kept to cpus: `none`, or whatever part of a node each is to have.
fn pin(word: &str, text: &str) -> Result<Pin, Complaint> {
    let what = text.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match what.as_str() {
        "none" => Ok(Pin::None),
        "core" | "hwthread" | "socket" | "numa" | "package" | "rr" | "l1cache" | "l2cache" | "l3cache"
        | "cpu-list" => Ok(Pin::Compact),
        _ => Err(Complaint::with_hint(
            format!("`{word} {text}`: which cpus a rank has is not said here"),
            "write core, which keeps each to cpus of its own, or none",
        )),
    }
}

/// A number of ranks.
fn ranks(option: &str, text: &str) -> Result<u32, Complaint> {
    bounded(option, text, RANKS_MAX)
}

/// A number of anything else.
fn count(option: &str, text: &str) -> Result<u32, Complaint> {
    bounded(option, text, u32::MAX)
}

fn bounded(option: &str, text: &str, most: u32) -> Result<u32, Complaint> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Complaint::new(format!("`{option} {text}` is no number from 1 to {most}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn read(line: &str) -> Result<Launch, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match super::launch(&words).map_err(|complaint| complaint.lines.join("; "))? {
            Asked::Ranks(launch) => Ok(launch),
            Asked::Text(text) => Err(text),
        }
    }

    /// What a line asks for that has no mistake in it.
    pub(in crate::slurm::mpiexec) fn launch(line: &str) -> Launch {
        read(line).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn programs_are_started_side_by_side_with_their_own_surroundings() {
        let launch = launch("-genv A 1 -n 2 ./a -n 9 : -np 1 -env B 2 -wdir /tmp ./b x");
        let [first, second] = launch.sections.as_slice() else {
            panic!("{launch:?}");
        };
        assert_eq!(
            (first.ranks, first.program.words.join(" ")),
            (2, "./a -n 9".into())
        );
        assert_eq!(first.program.environment, pairs(&[("A", "1")]));
        assert_eq!(
            (second.ranks, second.program.words.join(" ")),
            (1, "./b x".into())
        );
        assert_eq!((first.program.section, second.program.section), (0, 1));
        assert_eq!(second.program.environment, pairs(&[("A", "1"), ("B", "2")]));
        assert_eq!(second.program.directory, Some(PathBuf::from("/tmp")));
        assert_eq!((launch.ranks(), launch.nodes()), (3, None));
    }

    #[test]
    fn options_of_both_families_are_taken() {
        let launch = launch(
            "--oversubscribe --mca btl vader,self --map-by slot:PE=2 --bind-to core -ppn 2 -l -x PATH -x A=b --timeout 9 \
             -launcher ssh -rr ./a",
        );
        assert_eq!((launch.ranks_per_node, launch.cpus_per_rank), (Some(2), Some(2)));
        assert!(launch.is_labelled && launch.is_cyclic);
        assert_eq!(launch.pin, Some(Pin::Compact));
        assert_eq!(launch.time_limit, Some(Duration::from_secs(9)));
        let program = &launch.sections[0].program;
        assert_eq!(
            program.environment,
            pairs(&[("OMPI_MCA_btl", "vader,self"), ("A", "b")])
        );
        assert_eq!(program.passed, Passed::All);
    }

    #[test]
    fn hosts_and_ranks_of_each_node_say_how_many_ranks_there_are() {
        for (line, ranks, nodes) in [
            ("./a", 1, None),
            ("-hosts a,b -N 2 ./a", 4, Some(vec![0, 0, 1, 1])),
            ("-H a,b --pernode ./a", 2, Some(vec![0, 1])),
            ("-hosts a,b -ppn 2 -n 3 ./a", 3, Some(vec![0, 0, 1])),
            ("-H a:2,b:2 --map-by node -n 4 ./a", 4, Some(vec![0, 1, 0, 1])),
            ("-host a -n 2 ./a : -host b ./b", 3, Some(vec![0, 0, 1])),
        ] {
            let launch = launch(line);
            assert_eq!((launch.ranks(), launch.nodes()), (ranks, nodes), "{line}");
        }
        assert_eq!(launch("--map-by ppr:3:node -n 6 ./a").ranks_per_node, Some(3));
    }

    #[test]
    fn few_variables_are_passed_on_if_that_is_said() {
        let passed = |line: &str| launch(line).sections.remove(0).program.passed;
        let named = |names: &[&str]| Passed::Named(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(passed("-genvnone -x HOME ./a"), named(&["HOME"]));
        assert_eq!(passed("-genvlist A,B ./a"), named(&["A", "B"]));
        assert_eq!(passed("-genvnone -envall ./a"), Passed::All);
        let launch = launch("-envnone ./a : ./b");
        assert_eq!(launch.sections[1].program.passed, Passed::All);
    }

    #[test]
    fn a_file_has_a_program_on_each_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# two\n-n 2 ./a \\\n  x\n\n-n 1 ./b\n").unwrap();
        let launch = launch(&format!("-configfile {}", file.path().display()));
        let words: Vec<String> = launch
            .sections
            .iter()
            .map(|section| section.program.words.join(" "))
            .collect();
        assert_eq!(words, ["./a x", "./b"]);
        let refused = read("-n 2 -configfile x ./a").unwrap_err();
        assert!(
            refused.contains("not the only option; hint: write the others into its file"),
            "{refused}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            (
                "-n 4",
                "no program is named; write it behind the options, as in mpiexec -n 4 ./solver",
            ),
            (
                "-n 4 ./a :",
                "no program is named; write it behind the options, as in mpiexec -n 4 ./solver",
            ),
            ("-n 0 ./a", "`-n 0` is no number from 1 to 4096"),
            ("-n 4097 ./a", "`-n 4097` is no number from 1 to 4096"),
            ("-n", "`-n` needs a value"),
            ("-env A", "`-env` needs a value"),
            (
                "--dance ./a",
                "`--dance` is no option that is known here; hint: `mpiexec --help` lists those that are",
            ),
            (
                "-n 4096 ./a : ./b",
                "4097 ranks are asked for, and a gang has at most 4096; hint: ask for fewer, and have each use threads: \
                 -cpus-per-rank N",
            ),
            (
                "--output-filename x ./a",
                "`--output-filename` is not done here; hint: write `> FILE`, or start it by `phalanx run --ranks N --stdout FILE`",
            ),
            (
                "--bind-to user:1 ./a",
                "`--bind-to user:1`: which cpus a rank has is not said here; hint: write core, which keeps each to cpus of \
                 its own, or none",
            ),
            (
                "--map-by ppr:2:socket ./a",
                "`--map-by ppr:2:socket`: how many ranks a part of a node has is not said here; hint: write ppr:N:node",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), said);
        }
        let day = launch("-n 4096 --timeout 86400 ./a");
        assert_eq!(
            (day.ranks(), day.time_limit),
            (4096, Some(Duration::from_secs(86_400)))
        );
        assert!(read("-n 2 --help").unwrap_err().starts_with("Usage: mpiexec "));
    }
}
