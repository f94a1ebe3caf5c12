//! A step and the gpus of its job: what it asks for, and which of them its ranks see. A step that says nothing of gpus sees all
//! that its job has on its nodes, as any other that says nothing.
//!
//! Whoever gives them out knows them by their positions; what they are called is known on their node, where ranks start.

use std::env;

use phalanx_protocol::step::StepGpus;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::Step;
use crate::batch::settings::{BatchSettings, GpuWish};
use crate::batch::values::Gres;

/// All gpus of the job on a node, in the order of their positions.
const ALL: &str = "PHALANX_GPUS";
/// By what libraries of makers are told which gpus they see; present where there are gpus of that maker.
const CUDA: &str = "CUDA_VISIBLE_DEVICES";
const ROCR: &str = "ROCR_VISIBLE_DEVICES";
/// It counts what [`ROCR`] leaves.
const HIP: &str = "HIP_VISIBLE_DEVICES";

/// What a rank sees, by positions among the gpus that the job has on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RankGpus {
    /// All of its step there.
    of_step: Vec<u32>,
    own: Vec<u32>,
}

/// What is asked for, of a step on at least so many nodes.
pub(super) fn asked(settings: &BatchSettings, nodes: u32) -> StepGpus {
    let (per_rank, gres, divisor) = match &settings.step.gpus {
        None => return StepGpus::default(),
        Some(GpuWish::PerTask(gres)) => (true, gres, 1),
        Some(GpuWish::PerNode(gres)) => (false, gres, 1),
        Some(GpuWish::InAll(gres)) => (false, gres, nodes.max(1)),
    };
    let count = |gres: &Gres| {
        let count = u32::try_from(gres.count).unwrap_or(u32::MAX).div_ceil(divisor);
        let kind = gres.kind.as_ref().map(|kind| kind.to_ascii_lowercase());
        (count > 0).then_some((kind, count))
    };
    StepGpus {
        per_rank,
        counts: gres.iter().filter_map(count).collect(),
    }
}

impl Step {
    /// What a rank sees; nothing is said if it sees what its job does.
    pub(super) fn gpus(&self, rank: u32) -> Option<RankGpus> {
        let wish = self.settings.step.gpus.as_ref()?;
        let of_step = self.share(self.layout.node(rank).position)?.gpus.clone();
        let is_bound = self.settings.recorded("gpu-bind") != Some("none");
        let own = match wish {
            GpuWish::PerTask(_) if is_bound => {
                let each = asked(&self.settings, 1).count() as usize;
                let local = self.layout.place(rank).1 as usize;
                of_step.iter().skip(each * local).take(each).copied().collect()
            }
            GpuWish::PerTask(_) | GpuWish::PerNode(_) | GpuWish::InAll(_) => of_step.clone(),
        };
        Some(RankGpus { of_step, own })
    }
}

impl RankGpus {
    /// Tells a rank on this node what it sees.
    pub(super) fn tell(&self, command: &mut Command) {
        let all = env::var(ALL).unwrap_or_default();
        let is_there = |name: &str| env::var_os(name).is_some();
        let makers = [CUDA, ROCR, HIP].map(is_there);
        for (name, value) in self.variables(&all, makers) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// Given the names of all gpus, and which of [`CUDA`], [`ROCR`] and [`HIP`] are there.
    fn variables(&self, all: &str, makers: [bool; 3]) -> Vec<(&'static str, Option<String>)> {
        let all: Vec<&str> = all.split(',').collect();
        let names = |positions: &[u32]| {
            let name = |&position: &u32| all.get(position as usize).copied();
            positions.iter().filter_map(name).collect::<Vec<_>>().join(",")
        };
        let numbers: Vec<String> = (0..self.own.len()).map(|number| number.to_string()).collect();
        let mut variables = vec![
            (
                "SLURM_STEP_GPUS",
                (!self.of_step.is_empty()).then(|| names(&self.of_step)),
            ),
            ("SLURM_GPUS_ON_NODE", Some(self.of_step.len().to_string())),
        ];
        let seen = [names(&self.own), names(&self.own), numbers.join(",")];
        for ((name, is_there), seen) in [CUDA, ROCR, HIP].into_iter().zip(makers).zip(seen) {
            if is_there {
                variables.push((name, Some(seen)));
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gres(kind: Option<&str>, count: u64) -> Gres {
        Gres {
            name: "gpu".to_owned(),
            kind: kind.map(str::to_owned),
            count,
        }
    }

    fn asks(wish: Option<GpuWish>, nodes: u32) -> String {
        let mut settings = BatchSettings::default();
        settings.step.gpus = wish;
        asked(&settings, nodes).to_string()
    }

    #[test]
    fn gpus_are_counted_for_ranks_or_for_nodes() {
        let each = vec![gres(Some("A100"), 2), gres(None, 1)];
        assert_eq!(
            asks(Some(GpuWish::PerTask(each)), 2),
            "2 gpu:a100, 1 gpu for each task"
        );
        let none = vec![gres(None, 0)];
        assert_eq!(asks(Some(GpuWish::PerNode(none)), 2), " on each node");
        assert_eq!(
            asks(Some(GpuWish::InAll(vec![gres(None, 3)])), 2),
            "2 gpu on each node"
        );
        assert_eq!(asks(None, 1), " on each node");
    }

    #[test]
    fn a_rank_sees_its_own_by_the_names_that_makers_give_them() {
        let rank = RankGpus {
            of_step: vec![1, 3],
            own: vec![3],
        };
        let told = |rank: &RankGpus, makers| {
            let variables = rank.variables("0,2,4,6", makers).into_iter();
            let lines = variables.map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-")));
            lines.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told(&rank, [true, false, false]),
            "SLURM_STEP_GPUS=2,6 SLURM_GPUS_ON_NODE=2 CUDA_VISIBLE_DEVICES=6"
        );
        assert_eq!(
            told(&rank, [false, true, true]),
            "SLURM_STEP_GPUS=2,6 SLURM_GPUS_ON_NODE=2 ROCR_VISIBLE_DEVICES=6 HIP_VISIBLE_DEVICES=0"
        );
        let none = RankGpus {
            of_step: Vec::new(),
            own: Vec::new(),
        };
        assert_eq!(
            told(&none, [true, false, false]),
            "SLURM_STEP_GPUS=- SLURM_GPUS_ON_NODE=0 CUDA_VISIBLE_DEVICES="
        );
    }
}
