//! `sinfo`: nodes, those that are alike in one line.

use std::collections::BTreeMap;

use clap::{ArgAction, Parser};
use phalanx::WorkerView;

use super::nodes::{CpuCount, NodeState, PARTITION, gres, mebibytes, node_list};
use super::words::parts;
use super::{Complaint, Name, clock, home, print_all, words};
use crate::batch::lists::nodes::NodeField;
use crate::batch::lists::{Format, Row};
use crate::process::runtime;
use crate::ui::print_line;
use phalanx_protocol::hostlist;

/// Lists nodes and what they are doing
#[derive(Debug, Parser)]
#[command(
    name = "sinfo",
    version,
    disable_help_flag = true,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// Columns by letters, as in '%P %.5D %t'
    #[arg(
        short = 'o',
        long,
        value_name = "FORMAT",
        env = "SINFO_FORMAT",
        allow_hyphen_values = true
    )]
    format: Option<String>,

    /// Columns by names, as in NodeList:20,CPUsState
    #[arg(short = 'O', long = "Format", value_name = "NAMES")]
    names: Option<String>,

    /// No line of headers
    #[arg(short = 'h', long)]
    noheader: bool,

    /// Each node on a line of its own
    #[arg(short = 'N', long = "Node")]
    node: bool,

    /// More columns
    #[arg(short = 'l', long)]
    long: bool,

    /// One line for the partition
    #[arg(short = 's', long)]
    summarize: bool,

    /// Nodes of these partitions
    #[arg(short = 'p', long, value_name = "NAMES", env = "SINFO_PARTITION")]
    partition: Vec<String>,

    /// Nodes in these states: idle, mix, alloc, drain
    #[arg(short = 't', long, value_name = "STATES")]
    states: Vec<String>,

    /// These nodes
    #[arg(short = 'n', long, value_name = "LIST")]
    nodes: Vec<String>,

    /// Nodes that answer: all that are listed do
    #[arg(short = 'r', long)]
    responding: bool,

    /// Nodes that do not answer: none is listed
    #[arg(short = 'd', long)]
    dead: bool,

    /// Why nodes are to take nothing on
    #[arg(short = 'R', long)]
    list_reasons: bool,

    /// Each node as it is, not with others that are alike
    #[arg(short = 'e', long)]
    exact: bool,

    /// Accepted; there is one partition
    #[arg(short = 'a', long)]
    all: bool,

    /// Accepted; there is one cluster
    #[arg(short = 'M', long, value_name = "NAMES", env = "SLURM_CLUSTERS")]
    clusters: Option<String>,

    /// Accepted
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// Prints this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Sinfo, words)? else {
        return Ok(0);
    };
    let states = states(&arguments.states)?;
    let wanted =
        hostlist::expand(&arguments.nodes.join(",")).map_err(|error| Complaint::new(error.to_string()))?;
    let workers = runtime()?.block_on(async {
        let cluster = home::connected().await?;
        let workers = cluster.client.workers().await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(workers)
    })?;
    let partitions: Vec<&str> = parts(&arguments.partition).collect();
    let is_of_partition = partitions.is_empty() || partitions.contains(&PARTITION);
    let is_wanted = |worker: &&WorkerView| {
        is_of_partition
            && !arguments.dead
            && (wanted.is_empty() || wanted.contains(&worker.name))
            && states
                .as_ref()
                .is_none_or(|states| states.contains(&NodeState::of(worker)))
    };
    let shown: Vec<&WorkerView> = workers.iter().filter(is_wanted).collect();
    let format = format(&arguments, &shown)?;
    let now = clock::now_millis();
    if arguments.long && !arguments.noheader {
        print_line(&clock::show(now))?;
    }
    if !arguments.noheader {
        print_line(&format.header())?;
    }
    let rows = rows(&arguments, shown, is_of_partition, &format);
    print_all(rows.iter().map(|row| format.render(row).trim_end().to_owned()))?;
    Ok(0)
}

/// The states that are asked for; none if nothing is said.
fn states(lists: &[String]) -> Result<Option<Vec<NodeState>>, Complaint> {
    let mut states = Vec::new();
    for word in parts(lists) {
        let named = NodeState::named(word).ok_or_else(|| {
            Complaint::new(format!(
                "--states={word}: this is no state of a node; they are idle, mixed, allocated, draining and drained"
            ))
        })?;
        states.extend(named);
    }
    Ok((!lists.is_empty()).then_some(states))
}

fn format(arguments: &Arguments, shown: &[&WorkerView]) -> Result<Format<NodeField>, Complaint> {
    let widest = shown
        .iter()
        .map(|worker| worker.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(8);
    let default = match (arguments.node, arguments.long) {
        _ if arguments.list_reasons => "%20E %9u %19H %N".to_owned(),
        _ if arguments.summarize => "%9P %.5a %.10l %.16F %N".to_owned(),
        (true, true) => format!("%{widest}N %.6D %.9P %.11T %.4c %.8z %.6m %.8d %.6w %.8f %20E"),
        (true, false) => format!("%{widest}N %.6D %.9P %.6t"),
        (false, true) => "%9P %.5a %.10l %.10s %.4r %.13h %.10g %.6D %.11T %N".to_owned(),
        (false, false) => "%9P %.5a %.10l %.6D %.6t %N".to_owned(),
    };
    let format = match (&arguments.names, &arguments.format) {
        (Some(names), _) => Format::sinfo_names(names),
        (None, Some(letters)) => Format::sinfo_letters(letters),
        (None, None) => Format::sinfo_letters(&default),
    };
    format.map_err(|error| Complaint::new(error.to_string()))
}

/// The lines: nodes that show the same together.
fn rows<'a>(
    arguments: &Arguments,
    shown: Vec<&'a WorkerView>,
    is_of_partition: bool,
    format: &Format<NodeField>,
) -> Vec<Alike<'a>> {
    let telling: Vec<NodeField> = format.fields().filter(|field| !field.is_of_several()).collect();
    let mut groups: BTreeMap<(NodeState, Vec<String>), Vec<&'a WorkerView>> = BTreeMap::new();
    let tells_states = telling
        .iter()
        .any(|field| matches!(field, NodeField::State | NodeField::StateShort));
    for worker in &shown {
        let alone = Alike {
            workers: vec![worker],
        };
        let mut texts: Vec<String> = telling
            .iter()
            .map(|field| alone.text(*field).unwrap_or_default())
            .collect();
        if arguments.node || arguments.exact {
            texts.push(worker.name.clone());
        }
        let state = match tells_states {
            true => NodeState::of(worker),
            false => NodeState::Idle,
        };
        groups.entry((state, texts)).or_default().push(worker);
    }
    // the partition is there even if no node is
    if groups.is_empty()
        && is_of_partition
        && !arguments.node
        && arguments.states.is_empty()
        && arguments.nodes.is_empty()
    {
        return vec![Alike { workers: Vec::new() }];
    }
    let mut rows: Vec<Alike<'a>> = groups.into_values().map(|workers| Alike { workers }).collect();
    if arguments.node {
        rows.sort_by_key(|row| row.workers.first().map(|worker| worker.name.clone()));
    }
    rows
}

/// Nodes that share a line.
struct Alike<'a> {
    workers: Vec<&'a WorkerView>,
}

impl Alike<'_> {
    fn all(&self) -> impl Iterator<Item = &WorkerView> {
        self.workers.iter().copied()
    }

    /// Nodes of which all cpus are used or some, that are idle, that take nothing on.
    fn node_counts(&self) -> (usize, usize, usize) {
        let (mut allocated, mut idle, mut other) = (0, 0, 0);
        for worker in self.all() {
            match NodeState::of(worker) {
                NodeState::Allocated | NodeState::Mixed => allocated += 1,
                NodeState::Idle => idle += 1,
                NodeState::Draining | NodeState::Drained => other += 1,
            }
        }
        (allocated, idle, other)
    }

    /// A number that all have; with a plus if some have more.
    fn least(&self, number: impl Fn(&WorkerView) -> u64) -> String {
        let least = self.all().map(&number).min().unwrap_or(0);
        let most = self.all().map(&number).max().unwrap_or(0);
        match least == most {
            true => least.to_string(),
            false => format!("{least}+"),
        }
    }
}

impl Row<NodeField> for Alike<'_> {
    fn text(&self, field: NodeField) -> Option<String> {
        let first = self.workers.first();
        let state = first.map(|worker| NodeState::of(worker));
        let null = || "(null)".to_owned();
        let cpus = |worker: &WorkerView| u64::from(worker.capacity.cpus);
        Some(match field {
            NodeField::Address => self
                .all()
                .map(|worker| host(&worker.address))
                .collect::<Vec<_>>()
                .join(","),
            NodeField::Available => "up".to_owned(),
            NodeField::CpuCounts => {
                let count = CpuCount::of(self.all());
                format!(
                    "{}/{}/{}/{}",
                    count.allocated,
                    count.idle,
                    count.other,
                    count.total()
                )
            }
            NodeField::Cpus => self.least(cpus),
            NodeField::CpuLoad => return None,
            NodeField::Disk => "0".to_owned(),
            NodeField::Features => null(),
            NodeField::FreeMemory => self.least(|worker| mebibytes(worker.free.memory_bytes)),
            NodeField::Gres => first
                .and_then(|worker| gres(&worker.capacity.named))
                .unwrap_or_else(null),
            NodeField::GresUsed => {
                let used = first.map(|worker| {
                    let free = |name| worker.free.named.get(name).copied().unwrap_or_default();
                    let all = worker.capacity.named.iter();
                    all.map(|(name, count)| format!("{name}:{}", count.saturating_sub(free(name))))
                        .collect::<Vec<_>>()
                        .join(",")
                });
                used.filter(|text| !text.is_empty()).unwrap_or_else(null)
            }
            NodeField::Groups => "all".to_owned(),
            NodeField::Hosts => {
                let names: Vec<&str> = self.all().map(|worker| worker.name.as_str()).collect();
                names.join(",")
            }
            NodeField::JobSize => "1".to_owned(),
            NodeField::Memory => self.least(|worker| mebibytes(worker.capacity.memory_bytes)),
            NodeField::NodeCountsShort => {
                let (allocated, idle, _) = self.node_counts();
                format!("{allocated}/{idle}")
            }
            NodeField::NodeCounts => {
                let (allocated, idle, other) = self.node_counts();
                format!("{allocated}/{idle}/{other}/{}", self.workers.len())
            }
            NodeField::NodeCount => self.workers.len().to_string(),
            NodeField::NodeList => node_list(self.all()),
            NodeField::OverSubscribe => "NO".to_owned(),
            NodeField::Partition => format!("{PARTITION}*"),
            NodeField::PartitionName => PARTITION.to_owned(),
            NodeField::PreemptMode => "OFF".to_owned(),
            NodeField::Priority | NodeField::Sockets | NodeField::Threads | NodeField::Weight => {
                "1".to_owned()
            }
            NodeField::Reason => match state {
                Some(NodeState::Draining | NodeState::Drained) => "told to leave".to_owned(),
                Some(NodeState::Idle | NodeState::Mixed | NodeState::Allocated) | None => "none".to_owned(),
            },
            NodeField::Root => "no".to_owned(),
            NodeField::Shape => format!("1:{}:1", self.least(cpus)),
            NodeField::State => state.map_or("n/a", NodeState::name).to_owned(),
            NodeField::StateShort => state.map_or("n/a", NodeState::short).to_owned(),
            NodeField::TimeLimit => "infinite".to_owned(),
            NodeField::Timestamp | NodeField::User => "Unknown".to_owned(),
            NodeField::Version => concat!("phalanx-", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }
}

/// The host of `host:port`.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::worker_view;

    fn node(name: &str, free_cpus: u32) -> WorkerView {
        let mut worker = worker_view();
        worker.name = name.to_owned();
        worker.free.cpus = free_cpus;
        if free_cpus == worker.capacity.cpus {
            worker.jobs.clear();
            worker.free = worker.capacity.clone();
        }
        worker
    }

    fn lines(words: &str, workers: &[WorkerView]) -> Vec<String> {
        let words: Vec<String> = words
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let arguments = words::read::<Arguments>(Name::Sinfo, &words).unwrap().unwrap();
        let shown: Vec<&WorkerView> = workers.iter().collect();
        let format = format(&arguments, &shown).unwrap();
        let rows = rows(&arguments, shown, true, &format);
        let lines = rows.iter().map(|row| format.render(row));
        match arguments.noheader {
            true => lines.collect(),
            false => std::iter::once(format.header()).chain(lines).collect(),
        }
    }

    #[test]
    fn nodes_that_are_alike_share_a_line() {
        let workers = [node("n1", 8), node("n2", 0), node("n3", 8)];
        assert_eq!(
            lines("", &workers),
            [
                "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST",
                "phalanx*     up   infinite      2   idle n[1,3]",
                "phalanx*     up   infinite      1  alloc n2",
            ]
        );
        assert_eq!(lines("-h -o %P", &workers), ["phalanx*"]);
        assert_eq!(
            lines("-h -o %R|%D|%F|%C", &workers),
            ["phalanx|3|1/2/0/3|8/16/0/24"]
        );
        assert_eq!(lines("-h -N -o %N_%t_%c_%m_%G", &workers).len(), 3);
        assert_eq!(
            lines("-h -N -o %N_%t_%c_%m_%G", &workers)[0],
            "n1_idle_8_16384_gpu:2"
        );
        assert_eq!(lines("-h", &[]), ["phalanx*     up   infinite      0    n/a "]);
    }

    #[test]
    fn states_of_nodes_are_asked_for_by_name() {
        assert_eq!(states(&[]).unwrap(), None);
        assert_eq!(
            states(&["idle,ALLOC".to_owned()]).unwrap(),
            Some(vec![NodeState::Idle, NodeState::Allocated])
        );
        assert_eq!(states(&["down".to_owned()]).unwrap(), Some(vec![]));
        assert!(states(&["sleepy".to_owned()]).is_err());
    }
}
