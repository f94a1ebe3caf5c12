//! `mpiexec`, `mpirun`: ranks of an MPI program, with the options of MPICH's, Intel's and Open MPI's; `:` between programs
//! that are started together. Inside a job its ranks run there, as a step; outside one they are a gang, on as many workers
//! as it takes ([`gang`]).
//!
//! [`options`] has the words, [`read`] makes a launch of them, [`hosts`] says which ranks share a node.

mod gang;
mod hosts;
mod options;
mod read;

use std::time::Duration;

use phalanx_protocol::Pin;
use phalanx_protocol::exit::ExitCode;

use self::hosts::Host;
use self::read::Asked;
use super::step::{self, Order, Program, Step};
use super::{Complaint, Name, home, say};
use crate::args::GlobalArguments;
use crate::batch::settings::BatchSettings;
use crate::process::runtime;
use crate::ui::print_line;

/// How long ranks may take, in seconds, if no option says so.
const TIMEOUT_VARIABLE: &str = "MPIEXEC_TIMEOUT";
/// Ranks that may be asked for: as many as a gang has.
const RANKS_MAX: u32 = gang_limit();

const fn gang_limit() -> u32 {
    assert!(phalanx_protocol::gang::RANKS_MAX <= u32::MAX as u64);
    phalanx_protocol::gang::RANKS_MAX as u32
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Launch {
    /// Programs side by side; at least one.
    sections: Vec<Section>,
    /// The machines of all programs that name none themselves.
    hosts: Vec<Host>,
    ranks_per_node: Option<u32>,
    cpus_per_rank: Option<u32>,
    /// Rank after rank is on node after node.
    is_cyclic: bool,
    pin: Option<Pin>,
    is_labelled: bool,
    time_limit: Option<Duration>,
    /// Which ranks read what this process is given, in the words of `srun --input`.
    input: String,
}

/// One of the programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Section {
    ranks: u32,
    program: Program,
    /// Its own machines.
    hosts: Vec<Host>,
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    start(words, &home::global())
}

/// The same for a cluster that is named otherwise; tells what is wrong, and returns the exit code.
pub(super) fn told(words: &[String], global: &GlobalArguments) -> u8 {
    start(words, global).unwrap_or_else(|complaint| {
        complaint
            .lines
            .iter()
            .for_each(|line| say(Name::Mpiexec, "error", line));
        complaint.code
    })
}

fn start(words: &[String], global: &GlobalArguments) -> Result<u8, Complaint> {
    let launch = match read::launch(words)? {
        Asked::Text(text) => {
            print_line(&text)?;
            return Ok(0);
        }
        Asked::Ranks(launch) => launch.limited_by(std::env::var(TIMEOUT_VARIABLE).ok())?,
    };
    match std::env::var_os("SLURM_JOB_ID").is_some() {
        true => {
            let nodes = step::job_nodes();
            let (settings, programs, order) = launch.step(&nodes)?;
            runtime()?.block_on(async {
                let step = Step::new(Name::Mpiexec, settings, programs, &order)?;
                within(launch.time_limit, step.run()).await
            })
        }
        false => gang::run(&launch, words, global),
    }
}

/// Waits for a step; what still runs of it when its time is over is killed.
async fn within(
    limit: Option<Duration>,
    step: impl Future<Output = Result<u8, Complaint>>,
) -> Result<u8, Complaint> {
    let Some(limit) = limit else {
        return step.await;
    };
    match tokio::time::timeout(limit, step).await {
        Ok(ended) => ended,
        Err(_) => Err(Complaint {
            lines: vec![format!("APPLICATION TIMED OUT, TIMEOUT = {}s", limit.as_secs())],
            code: ExitCode::TasksFailed.number(),
        }),
    }
}

impl Launch {
    /// The same with the time limit of a variable, unless an option has said one.
    fn limited_by(mut self, variable: Option<String>) -> Result<Self, Complaint> {
        let text = variable.filter(|text| !text.is_empty() && self.time_limit.is_none());
        if let Some(text) = text {
            let seconds: Option<u64> = text.parse().ok();
            let seconds = seconds.ok_or_else(|| {
                let what = format!("{TIMEOUT_VARIABLE}={text}: that is no number of seconds");
                Complaint::with_hint(what, "set it to a number as 60, or unset it")
            })?;
            // as with MPICH, there is no limit of less than a second
            self.time_limit = (seconds > 0).then(|| Duration::from_secs(seconds));
        }
        Ok(self)
    }

    /// How many ranks there are.
    fn ranks(&self) -> u32 {
        self.sections
            .iter()
            .fold(0, |sum, section| sum.saturating_add(section.ranks))
    }

    /// The ranks as a step of the job that this process is in, which has these nodes: what each runs, and where.
    fn step(&self, nodes: &[String]) -> Result<(BatchSettings, Vec<Program>, Order), Complaint> {
        let order = match self.named() {
            Some((node_of, names)) => Order::Named(on_nodes(&node_of, &names, nodes)?),
            None if self.is_cyclic => Order::Cyclic,
            None => Order::Block,
        };
        let each = self.sections.iter();
        let programs = each.flat_map(|section| vec![section.program.clone(); section.ranks as usize]);
        let mut settings = BatchSettings {
            ntasks: Some(self.ranks()),
            ntasks_per_node: self.ranks_per_node,
            cpus_per_task: self.cpus_per_rank,
            input: Some(self.input.clone()),
            ..BatchSettings::default()
        };
        settings.step.label = self.is_labelled;
        settings.step.cpu_bind = Some(
            match self.pin {
                Some(Pin::Compact | Pin::Spread) => "cores",
                Some(Pin::None) | None => "none",
            }
            .to_owned(),
        );
        Ok((settings, programs.collect(), order))
    }

    /// The node of each rank, if hosts are named.
    fn nodes(&self) -> Option<Vec<u32>> {
        self.named().map(|(node_of, _)| node_of)
    }

    /// The same with the names of the nodes.
    fn named(&self) -> Option<(Vec<u32>, Vec<String>)> {
        let each = match (self.is_cyclic, self.ranks_per_node) {
            (true, _) => Some(1),
            (false, each) => each,
        };
        let sections = self.sections.iter();
        let parts: Vec<(u32, &[Host])> = sections
            .map(|section| (section.ranks, &section.hosts[..]))
            .collect();
        hosts::nodes(&parts, &self.hosts, each)
    }
}

/// The nodes of a job that ranks are on, given which of the hosts that are named each is on: hosts that are none of the job's
/// stand for those that are not named, in their order.
fn on_nodes(node_of: &[u32], names: &[String], nodes: &[String]) -> Result<Vec<u32>, Complaint> {
    let known = |name: &str| nodes.iter().position(|node| node == name);
    let mut others = (0..nodes.len()).filter(|&node| !names.contains(&nodes[node]));
    let positions = names.iter().map(|name| known(name).or_else(|| others.next()));
    let Some(positions) = positions.collect::<Option<Vec<usize>>>() else {
        return Err(Complaint::with_hint(
            format!("{} hosts are named, and the job has {}", names.len(), nodes.len()),
            "submit it with as many --nodes, leave the hosts out, or start it outside of a job",
        ));
    };
    let position = |&host: &u32| positions.get(host as usize).copied().unwrap_or_default();
    let positions = node_of.iter().map(position);
    Ok(positions
        .map(|node| u32::try_from(node).unwrap_or(u32::MAX))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::Order;
    use super::read::tests::launch;

    #[test]
    fn a_step_is_on_the_nodes_of_its_job() {
        let step_on = |line: &str, nodes: &[&str]| {
            let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
            let step = launch(line).step(&nodes);
            step.map_err(|complaint| complaint.lines.join("; "))
        };
        let step = |line: &str| step_on(line, &["n1"]);
        let (settings, programs, order) = step("-l -H localhost:4 -n 2 ./a : -n 1 ./b").unwrap();
        assert_eq!((settings.ntasks, settings.step.label), (Some(3), true));
        assert_eq!(settings.input.as_deref(), Some("0"));
        assert_eq!(order, Order::Named(vec![0; 3]));
        let words: Vec<(u32, &str)> = programs
            .iter()
            .map(|program| (program.section, program.words[0].as_str()))
            .collect();
        assert_eq!(words, [(0, "./a"), (0, "./a"), (1, "./b")]);
        let refused = step("-hosts a,b -n 2 ./a").unwrap_err();
        assert!(
            refused.contains("2 hosts are named, and the job has 1; hint: "),
            "{refused}"
        );
        let order = |line: &str| step_on(line, &["n1", "n2"]).unwrap().2;
        assert_eq!(order("-hosts a,b -n 3 ./a"), Order::Named(vec![0, 1, 0]));
        assert_eq!(order("-hosts n2,x -n 3 ./a"), Order::Named(vec![1, 0, 1]));
        assert_eq!(
            (order("-n 2 ./a"), order("-n 2 --map-by node ./a")),
            (Order::Block, Order::Cyclic)
        );
    }

    #[test]
    fn a_variable_limits_the_time_unless_an_option_does() {
        let limit = |line: &str, variable: &str| {
            let limited = launch(line).limited_by(Some(variable.to_owned()));
            limited.map(|launch| launch.time_limit.map(|limit| limit.as_secs()))
        };
        assert_eq!(limit("./a", "60").unwrap(), Some(60));
        assert_eq!(limit("--timeout 9 ./a", "60").unwrap(), Some(9));
        assert_eq!(
            (limit("./a", "").unwrap(), limit("./a", "0").unwrap()),
            (None, None)
        );
        let refused = limit("./a", "1m").unwrap_err();
        assert!(
            refused.lines[0].contains("MPIEXEC_TIMEOUT=1m"),
            "{:?}",
            refused.lines
        );
    }
}
