//! Where the cpus of this machine are: NUMA nodes, cores, hardware threads, as the kernel shows them under `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A cpu that this worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// The system's number of it.
    pub(crate) number: u32,
    /// Its NUMA node.
    pub(crate) node: u32,
    /// Its core, counted over the whole machine.
    pub(crate) core: usize,
}

/// The cpus that this worker may use, those near each other side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) cpus: Vec<Cpu>,
}

impl Topology {
    /// The cpus that this process may use.
    pub(crate) fn detect() -> Self {
        let Ok(mask) = rustix::thread::sched_getaffinity(None) else {
            return Self::default();
        };
        let allowed = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu));
        let allowed: Vec<u32> = allowed.filter_map(|cpu| u32::try_from(cpu).ok()).collect();
        Self::read(Path::new("/sys"), &allowed)
    }

    /// The `allowed` cpus, with what is said of them under `sys`; what is not said makes each a core of one node.
    pub(crate) fn read(sys: &Path, allowed: &[u32]) -> Self {
        let nodes = nodes(&sys.join("devices/system/node"));
        let number_in = |cpu: u32, file: &str| -> Option<u32> {
            let path = sys.join(format!("devices/system/cpu/cpu{cpu}/topology/{file}"));
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let mut places: Vec<(u32, u32, u32, u32)> = allowed
            .iter()
            .map(|&cpu| {
                let package = number_in(cpu, "physical_package_id").unwrap_or(0);
                let core = number_in(cpu, "core_id").unwrap_or(cpu);
                (nodes.get(&cpu).copied().unwrap_or(0), package, core, cpu)
            })
            .collect();
        places.sort_unstable();
        let cores = places.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2));
        let cpus = cores.enumerate().flat_map(|(core, cpus)| {
            let cpu = move |&(node, _, _, number): &(u32, u32, u32, u32)| Cpu { number, node, core };
            cpus.iter().map(cpu)
        });
        Self { cpus: cpus.collect() }
    }

    /// The `index`th of `count` equal parts: neighbours stay together.
    pub(crate) fn part(&self, index: usize, count: usize) -> Self {
        let bound = |index: usize| self.cpus.len() * index / count.max(1);
        let cpus = self.cpus.get(bound(index)..bound(index + 1)).unwrap_or_default();
        Self { cpus: cpus.to_vec() }
    }
}

/// The NUMA node of each cpu.
fn nodes(folder: &Path) -> BTreeMap<u32, u32> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("node")?.parse::<u32>().ok());
        if let Some(node) = number
            && let Ok(list) = fs::read_to_string(entry.path().join("cpulist"))
        {
            nodes.extend(cpu_list(&list).into_iter().map(|cpu| (cpu, node)));
        }
    }
    nodes
}

/// The numbers of `0-3,8`.
fn cpu_list(text: &str) -> Vec<u32> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    parts.flatten().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine of so many NUMA nodes, cores each and threads each; numbered as usual: first threads first.
    pub(crate) fn machine(nodes: u32, cores: u32, threads: u32) -> Topology {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: String| {
            let path = root.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let all = nodes * cores * threads;
        for cpu in 0..all {
            let core = cpu % (nodes * cores);
            write(
                format!("cpu/cpu{cpu}/topology/physical_package_id"),
                format!("{}\n", core / cores),
            );
            write(
                format!("cpu/cpu{cpu}/topology/core_id"),
                format!("{}\n", core % cores),
            );
        }
        for node in 0..nodes {
            let of_thread = |thread: u32| {
                let first = (thread * nodes + node) * cores;
                format!("{first}-{}", first + cores - 1)
            };
            let list: Vec<String> = (0..threads).map(of_thread).collect();
            write(
                format!("node/node{node}/cpulist"),
                format!("{}\n", list.join(",")),
            );
        }
        let allowed: Vec<u32> = (0..all).collect();
        Topology::read(root.path(), &allowed)
    }

    fn numbers(topology: &Topology) -> Vec<u32> {
        topology.cpus.iter().map(|cpu| cpu.number).collect()
    }

    #[test]
    fn threads_of_a_core_and_cores_of_a_node_are_neighbours() {
        let topology = machine(2, 2, 2);
        assert_eq!(numbers(&topology), [0, 4, 1, 5, 2, 6, 3, 7]);
        let nodes: Vec<u32> = topology.cpus.iter().map(|cpu| cpu.node).collect();
        let cores: Vec<usize> = topology.cpus.iter().map(|cpu| cpu.core).collect();
        assert_eq!(nodes, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(cores, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(numbers(&topology.part(1, 2)), [2, 6, 3, 7]);
        assert_eq!(numbers(&topology.part(0, 3)), [0, 4]);
    }

    #[test]
    fn a_machine_that_says_nothing_has_one_node_of_single_cores() {
        let topology = Topology::read(Path::new("/nowhere"), &[3, 1]);
        let cpu = |number, core| Cpu {
            number,
            node: 0,
            core,
        };
        assert_eq!(topology.cpus, [cpu(1, 0), cpu(3, 1)]);
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(!Topology::detect().cpus.is_empty());
    }
}
