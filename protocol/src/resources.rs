//! What a worker offers and what a task asks for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Cpus, memory and named resources: of a whole worker, or what of it is free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Counts of anything else, by name: licences, scratch disks, gpus.
    pub named: BTreeMap<String, u64>,
}

/// What each task of a job needs. Two requests are the same slot size if they are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Processors, at least 1.
    pub cpus: u32,
    /// Bytes of memory; 0 asks for none in particular.
    pub memory_bytes: u64,
    /// Counts of named resources.
    pub named: BTreeMap<String, u64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory_bytes: 0,
            named: BTreeMap::new(),
        }
    }
}

impl Resources {
    /// How many slots of `request` fit, at most `u32::MAX`.
    pub fn slots(&self, request: &Request) -> u32 {
        let per = |have: u64, need: u64| have.checked_div(need).unwrap_or(u64::MAX);
        let mut slots = u64::from(self.cpus / request.cpus.max(1));
        slots = slots.min(per(self.memory_bytes, request.memory_bytes));
        for (name, &need) in &request.named {
            slots = slots.min(per(self.named.get(name).copied().unwrap_or(0), need));
        }
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// Takes `slots` slots of `request` away.
    ///
    /// # Panics
    /// If they are not there (invariant SLOT).
    pub fn take(&mut self, request: &Request, slots: u32) {
        assert!(
            self.slots(request) >= slots,
            "SLOT: {slots} slots of {request} taken from {self}"
        );
        self.cpus -= request.cpus.max(1) * slots;
        self.memory_bytes -= request.memory_bytes * u64::from(slots);
        for (name, need) in &request.named {
            if let Some(have) = self.named.get_mut(name) {
                *have -= need * u64::from(slots);
            }
        }
    }

    /// Gives `slots` slots of `request` back.
    pub fn give(&mut self, request: &Request, slots: u32) {
        self.cpus += request.cpus.max(1) * slots;
        self.memory_bytes += request.memory_bytes * u64::from(slots);
        for (name, need) in &request.named {
            *self.named.entry(name.clone()).or_default() += need * u64::from(slots);
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
    named: &BTreeMap<String, u64>,
) -> fmt::Result {
    write!(f, "{cpus} cpu{}", if cpus == 1 { "" } else { "s" })?;
    if memory_bytes > 0 {
        write!(f, ", {}", format_bytes(memory_bytes))?;
    }
    named
        .iter()
        .try_for_each(|(name, count)| write!(f, ", {count} {name}"))
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.cpus, self.memory_bytes, &self.named)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.cpus, self.memory_bytes, &self.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(count: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("gpu".to_owned(), count)])
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
            named: BTreeMap::new(),
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
                named: [("fpga".to_owned(), 1)].into(),
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
