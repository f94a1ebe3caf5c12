//! Which step of a script has which of its job's cpus and gpus, and which waits for some. Pure: it knows no socket and no process.
//!
//! Any step that fits goes, in the order in which they came: one that needs little passes one that needs much, as under Slurm.
//! A step that overlaps others has no cpus to itself, and waits for nobody. A step that needs more than the job has gets all
//! there is. One that a rank of another step starts, and for which there is not enough beside that one, would wait for its own
//! launcher: it overlaps. A step that asks for no gpus holds none; one that asks for more than the job has is refused.
//!
//! Invariant STEP: no cpu and no gpu is held by two steps, and each is either free or held.

mod gpus;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use phalanx_protocol::step::{
    Extent, NodeShare, STEPS_MAX, StepGpus, StepGrant, StepRefusal, StepRequest, ToStep,
};

use self::gpus::{choose, most_ranks};

/// What is free or held on a node, by positions there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parts {
    cpus: BTreeSet<u32>,
    gpus: BTreeSet<u32>,
}

impl Parts {
    fn add(&mut self, other: Self) {
        self.cpus.extend(other.cpus);
        self.gpus.extend(other.gpus);
    }

    fn take(&mut self, other: &Self) {
        self.cpus.retain(|cpu| !other.cpus.contains(cpu));
        self.gpus.retain(|gpu| !other.gpus.contains(gpu));
    }
}

/// What a job has on one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) struct NodeStock {
    /// How many cpus, at least 1.
    pub(in crate::command) count: u32,
    /// Which, by the system's numbers, ascending; as many as there are, or none if nobody knows.
    pub(in crate::command) numbers: Vec<u32>,
    /// The types of its gpus, as far as they are known.
    pub(in crate::command) gpus: Vec<Option<String>>,
}

impl NodeStock {
    fn all(&self) -> Parts {
        let gpus = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
        Parts {
            cpus: (0..self.count).collect(),
            gpus: (0..gpus).collect(),
        }
    }
}

/// The cpus and gpus of one script's job.
#[derive(Debug)]
pub(super) struct Ledger {
    nodes: Vec<NodeStock>,
    /// By node.
    free: Vec<Parts>,
    leases: BTreeMap<u64, Lease>,
    /// Their ids ascend in the order in which they came.
    waiting: BTreeMap<u64, StepRequest>,
    next_step: u32,
}

/// What a step has to itself.
#[derive(Debug)]
struct Lease {
    step: u32,
    inside: Option<u32>,
    /// By node; nothing if it overlaps others.
    held: Vec<Parts>,
}

/// Where a step would run.
#[derive(Debug)]
struct Placement {
    node: usize,
    ranks: u32,
    cpus: BTreeSet<u32>,
    /// Rank after rank, if each has its own.
    gpus: Vec<u32>,
}

impl Ledger {
    /// All is free.
    pub(super) fn new(nodes: Vec<NodeStock>) -> Self {
        Self {
            free: nodes.iter().map(NodeStock::all).collect(),
            nodes,
            leases: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_step: 0,
        }
    }

    /// Takes in what a launcher asks. Ids ascend, and none is used twice.
    pub(super) fn ask(&mut self, id: u64, request: StepRequest) -> ToStep {
        if let Err(refusal) = self.judge(&request) {
            return ToStep::Refused(refusal);
        }
        let request = StepRequest {
            nodes_min: request.nodes_min.min(request.ranks),
            overlap: request.overlap || self.waits_for_itself(&request),
            ..request
        };
        match self.grant(id, &request) {
            Some(grant) => ToStep::Granted(grant),
            None if request.immediate => ToStep::Refused(StepRefusal::Busy),
            None => {
                self.waiting.insert(id, request);
                ToStep::Waiting
            }
        }
    }

    /// Takes back what a step has, or forgets that it waits; says who may begin now. One that is not known had nothing.
    pub(super) fn release(&mut self, id: u64) -> Vec<(u64, StepGrant)> {
        self.waiting.remove(&id);
        let Some(lease) = self.leases.remove(&id) else {
            return Vec::new();
        };
        for (free, held) in self.free.iter_mut().zip(lease.held) {
            free.add(held);
        }
        let mut granted = Vec::new();
        let mut next = 0;
        while let Some((id, request)) = self.next_that_may_fit(next) {
            if let Some(grant) = self.grant(id, &request) {
                self.waiting.remove(&id);
                granted.push((id, grant));
            }
            next = id + 1;
        }
        granted
    }

    /// The first that waits, from that id on, for no more cpus than are free; for any number if all are.
    fn next_that_may_fit(&self, from: u64) -> Option<(u64, StepRequest)> {
        let free: u64 = self.free.iter().map(|free| free.cpus.len() as u64).sum();
        let all: u64 = self.nodes.iter().map(|node| u64::from(node.count)).sum();
        if free == 0 {
            return None;
        }
        let may_fit = |request: &StepRequest| {
            free == all || u64::from(request.ranks) * u64::from(request.cpus_per_rank) <= free
        };
        let mut waiting = self.waiting.range(from..);
        let (&id, request) = waiting.find(|(_, request)| may_fit(request))?;
        Some((id, request.clone()))
    }

    /// The step that has this lease.
    pub(super) fn step(&self, id: u64) -> Option<u32> {
        self.leases.get(&id).map(|lease| lease.step)
    }

    /// Whether a request can be met at all.
    fn judge(&self, request: &StepRequest) -> Result<(), StepRefusal> {
        let usable = (0..self.nodes.len()).filter(|&node| may_use(request, node));
        let there = u32::try_from(usable.count()).unwrap_or(u32::MAX);
        let per_node = request.ranks_per_node_max;
        if request.ranks == 0 || request.cpus_per_rank == 0 {
            return Err(StepRefusal::Empty);
        }
        if request.nodes_min > there {
            let asked = request.nodes_min;
            return Err(StepRefusal::Nodes { asked, there });
        }
        if per_node > 0 && request.ranks > per_node.saturating_mul(there) {
            let ranks = request.ranks;
            return Err(StepRefusal::RanksPerNode {
                ranks,
                per_node,
                there,
            });
        }
        if self.lacks_gpus(request) {
            let nodes = (0..).zip(&self.nodes).filter(|&(node, _)| may_use(request, node));
            let there = nodes.map(|(_, node)| node.gpus.len()).sum::<usize>();
            return Err(StepRefusal::Gpus {
                asked: request.gpus.clone(),
                ranks: request.ranks,
                there: u32::try_from(there).unwrap_or(u32::MAX),
            });
        }
        match self.leases.len() + self.waiting.len() < STEPS_MAX {
            true => Ok(()),
            false => Err(StepRefusal::TooMany),
        }
    }

    /// Whether all gpus of the job are too few for it, wherever its cpus let its ranks be.
    fn lacks_gpus(&self, request: &StepRequest) -> bool {
        let all = self.all();
        if request.gpus.count() == 0 || self.fits(request, &all).is_some() {
            return false;
        }
        let without = StepRequest {
            gpus: StepGpus::default(),
            ..request.clone()
        };
        let lacks = |placement: Placement| {
            let gpus: Vec<u32> = all[placement.node].gpus.iter().copied().collect();
            choose(
                &self.nodes[placement.node].gpus,
                &gpus,
                &request.gpus,
                placement.ranks,
            )
            .is_none()
        };
        self.fits(&without, &all).is_some() || self.overcommit(&without).into_iter().any(lacks)
    }

    /// Whether there is never enough for it while the step runs that has started it.
    fn waits_for_itself(&self, request: &StepRequest) -> bool {
        let mut others = self.all();
        let mut inside = request.inside;
        // each is inside an earlier one, so that this ends
        while let Some(step) = inside {
            let Some(lease) = self.leases.values().find(|lease| lease.step == step) else {
                break;
            };
            for (others, held) in others.iter_mut().zip(&lease.held) {
                others.take(held);
            }
            inside = lease.inside.filter(|&outer| outer < step);
        }
        others != self.all() && self.place(request, &others).is_none()
    }

    /// Gives a step its cpus and gpus, if they are free or it shares them.
    fn grant(&mut self, id: u64, request: &StepRequest) -> Option<StepGrant> {
        let all = self.all();
        let usual = self.place(request, if request.overlap { &all } else { &self.free });
        let is_overcommitted = usual.is_none() && self.fits(request, &all).is_none();
        let placements = match (usual, is_overcommitted) {
            (Some(placements), _) => placements,
            (None, false) => return None,
            (None, true) if request.overlap || self.free == all => self.overcommit(request),
            (None, true) => return None,
        };
        let mut held = vec![Parts::default(); self.nodes.len()];
        if !request.overlap {
            for placement in &placements {
                let parts = Parts {
                    cpus: placement.cpus.clone(),
                    gpus: placement.gpus.iter().copied().collect(),
                };
                let free = &mut self.free[placement.node];
                let are_free = parts.cpus.is_subset(&free.cpus) && parts.gpus.is_subset(&free.gpus);
                assert!(are_free, "STEP");
                free.take(&parts);
                held[placement.node] = parts;
            }
        }
        let step = self.next_step;
        self.next_step += 1;
        let inside = request.inside;
        self.leases.insert(id, Lease { step, inside, held });
        Some(StepGrant {
            step,
            shares: placements.iter().map(|placement| self.share(placement)).collect(),
            is_overcommitted,
        })
    }

    fn all(&self) -> Vec<Parts> {
        self.nodes.iter().map(NodeStock::all).collect()
    }

    /// How many ranks each node takes, if they all find a place on what is `free`.
    fn fits(&self, request: &StepRequest, free: &[Parts]) -> Option<Vec<(usize, u32)>> {
        let most = match request.ranks_per_node_max {
            0 => u32::MAX,
            most => most,
        };
        let capacity = |(node, free): (usize, &Parts)| {
            let count = u32::try_from(free.cpus.len()).unwrap_or(u32::MAX);
            let is_whole = count == self.nodes[node].count;
            let ranks = match request.extent {
                Extent::Whole if !is_whole => 0,
                Extent::Whole | Extent::Exact => count / request.cpus_per_rank,
            };
            let gpus: Vec<u32> = free.gpus.iter().copied().collect();
            let kinds = &self.nodes[node].gpus;
            (node, most_ranks(kinds, &gpus, &request.gpus, ranks.min(most)))
        };
        let mut room: Vec<(usize, u32)> = free.iter().enumerate().map(capacity).collect();
        room.retain(|&(node, ranks)| ranks > 0 && may_use(request, node));
        // few nodes rather than many, the first ones among equals
        room.sort_by_key(|&(_, ranks)| std::cmp::Reverse(ranks));
        let mut sum = 0_u32;
        let mut n_nodes = 0;
        while n_nodes < request.nodes_min.max(1) as usize || sum < request.ranks {
            sum = sum.saturating_add(room.get(n_nodes)?.1);
            n_nodes += 1;
        }
        room.truncate(n_nodes);
        room.sort_unstable();
        Some(distribute(request.ranks, &room))
    }

    /// Chooses cpus and gpus among those that are `free`.
    fn place(&self, request: &StepRequest, free: &[Parts]) -> Option<Vec<Placement>> {
        let fitting = self.fits(request, free)?;
        let place = |(node, ranks): (usize, u32)| {
            let count = match request.extent {
                Extent::Exact => (ranks * request.cpus_per_rank) as usize,
                Extent::Whole => free[node].cpus.len(),
            };
            let cpus = free_first(&free[node].cpus, &self.free[node].cpus);
            let gpus = free_first(&free[node].gpus, &self.free[node].gpus);
            Placement {
                node,
                ranks,
                cpus: cpus.into_iter().take(count).collect(),
                gpus: choose(&self.nodes[node].gpus, &gpus, &request.gpus, ranks).unwrap_or_default(),
            }
        };
        Some(fitting.into_iter().map(place).collect())
    }

    /// All cpus of all nodes, for ranks that they are too few for.
    fn overcommit(&self, request: &StepRequest) -> Vec<Placement> {
        let usable: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| may_use(request, node))
            .collect();
        let n_nodes = u32::try_from(usable.len()).unwrap_or(u32::MAX);
        // no node has a rank more than another needs
        let each = request.ranks.div_ceil(n_nodes.max(1));
        let room: Vec<(usize, u32)> = usable.into_iter().map(|node| (node, each)).collect();
        let all = self.all();
        let ranks = distribute(request.ranks, &room);
        let with_some = ranks.into_iter().filter(|&(_, ranks)| ranks > 0);
        with_some
            .map(|(node, ranks)| Placement {
                node,
                ranks,
                cpus: all[node].cpus.clone(),
                gpus: {
                    let gpus = free_first(&all[node].gpus, &self.free[node].gpus);
                    choose(&self.nodes[node].gpus, &gpus, &request.gpus, ranks).unwrap_or_default()
                },
            })
            .collect()
    }

    fn share(&self, placement: &Placement) -> NodeShare {
        let numbers = &self.nodes[placement.node].numbers;
        let number = |&cpu: &u32| numbers.get(cpu as usize).copied();
        NodeShare {
            node: u32::try_from(placement.node).unwrap_or(u32::MAX),
            ranks: placement.ranks,
            cpu_count: u32::try_from(placement.cpus.len()).unwrap_or(u32::MAX),
            cpus: placement.cpus.iter().filter_map(number).collect(),
            gpus: placement.gpus.clone(),
        }
    }

    /// Checks STEP.
    #[cfg(test)]
    fn check(&self) {
        for (node, stock) in self.nodes.iter().enumerate() {
            let mut all = self.free[node].clone();
            let (mut n_cpus, mut n_gpus) = (all.cpus.len(), all.gpus.len());
            for lease in self.leases.values() {
                let held = &lease.held[node];
                n_cpus += held.cpus.len();
                n_gpus += held.gpus.len();
                all.add(held.clone());
            }
            assert_eq!((n_cpus, n_gpus), (all.cpus.len(), all.gpus.len()));
            assert_eq!(all, stock.all());
        }
    }
}

/// Those that may be used, the ones that nobody holds first: whoever shares some shares as few as possible.
fn free_first(usable: &BTreeSet<u32>, free: &BTreeSet<u32>) -> Vec<u32> {
    let (alone, shared): (Vec<u32>, Vec<u32>) = usable.iter().partition(|part| free.contains(part));
    alone.into_iter().chain(shared).collect()
}

/// Whether a step may be on a node.
fn may_use(request: &StepRequest, node: usize) -> bool {
    request.only.is_empty() || request.only.iter().any(|&only| only as usize == node)
}

/// Fills nodes with ranks, one after the other, and leaves none of them empty if there are enough.
fn distribute(ranks: u32, room: &[(usize, u32)]) -> Vec<(usize, u32)> {
    let mut left = ranks;
    let mut behind = u32::try_from(room.len()).unwrap_or(u32::MAX);
    let mut part = |&(node, most): &(usize, u32)| {
        behind -= 1;
        let here = left.saturating_sub(behind).max(left.min(1)).min(most);
        left -= here;
        (node, here)
    };
    room.iter().map(&mut part).collect()
}
