//! What a worker offers and what a task asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;

/// The name of a resource that is more than a number: tasks are told which ones are theirs. `gpu:a100` are those of a
/// type, and are counted among all of them too.
pub const GPU: &str = "gpu";

/// What memory is called among named resources.
const MEMORY: &str = "memory";

/// Cpus, memory and named resources: of a whole worker, or what of it is free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// How much of anything else, by name: gpus, licences, scratch disks.
    pub named: BTreeMap<String, Amount>,
}

/// What each task of a job needs. Two requests are the same slot size if they are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Processors, at least 1.
    pub cpus: u32,
    /// Bytes of memory; 0 asks for none in particular.
    pub memory_bytes: u64,
    /// How much of named resources. What is asked for by type (`gpu:a100`) is in the name's own count (`gpu`) too.
    pub named: BTreeMap<String, Amount>,
    /// Which cpus a task runs on.
    pub pin: Pin,
    /// Who else may run on the same worker.
    pub sharing: Sharing,
}

/// Which cpus of its worker a task runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Pin {
    /// Any, as the system sees fit.
    #[default]
    None,
    /// Cpus of its own that are near each other, and near those of the next task: hardware threads of a core, cores of a
    /// NUMA node.
    Compact,
    /// Cpus of its own on a NUMA node where few others run; a core's second hardware thread last.
    Spread,
}

/// Who else may run on a worker that a task runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sharing {
    /// Anybody.
    #[default]
    Anybody,
    /// Other tasks of the same job.
    OwnJob,
    /// Nobody.
    Nobody,
}

/// A gpu of a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gpu {
    /// Whose it is.
    pub vendor: GpuVendor,
    /// What its vendor's variable calls it (`CUDA_VISIBLE_DEVICES`): a number, or what the worker itself was given.
    pub id: String,
    /// Its type, in small letters: `a100`.
    pub kind: Option<String>,
}

/// Who makes a gpu, which is also whose variables name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuVendor {
    /// `CUDA_VISIBLE_DEVICES`.
    Nvidia,
    /// `ROCR_VISIBLE_DEVICES`, `HIP_VISIBLE_DEVICES`.
    Amd,
    /// Nobody knows: the operator has said how many there are.
    Unknown,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory_bytes: 0,
            named: BTreeMap::new(),
            pin: Pin::None,
            sharing: Sharing::Anybody,
        }
    }
}

impl Request {
    /// Asks for `amount` more of a named resource; what has a type (`gpu:a100`) is counted under its own name too.
    pub fn add(&mut self, name: &str, amount: Amount) {
        add(&mut self.named, name, amount);
    }

    /// Whether its tasks have cpus or gpus to themselves, so that they must be told which.
    pub fn is_placed(&self) -> bool {
        self.pin != Pin::None || self.named.contains_key(GPU)
    }

    /// Whether it asks for some of what has that name: `memory`, `gpu:a100`.
    pub fn asks_for(&self, resource: &str) -> bool {
        let base = resource.split(':').next().unwrap_or(resource);
        match resource {
            MEMORY => self.memory_bytes > 0,
            _ => self.named.contains_key(resource) || self.named.contains_key(base),
        }
    }

    /// What cannot be given of the gpus it asks for: they are whole, or part of a single one.
    pub(crate) fn undividable(&self) -> Option<Amount> {
        let gpus = self.named.get(GPU).copied().unwrap_or(Amount::ZERO);
        let typed = self.named.iter().filter(|(name, _)| of_type(name, GPU));
        let mut sum = Amount::ZERO;
        for (_, &amount) in typed {
            if !amount.is_whole() && amount != gpus {
                return Some(amount);
            }
            sum = sum.saturating_add(amount);
        }
        if sum > gpus {
            return Some(sum);
        }
        let is_part = gpus < Amount::ONE;
        (!gpus.is_whole() && !is_part).then_some(gpus)
    }
}

/// Whether `name` is `base:` and a type.
fn of_type(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| rest.starts_with(':'))
}

fn add(named: &mut BTreeMap<String, Amount>, name: &str, amount: Amount) {
    let mut add_one = |name: &str| {
        let before = named.entry(name.to_owned()).or_default();
        *before = before.saturating_add(amount);
    };
    add_one(name);
    if let Some((base, _)) = name.split_once(':') {
        add_one(base);
    }
}

/// Whether no task has parts of two of them.
fn is_undivided(name: &str) -> bool {
    name == GPU || of_type(name, GPU)
}

impl Resources {
    /// Offers `amount` more of a named resource; what has a type (`gpu:a100`) is counted under its own name too.
    pub fn add(&mut self, name: &str, amount: Amount) {
        add(&mut self.named, name, amount);
    }

    /// Offers gpus, by their number and by type, instead of those that it had.
    pub fn set_gpus(&mut self, gpus: &[Gpu]) {
        self.named.retain(|name, _| !is_undivided(name));
        for gpu in gpus {
            match &gpu.kind {
                Some(kind) => self.add(&format!("{GPU}:{kind}"), Amount::ONE),
                None => self.add(GPU, Amount::ONE),
            }
        }
    }

    /// How many slots of `request` fit, at most `u32::MAX`. Who shares the worker is not known here.
    pub fn slots(&self, request: &Request) -> u32 {
        let per = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
        let mut slots = u64::from(self.cpus / request.cpus.max(1));
        slots = slots.min(per(self.memory_bytes, request.memory_bytes));
        for (name, &need) in &request.named {
            slots = slots.min(self.times(name, need));
        }
        if request.sharing == Sharing::Nobody {
            slots = slots.min(1);
        }
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// What beside cpus there is too little of for a slot of `request`: `memory`, names of resources.
    pub fn lacking(&self, request: &Request) -> BTreeSet<String> {
        let named = request
            .named
            .iter()
            .filter(|&(name, &need)| self.times(name, need) == 0);
        let mut lacking: BTreeSet<String> = named.map(|(name, _)| name.clone()).collect();
        if self.memory_bytes < request.memory_bytes {
            lacking.insert(MEMORY.to_owned());
        }
        lacking
    }

    /// How often `need` of a named resource is there.
    fn times(&self, name: &str, need: Amount) -> u64 {
        let have = self.named.get(name).copied().unwrap_or(Amount::ZERO);
        match is_undivided(name) {
            true => have.times_undivided(need),
            false => have.times(need),
        }
    }

    /// Takes `slots` slots of `request` away.
    ///
    /// # Panics
    /// If they are not there (invariant SLOT).
    pub fn take(&mut self, request: &Request, slots: u32) {
        let fits = self.holds(request, slots);
        assert!(fits, "SLOT: {slots} slots of {request} taken from {self}");
        self.cpus -= request.cpus.max(1) * slots;
        self.memory_bytes -= request.memory_bytes * u64::from(slots);
        for (name, need) in &request.named {
            if let Some(have) = self.named.get_mut(name) {
                *have = have.saturating_sub(need.saturating_mul(slots.into()));
            }
        }
    }

    /// Whether there is as much of everything; which parts belong to the same gpu is not known here.
    fn holds(&self, request: &Request, slots: u32) -> bool {
        let cpus = u64::from(request.cpus.max(1)) * u64::from(slots);
        let memory = request.memory_bytes.checked_mul(slots.into());
        let mut named = request.named.iter();
        u64::from(self.cpus) >= cpus
            && memory.is_some_and(|memory| self.memory_bytes >= memory)
            && named.all(|(name, need)| {
                let have = self.named.get(name).copied().unwrap_or(Amount::ZERO);
                have >= need.saturating_mul(slots.into())
            })
    }

    /// Gives `slots` slots of `request` back.
    pub fn give(&mut self, request: &Request, slots: u32) {
        self.cpus += request.cpus.max(1) * slots;
        self.memory_bytes += request.memory_bytes * u64::from(slots);
        for (name, need) in &request.named {
            let have = self.named.entry(name.clone()).or_default();
            *have = have.saturating_add(need.saturating_mul(slots.into()));
        }
    }
}

/// A number of bytes as people write it: `512 B`, `1.5 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

fn write_parts(
    f: &mut fmt::Formatter<'_>,
    cpus: u32,
    memory_bytes: u64,
    named: &BTreeMap<String, Amount>,
) -> fmt::Result {
    write!(f, "{cpus} cpu{}", if cpus == 1 { "" } else { "s" })?;
    if memory_bytes > 0 {
        write!(f, ", {}", format_bytes(memory_bytes))?;
    }
    said_once(named).try_for_each(|(name, amount)| write!(f, ", {amount} {name}"))
}

/// Named resources as people are told of them: what is said by type is not said again without.
pub fn said_once(named: &BTreeMap<String, Amount>) -> impl Iterator<Item = (&str, Amount)> {
    let typed = |base: &str| {
        let of_it = named.iter().filter(|(name, _)| of_type(name, base));
        of_it.fold(Amount::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
    };
    named
        .iter()
        .filter(move |(name, amount)| typed(name) == Amount::ZERO || typed(name) != **amount)
        .map(|(name, &amount)| (name.as_str(), amount))
}

/// Requests of which one is enough, as people are told of them.
pub fn either<'a>(requests: impl IntoIterator<Item = &'a Request>) -> String {
    let requests = requests.into_iter().map(Request::to_string);
    requests.collect::<Vec<_>>().join("; or ")
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.cpus, self.memory_bytes, &self.named)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.cpus, self.memory_bytes, &self.named)?;
        match self.sharing {
            Sharing::Anybody => Ok(()),
            Sharing::OwnJob => f.write_str(", on workers that no other job uses"),
            Sharing::Nobody => f.write_str(", and a worker for itself"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(count: u64) -> BTreeMap<String, Amount> {
        BTreeMap::from([("gpu".to_owned(), count.into())])
    }

    fn asking(parts: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        parts
            .iter()
            .for_each(|(name, amount)| request.add(name, amount.parse().unwrap()));
        request
    }

    #[test]
    fn the_scarcest_resource_decides_the_slots() {
        let mut node = Resources {
            cpus: 8,
            memory_bytes: 10 << 30,
            named: named(3),
        };
        let request = Request {
            cpus: 2,
            memory_bytes: 3 << 30,
            ..Request::default()
        };
        assert_eq!(node.slots(&request), 3);
        assert_eq!(
            node.slots(&Request {
                named: named(2),
                ..Request::default()
            }),
            1
        );
        assert_eq!(
            node.slots(&Request {
                named: [("fpga".to_owned(), Amount::ONE)].into(),
                ..Request::default()
            }),
            0
        );
        let whole = node.clone();
        node.take(&request, 3);
        assert_eq!((node.cpus, node.slots(&request)), (2, 0));
        node.give(&request, 3);
        assert_eq!(node, whole);
    }

    #[test]
    fn a_part_of_a_gpu_lies_on_one_and_a_part_of_a_licence_anywhere() {
        let mut node = Resources {
            cpus: 16,
            named: named(2),
            ..Resources::default()
        };
        node.add("licence", Amount::whole(2));
        assert_eq!(node.slots(&asking(&[("gpu", "0.6")])), 2);
        assert_eq!(node.slots(&asking(&[("licence", "0.6")])), 3);
        assert_eq!(node.slots(&asking(&[("gpu", "0.25")])), 8);
        node.take(&asking(&[("gpu", "0.25")]), 3);
        assert_eq!(
            (
                node.slots(&asking(&[("gpu", "1")])),
                node.slots(&asking(&[("gpu", "0.25")]))
            ),
            (1, 5)
        );
    }

    #[test]
    fn what_is_lacking_is_named() {
        let mut node = Resources::default();
        node.add("gpu:a100", Amount::ONE);
        let mut request = asking(&[("gpu:a100", "2"), ("disk", "0.5")]);
        request.memory_bytes = 1;
        let lacking: Vec<String> = node.lacking(&request).into_iter().collect();
        assert_eq!(lacking, ["disk", "gpu", "gpu:a100", "memory"]);
        assert!(node.lacking(&asking(&[("gpu", "1")])).is_empty());
        let generic = asking(&[("gpu", "1")]);
        assert!(generic.asks_for("gpu:a100") && !generic.asks_for("memory") && request.asks_for("memory"));
    }

    #[test]
    fn gpus_of_a_type_are_counted_among_all() {
        let gpu = |kind: Option<&str>| Gpu {
            vendor: GpuVendor::Nvidia,
            id: "0".to_owned(),
            kind: kind.map(str::to_owned),
        };
        let mut node = Resources {
            cpus: 8,
            named: named(9),
            ..Resources::default()
        };
        node.set_gpus(&[gpu(Some("a100")), gpu(Some("a100")), gpu(Some("v100"))]);
        assert_eq!(node.to_string(), "8 cpus, 2 gpu:a100, 1 gpu:v100");
        assert_eq!(node.slots(&asking(&[("gpu", "1")])), 3);
        let typed = asking(&[("gpu:a100", "1")]);
        assert_eq!(
            (node.slots(&typed), typed.to_string().as_str()),
            (2, "1 cpu, 1 gpu:a100")
        );
        node.take(&asking(&[("gpu", "1")]), 2);
        assert_eq!(
            node.slots(&typed),
            1,
            "some of those that are left may be of the type"
        );
    }

    #[test]
    fn whole_gpus_or_part_of_one_can_be_asked_for() {
        for parts in [
            [("gpu", "2")],
            [("gpu", "0.5")],
            [("gpu:a100", "0.5")],
            [("disk", "1.5")],
        ] {
            assert_eq!(asking(&parts).undividable(), None, "{parts:?}");
        }
        for parts in [[("gpu", "1.5"), ("x", "1")], [("gpu:a", "0.5"), ("gpu:b", "0.5")]] {
            assert!(asking(&parts).undividable().is_some(), "{parts:?}");
        }
        let mut wrong = asking(&[("gpu:a100", "2")]);
        wrong.named.insert(GPU.to_owned(), Amount::ONE);
        assert!(wrong.undividable().is_some());
    }

    #[test]
    fn who_shares_with_nobody_has_one_slot_of_a_worker() {
        let node = Resources {
            cpus: 8,
            ..Resources::default()
        };
        let request = Request {
            sharing: Sharing::Nobody,
            ..Request::default()
        };
        assert_eq!(node.slots(&request), 1);
    }

    #[test]
    #[should_panic(expected = "SLOT")]
    fn more_than_there_is_cannot_be_taken() {
        Resources {
            cpus: 1,
            ..Resources::default()
        }
        .take(&Request::default(), 2);
    }

    #[test]
    fn bytes_read_like_people_write_them() {
        assert_eq!(
            (format_bytes(512), format_bytes(3 << 29)),
            ("512 B".to_owned(), "1.5 GiB".to_owned())
        );
    }
}
