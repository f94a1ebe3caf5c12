//! What of this node tasks can be told is theirs: gpus and cpus, by name.

use std::path::Path;

use phalanx_protocol::Gpu;

use crate::gpus;
use crate::topology::Topology;

/// The gpus and cpus of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Equipment {
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) topology: Topology,
}

impl Equipment {
    /// What this process may use: gpus that the node's drivers show, as far as `CUDA_VISIBLE_DEVICES` or
    /// `ROCR_VISIBLE_DEVICES` of this process name them, and the cpus of its affinity mask.
    pub fn detect() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            gpus: gpus::detect(Path::new("/"), variable),
            topology: Topology::detect(),
        }
    }

    /// Its gpus.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The same with so many gpus of each type, or of any: the first of those that were found, or numbers if there are not
    /// as many.
    pub fn with_gpus(mut self, counts: &[(Option<String>, usize)]) -> Self {
        self.gpus = gpus::counted(self.gpus, counts);
        self
    }

    /// The `index`th of `count` equal parts, for one of several workers on the same node.
    pub fn part(&self, index: usize, count: usize) -> Self {
        let bound = |index: usize| self.gpus.len() * index / count.max(1);
        let gpus = self.gpus.get(bound(index)..bound(index + 1)).unwrap_or_default();
        Self {
            gpus: gpus.to_vec(),
            topology: self.topology.part(index, count),
        }
    }
}
