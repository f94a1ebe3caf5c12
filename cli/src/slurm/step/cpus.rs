//! A step and the cpus of its job: what it asks for, what it says while it waits, and how its ranks are bound to what it has.

use phalanx_protocol::command::INDEX_VARIABLE;
use phalanx_protocol::hostlist;
use phalanx_protocol::step::{Extent, NodeShare, STEP_VARIABLE, StepRefusal, StepRequest};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::{Child, Command};

use super::binding::{Bound, mask_text};
use super::gpus;
use super::layout::StepNode;
use super::lease::{Lease, LeaseError};
use super::{Step, number};
use crate::batch::settings::BatchSettings;
use crate::slurm::{Complaint, Name, inform, say};

impl Step {
    /// Asks for cpus, and waits for them.
    pub(super) fn ask(&self, nodes: &[String]) -> Result<Option<Lease>, Complaint> {
        let spread = Spread::of(self.name, &self.settings, self.n_ranks(), nodes)?;
        let request = request(self.name, &self.settings, self.n_ranks(), spread);
        let patience = self.settings.immediate.filter(|patience| !patience.is_zero());
        let is_quiet = self.settings.quiet;
        let mut has_waited = false;
        let lease = Lease::ask(&request, patience, || {
            has_waited = true;
            if is_quiet {
                return;
            }
            let job = self.job;
            inform(
                self.name,
                &format!("Job {job} step creation temporarily disabled, retrying (Requested nodes are busy)"),
            );
            if request.extent == Extent::Whole {
                inform(
                    self.name,
                    "hint: a step has all cpus of its job to itself; with --exact it has as many as it asks for, with --overlap \
                     it shares them",
                );
            }
        });
        let lease = lease.map_err(|error| self.complain(&error))?;
        let Some(lease) = lease else {
            return Ok(None);
        };
        let grant = lease.grant();
        if has_waited && !is_quiet {
            inform(
                self.name,
                &format!("Step created for StepId={}.{}", self.job, grant.step),
            );
        }
        let is_meant = self.settings.step.overcommit || self.name == Name::Mpiexec;
        if grant.is_overcommitted && !is_meant {
            let asked = u64::from(request.ranks) * u64::from(request.cpus_per_rank);
            let there: u32 = grant.shares.iter().map(|share| share.cpu_count).sum();
            say(
                self.name,
                "warning",
                &format!(
                    "the step needs {asked} cpus and its job has {there}, which its tasks share; ask for more with --ntasks and \
                     --cpus-per-task when you submit it, or say --overcommit"
                ),
            );
        }
        Ok(Some(lease))
    }

    pub(super) fn complain(&self, error: &LeaseError) -> Complaint {
        let unable = format!("Unable to create step for job {}: ", self.job);
        match error {
            LeaseError::Refused(StepRefusal::Busy) | LeaseError::Late => Complaint::with_hint(
                unable + "Requested nodes are busy",
                "without --immediate the step waits; with --overlap it shares the cpus of others",
            ),
            LeaseError::Refused(refusal) => Complaint::new(unable + &refusal.to_string()),
            LeaseError::Failed(cause) => Complaint::new(format!("{unable}{error}: {cause}")),
        }
    }

    /// Decides which cpus each rank may use.
    pub(super) fn bind(&self) -> Result<Vec<Bound>, Complaint> {
        self.layout.nodes.iter().map(|node| self.bind_on(node)).collect()
    }

    fn bind_on(&self, node: &StepNode) -> Result<Bound, Complaint> {
        let cpus = self.share(node.position).map_or(&[][..], |share| &share.cpus);
        // the job's own number is good enough for that
        let each = self.settings.step.cpus_per_task.or(self.settings.cpus_per_task);
        let ranks = u32::try_from(node.ranks.len()).unwrap_or(u32::MAX);
        let bound = self.wish.sets(cpus, ranks, each.unwrap_or(1));
        for (local, rank) in (0..).zip(&node.ranks) {
            let own = bound.of(local).unwrap_or_default();
            if !cpus.is_empty() && !own.iter().any(|cpu| cpus.contains(cpu)) {
                let (own, all) = (mask_text(own), mask_text(cpus));
                return Err(Complaint::new(format!(
                    "task {rank} cannot be bound to {own}: the step has the cpus {all}"
                )));
            }
        }
        Ok(bound)
    }

    /// The cpus of a rank, if they are known.
    pub(super) fn bound(&self, rank: u32) -> Option<&[u32]> {
        let (node, local) = self.layout.place(rank);
        self.bounds.get(node as usize)?.of(local)
    }

    /// Starts a rank on its cpus.
    pub(super) fn spawn(&self, rank: u32, command: &mut Command) -> std::io::Result<Child> {
        spawn_on(self.bound(rank), self.wish.names_cpus(), command)
    }

    /// Says what a rank is bound to, if that is wanted.
    pub(super) fn tell_binding(&self, rank: u32, pid: Option<u32>) {
        if !self.wish.is_verbose {
            return;
        }
        let (node, local) = self.layout.place(rank);
        let bound = self.bounds.get(node as usize).unwrap_or(&Bound::Unknown);
        let (kind, mask) = match (bound, bound.of(local)) {
            (Bound::Ranks(_), Some(cpus)) => ("MASK", format!("mask {} set", mask_text(cpus))),
            (Bound::Step(_), Some(cpus)) => ("NONE", format!("mask {}", mask_text(cpus))),
            (Bound::Ranks(_) | Bound::Step(_) | Bound::Unknown, _) => ("NONE", "any cpu".to_owned()),
        };
        let (node, pid) = (&self.layout.node(rank).name, pid.unwrap_or_default());
        crate::ui::say_line(&format!(
            "cpu-bind={kind} - {node}, task {rank:2} {local:2} [{pid}]: {mask}"
        ));
    }

    /// Tells a rank which cpus the step has.
    pub(super) fn tell_cpus(&self, rank: u32, command: &mut Command) {
        if self.name == Name::Mpiexec {
            return;
        }
        if let Some(share) = self.share(self.layout.node(rank).position) {
            command.env("SLURM_CPUS_ON_NODE", share.cpu_count.to_string());
        }
        if let Some(bound) = self.bounds.get(self.layout.place(rank).0 as usize) {
            command.envs(bound.variables(self.wish.is_verbose));
        }
    }

    /// What it has on a node.
    pub(super) fn share(&self, position: u32) -> Option<&NodeShare> {
        let shares = &self.lease.as_ref()?.grant().shares;
        shares.iter().find(|share| share.node == position)
    }

    pub(super) fn n_ranks(&self) -> u32 {
        u32::try_from(self.programs.len()).unwrap_or(u32::MAX)
    }
}

/// Starts a program on these cpus, if they are said; where it `must` not run on others, it does not.
pub(super) fn spawn_on(cpus: Option<&[u32]>, must: bool, command: &mut Command) -> std::io::Result<Child> {
    let Some(cpus) = cpus else {
        return command.spawn();
    };
    let mut set = CpuSet::new();
    let numbers = cpus.iter().map(|&cpu| cpu as usize);
    numbers
        .filter(|&cpu| cpu < CpuSet::MAX_CPU)
        .for_each(|cpu| set.set(cpu));
    // whoever is started may run where the thread may that starts it
    let before = sched_getaffinity(None)?;
    match sched_setaffinity(None, &set) {
        Ok(()) => {}
        Err(error) if must => return Err(error.into()),
        // cpus were taken away: it runs where this does
        Err(_) => return command.spawn(),
    }
    let started = command.spawn();
    let _ = sched_setaffinity(None, &before);
    started
}

/// Over which of its job's nodes a step is spread.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spread {
    nodes_min: u32,
    ranks_per_node_max: u32,
    only: Vec<u32>,
}

impl Spread {
    /// What was said, given the names of the job's nodes.
    fn of(name: Name, settings: &BatchSettings, ranks: u32, nodes: &[String]) -> Result<Self, Complaint> {
        let there = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        if there <= 1 {
            return Ok(Self {
                nodes_min: 1,
                ranks_per_node_max: 0,
                only: Vec::new(),
            });
        }
        let only = usable(settings, nodes)?;
        let usable = match only.len() {
            0 => there,
            count => u32::try_from(count).unwrap_or(u32::MAX),
        };
        let per_node = settings.ntasks_per_node.filter(|&most| most > 0);
        let asked = match (settings.nodes, per_node) {
            // what the job has is more than what is left of it here
            (Some(nodes), _) if only.is_empty() => nodes.least,
            (Some(nodes), _) => nodes.least.min(usable),
            (None, Some(per_node)) if name == Name::Mpiexec => ranks.div_ceil(per_node).min(usable),
            (None, _) => usable,
        };
        let nodes_min = asked.min(ranks).max(1);
        // spread evenly, unless they are dealt out so
        let fits = |per_node: &u32| u64::from(*per_node) * u64::from(usable) >= u64::from(ranks);
        let even = ranks.div_ceil(nodes_min.min(usable).max(1));
        Ok(Self {
            nodes_min,
            ranks_per_node_max: per_node.filter(fits).unwrap_or(even),
            only,
        })
    }
}

/// The positions of the nodes that a step may be on, if not all.
fn usable(settings: &BatchSettings, nodes: &[String]) -> Result<Vec<u32>, Complaint> {
    let first = settings
        .step
        .relative
        .map_or(0, |first| u32::try_from(first).unwrap_or(u32::MAX));
    let stranger = settings.nodelist.iter().find(|name| !nodes.contains(name));
    if let Some(stranger) = stranger {
        return Err(Complaint::new(format!(
            "`{stranger}` is no node of the job, which has {}",
            hostlist::compress(nodes)
        )));
    }
    let is_usable = |(position, name): &(u32, &String)| {
        *position >= first
            && (settings.nodelist.is_empty() || settings.nodelist.contains(name))
            && !settings.exclude.contains(name)
    };
    let usable: Vec<u32> = (0..)
        .zip(nodes)
        .filter(is_usable)
        .map(|(position, _)| position)
        .collect();
    match usable.len() {
        0 => Err(Complaint::new("no node of the job is left for the step")),
        count if count == nodes.len() => Ok(Vec::new()),
        _ => Ok(usable),
    }
}

/// What a step asks for: of `mpiexec` nothing to itself, as under Slurm.
fn request(name: Name, settings: &BatchSettings, ranks: u32, spread: Spread) -> StepRequest {
    let step = &settings.step;
    let is_exact = step.exact || settings.exclusive.is_some() || step.cpus_per_task.is_some();
    StepRequest {
        task: number(INDEX_VARIABLE).unwrap_or_default(),
        inside: number(STEP_VARIABLE).and_then(|step| u32::try_from(step).ok()),
        ranks: ranks.max(1),
        cpus_per_rank: step.cpus_per_task.unwrap_or(1).max(1),
        nodes_min: spread.nodes_min,
        ranks_per_node_max: spread.ranks_per_node_max,
        only: spread.only,
        gpus: gpus::asked(settings, spread.nodes_min),
        extent: match is_exact && !step.whole {
            true => Extent::Exact,
            false => Extent::Whole,
        },
        overlap: step.overlap || name == Name::Mpiexec,
        immediate: settings.immediate.is_some_and(|patience| patience.is_zero()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::settings::StepSettings;
    use crate::batch::values::{Exclusive, NodeCount};

    fn on_one() -> Spread {
        Spread::of(Name::Srun, &BatchSettings::default(), 1, &[String::new()]).unwrap()
    }

    #[test]
    fn a_step_is_spread_over_the_nodes_of_its_job_as_it_says() {
        let nodes = ["a", "b", "c"].map(str::to_owned);
        let spread = |name: Name, ranks: u32, settings: BatchSettings| {
            let spread = Spread::of(name, &settings, ranks, &nodes).map_err(|complaint| complaint.lines);
            spread.map(|spread| (spread.nodes_min, spread.ranks_per_node_max, spread.only))
        };
        let on = |least: u32, per_node: Option<u32>, nodelist: &[&str]| BatchSettings {
            nodes: (least > 0).then_some(NodeCount { least, most: least }),
            ntasks_per_node: per_node,
            nodelist: nodelist.iter().map(|&name| name.to_owned()).collect(),
            ..BatchSettings::default()
        };
        let srun = |ranks, settings| spread(Name::Srun, ranks, settings).unwrap();
        assert_eq!(srun(6, on(3, None, &[])), (3, 2, vec![]));
        assert_eq!(srun(1, on(3, None, &[])), (1, 1, vec![]));
        assert_eq!(srun(4, on(2, Some(3), &[])), (2, 3, vec![]));
        assert_eq!(srun(4, on(9, Some(1), &[])), (4, 2, vec![]));
        assert_eq!(srun(2, on(3, None, &["c"])), (1, 2, vec![2]));
        let mpiexec = |ranks, settings| spread(Name::Mpiexec, ranks, settings).unwrap();
        assert_eq!(mpiexec(4, on(0, Some(2), &[])), (2, 2, vec![]));
        assert_eq!(mpiexec(4, on(0, None, &[])), (3, 2, vec![]));
        let refused = spread(Name::Srun, 1, on(1, None, &["z"])).unwrap_err();
        assert_eq!(refused, ["`z` is no node of the job, which has a,b,c"]);
    }

    fn asked(name: Name, step: StepSettings) -> (Extent, bool, u32) {
        let settings = BatchSettings {
            step,
            // the job's own number makes no step exact
            cpus_per_task: Some(4),
            ..BatchSettings::default()
        };
        let request = request(name, &settings, 2, on_one());
        (request.extent, request.overlap, request.cpus_per_rank)
    }

    #[test]
    fn a_step_has_all_cpus_unless_it_says_how_many() {
        let usual = StepSettings::default;
        assert_eq!(asked(Name::Srun, usual()), (Extent::Whole, false, 1));
        let exact = StepSettings {
            exact: true,
            ..usual()
        };
        assert_eq!(asked(Name::Srun, exact), (Extent::Exact, false, 1));
        let counted = StepSettings {
            cpus_per_task: Some(3),
            ..usual()
        };
        assert_eq!(asked(Name::Srun, counted.clone()), (Extent::Exact, false, 3));
        let whole = StepSettings {
            whole: true,
            ..counted
        };
        assert_eq!(asked(Name::Srun, whole), (Extent::Whole, false, 3));
        let overlap = StepSettings {
            overlap: true,
            ..usual()
        };
        assert_eq!(asked(Name::Srun, overlap), (Extent::Whole, true, 1));
        assert_eq!(asked(Name::Mpiexec, usual()), (Extent::Whole, true, 1));
        let exclusive = BatchSettings {
            exclusive: Some(Exclusive::Job),
            ..BatchSettings::default()
        };
        assert_eq!(request(Name::Srun, &exclusive, 1, on_one()).extent, Extent::Exact);
    }
}
