//! On which workers a job may run, by their names.
//!
//! Names, not ids: a worker that comes back, or joins later, is meant as well. What a worker has is no matter here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Bytes of all names in one choice.
pub const CHOICE_BYTES_MAX: usize = 64 << 10;

/// The workers that a job may run on; any unless something is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerChoice {
    /// Only these; any, if none is named.
    pub only: BTreeSet<String>,
    /// A gang has ranks on each of these, and on others beside if it needs more.
    pub all_of: BTreeSet<String>,
    /// None of these.
    pub never: BTreeSet<String>,
}

impl WorkerChoice {
    /// Whether any worker will do.
    pub fn is_free(&self) -> bool {
        self.names().next().is_none()
    }

    /// Whether a worker of that name will do.
    pub fn admits(&self, worker: &str) -> bool {
        (self.only.is_empty() || self.only.contains(worker)) && !self.never.contains(worker)
    }

    /// Workers that are asked for by name, whether one of them is enough or not.
    pub fn wanted(&self) -> impl Iterator<Item = &String> {
        self.only.union(&self.all_of)
    }

    /// Every name that is said.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.wanted().chain(&self.never)
    }

    /// A worker that is demanded and ruled out.
    pub(crate) fn contradiction(&self) -> Option<&String> {
        self.all_of.iter().find(|worker| !self.admits(worker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_named_workers_will_do_and_never_the_excluded() {
        let any = WorkerChoice::default();
        assert!(any.is_free() && any.admits("n1"));
        let choice = WorkerChoice {
            only: names(&["n1", "n2"]),
            never: names(&["n2", "n3"]),
            ..WorkerChoice::default()
        };
        let admitted = ["n1", "n2", "n3", "n4"].map(|name| choice.admits(name));
        assert_eq!((admitted, choice.is_free()), ([true, false, false, false], false));
        let others = WorkerChoice {
            never: names(&["n3"]),
            ..WorkerChoice::default()
        };
        assert!(others.admits("n4") && !others.admits("n3"));
    }
}
