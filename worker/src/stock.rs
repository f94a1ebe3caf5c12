//! Which gpus and cpus of this worker are in use by whom, so that no two tasks have the same.
//!
//! The ledger counts ([`crate::ledger`]); this names. A place is made for each slot whose tasks have gpus or cpus to
//! themselves, and is given back when no task runs in it. Pure.

use std::collections::BTreeMap;

use phalanx_protocol::message::host::Place;
use phalanx_protocol::resources::GPU;
use phalanx_protocol::{Amount, Gpu, GpuVendor, Pin, Request, Resources};

use crate::equipment::Equipment;
use crate::topology::{Cpu, Topology};

/// The gpus and cpus of a worker.
#[derive(Debug)]
pub(crate) struct Stock {
    devices: Vec<Device>,
    topology: Topology,
    /// How many places have each cpu of the topology: more than one only if the worker offers more cpus than it may use.
    users: Vec<u32>,
    last_place: u32,
}

#[derive(Debug)]
struct Device {
    gpu: Gpu,
    free: Amount,
}

impl Stock {
    /// All of what a worker has that offers `capacity`. Gpus that it offers beyond its equipment have numbers.
    pub(crate) fn new(capacity: &Resources, equipment: Equipment) -> Self {
        let offered = capacity.named.get(GPU).map_or(0, |amount| amount.wholes());
        let offered = usize::try_from(offered).unwrap_or(usize::MAX);
        let mut gpus = equipment.gpus;
        gpus.truncate(offered);
        let beyond = gpus.len()..offered.min(GPUS_MAX);
        gpus.extend(beyond.map(|index| Gpu {
            vendor: GpuVendor::Unknown,
            id: index.to_string(),
            kind: None,
        }));
        let device = |gpu| Device {
            gpu,
            free: Amount::ONE,
        };
        Self {
            devices: gpus.into_iter().map(device).collect(),
            users: vec![0; equipment.topology.cpus.len()],
            topology: equipment.topology,
            last_place: 0,
        }
    }

    /// Whether there are any gpus.
    pub(crate) fn has_gpus(&self) -> bool {
        !self.devices.is_empty()
    }

    /// A place for a task that needs `request`; none if its gpus are not free.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Place> {
        let devices = self.free_devices(request)?;
        let (_, each) = gpus_of(request);
        for &device in &devices {
            let device = &mut self.devices[device];
            device.free = device.free.saturating_sub(each);
        }
        let cpus = self.best_cpus(request.cpus as usize, request.pin);
        for &cpu in &cpus {
            self.users[cpu] += 1;
        }
        self.last_place = self.last_place.wrapping_add(1);
        let mut cpus: Vec<u32> = cpus
            .into_iter()
            .map(|cpu| self.topology.cpus[cpu].number)
            .collect();
        cpus.sort_unstable();
        Some(Place {
            number: self.last_place,
            cpus,
            gpus: devices
                .into_iter()
                .map(|device| self.devices[device].gpu.clone())
                .collect(),
        })
    }

    /// Takes a place back that was made for `request`.
    pub(crate) fn give(&mut self, place: &Place, request: &Request) {
        let (_, each) = gpus_of(request);
        for device in &mut self.devices {
            if place.gpus.contains(&device.gpu) {
                device.free = device.free.saturating_add(each);
            }
        }
        for (cpu, users) in self.topology.cpus.iter().zip(&mut self.users) {
            *users -= u32::from(place.cpus.contains(&cpu.number));
        }
    }

    /// The devices for a task, by position: a part goes to the one with the least that has as much.
    fn free_devices(&self, request: &Request) -> Option<Vec<usize>> {
        let (count, each) = gpus_of(request);
        let mut chosen: Vec<usize> = Vec::new();
        let typed = request.named.iter().filter_map(|(name, amount)| {
            let kind = name.strip_prefix(GPU)?.strip_prefix(':')?;
            Some((kind, if each < Amount::ONE { 1 } else { amount.wholes() }))
        });
        for (kind, count) in typed {
            for _ in 0..count {
                chosen.push(self.free_device(each, Some(kind), &chosen)?);
            }
        }
        while (chosen.len() as u64) < count {
            chosen.push(self.free_device(each, None, &chosen)?);
        }
        chosen.sort_unstable();
        Some(chosen)
    }

    fn free_device(&self, need: Amount, kind: Option<&str>, taken: &[usize]) -> Option<usize> {
        let fits = |&(position, device): &(usize, &Device)| {
            let is_wanted = kind.is_none() || device.gpu.kind.as_deref() == kind;
            is_wanted && device.free >= need && !taken.contains(&position)
        };
        let fitting = self.devices.iter().enumerate().filter(fits);
        let best = fitting.min_by_key(|&(position, device)| (device.free, position));
        best.map(|(position, _)| position)
    }

    /// The cpus for a task, by position: those with the fewest users, on one NUMA node if they fit there.
    fn best_cpus(&self, count: usize, pin: Pin) -> Vec<usize> {
        let is_compact = match pin {
            Pin::None => return Vec::new(),
            Pin::Compact => true,
            Pin::Spread => false,
        };
        let mut levels = self.users.clone();
        levels.sort_unstable();
        let Some(&level) = levels.get(count.saturating_sub(1)).or(levels.last()) else {
            return Vec::new();
        };
        let mut nodes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (position, cpu) in self.topology.cpus.iter().enumerate() {
            if self.users[position] <= level {
                nodes.entry(cpu.node).or_default().push(position);
            }
        }
        let fitting = || nodes.values().filter(|cpus| cpus.len() >= count);
        // of several that are alike the first
        let one = match is_compact {
            true => fitting().min_by_key(|cpus| cpus.len()),
            false => fitting().rev().max_by_key(|cpus| cpus.len()),
        };
        let mut cpus = match one {
            Some(cpus) => cpus.clone(),
            None => {
                let mut largest: Vec<&Vec<usize>> = nodes.values().collect();
                largest.sort_by_key(|cpus| std::cmp::Reverse(cpus.len()));
                largest.into_iter().flatten().copied().collect()
            }
        };
        match is_compact {
            true => cpus.sort_by_key(|&cpu| self.users[cpu]),
            false => self.order_by_core(&mut cpus),
        }
        cpus.truncate(count);
        cpus
    }

    /// Puts the first free thread of each core before the second ones; cores of which some thread is in use count as begun.
    fn order_by_core(&self, cpus: &mut [usize]) {
        let busy = |core: usize| -> u32 {
            let of_core = |(cpu, _): &(&Cpu, &u32)| cpu.core == core;
            let users = self.topology.cpus.iter().zip(&self.users).filter(of_core);
            users.map(|(_, users)| *users).sum()
        };
        let mut begun: BTreeMap<usize, u32> = BTreeMap::new();
        let mut rank = |cpu: usize| {
            let core = self.topology.cpus[cpu].core;
            let rank = begun.entry(core).or_insert_with(|| busy(core));
            *rank += 1;
            *rank
        };
        let mut ranked: Vec<(u32, usize)> = cpus.iter().map(|&cpu| (rank(cpu), cpu)).collect();
        ranked.sort_by_key(|&(rank, _)| rank);
        for (cpu, (_, ranked)) in cpus.iter_mut().zip(ranked) {
            *cpu = ranked;
        }
    }
}

/// Gpus of one worker, at the most.
const GPUS_MAX: usize = 4096;

/// How many gpus a task has, and how much of each.
fn gpus_of(request: &Request) -> (u64, Amount) {
    let amount = request.named.get(GPU).copied().unwrap_or(Amount::ZERO);
    match amount < Amount::ONE {
        true => (u64::from(amount > Amount::ZERO), amount),
        false => (amount.wholes(), Amount::ONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::machine;

    fn gpus(kinds: &[&str]) -> Stock {
        let gpu = |(index, kind): (usize, &&str)| Gpu {
            vendor: GpuVendor::Nvidia,
            id: index.to_string(),
            kind: Some((*kind).to_owned()),
        };
        let gpus: Vec<Gpu> = kinds.iter().enumerate().map(gpu).collect();
        let mut capacity = Resources::default();
        capacity.set_gpus(&gpus);
        let equipment = Equipment {
            gpus,
            ..Equipment::default()
        };
        Stock::new(&capacity, equipment)
    }

    fn asking(named: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        named
            .iter()
            .for_each(|(name, amount)| request.add(name, amount.parse().unwrap()));
        request
    }

    fn ids(place: &Place) -> Vec<&str> {
        place.gpus.iter().map(|gpu| gpu.id.as_str()).collect()
    }

    #[test]
    fn no_two_tasks_have_the_same_gpu_and_one_that_is_given_back_is_free() {
        let mut stock = gpus(&["a100"; 3]);
        let (one, two) = (asking(&[("gpu", "1")]), asking(&[("gpu", "2")]));
        let first = stock.take(&one).unwrap();
        let second = stock.take(&two).unwrap();
        assert_eq!((ids(&first), ids(&second)), (vec!["0"], vec!["1", "2"]));
        assert_eq!(stock.take(&one), None);
        stock.give(&first, &one);
        assert_eq!(stock.take(&two), None);
        let third = stock.take(&one).unwrap();
        assert_eq!(ids(&third), ["0"]);
        assert_ne!(third.number, first.number);
    }

    #[test]
    fn parts_share_a_gpu_as_far_as_they_fit_and_leave_others_whole() {
        let mut stock = gpus(&["a100"; 2]);
        let (part, small) = (asking(&[("gpu", "0.4")]), asking(&[("gpu", "0.2")]));
        let places: Vec<Place> = (0..2).map(|_| stock.take(&part).unwrap()).collect();
        assert_eq!((ids(&places[0]), ids(&places[1])), (vec!["0"], vec!["0"]));
        assert_eq!(ids(&stock.take(&small).unwrap()), ["0"]);
        let other = stock.take(&small).unwrap();
        assert_eq!(ids(&other), ["1"]);
        let whole = asking(&[("gpu", "1")]);
        assert_eq!(stock.take(&whole), None, "none is whole");
        stock.give(&other, &small);
        assert_eq!(ids(&stock.take(&whole).unwrap()), ["1"]);
    }

    #[test]
    fn who_asks_for_a_type_gets_that_type() {
        let mut stock = gpus(&["v100", "a100", "a100"]);
        assert_eq!(ids(&stock.take(&asking(&[("gpu:a100", "1")])).unwrap()), ["1"]);
        let mixed = asking(&[("gpu:a100", "1"), ("gpu", "1")]);
        assert_eq!(ids(&stock.take(&mixed).unwrap()), ["0", "2"]);
        assert_eq!(gpus(&["v100"]).take(&asking(&[("gpu:a100", "0.5")])), None);
    }

    #[test]
    fn gpus_that_nobody_has_found_have_numbers() {
        let mut capacity = Resources::default();
        capacity.add(GPU, Amount::whole(2));
        let mut stock = Stock::new(&capacity, Equipment::default());
        let place = stock.take(&asking(&[("gpu", "2")])).unwrap();
        assert_eq!(
            (ids(&place), place.gpus[0].vendor),
            (vec!["0", "1"], GpuVendor::Unknown)
        );
    }

    /// The cpus of slots of `cpus` cpus each, one after the other.
    fn pinned(topology: Topology, pin: Pin, slots: &[u32]) -> Vec<Vec<u32>> {
        let equipment = Equipment {
            topology,
            ..Equipment::default()
        };
        let mut stock = Stock::new(&Resources::default(), equipment);
        let take = |&cpus: &u32| {
            let request = Request {
                cpus,
                pin,
                ..Request::default()
            };
            stock.take(&request).unwrap().cpus
        };
        slots.iter().map(take).collect()
    }

    #[test]
    fn compact_slots_fill_cores_and_nodes() {
        // node 0 has cores (0,8) (1,9) (2,10) (3,11), node 1 has (4,12) (5,13) (6,14) (7,15)
        let slots = pinned(machine(2, 4, 2), Pin::Compact, &[2, 1, 1, 6, 4, 2]);
        let expected: [&[u32]; 6] = [
            &[0, 8],
            &[1],
            &[9],
            &[4, 5, 6, 12, 13, 14],
            &[2, 3, 10, 11],
            &[7, 15],
        ];
        assert_eq!(slots, expected);
    }

    #[test]
    fn spread_slots_go_to_the_emptier_node_and_use_second_threads_last() {
        let slots = pinned(machine(2, 4, 2), Pin::Spread, &[2, 2, 2, 2, 2]);
        let expected: [&[u32]; 5] = [&[0, 1], &[4, 5], &[2, 3], &[6, 7], &[8, 9]];
        assert_eq!(slots, expected);
        assert_eq!(pinned(machine(1, 4, 2), Pin::Spread, &[6]), [[0, 1, 2, 3, 4, 5]]);
    }

    #[test]
    fn a_slot_lies_on_one_node_if_it_fits_there() {
        for pin in [Pin::Compact, Pin::Spread] {
            let slots = pinned(machine(4, 4, 1), pin, &[3, 3, 3, 3, 2]);
            for slot in &slots[..4] {
                assert_eq!(slot[0] / 4, slot[2] / 4, "{pin:?}: {slot:?}");
            }
            // no node has as many left: as few as will do
            assert_eq!(slots[4].len(), 2);
            let mut all: Vec<u32> = slots.concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 14, "{pin:?}: nobody has a cpu twice");
        }
    }

    #[test]
    fn cpus_that_are_not_there_are_shared_evenly() {
        assert_eq!(
            pinned(machine(1, 2, 1), Pin::Compact, &[1, 1, 1, 1]),
            [[0], [1], [0], [1]]
        );
        assert_eq!(pinned(machine(1, 2, 1), Pin::Spread, &[5]), [[0, 1]]);
        assert_eq!(pinned(Topology::default(), Pin::Compact, &[1]), [[0; 0]]);
    }
}
