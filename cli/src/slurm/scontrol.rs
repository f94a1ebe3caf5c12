//! `scontrol`: shows jobs, nodes and lists of nodes as `Key=Value`, and holds, releases and requeues jobs.

mod change;
mod job;
mod machine;

pub(super) use machine::MIN_JOB_AGE_SECONDS;

use clap::{ArgAction, Parser};

use super::{Complaint, Name, words};
use crate::ui::print_line;
use phalanx_protocol::hostlist;

/// Where the list of nodes is that `show hostnames` means if none is given, the second is the older name.
const NODELIST_VARIABLES: [&str; 2] = ["SLURM_JOB_NODELIST", "SLURM_NODELIST"];

/// Shows and changes jobs, nodes and partitions
#[derive(Debug, Parser)]
#[command(
    name = "scontrol",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100,
    after_help = HELP
)]
struct Arguments {
    /// One line for each thing that is shown
    #[arg(short = 'o', long, visible_alias = "one-liner", alias = "online")]
    oneliner: bool,

    /// Says nothing about what cannot be done
    #[arg(short = 'Q', long)]
    quiet: bool,

    /// Accepted; there is one cluster, and everything of it is shown
    #[arg(short = 'M', long, value_name = "NAMES")]
    clusters: Option<String>,

    /// Accepted; everything is shown anyway
    #[arg(short = 'a', long)]
    all: bool,

    /// Accepted; all details are shown anyway
    #[arg(short = 'd', long, action = ArgAction::Count)]
    details: u8,

    /// Accepted
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// What to do, and with what
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

const HELP: &str = "\
Commands:
  show hostnames [LIST]      the nodes of a list, one a line; default: $SLURM_JOB_NODELIST
  show hostlist NODE,NODE..  the shortest list of these nodes
  show job [ID]              jobs as Key=Value
  show node [LIST]           nodes as Key=Value
  show partition [NAME]      partitions as Key=Value
  show config                what programs look up
  hold|release ID..          jobs
  requeue|requeuehold ID..   jobs and elements of arrays start from the top
  ping                       whether the scheduler answers

Example: scontrol show hostnames $SLURM_JOB_NODELIST";

/// How things are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    OneLine,
}

/// A thing as lines of `Key=Value`.
type Sheet = Vec<Vec<(&'static str, String)>>;

impl Layout {
    /// A thing's text.
    fn render(self, sheet: &Sheet) -> String {
        let line = |pairs: &Vec<(&'static str, String)>| {
            let texts: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            texts.join(" ")
        };
        let lines: Vec<String> = sheet.iter().map(line).collect();
        match self {
            Self::OneLine => lines.join(" "),
            // an empty line separates it from the next
            Self::Lines => format!("{}\n", lines.join("\n   ")),
        }
    }
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Scontrol, words)? else {
        return Ok(0);
    };
    let layout = match arguments.oneliner {
        true => Layout::OneLine,
        false => Layout::Lines,
    };
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Err(Complaint::new(
            "no command is named; scontrol --help lists them, as in scontrol show job 42",
        )),
        ["version"] => {
            print_line(concat!("phalanx ", env!("CARGO_PKG_VERSION")))?;
            Ok(0)
        }
        ["ping"] => machine::ping(),
        ["show", entity, rest @ ..] => show(entity, rest, layout),
        [command, ids @ ..] => match change::Change::named(command) {
            Some(change) => change::change(change, ids, arguments.quiet),
            None => Err(Complaint::new(format!(
                "there is no command `{command}` here; scontrol --help lists those that there are"
            ))),
        },
    }
}

fn show(entity: &str, rest: &[&str], layout: Layout) -> Result<u8, Complaint> {
    match entity {
        "hostname" | "hostnames" => hostnames(rest),
        "hostlist" | "hostlistsorted" => host_list(rest, entity == "hostlistsorted"),
        "job" | "jobs" => job::show(rest, layout),
        "node" | "nodes" => machine::nodes(rest, layout),
        "partition" | "partitions" => machine::partitions(rest, layout),
        "config" => machine::config(),
        _ => Err(Complaint::new(format!(
            "there is no `{entity}` to show; there are job, node, partition, config, hostnames and hostlist"
        ))),
    }
}

fn hostnames(rest: &[&str]) -> Result<u8, Complaint> {
    let list = match rest {
        [] => NODELIST_VARIABLES
            .iter()
            .find_map(|name| std::env::var(name).ok()),
        lists => Some(lists.join(",")),
    };
    let Some(list) = list else {
        return Err(Complaint::new(
            "no list of nodes is given, and there is no $SLURM_JOB_NODELIST: this is no job; write the list behind it, as in n[1-4]",
        ));
    };
    let names = hostlist::expand(&list).map_err(|error| Complaint::new(error.to_string()))?;
    if !names.is_empty() {
        print_line(&names.join("\n"))?;
    }
    Ok(0)
}

/// The names of a list, or of the lines of a file whose path is given.
fn host_list(rest: &[&str], sorted: bool) -> Result<u8, Complaint> {
    let [given] = rest else {
        return Err(Complaint::new(
            "name the nodes, with commas between them, as in scontrol show hostlist n1,n2,n4",
        ));
    };
    let text = match given.starts_with('/') {
        true => std::fs::read_to_string(given)
            .map_err(|error| Complaint::new(format!("cannot read `{given}`: {error}")))?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(","),
        false => (*given).to_owned(),
    };
    let mut names = hostlist::expand(&text).map_err(|error| Complaint::new(error.to_string()))?;
    if sorted {
        names.sort();
    }
    print_line(&hostlist::compress(&names))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_shown_on_one_line_or_on_several() {
        let sheet = vec![
            vec![("JobId", "42".to_owned()), ("JobName", "water".to_owned())],
            vec![("JobState", "RUNNING".to_owned())],
        ];
        assert_eq!(
            Layout::Lines.render(&sheet),
            "JobId=42 JobName=water\n   JobState=RUNNING\n"
        );
        assert_eq!(
            Layout::OneLine.render(&sheet),
            "JobId=42 JobName=water JobState=RUNNING"
        );
    }
}
