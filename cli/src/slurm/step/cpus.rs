//! A step and the cpus of its job: what it asks for, what it says while it waits, and how its ranks are bound to what it has.

use phalanx_protocol::command::INDEX_VARIABLE;
use phalanx_protocol::step::{Extent, NodeShare, STEP_VARIABLE, StepRefusal, StepRequest};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::{Child, Command};

use super::binding::{Bound, mask_text};
use super::lease::{Lease, LeaseError};
use super::{Step, number};
use crate::batch::settings::BatchSettings;
use crate::slurm::{Complaint, Name, inform, say};

impl Step {
    /// Asks for cpus, and waits for them.
    pub(super) fn ask(&self) -> Result<Option<Lease>, Complaint> {
        let request = request(self.name, &self.settings, self.n_ranks());
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

    fn complain(&self, error: &LeaseError) -> Complaint {
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
    pub(super) fn bind(&self) -> Result<Bound, Complaint> {
        let cpus = self.share().map_or(&[][..], |share| &share.cpus);
        // the job's own number is good enough for that
        let each = self.settings.step.cpus_per_task.or(self.settings.cpus_per_task);
        let bound = self.wish.sets(cpus, self.n_ranks(), each.unwrap_or(1));
        for rank in 0..self.n_ranks() {
            let own = bound.of(rank).unwrap_or_default();
            if !cpus.is_empty() && !own.iter().any(|cpu| cpus.contains(cpu)) {
                let (own, all) = (mask_text(own), mask_text(cpus));
                return Err(Complaint::new(format!(
                    "task {rank} cannot be bound to {own}: the step has the cpus {all}"
                )));
            }
        }
        Ok(bound)
    }

    /// Starts a rank on its cpus.
    pub(super) fn spawn(&self, rank: u32, command: &mut Command) -> std::io::Result<Child> {
        let Some(cpus) = self.bound.of(rank) else {
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
            Err(error) if self.wish.names_cpus() => return Err(error.into()),
            // cpus were taken away: it runs where this does
            Err(_) => return command.spawn(),
        }
        let started = command.spawn();
        let _ = sched_setaffinity(None, &before);
        started
    }

    /// Says what a rank is bound to, if that is wanted.
    pub(super) fn tell_binding(&self, rank: u32, pid: Option<u32>) {
        if !self.wish.is_verbose {
            return;
        }
        let (kind, mask) = match (&self.bound, self.bound.of(rank)) {
            (Bound::Ranks(_), Some(cpus)) => ("MASK", format!("mask {} set", mask_text(cpus))),
            (Bound::Step(_), Some(cpus)) => ("NONE", format!("mask {}", mask_text(cpus))),
            (Bound::Ranks(_) | Bound::Step(_) | Bound::Unknown, _) => ("NONE", "any cpu".to_owned()),
        };
        let (node, pid) = (&self.node, pid.unwrap_or_default());
        crate::ui::say_line(&format!(
            "cpu-bind={kind} - {node}, task {rank:2} {rank:2} [{pid}]: {mask}"
        ));
    }

    /// Tells a rank which cpus the step has.
    pub(super) fn tell_cpus(&self, command: &mut Command) {
        if self.name == Name::Mpiexec {
            return;
        }
        if let Some(share) = self.share() {
            command.env("SLURM_CPUS_ON_NODE", share.cpu_count.to_string());
        }
        command.envs(self.bound.variables(self.wish.is_verbose));
    }

    /// What it has on this node.
    fn share(&self) -> Option<&NodeShare> {
        self.lease.as_ref()?.grant().shares.first()
    }

    pub(super) fn n_ranks(&self) -> u32 {
        u32::try_from(self.programs.len()).unwrap_or(u32::MAX)
    }
}

/// What a step asks for: of `mpiexec` nothing to itself, as under Slurm.
fn request(name: Name, settings: &BatchSettings, ranks: u32) -> StepRequest {
    let step = &settings.step;
    let is_exact = step.exact || settings.exclusive.is_some() || step.cpus_per_task.is_some();
    StepRequest {
        task: number(INDEX_VARIABLE).unwrap_or_default(),
        inside: number(STEP_VARIABLE).and_then(|step| u32::try_from(step).ok()),
        ranks: ranks.max(1),
        cpus_per_rank: step.cpus_per_task.unwrap_or(1).max(1),
        nodes_min: 1,
        ranks_per_node_max: 0,
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
    use crate::batch::values::Exclusive;

    fn asked(name: Name, step: StepSettings) -> (Extent, bool, u32) {
        let settings = BatchSettings {
            step,
            // the job's own number makes no step exact
            cpus_per_task: Some(4),
            ..BatchSettings::default()
        };
        let request = request(name, &settings, 2);
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
        assert_eq!(request(Name::Srun, &exclusive, 1).extent, Extent::Exact);
    }
}
