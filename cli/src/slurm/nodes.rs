//! Workers as nodes, and the one partition that they are in.

use std::collections::BTreeMap;

use phalanx::WorkerView;
use phalanx_protocol::Amount;
use phalanx_protocol::resources::said_once;

use phalanx_protocol::hostlist;

/// The name of the one partition.
pub(super) const PARTITION: &str = "phalanx";

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeState {
    Idle,
    Mixed,
    Allocated,
    Draining,
    Drained,
}

impl NodeState {
    /// All of them, as tables list them.
    pub(super) const ALL: [Self; 5] = [
        Self::Drained,
        Self::Draining,
        Self::Allocated,
        Self::Mixed,
        Self::Idle,
    ];

    pub(super) fn of(worker: &WorkerView) -> Self {
        let is_empty = worker.jobs.is_empty() && worker.free == worker.capacity;
        match (worker.draining, is_empty, worker.free.cpus) {
            (true, true, _) => Self::Drained,
            (true, false, _) => Self::Draining,
            (false, true, _) => Self::Idle,
            (false, false, 0) => Self::Allocated,
            (false, false, _) => Self::Mixed,
        }
    }

    /// `idle`: `%T` of `sinfo`.
    pub(super) fn name(self) -> &'static str {
        self.names().0
    }

    /// `drng`: `%t` of `sinfo`.
    pub(super) fn short(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Idle => ("idle", "idle"),
            Self::Mixed => ("mixed", "mix"),
            Self::Allocated => ("allocated", "alloc"),
            Self::Draining => ("draining", "drng"),
            Self::Drained => ("drained", "drain"),
        }
    }

    /// The states that a word means, as `sinfo --states` takes it; none if it is no state.
    pub(super) fn named(word: &str) -> Option<Vec<Self>> {
        let word = word.trim().to_ascii_lowercase();
        let known = |state: &Self| state.name() == word || state.short() == word;
        match word.as_str() {
            "all" => return Some(Self::ALL.to_vec()),
            // both have been told to leave
            "drain" => return Some(vec![Self::Draining, Self::Drained]),
            "mix" | "mixed" => return Some(vec![Self::Mixed]),
            // what cannot be seen here: such a worker is not there at all
            "down" | "fail" | "failing" | "unknown" | "maint" | "no_respond" | "reserved" | "resv"
            | "planned" | "future" | "comp" | "completing" | "power_down" | "powered_down" => {
                return Some(Vec::new());
            }
            _ => {}
        }
        Self::ALL
            .iter()
            .find(|state| known(state))
            .map(|&state| vec![state])
    }
}

/// Cpus of nodes, as `sinfo` counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CpuCount {
    pub(super) allocated: u64,
    pub(super) idle: u64,
    /// Free, but of a node that takes nothing on.
    pub(super) other: u64,
}

impl CpuCount {
    pub(super) fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerView>) -> Self {
        let mut count = Self::default();
        for worker in workers {
            count.allocated += u64::from(worker.capacity.cpus.saturating_sub(worker.free.cpus));
            match worker.draining {
                true => count.other += u64::from(worker.free.cpus),
                false => count.idle += u64::from(worker.free.cpus),
            }
        }
        count
    }

    pub(super) fn total(self) -> u64 {
        self.allocated + self.idle + self.other
    }
}

/// Bytes as whole mebibytes, in which Slurm counts a node's memory.
pub(super) fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// What else a node has, `gpu:a100:2,nvme:1`; none if nothing.
pub(super) fn gres(named: &BTreeMap<String, Amount>) -> Option<String> {
    let texts: Vec<String> = said_once(named)
        .filter(|&(_, count)| count > Amount::ZERO)
        .map(|(name, count)| format!("{name}:{count}"))
        .collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// The names of workers as a list of nodes, in the order of the numbers in them.
pub(super) fn node_list<'a>(workers: impl IntoIterator<Item = &'a WorkerView>) -> String {
    node_names(workers.into_iter().map(|worker| &worker.name))
}

/// Names as a list of nodes, in the order of the numbers in them.
pub(super) fn node_names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    names.sort_by(|a, b| hostlist::order(a).cmp(&hostlist::order(b)));
    names.dedup();
    hostlist::compress(&names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::worker_view;

    fn worker(name: &str, free_cpus: u32, draining: bool) -> WorkerView {
        let mut worker = worker_view();
        worker.name = name.to_owned();
        worker.free.cpus = free_cpus;
        worker.draining = draining;
        if free_cpus == worker.capacity.cpus {
            worker.jobs.clear();
            worker.free = worker.capacity.clone();
        }
        worker
    }

    #[test]
    fn a_node_is_what_its_worker_does() {
        let states = [(8, false), (3, false), (0, false), (3, true), (8, true)];
        let states = states.map(|(free, draining)| NodeState::of(&worker("n", free, draining)).name());
        assert_eq!(states, ["idle", "mixed", "allocated", "draining", "drained"]);
        for state in NodeState::ALL {
            assert!(NodeState::named(state.name()).unwrap().contains(&state));
            assert!(
                NodeState::named(&state.short().to_uppercase())
                    .unwrap()
                    .contains(&state)
            );
        }
        assert_eq!(
            (NodeState::named("down"), NodeState::named("sleepy")),
            (Some(vec![]), None)
        );
    }

    #[test]
    fn cpus_are_used_free_or_of_no_use() {
        let workers = [worker("a", 3, false), worker("b", 8, false), worker("c", 6, true)];
        let count = CpuCount::of(&workers);
        assert_eq!(
            (count.allocated, count.idle, count.other, count.total()),
            (7, 11, 6, 24)
        );
    }

    #[test]
    fn nodes_are_listed_by_their_numbers() {
        let workers = ["n10", "n9", "login", "n11"].map(|name| worker(name, 8, false));
        assert_eq!(node_list(&workers), "login,n[9-11]");
    }
}
