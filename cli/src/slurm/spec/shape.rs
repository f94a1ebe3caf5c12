//! The size of a job: its nodes, its ranks, and what each of these has.

use crate::batch::settings::BatchSettings;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::slurm) struct Shape {
    /// At least 1, and no more than ranks.
    pub(in crate::slurm) nodes: u32,
    /// Of all nodes together; at least 1.
    pub(in crate::slurm) ranks: u32,
    pub(in crate::slurm) cpus_per_rank: u32,
}

impl Shape {
    /// What is asked for. A number of ranks comes before one of ranks of each node, which is then the most there may be.
    pub(in crate::slurm) fn of(settings: &BatchSettings) -> Self {
        let asked = settings.nodes.map_or(1, |nodes| nodes.least).max(1);
        let per_node = settings.ntasks_per_node.map(|ranks| ranks.max(1));
        let (ranks, needed) = match (settings.ntasks, per_node) {
            (Some(ranks), per_node) => (ranks, per_node.map_or(1, |per_node| ranks.div_ceil(per_node))),
            (None, Some(per_node)) => (per_node.saturating_mul(asked), 1),
            (None, None) => (asked, 1),
        };
        let ranks = ranks.max(1);
        Self {
            nodes: asked.max(needed).min(ranks),
            ranks,
            cpus_per_rank: settings.cpus_per_task.unwrap_or(1),
        }
    }

    /// What there is to say if there are fewer ranks than nodes that are asked for.
    pub(super) fn fewer_than_asked(self, settings: &BatchSettings) -> Option<String> {
        let asked = settings.nodes.filter(|nodes| nodes.least > self.nodes)?;
        let (ranks, asked) = (self.ranks, asked.least);
        Some(format!(
            "can't run {ranks} tasks on {asked} nodes: the job has {} of them",
            self.nodes
        ))
    }

    /// The ranks of each node: spread evenly, the first have one more.
    pub(in crate::slurm) fn ranks_by_node(self) -> impl Iterator<Item = u32> {
        let (each, more) = (self.ranks / self.nodes, self.ranks % self.nodes);
        (0..self.nodes).map(move |node| each + u32::from(node < more))
    }

    /// The ranks of the node that has most: all have the cpus of so many.
    pub(in crate::slurm) fn ranks_per_node(self) -> u32 {
        self.ranks.div_ceil(self.nodes)
    }

    /// What one of its nodes has.
    pub(super) fn of_one_node(self) -> Self {
        Self {
            nodes: 1,
            ranks: self.ranks_per_node(),
            ..self
        }
    }

    /// Cpus of each node.
    pub(in crate::slurm) fn cpus_per_node(self) -> u32 {
        self.ranks_per_node().saturating_mul(self.cpus_per_rank)
    }
}

/// Numbers of nodes in Slurm's way, `2(x3),1`.
pub(in crate::slurm) fn by_node(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((of, count)) if *of == number => *count += 1,
            Some(_) | None => runs.push((number, 1)),
        }
    }
    let text = |&(number, count): &(u32, u32)| match count {
        1 => number.to_string(),
        count => format!("{number}(x{count})"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::values::NodeCount;

    fn shape(
        nodes: Option<u32>,
        ntasks: Option<u32>,
        ntasks_per_node: Option<u32>,
    ) -> (Shape, Option<String>) {
        let settings = BatchSettings {
            nodes: nodes.map(|least| NodeCount { least, most: least }),
            ntasks,
            ntasks_per_node,
            cpus_per_task: Some(3),
            ..BatchSettings::default()
        };
        let shape = Shape::of(&settings);
        (shape, shape.fewer_than_asked(&settings))
    }

    #[test]
    fn ranks_are_spread_over_the_nodes_that_are_asked_for_or_needed() {
        for (asked, by_node, cpus) in [
            ((None, None, None), "1", 3),
            ((Some(2), None, None), "1(x2)", 3),
            ((Some(2), Some(3), None), "2,1", 6),
            ((Some(2), None, Some(2)), "2(x2)", 6),
            ((None, Some(4), Some(2)), "2(x2)", 6),
            ((None, Some(4), Some(8)), "4", 12),
            ((Some(1), Some(7), Some(2)), "2(x3),1", 6),
        ] {
            let (shape, warning) = shape(asked.0, asked.1, asked.2);
            assert_eq!(super::by_node(shape.ranks_by_node()), by_node, "{asked:?}");
            assert_eq!((shape.cpus_per_node(), warning), (cpus, None), "{asked:?}");
        }
        let (few, warning) = shape(Some(4), Some(2), None);
        assert_eq!((few.nodes, few.ranks), (2, 2));
        assert!(warning.unwrap().starts_with("can't run 2 tasks on 4 nodes"));
    }
}
